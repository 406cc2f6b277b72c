//! `assay compare`: a results directory beside published numbers.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::analysis::Analysis;
use crate::compare::published::{Models, Published};
use crate::compare::{Compared, Numbers, StandIns, compare, published, show};
use crate::{frames, output};

/// Compare a results directory with published numbers.
///
/// Numbers are matched on model, depth, layer, k, token budget (within 1 %) and quantity. What has no counterpart is
/// listed with the reason.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay compare results/fast2 --reference fast2\n  assay compare results/example --reference fast2 --map small=pythia-70m --map medium=pythia-410m\n  assay compare results/reference/proxy-gap.csv --reference fast3 --check 0"
)]
pub struct CompareArgs {
    /// A directory that `assay sweep` wrote, or a CSV file like results/reference/proxy-gap.csv
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// Somebody who wants to compare two sweeps gives two.
    #[arg(hide = true)]
    others: Vec<PathBuf>,
    /// The published numbers: fast2, fast3, budget-k32-100m, budget-k8-50m, phase2, geometry, all, or a CSV file
    #[arg(long, value_name = "EXPERIMENT", default_value = "all")]
    reference: String,
    /// Let a model of the results stand for a published one, such as `small=pythia-70m`; may be repeated. Layers need not be equal
    /// then, nor the token budget where the results have only one. The numbers of stand-ins are counterparts, and confirm nothing
    #[arg(long, value_name = "OURS=PUBLISHED", value_parser = pair)]
    map: Vec<(String, String)>,
    /// List every row that has no counterpart, not only the reasons
    #[arg(long)]
    all: bool,
    /// Fail, and name the cells, if one differs by more than this
    #[arg(long, value_name = "TOLERANCE", value_parser = tolerance)]
    check: Option<f64>,
    /// Print a JSON array, one object per published number, instead of tables
    #[arg(long)]
    json: bool,
}

/// The models that the published numbers are of, in the order of their names.
fn models_of(reference: &[Published]) -> Vec<&str> {
    let mut models: Vec<&str> = reference
        .iter()
        .flat_map(|row| match &row.models {
            Models::One(model) => vec![model.as_str()],
            Models::Pair { from, to } => vec![from.as_str(), to.as_str()],
            Models::All => Vec::new(),
        })
        .collect();
    models.sort_unstable();
    models.dedup();
    models
}

fn pair(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(ours, theirs)| !ours.is_empty() && !theirs.is_empty());
    let (ours, theirs) = parts.ok_or_else(|| "OURS=PUBLISHED is wanted, such as small=pythia-70m".to_owned())?;
    Ok((ours.to_owned(), theirs.to_owned()))
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0);
    value.ok_or_else(|| "a number, 0 or greater, is wanted".to_owned())
}

impl CompareArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the results or the reference can't be read, or, with `--check`, a number differs by more than the tolerance or there is
    /// nothing to compare.
    pub fn run(&self) -> Result<()> {
        if let Some(other) = self.others.first() {
            bail!(
                "{} and {}: results are compared with published numbers here, not with one another. A spec with the models, coders or \
                 settings of both has a report that compares them; `assay eval --sae A B` compares SAEs of one model; \
                 `--reference FILE.csv` is for numbers of your own",
                self.results.display(),
                other.display()
            );
        }
        let reference = published::selected(&self.reference)?;
        self.check_published(&reference)?;
        if self.results.is_file() {
            ensure!(self.map.is_empty(), "--map is for a results directory, and {} is a file", self.results.display());
            self.report(&compare(&reference, &published::read_file(&self.results)?), "")
        } else {
            let grid = frames::read(&self.results)?;
            if let Some((ours, _)) = self.map.iter().find(|(ours, _)| !grid.models().contains(ours)) {
                let there = grid.models().join(", ");
                bail!("--map {ours}=…: {} has no model {ours}; there are {there}", self.results.display());
            }
            let analysis: &dyn Numbers = &Analysis::new(&grid);
            let one_budget = grid.budgets().len() == 1;
            let compared = compare(&reference, &StandIns { numbers: analysis, map: &self.map, one_budget });
            self.report(&compared, &self.advice(&reference, &grid.models()))
        }
    }

    /// Whether `--map` names models that the reference has, each once.
    fn check_published(&self, reference: &[Published]) -> Result<()> {
        let there = models_of(reference);
        for (at, (ours, theirs)) in self.map.iter().enumerate() {
            ensure!(
                there.contains(&theirs.as_str()),
                "--map {ours}={theirs}: {} has no model {theirs}; there are {}",
                self.reference,
                there.join(", ")
            );
            ensure!(
                self.map[..at].iter().all(|(_, earlier)| earlier != theirs),
                "--map: two models stand for {theirs}; give one"
            );
        }
        Ok(())
    }

    /// What to do where no model of the results is a published one; empty where one is, or stands for one.
    fn advice(&self, reference: &[Published], ours: &[String]) -> String {
        let theirs = models_of(reference);
        let (Some(our), Some(their)) = (ours.first(), theirs.first()) else { return String::new() };
        if !self.map.is_empty() || ours.iter().any(|model| theirs.contains(&model.as_str())) {
            return String::new();
        }
        format!(
            "\nThe models of these results are {}; the published ones are {}. With `--map` one stands for another, for example \
             `--map {our}={their}`.\n",
            ours.join(", "),
            theirs.join(", ")
        )
    }

    /// Prints the comparison, below its tables the advice, and makes the check.
    fn report(&self, compared: &[Compared<'_>], advice: &str) -> Result<()> {
        let results = self.results.display().to_string();
        let printed = match self.json {
            true => output::result_line(serde_json::to_string_pretty(&show::json(compared))?),
            false => output::result(show::markdown(compared, &results, self.all) + advice),
        };
        // The check counts whether or not anybody reads the list.
        self.check(compared, &results).and(printed)
    }

    fn check(&self, compared: &[Compared<'_>], results: &str) -> Result<()> {
        let Some(tolerance) = self.check else { return Ok(()) };
        let answered = compared.iter().filter(|c| c.found().is_some()).count();
        ensure!(
            answered > 0,
            "--check: no number of {} has a counterpart in {results}; the reasons are in the list",
            self.reference
        );
        let beyond: Vec<&Compared<'_>> = compared.iter().filter(|c| c.differs_by_more_than(tolerance)).collect();
        if !beyond.is_empty() {
            bail!(
                "{} of {answered} numbers of {results} differ from {} by more than {tolerance}:{}",
                beyond.len(),
                self.reference,
                show::named(beyond.into_iter())
            );
        }
        Ok(())
    }
}
