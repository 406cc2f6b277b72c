//! The report's questions, each with the tables and plots that answer it and the caveats that belong to them.

use std::fmt::Write as _;

use assay_probes::stats::hypotheses::HYPOTHESES;

use super::tables::Named;
use crate::analysis::{self, Analysis, pairs};

/// A question and what answers it; left out where there is no table for it.
struct Section {
    question: &'static str,
    figures: &'static [&'static str],
    tables: &'static [&'static str],
    caveats: &'static str,
}

const SECTIONS: [Section; 16] = [
    Section {
        question: "What do the hypotheses' rules say?",
        figures: &[],
        tables: &["hypotheses"],
        caveats: "Rules are those of the program, whatever the data; each row shows the number that its rule looks at. H0 and H1 take the wider of the \
                  bootstrap's interval and t over seeds. Where seeds or budgets are too few the verdict is `undecided`, whatever the number.",
    },
    Section {
        question: "The number that started this",
        figures: &[],
        tables: &["headline"],
        caveats: "`CE_rec` is 2 − L_recon/L_orig per sequence, averaged: 1 is perfect, 0 a doubled loss. It is not normalised by an ablation; \
                  `ce_loss_score` is. One row proves nothing: read the signs over all k below.",
    },
    Section {
        question: "Does R² rise with the model while behaviour gets worse?",
        figures: &["curves", "gap"],
        tables: &["delta-by-k"],
        caveats: "Differences are later model minus earlier at equal depth, k and tokens. The budget is equal in tokens, not in tokens a \
                  latent: the larger model's SAE has more latents and is less trained. Models differ in their own loss too, by which CE_rec is \
                  normalised. The ratio is unstable where ΔCE_rec is near 0.",
    },
    Section {
        question: "Does it hold over all models?",
        figures: &[],
        tables: &["three-model", "monotone", "overlap", "spread"],
        caveats: "Overlapping intervals of two values are a weak test; the paired difference is the sharper one. d is over evaluation \
                  sequences with the pooled unpaired SD, which is large because sequences differ in difficulty; d_z is paired by sequence.",
    },
    Section {
        question: "Do longer training and other seeds close the gap?",
        figures: &["gap-by-budget", "loss"],
        tables: &["phase2", "budgets", "seeds"],
        caveats: "Each budget is a training run of its own. The t interval covers seeds and no sequences; the two-level bootstrap both, but is \
                  too narrow for few seeds.",
    },
    Section {
        question: "How well do R² and behaviour go together?",
        figures: &[],
        tables: &["correlations"],
        caveats: "Rows are the runs at one depth; intervals resample models and k with all of their seeds, and resamples without variation are counted as degenerate. Within \
                  fixed k the mean of each k is subtracted, or ranks are taken within it: with two models this is mostly a sign.",
    },
    Section {
        question: "Which proxy predicts behaviour?",
        figures: &["leaderboard"],
        tables: &["leaderboard", "beyond-swd"],
        caveats: "Pooled correlations mostly say that more active latents are better, which every proxy knows; within fixed depth and k is \
                  the harder test: Pearson's there follows the k where a proxy spreads most, Spearman's takes ranks within each k. Resamples draw models, depths and k with all of their seeds; these are few and share text, so the \
                  intervals are still too narrow. Proxies are oriented so that higher is meant to be better, and correlations are signed.",
    },
    Section {
        question: "Do first and second order predict what happens?",
        figures: &[],
        tables: &["fisher"],
        caveats: "gᵀδ and the Fisher quadratic form are local; errors of SAEs are not small, so predictions may be far off, and by how much is \
                  the point. FWD is one token's error at a time, the predicted KL all of a sequence's together.",
    },
    Section {
        question: "What does a bit buy, in which distortion?",
        figures: &["rate-distortion"],
        tables: &["rate-distortion"],
        caveats: "Bits are a proxy: indices entropy-coded one by one and 8 bits a value. They compare codes of one kind, and are no mutual \
                  information.",
    },
    Section {
        question: "Is it the normalisation by variance?",
        figures: &[],
        tables: &["sst-inflation", "three-model-proxies"],
        caveats: "The smallest k. R² divides by SST; cosine and relative error don't.",
    },
    Section {
        question: "How much of the gap is a few directions or a few tokens?",
        figures: &["controls", "errors-by-norm"],
        tables: &["controls", "subsets"],
        caveats: "Directions are the top eigenvectors of the covariance on the evaluation set, projected out of errors and activations alike. \
                  Outliers are tokens whose ‖a‖ exceeds 10 × the median; each subset's R² is centred on its own mean.",
    },
    Section {
        question: "What k does it take?",
        figures: &["k-star"],
        tables: &["k-star"],
        caveats: "Linear interpolation in k, first crossing. `≤` marks a target met at the smallest k, `never` one that no k reaches; a ratio \
                  needs both models between grid points.",
    },
    Section {
        question: "How many latents are alive?",
        figures: &[],
        tables: &["alive"],
        caveats: "On the evaluation set. Low shares may say that the SAE is undertrained at this budget, which confounds every comparison of models \
                  above.",
    },
    Section {
        question: "How many directions hold the variance?",
        figures: &["geometry"],
        tables: &["geometry"],
        caveats: "A raw participation ratio near 1 means that one direction holds nearly all variance: there R² mostly says how well that \
                  direction is reconstructed.",
    },
    Section {
        question: "How many dimensions does the task need?",
        figures: &[],
        tables: &["information"],
        caveats: "Mutual information of activations and the logits' principal components, by critics trained on part of the \
                  text and read off the rest. InfoNCE can't exceed its cap, SMILE is no strict bound, and both fall short \
                  with few tokens. At the last layer the logits follow from the activation: the true value is infinite \
                  there, and the estimate shows the critic's limits. The inferred dimensionality is the narrowest linear \
                  bottleneck that keeps 90 % of the largest value on the curve; it can hardly exceed the number of \
                  principal components asked for.",
    },
    Section {
        question: "Everything",
        figures: &[],
        tables: &["grid", "everything"],
        caveats: "Intervals in these tables are of single runs, over sequences.",
    },
];

