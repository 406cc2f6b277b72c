//! Gemma Scope (Lieberum et al. 2024, arXiv:2408.05147): a `params.npz` for each SAE, and no configuration.
//!
//! ```text
//! W_enc [d_in, d_sae], W_dec [d_sae, d_out], b_enc [d_sae], b_dec [d_out], threshold [d_sae]
//! ```
//!
//! JumpReLU; b_dec is not subtracted from the input. What it belongs to is in names alone: the model and the hook in the repository's,
//! `google/gemma-scope-2b-pt-res`, and the layer in the directory's, `layer_12/width_16k/average_l0_82`.
//!
//! | repository | reads | predicts |
//! | --- | --- | --- |
//! | `…-res` | `hook_resid_post`; in `embedding/`, the embedding | |
//! | `…-mlp` | `hook_mlp_out`, after the norm behind the MLP | |
//! | `…-att` | `attn.hook_z`, all heads one after another | |
//! | `…-transcoders` | `ln2.hook_normalized`, without the norm's gain | `hook_mlp_out` |
//!
//! SAEs in `embedding/` were trained on rows of the embedding matrix, which the model multiplies by √d_model before its first layer. They are
//! brought to what the model computes, `hook_embed`: W_enc/√d, and W_dec and b_dec times √d. (SAELens leaves b_dec as it is.)

use std::path::Path;

use super::origin::Origin;
use super::{HostSae, Metadata, Parsed};
use crate::activation::{Activation, Normalization};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::Npz;

pub(super) fn read(weights: &Path) -> Result<Parsed> {
    let mut file = Npz::open(weights)?;
    // The first release had its matrices in lower case.
    let [w_enc, w_dec] = [("W_enc", "w_enc"), ("W_dec", "w_dec")]
        .map(|(name, lower)| if !file.has(name) && file.has(lower) { lower } else { name });
    if file.has("scaling_factor") {
        return Err(SaeError::config(
            weights,
            "a `scaling_factor`, from finetuning, changes what the SAE computes and is not supported",
        ));
    }
    let [d_in, d_sae] = file.matrix_shape(w_enc)?;
    let [_, d_out] = file.matrix_shape(w_dec)?;
    let origin = Origin::of(weights);
    let place = Place::of(&origin);
    let predicts = matches!(place.site, Some(Site::Transcoder)) || d_in != d_out;
    let sae = HostSae {
        d_in,
        d_out,
        d_sae,
        w_enc: file.transposed(w_enc, [d_sae, d_in])?,
        b_enc: file.floats("b_enc", &[d_sae])?,
        w_dec: file.floats(w_dec, &[d_sae, d_out])?,
        b_dec: file.floats("b_dec", &[d_out])?,
        activation: Activation::JumpRelu { threshold: file.floats("threshold", &[d_sae])? },
        normalization: Normalization::None,
        apply_b_dec_to_input: false,
        transcoding: predicts.then_some(Transcoding { skip: None }),
    };
    let mut notes = Vec::new();
    let sae = if place.is_embedding {
        notes.push(
            "an SAE of the embedding matrix's rows: it is brought to the embedding as the model computes it, √d_model times as large \
             (W_enc/√d, W_dec·√d and b_dec·√d)"
                .to_owned(),
        );
        sae.folding_input_scale(1.0 / (d_in as f64).sqrt())
    } else {
        sae
    };
    let [hook_name, hook_name_out] = place.hooks();
    if place.site.is_none() {
        notes.push(
            "no directory in its path is called as the repository (as gemma-scope-2b-pt-res), so that the model and the hook, and whether it \
             is a transcoder, are not known"
                .to_owned(),
        );
    } else if hook_name.is_none() {
        notes.push("no directory in its path names the layer (as layer_12), so that the hook is not known".to_owned());
    }
    let metadata = Metadata { model_name: place.model, hook_name, hook_name_out, ..Metadata::default() };
    Ok(Parsed { sae, metadata, notes })
}

/// What an SAE belongs to, by the names in its path.
struct Place {
    model: Option<String>,
    site: Option<Site>,
    layer: Option<usize>,
    is_embedding: bool,
}

