//! What SAEs are to be trained on, as it is said on the command line, and looked at before a spec is made of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use assay_models::tokens::{Reading, RowUse, Texts, TokenSource};
use assay_models::{DecoderConfig, HookKind, ModelError, ModelFiles};

use super::contexts::whole;
use crate::fetch;
use crate::progress::Progress;
use crate::spec::draft::{Budget, CONTEXT_SIZE, Coders, Draft, EVAL_SEQUENCES, Layers, MOST_TOKENS, Place, budget};

/// The model, the text, and how much of it.
#[derive(clap::Args, Debug)]
pub(super) struct DraftArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    pub model: PathBuf,
    /// Text or token ids to train on: a file, a directory or a pattern of Parquet, JSON, plain text or safetensors, or a dataset's name on
    /// the hub, org/name[@revision][:path]
    #[arg(long, visible_alias = "tokens", value_name = "PATH|NAME")]
    pub text: PathBuf,
    /// Held-out text or token ids [default: what follows the training tokens in the same text]
    #[arg(long, visible_alias = "eval-tokens", value_name = "PATH")]
    pub eval_text: Option<PathBuf>,
    /// Where in a layer the SAE reads: resid_post, resid_pre, resid_mid, attn_out, mlp_out, z, mlp_in or mlp_normalized
    #[arg(long, value_name = "NAME", default_value_t = HookKind::ResidPost)]
    hook: HookKind,
    /// Tokens to train on [default: all of the text but the held-out tokens, up to 2,000,000]
    #[arg(long, value_name = "N", value_parser = whole(1, 1 << 40, "nothing would be trained"))]
    training_tokens: Option<u64>,
    /// Tokens per context [default: 128, or as many as the model takes]
    #[arg(long, value_name = "N", value_parser = whole(2, 1 << 20, "a context needs two tokens, one to predict the other"))]
    context_size: Option<u64>,
    /// Latents per dimension of the activation
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole(1, 4096, "an SAE needs latents"))]
    expansion: u64,
}

/// What was found there.
pub(super) struct Inputs {
    /// What the model computes.
    pub config: DecoderConfig,
    /// The model's name in tables.
    pub model_name: String,
    /// Whether the text is token ids already.
    pub is_tokens: bool,
    context_size: usize,
    budget: Budget,
    /// What the text holds, a sentence.
    held: String,
}

impl DraftArgs {
    /// Opens the model and the text; no weights are read.
    ///
    /// # Errors
    /// If one of them can't be found or read, or there is too little text.
    pub fn look(&self, progress: Progress) -> Result<Inputs> {
        let checkpoint = fetch::model(&self.model, progress)?;
        let config = ModelFiles::open(&checkpoint)?.config().clone();
        let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let context_size = self.context_size.map_or(CONTEXT_SIZE.min(config.max_positions), size);
        assay_models::decoder::check_context(context_size, &config).context("--context-size")?;
        let place = fetch::text(&self.text, progress)?;
        let texts = Some(Texts::of(&checkpoint, &config));
        let source = TokenSource::open_as(&place, context_size, RowUse::Split, texts, &Reading::default())?;
        let held_out = if self.eval_text.is_some() { 0 } else { EVAL_SEQUENCES };
        let asked = self.training_tokens.unwrap_or(MOST_TOKENS);
        let wanted = size(asked.div_ceil(context_size as u64)).saturating_add(held_out);
        if source.is_made_on_the_way() {
            progress.say(&format!("counting the tokens of {}", self.text.display()));
        }
        let (contexts, is_all) = match source.check_range(0, wanted) {
            Err(ModelError::TooFewTokens { available, .. }) => (available, true),
            checked => checked.map(|()| (wanted, false))?,
        };
        let shown = self.text.display();
        ensure!(
            contexts > held_out,
            "{shown} has {contexts} contexts of {context_size} tokens, and {held_out} are held out for the evaluation; give more text, \
             --eval-text, or a smaller --context-size"
        );
        let left = ((contexts - held_out) * context_size) as u64;
        ensure!(
            self.training_tokens.is_none_or(|asked| asked <= left),
            "--training-tokens {asked}: {shown} has {left}, after {held_out} held-out sequences of {context_size}; give fewer, or more text"
        );
        let budget = budget(left.min(asked)).with_context(|| format!("{shown}"))?;
        if self.training_tokens.is_some_and(|asked| asked != budget.tokens) {
            progress.say(&format!(
                "--training-tokens {asked}: trained on {}, which are whole steps of {} tokens",
                budget.tokens, budget.batch
            ));
        }
        let found = (contexts * context_size).to_string();
        let count = if is_all { found } else { format!("at least {found}") };
        let held = format!("{shown}: {count} tokens in whole contexts of {context_size}.");
        let is_tokens = !source.is_made_on_the_way();
        Ok(Inputs { config, model_name: name_of(&self.model), is_tokens, context_size, budget, held })
    }

    /// A spec for it.
    ///
    /// # Errors
    /// If a path is not UTF-8.
    pub fn draft<'a>(
        &self,
        found: &'a Inputs,
        name: &'a str,
        layers: Layers,
        coders: Coders,
        seed: u64,
    ) -> Result<Draft<'a>> {
        let model = if self.model.exists() { Place::Path(utf8(&self.model)?) } else { Place::Hub(utf8(&self.model)?) };
        let is_here = self.text.exists() || fetch::is_pattern(&self.text);
        let text = if is_here { Place::Path(utf8(&self.text)?) } else { Place::Hub(utf8(&self.text)?) };
        Ok(Draft {
            name,
            model_name: &found.model_name,
            model,
            config: &found.config,
            text,
            eval: self.eval_text.as_deref().map(utf8).transpose()?,
            held: &found.held,
            layers,
            hook: self.hook,
            coders,
            seed,
            budget: found.budget,
            context_size: found.context_size,
            expansion: usize::try_from(self.expansion).unwrap_or(usize::MAX),
        })
    }
}

fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str();
    Ok(text.with_context(|| format!("{}: a spec can't hold this path, which is not UTF-8", path.display()))?.to_owned())
}

/// What a model is called in tables: the last part of its path or name, in letters that a file's name may have.
fn name_of(model: &Path) -> String {
    let shown = model.to_string_lossy();
    let shown = shown.split(['@', ':']).next().unwrap_or_default().trim_end_matches('/');
    let last = shown.rsplit('/').next().unwrap_or_default();
    let last = last.strip_suffix(".gguf").unwrap_or(last).trim_start_matches('.');
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    if last.is_empty() { "model".to_owned() } else { last.chars().map(plain).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_after_the_last_part_of_its_name() {
        for (model, expected) in [
            ("models/bundled/small/", "small"),
            ("EleutherAI/pythia-70m@step3000", "pythia-70m"),
            ("org/repo:Model.Q4_1.gguf", "repo"),
            ("/m/SmolLM2 135M.Q4_1.gguf", "SmolLM2-135M.Q4_1"),
            (".", "model"),
        ] {
            assert_eq!(name_of(Path::new(model)), expected);
        }
    }
}
