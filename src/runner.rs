//! Carries out a plan: captures activations, trains SAEs in lockstep, evaluates them, and writes each record as it is done.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use assay_models::{ActivationStream, HookPoint, StreamConfig, runs_on_cpu, side_by_side};
use assay_probes::evaluate::Codec;
use assay_probes::{EvalConfig, evaluate};
use assay_sae::{Format, Metadata, Sae, StepLoss, Trainer, formats};
use burn::tensor::{Device, Int, Tensor};

use crate::belonging::begins_with;
use crate::device::Opened;
use crate::files::write_atomic;
use crate::logs::{Look, RunLog};
use crate::markdown::tokens_text;
use crate::plan::{Group, Inputs, Run};
use crate::progress::Progress;
use crate::record::{Record, Timing};
use crate::spec::SweepSpec;

/// Losses of a run that are looked at and recorded, about: each look waits for the device.
const LOOKS: u64 = 200;

/// A sweep that is being carried out: what all of its groups share.
pub struct Sweep<'a> {
    /// What is asked for.
    pub spec: &'a SweepSpec,
    /// The results directory.
    pub results: &'a Path,
    /// Where it runs.
    pub opened: &'a Opened,
    /// How progress is shown.
    pub progress: Progress,
    /// When the program started; taken by the group that takes the first step, which says how long that was.
    pub started: Cell<Option<Instant>>,
}

/// An SAE in training, and what is known of it.
struct Pupil<'a> {
    run: &'a Run,
    /// Number of its hook in the stream.
    hook: usize,
    trainer: Trainer,
    /// Losses that have not been looked at, with their steps: reading one waits for the device.
    unread: Vec<(u64, StepLoss)>,
    losses: Losses,
    /// Where looks are written down, if they are.
    log: Option<RunLog>,
    /// When the last look was, and the tokens seen until then.
    last_look: Option<(Instant, u64)>,
}

/// The losses that were looked at.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Losses {
    /// On the way.
    looks: Vec<Look>,
    /// Sum over the last tenth of the steps.
    late_sum: f64,
    /// How many those are.
    late_steps: u64,
}

