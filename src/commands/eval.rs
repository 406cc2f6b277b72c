//! `assay eval`: one SAE, on a token file or on text.

mod pace;
mod place;
mod reconstructions;
mod saebench;
mod show;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use assay_models::Decoder;
use assay_probes::stats::Resamples;
use assay_probes::{EvalConfig, Survey, evaluate};
use assay_sae::{LoadedSae, formats};
use serde_json::{Value, json};

use super::contexts::{ContextArgs, Contexts, whole};
use crate::belonging::{Used, starts};
use crate::progress::Progress;
use crate::replicates::Replicates;
use crate::verdict::verdict;
use crate::{device, fetch, markdown, output};
use pace::Pace;
use place::{Place, PlaceArgs};
use reconstructions::Reconstructions;

/// Evaluate one SAE: patch its reconstructions into the model and measure what changes.
///
/// Any SAE that assay reads: its own, or those of SAELens, sparsify and dictionary_learning. First comes a verdict: whether R² tells what
/// the SAE keeps of the model. A transcoder reads one activation, and its predictions take the place of another, of which all metrics are.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Verdict:\n  R² minus the loss score under mean ablation (both 0 for the mean activation, 1 for a perfect\n  reconstruction), by its 95 % interval over sequences:\n    inside ±0.075    R² tells what the SAE keeps of the model\n    above +0.125     R² overstates it\n    below -0.125     R² understates it\n    else             undecided, with roughly how many sequences would decide, if any\n  Fewer than 32 sequences or 1000 resamples decide nothing. An SAE is useless if R² is at most 0\n  and so is the loss score or CE_rec. Where the model's own loss is no lower than that of a uniform\n  guess or of an ablation, the tokens are not its text, and there is no verdict.\n\nExamples:\n  assay eval --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tokens models/bundled/eval.parquet --context-size 128\n  assay eval --model models/bundled/small --sae tests/golden/eval-small/L3_k8 --text README.md --json"
)]
pub struct EvalArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    /// SAE: a directory of SAELens, sparsify or dictionary_learning (safetensors), or its name on the hub,
    /// org/name[@revision][:path]
    #[arg(long, value_name = "DIR|NAME")]
    sae: PathBuf,
    #[command(flatten)]
    contexts: ContextArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Labels sampled per token from the model's predictions, for `fwd` and `kl_pred`; 0 skips both
    #[arg(long, value_name = "N", default_value_t = 4)]
    fisher_samples: usize,
    /// Bootstrap replicates of the 95 % intervals; a verdict needs 1000
    #[arg(long, value_name = "N", default_value_t = 5000,
        value_parser = whole(MIN_RESAMPLES, MAX_RESAMPLES, "the ends of an interval would be chance"))]
    resamples: u64,
    /// Seed of the bootstrap and of those labels
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0, i64::MAX as u64, "a seed is not negative"))]
    seed: u64,
    /// Also write activations (`x`) and reconstructions (`recon`), f32 [S·T, d_model], to a safetensors file; of a transcoder, the
    /// activations that it predicts and its predictions
    #[arg(long, value_name = "FILE")]
    save_reconstructions: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    format: Output,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// In the table, every metric, also without first tokens and without tokens of huge norm
    #[arg(long)]
    all: bool,
    /// With --format saebench: write {release}_{sae}_eval_results.json here instead of printing it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Fewer replicates make no 95 % interval; more would take gigabytes and change no digit that is shown.
const MIN_RESAMPLES: u64 = 100;
const MAX_RESAMPLES: u64 = 100_000;

/// How an evaluation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// The verdict and a table
    Table,
    /// One JSON object
    Json,
    /// One JSON object with the keys of SAEBench's core evaluation
    Saebench,
}

