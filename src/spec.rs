//! A sweep's specification: one TOML file, parsed strictly.

mod check;
mod clouds;
mod coders;
mod control;
mod document;
pub mod draft;
mod objective;
mod train;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use assay_hub::HubName;
use assay_models::HookKind;
use assay_models::tokens::{Reading, RowUse};
use assay_sae::{Architecture, Precision};
use serde::{Deserialize, Serialize};

pub(crate) use check::twice;
pub use clouds::{CloudOf, TopologySpec};
pub use coders::{Coder, CoderSpec};
pub use control::SweepControl;
pub use document::{RECORDED_BY, SpecDocument};
pub use objective::{ObjectiveKeys, ObjectiveName, objective_on};
pub use train::TrainSpec;

/// Models × depths × hooks × coders × seeds × training tokens, and how each SAE is trained and evaluated.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// Names the directory under `results/`.
    pub name: String,
    /// Active latents per token, one TopK SAE each: short for a single coder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub k: Vec<usize>,
    /// Which SAEs are trained, where `k` alone does not say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coders: Vec<CoderSpec>,
    /// What stands beside every SAE: `random-model`, an SAE of the model with its matrices drawn anew; `gaussian-inputs`, the same with a random vector
    /// for every occurrence of a token; `step-0`, an SAE of a model's `step0`; `frozen-decoder`, an SAE whose decoder stays as it was drawn;
    /// `permuted-decoder`, the SAE itself with its decoder's rows permuted. The last costs an evaluation, each other a training [default: none].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<SweepControl>,
    /// Seeds of initialisation and batch order.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
    /// Token budgets of every model without `training_tokens` of its own; each is a training run of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training_tokens: Vec<u64>,
    /// Depths that every model without `layers` of its own is probed at: `early`, `mid`, `late`
    /// (1/6, 1/2 and 5/6 of its layers, rounded; 1, 3, 5 of 6 and 4, 12, 20 of 24).
    #[serde(default = "default_depths")]
    pub depths: Vec<String>,
    /// What of each of those layers is read and patched: `resid_post` (the stream that leaves the layer), `resid_pre`, `resid_mid`,
    /// `attn_out`, `mlp_out`, `z`, `mlp_in` (what the MLP reads, after its norm), `mlp_normalized` (the same without the norm's gain). Where
    /// coders are transcoders, it is what they predict, `mlp_out`.
    #[serde(default = "default_hooks")]
    pub hooks: Vec<HookKind>,
    /// Subtract the mean over d_model from every activation, as TransformerLens' processed models do.
    #[serde(default)]
    pub center_residual: bool,
    /// Number format of the matrix products in training, and of the captures for it: `f32`, or `bf16` (GPU only), which is faster and
    /// changes numbers. Weights, sums, evaluation and passes with an SAE in the model are f32 either way.
    #[serde(default)]
    pub precision: Precision,
    /// The models, smallest first: tables compare the last with the first.
    pub models: Vec<ModelSpec>,
    /// Where the tokens are.
    pub tokens: TokenSpec,
    /// How SAEs are trained.
    pub train: TrainSpec,
    /// How they are evaluated.
    #[serde(default)]
    pub eval: EvalSpec,
    /// Mutual information of the hook points with the logits, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information: Option<InformationSpec>,
    /// Whether clouds of the SAEs and the activations have more of a loop than clouds without one, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<TopologySpec>,
    /// Scores of what latents mean, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legibility: Option<LegibilitySpec>,
}

/// One model of a sweep.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Its name in tables.
    pub name: String,
    /// A Hugging Face checkpoint directory or a GGUF file, relative to the spec, or to the home directory if it begins with `~/`. A model
    /// with neither this nor `hub` is left out, and the sweep says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Its name on the Hugging Face hub, `org/name[@revision][:path]`, instead of `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Branch, tag or commit of `hub` [default: main].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The same model before it was trained, or hardly, for the control `step-0`: a path as `path` is, or by `step0_hub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step0: Option<PathBuf>,
    /// Its name on the hub, `org/name@step0`, instead of `step0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step0_hub: Option<String>,
    /// Layers by the name of their depth, instead of the sweep's `depths`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<BTreeMap<String, usize>>,
    /// Its token budgets, instead of the sweep's: models of several widths, for instance, with as many tokens per latent each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_tokens: Option<Vec<u64>>,
}

