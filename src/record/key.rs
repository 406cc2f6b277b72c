//! What a run is known by.
//!
//! The id is a hash of a text that is written here on purpose, field by field: neither the order of a struct's fields nor how a library
//! spells a value is part of it. What is added to a key later is written only where it differs from what all runs had before, so that
//! their ids stay.

use std::fmt::Write as _;

use assay_models::HookKind;
use assay_probes::metrics::Subset;
use assay_sae::config::{
    BatchTopK, DecoderBias, DecoderNorm, Gated, GroupMax, Hierarchical, InputScaling, JumpRelu, Loss, Matryoshka,
    Objective, Sparsity, Standard, TopK,
};
use assay_sae::{Architecture, Task, TrainConfig};
use serde::{Deserialize, Serialize};

use crate::spec::{LegibilitySpec, SweepControl, objective_on};
use crate::transcode::{Transcode, class_name};

/// Everything that changes a run's numbers; its hash is the run's id. No path and no name is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunKey {
    /// [`METRIC_VERSION`](super::METRIC_VERSION) when it was made.
    pub metric_version: u32,
    /// `cpu`, `cuda-sm90`, `vulkan`, …
    pub device_class: String,
    /// Arithmetic of the matrix products.
    pub precision: String,
    /// BLAKE3 of the model's weights.
    pub weights: String,
    /// Hook point.
    pub hook: String,
    /// Whether activations are centred over d_model.
    pub center_residual: bool,
    /// BLAKE3 of the training contexts.
    pub train_tokens: String,
    /// Tokens per training context.
    pub context_size: usize,
    /// Tokens in the shuffle buffer.
    pub buffer_tokens: usize,
    /// Contexts of one capturing pass.
    pub contexts_per_pass: usize,
    /// Token budget.
    pub training_tokens: u64,
    /// Seed of initialisation and batch order.
    pub seed: u64,
    /// Training settings.
    pub train: TrainConfig,
    /// BLAKE3 of the evaluation sequences.
    pub eval_tokens: String,
    /// Sequences of one evaluating pass.
    pub eval_batch: usize,
    /// Labels sampled per token for `fwd` and `kl_pred`.
    pub fisher_samples: usize,
    /// Seed of those draws.
    pub fisher_seed: u64,
    /// What a transcoder reads, in the layer of the hook that it predicts; `None` of an SAE, which reads what it reconstructs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<HookKind>,
    /// The token that contexts of text begin with (BOS); `None` where they don't, or are given as token ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// The tokens that it is trained on.
    #[serde(default, skip_serializing_if = "is_all")]
    pub loss_tokens: Subset,
    /// What it is a control of its sweep by; `None` of an SAE that is not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<SweepControl>,
    /// Which latents are scored for what they mean; `None` where none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legibility: Option<LegibilitySpec>,
}

fn is_all(tokens: &Subset) -> bool {
    *tokens == Subset::All
}

impl RunKey {
    /// The run's id: 16 hex digits of the BLAKE3 hash of [`Self::fingerprint`].
    pub fn id(&self) -> String {
        super::short(blake3::hash(self.fingerprint().as_bytes()))
    }

    /// The text that the id is a hash of, a JSON object.
    pub fn fingerprint(&self) -> String {
        // Without `..`: a field that is added must be thought of here.
        let Self {
            metric_version,
            device_class,
            precision,
            weights,
            hook,
            center_residual,
            train_tokens,
            context_size,
            buffer_tokens,
            contexts_per_pass,
            training_tokens,
            seed,
            train,
            eval_tokens,
            eval_batch,
            fisher_samples,
            fisher_seed,
            reads,
            bos,
            loss_tokens,
            control,
            legibility,
        } = self;
        let mut text = Fields::default();
        text.number("metric_version", metric_version);
        text.name("device_class", device_class);
        text.name("precision", precision);
        text.name("weights", weights);
        text.name("hook", hook);
        text.number("center_residual", center_residual);
        text.name("train_tokens", train_tokens);
        text.number("context_size", context_size);
        text.number("buffer_tokens", buffer_tokens);
        text.number("contexts_per_pass", contexts_per_pass);
        text.number("training_tokens", training_tokens);
        text.number("seed", seed);
        text.number("train", training(train));
        text.name("eval_tokens", eval_tokens);
        text.number("eval_batch", eval_batch);
        text.number("fisher_samples", fisher_samples);
        text.number("fisher_seed", fisher_seed);
        if let Some(reads) = reads {
            text.name("reads", reads.short_name());
        }
        if let Some(bos) = bos {
            text.number("bos", bos);
        }
        if !is_all(loss_tokens) {
            text.name("loss_tokens", loss_tokens.name());
        }
        if let Some(control) = control {
            text.name("control", control.name());
        }
        if let Some(LegibilitySpec { latents }) = legibility {
            text.number("legibility_latents", latents);
        }
        text.end()
    }

