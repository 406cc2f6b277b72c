//! The report's questions, each with the tables and plots that answer it and the caveats that belong to them.

use assay_probes::stats::hypotheses::HYPOTHESES;

use super::document::{Block, Drawn, Part, Shown};
use super::summary::undecidable;
use super::tables::Named;
use crate::analysis::{Analysis, CloudLoops, cloud_loops, gaps, kinds_of_clouds};
use crate::markdown::{Table, counted};

/// A question and what answers it; left out where there is no table for it.
struct Section {
    question: &'static str,
    figures: &'static [&'static str],
    tables: &'static [&'static str],
    caveats: &'static str,
}

const SECTIONS: [Section; 23] = [
    Section {
        question: "Does R² rise with the model while behaviour gets worse?",
        figures: &["curves", "gap"],
        tables: &["delta-by-k"],
        caveats: "Differences are later model minus earlier at equal depth, k and tokens. The budget is equal in tokens, not in tokens per \
                  latent: the larger model's SAE has more latents and is trained less. Models differ in their own loss too, by which CE_rec is \
                  normalised. ΔR² and ΔCE_rec have different units: compare their signs, or look at either at equal values of the other, \
                  below. ΔR²/ΔCE_rec is the reference texts'.",
    },
    Section {
        question: "Do the behaviour metrics agree?",
        figures: &["paths-by-metric"],
        tables: &["behaviour-signs", "behaviours"],
        caveats: "Every metric is turned so that a positive difference means that the later model's SAE is better. They disagree because they divide \
                  by different losses, which stand under \"What was measured\": CE_rec by the model's own, the loss score under zero ablation by how \
                  bad it is to put 0 in place of the activation, that under mean ablation by how bad the mean is there, ΔL and KL by nothing. A model \
                  that suffers much from losing the layer is forgiven more. A claim about behaviour holds if the metrics that its reader may \
                  mean share its sign.",
    },
    Section {
        question: "How do the models differ at equal R²?",
        figures: &[],
        tables: &["equal-r2"],
        caveats: "The later model's SAE at each k against the earlier model's path through (R², behaviour), linear between neighbouring k; rows whose R² lies beyond the path's \
                  ends are left out. This compares in one unit, which ΔR² − ΔCE_rec does not: where one curve leads from R² to behaviour in \
                  both models, that difference measures the slope of the curve and how far along it each model has come.",
    },
    Section {
        question: "Which architecture or objective keeps more at equal L0?",
        figures: &["frontier", "contrasts"],
        tables: &["architectures"],
        caveats: "The SAE of the row minus those of the architecture or objective that it is set against, at one model, depth and budget; KL is better when lower. At equal L0 the other's path is read at the row's measured L0, linear in \
                  ln L0 between neighbouring SAEs; where the L0 lies beyond the path's ends there is no number. At equal k the measured L0 of the two may differ. The recipe and its \
                  learning rate are the same for both, which may suit one of them better.",
    },
    Section {
        question: "Does a cheap number name the better SAE?",
        figures: &[],
        tables: &["choices"],
        caveats: "Pairs of SAEs of two architectures or objectives at one model, depth, budget and equal L0, of which the interval of the difference in behaviour excludes 0. A \
                  proxy names the same SAE, the opposite one, or none, its own interval containing 0. Within a model and depth the loss scores and ΔL order SAEs as the pooled CE_rec does. \
                  Pairs share SAEs and text, so the counts have no interval: they say what happened here.",
    },
    Section {
        question: "Hypothesis tests",
        figures: &[],
        tables: &["hypotheses"],
        caveats: "Decision rules are fixed in advance; each row shows the number that its rule looks at. Where seeds or budgets are too few the verdict \
                  is `undecided`, whatever the number. An estimate of mutual information comes from one seed of its critic, whose noise H3 does not \
                  know.",
    },
    Section {
        question: "What was measured",
        figures: &[],
        tables: &["setup", "failed"],
        caveats: "Losses are in nats per token: of the model as it is, and with 0 or the evaluation set's mean in place of the activation.",
    },
    Section {
        question: "How good is each SAE?",
        figures: &[],
        tables: &["headline", "three-model", "monotone"],
        caveats: "`headline` has the smallest k, as the reference texts begin; don't rely on one row, check signs across k. `CE_rec` is 2 − L_recon/L_orig per sequence, averaged, as \
                  they have it: 1 is perfect, 0 a doubled loss. Badly modelled sequences score higher, and easy ones lead its mean; pooled over tokens none does.",
    },
    Section {
        question: "What do SAEs have that their controls don't?",
        figures: &[],
        tables: &["what-controls-have", "against-controls"],
        caveats: "A control has the place, setting, seed and tokens of its SAE. `random-model`: an SAE of the model with every matrix drawn anew, of the same mean and standard deviation; \
                  its scores are of that model, whose own loss is another, so that a CE_rec near 1 there says that little was to be lost. `step-0`: likewise of the model before its training. `frozen-decoder`: an SAE whose decoder's \
                  rows stay as they were drawn. `permuted-decoder`: the SAE itself with the rows of its decoder permuted; L0 and the share of latents alive are of the encoder \
                  and the same by construction. `SAEs` and `control's` are medians over models, depths, settings and budgets. A score that a control reaches was not learned; one \
                  that it falls short of need not mean that latents can be understood.",
    },
    Section {
        question: "Can latents be read, and do R² or behaviour say so?",
        figures: &[],
        tables: &["legibility"],
        caveats: "Scores of a sample of the latents that fire, on the held-out text, by the definitions of `assay features`; each is the mean over all SAEs, with the t interval over seeds. \
                  `detection_X` is the AUROC with which an explanation made by X, without a language model, tells windows in which its latent fires from others; `another latent's` is the same with the \
                  explanation of a latent drawn at random. `SAEs − control` is paired by condition and seed. ICC is the share of a score's variance, among SAEs of one model, depth and k, that lies between \
                  kinds of SAEs (class, objective, budget) and not between seeds: near 0 or below, the score does not tell these SAEs apart, and its p is of the F test, adjusted for the number of scores. \
                  `beyond random-model` asks the same of what is left when the score of the same kind of SAE on a model without training is taken off. r is Pearson's over those kinds within one model, \
                  depth and k, with Fisher's interval: kinds are few, and intervals wide. SAEs whose setting fixes no k are in none of these but the means.",
    },
    Section {
        question: "What do longer training and other seeds change?",
        figures: &["gap-by-budget", "loss"],
        tables: &["trend", "phase2", "equal-training", "budgets", "seeds"],
        caveats: "Each budget is a training run of its own. `phase2` has the columns of the reference text and CE_rec per sequence. Intervals cover seeds and sequences \
                  together; the t interval covers seeds alone and the two-level bootstrap is too narrow for few seeds. No asymptote is fitted: \
                  two or three budgets can't contradict one.",
    },
    Section {
        question: "What could have been found?",
        figures: &[],
        tables: &["power", "influence", "overlap", "spread"],
        caveats: "Overlapping intervals of two values are a weak test; the paired difference is the sharper one. d is over evaluation \
                  sequences with the pooled unpaired SD, which is large because sequences differ in difficulty; d_z is paired by sequence. Components are of ΔCE_rec per sequence, a plain mean. A sequence's influence is what leaving it out changes; with many \
                  positive and few negative contributions the top tenth may carry more than all of the difference.",
    },
    Section {
        question: "How well do R² and behaviour go together?",
        figures: &[],
        tables: &["correlations"],
        caveats: "The reference texts' table, with CE_rec per sequence. Rows are the runs at one depth; intervals resample blocks of one k with all of its models \
                  and seeds, and are left out below 12 cells (model, depth, k). Within fixed k the mean of each k is subtracted: with two models this \
                  is mostly a sign.",
    },
    Section {
        question: "Which proxy predicts behaviour?",
        figures: &["leaderboard"],
        tables: &["leaderboard", "leaderboard-by-behaviour", "beyond-swd", "leaderboard-reference"],
        caveats: "Pooled correlations mostly say that more active latents are better, which every proxy captures; within fixed depth and k is \
                  the harder test. Distortions are turned as −x, since R² is straight in its squared error, too; `leaderboard-reference` has 1/x, by which \
                  Pearson's correlation punishes SWD for a curve of the reciprocal's making. Intervals resample blocks of one depth and k and are left out below 12 \
                  cells. With one model what varies within fixed depth and k is the seed alone. The swap test's p-values are not adjusted here for the number of proxies; in the \
                  hypothesis tests they are. It takes what two models prefer throughout for a merit of the proxy. Ranks within fixed k are left out below three models, where they are only signs.",
    },
    Section {
        question: "Do first and second order predict what happens?",
        figures: &[],
        tables: &["fisher"],
        caveats: "gᵀδ and the Fisher quadratic form are local; errors of SAEs are not small, so predictions may be far off, and by how much is \
                  the point. FWD is one token's error at a time, the predicted KL (which contains the ½ of the second order already) all of a sequence's together.",
    },
    Section {
        question: "Rate–distortion",
        figures: &["rate-distortion"],
        tables: &["rate-distortion"],
        caveats: "Bits are a proxy: indices entropy-coded one by one and 8 bits per value. They compare codes of one kind, and are no mutual \
                  information.",
    },
    Section {
        question: "Is it the normalisation by variance?",
        figures: &[],
        tables: &["sst-inflation", "three-model-proxies"],
        caveats: "The smallest k. R² divides by SST; cosine and relative error don't.",
    },
    Section {
        question: "How much of R² is a few directions or a few tokens?",
        figures: &["few-tokens", "controls", "errors-by-norm"],
        tables: &["controls", "subsets"],
        caveats: "Directions are the top eigenvectors of the covariance on the evaluation set, projected out of errors and activations alike. \
                  Outliers are tokens whose ‖a‖ exceeds 10 × the median; each subset's R² is centred on its own mean. Eight controls at several depths and k are many \
                  looks: one sign among them that changes shows nothing.",
    },
    Section {
        question: "What k does it take?",
        figures: &["k-star"],
        tables: &["k-star", "k-star-reference"],
        caveats: "First crossing, straight in ln k between the grid's k, of the pooled CE_rec; `k-star-reference` is straight in k, of CE_rec per sequence, as the \
                  reference texts have it, and higher where the curve is straight in ln k (by 1 to 10 % for the same metric in a simulation). `≤` marks a target met at the smallest k, `never` one that no k \
                  reaches; a ratio needs both models between grid points, its interval in every replicate.",
    },
    Section {
        question: "How many latents are alive?",
        figures: &[],
        tables: &["alive"],
        caveats: "On the evaluation set. Low shares suggest that the SAE is undertrained at this budget, which confounds every comparison of models \
                  above.",
    },
    Section {
        question: "How many directions hold the variance?",
        figures: &["geometry"],
        tables: &["geometry", "information"],
        caveats: "A raw participation ratio near 1 means that one direction holds nearly all variance: there R² mostly says how well that \
                  direction is reconstructed. Mutual information, where it was asked for, is of activations and the logits' principal components, by critics trained \
                  on part of the text and read off the rest. InfoNCE can't exceed its cap; SMILE is no bound at all, and above ln(held-out pairs) it is too high to be a \
                  measurement; both fall short with few tokens. At the last layer the logits follow from the activation: the true value is infinite. The \
                  inferred dimensionality can hardly exceed the number of principal components asked for.",
    },
    Section {
        question: "Is there more of a loop than in clouds without one?",
        figures: &["loops"],
        tables: &["loops", "loops-by-cloud"],
        caveats: "Persistent homology (Vietoris-Rips, Z/2) of a sample of each cloud, beside draws of nulls that go through the same steps. pi is the largest death/birth of a bar of dimension 1. A \
                  p in one metric is the largest over nulls and seeds, that of all metrics together is by Westfall and Young's min-P, and q is by Benjamini and Hochberg over all clouds of the \
                  sweep. Clouds of one model share text and shapes, so that they are not independent. With B draws no p is below 1/(B + 1): of m clouds one alone can stand only \
                  where m/(B + 1) ≤ α. `ratio_author` is an earlier rule, for comparison; ratios of different metrics or numbers of points can't be compared. Rows of a decoder or columns of an encoder are of the latents that fire \
                  on the evaluation set. Activations are one token of each evaluation sequence, never its first, about their mean.\n\n\
                  **Not claimed:**\n\n\
                  - that a cloud that stands has a loop: a sphere, a Swiss roll in space, gaps between clusters and sparse codes can have more of one than these nulls as well;\n\
                  - how many loops there are, or that they are the same in two clouds;\n\
                  - that a loop stands for a cyclic concept, or that the model uses it: labels with an order (`assay circles`) or turning the plane would have to show that;\n\
                  - that a cloud that does not stand has no loop: a short one, or one under noise in many dimensions, is not seen with so few points;\n\
                  - that loops of decoder rows are those of activations: rows say which directions there are, not where tokens lie;\n\
                  - that a loop of activations is of meaning: position, repeated tokens, few distinct contexts and a few dimensions of huge activations make shapes of their own.",
    },
    Section {
        question: "Everything",
        figures: &[],
        tables: &["grid", "everything"],
        caveats: "Intervals in these tables are of single runs, over sequences.",
    },
];