/// Where tokens come from. Paths are relative to the spec, or to the home directory if they begin with `~/`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// A file, a directory or a glob (`data/**/*.jsonl.zst`) of Parquet or JSON (`tokens`, `input_ids` or `text`), text or safetensors;
    /// JSON and text also `.gz` or `.zst`. Of a directory or glob hidden files are left out, and each file is read once. Where
    /// `attention_mask` is beside token ids, padding is dropped. What is made from text waits in a temporary file (`TMPDIR`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// A dataset's name on the Hugging Face hub, `org/name[@revision][:path]`, instead of `train`. The path may be a directory, a
    /// file or a pattern; without it all shards are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Branch, tag or commit of `dataset` [default: main].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Held-out tokens. Without it they are read from `train`, after the training stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<PathBuf>,
    /// Use only the `first` context of each pre-tokenised training row, as SAELens does, or `split` it into all.
    #[serde(default)]
    pub rows: RowUse,
    /// The same for the rows of `eval`; `first` gives sequences from as many documents as there are rows.
    #[serde(default)]
    pub eval_rows: RowUse,
    /// Tokens per training context.
    pub context_size: usize,
    /// Whether contexts of text begin with BOS, which then stands between documents too, in place of the end-of-text token [default: if
    /// the model's tokenizer begins texts with one]. Token ids are used as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<bool>,
    /// Read the training text again from its start when it is used up. SAEs then see tokens more than once.
    #[serde(default)]
    pub repeat: bool,
    /// The column, field or tensor of `train`, if not `tokens`, `input_ids` or `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The same of `eval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_column: Option<String>,
    /// Leave out lines of JSON that can't be read, and count them, instead of stopping at the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_bad_lines: bool,
}

/// How SAEs are evaluated.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSpec {
    /// Held-out sequences.
    pub sequences: usize,
    /// Tokens per sequence.
    pub context_size: usize,
    /// Sequences of one forward pass [default: 8, or what has as many logits in vocabularies above 65,536].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Bootstrap replicates.
    pub resamples: usize,
    /// Level of the intervals.
    pub level: f64,
    /// Seed of the bootstrap's draw.
    pub seed: u64,
    /// Labels sampled from the model's predictions, per token, for `fwd` and `kl_pred`; 0 skips both. Each costs a pass forward and
    /// one back, shared by all SAEs of a hook.
    pub fisher_samples: usize,
    /// Seed of those draws.
    pub fisher_seed: u64,
}

/// How mutual information is estimated: by critics trained on activations of the training text.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct InformationSpec {
    /// Tokens; a quarter of them is held out. Estimates fall short with fewer than about 100,000.
    pub tokens: usize,
    /// Principal components of the logits.
    pub components: usize,
    /// Bottleneck widths [default: powers of two up to 64].
    pub widths: Vec<usize>,
    /// Training steps of a critic.
    pub steps: usize,
    /// Seed of initialisation and batches.
    pub seed: u64,
}

impl Default for InformationSpec {
    fn default() -> Self {
        Self { tokens: 100_000, components: 16, widths: Vec::new(), steps: 1000, seed: 0 }
    }
}

/// Which latents of each SAE are scored for what they mean, by the scores of `assay features`, on the held-out sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LegibilitySpec {
    /// How many of those that fire, drawn at random; all where they are not so many.
    pub latents: usize,
}

impl Default for LegibilitySpec {
    fn default() -> Self {
        Self { latents: 200 }
    }
}

impl Default for EvalSpec {
    fn default() -> Self {
        Self {
            sequences: 200,
            context_size: 256,
            batch: None,
            resamples: 5000,
            level: 0.95,
            seed: 0,
            fisher_samples: 4,
            fisher_seed: 0,
        }
    }
}

fn default_seeds() -> Vec<u64> {
    vec![0]
}
fn default_depths() -> Vec<String> {
    ["early", "mid", "late"].map(str::to_owned).to_vec()
}
fn default_hooks() -> Vec<HookKind> {
    vec![HookKind::ResidPost]
}
impl SweepSpec {
    /// What each hook gets an SAE of, for every seed and budget: in the order of the spec.
    pub fn all_coders(&self) -> Vec<Coder> {
        let short = self.k.iter().map(|&k| Architecture::topk(k).into());
        short.chain(self.coders.iter().flat_map(|entry| entry.coders.clone())).collect()
    }

    /// Their classes.
    pub fn architectures(&self) -> Vec<Architecture> {
        self.all_coders().into_iter().map(|coder| coder.architecture).collect()
    }

