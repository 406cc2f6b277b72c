//! `assay inspect`: what is in a model, SAE, results directory, spec, or source of tokens or text.

mod model;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use assay_models::place::is_model;
use assay_models::tokens::{Reading, describe};
use assay_sae::{Activation, formats};
use serde_json::{Map, Value};

use crate::catalogue::assumptions;
use crate::plan::Outline;
use crate::progress::Progress;
use crate::results_dir::{self, Unfinished};
use crate::spec::SpecDocument;
use crate::{device, fetch, frames, markdown, output};

/// Describe a model, SAE, results directory, spec, or source of tokens or text.
///
/// What it is follows from the files that are there. For an SAE of another tool, the output says what the SAE computes, and what is
/// unusual in its files.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay inspect models/bundled/small\n  assay inspect tests/golden/eval-small/L3_k8\n  assay inspect models/bundled/eval.parquet\n  assay inspect results/example"
)]
pub struct InspectArgs {
    /// What to look at: a path (a directory, a GGUF file, tokens or text), or the name of a model or SAE on the hub,
    /// org/name[@revision][:path]
    #[arg(value_name = "PATH|NAME")]
    path: PathBuf,
    /// Column, field or tensor of token ids or text, if not `tokens`, `input_ids` or `text`
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Leave out lines of JSON that can't be read, and count them
    #[arg(long)]
    skip_bad_lines: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What was found, in the order in which it is shown.
#[derive(Default)]
struct Facts(Map<String, Value>);

impl Facts {
    fn add(&mut self, what: &str, value: impl Into<Value>) {
        self.0.insert(what.to_owned(), value.into());
    }

    fn table(&self) -> markdown::Table {
        let mut table = markdown::Table::new(["what", "value"]);
        for (what, value) in &self.0 {
            let shown = match value {
                Value::Null => markdown::NONE.to_owned(),
                Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
                Value::String(text) => text.clone(),
                Value::Number(number) if number.is_f64() => markdown::number(number.as_f64()),
                Value::Array(values) => values
                    .iter()
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
                    .join(", "),
                other => other.to_string(),
            };
            table.row([what.clone(), shown]);
        }
        table
    }
}

impl InspectArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the path is none of these, or damaged.
    pub fn run(&self, progress: Progress) -> Result<()> {
        let path = fetch::anything(&self.path, progress)?;
        let path = path.as_path();
        let mut facts = Facts::default();
        let mut notes = Vec::new();
        if path.join("runs.parquet").is_file() {
            results(path, &mut facts)?;
        } else if let Some(progress) = results_dir::unfinished(path) {
            unfinished(path, &progress, &mut facts)?;
        } else if formats::is_sae(path) {
            notes = sae(path, &mut facts)?;
        } else if is_model(path) {
            notes = model::model(path, &mut facts)?;
        } else if let Some(files) = gguf_files(path) {
            bail!("{} is a directory of GGUF files; name one of them: {files}", path.display());
        } else if path.extension().is_some_and(|end| end == "toml") {
            spec(path, &mut facts)?;
        } else if let Some(below) = below(path) {
            bail!("{} holds several things; give one of them: {below}", path.display());
        } else {
            let reading = Reading { wanted: None, column: self.column.clone(), skip_bad_lines: self.skip_bad_lines };
            let found = describe(path, &reading).with_context(|| {
                format!(
                    "{} is no model (config.json, or a GGUF file), SAE (cfg.json) or results directory (runs.parquet), nor tokens or text",
                    path.display()
                )
            })?;
            notes = found.notes;
            for (what, value) in found.facts {
                match value.parse::<u64>() {
                    Ok(count) => facts.add(what, count),
                    Err(_) => facts.add(what, value),
                }
            }
        }
        if self.json {
            // Keys of one word, and the notes among them.
            let mut object: Map<String, Value> =
                facts.0.into_iter().map(|(what, value)| (what.to_lowercase().replace(' ', "_"), value)).collect();
            object.insert("notes".to_owned(), notes.into());
            return output::result_line(serde_json::to_string_pretty(&object)?);
        }
        output::result(format_args!("{}{}", facts.table(), markdown::notes(&notes)))
    }
}