/// Trains and evaluates the runs of a group that have no record yet.
///
/// # Errors
/// If tokens can't be read, training diverges, or a file can't be written.
pub fn run_group(sweep: &Sweep<'_>, group: &Group, inputs: &Inputs) -> Result<()> {
    let Sweep { spec, results, progress, .. } = *sweep;
    let mut missing = Vec::new();
    for run in &group.runs {
        if Record::load(results, &run.id)?.is_none() {
            missing.push(run);
        }
    }
    let done = group.runs.len() - missing.len();
    if spec.train.save_saes && done > 0 {
        progress.say(&format!(
            "{}: {done} runs were finished before; their SAEs are saved only if they were then (remove runs/<id>.json to train again)",
            group.model.name
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let label = format!("{} {}", group.model.name, tokens_text(group.training_tokens));
    let started = Instant::now();
    let (pupils, capture_seconds) = train(sweep, group, &missing, inputs, &label)?;
    let train_seconds = started.elapsed().as_secs_f64() - capture_seconds;
    let count = pupils.len() as f64;
    let mut hooks: Vec<HookPoint> = missing.iter().map(|run| run.hook).collect();
    hooks.dedup();
    for hook in hooks {
        let started = Instant::now();
        let pupils: Vec<&Pupil<'_>> = pupils.iter().filter(|p| p.run.hook == hook).collect();
        let saes: Vec<Sae> = pupils.iter().map(|p| p.trainer.sae()).collect();
        let codecs: Vec<&dyn Codec> = saes.iter().map(|s| s as &dyn Codec).collect();
        let mut stage =
            progress.stage(format!("{label} evaluate {hook}"), inputs.eval_tokens.nrows() as u64, "sequences");
        let config = EvalConfig {
            batch: spec.eval.batch,
            center_residual: spec.center_residual,
            fisher_samples: spec.eval.fisher_samples,
            fisher_seed: spec.eval.fisher_seed,
            kl_zero: false,
        };
        let found = evaluate(&inputs.decoder, hook, inputs.eval_tokens.view(), &codecs, config, |n| {
            stage.advance(n as u64, String::new);
        })
        .with_context(|| format!("model `{}`, {hook}", group.model.name))?;
        stage.finish("");
        let eval_seconds = started.elapsed().as_secs_f64() / pupils.len() as f64;
        for ((pupil, sae), found) in pupils.iter().zip(&saes).zip(&found) {
            if spec.train.save_saes {
                save_sae(spec, group, pupil, sae, inputs, results)?;
            }
            let mut record = record_of(spec, group, pupil, inputs);
            record.set_evaluation(found);
            let timing = Timing {
                id: record.id.clone(),
                train_seconds: train_seconds / count,
                capture_seconds: capture_seconds / count,
                eval_seconds,
                tokens_per_second: group.training_tokens as f64 * count / train_seconds.max(1e-9),
                threads: rayon::current_num_threads(),
                device: sweep.opened.name.clone(),
                finished_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            timing.save(results)?;
            // Last: a run is finished when its record is there.
            record.save(results)?;
        }
    }
    let state = state_dir(results, group);
    if state.exists() {
        std::fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
    }
    Ok(())
}

/// Trains the SAEs of `missing` in lockstep; gives them and the seconds spent on capturing.
fn train<'a>(
    sweep: &Sweep<'_>,
    group: &Group,
    missing: &[&'a Run],
    inputs: &Inputs,
    label: &str,
) -> Result<(Vec<Pupil<'a>>, f64)> {
    let Sweep { spec, results, opened, progress, .. } = *sweep;
    let device = &opened.device;
    let mut hooks: Vec<HookPoint> = missing.iter().map(|run| run.hook).collect();
    hooks.dedup();
    let batch_size = spec.train.batch_size;
    let stream_config = StreamConfig {
        first_context: 0,
        tokens: group.training_tokens as usize,
        batch_size,
        buffer_tokens: spec.train.buffer_tokens,
        contexts_per_pass: spec.train.contexts_per_pass,
        // The buffer's order is the same for every seed: seeds differ by initialisation and batch order.
        seed: 0,
        center_residual: spec.center_residual,
        precision: spec.precision,
    };
    let mut stream = ActivationStream::new(&inputs.decoder, &inputs.source, &hooks, stream_config)?;
    let mut pupils = Vec::with_capacity(missing.len());
    for &run in missing {
        let hook = hooks.iter().position(|h| *h == run.hook).expect("hooks come from the runs");
        let trainer = Trainer::new(run.key.train.clone(), run.key.seed, device)?;
        let losses = Losses::default();
        pupils.push(Pupil { run, hook, trainer, unread: Vec::new(), losses, log: None, last_look: None });
    }
    let state = state_dir(results, group);
    let mut captured = 0.0;
    let mut done_tokens = 0;
    let saved = load_state(&state, &mut pupils, device)?;
    if spec.train.log {
        for pupil in &mut pupils {
            let dir = results.join("logs").join(group.name_of(pupil.run));
            pupil.log = Some(RunLog::begin(dir, &pupil.losses.looks)?);
        }
    }
    if let Some((rounds, tokens)) = saved {
        progress.say(&format!("{label}: going on after {} of {} tokens", tokens, group.training_tokens));
        if tokens == group.training_tokens {
            return Ok((pupils, captured));
        }
        let started = Instant::now();
        stream.skip_rounds(rounds)?;
        captured += started.elapsed().as_secs_f64();
        done_tokens = tokens;
    }
    let mut stage = progress.stage(format!("{label} train {} SAEs", pupils.len()), group.training_tokens, "tokens");
    stage.advance(done_tokens, String::new);
    let mut saved_at = done_tokens;
    let mut start_up = String::new();
    loop {
        let started = Instant::now();
        let Some(round) = stream.next_round()? else { break };
        opened.sync()?;
        captured += started.elapsed().as_secs_f64();
        if done_tokens == 0 {
            let sample: Vec<u32> = (0..round.tokens().min(16 * batch_size) as u32).collect();
            for pupil in &mut pupils {
                pupil.trainer.calibrate(&stream.batch(pupil.hook, &sample));
            }
        }
        start_up += &train_round(sweep, &mut pupils, &stream, &round, &mut stage)?;
        done_tokens += round.tokens() as u64;
        let trained = done_tokens == group.training_tokens && done_tokens >= spec.train.checkpoint_tokens;
        if trained || done_tokens - saved_at >= spec.train.checkpoint_tokens {
            save_state(&state, &pupils, stream.rounds_done(), done_tokens)?;
            saved_at = done_tokens;
        }
    }
    stage.finish(&format!("({captured:.1} s of it capturing{start_up})"));
    Ok((pupils, captured))
}

/// One round of the buffer: every SAE visits its activations in the order of its seed, all of them batch by batch together.
/// All is done when it returns. After the sweep's first step it gives a note on how long that took to come.
fn train_round(
    sweep: &Sweep<'_>,
    pupils: &mut [Pupil<'_>],
    stream: &ActivationStream<'_>,
    round: &assay_models::Round,
    stage: &mut crate::progress::Stage,
) -> Result<String> {
    let Sweep { spec, opened, .. } = *sweep;
    let batch_size = spec.train.batch_size;
    let mut start_up = String::new();
    let mut seeds: Vec<u64> = pupils.iter().map(|p| p.run.key.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let orders: Vec<(u64, Tensor<1, Int>)> =
        seeds.into_iter().map(|seed| (seed, stream.upload(&round.order(seed)))).collect();
    let mut streams: Vec<(usize, u64)> = pupils.iter().map(|p| (p.hook, p.run.key.seed)).collect();
    streams.sort_unstable();
    streams.dedup();
    for at in (0..round.tokens()).step_by(batch_size) {
        let started = Instant::now();
        let len = batch_size.min(round.tokens() - at);
        // SAEs of one hook and seed see the same batch, which is gathered once.
        let batches: Vec<((usize, u64), Tensor<2>)> = streams
            .iter()
            .map(|&(hook, seed)| {
                let order = &orders.iter().find(|(s, _)| *s == seed).expect("every seed has an order").1;
                ((hook, seed), stream.batch_at(hook, order.clone().narrow(0, at, len)))
            })
            .collect();
        // Each holds all of its own state, so no result depends on who runs when.
        side_by_side(&opened.device, pupils.iter_mut().collect(), |pupil: &mut Pupil<'_>| -> Result<()> {
            let of = (pupil.hook, pupil.run.key.seed);
            let x = &batches.iter().find(|(key, _)| *key == of).expect("every stream has a batch").1;
            pupil.step(x.clone());
            Ok(())
        })?;
        if let Some(program) = sweep.started.take() {
            opened.sync()?;
            start_up = format!(", first step {:.1} s after the start", program.elapsed().as_secs_f64());
            if !runs_on_cpu(&opened.device) {
                let seconds = opened.seconds + started.elapsed().as_secs_f64();
                start_up += &format!(", device ready and the step's kernels compiled in {seconds:.1} s");
            }
        }
        // Once all have taken the step, so that none waits for another's loss before it starts.
        for pupil in pupils.iter_mut().filter(|p| p.is_look(p.trainer.steps_done() - 1)) {
            pupil.read_losses()?;
        }
        let seen = pupils.first().and_then(|p| p.losses.looks.last());
        stage.advance(len as u64, || seen.map_or_else(String::new, |look| format!("loss {:.3}", look.loss)));
    }
    for pupil in pupils {
        pupil.read_losses()?;
    }
    opened.sync()?;
    Ok(start_up)
}

impl Pupil<'_> {
    /// One step. Reading its loss would wait for it: that of most steps is dropped, the others are kept for later.
    fn step(&mut self, x: Tensor<2>) {
        let step = self.trainer.steps_done();
        let watched = self.log.is_some() && self.is_look(step);
        let loss = if watched { self.trainer.step_watched(x) } else { self.trainer.step(x) };
        if self.is_late(step) || self.is_look(step) {
            self.unread.push((step, loss));
        }
    }

    /// Whether a step's loss is looked at on the way.
    fn is_look(&self, step: u64) -> bool {
        step.is_multiple_of(self.trainer.config().steps.div_ceil(LOOKS))
    }

    /// Whether a step is of the last tenth, whose mean loss is recorded.
    fn is_late(&self, step: u64) -> bool {
        let steps = self.trainer.config().steps;
        step + steps.div_ceil(10) >= steps
    }

    /// Looks at the losses that were kept, in the order of their steps.
    fn read_losses(&mut self) -> Result<()> {
        for (step, loss) in std::mem::take(&mut self.unread) {
            let value = loss.reconstruction();
            ensure!(
                value.is_finite(),
                "training diverged: the loss of {} k {} seed {} is {value} at step {step}; lower the learning rate",
                self.run.hook,
                self.trainer.config().k,
                self.run.key.seed
            );
            if self.is_late(step) {
                self.losses.late_sum += value;
                self.losses.late_steps += 1;
            }
            if self.is_look(step) {
                let look = self.look(step, value, &loss);
                if let Some(log) = &self.log {
                    log.add(&look)?;
                }
                self.losses.looks.push(look);
            }
        }
        Ok(())
    }

    /// What is known of a step that was just taken; without a log its loss, and what costs nothing.
    fn look(&mut self, step: u64, value: f64, loss: &StepLoss) -> Look {
        let config = self.trainer.config();
        let tokens = (step + 1) * config.batch_size as u64;
        let now = Instant::now();
        let before = self.last_look.replace((now, tokens));
        let logged = self.log.is_some();
        Look {
            step,
            tokens,
            loss: value,
            aux_loss: (logged && config.aux_coefficient > 0.0).then(|| loss.auxiliary()),
            fvu: loss.fvu(),
            l0: loss.l0(),
            dead: logged.then(|| self.trainer.n_dead()),
            lr: config.lr_at(step),
            tokens_per_second: before.map(|(then, seen)| (tokens - seen) as f64 / (now - then).as_secs_f64().max(1e-9)),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()),
        }
    }
}

fn record_of(spec: &SweepSpec, group: &Group, pupil: &Pupil<'_>, inputs: &Inputs) -> Record {
    Record {
        id: pupil.run.id.clone(),
        key: pupil.run.key.clone(),
        model: group.model.name.clone(),
        depth: pupil.run.depth.clone(),
        layer: pupil.run.hook.layer,
        n_layers: inputs.decoder.config().n_layers,
        recipe: spec.train.recipe.to_string(),
        final_loss: pupil.losses.late_sum / pupil.losses.late_steps.max(1) as f64,
        n_dead: pupil.trainer.n_dead(),
        curve: pupil.losses.looks.iter().map(|look| (look.step, look.loss)).collect(),
        by_norm: Vec::new(),
        pr: [None; 5],
        fires: Vec::new(),
        eval_token_count: 0,
        sequences: Vec::new(),
    }
}

fn save_sae(
    spec: &SweepSpec,
    group: &Group,
    pupil: &Pupil<'_>,
    sae: &Sae,
    inputs: &Inputs,
    results: &Path,
) -> Result<()> {
    // The first contexts of training show whether they begin with an extra token.
    let contexts = (group.training_tokens as usize / spec.tokens.context_size).clamp(1, 64);
    let first = inputs.source.read(0, contexts)?;
    let metadata = Metadata {
        model_name: Some(group.model.name.clone()),
        hook_name: Some(pupil.run.hook.to_string()),
        dataset_path: spec.tokens.dataset.clone().or_else(|| {
            let name = spec.tokens.train.as_deref().and_then(Path::file_name);
            name.map(|n| n.to_string_lossy().into_owned())
        }),
        context_size: Some(spec.tokens.context_size),
        prepend_bos: begins_with(first.view(), inputs.decoder.config().eos_token_id),
        center_residual: spec.center_residual,
        trained_with: Some(formats::PROGRAM.to_owned()),
        ..Metadata::default()
    };
    let rates: Vec<f64> =
        pupil.trainer.fires().into_iter().map(|f| f64::from(f) / group.training_tokens as f64).collect();
    let dir = results.join("saes").join(group.name_of(pupil.run));
    Ok(formats::save(&dir, Format::SaeLens, sae, &metadata, Some(&rates))?)
}

/// Where the state of a half-trained group lies.
fn state_dir(results: &Path, group: &Group) -> PathBuf {
    let ids: String = group.runs.iter().map(|r| r.id.as_str()).collect();
    results.join(".state").join(&blake3::hash(ids.as_bytes()).to_hex()[..16])
}

/// What a group's state says beside the trainers'.
#[derive(serde::Serialize, serde::Deserialize)]
struct GroupState {
    rounds: u64,
    tokens: u64,
    /// Of each run.
    losses: BTreeMap<String, Losses>,
}

/// Writes the state of all SAEs of a group under a new name, points to it, and then removes the one before.
fn save_state(dir: &Path, pupils: &[Pupil<'_>], rounds: u64, tokens: u64) -> Result<()> {
    let name = format!("round-{rounds}");
    for pupil in pupils {
        pupil.trainer.save_state(&dir.join(&name).join(&pupil.run.id))?;
    }
    let group =
        GroupState { rounds, tokens, losses: pupils.iter().map(|p| (p.run.id.clone(), p.losses.clone())).collect() };
    write_atomic(&dir.join("group.json"), serde_json::to_string(&group).context("a state serialises")?.as_bytes())?;
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.flatten() {
        let old = entry.file_name().to_string_lossy().starts_with("round-") && entry.file_name() != name.as_str();
        if old {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Brings SAEs to the state that was saved, if one was, and says after how many rounds and tokens that was.
fn load_state(dir: &Path, pupils: &mut [Pupil<'_>], device: &Device) -> Result<Option<(u64, u64)>> {
    let path = dir.join("group.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut group: GroupState = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove {} to train from the start", path.display(), dir.display()))?;
    // A run that was finished then and is missing now has no state: all start over.
    if pupils.iter().any(|p| !group.losses.contains_key(&p.run.id)) {
        // The pointer first: no kill may leave it above files that are gone.
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        return Ok(None);
    }
    for pupil in pupils {
        pupil.losses = group.losses.remove(&pupil.run.id).expect("checked above");
        let dir = dir.join(format!("round-{}", group.rounds)).join(&pupil.run.id);
        pupil.trainer = Trainer::load_state(&dir, &pupil.run.key.train, device)
            .with_context(|| format!("remove {} to train from the start", dir.display()))?;
    }
    Ok(Some((group.rounds, group.tokens)))
}
