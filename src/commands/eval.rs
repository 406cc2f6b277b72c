//! `assay eval`: one SAE on one token file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use assay_models::tokens::read_token_file;
use assay_models::{Decoder, HookPoint};
use assay_probes::evaluate::Codec;
use assay_probes::metrics::{Kind, METRICS};
use assay_probes::stats::{Interval, Resamples};
use assay_probes::{EvalConfig, Evaluation, Subset, Sums, evaluate};
use assay_sae::checkpoint;
use burn::tensor::Tensor;
use ndarray::Array2;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};

use crate::files::write_atomic;
use crate::progress::Progress;
use crate::replicates::Replicates;
use crate::{device, fetch, markdown};

/// Evaluate one SAE: patch its reconstructions into the model and measure what changes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  assay eval --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tokens tests/golden/eval-small/tokens.safetensors --json"
)]
pub struct EvalArgs {
    /// Model: a Hugging Face checkpoint directory (GPT-NeoX), or its name on the hub, org/name[@revision]
    #[arg(long, value_name = "DIR|NAME")]
    model: PathBuf,
    /// SAE: a SAELens directory (cfg.json, sae_weights.safetensors), or its name on the hub, org/name[@revision][:path]
    #[arg(long, value_name = "DIR|NAME")]
    sae: PathBuf,
    /// Tokens: safetensors with an integer tensor `tokens` [S, T], or parquet with a column `tokens`
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Hook point, if not the one that the SAE names
    #[arg(long, value_name = "NAME")]
    hook: Option<HookPoint>,
    /// Use only the first N sequences
    #[arg(long, value_name = "N")]
    sequences: Option<usize>,
    /// Use only the first N tokens of each sequence
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
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const LEVEL: f64 = 0.95;

impl EvalArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model, the SAE or the tokens are unusable or don't belong together.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let device = device::open(device_name)?.device;
        let model = Decoder::load(&fetch::model(&self.model, progress)?, &device)?;
        let (sae, metadata) = checkpoint::load(&fetch::sae(&self.sae, progress)?, &device)?;
        let hook = match (self.hook, &metadata.hook_name) {
            (Some(hook), _) => hook,
            (None, Some(name)) => name.parse().with_context(|| format!("{}", self.sae.join("cfg.json").display()))?,
            (None, None) => anyhow::bail!(
                "{} names no hook; give --hook blocks.L.hook_resid_post",
                self.sae.join("cfg.json").display()
            ),
        };
        let tokens = self.read_tokens()?;
        let mut stage = progress.stage(format!("evaluate {hook}"), tokens.nrows() as u64, "sequences");
        let center_residual = self.center_residual || metadata.center_residual;
        let config = EvalConfig {
            batch: self.batch,
            center_residual,
            fisher_samples: self.fisher_samples,
            fisher_seed: self.seed,
        };
        let found = evaluate(&model, hook, tokens.view(), &[&sae as &dyn Codec], config, |n| {
            stage.advance(n as u64, String::new);
        })
        .with_context(|| {
            format!("SAE {}, model {}, tokens {}", self.sae.display(), self.model.display(), self.tokens.display())
        })?
        .remove(0);
        stage.finish("");
        if let Some(path) = &self.save_reconstructions {
            save_reconstructions(path, &model, hook, &tokens, &sae, config)?;
        }
        let resamples = Resamples::draw(tokens.nrows(), self.resamples, self.seed);
        let replicates = Replicates::new(&found.sequences, &resamples.counts());
        if self.json {
            let mut value = evaluation_json(&found, &replicates);
            let head = json!({
                "model": self.model.file_name().map(|n| n.to_string_lossy()),
                "sae": self.sae.file_name().map(|n| n.to_string_lossy()),
                "hook": hook.to_string(), "layer": hook.layer, "S": tokens.nrows(), "T": tokens.ncols(),
                "d_model": sae.d_model(), "d_sae": sae.d_sae(), "k": sae.k(),
            });
            let mut object = head.as_object().cloned().unwrap_or_default();
            object.append(&mut value);
            println!("{}", serde_json::to_string_pretty(&Value::Object(object))?);
        } else {
            println!("{} at {hook}, {} sequences of {} tokens\n", self.sae.display(), tokens.nrows(), tokens.ncols());
            print!("{}", evaluation_table(&found, &replicates));
        }
        Ok(())
    }

    fn read_tokens(&self) -> Result<Array2<u32>> {
        let tokens = read_token_file(&self.tokens)?;
        let rows = self.sequences.unwrap_or(tokens.nrows());
        let columns = self.context_size.unwrap_or(tokens.ncols());
        anyhow::ensure!(
            rows <= tokens.nrows() && columns <= tokens.ncols() && rows > 0 && columns > 1,
            "{} holds {} sequences of {} tokens; {rows} of {columns} are asked for",
            self.tokens.display(),
            tokens.nrows(),
            tokens.ncols()
        );
        Ok(tokens.slice(ndarray::s![..rows, ..columns]).to_owned())
    }
}

