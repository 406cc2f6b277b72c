//! What a sweep would do, before it does it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use assay_hub::{HubName, Pending};
use assay_models::{Decoder, clean_pass_bytes, runs_on_cpu};
use assay_probes::evaluate::evaluation_bytes;
use assay_sae::Knob;
use indicatif::DecimalBytes;
use serde::Serialize;
use serde_json::{Number, Value, json};

use super::estimate::Estimate;
use crate::device::OpenDevice;
use crate::frames::MSE;
use crate::markdown::{self, counted, tokens_text};
use crate::output;
use crate::plan::{Plan, PlannedModel, Run};
use crate::progress::Progress;
use crate::progress::duration;
use crate::record::Standing;
use crate::spec::{SweepControl, SweepSpec, TopologySpec};
use crate::topology;

/// [`evaluation_bytes`] of the model that needs most.
fn eval_bytes(spec: &SweepSpec, plan: &Plan, opened: &OpenDevice) -> f64 {
    let threads = if runs_on_cpu(&opened.device) { rayon::current_num_threads() } else { 1 };
    let at_once = threads.min(spec.architectures().len() * spec.seeds.len());
    let bytes = |vocab: usize| evaluation_bytes(spec.eval.batch(vocab), spec.eval.context_size, vocab, at_once);
    plan.models.iter().map(|model| bytes(model.files.config().vocab_size)).max().unwrap_or(0) as f64
}

/// What a sweep would download first. A run's id has the weights' and tokens' hashes in it, so runs can't be listed before.
pub(super) fn describe_downloads(pending: &[(HubName, Pending)], json: bool) -> Result<()> {
    if json {
        let listed: Vec<Value> = pending
            .iter()
            .map(
                |(name, p)| json!({ "name": name.to_string(), "commit": p.commit, "files": p.files, "bytes": p.bytes }),
            )
            .collect();
        return output::result_line(serde_json::to_string_pretty(&json!({ "to_download": listed }))?);
    }
    for (name, Pending { commit, files, bytes }) in pending {
        output::result_line(format_args!(
            "to download: {name}, commit {commit}: {files} files, {}",
            DecimalBytes(*bytes)
        ))?;
    }
    output::result_line("the runs can be listed when these are in the hub's cache")
}

/// What a sweep would do.
#[derive(Serialize)]
pub(super) struct Outlook {
    runs: Vec<PlannedRun>,
    /// In the order of their numbers.
    groups: Vec<PlannedGroup>,
    results: PathBuf,
    device: String,
    /// Why this device can't do it; then nothing is known that depends on the device: ids, what is done, seconds, memory.
    why_not: Option<String>,
    /// Of the encoder's product in what is left to train; sparse parts cost k/d_sae of it each.
    flops: f64,
    /// Of the weights of the largest model; one model at a time is in memory.
    model_bytes: Option<u64>,
    /// Beside the model, at most.
    training_bytes: Option<f64>,
    /// The same, about.
    evaluation_bytes: Option<f64>,
    checkpoint_seconds: u64,
    checkpoint_tokens: Option<u64>,
    /// Of what is left to do, without the geometry of the models and what is in `not_timed`.
    seconds: Option<Estimate>,
    /// Parts of the spec whose work is not in `seconds`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_timed: Vec<&'static str>,
    /// Clouds to audit for loops, where the spec asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    topology: Option<Audits>,
}

/// Audits of clouds that are to be made.
#[derive(Serialize)]
struct Audits {
    clouds: usize,
    /// Of each, at most.
    draws: usize,
    /// Of all of them, about, by bars of uniform clouds as large; bars of others may take longer.
    seconds: f64,
}

/// What one process may work on by itself, with `--group`.
#[derive(Serialize)]
struct PlannedGroup {
    name: String,
    runs: usize,
    todo: Option<usize>,
}

/// A run as `--dry-run` lists it.
#[derive(Serialize)]
struct PlannedRun {
    id: Option<String>,
    model: String,
    depth: String,
    hook: String,
    architecture: String,
    objective: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<SweepControl>,
    d_sae: usize,
    /// Active latents per token, where the class fixes their number.
    k: Option<Number>,
    /// What sets the sparsity.
    #[serde(skip)]
    knob: Knob,
    seed: u64,
    training_tokens: u64,
    done: Option<bool>,
}

/// Without a fraction where it has none.
fn number(value: f64) -> Option<Number> {
    if value.fract() == 0.0 { Some(Number::from(value as u64)) } else { Number::from_f64(value) }
}

