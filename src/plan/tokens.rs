//! The tokens of a sweep: opened, checked and hashed once for all models with one tokenizer.

use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use assay_models::decoder::{check_context, check_tokens};
use assay_models::tokens::Texts;
use assay_models::vocabulary::Vocabulary;
use assay_models::{DecoderConfig, ModelError, Reading, TokenSource};
use ndarray::Array2;

use crate::belonging::missing_bos;
use crate::fetch::is_pattern;
use crate::overlap::Overlap;
use crate::progress::Progress;
use crate::record::short;
use crate::spec::SweepSpec;
use crate::spelling::missing;

/// Contexts that are read at a time when all are looked at.
const CHUNK: usize = 1024;

/// Training contexts and evaluation sequences, with the hashes that runs are known by.
pub struct SweepTokens {
    /// Where training contexts are read.
    pub source: TokenSource,
    /// Held-out sequences.
    pub eval: Array2<u32>,
    tokenizer: String,
    bos: Option<u32>,
    /// The hash of the first so many training contexts.
    hashes: Vec<(usize, String)>,
    eval_hash: String,
    /// The largest token of the training contexts that were hashed.
    largest: u32,
}

impl SweepTokens {
    /// Opens the tokens of a sweep, the training text at `text`; `texts` is how text becomes tokens of the model, and `tokenizer` its id.
    ///
    /// # Errors
    /// If a file is unusable, there are too few tokens, or training and evaluation text overlap.
    pub fn open(
        spec: &SweepSpec,
        model: &str,
        texts: Texts<'_>,
        tokenizer: String,
        text: &Path,
        progress: Progress,
    ) -> Result<Self> {
        let open = |path: &Path, context, rows, reading: &Reading| -> Result<TokenSource> {
            ensure!(path.exists() || is_pattern(path), missing(path));
            Ok(TokenSource::open_as(path, context, rows, Some(texts), reading)?)
        };
        let source = open(text, spec.tokens.context_size, spec.tokens.rows, &spec.tokens.reading())
            .context("[tokens] train (a path is relative to the spec)")?;
        let source = if spec.tokens.repeat { source.repeating() } else { source };
        let most = spec.all_budgets().max().unwrap_or(0);
        let train_contexts = contexts_of(most, spec);
        make_tokens(&source, train_contexts, model, progress)
            .map_err(|error| too_few(error, |has| fewer_trained(has, most, spec)))
            .context("[tokens] train: training tokens")?;
        source.notes().iter().for_each(|note| progress.say(&format!("training tokens: {note}")));
        let mut bos = source.bos();
        let eval = match &spec.tokens.eval {
            Some(path) => {
                let source = open(path, spec.eval.context_size, spec.tokens.eval_rows, &spec.tokens.eval_reading())
                    .context("[tokens] eval (a path is relative to the spec)")?;
                let read = source.read(0, spec.eval.sequences).map_err(|error| {
                    too_few(error.into(), |has| format!("lower [eval] sequences to {has}, or give more text"))
                });
                bos = bos.or(source.bos());
                source.notes().iter().for_each(|note| progress.say(&format!("evaluation tokens: {note}")));
                read
            }
            None if spec.tokens.repeat => {
                bail!("[tokens]: with `repeat` the training text leaves none over; give tokens.eval")
            }
            None => source.read(train_contexts, spec.eval.sequences).map_err(|error| {
                too_few(error.into(), |has| {
                    format!(
                        "{train_contexts} of them are trained on, and {} left to be evaluated on; lower [eval] sequences or training_tokens, or \
                         give more text",
                        has.saturating_sub(train_contexts)
                    )
                })
            }),
        }
        .context("[tokens] eval: evaluation tokens (a path is relative to the spec)")?;
        let eval_hash = hash_sequences(&eval);
        let mut tokens = Self { source, eval, tokenizer, bos, hashes: Vec::new(), eval_hash, largest: 0 };
        let budgets = spec.all_budgets().map(|budget| contexts_of(budget, spec)).collect();
        tokens.hash(budgets, information_contexts(spec))?;
        Ok(tokens)
    }

