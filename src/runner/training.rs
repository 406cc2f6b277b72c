//! Training in lockstep: the SAEs of a group step side by side on one stream of activations.

use std::time::{Duration, Instant};

use anyhow::Result;
use assay_models::{Decoder, Site, StreamConfig, runs_on_cpu, side_by_side};
use assay_sae::{Moments, StepLoss, TrainConfig};
use burn::tensor::Tensor;

use super::Sweep;
use super::beginnings::Beginnings;
use super::feed::{Feed, Fresh, Orders, Visit, distinct};
use super::job::{Stop, TrainingJob};
use super::save_sae;
use super::state::{Trained, load_state, save_state, saved_trainer};
use crate::interrupt;
use crate::logs::{LogEntry, RunLog};
use crate::markdown::{counted, tokens_text};
use crate::plan::{Group, PlannedModel, Run};
use crate::progress::Stage;
use crate::record::Failure;
use crate::results_dir::{FAILED, state_dir};

/// When the state was saved last, and where it is.
struct Saved {
    at: Instant,
    tokens: u64,
    /// Whether this or an earlier process saved one.
    any: bool,
    /// How long that took; before the first, what it will about take.
    took: Duration,
}

/// A state is saved when so many times as long has passed as saving takes: that costs at most a tenth of the time.
const PATIENCE: u32 = 10;
/// Bytes of a state that are written in a second, before the first shows it.
const WRITTEN: f64 = 500e6;

/// How long saving the state of some SAEs will about take: weights and two moments of two matrices in f32.
fn saving_time(jobs: &[TrainingJob<'_>]) -> Duration {
    let matrix = |train: &TrainConfig| (train.d_model * train.d_sae) as f64;
    let bytes: f64 = jobs.iter().map(|job| 24.0 * matrix(&job.run().key.train)).sum();
    Duration::from_secs_f64(bytes / WRITTEN)
}

/// Trains the SAEs of some runs in lockstep; gives them, without those that failed, and how long it took.
pub(super) fn train<'a>(
    sweep: &Sweep<'_>,
    group: &Group,
    beginnings: Beginnings<'a>,
    decoder: &Decoder,
    model: &PlannedModel,
    label: &str,
    contexts_per_pass: usize,
) -> Result<(Vec<TrainingJob<'a>>, Trained)> {
    let Sweep { spec, results, opened, progress, .. } = *sweep;
    let device = &opened.device;
    let stream_config = StreamConfig {
        first_context: 0,
        tokens: group.training_tokens as usize,
        batch_size: spec.train.batch_size,
        buffer_tokens: spec.train.buffer_tokens,
        contexts_per_pass,
        // The buffer's order is the same for every seed: seeds differ by initialisation and batch order.
        seed: 0,
        precision: spec.precision,
    };
    let mut jobs = beginnings.untrained(device)?;
    let mut feed = Feed::new(decoder, &model.tokens.source, &jobs, stream_config)?;
    let state = load_state(&state_dir(results, &group.id()), &mut jobs, device)?;
    let any = state.is_some();
    let mut trained = state.unwrap_or_default();
    let mut clock = Instant::now();
    if any && trained.tokens == group.training_tokens {
        progress.say(&format!("{label}: resuming; its SAEs are trained"));
        return Ok((jobs, trained));
    }
    // Not of SAEs that are trained: where some runs of a training are recorded, it would have the name of another.
    if spec.train.log {
        for job in &mut jobs {
            let dir = results.join("logs").join(group.name_of(job.run()));
            job.log = Some(RunLog::begin(dir, &job.losses.looks)?);
        }
    }
    if any {
        let (done, all) = (tokens_text(trained.tokens), tokens_text(group.training_tokens));
        progress.say(&format!("{label}: resuming after {done} of {all}"));
        feed.skip_rounds(trained.rounds, &jobs)?;
        trained.capture_seconds += lap(&mut clock);
    }
    let stage =
        progress.stage(format!("{label} train {}", counted(jobs.len(), "SAE")), group.training_tokens, "tokens");
    let saved = Saved { at: Instant::now(), tokens: trained.tokens, any, took: saving_time(&jobs) };
    let mut training =
        Training { sweep, group, model, label, jobs, trained, stage, saved, clock, start_up: String::new() };
    training.stage.resume(training.trained.tokens);
    while !training.jobs.is_empty()
        && let Some(fresh) = feed.next_round()?
    {
        opened.sync()?;
        training.trained.capture_seconds += lap(&mut training.clock);
        training.round(&feed, &fresh)?;
        feed.forget_what_nobody_reads(&training.jobs);
    }
    let seconds = training.trained.capture_seconds;
    training.stage.finish(&format!("({seconds:.1} s of it capturing{})", training.start_up));
    Ok((training.jobs, training.trained))
}

/// Seconds since the clock was read last.
fn lap(clock: &mut Instant) -> f64 {
    let now = Instant::now();
    let seconds = now.duration_since(*clock).as_secs_f64();
    *clock = now;
    seconds
}

