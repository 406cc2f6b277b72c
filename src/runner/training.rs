//! Training in lockstep: the SAEs of a group step side by side on one stream of activations.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use assay_models::{ActivationStream, Decoder, Round, Site, StreamConfig, runs_on_cpu, side_by_side};
use assay_sae::{StepLoss, Trainer};
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::Sweep;
use super::state::{Trained, load_state, save_state};
use crate::interrupt;
use crate::logs::{Look, RunLog};
use crate::markdown::tokens_text;
use crate::plan::{Group, Run, SweepTokens};
use crate::progress::Stage;
use crate::results_dir::state_dir;

/// About how many losses of a run are read and recorded; reading one waits for the device.
const LOOKS: u64 = 200;

/// An SAE in training, and what is known of it.
pub(super) struct Pupil<'a> {
    /// The runs whose SAE it is: one, or those that differ in no setting of training.
    pub runs: Vec<&'a Run>,
    /// Number of its site in the stream.
    site: usize,
    pub trainer: Trainer,
    /// Losses that have not been looked at, with their steps: reading one waits for the device.
    unread: Vec<(u64, StepLoss)>,
    pub losses: Losses,
    /// Where looks are written down, if they are.
    log: Option<RunLog>,
    /// When the last look was, and the tokens seen until then.
    last_look: Option<(Instant, u64)>,
}

/// The losses that were looked at.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Losses {
    /// On the way.
    looks: Vec<Look>,
    /// Sum over the last tenth of the steps.
    late_sum: f64,
    /// How many those are.
    late_steps: u64,
}

impl Losses {
    /// The mean over the last tenth of the steps.
    pub fn final_loss(&self) -> f64 {
        self.late_sum / self.late_steps.max(1) as f64
    }

    /// The loss by step, thinned.
    pub fn curve(&self) -> Vec<(u64, f64)> {
        self.looks.iter().map(|look| (look.step, look.loss)).collect()
    }
}

/// When the state was saved last, and where it is.
struct Saved {
    at: Instant,
    tokens: u64,
    /// Whether this or an earlier process saved one.
    any: bool,
}

/// Trains the SAEs of `missing` in lockstep; gives them, and how long it took.
pub(super) fn train<'a>(
    sweep: &Sweep<'_>,
    group: &Group,
    missing: &[&'a Run],
    decoder: &Decoder,
    tokens: &SweepTokens,
    label: &str,
) -> Result<(Vec<Pupil<'a>>, Trained)> {
    let Sweep { spec, results, opened, progress, .. } = *sweep;
    let device = &opened.device;
    let mut sites: Vec<Site> = missing.iter().map(|run| run.site).collect();
    sites.dedup();
    let stream_config = StreamConfig {
        first_context: 0,
        tokens: group.training_tokens as usize,
        batch_size: spec.train.batch_size,
        buffer_tokens: spec.train.buffer_tokens,
        contexts_per_pass: spec.train.contexts_per_pass,
        // The buffer's order is the same for every seed: seeds differ by initialisation and batch order.
        seed: 0,
        precision: spec.precision,
    };
    let mut stream = ActivationStream::new(decoder, &tokens.source, &sites, stream_config)?;
    let mut pupils: Vec<Pupil<'_>> = Vec::with_capacity(missing.len());
    for &run in missing {
        if let Some(same) = pupils.iter_mut().find(|pupil| pupil.run().trains_as(run)) {
            same.runs.push(run);
            continue;
        }
        let site = sites.iter().position(|s| *s == run.site).expect("sites come from the runs");
        let trainer = Trainer::new(run.key.train.clone(), run.key.seed, device)?;
        let losses = Losses::default();
        pupils.push(Pupil { runs: vec![run], site, trainer, unread: Vec::new(), losses, log: None, last_look: None });
    }
    let state = load_state(&state_dir(results, &group.id()), &mut pupils, device)?;
    if spec.train.log {
        for pupil in &mut pupils {
            let dir = results.join("logs").join(group.name_of(pupil.run()));
            pupil.log = Some(RunLog::begin(dir, &pupil.losses.looks)?);
        }
    }
    let any = state.is_some();
    let mut trained = state.unwrap_or_default();
    let mut clock = Instant::now();
    if any && trained.tokens == group.training_tokens {
        progress.say(&format!("{label}: resuming; its SAEs are trained"));
        return Ok((pupils, trained));
    }
    if any {
        let (done, all) = (tokens_text(trained.tokens), tokens_text(group.training_tokens));
        progress.say(&format!("{label}: resuming after {done} of {all}"));
        stream.skip_rounds(trained.rounds)?;
        trained.capture_seconds += lap(&mut clock);
    }
    let stage = progress.stage(format!("{label} train {} SAEs", pupils.len()), group.training_tokens, "tokens");
    let saved = Saved { at: Instant::now(), tokens: trained.tokens, any };
    let mut training = Training { sweep, group, label, pupils, trained, stage, saved, clock, start_up: String::new() };
    training.stage.advance(training.trained.tokens, String::new);
    while let Some(round) = stream.next_round()? {
        opened.sync()?;
        training.trained.capture_seconds += lap(&mut training.clock);
        training.round(&stream, &round)?;
    }
    let seconds = training.trained.capture_seconds;
    training.stage.finish(&format!("({seconds:.1} s of it capturing{})", training.start_up));
    Ok((training.pupils, training.trained))
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
    label: &'b str,
    pupils: Vec<Pupil<'a>>,
    trained: Trained,
    stage: Stage,
    saved: Saved,
    /// Up to when seconds were counted.
    clock: Instant,
    /// After the sweep's first step, how long that took to come.
    start_up: String,
}

