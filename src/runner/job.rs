//! An SAE in training, and what is known of it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use assay_models::{CleanPass, runs_on_cpu};
use assay_sae::{Divergence, StepLoss, Trainer};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::logs::{LogEntry, RunLog};
use crate::plan::Run;

/// About how many losses of a run are read and recorded; reading one waits for the device.
const LOOKS: u64 = 200;

/// An SAE in training, and what is known of it.
pub(super) struct TrainingJob<'a> {
    /// The runs whose SAE it is: one, or those that differ in no setting of training.
    pub runs: Vec<&'a Run>,
    pub trainer: Trainer,
    /// Losses that have not been looked at, with their steps: reading one waits for the device.
    unread: Vec<(u64, StepLoss)>,
    /// That of the last step where it is not among them, and the activations of it that somebody may ask about.
    last: Option<(u64, StepLoss)>,
    batch: Vec<Tensor<2>>,
    /// The first step that is not known to be sound.
    unsound: u64,
    /// Whether every step is looked at, as where that costs nothing.
    watches_all: bool,
    pub losses: Losses,
    /// Where looks are written down, if they are.
    pub log: Option<RunLog>,
    /// When the last look was, and the tokens seen until then.
    last_look: Option<(Instant, u64)>,
}

/// What stopped a training.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// The step at which it was seen.
    pub step: u64,
    /// The first at which it may have been so.
    pub since: u64,
    /// What is not finite.
    pub reason: String,
}

/// The losses that were looked at.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Losses {
    /// On the way.
    pub looks: Vec<LogEntry>,
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

    /// The KL divergence by step, thinned, of the steps that asked the model.
    pub fn kl_curve(&self) -> Vec<(u64, f64)> {
        self.looks.iter().filter_map(|look| Some((look.step, look.kl?))).collect()
    }
}

impl<'a> TrainingJob<'a> {
    /// An SAE of which nothing is trained yet, of one run or of several that differ in no setting of training.
    pub fn new(runs: Vec<&'a Run>, trainer: Trainer, device: &Device) -> Self {
        Self {
            trainer,
            runs,
            unread: Vec::new(),
            last: None,
            batch: Vec::new(),
            unsound: 0,
            watches_all: runs_on_cpu(device),
            losses: Losses::default(),
            log: None,
            last_look: None,
        }
    }