    /// What makes it a transcoder, if it is one.
    pub fn transcode(&self) -> Option<Transcode> {
        Transcode::of(&self.train, self.reads)
    }

    /// What it is trained for, and on which tokens, where those are not all: `mse`, `kl+mse`, `mse no_outlier`.
    pub fn objective(&self) -> String {
        objective_on(&self.train.objective_name(), self.loss_tokens)
    }

    /// What it is compared as: its class, and whether it is a transcoder.
    pub fn class(&self) -> String {
        class_name(&self.train.architecture, self.transcode())
    }
}

/// The text of the training settings.
fn training(config: &TrainConfig) -> String {
    let TrainConfig {
        d_model,
        d_sae,
        architecture,
        batch_size,
        steps,
        lr,
        warmup_steps,
        decay_steps,
        adam_beta1,
        adam_beta2,
        adam_eps,
        clip_norm,
        loss,
        objective,
        aux_coefficient,
        dead_after,
        decoder_norm,
        decoder_init_norm,
        rescale_acts_by_decoder_norm,
        apply_b_dec_to_input,
        decoder_bias,
        input_scaling,
        precision,
        task,
        ema_decay,
        frozen_decoder,
    } = config;
    let mut text = Fields::default();
    text.number("d_model", d_model);
    text.number("d_sae", d_sae);
    if let Architecture::TopK(TopK { k }) | Architecture::GroupMax(GroupMax { k }) = architecture {
        text.number("k", k);
    }
    text.number("batch_size", batch_size);
    text.number("steps", steps);
    text.float("lr", *lr);
    text.number("warmup_steps", warmup_steps);
    text.number("decay_steps", decay_steps);
    text.float("adam_beta1", *adam_beta1);
    text.float("adam_beta2", *adam_beta2);
    text.float("adam_eps", *adam_eps);
    text.float("clip_norm", *clip_norm);
    let loss = match loss {
        Loss::Mse => "mse",
        Loss::Fvu => "fvu",
    };
    text.name("loss", loss);
    text.float("aux_coefficient", *aux_coefficient);
    text.number("dead_after", dead_after);
    let decoder_norm = match decoder_norm {
        DecoderNorm::Unit => "unit",
        DecoderNorm::Free => "free",
    };
    text.name("decoder_norm", decoder_norm);
    text.float("decoder_init_norm", *decoder_init_norm);
    text.number("rescale_acts_by_decoder_norm", rescale_acts_by_decoder_norm);
    text.number("apply_b_dec_to_input", apply_b_dec_to_input);
    let decoder_bias = match decoder_bias {
        DecoderBias::Zero => "zero",
        DecoderBias::Mean => "mean",
    };
    text.name("decoder_bias", decoder_bias);
    let input_scaling = match input_scaling {
        InputScaling::None => "none",
        InputScaling::ExpectedNorm => "expected_norm",
    };
    text.name("input_scaling", input_scaling);
    if *precision != assay_sae::Precision::F32 {
        text.name("precision", &precision.to_string());
    }
    match task {
        Task::Autoencoder => {}
        Task::Transcoder => text.name("task", "transcoder"),
        Task::SkipTranscoder => text.name("task", "skip_transcoder"),
    }
    if *ema_decay != 0.0 {
        text.float("ema_decay", *ema_decay);
    }
    if *frozen_decoder {
        text.number("frozen_decoder", frozen_decoder);
    }
    if !architecture.is_topk() {
        text.name("architecture", architecture.name());
    }
    class(&mut text, architecture);
    match objective {
        Objective::Reconstruction => {}
        Objective::Kl => text.name("objective", "kl"),
        Objective::KlMse { share } => {
            text.name("objective", "kl+mse");
            text.float("kl_share", *share);
        }
    }
    text.end()
}