impl Outlook {
    /// What a sweep would do on a device; `why_not` says why that can't be, where it can't.
    pub(super) fn new(
        spec: &SweepSpec,
        plan: &Plan,
        results: &Path,
        opened: &OpenDevice,
        why_not: Option<String>,
    ) -> Result<Self> {
        let can = why_not.is_none();
        let (mut runs, mut flops, mut training_bytes) = (Vec::new(), 0.0, 0.0_f64);
        let mut seconds = Estimate::default();
        let (mut groups, mut audits) = (Vec::new(), Vec::new());
        // The model whose groups are timed: one at a time is in memory.
        let mut loaded: Option<(&PlannedModel, Decoder)> = None;
        for (model, group) in plan.groups() {
            let (mut parameters, mut todo) = (0.0, Vec::new());
            for run in &group.runs {
                let train = &run.key.train;
                let matrix = (train.d_model * train.d_sae) as f64;
                let done = can && !matches!(Standing::of(results, &run.key)?, Standing::Missing);
                if !done {
                    // Those of one SAE cost its training once.
                    if todo.iter().all(|other: &&Run| !run.trains_as(other)) {
                        flops += 2.0 * matrix * group.training_tokens as f64;
                        parameters += 2.0 * matrix;
                    }
                    todo.push(run);
                }
                runs.push(PlannedRun {
                    id: can.then(|| run.id.clone()),
                    model: group.model.clone(),
                    depth: run.depth.clone(),
                    hook: run.site.hook.to_string(),
                    architecture: run.key.class(),
                    objective: run.key.objective(),
                    control: run.key.control,
                    d_sae: train.d_sae,
                    k: train.architecture.k().and_then(number),
                    knob: train.architecture.knob(),
                    seed: run.key.seed,
                    training_tokens: group.training_tokens,
                    done: can.then_some(done),
                });
            }
            // Weights, two moments and gradients, and the buffer of each hook.
            let sites: BTreeMap<_, _> =
                group.runs.iter().flat_map(|r| r.sites().map(|site| (site, r.key.train.d_model))).collect();
            let width: usize = sites.values().sum();
            let buffer = spec.train.buffer_tokens.min(group.training_tokens as usize) * width;
            if can && !todo.is_empty() {
                let decoder = match loaded.take().filter(|(other, _)| std::ptr::eq(*other, model)) {
                    Some((_, decoder)) => decoder,
                    None => {
                        let decoder = model.load(opened)?;
                        model.foreign(&decoder)?.iter().for_each(|note| Progress::Quiet.warn(note));
                        decoder
                    }
                };
                seconds.add(spec, group, &todo, &decoder, &model.tokens, opened)?;
                loaded = Some((model, decoder));
            }
            let keys = group.runs.iter().map(|run| (run.depth.as_str(), &run.key));
            for task in topology::tasks(spec.topology.as_ref(), &group.model, keys, model.audits_sites(group))? {
                if can && task.load(results)?.is_none() {
                    audits.push([task.most_points(model.tokens.eval.nrows()), task.width()]);
                }
            }
            groups.push(PlannedGroup { name: group.name(), runs: group.runs.len(), todo: can.then_some(todo.len()) });
            let asking = todo.iter().filter(|run| run.key.train.first_asking().is_some()).count();
            let vocab_size = model.files.config().vocab_size;
            let at_once = if runs_on_cpu(&opened.device) { rayon::current_num_threads().min(asking) } else { 1 };
            let pass = if asking > 0 { clean_pass_bytes(spec.train.batch_size, vocab_size, at_once) } else { 0 };
            training_bytes = training_bytes.max(4.0 * (4.0 * parameters + 2.0 * buffer as f64) + pass as f64);
        }
        let model_bytes = plan.models.iter().map(|model| model.files.memory(&opened.device)).max().unwrap_or(0);
        let (results, device) = (results.to_owned(), opened.name.clone());
        let evaluation_bytes = eval_bytes(spec, plan, opened);
        let (checkpoint_seconds, checkpoint_tokens) = (spec.train.checkpoint_seconds, spec.train.checkpoint_tokens);
        Ok(Self {
            runs,
            groups,
            results,
            device,
            why_not,
            flops,
            model_bytes: can.then_some(model_bytes),
            training_bytes: can.then_some(training_bytes),
            evaluation_bytes: can.then_some(evaluation_bytes),
            checkpoint_seconds,
            checkpoint_tokens,
            seconds: can.then_some(seconds),
            not_timed: [
                spec.information.is_some().then_some("[information]"),
                spec.legibility.is_some().then_some("[legibility]"),
            ]
            .into_iter()
            .flatten()
            .collect(),
            topology: spec
                .topology
                .as_ref()
                .filter(|_| can)
                .map(|topology| Audits::of(topology, &audits))
                .transpose()?,
        })
    }
}

