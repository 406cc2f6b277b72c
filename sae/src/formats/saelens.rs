//! SAELens: `cfg.json` and `sae_weights.safetensors`.
//!
//! ```text
//! W_enc [d_in, d_sae], W_dec [d_sae, d_out], b_dec [d_out]
//! b_enc [d_sae]                                  all but gated
//! threshold [d_sae]                              jumprelu
//! b_gate, r_mag, b_mag [d_sae]                   gated
//! W_skip [d_out, d_in]                           skip transcoders
//! W_dec and b_dec alone                          matching_pursuit
//! ```
//!
//! d_out is d_in but of transcoders, which never subtract b_dec from their input.
//!
//! Versions before 6 keep at the top of `cfg.json` what 6 keeps in its `metadata`, and name topk by its activation function.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::gemma_scope_2::hook_of_module;
use super::json::{Keys, agreed, read_json, read_object, write_json};
use super::{Format, HostSae, Metadata, Parsed, UNSCALED, checked_k};
use crate::activation::{Activation, Normalization, Pursuit};
use crate::error::{Result, SaeError};
use crate::sae::Transcoding;
use crate::tensors::{Array, TensorFile, transposed, write_tensors};

/// The version of SAELens whose layout is written.
const VERSION: &str = "6.54.12";
const CONFIG: &str = "cfg.json";
/// log10 of each latent's firing rate in training.
const SPARSITY: &str = "sparsity.safetensors";
/// What SAELens adds to a rate before the logarithm.
const SPARSITY_EPS: f64 = 1e-10;
/// Beside a training checkpoint: the factor of `expected_average_only_in`, if it is not in the weights yet.
const SCALER: &str = "activation_scaler.json";

/// The keys of `cfg.json` that say what the SAE computes, or on what and in what. Versions before 6 have all others beside them.
const COMPUTES: [&str; 21] = [
    "architecture",
    "d_in",
    "d_out",
    "d_sae",
    "k",
    "residual_threshold",
    "max_iterations",
    "stop_on_duplicate_support",
    "dtype",
    "device",
    "apply_b_dec_to_input",
    "normalize_activations",
    "reshape_activations",
    "rescale_acts_by_decoder_norm",
    "activation_fn",
    "activation_fn_str",
    "activation_fn_kwargs",
    "finetuning_scaling_factor",
    "hook_point",
    "hook_point_head_index",
    "metadata",
];

/// `cfg.json`, and its `metadata`.
struct Cfg<'a> {
    path: &'a Path,
    whole: &'a Value,
    keys: Keys<'a>,
    metadata: Keys<'a>,
}

impl<'a> Cfg<'a> {
    fn new(path: &'a Path, whole: &'a Value) -> Result<Self> {
        let keys = Keys::new(path, whole);
        Ok(Self { path, whole, keys, metadata: keys.object("metadata")? })
    }

    /// Whether the layout is that of a version before 6; SAELens takes a file without a version for one.
    fn is_old(&self) -> bool {
        let version = [self.keys, self.metadata].into_iter().find_map(|keys| keys.get("sae_lens_version"));
        version.is_none_or(is_old)
    }