/// The columns of an evaluation as a JSON object: behaviour on all tokens at the top, reconstruction by subset below.
fn evaluation_json(found: &Evaluation, replicates: &Replicates) -> Map<String, Value> {
    let mut object = Map::new();
    let all = found.total(Subset::All);
    for metric in METRICS.iter().filter(|m| m.kind == Kind::Behaviour) {
        object.insert(metric.name.to_owned(), json!((metric.value)(&all)));
    }
    let l0 = assay_probes::metrics::metric("l0").and_then(|m| (m.value)(&all));
    for (name, value) in std::iter::once(("l0", l0)).chain(beside_sums(found)) {
        object.insert(name.to_owned(), json!(value));
    }
    for subset in Subset::ALL {
        let sums = found.total(subset);
        let mut nested = Map::new();
        for metric in METRICS {
            // A count of tokens is a whole number.
            let value = (metric.value)(&sums);
            let value = if metric.name == "tokens" { json!(value.map(|v| v as u64)) } else { json!(value) };
            if metric.kind == Kind::Reconstruction || subset != Subset::All {
                nested.insert(metric.name.to_owned(), value);
            }
        }
        object.insert(subset.name().to_owned(), Value::Object(nested));
    }
    let mut intervals = Map::new();
    for metric in METRICS.iter().filter(|m| m.name != "tokens") {
        let interval = replicates.interval(metric, Subset::All, LEVEL);
        intervals.insert(metric.name.to_owned(), interval.map_or(Value::Null, |i| json!([i.low, i.high])));
    }
    object.insert("intervals_95".to_owned(), Value::Object(intervals));
    let of = |field: fn(&Sums) -> f64| -> Vec<f64> {
        found.sequences.iter().map(|s| field(&s[Subset::All.index()]) / s[Subset::All.index()].scored).collect()
    };
    object.insert("per_sequence".to_owned(), json!({ "ce_orig": of(|s| s.ce_orig), "ce_recon": of(|s| s.ce_recon) }));
    object
}

/// The columns that are no functions of sums: rates of the code and the geometry at the hook.
fn beside_sums(found: &Evaluation) -> [(&'static str, Option<f64>); 8] {
    let pr = |top| found.spectrum.participation_ratio(top);
    [
        ("alive_frac", found.firing.alive_frac()),
        ("bits_per_token", found.firing.bits_per_token()),
        ("bits_bernoulli", found.firing.bits_bernoulli()),
        ("pr", pr(0)),
        ("pr_deflated_1", pr(1)),
        ("pr_deflated_2", pr(2)),
        ("pr_deflated_4", pr(4)),
        ("pr_deflated_8", pr(8)),
    ]
}

fn evaluation_table(found: &Evaluation, replicates: &Replicates) -> String {
    let mut table = markdown::Table::new(["metric", "all", "95 % interval", "no_first", "no_outlier"]);
    for metric in METRICS {
        let value = |subset| markdown::number((metric.value)(&found.total(subset)));
        let interval: Option<Interval> = replicates.interval(metric, Subset::All, LEVEL);
        table.row([
            metric.name.to_owned(),
            value(Subset::All),
            if metric.name == "tokens" { String::new() } else { markdown::interval(interval) },
            value(Subset::NoFirst),
            value(Subset::NoOutlier),
        ]);
    }
    for (name, value) in beside_sums(found) {
        table.row([name.to_owned(), markdown::number(value), String::new(), String::new(), String::new()]);
    }
    table.to_string()
}

fn save_reconstructions(
    path: &Path,
    model: &Decoder,
    hook: HookPoint,
    tokens: &Array2<u32>,
    sae: &assay_sae::Sae,
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
