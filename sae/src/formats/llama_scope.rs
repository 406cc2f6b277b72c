//! Llama Scope (He et al. 2024, arXiv:2410.20526) and Llama Scope R1-Distill, as OpenMOSS' `lm_saes` keeps an SAE.
//!
//! ```text
//! encoder.weight [d_sae, d], encoder.bias [d_sae], decoder.weight [d, d_sae], decoder.bias [d]
//! log_jumprelu_threshold [d_sae]                     where a threshold of each latent was trained
//! dataset_average_activation_norm.HOOK []            of 2025, for each of its hooks
//! ```
//!
//! Of 2024: `hyperparams.json`, `lm_config.json` and `checkpoints/final.safetensors`. It is read as `SparseAutoEncoder.from_config` does
//! (<https://github.com/OpenMOSS/Language-Model-SAEs/blob/1e710367/src/lm_saes/sae.py>): with s = √d/‖x‖ of the average norms in
//! `dataset_average_activation_norm`,
//!
//! ```text
//! b_enc /= s_in;  b_dec /= s_out;  W_dec ·= s_in/s_out                  norm_activation: dataset-wise
//! W_enc ·= ‖W_dec[i]‖;  b_enc ·= ‖W_dec[i]‖;  W_dec[i] /= ‖W_dec[i]‖    sparsity_include_decoder_norm
//! ```
//!
//! and TopK becomes a JumpReLU with one threshold where `jump_relu_threshold` is positive, compared in these units. SAELens 6 leaves the
//! decoder's norms out, so that other latents are active there.
//!
//! Of 2025: `config.json` and `sae_weights.safetensors`. Thresholds were trained on activations times s_in, and on latents times their decoder
//! norms (<https://github.com/OpenMOSS/Language-Model-SAEs/blob/b6471ee4/src/lm_saes/sae.py>, `normalize_activations` and `encode`), so
//! that s is folded as W_enc ·= s_in, W_dec /= s_out, b_dec /= s_out, behind the norms. OpenMOSS' own folding into the biases would leave
//! the thresholds in other units than what is compared with them; SAELens 6 leaves the decoder's norms out, and takes s from its registry.

use std::path::{Path, PathBuf};

use super::json::{Keys, read_json, read_object};
use super::{HostSae, Metadata, Parsed, UNSCALED_DATASET, checked_k};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::TensorFile;

/// The settings of 2024.
pub(super) const CONFIG: &str = "hyperparams.json";
/// Those of 2025.
const CONFIG_2025: &str = "config.json";
/// What only they have, of all that may be called so.
const MARK_2025: &str = "hook_point_in";
/// Logarithms of the latents' thresholds: where each version of `lm_saes` keeps them.
const LOG_THRESHOLD: [&str; 2] = ["log_jumprelu_threshold", "activation_function.log_jumprelu_threshold"];
/// The model and its text.
const MODEL: &str = "lm_config.json";

/// Where the weights may be, in the order in which OpenMOSS looks.
const WEIGHTS: [&str; 3] =
    ["sae_weights.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors"];

/// The weights in a directory of an SAE.
pub(super) fn weights(dir: &Path) -> Option<PathBuf> {
    let has_settings = dir.join(CONFIG).is_file() || is_of_2025(dir);
    WEIGHTS.iter().map(|name| dir.join(name)).find(|path| has_settings && path.is_file())
}

/// Whether a directory has the settings of 2025.
fn is_of_2025(dir: &Path) -> bool {
    // SAELens' weights may have the same name.
    let alone = !dir.join(CONFIG).is_file() && !dir.join("cfg.json").is_file();
    alone && read_json(&dir.join(CONFIG_2025)).is_ok_and(|config| config.get(MARK_2025).is_some())
}

