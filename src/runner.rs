//! Carries out a plan: captures activations, trains SAEs in lockstep, evaluates them, and writes each record as it is done.

mod beginnings;
mod feed;
mod job;
mod left;
#[cfg(test)]
pub(crate) mod made;
mod passes;
mod reading;
mod state;
mod training;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow};
use assay_models::{Decoder, Precision, Site, runs_on_cpu};
use assay_probes::geometry::residual_stream;
use assay_probes::{EvalConfig, Evaluation, Subject, Survey, evaluate};
use assay_sae::{Format, Metadata, Sae, Trainer, formats};

use crate::belonging::{begins_with, starts};
use crate::controls::permuted_decoder;
use crate::device::{self, OpenDevice};
use crate::information;
use crate::interrupt::{self, Interrupted};
use crate::markdown::{counted, tokens_text};
use crate::plan::{Group, PlannedModel, Run};
use crate::progress::Progress;
use crate::record::{GeometryKey, GeometryRecord, RunRecord, Timing};
use crate::results_dir::{state_dir, states};
use crate::spec::{SweepControl, SweepSpec};
use crate::topology;
use beginnings::Beginnings;
pub(crate) use feed::distinct;
use job::TrainingJob;
use left::Left;
pub use passes::{MemoryFull, Passes, REMEDY};
use state::{Trained, remove_state, save_state};
pub use state::{has_state, parts_begun, remove_states};
use training::train;

/// A sweep that is being carried out: what all of its groups share.
pub struct Sweep<'a> {
    /// What is asked for.
    pub spec: &'a SweepSpec,
    /// The results directory.
    pub results: &'a Path,
    /// Where it runs.
    pub opened: &'a OpenDevice,
    /// How progress is shown.
    pub progress: Progress,
    /// When the program started; taken by the group that takes the first step, which says how long that was.
    pub started: Cell<Option<Instant>>,
}

impl Sweep<'_> {
    /// The error of work that was interrupted, with what was saved of it.
    pub fn interrupted(&self, saved: &str) -> Interrupted {
        Interrupted { saved: format!("{saved} in {}; the same command resumes", self.results.display()) }
    }
}

/// A model of a sweep while its groups are worked on. Its weights are read, and its evaluation set is surveyed, when the first of them
/// needs it.
pub struct ModelAtWork<'a> {
    sweep: &'a Sweep<'a>,
    model: &'a PlannedModel,
    decoder: &'a OnceCell<Decoder>,
    passes: Passes,
    /// Without the geometry of the layers, and with it.
    surveys: [OnceCell<Survey<'a>>; 2],
}

impl<'a> ModelAtWork<'a> {
    /// A model of which nothing is in memory yet; `decoder` is where it will be.
    pub fn new(sweep: &'a Sweep<'a>, model: &'a PlannedModel, decoder: &'a OnceCell<Decoder>) -> Self {
        let passes = Passes::of_spec(sweep.spec, model.files.config().vocab_size);
        Self { sweep, model, decoder, passes, surveys: [const { OnceCell::new() }; 2] }
    }

    /// Does what is left of a group, in smaller passes where a GPU's memory is full. What was finished stays, and a state that was saved; a
    /// record is written when all of it is known.
    ///
    /// # Errors
    /// If the model can't be read, a training or evaluation fails, the smallest passes don't fit, a file can't be written, or somebody
    /// interrupts.
    pub fn run(&self, group: &Group) -> Result<()> {
        let mut passes = self.passes;
        loop {
            let done = self.attempt(group, passes.halved());
            let Some(full) = done.as_ref().err().and_then(|error| error.downcast_ref::<MemoryFull>()) else {
                return done;
            };
            let Some(smaller) = passes.smaller() else { return done.context(REMEDY) };
            self.sweep.progress.warn(&format!("{full}; trying {smaller}, which its records say"));
            passes = smaller;
        }
    }

    /// Does what is left of a group in passes that are halved so often.
    ///
    /// # Errors
    /// As [`Self::run`]; [`MemoryFull`] if the memory of a GPU is.
    pub fn attempt(&self, group: &Group, halved: u32) -> Result<()> {
        let passes = self.passes.halved_times(halved);
        if passes != self.passes {
            // What was surveyed in other passes is not taken over.
            return Self { passes, surveys: [const { OnceCell::new() }; 2], ..*self }.attempt(group, halved);
        }
        let opened = self.sweep.opened;
        if runs_on_cpu(&opened.device) {
            return self.work_on(group);
        }
        let full = || MemoryFull { group: group.name(), device: opened.name.clone(), passes };
        // CubeCL panics where an allocation fails, and nothing of this attempt is used after that.
        match catch_unwind(AssertUnwindSafe(|| self.work_on(group))) {
            Ok(Err(error)) if device::is_out_of_memory(&format!("{error:#}")) => Err(error.context(full())),
            Ok(done) => done,
            Err(panic) => match device::panic_text(panic.as_ref()) {
                Some(text) if device::is_out_of_memory(text) => Err(anyhow!("{text}").context(full())),
                _ => resume_unwind(panic),
            },
        }
    }

