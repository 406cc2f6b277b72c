//! Tables, plots and a report from the parquet files of a sweep.

mod figure;
mod plots;
mod tables;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use assay_probes::METRICS;

use crate::analysis::Analysis;
use crate::frames::{self, Grid};
use crate::markdown::Table;
use crate::record::write_atomic;
use crate::runner::tokens_text;

/// Rebuilds `tables/`, `plots/` and `report.md` of a results directory.
///
/// # Errors
/// If the parquet files are missing or damaged, or a file can't be written.
pub fn write(results: &Path) -> Result<()> {
    let grid = frames::read(results)?;
    let cells = tables::Cells::new(&grid);
    let tables: Vec<(&str, Table)> = vec![
        ("grid", tables::grid(&grid)),
        ("proxy-gap", tables::proxy_gap(&cells)),
        ("subsets", tables::subsets(&grid)),
        ("geometry", tables::geometry(&grid)),
        ("everything", tables::everything(&grid)),
    ];
    for (name, table) in &tables {
        write_atomic(&results.join("tables").join(format!("{name}.md")), table.to_string().as_bytes())?;
    }
    let figures: Vec<String> =
        plots::write(&Analysis::new(&grid), &results.join("plots"))?.into_iter().map(|(name, _)| name).collect();
    write_atomic(&results.join("report.md"), text(results, &grid, &cells, &tables, &figures).as_bytes())
}

/// What the plots against k show of a grid with several seeds or budgets.
fn plotted(grid: &Grid) -> String {
    let budget = tokens_text(grid.budgets().last().copied().unwrap_or_default());
    match grid.seeds().len() {
        1 => format!("one seed, with intervals over sequences; {budget}"),
        seeds => format!("means over {seeds} seeds, without intervals; {budget}"),
    }
}

fn text(
    results: &Path,
    grid: &Grid,
    cells: &tables::Cells<'_>,
    tables: &[(&str, Table)],
    figures: &[String],
) -> String {
    let name = results.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let table = |name: &str| tables.iter().find(|(n, _)| *n == name).map(|(_, t)| t.to_string()).unwrap_or_default();
    let figure = |name: &str, caption: &str| {
        if figures.iter().any(|f| f == name) {
            format!("![{caption}](plots/{name}.svg)\n\n*{caption}*\n\n")
        } else {
            String::new()
        }
    };
    let sequences = grid.runs.first().map_or(0, |r| r.sequences.len());
    let mut out = format!("# {name}: reconstruction and behaviour\n\n");
    let _ = write!(
        out,
        "{} SAEs: models {}; depths {}; k {}; {} seed(s); evaluated on {sequences} held-out sequences. Intervals are {:.0} % percentile \
         intervals of a bootstrap over sequences ({} resamples, one draw shared by all SAEs, so that differences are paired).\n\n\
         Read them with care: they cover the choice of evaluation text and nothing else: not the seed of the training, not the training text. \
         A model's name says which model was measured; results on small stand-ins are not results on Pythia.\n\n",
        grid.runs.len(),
        grid.models().join(", "),
        grid.depths().join(", "),
        grid.ks().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        grid.seeds().len(),
        100.0 * grid.bootstrap.level,
        grid.bootstrap.resamples,
    );
    out += "## Does a better reconstruction mean better-preserved behaviour?\n\n";
    let of = plotted(grid);
    out += &figure("curves", &format!("R² and CE_rec against k, a column a depth; {of}"));
    out += &table("grid");
    out += "\n`ce_rec` is 2 − L_recon/L_orig per sequence, averaged: 1 is perfect, 0 a doubled loss. It is not normalised by an ablation; \
            `ce_loss_score` is. Where ‖a‖ has outliers, read R² beside the subsets below.\n\n";
    if grid.models().len() > 1 {
        out += "## Where do R² and CE_rec disagree about which model's SAE is better?\n\n";
        out += &figure("gap", &format!("ΔR² and ΔCE_rec between models at equal k; {of}"));
        out += &table("proxy-gap");
        out += &format!("\n{}\n\n", tables::mismatch_sentence(cells));
        out += "The budget is equal in tokens, not in tokens a latent: the larger model's SAE has more latents and is less trained. \
                Models differ in their own loss too, by which CE_rec is normalised.\n\n";
    }
    out += "## How much of R² hangs on a few tokens?\n\n";
    out += &table("subsets");
    out += "\nOutliers are tokens whose ‖a‖ exceeds 10 × the median; each subset's R² is centred on its own mean.\n\n";
    out += "## How many directions hold the variance?\n\n";
    out += &figure("geometry", "Participation ratio by relative depth, raw and without the top eigenvalues");
    out += &table("geometry");
    out += "\nA raw participation ratio near 1 means that one direction holds nearly all variance: there R² mostly says how well that direction is \
            reconstructed.\n\n## Everything\n\n";
    out += &table("everything");
    out += "\n## Definitions\n\n";
    for metric in METRICS {
        let _ = writeln!(out, "- `{}`: {}", metric.name, metric.definition);
    }
    out += "- `alive_frac`: fraction of latents that fire at least once on the evaluation set\n\
            - `bits_per_token`: L0·H(q) + 8·L0, q the latents' shares of all firings\n\
            - `bits_bernoulli`: Σ_i H_b(p_i), p_i the firing rates\n\
            - `pr`, `pr_deflated_m`: (Σλ)²/Σλ² of the covariance spectrum at the hook, without its top m eigenvalues\n";
    out
}
