//! Llama Scope (He et al. 2024, arXiv:2410.20526), as OpenMOSS' `lm_saes` of October 2024 keeps an SAE: `hyperparams.json`,
//! `lm_config.json` beside it, and `checkpoints/final.safetensors`.
//!
//! ```text
//! encoder.weight [d_sae, d], encoder.bias [d_sae], decoder.weight [d, d_sae], decoder.bias [d]
//! ```
//!
//! It is read as `SparseAutoEncoder.from_config` does
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

use std::path::{Path, PathBuf};

use super::json::{Keys, read_json, read_object};
use super::{HostSae, Metadata, Parsed, checked_k};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::TensorFile;

pub(super) const CONFIG: &str = "hyperparams.json";
/// The model and its text.
const MODEL: &str = "lm_config.json";

/// Where the weights may be, in the order in which OpenMOSS looks.
const WEIGHTS: [&str; 3] =
    ["sae_weights.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors"];

/// The weights in a directory.
pub(super) fn weights(dir: &Path) -> Option<PathBuf> {
    WEIGHTS.iter().map(|name| dir.join(name)).find(|path| path.is_file())
}

pub(super) fn read(dir: &Path, weights: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let config = read_object(&path)?;
    let keys = Keys::new(&path, &config);
    let refuse = |why: String| Err(SaeError::config(&path, why));
    let width = keys.size("d_model")?;
    let file = TensorFile::open(weights, CONFIG)?;
    let [d_sae, _] = file.matrix_shape("encoder.weight")?;
    if let Some(said) = keys.count("d_sae")?.filter(|said| *said != d_sae) {
        return refuse(format!("d_sae is {said}, but the weights have {d_sae} latents"));
    }
    if keys.flag("use_glu_encoder")? == Some(true) {
        return refuse("use_glu_encoder is true: a gated linear unit as encoder is not supported".to_owned());
    }
    let by_norm = keys.flag("sparsity_include_decoder_norm")?.unwrap_or(true);
    let threshold = keys.number("jump_relu_threshold")?.unwrap_or(0.0);
    if threshold < 0.0 {
        return refuse(format!("jump_relu_threshold is {threshold}: negative latents are not supported"));
    }
    let jumps = || Activation::JumpRelu { threshold: vec![threshold as f32; d_sae] };
    let activation = match keys.text("act_fn")?.unwrap_or("relu").to_lowercase().as_str() {
        "relu" => Activation::Relu,
        "jumprelu" => jumps(),
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
        apply_b_dec_to_input: biased && keys.flag("apply_decoder_bias_to_pre_encoder")?.unwrap_or(true),
        transcoding: predicts.then_some(Transcoding { skip: None }),
    };
    match keys.text("norm_activation")?.unwrap_or("token-wise") {
        "dataset-wise" => {
            let norms = keys.object("dataset_average_activation_norm")?;
            let scale = |key: &str| match norms.number(key)? {
                Some(norm) if norm > 0.0 => Ok((width as f64).sqrt() / norm),
                norm => Err(SaeError::config(
                    &path,
                    format!("dataset_average_activation_norm.{key} is {norm:?}; it must be a positive number"),
                )),
            };
            let (input, output) = (scale("in")?, scale("out")?);
            sae.fold_norms(input, output);
        }
        "inference" | "none" => {}
        other => {
            return refuse(format!(
                "norm_activation `{other}` scales each token's output otherwise and is not supported; dataset-wise and inference are"
            ));
        }
    }
    if by_norm {
        sae.bring_decoder_to_unit_norm();
    }
    let mut metadata = Metadata { hook_name: hook_in.map(str::to_owned), ..Metadata::default() };
    metadata.hook_name_out = hook_out.filter(|_| predicts).map(str::to_owned);
    let mut notes = Vec::new();
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
