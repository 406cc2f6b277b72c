//! The text of a spec for a model and a text that were looked at: what `assay new` writes and `assay train` runs.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use assay_models::{DecoderConfig, HookKind};
use toml_edit::Value;

use super::check::layer_at;

/// Held-out sequences: twice the 32 that a verdict needs.
pub const EVAL_SEQUENCES: usize = 64;
/// Training tokens where nothing is said and the text has more.
pub const MOST_TOKENS: u64 = 2_000_000;
/// Tokens of a context where nothing is said.
pub const CONTEXT_SIZE: usize = 128;

/// Which layers of the model.
pub enum Layers {
    /// Those of the sweep's depths.
    Depths,
    /// One, by its number.
    One(usize),
}

/// Which SAEs a site gets.
pub struct Coders {
    /// `topk` and others, by their names in a spec.
    pub architecture: String,
    /// Active latents per token.
    pub l0: Vec<u64>,
}

/// A path here, or a name on the hub.
pub enum Place {
    /// Relative to the directory of the spec.
    Path(String),
    /// `org/name[@revision][:path]`.
    Hub(String),
}

/// What a spec is made of.
pub struct Draft<'a> {
    /// Names the results.
    pub name: &'a str,
    /// The model's name in tables.
    pub model_name: &'a str,
    /// Where the model is.
    pub model: Place,
    /// What it computes.
    pub config: &'a DecoderConfig,
    /// Where the training text is.
    pub text: Place,
    /// Held-out text of its own.
    pub eval: Option<String>,
    /// Held-out sequences.
    pub eval_sequences: usize,
    /// What the column or field of both texts is called, where that has to be said.
    pub column: Option<&'a str>,
    /// Whether lines that can't be read are left out.
    pub skip_bad_lines: bool,
    /// What the text was found to hold, a sentence.
    pub held: &'a str,
    /// Which layers get SAEs.
    pub layers: Layers,
    /// Where in each layer.
    pub hook: HookKind,
    /// Which SAEs.
    pub coders: Coders,
    /// Seeds of the trainings, of which there is one for each.
    pub seeds: Vec<u64>,
    /// Tokens that each is trained on, and of a step, by [`budget`].
    pub budget: Budget,
    /// Tokens of a context.
    pub context_size: usize,
    /// d_sae / d_in.
    pub expansion: usize,
}

/// How long a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// A multiple of the batch.
    pub tokens: u64,
    /// Tokens of a step.
    pub batch: u64,
}

/// Steps that a training should have at least. SAELens' tutorial takes 30,000 (`total_training_steps` in its notebook
/// `training_a_sparse_autoencoder`).
pub const STEPS: u64 = 1000;

/// About a thousand steps ([`STEPS`]) or more, of 128 to 4096 tokens, a power of two: as many as fit into so many tokens.
///
/// # Errors
/// If there is not a step in them.
pub fn budget(tokens: u64) -> Result<Budget> {
    const BATCHES: std::ops::RangeInclusive<u64> = 128..=4096;
    let batch = 1 << (tokens / STEPS).max(1).ilog2();
    let batch = u64::clamp(batch, *BATCHES.start(), *BATCHES.end());
    ensure!(
        tokens >= batch,
        "{tokens} training tokens are less than one step of {batch}; give more text, or a larger --training-tokens"
    );
    Ok(Budget { tokens: tokens / batch * batch, batch })
}

/// The names of depths that fall on layers of their own, and these.
fn depths(n_layers: usize) -> Vec<(&'static str, usize)> {
    let mut found: Vec<(&str, usize)> = Vec::new();
    for depth in ["early", "mid", "late"] {
        let layer = layer_at(depth, n_layers).expect("it is the name of a depth");
        if found.last().is_none_or(|&(_, before)| before != layer) {
            found.push((depth, layer));
        }
    }
    found
}