    /// The token budgets of a model.
    pub fn budgets<'a>(&'a self, model: &'a ModelSpec) -> &'a [u64] {
        model.training_tokens.as_deref().unwrap_or(&self.training_tokens)
    }

    /// Those of all models that have a place.
    pub fn all_budgets(&self) -> impl Iterator<Item = u64> {
        let placed = self.models.iter().filter(|model| model.path.is_some() || model.hub.is_some());
        placed.flat_map(|model| self.budgets(model).iter().copied())
    }
}

impl ModelSpec {
    /// The name on the hub with its revision; `None` where the spec gives a path, or nothing.
    ///
    /// # Errors
    /// If it is no name.
    pub fn hub_name(&self) -> Result<Option<HubName>> {
        hub_name(self.hub.as_deref(), self.revision.as_deref())
    }

    /// That of the model before its training; `None` where the spec gives a path, or nothing.
    ///
    /// # Errors
    /// If it is no name.
    pub fn step0_name(&self) -> Result<Option<HubName>> {
        hub_name(self.step0_hub.as_deref(), None)
    }
}

impl TokenSpec {
    /// The dataset's name on the hub with its revision; `None` where the spec gives a path.
    ///
    /// # Errors
    /// If it is no name.
    pub fn hub_name(&self) -> Result<Option<HubName>> {
        hub_name(self.dataset.as_deref(), self.revision.as_deref())
    }

    /// How the training text is read.
    pub fn reading(&self) -> Reading {
        Reading { wanted: None, column: self.column.clone(), skip_bad_lines: self.skip_bad_lines }
    }

    /// How held-out tokens of their own are read.
    pub fn eval_reading(&self) -> Reading {
        Reading { column: self.eval_column.clone(), ..self.reading() }
    }
}

impl EvalSpec {
    /// Sequences of one forward pass of a model. Its logits, and all that is as large, are most of an evaluation's memory.
    pub fn batch(&self, vocab_size: usize) -> usize {
        self.batch.unwrap_or_else(|| (8 * 65_536 / vocab_size.max(1)).clamp(1, 8))
    }
}

fn hub_name(name: Option<&str>, revision: Option<&str>) -> Result<Option<HubName>> {
    Ok(name.map(|name| name.parse::<HubName>()?.at(revision)).transpose()?)
}

#[cfg(test)]
mod tests {
    use assay_sae::TrainConfig;

    use super::*;

    const SPEC: &str = "name = 's'\nk = [4]\ntraining_tokens = [512]\nmodels = [{ name = 'm', path = 'm' }]\n\
        tokens = { train = 't', context_size = 256 }\ntrain = { expansion = 4, batch_size = 256 }\n";