    /// Trains and evaluates the runs of a group that have no record yet; the model's first group also measures its geometry and mutual
    /// information, where they are not there yet. Then clouds are audited that a spec asks for.
    ///
    /// # Errors
    /// If tokens can't be read, a file can't be written, or somebody interrupts ([`Interrupted`]).
    fn work_on(&self, group: &Group) -> Result<()> {
        let Sweep { spec, results, progress, .. } = *self.sweep;
        self.go_on_with_parts(group)?;
        let mut geometry =
            group.runs.first().filter(|_| self.model.is_first(group)).map(|run| GeometryKey::of(&run.key));
        if let Some(key) = &geometry
            && GeometryRecord::load(results, &key.id())?.is_some()
        {
            geometry = None;
        }
        self.run_missing(group, geometry.is_some())?;
        if let Some(key) = geometry {
            let survey = self.survey(true)?.ok_or_else(|| self.stopped())?;
            let found = survey.geometry().context("the survey was asked for the layers")?.clone();
            GeometryRecord { key, passes_halved: self.passes.halved(), found }.save(results)?;
        }
        if self.model.is_first(group) && !information::measure(spec, self.model, || self.decoder(), results, progress)?
        {
            return Err(self.stopped().into());
        }
        if let Some(topology) = &spec.topology {
            let runs = group.runs.iter().map(|run| (run.depth.as_str(), &run.key));
            let tasks = topology::tasks(Some(topology), &group.model, runs, self.model.audits_sites(group))?;
            let tokens = self.model.tokens.eval.view();
            topology::measure(topology, &tasks, || self.decoder(), tokens, results, progress, || self.stopped())?;
        }
        Ok(())
    }

    /// Does what is left of those parts of a group on which somebody worked who was stopped, where they had come further than all of it.
    fn go_on_with_parts(&self, group: &Group) -> Result<()> {
        let Sweep { results, progress, .. } = *self.sweep;
        let sites = group.sites();
        if sites.len() < 2 || states(results).next().is_none() || Left::of(group, results)?.missing.is_empty() {
            return Ok(());
        }
        let said = RefCell::new(BTreeSet::new());
        let damaged = |why: &Error| {
            let why = format!("{why:#}");
            if said.borrow_mut().insert(why.clone()) {
                progress.warn(&why);
            }
        };
        // One after the other, as a site may be in several.
        while let Some(begun) = parts_begun(results, &sites, |sites| group.part(sites).id(), damaged).first() {
            self.work_on(&group.part(begun))?;
        }
        Ok(())
    }

    fn stopped(&self) -> Interrupted {
        self.sweep.interrupted(&format!("{}: its finished runs are saved", self.model.shown()))
    }

