//! The tables of a report.

use assay_probes::metrics::{METRICS, Metric, Subset, metric};
use assay_probes::stats::Interval;

use crate::frames::{Grid, Run, column_name};
use crate::markdown::{NONE, Table, interval, number, score, signed_with_interval, with_interval};
use crate::replicates::Replicates;
use crate::runner::tokens_text;

/// The runs of a grid, and what follows from comparing them.
pub struct Cells<'a> {
    /// The grid.
    pub grid: &'a Grid,
    /// Every pair of models at equal depth, budget, k and seed.
    pub gaps: Vec<Gap<'a>>,
}

/// The difference between two models' SAEs at one depth, k, seed and budget.
pub struct Gap<'a> {
    /// The SAE of the earlier model.
    pub from: &'a Run,
    /// The SAE of the later one.
    pub to: &'a Run,
    /// ΔR², later minus earlier, and its paired interval.
    pub r2: (Option<f64>, Option<Interval>),
    /// ΔCE_rec likewise.
    pub ce_rec: (Option<f64>, Option<Interval>),
}

impl Gap<'_> {
    /// Whether R² and CE_rec name different SAEs as the better one; `None` if either can't be compared.
    pub fn mismatch(&self) -> Option<bool> {
        Some(self.r2.0? * self.ce_rec.0? < 0.0)
    }
}

impl<'a> Cells<'a> {
    /// Resamples every run, by one draw, and compares the models.
    pub fn new(grid: &'a Grid) -> Self {
        let counts = grid.resamples().counts();
        let replicates: Vec<Replicates> = grid.runs.iter().map(|r| Replicates::new(&r.sequences, &counts)).collect();
        let mut gaps = Vec::new();
        if let (Some(r2), Some(ce_rec)) = (metric("r2"), metric("ce_rec")) {
            let difference = |from: usize, to: usize, metric: &Metric| {
                let (a, b) = (&grid.runs[from], &grid.runs[to]);
                let value = b.value(metric.name).zip(a.value(metric.name)).map(|(b, a)| b - a);
                // Only what was measured on the same sequences can be paired.
                let paired = a.sequences.len() == b.sequences.len();
                let level = grid.bootstrap.level;
                let interval =
                    paired.then(|| replicates[to].difference(&replicates[from], metric, Subset::All, level)).flatten();
                (value, interval)
            };
            for (from, to) in pairs(grid) {
                gaps.push(Gap {
                    from: &grid.runs[from],
                    to: &grid.runs[to],
                    r2: difference(from, to, r2),
                    ce_rec: difference(from, to, ce_rec),
                });
            }
        }
        Self { grid, gaps }
    }
}

/// Positions of the runs that can be compared: of an earlier model and of a later one.
fn pairs(grid: &Grid) -> Vec<(usize, usize)> {
    let models = grid.models();
    let conditions = grid.conditions();
    let mut pairs = Vec::new();
    for (i, from) in models.iter().enumerate() {
        for to in &models[i + 1..] {
            let position = |model: &str, (depth, budget, k, seed): &(String, u64, u64, u64)| {
                grid.position(model, depth, *k, *seed, *budget)
            };
            pairs.extend(conditions.iter().filter_map(|at| position(from, at).zip(position(to, at))));
        }
    }
    pairs
}

/// One row a run: R² and CE_rec with intervals, and what explains them.
pub fn grid(grid: &Grid) -> Table {
    let mut table = Table::new([
        "depth",
        "model",
        "hook",
        "k",
        "tokens",
        "seed",
        "R²",
        "CE_rec",
        "L_recon/L_orig",
        "ce_loss_score",
        "KL",
        "cosine",
        "rel. error",
        "alive %",
    ]);
    for run in &grid.runs {
        let cell = |name: &str| with_interval(run.value(name), run.interval(name));
        table.row([
            run.depth.clone(),
            run.model.clone(),
            run.hook.clone(),
            run.k.to_string(),
            tokens_text(run.training_tokens).replace(" tokens", ""),
            run.seed.to_string(),
            cell("r2"),
            cell("ce_rec"),
            score(run.value("ce_rec").map(|c| 2.0 - c)),
            score(run.value("ce_loss_score")),
            score(run.value("kl")),
            score(run.value("cosine")),
            score(run.value("rel_err")),
            run.value("alive_frac").map_or_else(|| NONE.to_owned(), |a| format!("{:.1}", 100.0 * a)),
        ]);
    }
    table
}