/// A group's training under way.
struct Training<'a, 'b> {
    sweep: &'b Sweep<'b>,
    group: &'b Group,
    model: &'b PlannedModel,
    label: &'b str,
    jobs: Vec<TrainingJob<'a>>,
    trained: Trained,
    stage: Stage,
    saved: Saved,
    /// Up to when seconds were counted.
    clock: Instant,
    /// After the sweep's first step, how long that took to come.
    start_up: String,
}

impl Training<'_, '_> {
    /// Gives every SAE what its recipe takes from the first tokens of the data, which is the same for all that learn from the same ones.
    fn calibrate(&mut self, feed: &Feed<'_>, sample: usize) -> Result<()> {
        let mut known = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| job.trainer.wants_moments()) {
            let run = job.run();
            let visit = Visit::of(run);
            let of = (run.site, visit.kept());
            let at = match known.iter().position(|(seen, _)| *seen == of) {
                Some(at) => at,
                None => {
                    known.push((of, Moments::of(&feed.first(run.site, visit, sample)?)));
                    known.len() - 1
                }
            };
            job.trainer.calibrate_by(&known[at].1);
        }
        Ok(())
    }

    /// One round, or what is left of it: every SAE visits its tokens in the order of its seed, all of them batch by batch together. All is
    /// done when it returns.
    fn round(&mut self, feed: &Feed<'_>, fresh: &Fresh) -> Result<()> {
        let batch_size = self.sweep.spec.train.batch_size;
        let orders = feed.orders(fresh, &distinct(self.jobs.iter().map(|job| Visit::of(job.run()))))?;
        if self.trained.tokens == 0 {
            self.calibrate(feed, fresh.tokens().min(16 * batch_size))?;
        }
        for at in (self.trained.into_round as usize..fresh.tokens()).step_by(batch_size) {
            let started = Instant::now();
            let len = batch_size.min(fresh.tokens() - at);
            self.step(feed, &orders, at, len)?;
            self.note_first_step(started)?;
            // Once all have taken the step, so that none waits for another's loss before it starts.
            self.read_kept(false)?;
            if self.jobs.is_empty() {
                return Ok(());
            }
            self.trained.tokens += len as u64;
            self.trained.into_round += len as u64;
            let seen = self.jobs.first().and_then(|p| p.losses.looks.last());
            self.stage.advance(len as u64, || seen.map_or_else(String::new, LogEntry::brief));
            self.save_if_due(self.trained.into_round == fresh.tokens() as u64)?;
        }
        self.read_losses()?;
        self.trained.train_seconds += lap(&mut self.clock);
        self.end_round();
        Ok(())
    }

    /// One step of every SAE, on the batch from token `at` of a round on. Each holds all of its own state, so no result depends on who runs
    /// when.
    fn step(&mut self, feed: &Feed<'_>, orders: &Orders, at: usize, len: usize) -> Result<()> {
        let device = &self.sweep.opened.device;
        let (asking, reading): (Vec<&mut TrainingJob<'_>>, Vec<&mut TrainingJob<'_>>) =
            self.jobs.iter_mut().partition(|job| job.asks_model());
        // SAEs of one site, seed and choice of tokens see the same batch, which is gathered once.
        let seen = reading.iter().flat_map(|job| job.run().sites().map(|site| (site, Visit::of(job.run()))));
        let batches: Vec<((Site, Visit), Tensor<2>)> = distinct(seen)
            .into_iter()
            .map(|(site, visit)| ((site, visit), feed.batch(site, visit, orders, at, len)))
            .collect();
        side_by_side(device, reading, |job: &mut TrainingJob<'_>| -> Result<()> {
            let run = job.run();
            let (&Run { site, reads, .. }, visit) = (run, Visit::of(run));
            let batch = |site: Site| {
                batches.iter().find(|(key, _)| *key == (site, visit)).expect("every stream has a batch").1.clone()
            };
            job.step(batch(reads), (reads != site).then(|| batch(site)));
            Ok(())
        })?;
        // Those of one seed share the pass over its contexts. One seed after the other: a pass holds what the model says of every token.
        let seeds = distinct(asking.iter().map(|job| job.run().key.seed));
        let mut left = asking;
        for seed in seeds {
            let (together, others): (Vec<&mut TrainingJob<'_>>, Vec<&mut TrainingJob<'_>>) =
                left.into_iter().partition(|job| job.run().key.seed == seed);
            left = others;
            let sites = distinct(together.iter().flat_map(|job| job.run().sites()));
            let pass = feed.pass(&sites, seed, orders, at)?;
            side_by_side(device, together, |job: &mut TrainingJob<'_>| -> Result<()> {
                job.step_in(&pass);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn end_round(&mut self) {
        if self.trained.into_round > 0 {
            self.trained.rounds += 1;
            self.trained.into_round = 0;
        }
    }

    /// Saves the state where it is time to, and stops where somebody asked for it.
    fn save_if_due(&mut self, round_is_done: bool) -> Result<()> {
        let train = &self.sweep.spec.train;
        let stop = interrupt::requested();
        let since = self.saved.at.elapsed();
        let by_tokens = train.checkpoint_tokens.is_some_and(|tokens| self.trained.tokens - self.saved.tokens >= tokens);
        let is_cheap = since >= PATIENCE * self.saved.took;
        // A training that was long enough to be saved at all is saved once more when it is done, so that an evaluation that is killed then
        // costs no training; unless little was trained since.
        let is_done = self.trained.tokens == self.group.training_tokens && self.saved.any;
        let by_time = is_cheap && (is_done || since >= Duration::from_secs(train.checkpoint_seconds));
        if !(stop || by_tokens || by_time) {
            return Ok(());
        }
        self.read_losses()?;
        if self.jobs.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        self.trained.train_seconds += lap(&mut self.clock);
        if round_is_done {
            self.end_round();
        }
        save_state(self.sweep.results, self.group, &self.jobs, &self.trained)?;
        // A disk that hung once is no reason not to save for hours.
        let took = begun.elapsed().min(4 * saving_time(&self.jobs).max(Duration::from_secs(1)));
        self.saved = Saved { at: Instant::now(), tokens: self.trained.tokens, any: true, took };
        // Saving is no training.
        lap(&mut self.clock);
        if stop {
            let (done, all) = (tokens_text(self.trained.tokens), tokens_text(self.group.training_tokens));
            let saved = format!("{}: the state after {done} of {all} is saved", self.label);
            return Err(self.sweep.interrupted(&saved).into());
        }
        Ok(())
    }

    /// Reads all losses that were kept, which waits for the device.
    fn read_losses(&mut self) -> Result<()> {
        self.read_kept(true)?;
        self.sweep.opened.sync()
    }

    /// Those of all SAEs, or of the ones that are due. One whose loss is not finite is given up; the others go on.
    fn read_kept(&mut self, all: bool) -> Result<()> {
        let mut stopped = Vec::new();
        // All of them in one transfer: the device is idle while the host waits.
        let due = self.jobs.iter_mut().enumerate().filter(|(_, job)| all || job.is_due());
        let mut due: Vec<(usize, &mut TrainingJob<'_>)> = due.collect();
        StepLoss::fetch(due.iter_mut().flat_map(|(_, job)| job.kept_losses()));
        for (at, job) in due {
            stopped.extend(job.read_losses()?.map(|stop| (at, stop)));
        }
        for (at, stop) in stopped.into_iter().rev() {
            let job = self.jobs.remove(at);
            self.give_up(&job, &stop)?;
        }
        Ok(())
    }

    /// Records that the runs of an SAE failed, and keeps it as it was saved last.
    fn give_up(&self, job: &TrainingJob<'_>, Stop { step, since, reason }: &Stop) -> Result<()> {
        let Sweep { spec, results, opened, .. } = *self.sweep;
        let state = state_dir(results, &self.group.id());
        let saved = saved_trainer(&state, job, &opened.device)?;
        for &run in &job.runs {
            let kept = saved.as_ref().map(|trainer| {
                let dir = format!("{FAILED}/{}", self.group.name_of(run));
                let tokens = trainer.steps_done() * spec.train.batch_size as u64;
                let sae = trainer.sae_as(&run.key.train);
                save_sae(self.sweep, self.model, run, (trainer, tokens), &sae, &results.join(&dir))?;
                Ok::<_, anyhow::Error>((dir, trainer.steps_done()))
            });
            let failure = Failure {
                id: run.id.clone(),
                key: run.key.clone(),
                model: self.group.model.clone(),
                depth: run.depth.clone(),
                step: *step,
                since: *since,
                reason: reason.clone(),
                kept: kept.transpose()?,
            };
            let kept = match &failure.kept {
                Some((dir, steps)) => format!("as it was after {steps} steps it is in {}", results.join(dir).display()),
                None => "no state of it had been saved".to_owned(),
            };
            self.sweep.progress.warn(&format!(
                "{} failed {}: {reason}; a lower learning rate may help; {kept}; the others continue",
                self.group.name_of(run),
                failure.when()
            ));
            failure.save(results)?;
        }
        Ok(())
    }

    fn note_first_step(&mut self, started: Instant) -> Result<()> {
        let Some(program) = self.sweep.started.take() else { return Ok(()) };
        let opened = self.sweep.opened;
        opened.sync()?;
        self.start_up = format!(", first step {:.1} s after the start", program.elapsed().as_secs_f64());
        if !runs_on_cpu(&opened.device) {
            let seconds = opened.seconds + started.elapsed().as_secs_f64();
            self.start_up += &format!(", device ready and the step's kernels compiled in {seconds:.1} s");
        }
        Ok(())
    }
}