/// The activations that a repository's SAEs read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Site {
    Residual,
    Mlp,
    Attention,
    Transcoder,
}

impl Place {
    fn of(origin: &Origin) -> Self {
        let found = origin.repository(repository);
        let (model, site) = found.map_or((None, None), |(model, site)| (Some(model), Some(site)));
        let is_embedding = origin.part(|part| (part == "embedding").then_some(())).is_some();
        let is_embedding = is_embedding && site == Some(Site::Residual);
        Self { model, site, layer: origin.layer(), is_embedding }
    }

    /// TransformerLens' names of what is read, and of what is predicted.
    fn hooks(&self) -> [Option<String>; 2] {
        if self.is_embedding {
            return [Some("hook_embed".to_owned()), None];
        }
        let Some((site, layer)) = self.site.zip(self.layer) else { return [None, None] };
        let [read, predicted] = match site {
            Site::Residual => [Some("hook_resid_post"), None],
            Site::Mlp => [Some("hook_mlp_out"), None],
            Site::Attention => [Some("attn.hook_z"), None],
            Site::Transcoder => [Some("ln2.hook_normalized"), Some("hook_mlp_out")],
        };
        [read, predicted].map(|hook| hook.map(|hook| format!("blocks.{layer}.{hook}")))
    }
}

/// Model and site of a repository like `gemma-scope-2b-pt-res`.
fn repository(name: &str) -> Option<(String, Site)> {
    let mut parts = name.strip_prefix("gemma-scope-")?.splitn(3, '-');
    let (size, tuning, site) = (parts.next()?, parts.next()?, parts.next()?);
    let size = ["2b", "9b", "27b"].into_iter().find(|known| *known == size)?;
    let model = match tuning {
        "pt" => format!("google/gemma-2-{size}"),
        "it" => format!("google/gemma-2-{size}-it"),
        _ => return None,
    };
    // As in gemma-scope-2b-pt-res-canonical.
    let site = match site.split('-').next()? {
        "res" => Site::Residual,
        "mlp" => Site::Mlp,
        "att" => Site::Attention,
        "transcoders" => Site::Transcoder,
        _ => return None,
    };
    Some((model, site))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> (Option<String>, [Option<String>; 2]) {
        let place = Place::of(&Origin::of(Path::new(path)));
        let hooks = place.hooks();
        (place.model, hooks)
    }

    #[test]
    fn names_say_what_an_sae_belongs_to() {
        let hook = |name: &str| Some(name.to_owned());
        for (path, model, hooks) in [
            (
                "models--google--gemma-scope-2b-pt-res/snapshots/ab/layer_12/width_16k/average_l0_82",
                "google/gemma-2-2b",
                [hook("blocks.12.hook_resid_post"), None],
            ),
            ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "google/gemma-2-2b", [hook("hook_embed"), None]),
            (
                "gemma-scope-9b-it-res/layer_31/width_1m/average_l0_63",
                "google/gemma-2-9b-it",
                [hook("blocks.31.hook_resid_post"), None],
            ),
            ("gemma-scope-27b-pt-mlp/layer_3/x", "google/gemma-2-27b", [hook("blocks.3.hook_mlp_out"), None]),
            ("gemma-scope-2b-pt-att/layer_0/x", "google/gemma-2-2b", [hook("blocks.0.attn.hook_z"), None]),
            (
                "gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76",
                "google/gemma-2-2b",
                [hook("blocks.0.ln2.hook_normalized"), hook("blocks.0.hook_mlp_out")],
            ),
        ] {
            assert_eq!(place(&format!("/x/{path}/params.npz")), (Some(model.to_owned()), hooks), "{path}");
        }
        for other in
            ["gemma-scope/layer_5/width_16k", "gemma-scope-2-1b-pt/resid_post/layer_5", "gemma-scope-3b-pt-res"]
        {
            assert_eq!(place(&format!("/x/{other}/params.npz")), (None, [None, None]), "{other}");
        }
    }
}
