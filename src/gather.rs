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
use crate::record::{Failure, GeometryRecord, RunRecord, Standing, Timing};
use crate::results_dir::{ResultsDir, recorded_runs};
use crate::runner::remove_states;
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

/// What to say where a directory has more runs than the report that was made of it.
pub fn left_out(results: &Path, runs: usize) -> Option<String> {
    let more = recorded_runs(results).checked_sub(runs).filter(|more| *more > 0)?;
    Some(format!(
        "{} has {}, of an earlier spec or of this one with other settings, which this report leaves out; the command that asked for them \
         makes their report again, without training, and another --out keeps both",
        results.display(),
        counted(more, "more run")
    ))
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
    let found = Gathered::of(&outline, &spec, results)?;
    let Gathered { records, failures, timings, geometry, information, loops, lacking } = found;
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
    for group in &outline.groups {
        remove_states(results, &group.sites(), |sites| group.part(sites).id())?;
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
    /// Of all groups, in the plan's order whoever worked on them and when.
    fn of(outline: &Outline, spec: &SweepSpec, results: &Path) -> Result<Self> {
        let mut found = Self::default();
        for group in &outline.groups {
            found.add(spec, group, results)?;
        }
        Ok(found)
    }

    fn add(&mut self, spec: &SweepSpec, group: &GroupOutline, results: &Path) -> Result<()> {
        let mut done = 0;
        for run in &group.runs {
            // Names are the spec's: a record may have been made under others.
            let (model, depth) = (group.model.clone(), run.depth.clone());
            match Standing::of(results, &run.key)? {
                Standing::Finished(record) => {
                    self.timings.extend(Timing::load(results, &record.id));
                    self.records.push(RunRecord { model, depth, recipe: spec.train.recipe.to_string(), ..*record });
                }
                Standing::Failed(failure) => self.failures.push(Failure { model, depth, ..*failure }),
                Standing::Missing => continue,
            }
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::plan::Group;
    use crate::runner::made::MadeSweep;

    fn gathered(results: &Path) -> Result<usize> {
        gather(&ResultsDir::claim(results)?)
    }

    fn copied(from: &Path, to: &Path) {
        for entry in fs::read_dir(from.join("runs")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join("runs").join(path.file_name().unwrap())).unwrap();
        }
    }

    fn groups(made: &MadeSweep) -> Vec<&Group> {
        made.plan.groups().map(|(_, group)| group).collect()
    }

    /// Whoever worked on a group, where, and in which order: the frames have the order of the plan and the same bytes.
    #[test]
    fn records_of_several_directories_are_one_sweep() {
        let made = MadeSweep::new(&["k=[2]", "seeds=[0, 1]"]);
        let alone = made.results("alone");
        groups(&made).into_iter().for_each(|group| _ = made.carry_out(group, &alone));
        let workers: [PathBuf; 2] = ["first", "second"].map(|name| made.results(name));
        // The last group first, and one that was left in the middle by the one and finished by the other.
        for (at, group) in groups(&made).into_iter().enumerate().rev() {
            if at == 3 {
                made.finish(group, &group.runs[1], &workers[0]);
                copied(&workers[0], &workers[1]);
            }
            made.carry_out(group, &workers[at % 2]);
        }
        let together = made.results("together");
        workers.iter().for_each(|worker| copied(worker, &together));
        let runs: usize = groups(&made).iter().map(|group| group.runs.len()).sum();
        for results in [&alone, &together] {
            assert_eq!(gathered(results).unwrap(), runs);
        }
        for name in frames::FILES {
            let [a, b] = [&alone, &together].map(|results| fs::read(results.join(name)).unwrap());
            assert!(a == b, "{name} differs");
        }
        assert!(together.join("report.md").is_file());
        let grid = frames::read(&together).unwrap();
        let found: Vec<&str> =
            grid.runs.iter().chain(grid.controls.iter().map(|of| &of.run)).map(|run| run.id.as_str()).collect();
        let is_own = |run: &&crate::plan::Run| run.key.control.is_none();
        let all = || groups(&made).into_iter().flat_map(|group| &group.runs);
        let expected: Vec<&str> =
            all().filter(is_own).chain(all().filter(|run| !is_own(run))).map(|run| run.id.as_str()).collect();
        assert_eq!(found, expected);
    }

    /// Of parts that overlap one was gone on with, and the state of the other is left.
    #[test]
    fn no_state_is_left_when_all_is_done() {
        let made = MadeSweep::new(&["k=[2]", "seeds=[0]", "controls=[]"]);
        let results = made.results("results");
        groups(&made).into_iter().for_each(|group| _ = made.carry_out(group, &results));
        let states = [&[0][..], &[1], &[]].map(|places| made.begin("a-128tokens", places, &results));
        assert!(states.iter().all(|state| state.exists()));
        gathered(&results).unwrap();
        assert_eq!(states.map(|state| state.exists()), [false; 3]);
    }

    #[test]
    fn what_is_lacking_is_named_by_group() {
        let made = MadeSweep::new(&["k=[2]", "seeds=[0]", "controls=[]"]);
        let results = made.results("results");
        let error = |parts: &[&str]| {
            let error = format!("{:#}", gathered(&results).unwrap_err());
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
            assert!(!results.join(frames::RUNS).exists() && !results.join("report.md").exists(), "nothing is written");
        };
        error(&["4 of 4 groups are not finished", "a-128tokens (lacks 2 of 2 runs, the model's geometry)"]);
        let [first, second, third, fourth] = groups(&made)[..] else { panic!("two models, two budgets") };
        made.carry_out(second, &results);
        made.finish(first, &first.runs[1], &results);
        made.carry_out(third, &results);
        error(&[
            "2 of 4 groups",
            "a-128tokens (lacks 1 of 2 runs, the model's geometry)",
            "b-64tokens (lacks 2 of 2 runs)",
        ]);
        // A run that failed is not lacking.
        made.carry_out(first, &results);
        made.fail(fourth, &fourth.runs[0], &results);
        error(&["1 of 4 groups", "b-64tokens (lacks 1 of 2 runs)"]);
        made.carry_out(fourth, &results);
        assert_eq!(gathered(&results).unwrap(), 7);
        let grid = frames::read(&results).unwrap();
        assert_eq!((grid.runs.len(), grid.failed.len()), (7, 1));
    }

    #[test]
    fn what_another_spec_left_stays_and_is_left_out() {
        let before = MadeSweep::new(&["k=[4]", "models.a.name=before", "controls=[]", "training_tokens=[64]"]);
        let after = MadeSweep::new(&["k=[2, 4]", "controls=[]", "training_tokens=[64]", "seeds=[0]"]);
        let results = after.results("results");
        let theirs = before.results("theirs");
        groups(&before).into_iter().for_each(|group| _ = before.carry_out(group, &theirs));
        copied(&theirs, &results);
        let done: Vec<usize> = groups(&after).into_iter().map(|group| after.carry_out(group, &results).len()).collect();
        assert_eq!(done, [2, 2], "the runs of k 4 and seed 0 are there");
        assert_eq!(gathered(&results).unwrap(), 8);
        let grid = frames::read(&results).unwrap();
        assert_eq!(grid.models(), ["a", "b"], "under the names of the spec");
        assert!(grid.runs.iter().all(|run| run.seed == 0));
        assert!(
            fs::read_dir(theirs.join("runs"))
                .unwrap()
                .all(|entry| results.join("runs").join(entry.unwrap().file_name()).exists())
        );
        // A spec that was changed by hand is not the one that was planned.
        let recorded = results.join("sweep.toml");
        let text = fs::read_to_string(&recorded).unwrap();
        fs::write(&recorded, text.replace("seeds = [0]", "seeds = [0, 1]")).unwrap();
        let error = gathered(&results).unwrap_err().to_string();
        assert!(error.contains("plan.json is not that of the sweep.toml beside it"), "{error}");
    }

    #[test]
    fn a_sweep_of_which_all_failed_says_why() {
        let made = MadeSweep::new(&["k=[2]", "seeds=[0]", "controls=[]", "training_tokens=[64]", "depths=['mid']"]);
        let results = made.results("results");
        for group in groups(&made) {
            group.runs.iter().for_each(|run| made.fail(group, run, &results));
            made.carry_out(group, &results);
        }
        let error = gathered(&results).unwrap_err().to_string();
        assert!(error.contains("all runs failed") && error.contains("at step 1: the loss is NaN"), "{error}");
    }
}