impl EvalArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model, the SAE or the tokens are unusable or don't belong together.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let format = if self.json { Output::Json } else { self.format };
        ensure!(self.out.is_none() || format == Output::Saebench, "--out is for --format saebench");
        if let Some(path) = &self.save_reconstructions {
            ensure!(
                path.symlink_metadata().is_err(),
                "--save-reconstructions {}: it is there already; remove it, or give another file",
                path.display()
            );
        }
        let device = device::open(device_name)?.device;
        let checkpoint = fetch::model(&self.model, progress)?;
        let model = Decoder::load(&checkpoint, &device)?;
        let (mut loaded, place) = self.sae(&self.sae, &model, progress)?;
        let Contexts { tokens, bos } = self.contexts.read(&model, &checkpoint, progress)?;
        let used = Used {
            model: &self.model,
            checkpoint: &checkpoint,
            hook: place.reads.hook,
            hook_out: place.hook_out(),
            starts: starts(bos, model.config()),
        };
        loaded.notes.extend(used.notes(&loaded.metadata, tokens.view()));
        let sae = &loaded.sae;
        let (sequences, context_size) = tokens.dim();
        let mut stage = progress.stage(format!("evaluate {}", place.site.hook), sequences as u64, "sequences");
        let config = EvalConfig {
            fisher_samples: self.fisher_samples,
            fisher_seed: self.seed,
            kl_zero: format == Output::Saebench,
        };
        let batch = self.contexts.batch(context_size, model.config().vocab_size);
        let mut subjects = [place.subject(sae)];
        let mut reconstructions = self.save_reconstructions.is_some().then(Reconstructions::default);
        if let Some(reconstructions) = &mut reconstructions {
            subjects[0].observers.push(reconstructions);
        }
        let mut pace = Pace::new(sequences, context_size);
        let mut advance = |n: usize| {
            if let Some(estimate) = pace.after(n) {
                progress.say(&estimate);
            }
            stage.advance(n as u64, String::new);
            ControlFlow::Continue(())
        };
        let found = Survey::new(&model, tokens.view(), &[place.site], &[], batch, |_| advance(0))
            .and_then(|survey| evaluate(&survey, &mut subjects, config, &mut advance))
            .with_context(|| {
                let tokens = self.contexts.path().display();
                format!("SAE {}, model {}, tokens {tokens}", self.sae.display(), self.model.display())
            })?
            .remove(0);
        stage.finish("");
        if let Some((path, reconstructions)) = self.save_reconstructions.as_deref().zip(reconstructions) {
            reconstructions.save(path, sae.d_out())?;
        }
        let of_file = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        if format == Output::Saebench {
            let dataset = of_file(self.contexts.path()).unwrap_or_default();
            let report =
                saebench::Report { loaded: &loaded, found: &found, place, tokens: tokens.dim(), dataset, batch };
            return report.write(&self.sae, self.out.as_deref());
        }
        let resamples = Resamples::draw(sequences, self.resamples as usize, self.seed);
        let replicates = Replicates::new(&found.sequences, &resamples.counts());
        let verdict = verdict(&found.sequences, &replicates, model.config().vocab_size);
        if format == Output::Json {
            let mut value = show::evaluation_json(&found, &replicates);
            let head = json!({
                "model": of_file(&self.model), "sae": of_file(&self.sae), "format": loaded.format.name(),
                "architecture": sae.activation().name(),
                "hook": place.reads.hook.to_string(), "hook_out": place.hook_out().map(|hook| hook.to_string()),
                "layer": place.site.hook.layer, "center_residual": place.site.center,
                "without_value_bias": place.site.without_value_bias, "S": sequences, "T": context_size, "bos": bos,
                "d_model": sae.d_in(), "d_out": sae.d_out(), "d_sae": sae.d_sae(), "k": sae.k(),
            });
            let mut object = head.as_object().cloned().unwrap_or_default();
            object.append(&mut value);
            object.insert("verdict".to_owned(), serde_json::to_value(&verdict)?);
            object.insert("notes".to_owned(), json!(loaded.notes));
            return output::result_line(serde_json::to_string_pretty(&Value::Object(object))?);
        }
        output::result(format_args!(
            "{}\n\n{} {place}, {sequences} sequences of {context_size} tokens{}\n{}\n\n{}{}",
            verdict.text,
            self.sae.display(),
            if bos.is_some() { ", the first BOS" } else { "" },
            show::losses(&found, model.config().vocab_size),
            show::evaluation_table(&found, &replicates, self.all),
            markdown::notes(&loaded.notes)
        ))
    }

    /// An SAE from its files, and where it is evaluated.
    fn sae(&self, path: &Path, model: &Decoder, progress: Progress) -> Result<(LoadedSae, Place)> {
        let loaded = formats::load(&fetch::sae(path, progress)?, model.device())?;
        let place = self.place.place(path, &loaded, model.config(), false)?;
        Ok((loaded, place))
    }
}