/// Tables that are too long or wide to be read in a page: it links to them.
const LINKED: [&str; 13] = [
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

/// A longer table is shown in part.
pub(super) const ROWS: usize = 20;

/// All sections that have something to show.
pub fn blocks<'a>(analysis: &Analysis<'_>, tables: &'a [Named], figures: &'a [Drawn]) -> Vec<Block<'a>> {
    let mut out = Vec::new();
    for section in &SECTIONS {
        let found: Vec<&Named> =
            section.tables.iter().filter_map(|name| tables.iter().find(|(n, _)| n == name)).collect();
        if found.is_empty() {
            continue;
        }
        out.push(Block::Heading(section.question));
        if section.tables.contains(&"hypotheses") {
            if let Some(text) = undecidable(analysis) {
                out.push(Block::Text(text));
                continue;
            }
            let rules = HYPOTHESES.map(|h| format!("- **{}**: {} *{}*", h.name, h.claim, h.rule));
            out.push(Block::Text(rules.join("\n")));
        }
        out.extend(section.figures.iter().filter_map(|f| figures.iter().find(|d| d.stem == *f)).map(Block::Figure));
        // Links come last and together.
        let mut parts: Vec<Shown<'a>> = found.into_iter().map(|(name, table)| shown(analysis, name, table)).collect();
        parts.sort_by_key(|shown| matches!(shown.part, Part::Link));
        out.extend(parts.into_iter().map(Block::Table));
        if section.tables.contains(&"loops") {
            out.push(Block::Text(loops_found(analysis)));
        }
        if section.tables.contains(&"delta-by-k") {
            out.extend(monte_carlo(analysis).map(Block::Text));
        }
        out.push(Block::Text(section.caveats.to_owned()));
    }
    out
}