pub(super) fn read(dir: &Path, weights: &Path) -> Result<Parsed> {
    let of_2025 = is_of_2025(dir);
    let path = dir.join(if of_2025 { CONFIG_2025 } else { CONFIG });
    let config = read_object(&path)?;
    let keys = Keys::new(&path, &config);
    let refuse = |why: String| Err(SaeError::config(&path, why));
    let width = keys.size("d_model")?;
    let file = TensorFile::open(weights, if of_2025 { CONFIG_2025 } else { CONFIG })?;
    let [d_sae, _] = file.matrix_shape("encoder.weight")?;
    if let Some(said) = keys.count("d_sae")?.filter(|said| *said != d_sae) {
        return refuse(format!("d_sae is {said}, but the weights have {d_sae} latents"));
    }
    if let Some(kind) = keys.text("sae_type")?.filter(|kind| *kind != "sae") {
        return refuse(format!("sae_type `{kind}` is not supported; sae is"));
    }
    if let Some(factor) =
        keys.number("expansion_factor")?.filter(|factor| of_2025 && (width as f64 * factor) as usize != d_sae)
    {
        return refuse(format!(
            "expansion_factor {factor} of d_model {width} is not the {d_sae} latents that the weights have"
        ));
    }
    if keys.flag("use_glu_encoder")? == Some(true) {
        return refuse("use_glu_encoder is true: a gated linear unit as encoder is not supported".to_owned());
    }
    let by_norm = keys.flag("sparsity_include_decoder_norm")?.unwrap_or(true);
    let threshold = keys.number("jump_relu_threshold")?.unwrap_or(0.0);
    if threshold < 0.0 {
        return refuse(format!("jump_relu_threshold is {threshold}: negative latents are not supported"));
    }
    let log_threshold = LOG_THRESHOLD.into_iter().find(|name| file.has(name));
    let jumps = || Activation::JumpRelu { threshold: vec![threshold as f32; d_sae] };
    let activation = match keys.text("act_fn")?.unwrap_or("relu").to_lowercase().as_str() {
        "relu" => Activation::Relu,
        "jumprelu" => match log_threshold {
            Some(name) => {
                Activation::JumpRelu { threshold: exponentials(&file.floats(name, &[d_sae])?, weights, name)? }
            }
            None if of_2025 && threshold == 0.0 => {
                return refuse(format!("act_fn is jumprelu, and the weights lack `{}`", LOG_THRESHOLD[0]));
            }
            None => jumps(),
        },
        "topk" if threshold > 0.0 => jumps(),
        "topk" => Activation::TopK { k: checked_k(&path, keys.count("top_k")?, d_sae)?, by_decoder_norm: false },
        other => return refuse(format!("act_fn `{other}` is not supported; relu, topk and jumprelu are")),
    };
    let biased = keys.flag("use_decoder_bias")?.unwrap_or(true);
    let [hook_in, hook_out] = [keys.text("hook_point_in")?, keys.text("hook_point_out")?];
    let predicts = hook_out.is_some_and(|out| Some(out) != hook_in);
    let mut sae = HostSae {
        d_in: width,
        d_out: width,
        d_sae,
        w_enc: file.floats("encoder.weight", &[d_sae, width])?,
        b_enc: file.floats("encoder.bias", &[d_sae])?,
        w_dec: file.transposed("decoder.weight", [d_sae, width])?,
        b_dec: if biased { file.floats("decoder.bias", &[width])? } else { vec![0.0; width] },
        activation,
        normalization: Normalization::None,
        apply_b_dec_to_input: biased && keys.flag("apply_decoder_bias_to_pre_encoder")?.unwrap_or(!of_2025),
        transcoding: predicts.then_some(Transcoding { skip: None }),
    };
    let mut notes = Vec::new();
    let norm_of = |norm: Option<f64>, called: String| match norm {
        Some(norm) if norm > 0.0 => Ok((width as f64).sqrt() / norm),
        Some(norm) => Err(SaeError::config(&path, format!("{called} is {norm}; it must be a positive number"))),
        None => Err(SaeError::config(&path, format!("{called} is missing"))),
    };
    let scales = match keys.text("norm_activation")?.unwrap_or(if of_2025 { "dataset-wise" } else { "token-wise" }) {
        "dataset-wise" if of_2025 => {
            let scale = |hook: Option<&str>| -> Result<Option<f64>> {
                let name = format!("dataset_average_activation_norm.{}", hook.unwrap_or_default());
                if !file.has(&name) {
                    return Ok(None);
                }
                norm_of(Some(file.scalar(&name)?), format!("{name} in {}", weights.display())).map(Some)
            };
            let scales = scale(hook_in)?.zip(scale(hook_out.or(hook_in))?);
            if scales.is_none() {
                notes.push(UNSCALED_DATASET.to_owned());
            }
            scales
        }
        "dataset-wise" => {
            let norms = keys.object("dataset_average_activation_norm")?;
            let scale = |key: &str| norm_of(norms.number(key)?, format!("dataset_average_activation_norm.{key}"));
            Some((scale("in")?, scale("out")?))
        }
        "inference" | "none" => None,
        other => {
            return refuse(format!(
                "norm_activation `{other}` scales each token's output otherwise and is not supported; dataset-wise and inference are"
            ));
        }
    };
    if let Some((input, output)) = scales.filter(|_| !of_2025) {
        sae.fold_norms(input, output);
    }
    if by_norm {
        sae.bring_decoder_to_unit_norm();
    }
    if let Some((input, output)) = scales.filter(|_| of_2025) {
        if sae.apply_b_dec_to_input && input != output {
            return refuse(
                "apply_decoder_bias_to_pre_encoder is true, and what is read and what is predicted are scaled otherwise".to_owned(),
            );
        }
        sae = sae.folding_scales(input, output);
    }
    let mut metadata = Metadata { hook_name: hook_in.map(str::to_owned), ..Metadata::default() };
    metadata.hook_name_out = hook_out.filter(|_| predicts).map(str::to_owned);
    let model = dir.join(MODEL);
    if model.is_file() {
        match read_json(&model) {
            Err(error) => notes.push(format!("{error}; which model it belongs to is not known")),
            Ok(config) => metadata.model_name = Keys::new(&model, &config).text("model_name")?.map(str::to_owned),
        }
    }
    metadata.keep_source("lm_saes", &config);
    Ok(Parsed { sae, metadata, notes })
}

/// Thresholds of their logarithms.
fn exponentials(logarithms: &[f32], weights: &Path, name: &str) -> Result<Vec<f32>> {
    let thresholds: Vec<f32> = logarithms.iter().map(|&log| f64::from(log).exp() as f32).collect();
    match thresholds.iter().position(|threshold| !threshold.is_finite()) {
        Some(at) => {
            Err(SaeError::config(weights, format!("`{name}` is {} at {at}: no finite threshold", logarithms[at])))
        }
        None => Ok(thresholds),
    }
}
