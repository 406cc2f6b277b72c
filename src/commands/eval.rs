//! `assay eval`: one SAE, on a token file or on text.

mod saebench;
mod show;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use assay_models::tokens::{Reading, RowUse, TokenSource, read_sequences};
use assay_models::{Decoder, HookPoint, ModelError};
use assay_probes::evaluate::Codec;
use assay_probes::stats::Resamples;
use assay_probes::{EvalConfig, evaluate};
use assay_sae::{LoadedSae, Sae, formats};
use burn::tensor::Tensor;
use ndarray::Array2;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::belonging::Used;
use crate::files::write_atomic;
use crate::progress::Progress;
use crate::replicates::Replicates;
use crate::verdict::verdict;
use crate::{device, fetch};

/// Evaluate one SAE: patch its reconstructions into the model and measure what changes.
///
/// Any SAE that assay reads: its own, or those of SAELens, sparsify and dictionary_learning. Below the table stands a verdict:
/// whether R² tells what the SAE does to the model, and if not, why not.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay eval --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tokens tests/golden/eval-small/tokens.safetensors --json\n  assay eval --model models/bundled/small --sae tests/golden/eval-small/L3_k8 --text README.md"
)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct EvalArgs {
    /// Model: a Hugging Face checkpoint directory (GPT-NeoX), or its name on the hub, org/name[@revision]
    #[arg(long, value_name = "DIR|NAME")]
    model: PathBuf,
    /// SAE: a directory of SAELens, sparsify or dictionary_learning (safetensors), or its name on the hub,
    /// org/name[@revision][:path]
    #[arg(long, value_name = "DIR|NAME")]
    sae: PathBuf,
    /// Token ids: safetensors, Parquet or JSON lines with a tensor, column or field `tokens` or `input_ids`, one sequence per row
    #[arg(long, value_name = "FILE", group = "input")]
    tokens: Option<PathBuf>,
    /// Text instead of token ids, for a quick look: plain, JSON or Parquet, cut into contexts by the model's tokenizer
    #[arg(long, value_name = "FILE", group = "input")]
    text: Option<PathBuf>,
    /// Column, field or tensor of the token ids or of the text, if not `tokens`, `input_ids` or `text`
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Leave out lines of JSON that can't be read, and count them
    #[arg(long)]
    skip_bad_lines: bool,
    /// Hook point, if not the one that the SAE names
    #[arg(long, value_name = "NAME")]
    hook: Option<HookPoint>,
    /// Use only the first N sequences [default: all; of text, 64]
    #[arg(long, value_name = "N")]
    sequences: Option<usize>,
    /// Use only the first N tokens of each sequence [default: all; of text, 128]
    #[arg(long, value_name = "N")]
    context_size: Option<usize>,
    /// Subtract the mean over d_model at the hook, for SAEs of TransformerLens' processed models that don't say so themselves
    #[arg(long)]
    center_residual: bool,
    /// Sequences of one forward pass
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Draws of labels from the model's own output, for `fwd` and `kl_pred`; 0 leaves them out
    #[arg(long, value_name = "N", default_value_t = 4)]
    fisher_samples: usize,
    /// Bootstrap replicates of the 95 % intervals
    #[arg(long, value_name = "N", default_value_t = 5000)]
    resamples: usize,
    /// Seed of the bootstrap and of those draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write activations (`x`) and reconstructions (`recon`), f32 [S·T, d_model], to a safetensors file
    #[arg(long, value_name = "FILE")]
    save_reconstructions: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    format: Output,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// With --format saebench: write {release}_{sae}_eval_results.json here instead of printing it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How an evaluation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table and the verdict
    Table,
    /// One JSON object
    Json,
    /// One JSON object with the keys of SAEBench's core evaluation
    Saebench,
}

/// Contexts of a quick look.
const TEXT_SEQUENCES: usize = 64;
const TEXT_CONTEXT: usize = 128;