/// As much of a table as the report shows: all rows, or those that carry the point, or none.
fn shown<'a>(analysis: &Analysis<'_>, name: &'static str, table: &'a Table) -> Shown<'a> {
    let part = if LINKED.contains(&name) { Part::Link } else { part(analysis, table) };
    Shown { name, table, part }
}

/// Of a long table the rows of all depths together, or else of the anchor depth; if they are still too many, those of them at the largest
/// budget; if still, those against the first class.
fn part(analysis: &Analysis<'_>, table: &Table) -> Part {
    let mut rows: Vec<usize> = (0..table.rows().len()).collect();
    if rows.len() <= ROWS {
        return Part::Whole;
    }
    let together = analysis.names.scope(None);
    let anchors: Vec<String> = analysis.anchor_sites().iter().map(|site| analysis.names.site(site)).collect();
    let budget = super::tables::budget(analysis.largest_budget());
    let classes = analysis.grid.classes();
    let first = classes.first().map(|class| analysis.names.class(class));
    let filters = [
        ("depth", vec![together.clone()]),
        ("depth", anchors),
        ("tokens", vec![budget.clone()]),
        ("train tokens", vec![budget]),
        ("against", first.into_iter().collect()),
    ];
    let mut what: Vec<String> = Vec::new();
    for (name, wanted) in filters {
        let Some(column) = table.head().iter().position(|head| head == name) else { continue };
        let kept: Vec<usize> =
            rows.iter().copied().filter(|&row| wanted.contains(&table.rows()[row][column])).collect();
        if rows.len() > ROWS && !kept.is_empty() && kept.len() < rows.len() {
            rows = kept;
            what.push(match name {
                "depth" if wanted[0] == together => together.clone(),
                "depth" => format!("depth {}", wanted.join(" and ")),
                "against" => format!("differences from {}", wanted.join(", ")),
                _ => format!("{} training tokens", wanted.join(", ")),
            });
        }
    }
    if rows.len() > ROWS || what.is_empty() { Part::Link } else { Part::Rows(rows, what.join(", ")) }
}