    /// The first of its runs, by which it is known.
    pub fn run(&self) -> &'a Run {
        self.runs[0]
    }

    /// Whether its next step asks the model; else it reads activations.
    pub fn asks_model(&self) -> bool {
        self.trainer.config().asks_model(self.trainer.steps_done())
    }

    /// One step on activations: those where it reads, and of a transcoder those that it is to predict.
    pub fn step(&mut self, x: Tensor<2>, target: Option<Tensor<2>>) {
        self.remember([Some(&x), target.as_ref()]);
        self.take(|trainer, watched| match (target, watched) {
            (None, false) => trainer.step(x),
            (None, true) => trainer.step_watched(x),
            (Some(target), false) => trainer.step_towards(x, target),
            (Some(target), true) => trainer.step_towards_watched(x, target),
        });
    }

    /// One step on contexts, of which the model says what it does with the SAE in it.
    pub fn step_in(&mut self, pass: &CleanPass<'_>) {
        let &Run { site, reads, .. } = self.run();
        self.remember([Some(&pass.activations(reads)), Some(&pass.activations(site))]);
        self.take(|trainer, watched| {
            let mut forward = trainer.forward(pass.activations(reads));
            if reads != site {
                forward = forward.towards(pass.activations(site));
            }
            let (kl, output_grad) = pass.divergence(site, forward.reconstruction());
            trainer.step_patched(forward, Divergence { kl, output_grad }, watched)
        });
    }

    /// Keeps what the next step learns from until its loss is read, if it will be at once.
    fn remember(&mut self, batch: [Option<&Tensor<2>>; 2]) {
        if self.watches_all || self.is_look(self.trainer.steps_done()) {
            self.batch = batch.into_iter().flatten().cloned().collect();
        }
    }

    /// Takes a step. Reading its loss would wait for it: that of most steps is dropped, the others are kept for later.
    fn take(&mut self, step_of: impl FnOnce(&mut Trainer, bool) -> StepLoss) {
        let step = self.trainer.steps_done();
        let watched = self.log.is_some() && self.is_look(step);
        let loss = step_of(&mut self.trainer, watched);
        if self.is_late(step) || self.is_look(step) {
            self.unread.push((step, loss));
            self.last = None;
        } else {
            self.last = Some((step, loss));
        }
    }

    /// Whether the losses are to be read now.
    pub fn is_due(&self) -> bool {
        self.watches_all || self.is_look(self.trainer.steps_done() - 1)
    }

    /// The losses that [`Self::read_losses`] reads, so that those of many SAEs can be fetched together.
    pub fn kept_losses(&mut self) -> impl Iterator<Item = &mut StepLoss> {
        self.unread.iter_mut().chain(&mut self.last).map(|(_, loss)| loss)
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

    /// Looks at the losses that were kept, in the order of their steps, and at the last step's. Something is given where one of them is not
    /// finite: the weights are worth nothing from then on.
    ///
    /// # Errors
    /// If a log can't be written.
    pub fn read_losses(&mut self) -> Result<Option<Stop>> {
        let batch = std::mem::take(&mut self.batch);
        for (step, loss) in std::mem::take(&mut self.unread) {
            if let Some(stop) = self.stop(step, &loss, &batch) {
                return Ok(Some(stop));
            }
            let value = loss.reconstruction();
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
        let stop = self.last.take().and_then(|(step, loss)| self.stop(step, &loss, &batch));
        self.unsound = self.trainer.steps_done();
        Ok(stop)
    }

    /// What is not finite of a step, if anything is; `batch` is what the last one learned from, if that is known.
    fn stop(&self, step: u64, loss: &StepLoss, batch: &[Tensor<2>]) -> Option<Stop> {
        let fault = loss.fault()?;
        let is_last = step + 1 == self.trainer.steps_done();
        let reason = match batch.iter().filter(|_| is_last).find_map(not_finite) {
            Some(value) => format!("an activation that it learns from is {value}"),
            None => fault.to_string(),
        };
        // The steps before were looked at, where all are.
        let since = if self.watches_all { step } else { self.unsound.min(step) };
        Some(Stop { step, since, reason })
    }

    /// What is known of a step that was just taken; without a log its loss, and what costs nothing.
    fn look(&mut self, step: u64, value: f64, loss: &StepLoss) -> LogEntry {
        let config = self.trainer.config();
        let tokens = (step + 1) * config.batch_size as u64;
        let now = Instant::now();
        let before = self.last_look.replace((now, tokens));
        let logged = self.log.is_some();
        LogEntry {
            step,
            tokens,
            loss: value,
            aux_loss: (logged && config.aux_coefficient > 0.0).then(|| loss.auxiliary()),
            kl: loss.kl(),
            fvu: loss.fvu(),
            l0: loss.l0(),
            dead: logged.then(|| self.trainer.n_dead()),
            lr: config.lr_at(step),
            tokens_per_second: before.map(|(then, seen)| (tokens - seen) as f64 / (now - then).as_secs_f64().max(1e-9)),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()),
        }
    }
}

/// The first of some numbers that is infinite or no number.
fn not_finite(x: &Tensor<2>) -> Option<f32> {
    x.clone().into_data().iter::<f32>().find(|value| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_found() {
        let device = Device::flex();
        let batch = |value: f32| Tensor::<2>::from_data([[0.0, 1.0], [value, -2.0]], &device);
        assert_eq!(not_finite(&batch(3.4e38)), None);
        assert_eq!(not_finite(&batch(f32::INFINITY)), Some(f32::INFINITY));
        assert!(not_finite(&batch(f32::NAN)).is_some_and(f32::is_nan));
    }
}