impl Training<'_, '_> {
    /// One round of the buffer, or what is left of it: every SAE visits its activations in the order of its seed, all of them batch by
    /// batch together. All is done when it returns.
    fn round(&mut self, stream: &ActivationStream<'_>, round: &Round) -> Result<()> {
        let Sweep { spec, opened, .. } = *self.sweep;
        let batch_size = spec.train.batch_size;
        if self.trained.tokens == 0 {
            let sample: Vec<u32> = (0..round.tokens().min(16 * batch_size) as u32).collect();
            for pupil in &mut self.pupils {
                pupil.trainer.calibrate(&stream.batch(pupil.site, &sample));
            }
        }
        let mut seeds: Vec<u64> = self.pupils.iter().map(|p| p.run().key.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let orders: Vec<(u64, Tensor<1, Int>)> =
            seeds.into_iter().map(|seed| (seed, stream.upload(&round.order(seed)))).collect();
        let mut streams: Vec<(usize, u64)> = self.pupils.iter().map(|p| (p.site, p.run().key.seed)).collect();
        streams.sort_unstable();
        streams.dedup();
        for at in (self.trained.into_round as usize..round.tokens()).step_by(batch_size) {
            let started = Instant::now();
            let len = batch_size.min(round.tokens() - at);
            // SAEs of one site and seed see the same batch, which is gathered once.
            let batches: Vec<((usize, u64), Tensor<2>)> = streams
                .iter()
                .map(|&(site, seed)| {
                    let order = &orders.iter().find(|(s, _)| *s == seed).expect("every seed has an order").1;
                    ((site, seed), stream.batch_at(site, order.clone().narrow(0, at, len)))
                })
                .collect();
            // Each holds all of its own state, so no result depends on who runs when.
            side_by_side(&opened.device, self.pupils.iter_mut().collect(), |pupil: &mut Pupil<'_>| -> Result<()> {
                let of = (pupil.site, pupil.run().key.seed);
                let x = &batches.iter().find(|(key, _)| *key == of).expect("every stream has a batch").1;
                pupil.step(x.clone());
                Ok(())
            })?;
            self.note_first_step(started)?;
            // Once all have taken the step, so that none waits for another's loss before it starts.
            for pupil in self.pupils.iter_mut().filter(|p| p.is_look(p.trainer.steps_done() - 1)) {
                pupil.read_losses()?;
            }
            self.trained.tokens += len as u64;
            self.trained.into_round += len as u64;
            let seen = self.pupils.first().and_then(|p| p.losses.looks.last());
            self.stage.advance(len as u64, || seen.map_or_else(String::new, |look| format!("loss {:.3}", look.loss)));
            self.save_if_due(self.trained.into_round == round.tokens() as u64)?;
        }
        self.read_losses()?;
        self.trained.train_seconds += lap(&mut self.clock);
        self.end_round();
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
        // A training that was long enough to be saved at all is saved once more when it is done: an evaluation that is killed then
        // costs no training.
        let is_done = self.trained.tokens == self.group.training_tokens && self.saved.any;
        if !(stop || by_tokens || is_done || since >= Duration::from_secs(train.checkpoint_seconds)) {
            return Ok(());
        }
        self.read_losses()?;
        self.trained.train_seconds += lap(&mut self.clock);
        if round_is_done {
            self.end_round();
        }
        save_state(&state_dir(self.sweep.results, &self.group.id()), &self.pupils, &self.trained)?;
        self.saved = Saved { at: Instant::now(), tokens: self.trained.tokens, any: true };
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
        for pupil in &mut self.pupils {
            pupil.read_losses()?;
        }
        self.sweep.opened.sync()
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

impl<'a> Pupil<'a> {
    /// The first of its runs, by which it is known.
    pub(super) fn run(&self) -> &'a Run {
        self.runs[0]
    }

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
                "training diverged: the loss of {} {} {} seed {} is {value} at step {step}; lower the learning rate",
                self.run().site.hook,
                self.trainer.config().architecture,
                self.trainer.config().architecture.knob(),
                self.run().key.seed
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