/// The table that is too wide to be read in a page.
const WIDE: &str = "everything";

/// All sections that have something to show.
pub fn write(analysis: &Analysis<'_>, tables: &[Named], figures: &[(String, String)]) -> String {
    let mut out = String::new();
    for section in &SECTIONS {
        let found: Vec<_> = section.tables.iter().filter_map(|name| tables.iter().find(|(n, _)| n == name)).collect();
        if found.is_empty() {
            continue;
        }
        let _ = write!(out, "## {}\n\n", section.question);
        if section.tables.contains(&"hypotheses") {
            for hypothesis in HYPOTHESES {
                let _ = writeln!(out, "- **{}**: {} *{}*", hypothesis.name, hypothesis.claim, hypothesis.rule);
            }
            out.push('\n');
        }
        for (name, caption) in section.figures.iter().filter_map(|f| figures.iter().find(|(name, _)| name == f)) {
            let _ = write!(out, "![{name}](plots/{name}.svg)\n\n*{caption}*\n\n");
        }
        for (name, table) in found {
            if *name == WIDE {
                let _ = write!(out, "Every metric of every run: [`tables/{name}.md`](tables/{name}.md)\n\n");
            } else {
                let _ = write!(out, "`tables/{name}.md`\n\n{table}\n");
            }
        }
        if section.tables.contains(&"delta-by-k") {
            let _ = write!(out, "{}\n\n", mismatches(analysis));
        }
        let _ = write!(out, "{}\n\n", section.caveats);
    }
    out
}

/// How often the signs differ, in words.
fn mismatches(analysis: &Analysis<'_>) -> String {
    let counts = pairs(analysis).into_iter().map(|(from, to)| analysis::mismatches(analysis, from, to));
    let (opposite, pairs) = counts.fold((0, 0), |(o, p), (opposite, seeds)| (o + opposite, p + seeds));
    format!("ΔR² and ΔCE_rec have opposite signs in {opposite} of {pairs} pairs.")
}