/// What was found of loops, in a sentence for each kind of cloud.
fn loops_found(analysis: &Analysis<'_>) -> String {
    let found = cloud_loops(analysis);
    let of_kind = |(kind, mut of): (&str, Vec<&CloudLoops<'_>>)| {
        of.retain(|cloud| cloud.p.is_some());
        let points = match kind {
            "decoder" => "decoder rows",
            "encoder" => "encoder columns",
            _ => "activations",
        };
        let standing: Vec<&str> =
            of.iter().filter(|cloud| cloud.stands() == Some(true)).map(|cloud| cloud.of.cloud.as_str()).collect();
        let clouds = counted(of.len(), "cloud");
        let shown = if standing.len() <= 5 { format!(": {}", standing.join(", ")) } else { String::new() };
        match standing.len() {
            _ if of.is_empty() => format!("No cloud of {points} had enough points to be tested."),
            0 => format!("No cloud of {points} has more of a loop than every null ({} tested).", of.len()),
            1 => format!("One of {clouds} of {points} has more of a loop than every null{shown}."),
            n => format!("{n} of {clouds} of {points} have more of a loop than every null{shown}."),
        }
    };
    kinds_of_clouds(&found).into_iter().map(of_kind).collect::<Vec<_>>().join(" ")
}

/// How far another seed of the bootstrap would move the ends of these intervals.
fn monte_carlo(analysis: &Analysis<'_>) -> Option<String> {
    let errors = gaps(analysis).into_iter().filter_map(|gap| gap.behaviours[0].difference.end_errors).flatten();
    let largest = errors.fold(0.0, f64::max);
    (largest > 0.0).then(|| {
        format!(
            "Another seed of the bootstrap would move the ends of the intervals of ΔCE_rec (pooled) by about {largest:.4} at most (Monte-Carlo standard error); \
             an end within two of its errors of 0 makes a label `unsure`."
        )
    })
}
