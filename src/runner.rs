//! Carries out a plan: captures activations, trains SAEs in lockstep, evaluates them, and writes each record as it is done.

mod state;
mod training;

use std::cell::Cell;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use assay_models::Site;
use assay_probes::{EvalConfig, Evaluation, Subject, Survey, evaluate};
use assay_sae::{Format, Metadata, Sae, formats};

use crate::belonging::begins_with;
use crate::device::Opened;
use crate::interrupt::{self, Interrupted};
use crate::markdown::tokens_text;
use crate::plan::{Group, Inputs, Run};
use crate::progress::Progress;
use crate::record::{Record, Timing};
use crate::results_dir::state_dir;
use crate::spec::SweepSpec;
use state::{Trained, save_state};
use training::{Pupil, train};

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

impl Sweep<'_> {
    /// The error of work that was interrupted, with what was saved of it.
    pub fn interrupted(&self, saved: &str) -> Interrupted {
        Interrupted { saved: format!("{saved} in {}; the same command resumes", self.results.display()) }
    }
}

/// Trains and evaluates the runs of a group that have no record yet.
///
/// # Errors
/// If tokens can't be read, training diverges, a file can't be written, or somebody interrupts ([`Interrupted`]).
pub fn run_group(sweep: &Sweep<'_>, group: &Group, inputs: &Inputs) -> Result<()> {
    let Sweep { spec, results, progress, .. } = *sweep;
    let mut missing = Vec::new();
    for run in &group.runs {
        if Record::load(results, &run.key)?.is_none() {
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
    let (pupils, trained) = train(sweep, group, &missing, inputs, &label)?;
    let started = Instant::now();
    let saes: Vec<Sae> = pupils.iter().map(|p| p.trainer.sae()).collect();
    let Some(found) = evaluate_group(sweep, group, inputs, &missing, &saes, &label)? else {
        // Training took longer than this.
        save_state(&state_dir(results, &group.id()), &pupils, &trained)?;
        let saved = format!("{label}: its trained SAEs and {} finished runs are saved", finished(results, group)?);
        return Err(sweep.interrupted(&saved).into());
    };
    let eval_seconds = started.elapsed().as_secs_f64() / pupils.len() as f64;
    for ((pupil, sae), found) in pupils.iter().zip(&saes).zip(&found) {
        if spec.train.save_saes {
            save_sae(spec, group, pupil, sae, inputs, results)?;
        }
        let mut record = record_of(spec, group, pupil, inputs);
        record.set_evaluation(found);
        timing_of(sweep, group, pupil.run, &trained, pupils.len(), eval_seconds).save(results)?;
        // Last: a run is finished when its record is there.
        record.save(results)?;
    }
    let state = state_dir(results, &group.id());
    if state.exists() {
        std::fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
    }
    Ok(())
}

/// Runs of a group that have a record.
fn finished(results: &Path, group: &Group) -> Result<usize> {
    let mut count = 0;
    for run in &group.runs {
        count += usize::from(Record::load(results, &run.key)?.is_some());
    }
    Ok(count)
}

/// Evaluates the SAEs of some runs; `None` if somebody interrupts.
fn evaluate_group(
    sweep: &Sweep<'_>,
    group: &Group,
    inputs: &Inputs,
    runs: &[&Run],
    saes: &[Sae],
    label: &str,
) -> Result<Option<Vec<Evaluation>>> {
    let Sweep { spec, progress, .. } = *sweep;
    let site = |run: &Run| Site { hook: run.hook, center: spec.center_residual };
    let mut subjects: Vec<Subject<'_>> = runs.iter().zip(saes).map(|(run, sae)| Subject::new(site(run), sae)).collect();
    let sites: Vec<Site> = subjects.iter().map(|subject| subject.site).collect();
    let (tokens, batch) = (inputs.eval_tokens.view(), spec.eval.batch);
    let mut stage = progress.stage(format!("{label} evaluate {} SAEs", saes.len()), tokens.nrows() as u64, "sequences");
    let config =
        EvalConfig { fisher_samples: spec.eval.fisher_samples, fisher_seed: spec.eval.fisher_seed, kl_zero: false };
    let found = Survey::new(&inputs.decoder, tokens, &sites, &[], batch, |_| interrupt::flow()).and_then(|survey| {
        evaluate(&survey, &mut subjects, config, |n| {
            stage.advance(n as u64, String::new);
            interrupt::flow()
        })
    });
    let found =
        interrupt::unless_stopped(found).with_context(|| format!("model `{}`, evaluation", group.model.name))?;
    if found.is_some() {
        stage.finish("");
    }
    Ok(found)
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
        final_loss: pupil.losses.final_loss(),
        n_dead: pupil.trainer.n_dead(),
        curve: pupil.losses.curve(),
        by_norm: Vec::new(),
        pr: [None; 5],
        fires: Vec::new(),
        eval_token_count: 0,
        sums: Vec::new(),
        sequences: Vec::new(),
    }
}

/// `together` SAEs share the seconds of their training evenly.
fn timing_of(
    sweep: &Sweep<'_>,
    group: &Group,
    run: &Run,
    trained: &Trained,
    together: usize,
    eval_seconds: f64,
) -> Timing {
    let together = together as f64;
    Timing {
        id: run.id.clone(),
        train_seconds: trained.train_seconds / together,
        capture_seconds: trained.capture_seconds / together,
        eval_seconds,
        tokens_per_second: group.training_tokens as f64 * together / trained.train_seconds.max(1e-9),
        threads: rayon::current_num_threads(),
        device: sweep.opened.name.clone(),
        finished_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
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