/// The settings of a class that are not among those that all runs had once.
fn class(text: &mut Fields, architecture: &Architecture) {
    match architecture {
        Architecture::TopK(TopK { k: _ }) | Architecture::GroupMax(GroupMax { k: _ }) => {}
        Architecture::Hierarchical(Hierarchical { k, ks }) => {
            text.number("k", k);
            text.numbers("ks", ks);
        }
        Architecture::BatchTopK(BatchTopK { k, threshold_lr }) => {
            text.float("k", *k);
            text.float("threshold_lr", *threshold_lr);
        }
        Architecture::Matryoshka(Matryoshka { k, threshold_lr, widths, aux_by_level }) => {
            text.float("k", *k);
            text.float("threshold_lr", *threshold_lr);
            text.numbers("widths", widths);
            text.number("aux_by_level", aux_by_level);
        }
        Architecture::JumpRelu(JumpRelu {
            l0_coefficient,
            target_l0,
            l0_warmup_steps,
            sparsity,
            bandwidth,
            init_threshold,
            ste_to_input,
            pre_act_coefficient,
        }) => {
            text.float("l0_coefficient", *l0_coefficient);
            target(text, *target_l0);
            text.number("l0_warmup_steps", l0_warmup_steps);
            match sparsity {
                Sparsity::Step => text.name("sparsity", "step"),
                Sparsity::Tanh { scale } => {
                    text.name("sparsity", "tanh");
                    text.float("tanh_scale", *scale);
                }
                Sparsity::Quadratic { target_l0 } => {
                    text.name("sparsity", "quadratic");
                    text.float("target_l0", *target_l0);
                }
            }
            text.float("bandwidth", *bandwidth);
            text.float("init_threshold", *init_threshold);
            text.number("ste_to_input", ste_to_input);
            text.float("pre_act_coefficient", *pre_act_coefficient);
        }
        Architecture::Gated(Gated { l1_coefficient, target_l0, l1_warmup_steps }) => {
            text.float("l1_coefficient", *l1_coefficient);
            target(text, *target_l0);
            text.number("l1_warmup_steps", l1_warmup_steps);
        }
        Architecture::Standard(Standard { l1_coefficient, target_l0, l1_warmup_steps, lp_norm }) => {
            text.float("l1_coefficient", *l1_coefficient);
            target(text, *target_l0);
            text.number("l1_warmup_steps", l1_warmup_steps);
            text.float("lp_norm", *lp_norm);
        }
    }
}

/// What a coefficient is steered to, if it is.
fn target(text: &mut Fields, target_l0: Option<f64>) {
    if let Some(target_l0) = target_l0 {
        text.float("target_l0", target_l0);
    }
}

/// An object in the making.
#[derive(Default)]
pub(super) struct Fields(String);