    /// The model on the device.
    fn decoder(&self) -> Result<&'a Decoder> {
        if let Some(decoder) = self.decoder.get() {
            return Ok(decoder);
        }
        let Sweep { spec, opened, progress, .. } = *self.sweep;
        let decoder = self.model.load(opened)?;
        self.model.foreign(&decoder)?.iter().for_each(|note| progress.warn(note));
        if let Some(why) = decoder.why_no_bf16().filter(|_| spec.precision == Precision::Bf16) {
            progress
                .say(&format!("{}: activations are captured in f32, which takes longer: {why}", self.model.shown()));
        }
        Ok(self.decoder.get_or_init(|| decoder))
    }

    /// What is to be known of the evaluation set before SAEs are evaluated on it, and the geometry of every layer where `layers` says so;
    /// `None` if somebody interrupts.
    fn survey(&self, layers: bool) -> Result<Option<&Survey<'a>>> {
        let [without, with] = &self.surveys;
        if let Some(survey) = with.get().or_else(|| without.get().filter(|_| !layers)) {
            return Ok(Some(survey));
        }
        let place = if layers { with } else { without };
        let Sweep { spec, progress, .. } = *self.sweep;
        let decoder = self.decoder()?;
        let sites: Vec<Site> = self.model.sites.iter().map(|(_, site)| *site).collect();
        let layers = if layers { residual_stream(decoder.config(), spec.center_residual) } else { Vec::new() };
        let tokens = self.model.tokens.eval.view();
        let mut stage = progress.stage(format!("{} survey", self.model.shown()), tokens.nrows() as u64, "sequences");
        let survey = Survey::new(decoder, tokens, &sites, &layers, self.passes.sequences(), |n| {
            stage.advance(n as u64, String::new);
            interrupt::flow()
        });
        let survey = interrupt::unless_stopped(survey)
            .with_context(|| format!("model `{}`, the activations on the evaluation set", self.model.name))?;
        let Some(survey) = survey else { return Ok(None) };
        stage.finish("");
        Ok(Some(place.get_or_init(|| survey)))
    }

    /// Trains and evaluates the runs of a group that have no record yet.
    fn run_missing(&self, group: &Group, layers: bool) -> Result<()> {
        let Self { sweep, model, .. } = *self;
        let Sweep { spec, results, progress, .. } = *sweep;
        let label = format!("{} {}{}", model.shown(), tokens_text(group.training_tokens), group.part_shown());
        let left = Left::of(group, results)?;
        left.notes(spec.train.save_saes).iter().for_each(|note| progress.say(&format!("{label}: {note}")));
        let Left { mut missing, finished, .. } = left;
        if missing.is_empty() {
            // A kill may have come between the last record and this.
            return remove_state(&state_dir(results, &group.id()));
        }
        if self.decoder.get().is_none() {
            model.check_memory(sweep.opened)?;
        }
        // Drawn while the model is read.
        let (decoder, beginnings) = std::thread::scope(|scope| {
            let beginnings = scope.spawn(|| Beginnings::draw(&missing));
            (self.decoder(), beginnings.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let (decoder, beginnings) = (decoder?, beginnings?);
        let (jobs, trained) = train(sweep, group, beginnings, decoder, model, &label, self.passes.contexts())?;
        let started = Instant::now();
        let job_of_any = |run: &Run| jobs.iter().find(|job| job.runs.iter().any(|own| own.id == run.id));
        // Without those that failed.
        missing.retain(|run| job_of_any(run).is_some());
        if missing.is_empty() {
            return remove_state(&state_dir(results, &group.id()));
        }
        let job_of = |run: &Run| job_of_any(run).expect("those without one are left out");
        let saes = missing.iter().map(|run| sae_of(run, job_of(run))).collect::<Result<Vec<Sae>>>()?;
        let Some(found) = self.evaluate(&missing, &saes, layers, &label)? else {
            // Training took longer than this.
            save_state(results, group, &jobs, &trained)?;
            let saved = format!("{label}: its trained SAEs and {finished} finished runs are saved");
            return Err(sweep.interrupted(&saved).into());
        };
        let eval_seconds = started.elapsed().as_secs_f64() / missing.len() as f64;
        let reader = self.latent_reader(group)?;
        let mut stage =
            reader.as_ref().map(|_| progress.stage(format!("{label} read latents"), missing.len() as u64, "SAEs"));
        for ((&run, sae), found) in missing.iter().zip(&saes).zip(&found) {
            let job = job_of(run);
            let legibility = reader.as_ref().map(|reader| reader.read(sae, run.reads, run.site)).transpose();
            if legibility.as_ref().is_err_and(anyhow::Error::is::<Interrupted>) {
                // Training took longer than this.
                save_state(results, group, &jobs, &trained)?;
            }
            let legibility = legibility?;
            if let Some(stage) = &mut stage {
                stage.advance(1, String::new);
            }
            if spec.train.save_saes {
                let dir = results.join("saes").join(group.name_of(run));
                save_sae(sweep, model, run, (&job.trainer, group.training_tokens), sae, &dir)?;
            }
            let mut record = record_of(spec, group, run, job, decoder.config().n_layers());
            record.passes_halved = self.passes.halved();
            record.set_evaluation(found);
            record.legibility = legibility;
            let shares = [jobs.len(), job.runs.len()];
            record.save(results, timing_of(sweep, group, run, &trained, shares, eval_seconds))?;
        }
        if let Some(stage) = stage {
            stage.finish("");
        }
        remove_state(&state_dir(results, &group.id()))
    }

    /// Evaluates the SAEs of some runs, at all sites in one pass; `None` if somebody interrupts.
    fn evaluate(&self, runs: &[&Run], saes: &[Sae], layers: bool, label: &str) -> Result<Option<Vec<Evaluation>>> {
        let Sweep { spec, progress, .. } = *self.sweep;
        let Some(survey) = self.survey(layers)? else { return Ok(None) };
        let mut subjects: Vec<Subject<'_>> =
            runs.iter().zip(saes).map(|(run, sae)| Subject::new(run.site, sae).reading(run.reads)).collect();
        let sequences = self.model.tokens.eval.nrows() as u64;
        let mut stage =
            progress.stage(format!("{label} evaluate {}", counted(saes.len(), "SAE")), sequences, "sequences");
        let config =
            EvalConfig { fisher_samples: spec.eval.fisher_samples, fisher_seed: spec.eval.fisher_seed, kl_zero: false };
        let found = evaluate(survey, &mut subjects, config, |n| {
            stage.advance(n as u64, String::new);
            interrupt::flow()
        });
        let found = interrupt::unless_stopped(found).with_context(|| format!("{label}, evaluation"))?;
        if found.is_some() {
            stage.finish("");
        }
        Ok(found)
    }
}

/// The SAE of a run when its training is done.
fn sae_of(run: &Run, job: &TrainingJob<'_>) -> Result<Sae> {
    let sae = job.trainer.sae_as(&run.key.train);
    match run.key.control {
        Some(SweepControl::PermutedDecoder) => permuted_decoder(&sae, run.key.seed),
        _ => Ok(sae),
    }
}

fn record_of(spec: &SweepSpec, group: &Group, run: &Run, job: &TrainingJob<'_>, n_layers: usize) -> RunRecord {
    RunRecord {
        id: run.id.clone(),
        key: run.key.clone(),
        model: group.model.clone(),
        depth: run.depth.clone(),
        layer: run.site.hook.layer,
        n_layers,
        recipe: spec.train.recipe.to_string(),
        final_loss: job.losses.final_loss(),
        n_dead: job.trainer.n_dead(),
        curve: job.losses.curve(),
        kl_curve: job.losses.kl_curve(),
        passes_halved: 0,
        by_norm: Vec::new(),
        pr: [None; 5],
        legibility: None,
        fires: Vec::new(),
        eval_token_count: 0,
        sums: Vec::new(),
        sequences: Vec::new(),
    }
}

/// `together` SAEs share the seconds of their training evenly, and the `runs` of one SAE its share.
fn timing_of(
    sweep: &Sweep<'_>,
    group: &Group,
    run: &Run,
    trained: &Trained,
    [together, runs]: [usize; 2],
    eval_seconds: f64,
) -> Timing {
    let (together, runs) = (together as f64, runs as f64);
    Timing {
        id: run.id.clone(),
        train_seconds: trained.train_seconds / (together * runs),
        capture_seconds: trained.capture_seconds / (together * runs),
        eval_seconds,
        tokens_per_second: group.training_tokens as f64 * together / trained.train_seconds.max(1e-9),
        threads: rayon::current_num_threads(),
        device: sweep.opened.name.clone(),
        finished_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        record: None,
    }
}

/// Saves an SAE that was trained on so many tokens.
fn save_sae(
    sweep: &Sweep<'_>,
    model: &PlannedModel,
    run: &Run,
    (trainer, tokens): (&Trainer, u64),
    sae: &Sae,
    dir: &Path,
) -> Result<()> {
    let spec = sweep.spec;
    // The first contexts of training show whether they begin with an extra token.
    let contexts = (run.key.training_tokens as usize / spec.tokens.context_size).clamp(1, 64);
    let first = model.tokens.source.read(0, contexts)?;
    let metadata = Metadata {
        model_name: Some(model.name.clone()),
        hook_name: Some(run.reads.hook.to_string()),
        hook_name_out: run.key.reads.map(|_| run.site.hook.to_string()),
        dataset_path: spec.tokens.dataset.clone().or_else(|| {
            let name = spec.tokens.train.as_deref().and_then(Path::file_name);
            name.map(|n| n.to_string_lossy().into_owned())
        }),
        context_size: Some(spec.tokens.context_size),
        prepend_bos: begins_with(first.view(), &starts(model.tokens.bos(), model.files.config())),
        center_residual: run.site.center,
        trained_with: Some(formats::PROGRAM.to_owned()),
        ..Metadata::default()
    };
    let rates: Vec<f64> = trainer.fires().into_iter().map(|f| f64::from(f) / tokens as f64).collect();
    if let Some(above) = dir.parent() {
        // Now, so that what a kill leaves of an SAE on its way lies in there, where the next one looks for it.
        std::fs::create_dir_all(above).with_context(|| format!("cannot create {}", above.display()))?;
    }
    Ok(formats::save(dir, Format::for_sae(sae), sae, &metadata, Some(&rates))?)
}
