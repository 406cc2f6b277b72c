//! From a spec to runs: models are opened, tokens hashed, and every run gets its id.

use std::path::Path;

use anyhow::{Context, Result, bail};
use assay_models::decoder::{check_context, check_tokens};
use assay_models::{Decoder, HookPoint, Reading, TokenSource};
use ndarray::Array2;

use crate::device::Opened;
use crate::overlap::Overlap;
use crate::progress::Progress;
use crate::record::{METRIC_VERSION, RunKey};
use crate::spec::{ModelSpec, SweepSpec};

/// One run: an SAE to train and evaluate.
#[derive(Clone, Debug)]
pub struct Run {
    /// Hash of `key`.
    pub id: String,
    /// What changes the run's numbers.
    pub key: RunKey,
    /// Name of the depth.
    pub depth: String,
    /// Where it is hooked.
    pub hook: HookPoint,
}

/// The runs that share a capture: one model and one token budget, all hooks, k and seeds.
pub struct Group {
    /// The spec's entry.
    pub model: ModelSpec,
    /// The budget.
    pub training_tokens: u64,
    /// Its runs, by hook, seed and k.
    pub runs: Vec<Run>,
}

impl Group {
    /// What its state is known by: the hash of its runs' ids.
    pub fn id(&self) -> String {
        let ids: String = self.runs.iter().map(|r| r.id.as_str()).collect();
        blake3::hash(ids.as_bytes()).to_hex()[..16].to_owned()
    }

    /// What a directory of one of its runs is called: readable, and no other run's of the sweep.
    pub fn name_of(&self, run: &Run) -> String {
        let RunKey { seed, training_tokens, ref train, .. } = run.key;
        format!("{}-L{}-k{}-seed{seed}-{training_tokens}tokens", self.model.name, run.hook.layer, train.k)
    }
}

/// A model and the tokens that it is run on.
pub struct Inputs {
    /// The language model.
    pub decoder: Decoder,
    /// Where training contexts are read.
    pub source: TokenSource,
    /// Held-out sequences.
    pub eval_tokens: Array2<u32>,
}

impl Inputs {
    /// Opens a model in the directory `checkpoint`, and the sweep's tokens, those for training in `text`.
    ///
    /// # Errors
    /// If the checkpoint or a token file is unusable, or there are too few tokens.
    pub fn open(
        spec: &SweepSpec,
        model: &ModelSpec,
        checkpoint: &Path,
        text: &Path,
        opened: &Opened,
        progress: Progress,
    ) -> Result<Self> {
        // Weights are f32 whatever `spec.precision` says: captures for training say which precision they want (`StreamConfig`), and
        // everything else is computed in f32.
        let decoder = Decoder::load(checkpoint, &opened.device)
            .with_context(|| format!("[[models]] {} (a path is relative to the spec)", model.name))?;
        let eos = decoder.config().eos_token_id;
        let open = |path: &Path, context, rows, reading: &Reading| {
            TokenSource::open_as(path, context, rows, Some(checkpoint), eos, reading)
        };
        let source = open(text, spec.tokens.context_size, spec.tokens.rows, &spec.tokens.reading())
            .context("[tokens] train (a path is relative to the spec)")?;
        let source = if spec.tokens.repeat { source.repeating() } else { source };
        let most = spec.training_tokens.iter().copied().max().unwrap_or(0);
        let train_contexts = contexts_of(most, spec);
        make_tokens(&source, train_contexts, model, progress).context("[tokens] train: training tokens")?;
        source.notes().iter().for_each(|note| progress.say(&format!("training tokens: {note}")));
        let eval_tokens = match &spec.tokens.eval {
            Some(path) => {
                let source = open(path, spec.eval.context_size, spec.tokens.eval_rows, &spec.tokens.eval_reading())?;
                let read = source.read(0, spec.eval.sequences);
                source.notes().iter().for_each(|note| progress.say(&format!("evaluation tokens: {note}")));
                read
            }
            None if spec.tokens.repeat => {
                bail!("[tokens]: with `repeat` the training text leaves none over; give tokens.eval")
            }
            None => source.read(train_contexts, spec.eval.sequences),
        }
        .context("[tokens] eval: evaluation tokens (a path is relative to the spec)")?;
        Ok(Self { decoder, source, eval_tokens })
    }
}

/// Checks that there are contexts enough to train on. What is made from text is made now.
fn make_tokens(source: &TokenSource, contexts: usize, model: &ModelSpec, progress: Progress) -> Result<()> {
    if !source.is_made_on_the_way() {
        return Ok(source.check_range(0, contexts)?);
    }
    let wanted = (contexts * source.context_size()) as u64;
    let mut stage = progress.stage(format!("{} tokenise", model.name), wanted, "tokens");
    let made = source.check_range_with(0, contexts, |tokens| stage.advance(tokens, String::new));
    stage.finish("");
    Ok(made?)
}