impl Audits {
    /// Of clouds of at most so many points and so many dimensions.
    fn of(spec: &TopologySpec, clouds: &[[usize; 2]]) -> Result<Self> {
        let mut timed: BTreeMap<[usize; 2], f64> = BTreeMap::new();
        let mut seconds = 0.0;
        for &shape @ [points, width] in clouds {
            let of_cloud = match timed.get(&shape) {
                Some(&seconds) => seconds,
                None => spec.seconds_of_cloud(points, width)?,
            };
            timed.insert(shape, of_cloud);
            seconds += of_cloud;
        }
        Ok(Self { clouds: clouds.len(), draws: spec.draws_of_cloud(), seconds })
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where the reconstruction is all that SAEs are trained for, it goes without saying.
        let objectives = self.runs.iter().any(|run| run.objective != MSE);
        let mut head = vec!["run", "model", "depth", "hook", "architecture"];
        head.extend(objectives.then_some("objective"));
        let controls = self.runs.iter().any(|run| run.control.is_some());
        head.extend(controls.then_some("control"));
        head.extend(["d_sae", "k", "seed", "training", "done"]);
        let mut table = markdown::Table::new(head);
        for run in &self.runs {
            let id = run.id.clone().unwrap_or_else(|| markdown::NONE.to_owned());
            let mut row = vec![id];
            row.extend([&run.model, &run.depth, &run.hook, &run.architecture].map(String::clone));
            row.extend(objectives.then(|| run.objective.clone()));
            row.extend(controls.then(|| run.control.map_or("", SweepControl::name).to_owned()));
            let done = run.done.map_or(markdown::NONE, |done| if done { "yes" } else { "no" });
            row.extend([
                run.d_sae.to_string(),
                run.k.as_ref().map_or_else(|| run.knob.to_string(), ToString::to_string),
                run.seed.to_string(),
                tokens_text(run.training_tokens),
                done.to_owned(),
            ]);
            table.row(row);
        }
        let all = counted(self.runs.len(), "run");
        let left = self.runs.iter().filter(|run| run.done == Some(false)).count();
        let to_do = |todo: Option<usize>| todo.map_or_else(String::new, |todo| format!(", {todo} to do"));
        let known = to_do(self.why_not.is_none().then_some(left));
        writeln!(f, "{table}\n{all}{known}; results in {}", self.results.display())?;
        let group = |(at, group): (usize, &PlannedGroup)| {
            let PlannedGroup { name, runs, todo } = group;
            format!("{at} {name} ({}{})", counted(*runs, "run"), to_do(*todo))
        };
        let groups: Vec<String> = self.groups.iter().enumerate().map(group).collect();
        writeln!(f, "groups: {}", groups.join(", "))?;
        if let Some(why_not) = &self.why_not {
            writeln!(
                f,
                "not on {}: {why_not}. A run's id names the device, so ids and what is done are not known here, and nothing could be timed",
                self.device
            )?;
        } else {
            writeln!(f, "device: {}", self.device)?;
        }
        if let Some(seconds) = self.seconds.filter(|_| left > 0) {
            let Estimate { capture, training, evaluation } = seconds;
            writeln!(
                f,
                "about {} here, from a little of each, timed: capturing {capture:.0} s, training {training:.0} s ({:.2} TFLOP in the \
                 encoders' products), evaluating {evaluation:.0} s{}",
                duration(seconds.total()),
                self.flops / 1e12,
                match &self.not_timed[..] {
                    [] => String::new(),
                    parts => format!("; the work of {} is not counted", parts.join(" and ")),
                }
            )?;
        }
        if let (Some(model), Some(training), Some(evaluation)) =
            (self.model_bytes, self.training_bytes, self.evaluation_bytes)
        {
            writeln!(
                f,
                "memory: the largest model {:.2} GB; beside it training {:.2} GB, evaluation about {:.2} GB",
                model as f64 / 1e9,
                training / 1e9,
                evaluation / 1e9
            )?;
        }
        if let Some(Audits { clouds, draws, seconds }) = self.topology.as_ref().filter(|audits| audits.clouds > 0) {
            let (clouds, about) = (counted(*clouds, "cloud"), duration(*seconds));
            writeln!(
                f,
                "beside it the topology of {clouds}, up to {draws} draws of each: about {about}, by uniform clouds; others take less or more"
            )?;
        }
        write!(
            f,
            "the state of training is saved every {} s, or ten times as long as that takes",
            self.checkpoint_seconds
        )?;
        self.checkpoint_tokens.map_or(Ok(()), |tokens| write!(f, " and every {}", tokens_text(tokens)))?;
        write!(f, ", and on Ctrl-C")
    }
}
