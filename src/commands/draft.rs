//! What SAEs are to be trained on, as it is said on the command line, and looked at before a spec is made of it.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use assay_models::tokens::{Reading, RowUse, Texts, TokenSource};
use assay_models::{DecoderConfig, HookKind, ModelError, ModelFiles};
use serde::Deserialize;

use super::contexts::whole;
use crate::fetch;
use crate::files::from_home;
use crate::markdown::counted;
use crate::progress::Progress;
use crate::spec::SpecDocument;
use crate::spec::draft::{
    Budget, CONTEXT_SIZE, Coders, Draft, EVAL_SEQUENCES, Layers, MOST_TOKENS, Place, STEPS, budget,
};
use crate::spelling::missing;

/// The model, the text, and how much of it.
#[derive(clap::Args, Clone, Debug)]
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
    /// Held-out sequences [default: 64, or a fifth of a text that has less than twice as many; of --eval-text what there is, up to 64]
    #[arg(long, value_name = "N", value_parser = whole(1, 1 << 20, "there would be nothing to evaluate on"))]
    eval_sequences: Option<u64>,
    /// Column or field of the text or the token ids, if not `text`, `tokens` or `input_ids`
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Leave out lines of JSON that can't be read, and count them
    #[arg(long)]
    skip_bad_lines: bool,
    /// Where in a layer the SAE reads: resid_post, resid_pre, resid_mid, attn_out, mlp_out, z, mlp_in or mlp_normalized
    #[arg(long, value_name = "NAME", default_value_t = HookKind::ResidPost)]
    pub hook: HookKind,
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
    eval_sequences: usize,
    /// What the text holds, a sentence.
    held: String,
}

/// The keys of a spec that some of the options stand for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Overridden {
    eval: OverriddenEval,
    tokens: OverriddenTokens,
}

#[derive(Default, Deserialize)]
struct OverriddenEval {
    sequences: Option<NonZeroU64>,
}