/// What can be looked at one by one right below a directory, if there is anything of the kind.
fn below(dir: &Path) -> Option<String> {
    let entries = std::fs::read_dir(dir).ok()?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let what = |path: &PathBuf| {
        if path.join("runs.parquet").is_file() || results_dir::unfinished(path).is_some() {
            Some("results of a sweep")
        } else if formats::is_sae(path) {
            Some("SAE")
        } else {
            is_model(path).then_some("model")
        }
    };
    let found: Vec<String> =
        paths.iter().filter_map(|path| Some(format!("{} ({})", path.display(), what(path)?))).collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// What a sweep's spec asks for; its models and text are not opened.
fn spec(path: &Path, facts: &mut Facts) -> Result<()> {
    let spec = SpecDocument::read(path, &[])?.spec()?;
    facts.add("kind", "spec of a sweep: `assay sweep` runs it, with --dry-run it lists the runs");
    facts.add("name", spec.name.clone());
    facts.add("models", spec.models.iter().map(|model| model.name.clone()).collect::<Vec<_>>());
    facts.add("hooks", spec.hooks.iter().map(ToString::to_string).collect::<Vec<_>>());
    facts.add("seeds", spec.seeds.clone());
    let mut budgets: Vec<u64> = spec.models.iter().flat_map(|model| spec.budgets(model).iter().copied()).collect();
    budgets.sort_unstable();
    budgets.dedup();
    facts.add("training tokens", budgets);
    facts.add("evaluation sequences", spec.eval.sequences);
    Ok(())
}

/// The names of the GGUF files in a directory, if it has any.
fn gguf_files(dir: &Path) -> Option<String> {
    let entries = std::fs::read_dir(dir).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".gguf")).collect();
    names.sort();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Gives the notes that belong to it.
fn sae(path: &Path, facts: &mut Facts) -> Result<Vec<String>> {
    let mut loaded = formats::load_encoder(path, &device::open("cpu")?.device)?;
    assumptions::complete(&mut loaded, &assumptions::Given::default())?;
    let (sae, metadata) = (&loaded.sae, loaded.metadata);
    let revision = metadata.revision();
    let kind = match (sae.is_transcoder(), sae.skip().is_some()) {
        _ if sae.d_out() == 0 => "layer of a cross-layer transcoder",
        (false, _) => "SAE",
        (true, false) => "transcoder",
        (true, true) => "skip transcoder",
    };
    facts.add("kind", format!("{kind}, {}, {} format", sae.activation().name(), loaded.format));
    facts.add("d_in", sae.d_in());
    if sae.d_out() != sae.d_in() && sae.d_out() > 0 {
        facts.add("d_out", sae.d_out());
    }
    facts.add("d_sae", sae.d_sae());
    match sae.activation() {
        Activation::TopK { k, by_decoder_norm } | Activation::AbsTopK { k, by_decoder_norm } => {
            facts.add("k", *k);
            facts.add("chosen by decoder norm", *by_decoder_norm);
        }
        Activation::GroupMax { k } => facts.add("k", *k),
        Activation::JumpRelu { threshold } => {
            let values = threshold.to_data().try_into_vec::<f32>().expect("thresholds are f32");
            let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
            facts.add("lowest threshold", low);
            facts.add("highest threshold", high);
        }
        Activation::MatchingPursuit(pursuit) => {
            facts.add("residual threshold", pursuit.residual_threshold);
            facts.add("iterations at most", pursuit.max_iterations.unwrap_or(sae.d_in()));
            facts.add("stops at a support that stays", pursuit.stop_on_duplicate_support);
        }
        Activation::Relu | Activation::Gated { .. } => {}
    }
    facts.add("b_dec subtracted from the input", sae.applies_b_dec_to_input());
    facts.add("input normalised", sae.normalization().name());
    facts.add("model", metadata.model_name);
    facts.add("hook", metadata.hook_name);
    if sae.is_transcoder() && sae.d_out() > 0 {
        facts.add("predicts", metadata.hook_name_out);
    }
    facts.add("model revision", revision);
    facts.add("trained on", metadata.dataset_path);
    facts.add("context size", metadata.context_size);
    facts.add("extra token before each context", metadata.prepend_bos);
    facts.add("residual stream centred", metadata.center_residual);
    facts.add("trained with", metadata.trained_with);
    facts.add("converted by", metadata.converted_by);
    Ok(loaded.notes)
}

/// What is known of a sweep that was stopped, or is running.
fn unfinished(path: &Path, progress: &Unfinished, facts: &mut Facts) -> Result<()> {
    // The plan is written after the spec: a kill may have come between.
    let runs = Outline::read(path)?.map(|plan| plan.groups.iter().map(|group| group.runs.len()).sum::<usize>());
    facts.add("kind", "results of a sweep, unfinished: the same `assay sweep` resumes");
    facts.add("runs finished", progress.records);
    facts.add("runs in all", runs);
    facts.add("training tokens of the group in training", progress.trained_tokens);
    Ok(())
}

fn results(path: &Path, facts: &mut Facts) -> Result<()> {
    let grid = frames::read(path)?;
    facts.add("kind", "results of a sweep");
    facts.add("runs", grid.runs.len());
    facts.add("models", grid.models());
    facts.add("depths", grid.depths());
    facts.add("hooks", grid.kinds().into_iter().map(|(kind, _)| kind).collect::<Vec<_>>());
    facts.add("architectures", grid.architectures());
    if grid.names().has_objectives() {
        facts.add("objectives", grid.objectives());
    }
    facts.add("k", grid.ks());
    facts.add("seeds", grid.seeds());
    facts.add("training tokens", grid.budgets());
    facts.add("evaluation sequences", grid.runs.first().map_or(0, |r| r.sequences.len()));
    Ok(())
}
