//! What is left to do of a group in a results directory, where an earlier process may have worked on it.

use std::path::Path;

use anyhow::Result;

use crate::markdown::counted;
use crate::plan::{Group, Run};
use crate::record::Standing;

/// The runs of a group by what there is of them.
#[derive(Debug)]
pub(super) struct Left<'a> {
    /// Those to be trained and evaluated, in the group's order.
    pub missing: Vec<&'a Run>,
    /// How many have a record.
    pub finished: usize,
    /// Finished runs whose SAE was not kept.
    unsaved: usize,
    /// How many came to nothing.
    failed: usize,
}

impl<'a> Left<'a> {
    /// Of a group.
    ///
    /// # Errors
    /// If what a run left is damaged, or is of another run than its name says.
    pub fn of(group: &'a Group, results: &Path) -> Result<Self> {
        let mut left = Self { missing: Vec::new(), finished: 0, unsaved: 0, failed: 0 };
        for run in &group.runs {
            match Standing::of(results, &run.key)? {
                Standing::Finished(_) => {
                    left.finished += 1;
                    left.unsaved += usize::from(!results.join("saes").join(group.name_of(run)).exists());
                }
                Standing::Failed(_) => left.failed += 1,
                Standing::Missing => left.missing.push(run),
            }
        }
        Ok(left)
    }

    /// What is to be said of what was done before; `save_saes` is whether the spec wants SAEs to be kept.
    pub fn notes(&self, save_saes: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if self.missing.is_empty() && self.finished > 0 {
            notes.push(format!("{} finished before", counted(self.finished, "run")));
        }
        if save_saes && self.unsaved > 0 {
            notes.push(format!(
                "of {} that finished before, under another `save_saes`, no SAE is in saes/ (remove runs/<id>.json to train again)",
                counted(self.unsaved, "run")
            ));
        }
        if self.failed > 0 {
            notes.push(format!(
                "{} failed before (remove runs/<id>.failed.json to train again)",
                counted(self.failed, "run")
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::made::MadeSweep;
    use super::*;
    use crate::record::RunRecord;

    fn ids<'a>(runs: impl IntoIterator<Item = &'a &'a Run>) -> Vec<&'a str> {
        runs.into_iter().map(|run| run.id.as_str()).collect()
    }

    #[test]
    fn what_is_there_is_not_done_again() {
        let made = MadeSweep::new(&[]);
        let (results, group) = (made.results("results"), made.group("a-128tokens"));
        let all: Vec<&Run> = group.runs.iter().collect();
        let left = |notes: &[&str]| {
            let left = Left::of(group, &results).unwrap();
            assert_eq!(left.notes(true).iter().map(|note| note.split(" (").next().unwrap()).collect::<Vec<_>>(), notes);
            left
        };
        assert_eq!(ids(&left(&[]).missing), ids(&all));
        // One that was stopped had done the last and the first.
        made.finish(group, all[15], &results);
        made.finish(group, all[0], &results);
        made.fail(group, all[3], &results);
        fs::create_dir_all(results.join("saes").join(group.name_of(all[0]))).unwrap();
        let unsaved = "of 1 run that finished before, under another `save_saes`, no SAE is in saes/";
        let found = left(&[unsaved, "1 run failed before"]);
        assert_eq!((found.finished, ids(&found.missing)), (2, [ids(&all[1..3]), ids(&all[4..15])].concat()));
        assert_eq!(found.notes(false).len(), 1, "nobody wants SAEs");
        // The rest, and then nothing.
        assert_eq!(ids(&made.carry_out(group, &results)), ids(&found.missing));
        assert!(made.carry_out(group, &results).is_empty());
        let done = left(&["15 runs finished before", &unsaved.replace("1 run", "14 runs"), "1 run failed before"]);
        assert_eq!((done.finished, done.failed), (15, 1));
        // A failure that is removed is tried again.
        fs::remove_file(crate::record::Failure::path(&results, &all[3].id)).unwrap();
        assert_eq!(ids(&Left::of(group, &results).unwrap().missing), ids(&all[3..4]));
    }

    #[test]
    fn records_of_another_spec_count_where_they_are_of_the_same_runs() {
        let before = MadeSweep::new(&["k=[4]", "models.a.name=before"]);
        let after = MadeSweep::new(&["k=[4, 8]"]);
        let results = before.results("results");
        let (old, new) = (before.group("before-128tokens"), after.group("a-128tokens"));
        before.carry_out(old, &results);
        let found = Left::of(new, &results).unwrap();
        assert_eq!((found.finished, found.missing.len()), (8, 8));
        assert!(found.missing.iter().all(|run| run.key.train.architecture.k() == Some(8.0)));
        let other = MadeSweep::new(&["k=[4]", "train.lr=1e-3"]);
        assert_eq!(Left::of(other.group("a-128tokens"), &results).unwrap().finished, 0);
    }

    #[test]
    fn what_is_damaged_or_of_another_run_is_named() {
        let made = MadeSweep::new(&[]);
        let (results, group) = (made.results("results"), made.group("a-128tokens"));
        let [first, second] = [0, 1].map(|at| RunRecord::path(&results, &group.runs[at].id));
        made.finish(group, &group.runs[1], &results);
        let whole = fs::read_to_string(&second).unwrap();
        let refused = |expected: &str| {
            let error = format!("{:#}", Left::of(group, &results).unwrap_err());
            assert!(error.contains(expected) && error.contains("the run will be done again"), "{error}");
        };
        // Half of it; a digit that is another's; the file under another run's name.
        fs::write(&second, &whole[..whole.len() / 2]).unwrap();
        refused(&format!("{} is damaged", second.display()));
        fs::write(&second, whole.replace("\"final_loss\":0.1", "\"final_loss\":0.2")).unwrap();
        refused(&format!("{} is damaged: it is not what was written", second.display()));
        fs::write(&second, &whole).unwrap();
        fs::copy(&second, &first).unwrap();
        refused(&format!("{} is of another run", first.display()));
        fs::remove_file(first).unwrap();
        assert_eq!(Left::of(group, &results).unwrap().finished, 1);
    }
}
