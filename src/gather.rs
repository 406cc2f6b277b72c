//! From the records of a sweep to its Parquet files, tables, plots and report.
//!
//! What is to be gathered is in the results directory: the plan and the spec as it was run. Neither models nor tokens are needed.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use assay_models::HookPoint;
use assay_probes::geometry::ModelGeometry;

use crate::frames::{self, Estimated, SweepRecords};
use crate::markdown::counted;
use crate::plan::{GroupOutline, Outline, PLAN};
use crate::record::{Failure, GeometryRecord, RunRecord, Timing};
use crate::results_dir::ResultsDir;
use crate::spec::{SpecDocument, SweepSpec};
use crate::topology::{self, CloudFound};
use crate::{information, report};

/// What the groups of a sweep left.
#[derive(Default)]
struct Gathered {
    records: Vec<RunRecord>,
    failures: Vec<Failure>,
    timings: Vec<Timing>,
    geometry: Vec<(String, ModelGeometry)>,
    information: Vec<(String, Estimated)>,
    loops: Vec<CloudFound>,
    /// What is not there yet, by group.
    lacking: Vec<String>,
}

/// Gathers a directory and gives the number of its runs.
///
/// # Errors
/// If there is no plan, a group is not finished, a record is damaged, or a file can't be written.
pub fn gather(claimed: &ResultsDir) -> Result<usize> {
    let results = claimed.path();
    let shown = results.display();
    let outline = Outline::read(results)?.with_context(|| format!("{shown} has no {PLAN}"))?;
    ensure!(
        outline.is_of_recorded(results) && outline.groups.iter().any(|group| !group.runs.is_empty()),
        "{shown}: {PLAN} is not that of the sweep.toml beside it; run `assay sweep` there again, which skips what is finished"
    );
    let spec = SpecDocument::read(&results.join("sweep.toml"), &[])?.spec()?;
    let mut gathered = Gathered::default();
    for group in &outline.groups {
        gathered.add(&spec, group, results)?;
    }
    let Gathered { records, failures, timings, geometry, information, loops, lacking } = gathered;
    if !lacking.is_empty() {
        bail!(
            "{shown}: {} of {} groups are not finished: {}; `assay sweep '{shown}/sweep.toml' --out '{shown}' --group NAME` works on one \
             of them, without --group on all",
            lacking.len(),
            outline.groups.len(),
            lacking.join(", ")
        );
    }
    if records.is_empty() {
        let each = failures.iter().map(|f| format!("{} {} {}: {}", f.key.hook, f.key.class(), f.when(), f.reason));
        bail!("{shown}: all runs failed, and there is nothing to report: {}", each.collect::<Vec<_>>().join("; "));
    }
    claimed.tidy();
    let found = SweepRecords {
        records: &records,
        failures: &failures,
        geometry: &geometry,
        information: &information,
        missing: &outline.missing,
    };
    frames::write(results, &spec, &found)?;
    if loops.is_empty() {
        topology::remove(results)?;
    } else {
        topology::write(results, &loops)?;
    }
    frames::write_timings(results, &timings)?;
    report::write(results)?;
    Ok(records.len())
}

impl Gathered {
    fn add(&mut self, spec: &SweepSpec, group: &GroupOutline, results: &Path) -> Result<()> {
        let mut done = 0;
        for run in &group.runs {
            let Some(mut record) = RunRecord::load(results, &run.key)? else {
                let Some(mut failure) = Failure::load(results, &run.key)? else { continue };
                failure.model.clone_from(&group.model);
                failure.depth.clone_from(&run.depth);
                self.failures.push(failure);
                done += 1;
                continue;
            };
            // Names are the spec's: a record may have been made under others.
            record.model.clone_from(&group.model);
            record.depth.clone_from(&run.depth);
            record.recipe = spec.train.recipe.to_string();
            self.timings.extend(Timing::load(results, &record.id));
            self.records.push(record);
            done += 1;
        }
        let mut lacks = Vec::new();
        if done < group.runs.len() {
            lacks.push(format!("{} of {} runs", group.runs.len() - done, group.runs.len()));
        }
        if let Some(id) = &group.geometry {
            match GeometryRecord::load(results, id)? {
                Some(record) => self.geometry.push((group.model.clone(), record.found)),
                None => lacks.push("the model's geometry".to_owned()),
            }
        }
        if let Some(id) = &group.information {
            match information::load(results, id, &hooks(group)?)? {
                Some(found) => self.information.extend(found.into_iter().map(|e| (group.model.clone(), e))),
                None => lacks.push("mutual information".to_owned()),
            }
        }
        let runs = group.runs.iter().map(|run| (run.depth.as_str(), &run.key));
        let mut unaudited = 0;
        for task in topology::tasks(spec.topology.as_ref(), &group.model, runs, group.geometry.is_some())? {
            match task.load(results)? {
                Some(record) => {
                    self.loops.push(CloudFound { cloud: task.cloud, place: Some(task.place), found: record.found });
                }
                None => unaudited += usize::from(!task.lacks_run(results)?),
            }
        }
        if unaudited > 0 {
            lacks.push(format!("the topology of {}", counted(unaudited, "cloud")));
        }
        if !lacks.is_empty() {
            self.lacking.push(format!("{} (lacks {})", group.name, lacks.join(", ")));
        }
        Ok(())
    }
}

/// The hooks of a group with the names of their depths.
fn hooks(group: &GroupOutline) -> Result<Vec<(String, HookPoint)>> {
    let mut hooks = Vec::new();
    for run in &group.runs {
        hooks.push((run.depth.clone(), run.key.hook.parse()?));
    }
    hooks.dedup();
    Ok(hooks)
}
