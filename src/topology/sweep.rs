//! The clouds of a sweep: of each trained SAE what its latents write and read, and the activations where SAEs sit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use assay_models::{Decoder, HookPoint, Site};
use assay_probes::topology::{Filtration, Statistic, subsample};
use assay_sae::formats;
use burn::tensor::Device;
use ndarray::{Array2, ArrayView2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Audited, Components, Place, Points, Settings, together, too_few_draws};
use crate::cloud::{as_f64, places};
use crate::files::{read_json, write_atomic};
use crate::interrupt::{self, Interrupted};
use crate::plan::{Plan, name_of_run};
use crate::progress::Progress;
use crate::record::{METRIC_VERSION, RunKey, RunRecord, short};
use crate::spec::{CloudOf, SweepControl, TopologySpec};

/// The highest dimension of homology.
const MAX_DIM: usize = 1;
/// Which setting chooses fewer points.
const REMEDY: &str = "[topology] rows";

/// What a cloud's audit follows from.
#[derive(Serialize)]
struct Key<'a> {
    metric_version: u32,
    /// The run whose SAE it is of, or where activations come from.
    of: &'a str,
    what: CloudOf,
    metrics: Vec<String>,
    nulls: Vec<String>,
    draws: usize,
    rows: usize,
    seeds: &'a [u64],
    alpha: f64,
    /// Those that are looked at.
    statistics: Vec<&'static str>,
}

/// A cloud to be audited.
#[derive(Clone, Debug)]
pub struct Task {
    /// What it is known by.
    pub id: String,
    /// What it is called.
    pub cloud: String,
    /// Where it comes from.
    pub place: Place,
    what: CloudOf,
    /// Of its run, or of any at the same site.
    key: RunKey,
}

/// What the audit of a cloud left: one result for each seed and metric.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopologyRecord {
    /// Hash of all that it follows from.
    pub id: String,
    /// What was found.
    pub found: Vec<Audited>,
}

impl TopologySpec {
    /// The settings of one seed.
    fn settings(&self, seed: u64) -> Settings {
        Settings {
            filtration: Filtration::Plain,
            nulls: self.nulls.clone(),
            draws: self.draws,
            seed,
            alpha: self.alpha,
            rows: self.rows,
            components: Components::Usual,
            landmarks: None,
            max_dim: MAX_DIM,
            threshold: None,
        }
    }

    /// Checks them.
    ///
    /// # Errors
    /// With what to change.
    pub fn check(&self) -> Result<()> {
        self.settings(0).check(&self.metrics, |name| format!("[topology] {name} ="))
    }

    /// Checks that the clouds of a plan fit into the memory of this machine. Gives what to say where one of them could not stand alone.
    ///
    /// # Errors
    /// With the figure.
    pub fn check_clouds(&self, plan: &Plan) -> Result<Option<String>> {
        let mut clouds = 0;
        for (model, group) in plan.groups() {
            let runs = group.runs.iter().map(|run| (run.depth.as_str(), &run.key));
            for task in tasks(Some(self), &group.model, runs, model.audits_sites(group))? {
                let sequences = model.tokens.eval.nrows();
                self.settings(0).check_size(task.most_points(sequences), REMEDY).with_context(|| task.cloud)?;
                clouds += 1;
            }
        }
        Ok(too_few_draws(clouds, "clouds", self.draws, self.alpha, |name| format!("[topology] {name} =")))
    }

    /// Seconds of all draws of a cloud of so many points and dimensions, about, with all cores at work: of a uniform cloud, as there is no other yet.
    ///
    /// # Errors
    /// If its bars can't be found.
    pub fn seconds_of_cloud(&self, points: usize, width: usize) -> Result<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let cloud = Array2::from_shape_fn((points.min(self.rows), width), |_| rng.random::<f64>());
        let of_metric = |&metric| self.settings(0).seconds(metric, cloud.view());
        let of_seed = self.metrics.iter().map(of_metric).sum::<Result<f64>>()?;
        Ok(of_seed * self.seeds.len() as f64)
    }

    /// Draws of one cloud, at most.
    pub fn draws_of_cloud(&self) -> usize {
        self.seeds.len() * self.metrics.len() * self.nulls.len() * self.draws
    }
}