    fn load(text: &str, overrides: &[&str]) -> Result<SweepSpec> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        SpecDocument::read(&path, &overrides.iter().map(|&o| o.to_owned()).collect::<Vec<_>>())?.spec()
    }

    #[test]
    fn overrides_reach_nested_keys() {
        let spec = load(SPEC, &["train.lr=1e-3", "k=[1,2]", "eval.seed=7", "name=other"]).unwrap();
        assert_eq!((spec.train.lr, spec.k, spec.eval.seed), (Some(1e-3), vec![1, 2], 7));
        assert_eq!(spec.name, "other");
        assert_eq!(spec.precision, Precision::F32);
        assert_eq!(load(SPEC, &["precision=bf16"]).unwrap().precision, Precision::Bf16);
        assert_eq!(
            load(SPEC, &["models.m.path=other"]).unwrap().models[0].path.as_deref().unwrap().file_name().unwrap(),
            "other"
        );
        assert!(load(SPEC, &["models.n.path=other"]).is_err());
        assert!(load(SPEC, &["train.lr.x=1"]).is_err());
    }

    #[test]
    fn coders_and_their_short_form_say_the_same() {
        assert_eq!(load(SPEC, &[]).unwrap().architectures(), [Architecture::topk(4)]);
        let coders = "coders = [{ architecture = 'topk', k = [4] }, { architecture = 'groupmax', k = [2, 4] }]";
        let spec = load(&SPEC.replace("k = [4]", coders), &["hooks=['resid_post', 'mlp_out']"]).unwrap();
        let expected = [Architecture::topk(4), Architecture::groupmax(2), Architecture::groupmax(4)];
        assert_eq!(spec.architectures(), expected);
        assert_eq!(spec.hooks, [HookKind::ResidPost, HookKind::MlpOut]);
    }

    #[test]
    fn coders_have_the_settings_of_their_class() {
        let coders = "coders = [{ architecture = 'batchtopk', k = [4, 6.5] }, \
            { architecture = 'jumprelu', target_l0 = [8, 16], l0_coefficient = 0.1, sparsity = 'quadratic' }, \
            { architecture = 'standard', l1_coefficient = 2 }, { architecture = 'matryoshka', k = [8], widths = [4, 16] }]";
        let spec = load(&SPEC.replace("k = [4]", coders), &[]).unwrap();
        let named: Vec<String> = spec.architectures().iter().map(|a| format!("{a} {}", a.knob())).collect();
        let expected = ["batchtopk k 4", "batchtopk k 6.5", "jumprelu target_l0 8", "jumprelu target_l0 16"];
        assert_eq!(named[..4], expected);
        assert_eq!(named[4..], ["standard l1_coefficient 2", "matryoshka k 8"]);
        let [first, .., last] = &spec.all_coders()[..] else { panic!("{named:?}") };
        let config = spec.train.config(4, first, 512, Precision::F32).unwrap();
        assert!(config.check().is_ok() && config.aux_coefficient > 0.0);
        let error = spec.train.config(8, last, 512, Precision::F32).unwrap().check().unwrap_err().to_string();
        assert!(error.contains("widths = [4, 16] must end at d_sae = 32; add it"), "{error}");
        let standard = spec.train.config(4, &spec.all_coders()[4], 512, Precision::Bf16).unwrap();
        assert!(standard.check().is_ok(), "every class has the kernels of a GPU");
        let aux = TrainConfig { aux_coefficient: 0.1, ..standard };
        let error = aux.check().unwrap_err().to_string();
        assert!(error.contains("standard has no auxiliary loss of dead latents; set it to 0"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (change, expected) in [
            (("k = [4]", "k = [4]\ncoders = [{ architecture = 'topk', k = [2] }]"), "exclude each other"),
            (
                ("k = [4]", "coders = [{ architecture = 'gated', k = [2] }]"),
                "architecture = \"gated\": give `l1_coefficient`, or `target_l0`, the active latents per token",
            ),
            (
                ("k = [4]", "coders = [{ architecture = 'gated', k = [2], l1_coefficient = 1 }]"),
                "architecture = \"gated\": unknown field `k`, expected one of `l1_coefficient`, `target_l0`, `l1_warmup_steps`",
            ),
            (
                ("k = [4]", "coders = [{ architecture = 'vanilla', k = [2] }]"),
                "\"vanilla\" cannot be trained; topk, groupmax, ",
            ),
            (("k = [4]", "coders = [{ k = [2] }]"), "`architecture` is missing; one of topk, "),
            (("k = [4]", "coders = [{ architecture = 'batchtopk' }]"), "missing field `k`"),
            (
                ("k = [4]", "coders = [{ architecture = 'jumprelu', l0_coefficient = [1], sparsity = 'quadratic' }]"),
                "needs `target_l0`",
            ),
            (
                ("k = [4]", "coders = [{ architecture = 'jumprelu', target_l0 = [8], tanh_scale = 2 }]"),
                "`tanh_scale` belongs to sparsity = \"tanh\"; remove it",
            ),
            (("k = [4]", "coders = [{ architecture = 'topk', k = [] }]"), "at least one value"),
            (("k = [4]", "coders = [{ architecture = 'topk', k = [2, 2] }]"), "listed twice"),
            (("k = [4]", "seeds = [1]"), "k: at least one value"),
            (("k = [4]", "k = [4]\nhooks = ['resid_out']"), "there are resid_pre, z, "),
            (("k = [4]", "k = [4]\nhooks = ['mlp_out', 'mlp_out']"), "listed twice"),
            (("k = [4]", "k = [4]\narchitecture = 'groupmax'"), "[[coders]]"),
            (("k = [4]", "k = [4]\nhooks = []"), "hooks: at least one value"),
            (("batch_size", "bach_size"), "did you mean `batch_size`?"),
            (("k = [4]", "k = [4]\nlr = 1e-3"), "it belongs to [train]"),
            (("[512]", "[500]"), "256 would be"),
            (("'s'", "'../s'"), "name of a directory"),
            (("k = [4]", "k = [4, 4]"), "listed twice"),
            (("k = [4]", "k = [4]\nprecision = 'fp16'"), "`f32` or `bf16`"),
        ] {
            let error = format!("{:#}", load(&SPEC.replace(change.0, change.1), &[]).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
