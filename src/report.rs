//! Tables, plots and a report from the parquet files of a sweep.

pub mod figure;
mod glossary;
mod opening;
mod plots;
mod sections;
mod tables;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::analysis::Analysis;
use crate::files::write_atomic;
use crate::frames::{self, Grid};

/// Rebuilds `tables/`, `plots/` and `report.md` of a results directory.
///
/// # Errors
/// If the parquet files are missing or damaged, or a file can't be written.
pub fn write(results: &Path) -> Result<()> {
    let grid = frames::read(results)?;
    let analysis = Analysis::new(&grid);
    let tables = tables::all(&analysis);
    for (name, table) in &tables {
        write_atomic(&results.join("tables").join(format!("{name}.md")), table.to_string().as_bytes())?;
    }
    let figures = plots::write(&analysis, &results.join("plots"))?;
    let name = results.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut text = head(&name, &grid);
    text += &opening::write(&analysis);
    text += &sections::write(&analysis, &tables, &figures);
    text += "## Glossary\n\n";
    for (term, definition) in glossary::terms() {
        let _ = writeln!(text, "- {term}: {definition}");
    }
    write_atomic(&results.join("report.md"), text.as_bytes())
}

/// The kinds of hooks, the architectures and the objectives, where there are several.
fn hooks_and_classes(grid: &Grid) -> String {
    let mut out = String::new();
    if grid.names().has_kinds() {
        let name = |(kind, centered): (String, bool)| if centered { format!("{kind} centred") } else { kind };
        let _ = write!(out, " hooks {};", grid.kinds().into_iter().map(name).collect::<Vec<_>>().join(", "));
    }
    if grid.names().has_architectures() {
        let _ = write!(out, " architectures {};", grid.architectures().join(", "));
    }
    if grid.names().has_objectives() {
        let _ = write!(out, " objectives {};", grid.objectives().join(", "));
    }
    out
}

/// What was measured, and what the intervals cover.
fn head(name: &str, grid: &Grid) -> String {
    let list = |values: Vec<u64>| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let sequences = grid.runs.first().map_or(0, |r| r.sequences.len());
    let seeds = grid.seeds().len();
    let mut out = format!("# {name}: reconstruction and behaviour\n\n");
    let ks = if grid.ks().is_empty() { String::new() } else { format!(" k {};", list(grid.ks())) };
    // Of SAEs that no sweep trained nobody knows these.
    let training = match grid.budgets().as_slice() {
        [0] => String::new(),
        budgets => format!(" training tokens {}; seeds {};", list(budgets.to_vec()), list(grid.seeds())),
    };
    let _ = write!(
        out,
        "{} SAEs: models {}; depths {};{}{ks}{training} evaluated on {sequences} held-out sequences. Intervals are of {:.0} %{}\n\n",
        grid.runs.len(),
        grid.models().join(", "),
        grid.depths().join(", "),
        hooks_and_classes(grid),
        100.0 * grid.bootstrap.level,
        if seeds > 1 {
            ", over training seeds and sequences together: value ± t·√(s²_seed/S + s²_seq/n), degrees of freedom by Satterthwaite; differences \
             are paired by seed and sequence. They cover the choice of evaluation text and of the seed, not that of the training text."
                .to_owned()
        } else {
            format!(
                ": percentile intervals of a bootstrap over sequences ({} resamples, one draw shared by all SAEs, so that differences are \
                 paired). They cover the choice of evaluation text and nothing else: not the seed of the training, not the training text; with few or \
                 skewed sequences they are somewhat too narrow.",
                grid.bootstrap.resamples,
            )
        },
    );
    out += "A model's name says which model was measured; results on small stand-ins are not results on Pythia.\n\n";
    for model in &grid.missing {
        let _ = write!(
            out,
            "**`{model}` is missing**: the spec names it without a path, and none was given with `--set models.{model}.path=DIR`. All \
             below is without it.\n\n"
        );
    }
    out
}