/// The clouds of a group: of each run, and if it `audits_sites` of each site. Runs are given with the names of their depths.
pub fn tasks<'a>(
    spec: Option<&TopologySpec>,
    model: &str,
    runs: impl Iterator<Item = (&'a str, &'a RunKey)>,
    audits_sites: bool,
) -> Result<Vec<Task>> {
    let Some(spec) = spec else { return Ok(Vec::new()) };
    let (mut of_saes, mut of_sites): (Vec<Task>, Vec<Task>) = (Vec::new(), Vec::new());
    for (depth, key) in runs {
        let (run, hook): (String, HookPoint) = (key.id(), key.hook.parse()?);
        for &what in &spec.clouds {
            // The rows of a permuted decoder are the points of the decoder itself.
            if what == CloudOf::Decoder && key.control == Some(SweepControl::PermutedDecoder) {
                continue;
            }
            let of_activations = what == CloudOf::Activations;
            let of = if of_activations { site_text(key) } else { run.clone() };
            let id = id(spec, &of, what);
            if of_activations && (!audits_sites || of_sites.iter().any(|task| task.id == id)) {
                continue;
            }
            let name = if of_activations { format!("{model} {hook}") } else { name_of_run(model, hook, key) };
            let task = Task {
                id,
                cloud: format!("{name} {what}"),
                place: Place {
                    run: if of_activations { String::new() } else { run.clone() },
                    model: model.to_owned(),
                    depth: depth.to_owned(),
                    hook: key.hook.clone(),
                    what: what.to_string(),
                },
                what,
                key: key.clone(),
            };
            if of_activations { &mut of_sites } else { &mut of_saes }.push(task);
        }
    }
    of_sites.append(&mut of_saes);
    Ok(of_sites)
}

/// All that activations of held-out text at a site follow from.
fn site_text(key: &RunKey) -> String {
    let RunKey { device_class, weights, hook, center_residual, eval_tokens, eval_batch, .. } = key;
    format!("{device_class} {weights} {hook} {center_residual} {eval_tokens} {eval_batch}")
}

fn id(spec: &TopologySpec, of: &str, what: CloudOf) -> String {
    let key = Key {
        metric_version: METRIC_VERSION,
        of,
        what,
        metrics: spec.metrics.iter().map(ToString::to_string).collect(),
        nulls: spec.nulls.iter().map(ToString::to_string).collect(),
        draws: spec.draws,
        rows: spec.rows,
        seeds: &spec.seeds,
        alpha: spec.alpha,
        statistics: Statistic::up_to(MAX_DIM).iter().map(|statistic| statistic.name()).collect(),
    };
    let text = serde_json::to_string(&key).expect("numbers, names and lists of them serialise");
    short(blake3::hash(text.as_bytes()))
}

impl Task {
    /// Dimensions of its points, those of what its SAE reads or writes.
    pub fn width(&self) -> usize {
        self.key.train.d_model
    }

    /// Points that there can be at most: an SAE's latents, or held-out sequences.
    pub fn most_points(&self, sequences: usize) -> usize {
        if self.what == CloudOf::Activations { sequences } else { self.key.train.d_sae }
    }

    /// Where the audit lies in a results directory.
    pub fn path(&self, results: &Path) -> PathBuf {
        results.join("runs").join(format!("{}.topology.json", self.id))
    }

    /// Reads the audit; `None` if there is none yet.
    ///
    /// # Errors
    /// If the file is there but damaged.
    pub fn load(&self, results: &Path) -> Result<Option<TopologyRecord>> {
        const REMEDY: &str = "remove it and the cloud will be audited again";
        let path = self.path(results);
        let found: Option<TopologyRecord> = read_json(&path, REMEDY)?;
        ensure!(
            found.as_ref().is_none_or(|record| record.id == self.id),
            "{} is of another cloud than its name says; {REMEDY}",
            path.display()
        );
        Ok(found)
    }

    /// Whether its run failed or is not done, so that there is no SAE.
    ///
    /// # Errors
    /// If the record of the run is damaged.
    pub fn lacks_run(&self, results: &Path) -> Result<bool> {
        Ok(self.what != CloudOf::Activations && RunRecord::load(results, &self.key)?.is_none())
    }