    /// Which models share these tokens: those with this tokenizer and token at the start of a text.
    pub fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    /// The token that contexts of text begin with, for training or evaluation; `None` where they don't, or both are given as token ids.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// What is to be said of contexts that don't begin with BOS, though a model's tokenizer begins texts with it.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn missing_bos(&self, vocabulary: &Vocabulary) -> Result<Option<String>> {
        let first = self.source.read(0, 1)?;
        Ok(missing_bos(vocabulary, first.view()).or_else(|| missing_bos(vocabulary, self.eval.view())))
    }

    /// The hash of the first training contexts, which is part of what every number that follows from them is known by; `None` where it
    /// was not asked for.
    pub fn hash_of(&self, contexts: usize) -> Option<&str> {
        self.hashes.iter().find(|(known, _)| *known == contexts).map(|(_, hash)| hash.as_str())
    }

    /// The hash of the evaluation sequences and their shape.
    pub fn eval_hash(&self) -> &str {
        &self.eval_hash
    }

    /// Checks that a model can be run on them.
    ///
    /// # Errors
    /// If a context is too long for it, or a token is not in its vocabulary.
    pub fn check(&self, config: &DecoderConfig) -> Result<()> {
        check_context(self.source.context_size(), config).context("[tokens]")?;
        check_context(self.eval.ncols(), config).context("[eval]")?;
        check_tokens(self.eval.view(), config.vocab_size).context("evaluation tokens")?;
        if (self.largest as usize) < config.vocab_size {
            return Ok(());
        }
        // One is too large: which one is it?
        let contexts = self.hashes.iter().map(|(contexts, _)| *contexts).max().unwrap_or(0);
        for first in (0..contexts).step_by(CHUNK) {
            let chunk = self.source.read(first, CHUNK.min(contexts - first))?;
            check_tokens(chunk.view(), config.vocab_size)
                .with_context(|| format!("training tokens, contexts from {first} on"))?;
        }
        Ok(())
    }

    /// Hashes the training contexts of each budget, and what mutual information reads, in one pass, and makes sure that the budgets and
    /// the evaluation sequences are different text, as far as [`Overlap`] sees.
    fn hash(&mut self, budgets: Vec<usize>, information: Option<usize>) -> Result<()> {
        let trained_on = budgets.iter().copied().max().unwrap_or(0);
        let mut wanted: Vec<usize> = budgets.into_iter().chain(information).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let all = wanted.last().copied().unwrap_or(0);
        if let Some(contexts) = information {
            self.source.check_range(0, contexts).context("[information] tokens")?;
        }
        let mut hasher = blake3::Hasher::new();
        let mut overlap = Overlap::of(self.eval.view());
        for first in (0..all).step_by(CHUNK) {
            let chunk = self.source.read(first, CHUNK.min(all - first))?;
            for (context, tokens) in (first..).zip(chunk.rows()) {
                if context < trained_on {
                    overlap.add(context, tokens.iter().copied());
                }
                hash_into(&mut hasher, tokens.iter().copied());
                self.largest = tokens.iter().copied().fold(self.largest, u32::max);
                if wanted.contains(&(context + 1)) {
                    self.hashes.push((context + 1, short(hasher.finalize())));
                }
            }
        }
        overlap.check()
    }
}

/// What a model's tokens follow from beside the files: models of which this is equal see the same tokens.
pub(super) fn tokenizer_id(vocabulary: Option<&Vocabulary>, texts: Texts<'_>) -> String {
    let Texts { model: _, begin, bos, eos } = texts;
    let bos = bos.filter(|_| begin == Some(true));
    format!("{} {begin:?} {bos:?} {eos:?}", vocabulary.map(Vocabulary::hash).unwrap_or_default())
}

/// Contexts that a budget reads.
pub(super) fn contexts_of(training_tokens: u64, spec: &SweepSpec) -> usize {
    (training_tokens as usize).div_ceil(spec.tokens.context_size)
}

/// Contexts that mutual information is estimated on, if it is asked for.
pub fn information_contexts(spec: &SweepSpec) -> Option<usize> {
    spec.information.as_ref().map(|settings| settings.tokens.div_ceil(spec.tokens.context_size))
}

/// The error of too little text with what to do about it, by the number of contexts that there are; any other error as it is.
fn too_few(error: Error, remedy: impl Fn(usize) -> String) -> Error {
    match error.downcast_ref::<ModelError>() {
        Some(ModelError::TooFewTokens { path, wanted, available, context_size, .. }) => anyhow!(
            "{}: it has {available} contexts of {context_size} tokens, and {wanted} are asked for; {}",
            path.display(),
            remedy(*available)
        ),
        _ => error,
    }
}

/// What to do where so many contexts are there, and a budget has more.
fn fewer_trained(available: usize, budget: u64, spec: &SweepSpec) -> String {
    let batch = spec.train.batch_size as u64;
    // What is evaluated comes from the same text, if from no other.
    let left = available.saturating_sub(if spec.tokens.eval.is_some() { 0 } else { spec.eval.sequences });
    let most = (left * spec.tokens.context_size) as u64 / batch * batch;
    match most {
        0 => format!("training_tokens = {budget} is more than the text has; give more text"),
        most => format!("lower training_tokens = {budget} to {most} at most, or give more text"),
    }
}

/// Checks that there are contexts enough to train on. What is made from text is made now.
fn make_tokens(source: &TokenSource, contexts: usize, model: &str, progress: Progress) -> Result<()> {
    if !source.is_made_on_the_way() {
        return Ok(source.check_range(0, contexts)?);
    }
    let wanted = (contexts * source.context_size()) as u64;
    let mut stage = progress.stage(format!("{model} tokenise"), wanted, "tokens");
    // Text is tokenised some at a time, and the last of it may be more than is wanted.
    let mut left = wanted;
    let made = source.check_range_with(0, contexts, |tokens| {
        let counted = tokens.min(left);
        left -= counted;
        stage.advance(counted, String::new);
    });
    stage.finish("");
    Ok(made?)
}

fn hash_sequences(tokens: &Array2<u32>) -> String {
    let mut hasher = blake3::Hasher::new();
    let (sequences, context_size) = tokens.dim();
    hasher.update(format!("({sequences}, {context_size})\n").as_bytes());
    for row in tokens.rows() {
        hash_into(&mut hasher, row.iter().copied());
    }
    short(hasher.finalize())
}

fn hash_into(hasher: &mut blake3::Hasher, tokens: impl Iterator<Item = u32>) {
    // Together: four bytes at a time cost more than what they are hashed with.
    hasher.update(&tokens.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
}