    fn architecture(&self) -> Result<&'a str> {
        let named = self.keys.text("architecture")?;
        if !self.is_old() {
            return named
                .ok_or_else(|| SaeError::config(self.path, "`architecture` is missing; SAELens 6 always writes it"));
        }
        // The first versions had one architecture, and no name for it.
        let named = named.unwrap_or("standard");
        let of = |key| Ok::<_, SaeError>((key, self.keys.text(key)?));
        match agreed(self.path, [of("activation_fn_str")?, of("activation_fn")?])? {
            None | Some("relu") => Ok(named),
            Some("topk") if named == "standard" || named == "topk" => Ok("topk"),
            Some(other) => Err(SaeError::config(
                self.path,
                format!("activation function `{other}` of architecture `{named}` is not supported; relu and topk are"),
            )),
        }
    }

    fn k(&self) -> Result<Option<usize>> {
        let kwargs = self.keys.object("activation_fn_kwargs")?;
        agreed(self.path, [("k", self.keys.count("k")?), ("activation_fn_kwargs.k", kwargs.count("k")?)])
    }

    fn pursuit(&self) -> Result<Pursuit> {
        Ok(Pursuit {
            // One below 0 never stops, as 0 does.
            residual_threshold: self.keys.number("residual_threshold")?.unwrap_or(1e-2).max(0.0),
            max_iterations: self.keys.count("max_iterations")?,
            stop_on_duplicate_support: self.keys.flag("stop_on_duplicate_support")?.unwrap_or(true),
        })
    }

    fn normalization(&self) -> Result<&'a str> {
        const KEY: &str = "normalize_activations";
        // Once a truth value.
        Ok(match self.keys.flag(KEY) {
            Ok(None | Some(false)) => "none",
            Ok(Some(true)) => "expected_average_only_in",
            Err(_) => self.keys.text(KEY)?.unwrap_or("none"),
        })
    }

    /// Where the SAE belongs. What versions before 6 have beside the settings is metadata too.
    fn described(&self, notes: &mut Vec<String>) -> Result<Metadata> {
        let beside = self.whole.as_object().into_iter().flatten().filter(|(key, _)| !COMPUTES.contains(&key.as_str()));
        let mut all: Map<String, Value> = beside.map(|(key, value)| (key.clone(), value.clone())).collect();
        for (key, old) in [("hook_name", Some("hook_point")), ("model_name", None)] {
            let before = old.map(|old| Ok::<_, SaeError>((old, self.keys.text(old)?))).transpose()?;
            let named = [(key, self.keys.text(key)?), ("metadata's", self.metadata.text(key)?)];
            if let Some(name) = agreed(self.path, named.into_iter().chain(before))? {
                all.insert(key.to_owned(), name.into());
            }
        }
        for (key, value) in self.whole["metadata"].as_object().into_iter().flatten() {
            match (all.get_mut(key), value) {
                (Some(_), Value::Null) => {}
                (Some(Value::Object(known)), Value::Object(more)) => known.extend(more.clone()),
                _ => _ = all.insert(key.clone(), value.clone()),
            }
        }
        let mut metadata = Metadata::parse(self.path, &Value::Object(all), notes)?;
        // SAELens' name for what Gemma Scope 2's transcoders read; in TransformerLens it is the stream before the norm.
        let read = metadata.other.get("hf_hook_name").and_then(Value::as_str).and_then(hook_of_module);
        if let (Some(said), Some(read)) =
            (metadata.hook_name.as_mut().filter(|said| said.ends_with(".hook_mlp_in")), read)
        {
            notes.push(format!("it names the hook {said}, and the module whose output is {read}: the second is taken"));
            *said = read;
        }
        Ok(metadata)
    }

    /// Refuses what would make the SAE compute something else.
    fn check(&self, hook: Option<&str>) -> Result<()> {
        let refuse = |why: String| Err(SaeError::config(self.path, why));
        // Of all heads together, one after another: what `attn.hook_z` is captured as here.
        let reshape = self.keys.text("reshape_activations")?.unwrap_or("none");
        let fits = reshape == "none" || (reshape == "hook_z" && hook.is_none_or(|hook| hook.ends_with("hook_z")));
        if !fits {
            return refuse(format!(
                "reshape_activations = `{reshape}` is not supported; `hook_z` is, at a hook of that name, and `none`"
            ));
        }
        let heads =
            [(self.keys, "hook_head_index"), (self.keys, "hook_point_head_index"), (self.metadata, "hook_head_index")];
        if heads.iter().any(|(keys, key)| keys.get(key).is_some()) {
            return refuse("hook_head_index: SAEs of a single attention head are not supported".to_owned());
        }
        if self.keys.flag("finetuning_scaling_factor")? == Some(true) {
            return refuse(
                "finetuning_scaling_factor changes what the SAE computes and is not supported; multiply each row of W_dec by its factor, \
                 and set it to false"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// Whether a version of SAELens is one before 6, or none.
fn is_old(version: &Value) -> bool {
    let text = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
    text.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_none_or(|major| major < 6)
}

pub(super) fn read(dir: &Path) -> Result<Parsed> {
    let path = dir.join(CONFIG);
    let whole = read_object(&path)?;
    let cfg = Cfg::new(&path, &whole)?;
    let mut notes = Vec::new();
    let metadata = cfg.described(&mut notes)?;
    cfg.check(metadata.hook_name.as_deref())?;
    let architecture = cfg.architecture()?;
    let (d_in, d_sae) = (cfg.keys.size("d_in")?, cfg.keys.size("d_sae")?);

    let file = TensorFile::open(&dir.join(Format::SaeLens.weights()), CONFIG)?;
    let vector = |name| file.floats(name, &[d_sae]);
    let k = || checked_k(&path, cfg.k()?, d_sae);
    let by_decoder_norm = cfg.keys.flag("rescale_acts_by_decoder_norm")?.unwrap_or(false);
    let activation = match architecture {
        "topk" => Activation::TopK { k: k()?, by_decoder_norm },
        "abstopk" => Activation::AbsTopK { k: k()?, by_decoder_norm },
        "standard" | "transcoder" | "skip_transcoder" => Activation::Relu,
        "jumprelu" | "jumprelu_transcoder" | "jumprelu_skip_transcoder" => {
            Activation::JumpRelu { threshold: vector("threshold")? }
        }
        "gated" => Activation::Gated { r_mag: vector("r_mag")?, b_mag: vector("b_mag")? },
        "matching_pursuit" => Activation::MatchingPursuit(cfg.pursuit()?),
        other => return Err(SaeError::config(&path, unsupported(other))),
    };
    let transcodes = architecture.ends_with("transcoder");
    let d_out = if transcodes { cfg.keys.size("d_out")? } else { d_in };
    let skips = architecture.ends_with("skip_transcoder");
    let skip = if skips { Some(file.floats("W_skip", &[d_out, d_in])?) } else { None };
    let apply_b_dec_to_input = cfg.keys.flag("apply_b_dec_to_input")?;
    if transcodes && apply_b_dec_to_input == Some(true) {
        return Err(SaeError::config(&path, "apply_b_dec_to_input is true: b_dec of a transcoder is not of its input"));
    }
    let apply_b_dec_to_input = apply_b_dec_to_input.unwrap_or(!transcodes);
    if file.has("scaling_factor") && vector("scaling_factor")?.iter().any(|&factor| factor != 1.0) {
        return Err(SaeError::config(
            &path,
            "the weights have a `scaling_factor` that is not 1, from finetuning, which is not supported",
        ));
    }
    let tied = activation.is_tied();
    let w_enc = if tied { Vec::new() } else { file.transposed("W_enc", [d_sae, d_in])? };
    // Before anything is made as large as the configuration says.
    let (w_dec, b_dec) = (file.floats("W_dec", &[d_sae, d_out])?, file.floats("b_dec", &[d_out])?);
    let sae = HostSae {
        d_in,
        d_out,
        d_sae,
        w_enc,
        b_enc: match &activation {
            Activation::MatchingPursuit(_) => vec![0.0; d_sae],
            Activation::Gated { .. } => vector("b_gate")?,
            _ => vector("b_enc")?,
        },
        w_dec,
        // A pursuit that doesn't begin at b_dec doesn't end there either.
        b_dec: if tied && !apply_b_dec_to_input { vec![0.0; d_out] } else { b_dec },
        activation,
        normalization: Normalization::None,
        apply_b_dec_to_input,
        transcoding: transcodes.then_some(Transcoding { skip }),
    };
    let sae = match cfg.normalization()? {
        "none" => sae,
        "layer_norm" => HostSae { normalization: Normalization::LayerNorm, ..sae },
        "constant_norm_rescale" => HostSae { normalization: Normalization::ConstantNorm, ..sae },
        "expected_average_only_in" => match input_scale(dir)? {
            Some(_) if tied || transcodes => {
                return Err(SaeError::config(
                    &path,
                    format!(
                        "normalize_activations = `expected_average_only_in` with a factor in {SCALER} is not supported of architecture \
                         `{architecture}`; fold the factor in SAELens (save_inference_model)"
                    ),
                ));
            }
            Some(factor) => sae.folding_input_scale(factor),
            None => {
                notes.push(UNSCALED.to_owned());
                sae
            }
        },
        other => {
            return Err(SaeError::config(
                &path,
                format!(
                    "normalize_activations = `{other}` changes what the SAE computes and is not supported; none, layer_norm, \
                     constant_norm_rescale and expected_average_only_in are"
                ),
            ));
        }
    };
    Ok(Parsed { sae, metadata, notes })
}

/// The factor of a training checkpoint whose activations are scaled outside the weights.
fn input_scale(dir: &Path) -> Result<Option<f64>> {
    let path = dir.join(SCALER);
    if !path.is_file() {
        return Ok(None);
    }
    match &read_json(&path)?["scaling_factor"] {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|v| v.is_finite() && *v > 0.0) {
            Some(factor) => Ok(Some(factor)),
            None => Err(SaeError::config(&path, format!("scaling_factor is {value}; it must be a positive number"))),
        },
    }
}

/// The firing rates of training, `[d_sae]`, if they are beside the SAE.
pub(super) fn firing_rates(dir: &Path, d_sae: usize) -> Result<Option<Vec<f64>>> {
    let path = dir.join(SPARSITY);
    if !path.is_file() {
        return Ok(None);
    }
    let logs = TensorFile::open(&path, CONFIG)?.floats("sparsity", &[d_sae])?;
    Ok(Some(logs.into_iter().map(|log| 10_f64.powf(log.into()) - SPARSITY_EPS).collect()))
}

/// Why a temporal SAE (arXiv:2511.01836) is not read.
pub(super) const TEMPORAL: &str = "architecture `temporal` is not supported: what it predicts of a token is attention over the latents of all \
                                   tokens before it, so that it needs whole sequences, and no reconstruction is a function of one activation";

fn unsupported(architecture: &str) -> String {
    let why = match architecture {
        "batchtopk" | "matryoshka_batchtopk" => {
            "is that of a training checkpoint; SAELens' save_inference_model writes it as jumprelu, which is supported"
        }
        "temporal" => return TEMPORAL.to_owned(),
        _ => {
            "is not supported; topk, abstopk, standard, jumprelu, gated, matching_pursuit, transcoder, skip_transcoder, jumprelu_transcoder \
             and jumprelu_skip_transcoder are"
        }
    };
    format!("architecture `{architecture}` {why}")
}

/// What SAELens calls an SAE, or a transcoder of the classes of which it has one.
fn architecture(sae: &HostSae) -> String {
    let name = sae.activation.name();
    let Some(Transcoding { skip }) = &sae.transcoding else { return name.to_owned() };
    let class = if name == "standard" { String::new() } else { format!("{name}_") };
    format!("{class}{}transcoder", if skip.is_some() { "skip_" } else { "" })
}

pub(super) fn write(dir: &Path, sae: HostSae, metadata: &Metadata, firing_rates: Option<&[f64]>) -> Result<()> {
    let (d_in, d_out, d_sae) = (sae.d_in, sae.d_out, sae.d_sae);
    let at_heads = metadata.hook_name.as_ref().is_some_and(|hook| hook.ends_with("hook_z"));
    let mut cfg = json!({
        "architecture": architecture(&sae),
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalization.name(),
        "reshape_activations": if at_heads { "hook_z" } else { "none" },
    });
    let mut described = metadata.json();
    // The version says which layout the file has; without one, SAELens reads it as one of before version 6.
    if is_old(&described["sae_lens_version"]) {
        described["sae_lens_version"] = json!(VERSION);
    }
    // SAELens takes an absent one for its own.
    described.as_object_mut().expect("metadata is an object").entry("sae_lens_training_version").or_insert(Value::Null);
    let vector = |values: &[f32]| Array::floats(values, &[d_sae]);
    let mut tensors =
        vec![("W_dec", Array::floats(&sae.w_dec, &[d_sae, d_out])), ("b_dec", Array::floats(&sae.b_dec, &[d_out]))];
    if !sae.activation.is_tied() {
        tensors.push(("W_enc", Array::floats(&transposed(&sae.w_enc, d_sae, d_in), &[d_in, d_sae])));
        let bias = if matches!(sae.activation, Activation::Gated { .. }) { "b_gate" } else { "b_enc" };
        tensors.push((bias, vector(&sae.b_enc)));
    }
    match &sae.activation {
        Activation::TopK { k, by_decoder_norm } | Activation::AbsTopK { k, by_decoder_norm } => {
            cfg["k"] = json!(k);
            cfg["rescale_acts_by_decoder_norm"] = json!(by_decoder_norm);
        }
        Activation::Relu | Activation::GroupMax { .. } => {}
        Activation::JumpRelu { threshold } => tensors.push(("threshold", vector(threshold))),
        Activation::Gated { r_mag, b_mag } => tensors.extend([("r_mag", vector(r_mag)), ("b_mag", vector(b_mag))]),
        Activation::MatchingPursuit(pursuit) => {
            cfg["residual_threshold"] = json!(pursuit.residual_threshold);
            cfg["max_iterations"] = json!(pursuit.max_iterations);
            cfg["stop_on_duplicate_support"] = json!(pursuit.stop_on_duplicate_support);
        }
    }
    if let Some(Transcoding { skip }) = &sae.transcoding {
        cfg["d_out"] = json!(d_out);
        tensors.extend(skip.as_ref().map(|skip| ("W_skip", Array::floats(skip, &[d_out, d_in]))));
    }
    cfg["metadata"] = described;
    write_json(&dir.join(CONFIG), &cfg)?;
    write_tensors(&dir.join(Format::SaeLens.weights()), tensors, None)?;
    if let Some(rates) = firing_rates {
        let logs: Vec<f32> = rates.iter().map(|r| (r + SPARSITY_EPS).log10() as f32).collect();
        write_tensors(&dir.join(SPARSITY), [("sparsity", vector(&logs))], None)?;
    }
    Ok(())
}