    /// What the latents that fire on the held-out text write or read: a row a latent.
    fn of_sae(&self, results: &Path) -> Result<Array2<f64>> {
        let record = RunRecord::load(results, &self.key)?.context("its run is done")?;
        let dir = results.join("saes").join(name_of_run(&self.place.model, self.key.hook.parse()?, &self.key));
        ensure!(
            dir.is_dir(),
            "{}: its SAE is not in {}, as it was trained without save_saes; remove runs/{}.json to train it again",
            self.cloud,
            dir.display(),
            record.id
        );
        let [encoder, decoder] = formats::load(&dir, &Device::flex())?.sae.weights();
        let rows = as_f64(if self.what == CloudOf::Decoder { decoder } else { encoder })?;
        ensure!(
            rows.nrows() == record.fires.len(),
            "{}: the SAE in {} has {} latents, and its run {}; it is another's",
            self.cloud,
            dir.display(),
            rows.nrows(),
            record.fires.len()
        );
        let living: Vec<usize> = (0..rows.nrows()).filter(|&latent| record.fires[latent] > 0).collect();
        Ok(rows.select(Axis(0), &living))
    }

    /// For each seed one token of each held-out sequence, about their mean.
    fn of_site(
        &self,
        decoder: &Decoder,
        tokens: ArrayView2<'_, u32>,
        seeds: &[u64],
        stopped: impl Fn() -> Interrupted,
    ) -> Result<Vec<Array2<f64>>> {
        let site = Site { center: self.key.center_residual, ..self.key.hook.parse::<HookPoint>()?.into() };
        let mut rows: Vec<Vec<f64>> = vec![Vec::new(); seeds.len()];
        let mut width = 0;
        for (at, batch) in tokens.axis_chunks_iter(Axis(0), self.key.eval_batch).enumerate() {
            if interrupt::requested() {
                return Err(stopped().into());
            }
            let x = as_f64(decoder.capture(batch, &[site])?.remove(0).flatten(0, 1))?;
            width = x.ncols();
            for sequence in 0..batch.nrows() {
                for (rows, &seed) in rows.iter_mut().zip(seeds) {
                    let place = places(seed, at * self.key.eval_batch + sequence, [1, batch.ncols()], 1)[0];
                    rows.extend(x.row(sequence * batch.ncols() + place));
                }
            }
        }
        let about_mean = |rows: Vec<f64>| {
            let cloud = Array2::from_shape_vec((tokens.nrows(), width), rows)?;
            ensure!(cloud.iter().all(|value| value.is_finite()), "an activation at {site} is not finite");
            let mean = cloud.mean_axis(Axis(0)).context("there is a sequence")?;
            Ok(cloud - mean)
        };
        rows.into_iter().map(about_mean).collect()
    }
}

/// Audits the clouds of a group that were not, and records each. SAEs are read where they are saved, once, as held-out text is.
///
/// # Errors
/// If an SAE is not there, a cloud is not one of a metric or does not fit into memory, a record can't be read or written, or somebody interrupts:
/// `stopped` says what stays.
pub fn measure<'a>(
    spec: &TopologySpec,
    tasks: &[Task],
    decoder: impl Fn() -> Result<&'a Decoder>,
    tokens: ArrayView2<'_, u32>,
    results: &Path,
    progress: Progress,
    stopped: impl Fn() -> Interrupted,
) -> Result<()> {
    for task in tasks {
        if task.load(results)?.is_some() || task.lacks_run(results)? {
            continue;
        }
        let mut stage = progress.stage(format!("{} topology", task.cloud), spec.draws_of_cloud() as u64, "draws");
        // The points of all seeds, or of each.
        let clouds = match task.what {
            CloudOf::Activations => task.of_site(decoder()?, tokens, &spec.seeds, &stopped)?,
            CloudOf::Decoder | CloudOf::Encoder => vec![task.of_sae(results)?],
        };
        let mut found = Vec::new();
        for (&seed, whole) in spec.seeds.iter().zip(clouds.iter().cycle()) {
            let settings = spec.settings(seed);
            let named = || format!("[topology] {}", task.cloud);
            settings.check_size(whole.nrows(), REMEDY).with_context(named)?;
            let cloud = Arc::new(subsample(whole.view(), settings.rows, seed));
            let points = Points { cloud, rows: whole.nrows(), all: None };
            let mut of_seed = Vec::new();
            for &metric in &spec.metrics {
                let tick = |made| stage.advance(made as u64, String::new);
                let audited = settings.audit(metric, &points, tick).with_context(named)?;
                of_seed.push(audited.ok_or_else(&stopped)?);
            }
            together(&mut of_seed);
            found.append(&mut of_seed);
        }
        stage.finish("");
        let record = TopologyRecord { id: task.id.clone(), found };
        let text = serde_json::to_string(&record).context("an audit serialises")?;
        write_atomic(&task.path(results), text.as_bytes())?;
    }
    Ok(())
}