impl EvalArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model, the SAE or the tokens are unusable or don't belong together.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let output = if self.json { Output::Json } else { self.format };
        ensure!(self.out.is_none() || output == Output::Saebench, "--out is for --format saebench");
        let device = device::open(device_name)?.device;
        let checkpoint = fetch::model(&self.model, progress)?;
        let model = Decoder::load(&checkpoint, &device)?;
        let mut loaded = formats::load(&fetch::sae(&self.sae, progress)?, &device)?;
        let hook = self.hook(&loaded)?;
        let tokens = self.tokens(&model, &checkpoint, progress)?;
        let used = Used { model: &self.model, checkpoint: &checkpoint, hook, eos: model.config().eos_token_id };
        loaded.notes.extend(used.notes(&loaded.metadata, tokens.view()));
        let sae = &loaded.sae;
        let mut stage = progress.stage(format!("evaluate {hook}"), tokens.nrows() as u64, "sequences");
        let config = EvalConfig {
            batch: self.batch,
            center_residual: self.center_residual || loaded.metadata.center_residual,
            fisher_samples: self.fisher_samples,
            fisher_seed: self.seed,
            kl_zero: output == Output::Saebench,
        };
        let found = evaluate(&model, hook, tokens.view(), &[sae as &dyn Codec], config, |n| {
            stage.advance(n as u64, String::new);
            ControlFlow::Continue(())
        })
        .with_context(|| {
            let tokens = self.token_path().display();
            format!("SAE {}, model {}, tokens {tokens}", self.sae.display(), self.model.display())
        })?
        .remove(0);
        stage.finish("");
        if let Some(path) = &self.save_reconstructions {
            save_reconstructions(path, &model, hook, &tokens, sae, config)?;
        }
        let of_file = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        if output == Output::Saebench {
            let dataset = of_file(self.token_path()).unwrap_or_default();
            let report =
                saebench::Report { loaded: &loaded, found: &found, hook, tokens: tokens.dim(), dataset, config };
            return report.write(&self.sae, self.out.as_deref());
        }
        let resamples = Resamples::draw(tokens.nrows(), self.resamples, self.seed);
        let replicates = Replicates::new(&found.sequences, &resamples.counts());
        let verdict = verdict(&found.sequences, &replicates);
        if output == Output::Json {
            let mut value = show::evaluation_json(&found, &replicates);
            let head = json!({
                "model": of_file(&self.model), "sae": of_file(&self.sae), "format": loaded.format.name(),
                "architecture": sae.activation().name(),
                "hook": hook.to_string(), "layer": hook.layer, "S": tokens.nrows(), "T": tokens.ncols(),
                "d_model": sae.d_model(), "d_sae": sae.d_sae(), "k": sae.k(),
            });
            let mut object = head.as_object().cloned().unwrap_or_default();
            object.append(&mut value);
            object.insert("verdict".to_owned(), serde_json::to_value(&verdict)?);
            object.insert("notes".to_owned(), json!(loaded.notes));
            println!("{}", serde_json::to_string_pretty(&Value::Object(object))?);
        } else {
            println!("{} at {hook}, {} sequences of {} tokens\n", self.sae.display(), tokens.nrows(), tokens.ncols());
            print!("{}", show::evaluation_table(&found, &replicates));
            println!("\nVerdict: {}", verdict.text);
            for note in &loaded.notes {
                println!("\nNote: {note}");
            }
        }
        Ok(())
    }

    /// Where to patch: as asked for, else as the SAE says.
    fn hook(&self, loaded: &LoadedSae) -> Result<HookPoint> {
        let (sae, hint) =
            (self.sae.display(), "give --hook blocks.L.hook_resid_post, L the layer that it was trained on");
        let (hook, whose) = match (self.hook, &loaded.metadata.hook_name) {
            (Some(hook), _) => (hook, "--hook".to_owned()),
            (None, None) => bail!("{sae} names no hook; {hint}"),
            (None, Some(name)) => match name.parse() {
                Ok(hook) => (hook, format!("{sae} names the hook {hook}")),
                Err(ModelError::HookName { .. }) => {
                    bail!(
                        "{sae} names the hook `{name}`, which is none of this model's; if it is the residual stream, {hint}"
                    )
                }
                Err(error) => return Err(error).context(sae.to_string()),
            },
        };
        if !hook.is_patchable() {
            return Err(ModelError::NotPatchable { hook })
                .with_context(|| format!("{whose}; for an SAE of the residual stream {hint}"));
        }
        Ok(hook)
    }

    /// The file of tokens or text.
    fn token_path(&self) -> &Path {
        self.tokens.as_deref().or(self.text.as_deref()).unwrap_or_else(|| Path::new(""))
    }

    fn tokens(&self, model: &Decoder, checkpoint: &Path, progress: Progress) -> Result<Array2<u32>> {
        ensure!(self.sequences != Some(0), "--sequences 0: at least one sequence is needed");
        let path = self.token_path();
        let reading =
            |usual: Reading| Reading { column: self.column.clone(), skip_bad_lines: self.skip_bad_lines, ..usual };
        match &self.text {
            Some(path) => self.text_contexts(path, &reading(Reading::text()), model, checkpoint, progress),
            None => {
                let (tokens, notes) =
                    read_sequences(path, &reading(Reading::tokens()), self.sequences, self.context_size)?;
                let wanted = self.sequences.unwrap_or(tokens.nrows());
                ensure!(
                    wanted == tokens.nrows(),
                    "{} contains {} sequences of {} tokens; {wanted} of {} are asked for",
                    path.display(),
                    tokens.nrows(),
                    tokens.ncols(),
                    self.context_size.unwrap_or(tokens.ncols())
                );
                notes.iter().for_each(|note| progress.say(note));
                Ok(tokens)
            }
        }
    }

    /// The first contexts of a text.
    fn text_contexts(
        &self,
        path: &Path,
        reading: &Reading,
        model: &Decoder,
        checkpoint: &Path,
        progress: Progress,
    ) -> Result<Array2<u32>> {
        let context_size = self.context_size.unwrap_or(TEXT_CONTEXT);
        let eos = model.config().eos_token_id;
        let source = TokenSource::open_as(path, context_size, RowUse::Split, Some(checkpoint), eos, reading)?;
        let tokens = match source.read(0, self.sequences.unwrap_or(TEXT_SEQUENCES)) {
            // A short text is read whole; a long one only as far as it is needed.
            Err(ModelError::TooFewTokens { available, .. }) if self.sequences.is_none() => {
                ensure!(
                    available > 0,
                    "{} contains less than one context of {context_size} tokens; lower --context-size",
                    path.display()
                );
                source.read(0, available)?
            }
            tokens => tokens?,
        };
        source.notes().iter().for_each(|note| progress.say(note));
        Ok(tokens)
    }
}