/// ΔR² and ΔCE_rec between models.
pub fn proxy_gap(cells: &Cells<'_>) -> Table {
    let mut table = Table::new([
        "depth",
        "models",
        "k",
        "tokens",
        "seed",
        "ΔR²",
        "ΔCE_rec",
        "opposite signs",
        "both intervals exclude 0",
    ]);
    for gap in &cells.gaps {
        let certain = gap.r2.1.zip(gap.ce_rec.1).map(|(a, b)| a.excludes_zero() && b.excludes_zero());
        let yes_no = |value: Option<bool>| value.map_or(NONE, |v| if v { "yes" } else { "no" }).to_owned();
        table.row([
            gap.to.depth.clone(),
            format!("{} − {}", gap.to.model, gap.from.model),
            gap.to.k.to_string(),
            tokens_text(gap.to.training_tokens).replace(" tokens", ""),
            gap.to.seed.to_string(),
            signed_with_interval(gap.r2.0, gap.r2.1),
            signed_with_interval(gap.ce_rec.0, gap.ce_rec.1),
            yes_no(gap.mismatch()),
            yes_no(certain),
        ]);
    }
    table
}

/// How often the signs differ, in words.
pub fn mismatch_sentence(cells: &Cells<'_>) -> String {
    let verdicts: Vec<bool> = cells.gaps.iter().filter_map(Gap::mismatch).collect();
    let opposite = verdicts.iter().filter(|&&m| m).count();
    format!("ΔR² and ΔCE_rec have opposite signs in {opposite} of {} pairs.", verdicts.len())
}

/// R² and CE_rec on the subsets of tokens.
pub fn subsets(grid: &Grid) -> Table {
    let mut head = vec!["depth".to_owned(), "model".to_owned(), "k".to_owned(), "tokens".to_owned(), "seed".to_owned()];
    for subset in Subset::ALL {
        head.push(format!("R² {}", subset.name()));
    }
    head.push("tokens left without outliers".to_owned());
    let mut table = Table::new(head);
    for run in &grid.runs {
        let mut row = vec![
            run.depth.clone(),
            run.model.clone(),
            run.k.to_string(),
            tokens_text(run.training_tokens).replace(" tokens", ""),
            run.seed.to_string(),
        ];
        for subset in Subset::ALL {
            let column = column_name(subset, "r2");
            row.push(with_interval(run.value(&column), run.interval(&column)));
        }
        let share = run
            .value(&column_name(Subset::NoOutlier, "tokens"))
            .zip(run.value("tokens"))
            .map(|(some, all)| 100.0 * some / all);
        row.push(share.map_or_else(|| NONE.to_owned(), |s| format!("{s:.2} %")));
        table.row(row);
    }
    table
}

/// Geometry of every layer.
pub fn geometry(grid: &Grid) -> Table {
    let mut table = Table::new([
        "model",
        "layer",
        "PR",
        "PR/d_model",
        "PR without top 1",
        "PR without top 4",
        "variance",
        "top eigenvalue %",
        "mean ‖a‖",
        "max ‖a‖",
        "outliers %",
    ]);
    for (model, layers) in &grid.geometry {
        for layer in layers {
            table.row([
                model.clone(),
                layer.layer.to_string(),
                number(layer.pr),
                number(layer.pr_over_d_model),
                number(layer.pr_deflated_1),
                number(layer.pr_deflated_4),
                number(Some(layer.variance)),
                number(layer.top_eigenvalue_share.map(|s| 100.0 * s)),
                number(Some(layer.mean_norm)),
                number(Some(layer.max_norm)),
                number(Some(100.0 * layer.outlier_frac)),
            ]);
        }
    }
    table
}

/// Every column on all tokens, a row a run.
pub fn everything(grid: &Grid) -> Table {
    let extra = [
        "alive_frac",
        "bits_per_token",
        "bits_bernoulli",
        "pr",
        "pr_deflated_1",
        "pr_deflated_4",
        "final_loss",
        "n_dead",
    ];
    let names: Vec<&str> = METRICS.iter().map(|m| m.name).chain(extra).collect();
    let mut table = Table::new(
        ["model", "hook", "k", "tokens", "seed"].into_iter().chain(names.iter().copied()).chain(["CE_rec interval"]),
    );
    for run in &grid.runs {
        let mut row = vec![
            run.model.clone(),
            run.hook.clone(),
            run.k.to_string(),
            run.training_tokens.to_string(),
            run.seed.to_string(),
        ];
        row.extend(names.iter().map(|name| number(run.value(name))));
        row.push(interval(run.interval("ce_rec")));
        table.row(row);
    }
    table
}
