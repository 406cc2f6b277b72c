//! An evaluation with the keys of SAEBench's `core` evaluation (Karvonen et al. 2025, arXiv:2503.09532), so that its plots and
//! tables take assay's numbers. The names are SAEBench's, the definitions ours, each in one place:
//!
//! | key | what it holds |
//! | --- | --- |
//! | `ce_loss_score`, `ce_loss_with_ablation`, `_with_sae`, `_without_sae` | `ce_loss_score`, `ce_zero`, `ce_recon`, `ce_orig` |
//! | `kl_div_with_sae`, `kl_div_with_ablation`, `kl_div_score` | `kl`, the same of zero ablation, (ablation − SAE)/ablation; SAEBench also counts the last position, whose next token nobody knows |
//! | `explained_variance` | `r2`: 1 − SSE/SST, not SAEBench's formula of 2025, which could exceed 1 |
//! | `explained_variance_legacy` | mean over tokens of 1 − ‖δ‖²/‖a − ā‖²; ā over the evaluation set, in SAEBench over a batch |
//! | `mse` | `sse_per_token`: ‖δ‖² summed over dimensions, mean over tokens; SAEBench divides by the tokens of a batch once more |
//! | `cossim`, `l2_ratio`, `relative_reconstruction_bias` | `cosine`, `l2_ratio`, `recon_bias`, pooled over all tokens |
//! | `l2_norm_in`, `l2_norm_out`, `l1`, `l0` | means over tokens |
//! | per latent | [`assay_probes::latents`], [`assay_probes::rate`] |
//!
//! No token is left out; SAEBench leaves out padding and the ends of texts. SAEBench's schema takes numbers only: what is
//! undefined is −1 in this output, as SAEBench writes it, and null in all others.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use assay_probes::latents::{LatentWeights, latent_weights};
use assay_probes::metrics::metric;
use assay_probes::{Evaluation, Subset};
use assay_sae::LoadedSae;
use serde_json::{Value, json};

use super::place::Place;
use crate::catalogue;
use crate::files::write_atomic;
use crate::output;

/// An evaluation and what it was made of.
pub(super) struct Report<'a> {
    pub loaded: &'a LoadedSae,
    pub found: &'a Evaluation,
    pub place: Place,
    /// Sequences and tokens of each.
    pub tokens: (usize, usize),
    /// Name of the file that they come from.
    pub dataset: String,
    /// Sequences of one forward pass.
    pub batch: usize,
}

/// The release and the id under which SAEBench would know an SAE: the catalogue's, else the names of the last two directories.
pub(super) fn known_as(sae: &Path) -> Result<(String, String)> {
    let full = sae.canonicalize().unwrap_or_else(|_| sae.to_owned());
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name).map_or_else(|| "sae".to_owned(), |n| n.to_string_lossy().into_owned())
    };
    Ok(match catalogue::published(sae)? {
        Some(entry) => (entry.release.name.to_owned(), entry.sae.id.to_owned()),
        None => (name(full.parent()), name(Some(&full))),
    })
}