impl Draft<'_> {
    /// The text, with a comment on each choice.
    pub fn text(&self) -> String {
        let Self { name, config, context_size, expansion, eval_sequences, budget: Budget { tokens, batch }, .. } =
            *self;
        let depths = depths(config.n_layers());
        let (words, numbers): (Vec<&str>, Vec<String>) = depths.iter().map(|(d, l)| (*d, l.to_string())).unzip();
        let width = if self.hook == HookKind::Z { "the heads' outputs together" } else { "d_model" };
        let mut text = format!(
            "# assay sweep {name}.toml --dry-run     lists the runs, what they cost and which are done\n\
             # assay sweep {name}.toml               trains and evaluates them: results/{name}/report.md\n#\n\
             # {}: {}, d_model {}, {} layers, {} tokens in the vocabulary, contexts of up to {}.\n# {}\n\n\
             name = {}\n\n# Each combination of what follows is an SAE of its own.\n",
            self.model_name,
            config.family,
            config.d_model,
            config.n_layers(),
            config.vocab_size,
            config.max_positions,
            self.held,
            quoted(name),
        );
        let l0: Vec<String> = self.coders.l0.iter().map(ToString::to_string).collect();
        let l0 = l0.join(", ");
        let architecture = self.coders.architecture.as_str();
        if architecture == "topk" {
            _ = writeln!(
                text,
                "k = [{l0}]  # active latents per token, of TopK SAEs; for other classes coders = [{{ architecture = \"batchtopk\", k = [16] }}]"
            );
        } else {
            // Classes without a `k` are steered to it.
            let key = if ["jumprelu", "gated", "standard"].contains(&architecture) { "target_l0" } else { "k" };
            _ = writeln!(text, "coders = [{{ architecture = {}, {key} = [{l0}] }}]", quoted(architecture));
        }
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        let of_seeds = match seeds.len() {
            1 => "one training; with three or more, differences between trainings are seen",
            _ => {
                "a training for each: what differs by less than seeds do is no finding; one seed is enough for a first look"
            }
        };
        _ = writeln!(text, "seeds = [{}]  # {of_seeds}", seeds.join(", "));
        if matches!(self.layers, Layers::Depths) {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            _ = writeln!(
                text,
                "depths = [{}]  # here layers {}; others: layers = {{ name = 3 }} below the model's path",
                words.join(", "),
                numbers.join(", ")
            );
        }
        let others: Vec<&str> =
            HookKind::ALL.into_iter().filter(|kind| *kind != self.hook).map(HookKind::short_name).collect();
        _ = writeln!(text, "hooks = [{}]  # or {}", quoted(self.hook.short_name()), others.join(", "));
        _ = writeln!(
            text,
            "training_tokens = [{tokens}]  # a training for each budget; multiples of batch_size\n\n[[models]]\nname = {}",
            quoted(self.model_name)
        );
        _ = match &self.model {
            Place::Path(path) => writeln!(text, "path = {}", quoted(path)),
            Place::Hub(hub) => writeln!(text, "hub = {}", quoted(hub)),
        };
        if let Layers::One(layer) = self.layers {
            _ = writeln!(text, "layers = {{ L{layer} = {layer} }}");
        }
        _ = match &self.text {
            Place::Path(path) => writeln!(text, "\n[tokens]\ntrain = {}", quoted(path)),
            Place::Hub(hub) => writeln!(text, "\n[tokens]\ndataset = {}", quoted(hub)),
        };
        _ = match &self.eval {
            Some(eval) => writeln!(text, "eval = {}\neval_rows = \"split\"  # as `rows`, of this", quoted(eval)),
            None => writeln!(
                text,
                "# eval = \"held-out.jsonl\"  # without it, the evaluation takes what follows the training text in `train`"
            ),
        };
        if let Some(column) = self.column {
            _ = writeln!(text, "column = {}", quoted(column));
            if self.eval.is_some() {
                _ = writeln!(text, "eval_column = {}", quoted(column));
            }
        }
        if self.skip_bad_lines {
            _ = writeln!(text, "skip_bad_lines = true");
        }
        _ = write!(
            text,
            "rows = \"split\"  # all contexts of a row of token ids; text is packed into contexts\ncontext_size = {context_size}\n\n\
             [train]\nrecipe = \"assay\"  # learning rate, warm-up and the rest; \"saelens\" for what SAELens does\n\
             expansion = {expansion}  # latents for each dimension of the activation, {width}\nbatch_size = {batch}  # tokens per step\n\
             save_saes = true  # under saes/, for `assay eval`, `assay features` and SAELens\n\n\
             [eval]\nsequences = {eval_sequences}  # held out; intervals narrow with their square root\ncontext_size = {context_size}\n\
             fisher_samples = 1  # for the metrics `fwd` and `kl_pred`; 0 leaves them out and is faster\n"
        );
        text
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_multiple_of_its_batch_and_about_a_thousand_steps() {
        for (tokens, expected) in [
            (2_000_000, Budget { tokens: 1_999_872, batch: 1024 }),
            (100_000_000, Budget { tokens: 99_999_744, batch: 4096 }),
            (61_440, Budget { tokens: 61_440, batch: 128 }),
            (130, Budget { tokens: 128, batch: 128 }),
        ] {
            assert_eq!(budget(tokens).unwrap(), expected);
        }
        assert!(budget(127).unwrap_err().to_string().contains("less than one step of 128"));
    }

    #[test]
    fn depths_are_layers_of_their_own() {
        assert_eq!(depths(6), [("early", 1), ("mid", 3), ("late", 5)]);
        assert_eq!(depths(2), [("early", 0), ("mid", 1)]);
        assert_eq!(depths(1), [("early", 0)]);
    }
}