impl Fields {
    /// A whole number, `true` or `false`, or an object.
    pub(super) fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        let before = if self.0.is_empty() { '{' } else { ',' };
        write!(self.0, "{before}\"{name}\":{value}").expect("a string can be written to");
    }

    /// A list of whole numbers.
    fn numbers(&mut self, name: &str, values: &[usize]) {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        self.number(name, format_args!("[{}]", values.join(",")));
    }

    /// A name, hash or the like, which needs no escapes.
    pub(super) fn name(&mut self, name: &str, value: &str) {
        debug_assert!(!value.contains(['"', '\\']) && value.chars().all(|c| !c.is_control()), "{value}");
        self.number(name, format_args!("\"{value}\""));
    }

    /// The fewest digits that give the number back, `1.0`, `0.0003`, `0.00001`; below that and from 1e16 on with an exponent, `1e-8`.
    pub(super) fn float(&mut self, name: &str, value: f64) {
        if value != 0.0 && !(1e-5..1e16).contains(&value.abs()) {
            return self.number(name, format_args!("{value:e}"));
        }
        let point = if value == value.trunc() { ".0" } else { "" };
        self.number(name, format_args!("{value}{point}"));
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use assay_sae::Recipe;

    use super::*;

    fn key(recipe: Recipe) -> RunKey {
        RunKey {
            metric_version: 2,
            device_class: "cpu".to_owned(),
            precision: "f32".to_owned(),
            weights: "a3f1".to_owned(),
            hook: "blocks.3.hook_resid_post".to_owned(),
            center_residual: false,
            train_tokens: "0011".to_owned(),
            context_size: 128,
            buffer_tokens: 32_768,
            contexts_per_pass: 32,
            training_tokens: 61_440,
            seed: 7,
            train: TrainConfig::from_recipe(recipe, 128, 512, Architecture::topk(8), 256, 61_440),
            eval_tokens: "2233".to_owned(),
            eval_batch: 8,
            fisher_samples: 1,
            fisher_seed: 0,
            reads: None,
            bos: None,
            loss_tokens: Subset::All,
            control: None,
            legibility: None,
        }
    }

    /// Ids are hashes of this text, so no byte of it may change.
    #[test]
    fn ids_stay() {
        let assay = key(Recipe::Assay);
        assert_eq!(
            assay.fingerprint(),
            r#"{"metric_version":2,"device_class":"cpu","precision":"f32","weights":"a3f1","hook":"blocks.3.hook_resid_post","center_residual":false,"train_tokens":"0011","context_size":128,"buffer_tokens":32768,"contexts_per_pass":32,"training_tokens":61440,"seed":7,"train":{"d_model":128,"d_sae":512,"k":8,"batch_size":256,"steps":240,"lr":0.001131370849898476,"warmup_steps":12,"decay_steps":48,"adam_beta1":0.9,"adam_beta2":0.999,"adam_eps":1e-8,"clip_norm":1.0,"loss":"mse","aux_coefficient":0.03125,"dead_after":6144,"decoder_norm":"unit","decoder_init_norm":1.0,"rescale_acts_by_decoder_norm":false,"apply_b_dec_to_input":true,"decoder_bias":"mean","input_scaling":"none"},"eval_tokens":"2233","eval_batch":8,"fisher_samples":1,"fisher_seed":0}"#
        );
        assert_eq!(assay.id(), "0bf9f19920a54d75");
        assert_eq!(key(Recipe::Saelens).id(), "23c3ef57ee83f027");
        let mut rounded = key(Recipe::Assay);
        rounded.train.precision = assay_sae::Precision::Bf16;
        assert!(rounded.fingerprint().contains(r#""input_scaling":"none","precision":"bf16"}"#));
        let reads = RunKey { reads: Some(HookKind::MlpIn), ..key(Recipe::Assay) };
        assert!(reads.fingerprint().ends_with(r#""fisher_seed":0,"reads":"mlp_in"}"#));
        let begun = RunKey { bos: Some(2), ..key(Recipe::Assay) };
        assert!(begun.fingerprint().ends_with(r#""fisher_seed":0,"bos":2}"#));
        let without = RunKey { loss_tokens: Subset::NoOutlier, ..key(Recipe::Assay) };
        assert!(without.fingerprint().ends_with(r#""fisher_seed":0,"loss_tokens":"no_outlier"}"#));
        let mut frozen = RunKey { control: Some(SweepControl::FrozenDecoder), ..key(Recipe::Assay) };
        frozen.train.frozen_decoder = true;
        assert!(frozen.fingerprint().ends_with(r#""fisher_seed":0,"control":"frozen-decoder"}"#));
        assert!(frozen.fingerprint().contains(r#""input_scaling":"none","frozen_decoder":true}"#));
        let read = RunKey { legibility: Some(LegibilitySpec { latents: 200 }), ..key(Recipe::Assay) };
        assert!(read.fingerprint().ends_with(r#""fisher_seed":0,"legibility_latents":200}"#));
        assert_eq!([assay, without].map(|key| key.objective()), ["mse", "mse no_outlier"]);
    }

    #[test]
    fn a_class_adds_its_settings_to_the_key() {
        let train = |keys: serde_json::Value| {
            let architecture = Architecture::try_from(keys.as_object().unwrap().clone()).unwrap();
            training(&TrainConfig::from_recipe(Recipe::Assay, 128, 512, architecture, 256, 61_440))
        };
        let groups = train(serde_json::json!({"architecture": "groupmax", "k": 8}));
        assert!(groups.contains(r#""d_sae":512,"k":8,"batch_size""#));
        assert!(groups.ends_with(r#""input_scaling":"none","architecture":"groupmax"}"#));
        for (keys, expected) in [
            (
                serde_json::json!({"architecture": "batchtopk", "k": 8}),
                r#""architecture":"batchtopk","k":8.0,"threshold_lr":0.01}"#,
            ),
            (
                serde_json::json!({"architecture": "hierarchical", "k": 4, "ks": [4, 8]}),
                r#""architecture":"hierarchical","k":4,"ks":[4,8]}"#,
            ),
            (
                serde_json::json!({"architecture": "matryoshka", "k": 6.5, "widths": [64, 512]}),
                r#""architecture":"matryoshka","k":6.5,"threshold_lr":0.01,"widths":[64,512],"aux_by_level":false}"#,
            ),
            (
                serde_json::json!({"architecture": "jumprelu", "l0_coefficient": 1, "sparsity": "tanh"}),
                r#""architecture":"jumprelu","l0_coefficient":1.0,"l0_warmup_steps":0,"sparsity":"tanh","tanh_scale":4.0,"bandwidth":0.05,"init_threshold":0.01,"ste_to_input":false,"pre_act_coefficient":0.0}"#,
            ),
            (
                serde_json::json!({"architecture": "gated", "l1_coefficient": 0.5}),
                r#""architecture":"gated","l1_coefficient":0.5,"l1_warmup_steps":0}"#,
            ),
            (
                serde_json::json!({"architecture": "gated", "target_l0": 32}),
                r#""architecture":"gated","l1_coefficient":0.001,"target_l0":32.0,"l1_warmup_steps":0}"#,
            ),
            (
                serde_json::json!({"architecture": "standard", "l1_coefficient": 0.5}),
                r#""architecture":"standard","l1_coefficient":0.5,"l1_warmup_steps":0,"lp_norm":1.0}"#,
            ),
        ] {
            let text = train(keys);
            assert!(text.contains(r#""d_sae":512,"batch_size""#) && text.ends_with(expected), "{text}");
        }
    }

    #[test]
    fn an_objective_adds_to_the_key_what_the_reconstruction_loss_does_not() {
        let with = |objective| training(&TrainConfig { objective, ..key(Recipe::Assay).train });
        assert!(!with(Objective::Reconstruction).contains("objective"));
        assert!(with(Objective::Kl).ends_with(r#""input_scaling":"none","objective":"kl"}"#));
        let both = with(Objective::KlMse { share: 0.1 });
        assert!(both.ends_with(r#""input_scaling":"none","objective":"kl+mse","kl_share":0.1}"#), "{both}");
    }

    #[test]
    fn numbers_have_one_spelling() {
        for (value, expected) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (3e-4, "0.0003"),
            (1e-5, "0.00001"),
            (9.9e-6, "9.9e-6"),
            (6.25e-10, "6.25e-10"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1000000000000000.0"),
        ] {
            let mut text = Fields::default();
            text.float("v", value);
            assert_eq!(text.end(), format!("{{\"v\":{expected}}}"));
            assert_eq!(serde_json::to_string(&value).unwrap(), expected, "as it was when a library wrote the text");
        }
    }
}
