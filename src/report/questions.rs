//! The report's questions, each with the tables and plots that answer it and the caveats that belong to them.

/// A question and what answers it; left out where there is no table for it.
pub(super) struct Section {
    pub question: &'static str,
    pub figures: &'static [&'static str],
    pub tables: &'static [&'static str],
    /// What to know when reading them.
    pub caveats: &'static [Caveat],
}

/// The table that sentences are about, or [`ALWAYS`], and the sentences.
pub(super) type Caveat = (&'static str, &'static str);

/// Not about one table.
pub(super) const ALWAYS: &str = "";

/// The section whose question depends on what the sweep varied.
pub(super) const TRAINING: &str = "What do longer training and other seeds change?";

/// All of them, in the order of the report.
pub(super) const SECTIONS: [Section; 23] = [
    Section {
        question: "Does R² rise with the model while behaviour gets worse?",
        figures: &["curves", "gap"],
        tables: &["delta-by-k"],
        caveats: &[(
            ALWAYS,
            "Differences are the later model minus the earlier at equal depth, k and tokens. Equal tokens are not equal tokens per latent: an SAE with more latents is trained less. \
             CE_rec is also normalised by each model's own loss. ΔR² and ΔCE_rec have different units: compare their signs, or, in the section on equal R² below, one of them where the \
             other is equal. The quotient ΔR²/ΔCE_rec is there because the reference texts have it.",
        )],
    },
    Section {
        question: "Do the behaviour metrics agree?",
        figures: &["paths-by-metric"],
        tables: &["behaviour-signs", "behaviours"],
        caveats: &[(
            ALWAYS,
            "Every metric is turned so that a positive difference means that the later model's SAE is better. The metrics disagree because they divide by different losses, which stand \
             under \"What was measured\": CE_rec divides by the model's own loss, the loss score under zero ablation by what it costs to put 0 in place of the activation, the loss score \
             under mean ablation by what the mean in its place costs, and ΔL and KL by nothing. So the loss scores are lenient with a model that loses much when the layer is taken away. \
             A claim about behaviour is safe only if all metrics that a reader may have in mind share its sign.",
        )],
    },
    Section {
        question: "How do the models differ at equal R²?",
        figures: &[],
        tables: &["equal-r2"],
        caveats: &[(
            ALWAYS,
            "The later model's SAE at each k is compared with the earlier model's path through (R², behaviour), which is linear between neighbouring k. Where the R² lies beyond the ends \
             of that path, there is no number. This compares in one unit, which ΔR² − ΔCE_rec does not: where one curve leads from R² to behaviour in both models, that difference \
             measures the slope of the curve and how far along it each model has come.",
        )],
    },
    Section {
        question: "Which architecture or objective keeps more at equal L0?",
        figures: &["frontier", "contrasts"],
        tables: &["architectures"],
        caveats: &[(
            ALWAYS,
            "Each row is an SAE minus the SAEs that it is set against, at one model, depth and budget; a lower KL is better. At equal L0, the others' path is read at the row's \
             measured L0, linear in ln L0 between neighbouring SAEs; where the L0 lies beyond the path's ends, there is no number. At equal k the measured L0 of the two may differ. Both \
             were trained by the same recipe and learning rate, which may suit one of them better.",
        )],
    },
    Section {
        question: "Does a cheap number name the better SAE?",
        figures: &[],
        tables: &["choices"],
        caveats: &[(
            ALWAYS,
            "`comparisons` counts the pairs of SAEs of two architectures or objectives at one model, depth, budget and equal L0. Of them a behaviour metric decides those in which \
             the interval of its difference excludes 0, and only these are counted further: a proxy names the same SAE as the better one, or the opposite one, or is undecided because its \
             own interval contains 0. This counts signs, whatever the size of a difference; the summary, of R² and CE_rec at the largest budget, counts differences of \
             less than 0.01 apart. Within a model and depth the loss scores and ΔL order SAEs as the \
             pooled CE_rec does. Pairs share SAEs and text, so the counts have no interval: they say what happened here.",
        )],
    },
    Section {
        question: "Hypothesis tests",
        figures: &[],
        tables: &["hypotheses"],
        caveats: &[(
            ALWAYS,
            "The rules were fixed before the data were seen; each row shows the number that its rule looks at. Where there are too few seeds or budgets the verdict is `undecided`, \
             whatever the number. Estimates of mutual information are from one seed of the critic, and H3 does not know how far another seed would move them.",
        )],
    },
    Section {
        question: "What was measured",
        figures: &[],
        tables: &["setup", "failed"],
        caveats: &[(
            ALWAYS,
            "`tokens`, here and below, is the number of training tokens. Losses are in nats per token: `ce_orig` is the model's own, `ce_zero` that with 0 in place of the activation, and \
             `ce_mean` that with the mean of the evaluation set in its place.",
        )],
    },
    Section {
        question: "How good is each SAE?",
        figures: &[],
        tables: &["headline", "three-model", "monotone"],
        caveats: &[
            (
                "headline",
                "`headline` shows the smallest k, as the reference texts begin. Don't rely on one row; check that signs hold across k.",
            ),
            (
                ALWAYS,
                "`CE_rec` is here the mean over sequences of 2 − L_recon/L_orig, as the reference texts have it. Sequences that the model predicts badly score higher by it, and easy \
                 sequences dominate the mean; pooled over tokens neither happens.",
            ),
        ],
    },
    Section {
        question: "What do SAEs have that their controls don't?",
        figures: &[],
        tables: &["what-controls-have", "against-controls"],
        caveats: &[(
            ALWAYS,
            "A control has the place, setting, seed and tokens of its SAE. `random-model` is an SAE of the model with every matrix drawn anew, with the same mean and standard deviation; \
             its scores are of that model, which has another loss of its own, so that a CE_rec near 1 there means that there was little to lose. `gaussian-inputs` is such a model that moreover reads a random vector for every occurrence of a token, so that no latent can be of a token. `step-0` is likewise of the model before its training. `frozen-decoder` is an SAE whose decoder \
             rows stay as they were drawn. `permuted-decoder` is the SAE itself with the rows of its decoder permuted; its L0 and its share of alive latents come from the encoder and are \
             the same by construction. The columns `SAEs` and `control's` are medians over models, depths, settings and budgets. A score that a control reaches as well was not learned; a \
             score that no control reaches does not show that latents can be understood.",
        )],
    },
    Section {
        question: "Can latents be read, and do R² or behaviour say so?",
        figures: &[],
        tables: &["legibility"],
        caveats: &[(
            ALWAYS,
            "Scores of a sample of the latents that fire, on the held-out text, by the definitions of `assay features`. Each is the mean over all SAEs, with the t interval over seeds. \
             `detection_X` is the AUROC with which an explanation made by X, without a language model, tells windows in which its latent fires from others; `another latent's` is the same with the \
             explanation of a latent drawn at random. `SAEs − control` is paired by condition and seed. ICC is the share of a score's variance, among SAEs of one model, depth and k, that lies between \
             kinds of SAEs (class, objective, budget) and not between seeds: near 0 or below, the score does not tell these SAEs apart. Its p is of the F test, adjusted for the number of scores. \
             `beyond random-model` asks the same of what is left when the score of the same kind of SAE on a model without training is taken off. Kinds of one k may still differ in the L0 that is measured, \
             as BatchTopK's does, and a score may tell them apart by that. r is Pearson's over those kinds within one model, depth and k, with the logarithm of the measured L0 held fixed where \
             it differs, and with Fisher's interval: kinds are few, and intervals wide. SAEs whose setting fixes no k are in none of these but the means.",
        )],
    },
    Section {
        question: TRAINING,
        figures: &["gap-by-budget", "loss"],
        tables: &["trend", "phase2", "equal-training", "budgets", "seeds"],
        caveats: &[
            (
                "budgets",
                "Each budget is a training run of its own. No asymptote is fitted: two or three budgets could not contradict one.",
            ),
            ("phase2", "`phase2` has the columns of the reference text, with CE_rec per sequence."),
            (
                "seeds",
                "Intervals cover seeds and sequences together. In `seeds` two others stand beside them: the t interval covers seeds alone, and the two-level bootstrap is too narrow for \
                 few seeds.",
            ),
        ],
    },
    Section {
        question: "What could have been found?",
        figures: &[],
        tables: &["sequences-needed", "power", "influence", "overlap", "spread"],
        caveats: &[
            (
                "sequences-needed",
                "`sequences-needed` has a row for each comparison of two models at equal k and of two architectures or objectives at equal L0, or at equal k where the L0 of one lies outside of what was measured of the other. A true difference as large as the \
                 *smallest difference found* would come out as different from 0 in four of five samples; a true difference of 0 would be shown to lie within the *smallest margin* in as \
                 many. *Sequences needed* is the number of evaluation sequences with which that margin is ±0.01, as far as sequences decide it. More sequences don't bring it below the \
                 *smallest margin of the seeds alone*; for that it takes more training seeds.",
            ),
            (
                "power",
                "`power` divides the uncertainty of ΔCE_rec per sequence, a plain mean, into what seeds, sequences and both together contribute.",
            ),
            (
                "influence",
                "A sequence's influence is what leaving it out changes. With many positive and few negative contributions the top tenth may carry more than all of the difference.",
            ),
            (
                "overlap",
                "That two intervals overlap is a weak test; the paired difference is the sharper one. d is over evaluation sequences with the pooled unpaired SD, which is large because \
                 sequences differ in difficulty; d_z is paired by sequence.",
            ),
            ("spread", "`spread` has the standard deviation of CE_rec over sequences and over seeds."),
        ],
    },
    Section {
        question: "How well do R² and behaviour go together?",
        figures: &[],
        tables: &["correlations"],
        caveats: &[(
            ALWAYS,
            "This is the reference texts' table, with CE_rec per sequence. Rows are the runs at one depth. Intervals resample blocks of one k with all of its models and seeds, and are \
             left out below 12 cells (model, depth, k). Within fixed k the mean of each k is subtracted; with two models little more than a sign is left.",
        )],
    },
    Section {
        question: "Which proxy predicts behaviour?",
        figures: &["leaderboard"],
        tables: &["leaderboard", "leaderboard-by-behaviour", "beyond-swd", "leaderboard-reference"],
        caveats: &[(
            ALWAYS,
            "Pooled correlations mostly say that more active latents are better, which every proxy captures; within fixed depth and k is the harder test. There, with one model, SAEs \
             differ in nothing but their seed. Distortions are turned as −x, because R² is linear in its squared error too. `leaderboard-reference` has 1/x, a curve for which Pearson's \
             correlation penalises SWD. Intervals resample blocks of one depth and k and are left out below 12 cells. The swap test's p-values are not adjusted here for the number of \
             proxies; in the hypothesis tests they are. The test counts what sets two models apart throughout in a proxy's favour. Ranks within fixed k are left out below three models, \
             where they are only signs.",
        )],
    },
    Section {
        question: "Do first and second order predict what happens?",
        figures: &[],
        tables: &["fisher"],
        caveats: &[(
            ALWAYS,
            "gᵀδ and the Fisher quadratic form are local approximations. Errors of SAEs are not small, so the predictions may be far off; the table shows how far. FWD takes the error of \
             one token at a time, the predicted KL (which contains the ½ of the second order already) those of a whole sequence together.",
        )],
    },
    Section {
        question: "Rate–distortion",
        figures: &["rate-distortion"],
        tables: &["rate-distortion"],
        caveats: &[(
            ALWAYS,
            "Bits are a proxy: indices are entropy-coded one by one, and values have 8 bits. They compare codes of one kind and are not mutual information.",
        )],
    },
    Section {
        question: "Is it the normalisation by variance?",
        figures: &[],
        tables: &["sst-inflation", "three-model-proxies"],
        caveats: &[(ALWAYS, "These rows are of the smallest k. R² divides by SST; cosine and relative error do not.")],
    },
    Section {
        question: "How much of R² is a few directions or a few tokens?",
        figures: &["few-tokens", "controls", "errors-by-norm"],
        tables: &["controls", "subsets"],
        caveats: &[
            (
                "controls",
                "Directions are the top eigenvectors of the covariance on the evaluation set, projected out of errors and activations alike. Eight controls at several depths and k are many \
                 looks: that a sign changes in one of them shows nothing.",
            ),
            (
                ALWAYS,
                "Outliers are tokens whose ‖a‖ exceeds 10 times the median. R² on each subset of tokens is centred on the mean of that subset.",
            ),
        ],
    },
    Section {
        question: "What k does it take?",
        figures: &["k-star"],
        tables: &["k-star", "k-star-reference"],
        caveats: &[(
            ALWAYS,
            "k* is where the pooled CE_rec first reaches the target, linear in ln k between the grid's k. `k-star-reference` is linear in k, of CE_rec per sequence, as the reference texts \
             have it; where the curve is straight in ln k it is too high (by 1 to 10 % for the same metric in a simulation). `≤` marks a target that the smallest k meets, and `never` one \
             that no k reaches. A ratio of two models is given where both lie between grid points, and its interval where they do so in every replicate.",
        )],
    },
    Section {
        question: "How many latents are alive?",
        figures: &[],
        tables: &["alive"],
        caveats: &[(
            ALWAYS,
            "A latent is alive if it fires on the evaluation set. Low shares suggest that an SAE is undertrained at its budget, which then confounds every comparison above.",
        )],
    },
    Section {
        question: "How many directions hold the variance?",
        figures: &["geometry"],
        tables: &["geometry", "information"],
        caveats: &[
            (
                "geometry",
                "A raw participation ratio near 1 means that one direction holds nearly all variance: there R² mostly says how well that direction is reconstructed.",
            ),
            (
                "information",
                "Mutual information is between activations and the principal components of the logits, by critics that were trained on one part of the text and read off the rest. InfoNCE \
                 can't exceed its cap. SMILE is not a bound, and above ln(held-out pairs) it is too high to be a measurement. Both fall short with few tokens. At the last layer the logits \
                 are a function of the activation, so that the true value is infinite. The inferred dimensionality can hardly exceed the number of principal components asked for.",
            ),
        ],
    },
    Section {
        question: "Is there more of a loop than in clouds without one?",
        figures: &["loops"],
        tables: &["loops", "loops-by-cloud"],
        caveats: &[(
            ALWAYS,
            "Each cloud's persistent homology (Vietoris-Rips, Z/2, of a sample) stands beside that of draws of null clouds that went through the same steps. pi is the largest death/birth of \
             a bar of dimension 1. The p of one metric is the largest over nulls and seeds, that of all metrics together is by Westfall and Young's min-P, and q is by Benjamini and Hochberg \
             over all clouds of the sweep. Clouds of one model share text and shapes, so they are not independent. With B draws no p is below 1/(B + 1): of m clouds a single one can \
             stand only where m/(B + 1) ≤ α. `ratio_author` is an earlier rule, kept for comparison; ratios of different metrics or numbers of points can't be compared. Rows of a decoder \
             or columns of an encoder are those of latents that fire on the evaluation set. Activations are one token of each evaluation sequence, never its first, minus their mean.\n\n\
             **Not claimed:**\n\n\
             - that a cloud that stands has a loop: a sphere, a Swiss roll in space, gaps between clusters and sparse codes can have more of one than these nulls as well;\n\
             - how many loops there are, or that they are the same in two clouds;\n\
             - that a loop stands for a cyclic concept, or that the model uses it: labels with an order (`assay circles`) or turning the plane would have to show that;\n\
             - that a cloud that does not stand has no loop: a short one, or one under noise in many dimensions, is not seen with so few points;\n\
             - that loops of decoder rows are those of activations: rows say which directions there are, not where tokens lie;\n\
             - that a loop of activations is of meaning: position, repeated tokens, few distinct contexts and a few dimensions of huge activations make shapes of their own.",
        )],
    },
    Section {
        question: "Everything",
        figures: &[],
        tables: &["grid", "everything"],
        caveats: &[(ALWAYS, "Intervals in these tables are of single runs, over sequences.")],
    },
];

/// Tables that are too long or wide to be read in a page: it links to them.
pub(super) const LINKED: [&str; 13] = [
    "everything",
    "grid",
    "overlap",
    "spread",
    "power",
    "leaderboard-by-behaviour",
    "leaderboard-reference",
    "k-star-reference",
    "influence",
    "subsets",
    "fisher",
    "rate-distortion",
    "seeds",
];
