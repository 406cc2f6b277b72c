//! How long a sweep will take, from a little of its own work, timed on this machine.
//!
//! Of each group that is not done: one capturing pass, one step of its SAEs side by side, another of those that ask the model, one
//! evaluated batch. What a device does only once, such as compiling kernels, is done before the clock starts, unless the work is so long
//! that it hardly counts.

use std::time::Instant;

use anyhow::Result;
use assay_models::{ActivationStream, CleanPass, Decoder, Site, StreamConfig, runs_on_cpu, side_by_side};
use assay_probes::{EvalConfig, Subject, Survey, evaluate};
use assay_sae::{Divergence, Sae, TrainConfig, Trainer};
use burn::tensor::Tensor;
use ndarray::s;
use serde::Serialize;

use crate::device::OpenDevice;
use crate::interrupt;
use crate::plan::{Group, Run, SweepTokens};
use crate::runner::distinct;
use crate::spec::SweepSpec;

/// Seconds of each stage.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Estimate {
    pub capture: f64,
    pub training: f64,
    pub evaluation: f64,
}

impl Estimate {
    pub fn total(self) -> f64 {
        self.capture + self.training + self.evaluation
    }

    /// Adds what the runs of a group take that are to do.
    pub fn add(
        &mut self,
        spec: &SweepSpec,
        group: &Group,
        todo: &[&Run],
        decoder: &Decoder,
        tokens: &SweepTokens,
        opened: &OpenDevice,
    ) -> Result<()> {
        let Some(first) = todo.first() else { return Ok(()) };
        let sites = distinct(todo.iter().flat_map(|run| run.sites()));
        // A buffer of one pass: its first round captures that pass. On the CPU the tokens of one step are enough.
        let pass =
            if runs_on_cpu(&opened.device) { 0 } else { spec.train.contexts_per_pass * spec.tokens.context_size };
        let captured = pass.max(spec.train.batch_size).min(group.training_tokens as usize);
        let captured = captured / spec.train.batch_size * spec.train.batch_size;
        let stream = || -> Result<ActivationStream<'_>> {
            let config = StreamConfig {
                first_context: 0,
                tokens: captured,
                batch_size: spec.train.batch_size,
                buffer_tokens: captured,
                contexts_per_pass: spec.train.contexts_per_pass,
                seed: 0,
                precision: spec.precision,
            };
            let mut stream = ActivationStream::new(decoder, &tokens.source, &sites, config)?;
            stream.next_round()?;
            opened.sync()?;
            Ok(stream)
        };
        let stream_seconds = timed(|| stream().map(drop))?;
        self.capture += stream_seconds * group.training_tokens as f64 / captured as f64;

        // Beyond a few, more SAEs take their turns.
        let mut together = todo.to_vec();
        together.sort_by_key(|run| run.key.train.objective.is_reconstruction());
        together.truncate(rayon::current_num_threads());
        let mut trainers = together
            .iter()
            .map(|run| Ok(Trainer::new(run.key.train.clone(), run.key.seed, &opened.device)?))
            .collect::<Result<Vec<Trainer>>>()?;
        let places: Vec<u32> = (0..spec.train.batch_size as u32).collect();
        let stream = stream()?;
        let batch_at = |site: Site| stream.batch(sites.iter().position(|of| *of == site).unwrap_or(0), &places);
        let batches: Vec<[Tensor<2>; 2]> = together.iter().map(|run| run.sites().map(batch_at)).collect();
        let step_seconds = timed(|| {
            let work = trainers.iter_mut().zip(&batches).collect();
            side_by_side(&opened.device, work, |(trainer, [x, target]): (&mut Trainer, &[_; 2])| -> Result<()> {
                trainer.step_towards(x.clone(), target.clone());
                Ok(())
            })?;
            opened.sync()
        })?;
        let steps = first.key.train.steps as f64;
        let mut trained: Vec<&Run> = Vec::new();
        for &run in todo {
            if trained.iter().all(|other| !run.trains_as(other)) {
                trained.push(run);
            }
        }
        let asking: f64 = trained.iter().map(|run| asking_share(&run.key.train)).sum();
        self.training += step_seconds * (trained.len() as f64 - asking) / together.len() as f64 * steps;
        if asking > 0.0 {
            let contexts = tokens.source.read(0, spec.train.batch_size / spec.tokens.context_size)?;
            let many = together.iter().filter(|run| asking_share(&run.key.train) > 0.0).count();
            let seconds = timed(|| {
                let pass = CleanPass::new(decoder, contexts.view(), &sites)?;
                let work = together.iter().zip(&mut trainers);
                let work = work.filter(|(run, _)| asking_share(&run.key.train) > 0.0).collect();
                side_by_side(&opened.device, work, |(run, trainer): (&&Run, &mut Trainer)| -> Result<()> {
                    let forward = trainer.forward(pass.activations(run.reads)).towards(pass.activations(run.site));
                    let (kl, output_grad) = pass.divergence(run.site, forward.reconstruction());
                    trainer.step_patched(forward, Divergence { kl, output_grad }, false);
                    Ok(())
                })?;
                opened.sync()
            })?;
            self.training += seconds * asking / many.max(1) as f64 * steps;
        }

        // A few SAEs stand for all of their width.
        let mut kinds: Vec<Sae> = trainers.iter().map(Trainer::sae).collect();
        for run in todo {
            if kinds.iter().all(|sae| sae.d_in() != run.key.train.d_model) {
                kinds.push(Trainer::new(run.key.train.clone(), run.key.seed, &opened.device)?.sae());
            }
        }
        let sae_of = |(at, run): (usize, &&Run)| {
            let fit: Vec<&Sae> = kinds.iter().filter(|sae| sae.d_in() == run.key.train.d_model).collect();
            fit[at % fit.len()].clone()
        };
        let saes: Vec<Sae> = todo.iter().enumerate().map(sae_of).collect();
        // On the CPU a sequence for each core is as good a sample as a batch, and sooner there.
        let most = if runs_on_cpu(&opened.device) { rayon::current_num_threads() } else { usize::MAX };
        let rows = spec.eval.batch(decoder.config().vocab_size).min(tokens.eval.nrows()).min(most);
        let config =
            EvalConfig { fisher_samples: spec.eval.fisher_samples, fisher_seed: spec.eval.fisher_seed, kl_zero: false };
        let eval_seconds = timed(|| {
            let tokens = tokens.eval.slice(s![..rows, ..]);
            let survey = Survey::new(decoder, tokens, &sites, &[], rows, |_| interrupt::flow())?;
            let mut subjects: Vec<Subject<'_>> =
                todo.iter().zip(&saes).map(|(run, sae)| Subject::new(run.site, sae).reading(run.reads)).collect();
            evaluate(&survey, &mut subjects, config, |_| interrupt::flow())?;
            Ok(())
        })?;
        self.evaluation += eval_seconds * tokens.eval.nrows() as f64 / rows as f64;
        Ok(())
    }
}

/// The share of its steps at which an SAE asks the model.
fn asking_share(train: &TrainConfig) -> f64 {
    train.first_asking().map_or(0.0, |first| (train.steps - first) as f64 / train.steps.max(1) as f64)
}

/// Seconds beside which what is done only once is small.
const LONG: f64 = 5.0;

/// Seconds of the second of two times, or of the first if that was long.
fn timed(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut once = || -> Result<f64> {
        let started = Instant::now();
        work()?;
        Ok(started.elapsed().as_secs_f64())
    };
    let first = once()?;
    if first > LONG { Ok(first) } else { once() }
}