fn save_reconstructions(
    path: &Path,
    model: &Decoder,
    hook: HookPoint,
    tokens: &Array2<u32>,
    sae: &Sae,
    config: EvalConfig,
) -> Result<()> {
    let (mut x, mut recon) = (Vec::new(), Vec::new());
    for rows in tokens.axis_chunks_iter(ndarray::Axis(0), config.batch.max(1)) {
        let h = model.capture(rows, &[hook])?.remove(0);
        let h = if config.center_residual { assay_models::decoder::center_residual(h) } else { h };
        let [batch, context, d_model] = h.dims();
        let h: Tensor<2> = h.reshape([batch * context, d_model]);
        for (to, from) in [(&mut x, h.clone()), (&mut recon, sae.reconstruct(h).0)] {
            to.extend(
                from.into_data()
                    .try_into_vec::<f32>()
                    .expect("activations are f32")
                    .into_iter()
                    .flat_map(f32::to_le_bytes),
            );
        }
    }
    let shape = vec![tokens.len(), sae.d_model()];
    let view = |bytes| TensorView::new(Dtype::F32, shape.clone(), bytes);
    let bytes = safetensors::serialize([("x", view(&x)?), ("recon", view(&recon)?)], None::<HashMap<String, String>>)?;
    write_atomic(path, &bytes)
}