/// Contexts that a budget reads.
fn contexts_of(training_tokens: u64, spec: &SweepSpec) -> usize {
    (training_tokens as usize).div_ceil(spec.tokens.context_size)
}

/// The groups of one model.
///
/// # Errors
/// If tokens can't be read or are out of range, a context is too long for the model, a hook does not exist, a setting can't
/// be, or training and evaluation text overlap.
pub fn groups(spec: &SweepSpec, model: &ModelSpec, inputs: &Inputs, opened: &Opened) -> Result<Vec<Group>> {
    let hooks = spec.hooks(model, inputs.decoder.config())?;
    let d_model = inputs.decoder.config().d_model;
    // Before hours of training, not after.
    check_context(spec.tokens.context_size, inputs.decoder.config())
        .with_context(|| format!("model `{}`, [tokens]", model.name))?;
    check_context(inputs.eval_tokens.ncols(), inputs.decoder.config())
        .with_context(|| format!("model `{}`, [eval]", model.name))?;
    check_tokens(inputs.eval_tokens.view(), inputs.decoder.config().vocab_size).context("evaluation tokens")?;
    let eval_hash = hash_tokens(&inputs.eval_tokens);
    let contexts: Vec<usize> = spec.training_tokens.iter().map(|&tokens| contexts_of(tokens, spec)).collect();
    let train_hashes = hash_training(inputs, &contexts)?;
    let mut groups = Vec::new();
    for (&training_tokens, train_hash) in spec.training_tokens.iter().zip(train_hashes) {
        let mut runs = Vec::new();
        for (depth, hook) in &hooks {
            for &seed in &spec.seeds {
                for &k in &spec.k {
                    let train = spec.train.config(d_model, k, training_tokens, spec.precision);
                    train.check().with_context(|| format!("model `{}`, k {k}", model.name))?;
                    let key = RunKey {
                        metric_version: METRIC_VERSION,
                        device_class: opened.class.clone(),
                        precision: spec.precision.to_string(),
                        weights: inputs.decoder.weights_hash().to_owned(),
                        hook: hook.to_string(),
                        center_residual: spec.center_residual,
                        train_tokens: train_hash.clone(),
                        context_size: spec.tokens.context_size,
                        buffer_tokens: spec.train.buffer_tokens,
                        contexts_per_pass: spec.train.contexts_per_pass,
                        training_tokens,
                        seed,
                        train,
                        eval_tokens: eval_hash.clone(),
                        eval_batch: spec.eval.batch,
                        fisher_samples: spec.eval.fisher_samples,
                        fisher_seed: spec.eval.fisher_seed,
                    };
                    runs.push(Run { id: key.id(), key, depth: depth.clone(), hook: *hook });
                }
            }
        }
        groups.push(Group { model: model.clone(), training_tokens, runs });
    }
    Ok(groups)
}

/// Contexts that are read at a time when all are looked at.
const CHUNK: usize = 1024;

/// Hashes the training contexts of each budget, in one pass over the longest, and makes sure that they and the evaluation sequences are
/// different text, as far as [`Overlap`] sees.
fn hash_training(inputs: &Inputs, budgets: &[usize]) -> Result<Vec<String>> {
    let mut hasher = blake3::Hasher::new();
    let mut overlap = Overlap::of(inputs.eval_tokens.view());
    let mut hashes = vec![String::new(); budgets.len()];
    let contexts = budgets.iter().copied().max().unwrap_or(0);
    for first in (0..contexts).step_by(CHUNK) {
        let chunk = inputs.source.read(first, CHUNK.min(contexts - first))?;
        check_tokens(chunk.view(), inputs.decoder.config().vocab_size)
            .with_context(|| format!("training tokens, contexts from {first} on"))?;
        for (context, tokens) in (first..).zip(chunk.rows()) {
            overlap.add(context, tokens.iter().copied());
            hash_into(&mut hasher, tokens.iter().copied());
            for (hash, _) in hashes.iter_mut().zip(budgets).filter(|(_, budget)| **budget == context + 1) {
                hash.push_str(&hasher.finalize().to_hex()[..16]);
            }
        }
    }
    overlap.check()?;
    Ok(hashes)
}

/// The hash of the first training contexts, which is part of what every number that follows from them is known by.
///
/// # Errors
/// If they can't be read.
pub fn hash_contexts(source: &TokenSource, contexts: usize) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for first in (0..contexts).step_by(CHUNK) {
        let chunk = source.read(first, CHUNK.min(contexts - first))?;
        hash_into(&mut hasher, chunk.iter().copied());
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

fn hash_tokens(tokens: &Array2<u32>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?}\n", tokens.dim()).as_bytes());
    hash_into(&mut hasher, tokens.iter().copied());
    hasher.finalize().to_hex()[..16].to_owned()
}

fn hash_into(hasher: &mut blake3::Hasher, tokens: impl Iterator<Item = u32>) {
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
}
