//! From a spec to runs: models are opened, tokens hashed, and every run gets its id.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use assay_models::decoder::{check_context, check_tokens};
use assay_models::{Decoder, HookPoint, Reading, TokenSource};
use ndarray::Array2;

use crate::device::Opened;
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
        // `spec.precision` is no matter of the weights: captures for training say which they want (`StreamConfig`), and all else
        // is in f32.
        let decoder = Decoder::load(checkpoint, &opened.device).with_context(|| format!("model `{}`", model.name))?;
        let eos = decoder.config().eos_token_id;
        let open = |path: &Path, context, rows, reading: &Reading| {
            TokenSource::open_as(path, context, rows, Some(checkpoint), eos, reading)
        };
        let source = open(text, spec.tokens.context_size, spec.tokens.rows, &spec.tokens.reading())?;
        let source = if spec.tokens.repeat { source.repeating() } else { source };
        let most = spec.training_tokens.iter().copied().max().unwrap_or(0);
        let train_contexts = contexts_of(most, spec);
        make_tokens(&source, train_contexts, model, progress).context("training tokens")?;
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
        .context("evaluation tokens")?;
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
    let mut groups = Vec::new();
    for &training_tokens in &spec.training_tokens {
        let train_hash = hash_training(inputs, contexts_of(training_tokens, spec))?;
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

/// Hashes the training contexts, and makes sure that they and the evaluation sequences are different text.
///
/// Both are cut into pieces of the shorter of the two lengths. Large corpora repeat themselves now and then, so that one
/// evaluation sequence in a hundred may be found again; more than that is a split that overlaps.
fn hash_training(inputs: &Inputs, contexts: usize) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let piece = inputs.eval_tokens.ncols().min(inputs.source.context_size());
    let mut held_out: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
    for (sequence, row) in inputs.eval_tokens.rows().into_iter().enumerate() {
        for part in row.to_vec().chunks_exact(piece) {
            held_out.insert(part.to_vec(), sequence);
        }
    }
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    for first in (0..contexts).step_by(CHUNK) {
        let chunk = inputs.source.read(first, CHUNK.min(contexts - first))?;
        for (row, context) in chunk.rows().into_iter().enumerate() {
            for part in context.to_vec().chunks_exact(piece) {
                if let Some(&sequence) = held_out.get(part) {
                    found.insert(sequence, first + row);
                }
            }
            hash_into(&mut hasher, context.iter().copied());
        }
        check_tokens(chunk.view(), inputs.decoder.config().vocab_size)
            .with_context(|| format!("training tokens, contexts from {first} on"))?;
    }
    if let Some((sequence, context)) = found.first_key_value() {
        ensure!(
            100 * found.len() <= inputs.eval_tokens.nrows(),
            "training context {context} is also an evaluation sequence (number {sequence}; {} of {} are found in the training text): \
             train and eval text overlap; give tokens.eval of other documents",
            found.len(),
            inputs.eval_tokens.nrows()
        );
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