#[derive(Default, Deserialize)]
struct OverriddenTokens {
    column: Option<String>,
    skip_bad_lines: Option<bool>,
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
        let reading = self.reading();
        let open = |place: &Path| TokenSource::open_as(place, context_size, RowUse::Split, texts, &reading);
        let source = open(&place)?;
        let asked = self.training_tokens.unwrap_or(MOST_TOKENS);
        let own = self.eval_text.as_deref().map(|path| self.evaluated(path, &open)).transpose()?;
        let most = if own.is_some() { 0 } else { self.eval_sequences.map_or(EVAL_SEQUENCES, size) };
        let wanted = size(asked.div_ceil(context_size as u64)).saturating_add(most);
        if source.is_made_on_the_way() {
            progress.say(&format!("counting the tokens of {}", self.text.display()));
        }
        let (contexts, is_all) = match source.check_range(0, wanted) {
            Err(ModelError::TooFewTokens { available, .. }) => (available, true),
            checked => checked.map(|()| (wanted, false))?,
        };
        let shown = self.text.display();
        // Of a short text not most of it.
        let is_short = is_all && self.eval_sequences.is_none() && contexts < 2 * most;
        let held_out = if is_short { (contexts / 5).max(1) } else { most };
        ensure!(
            contexts > held_out,
            "{shown} has {contexts} contexts of {context_size} tokens, and {held_out} are held out for the evaluation; give more text, \
             --eval-text, fewer --eval-sequences, or a smaller --context-size"
        );
        if is_short {
            progress.say(&format!(
                "{shown} has {contexts} contexts of {context_size} tokens: {held_out} are held out for the evaluation, whose intervals are \
                 wide; more text, or --eval-text, makes them narrow"
            ));
        }
        let left = ((contexts - held_out) * context_size) as u64;
        ensure!(
            self.training_tokens.is_none_or(|asked| asked <= left),
            "--training-tokens {asked}: {shown} has {left}, after {held_out} held-out sequences of {context_size}; give fewer, or more text"
        );
        let budget = budget(left.min(asked)).with_context(|| format!("{shown}"))?;
        if self.training_tokens.is_some_and(|asked| asked != budget.tokens) {
            progress.say(&format!(
                "--training-tokens {asked}: {} will be trained on, which are whole steps of {} tokens",
                budget.tokens, budget.batch
            ));
        }
        let steps = budget.tokens / budget.batch;
        if steps < STEPS {
            progress.say(&format!(
                "{} of {} tokens are few to train an SAE: thousands are usual, and what is measured after fewer says little of the SAE that \
                 it would become; give more text, or a larger --training-tokens",
                counted(usize::try_from(steps)?, "step"),
                budget.batch
            ));
        }
        let found = (contexts * context_size).to_string();
        let count = if is_all { found } else { format!("at least {found}") };
        let held = format!("{shown}: {count} tokens in whole contexts of {context_size}.");
        let is_tokens = !source.is_made_on_the_way();
        let eval_sequences = own.unwrap_or(held_out);
        Ok(Inputs { config, model_name: name_of(&self.model), is_tokens, context_size, budget, eval_sequences, held })
    }

    /// The same with what `--set` says of the keys that these options stand for.
    ///
    /// # Errors
    /// If a value is none of its key.
    pub fn with_overrides(mut self, overrides: &[String]) -> Result<Self> {
        let Overridden { eval, tokens } = SpecDocument::of(Path::new("--set"), "", overrides)?.parsed()?;
        self.eval_sequences = eval.sequences.map(NonZeroU64::get).or(self.eval_sequences);
        self.column = tokens.column.or(self.column);
        self.skip_bad_lines = tokens.skip_bad_lines.unwrap_or(self.skip_bad_lines);
        Ok(self)
    }

    fn reading(&self) -> Reading {
        Reading { wanted: None, column: self.column.clone(), skip_bad_lines: self.skip_bad_lines }
    }

    /// How many sequences of a held-out text of its own are evaluated on.
    fn evaluated(&self, path: &Path, open: &dyn Fn(&Path) -> Result<TokenSource, ModelError>) -> Result<usize> {
        let path = &from_home(path);
        ensure!(path.exists() || fetch::is_pattern(path), "--eval-text {}", missing(path));
        let asked = self.eval_sequences.and_then(|asked| usize::try_from(asked).ok());
        let source = open(path).context("--eval-text")?;
        let wanted = asked.unwrap_or(EVAL_SEQUENCES);
        match source.check_range(0, wanted) {
            Err(ModelError::TooFewTokens { available, context_size, .. }) if asked.is_some() || available == 0 => {
                bail!(
                    "--eval-text {}: it has {available} contexts of {context_size} tokens, and {wanted} are asked for; give fewer \
                 --eval-sequences, a smaller --context-size, or more text",
                    path.display()
                )
            }
            Err(ModelError::TooFewTokens { available, .. }) => Ok(available),
            checked => Ok(checked.map(|()| wanted)?),
        }
    }

    /// A spec for it.
    ///
    /// # Errors
    /// If a path is not UTF-8.
    pub fn draft<'a>(
        &'a self,
        found: &'a Inputs,
        name: &'a str,
        layers: Layers,
        coders: Coders,
        seeds: Vec<u64>,
    ) -> Result<Draft<'a>> {
        let model = if from_home(&self.model).exists() {
            Place::Path(utf8(&self.model)?)
        } else {
            Place::Hub(utf8(&self.model)?)
        };
        let is_here = from_home(&self.text).exists() || fetch::is_pattern(&self.text);
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
            seeds,
            budget: found.budget,
            eval_sequences: found.eval_sequences,
            column: self.column.as_deref(),
            skip_bad_lines: self.skip_bad_lines,
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
    use clap::Parser as _;

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

    /// As a spec would read them: a string with or without its quotes, and a value that is none is named with its override.
    #[test]
    fn overrides_stand_for_options() {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            draft: DraftArgs,
        }
        let line = ["assay", "--model", "m", "--text", "t", "--column", "a", "--eval-sequences", "5"];
        let overridden = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
            Command::parse_from(line).draft.with_overrides(&overrides)
        };
        let read = |overrides: &[&str]| {
            let found = overridden(overrides).unwrap();
            (found.column.unwrap(), found.eval_sequences.unwrap(), found.skip_bad_lines)
        };
        assert_eq!(read(&["train.lr=1e-3", "models.m.path=x"]), ("a".to_owned(), 5, false));
        for column in ["tokens.column=b c", "tokens.column='b c'", "tokens={ column = \"b c\" }"] {
            assert_eq!(
                read(&[column, "eval.sequences=1_000", "tokens.skip_bad_lines=true"]),
                ("b c".to_owned(), 1000, true)
            );
        }
        assert_eq!(read(&["eval.sequences=3", "eval.sequences=4"]).1, 4, "the last one");
        for (wrong, expected) in [
            (
                "eval.sequences=0",
                "--set eval.sequences=0: invalid value: integer `0`, expected a whole number from 1 up",
            ),
            ("eval.sequences=few", "--set eval.sequences=few: invalid type: string \"few\", expected a whole number"),
            ("tokens.column=3", "--set tokens.column=3: invalid type: integer `3`, expected a string"),
            ("tokens", "--set tokens: expected key=value"),
        ] {
            let error = format!("{:#}", overridden(&["eval.level=0.9", wrong]).err().unwrap());
            assert!(error.contains(expected), "{error}");
        }
    }
}
