//! An SAE in training, and what is known of it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use assay_models::CleanPass;
use assay_sae::{Divergence, StepLoss, Trainer};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::logs::{Look, RunLog};
use crate::plan::Run;

/// About how many losses of a run are read and recorded; reading one waits for the device.
const LOOKS: u64 = 200;

/// An SAE in training, and what is known of it.
pub(super) struct Pupil<'a> {
    /// The runs whose SAE it is: one, or those that differ in no setting of training.
    pub runs: Vec<&'a Run>,
    pub trainer: Trainer,
    /// Losses that have not been looked at, with their steps: reading one waits for the device.
    unread: Vec<(u64, StepLoss)>,
    pub losses: Losses,
    /// Where looks are written down, if they are.
    pub log: Option<RunLog>,
    /// When the last look was, and the tokens seen until then.
    last_look: Option<(Instant, u64)>,
}

/// The losses that were looked at.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Losses {
    /// On the way.
    pub looks: Vec<Look>,
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

impl<'a> Pupil<'a> {
    /// An SAE of which nothing is trained yet.
    pub fn new(run: &'a Run, device: &Device) -> Result<Self> {
        let trainer = Trainer::new(run.key.train.clone(), run.key.seed, device)?;
        Ok(Self { runs: vec![run], trainer, unread: Vec::new(), losses: Losses::default(), log: None, last_look: None })
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
        self.take(|trainer, watched| {
            let mut forward = trainer.forward(pass.activations(reads));
            if reads != site {
                forward = forward.towards(pass.activations(site));
            }
            let (kl, output_grad) = pass.divergence(site, forward.reconstruction());
            trainer.step_patched(forward, Divergence { kl, output_grad }, watched)
        });
    }

    /// Takes a step. Reading its loss would wait for it: that of most steps is dropped, the others are kept for later.
    fn take(&mut self, step_of: impl FnOnce(&mut Trainer, bool) -> StepLoss) {
        let step = self.trainer.steps_done();
        let watched = self.log.is_some() && self.is_look(step);
        let loss = step_of(&mut self.trainer, watched);
        if self.is_late(step) || self.is_look(step) {
            self.unread.push((step, loss));
        }
    }

    /// Whether the step that was taken last is looked at.
    pub fn just_looked(&self) -> bool {
        self.is_look(self.trainer.steps_done() - 1)
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
    pub fn read_losses(&mut self) -> Result<()> {
        for (step, loss) in std::mem::take(&mut self.unread) {
            let value = loss.reconstruction();
            let worst = loss.kl().filter(|kl| !kl.is_finite()).unwrap_or(value);
            ensure!(
                worst.is_finite(),
                "training diverged: the loss of {} {} {} {} seed {} is {worst} at step {step}; lower the learning rate",
                self.run().site.hook,
                self.run().key.class(),
                self.run().key.objective(),
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