impl Report<'_> {
    /// Prints the report, or writes it into `out` under the name that SAEBench would give it.
    pub(super) fn write(&self, sae: &Path, out: Option<&Path>) -> Result<()> {
        let (release, id) = known_as(sae)?;
        let text = serde_json::to_string_pretty(&self.json(&release, &id))? + "\n";
        let Some(out) = out else {
            return output::result(text);
        };
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        let path = out.join(format!("{release}_{id}_eval_results.json").replace('/', "_"));
        write_atomic(&path, text.as_bytes())?;
        output::result_line(path.display())
    }

    fn json(&self, release: &str, id: &str) -> Value {
        let weights = latent_weights(&self.loaded.sae);
        let (metrics, details) = (self.metrics(&weights), self.details(&weights));
        let assay = concat!("assay ", env!("CARGO_PKG_VERSION"));
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        json!({
            "eval_type_id": "core",
            "eval_config": self.eval_config(),
            "eval_id": eval_id(&metrics, &details),
            "datetime_epoch_millis": millis,
            "eval_result_metrics": metrics,
            "eval_result_details": details,
            "eval_result_unstructured": {},
            "sae_bench_commit_hash": assay,
            "sae_lens_id": id,
            "sae_lens_release_id": release,
            "sae_lens_version": assay,
            "sae_cfg_dict": self.sae_cfg(),
        })
    }

    fn eval_config(&self) -> Value {
        let (sequences, context_size) = self.tokens;
        let batches = sequences.div_ceil(self.batch);
        json!({
            "model_name": self.loaded.metadata.model_name.clone().unwrap_or_default(),
            "llm_dtype": "float32",
            "batch_size_prompts": self.batch,
            "n_eval_reconstruction_batches": batches,
            "n_eval_sparsity_variance_batches": batches,
            "dataset": self.dataset,
            "context_size": context_size,
            "compute_kl": true,
            "compute_ce_loss": true,
            "compute_l2_norms": true,
            "compute_sparsity_metrics": true,
            "compute_variance_metrics": true,
            "compute_featurewise_density_statistics": true,
            "compute_featurewise_weight_based_metrics": true,
            "exclude_special_tokens_from_reconstruction": false,
            "verbose": false,
        })
    }

    fn metrics(&self, weights: &LatentWeights) -> Value {
        let (core, firing) = (&self.found.core, &self.found.firing);
        let sums = self.found.total(Subset::All);
        let ours = |name: &str| metric(name).and_then(|m| (m.value)(&sums));
        let tokens = self.tokens.0 * self.tokens.1;
        let mean = |cosines: &[Option<f64>]| {
            let known: Vec<f64> = cosines.iter().flatten().copied().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        json!({
            "model_behavior_preservation": {
                "kl_div_score": number(core.kl_score(ours("kl"))),
                "kl_div_with_ablation": number(core.kl_zero()),
                "kl_div_with_sae": number(ours("kl")),
            },
            "model_performance_preservation": {
                "ce_loss_score": number(ours("ce_loss_score")),
                "ce_loss_with_ablation": number(ours("ce_zero")),
                "ce_loss_with_sae": number(ours("ce_recon")),
                "ce_loss_without_sae": number(ours("ce_orig")),
            },
            "reconstruction_quality": {
                "explained_variance": number(ours("r2")),
                "explained_variance_legacy": number(core.explained_variance_legacy()),
                "mse": number(ours("sse_per_token")),
                "cossim": number(ours("cosine")),
            },
            "shrinkage": {
                "l2_norm_in": number(core.l2_norm_in()),
                "l2_norm_out": number(core.l2_norm_out()),
                "l2_ratio": number(ours("l2_ratio")),
                "relative_reconstruction_bias": number(ours("recon_bias")),
            },
            "sparsity": { "l0": number(ours("l0")), "l1": number(core.l1()) },
            "token_stats": {
                "total_tokens_eval_reconstruction": tokens,
                "total_tokens_eval_sparsity_variance": tokens,
            },
            "misc_metrics": {
                "freq_over_1_percent": number(firing.latents_above(0.01)),
                "freq_over_10_percent": number(firing.latents_above(0.1)),
                "normalized_freq_over_1_percent": number(firing.firings_above(0.01)),
                "normalized_freq_over_10_percent": number(firing.firings_above(0.1)),
                "average_max_encoder_cosine_sim": number(mean(&weights.max_encoder_cosine)),
                "average_max_decoder_cosine_sim": number(mean(&weights.max_decoder_cosine)),
                "frac_alive": number(firing.alive_frac()),
            },
        })
    }

    fn details(&self, weights: &LatentWeights) -> Value {
        let (density, consistent) = (self.found.firing.density(), self.found.firing.consistent_activation());
        let latent = |index: usize| {
            json!({
                "index": index,
                "feature_density": density[index],
                "consistent_activation_heuristic": number(consistent[index]),
                "encoder_bias": weights.encoder_bias[index],
                "encoder_norm": weights.encoder_norm[index],
                "encoder_decoder_cosine_sim": number(weights.encoder_decoder_cosine[index]),
                "max_decoder_cosine_sim": number(weights.max_decoder_cosine[index]),
                "max_encoder_cosine_sim": number(weights.max_encoder_cosine[index]),
            })
        };
        (0..density.len()).map(latent).collect()
    }

    fn sae_cfg(&self) -> Value {
        let (sae, metadata) = (&self.loaded.sae, &self.loaded.metadata);
        let mut cfg = json!({
            "architecture": sae.activation().name(),
            "d_in": sae.d_in(),
            "d_sae": sae.d_sae(),
            "k": sae.k(),
            "apply_b_dec_to_input": sae.applies_b_dec_to_input(),
            "normalize_activations": sae.normalization().name(),
            "hook_name": self.place.reads.hook.to_string(),
            "hook_layer": self.place.reads.hook.layer,
            "model_name": metadata.model_name,
            "dataset_path": metadata.dataset_path,
            "context_size": metadata.context_size,
            "prepend_bos": metadata.prepend_bos,
        });
        if let Some(hook) = self.place.hook_out() {
            cfg["hook_name_out"] = json!(hook.to_string());
        }
        cfg
    }
}

/// A value, or −1 where it is undefined: SAEBench's schema has no null.
fn number(value: Option<f64>) -> Value {
    json!(value.unwrap_or(-1.0))
}

/// In the form of a UUID; the same for the same results.
fn eval_id(metrics: &Value, details: &Value) -> String {
    let hash = blake3::hash(format!("{metrics}{details}").as_bytes()).to_hex();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hash[range].to_owned());
    parts.join("-")
}
