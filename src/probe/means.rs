//! Means over tasks.

use std::collections::{BTreeMap, BTreeSet};

use super::measure::Row;
use super::measured::{Measured, compare};
use super::task::Task;

/// Adds up tasks: the mean of each representation and k over all tasks, the replicates of the tasks being averaged one by one. Tasks of one
/// set share their draw of documents, those of others have draws of their own.
#[derive(Default)]
pub struct Means {
    rows: Vec<Row>,
    /// Tasks that each has been in.
    counted: Vec<usize>,
    tasks: usize,
    /// The different texts to fit on and to test, by the number of their set and theirs in it.
    texts: [BTreeSet<(usize, usize)>; 2],
    /// The documents that are tested, by set.
    tested: BTreeMap<usize, BTreeSet<usize>>,
    place: BTreeMap<(String, Option<usize>), usize>,
}

impl Means {
    /// Adds what was measured of a task of a set, whose number it is.
    pub fn add(&mut self, rows: &[Row], set: usize, task: &Task) {
        self.tasks += 1;
        let sides = [&task.split.train, &task.split.test];
        for (texts, side) in self.texts.iter_mut().zip(sides) {
            texts.extend(side.iter().map(|&row| (set, task.rows[row])));
        }
        self.tested.entry(set).or_default().extend(task.split.test.iter().map(|&row| task.documents[row]));
        for row in rows {
            let key = (row.representation.clone(), row.k);
            if let Some(&at) = self.place.get(&key) {
                let sum = &mut self.rows[at];
                let mut row = row.clone();
                sum.not_converged += row.not_converged;
                sum.label_only += row.label_only;
                for (sum, own) in sum.measured().zip(row.measured()) {
                    let add = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
                    sum.value = add(sum.value, own.value);
                    sum.replicates.iter_mut().zip(&own.replicates).for_each(|(a, b)| *a = add(*a, *b));
                }
                self.counted[at] += 1;
            } else if self.tasks == 1 {
                self.place.insert(key, self.rows.len());
                self.rows.push(Row { task: None, columns: Vec::new(), c: None, orders_sd: None, ..row.clone() });
                self.counted.push(1);
            }
        }
    }

    /// The means, of rows that every task has; none of a single task.
    pub fn finish(self) -> Vec<Row> {
        let tasks = self.tasks as f64;
        if self.tasks < 2 {
            return Vec::new();
        }
        let counted = self.rows.into_iter().zip(self.counted);
        let texts = self.texts.map(|texts| texts.len());
        // Of several sets the fewest: a difference is as uncertain as where it rests on the least.
        let tested = self.tested.values().map(BTreeSet::len).min().unwrap_or_default();
        let mut rows: Vec<Row> = counted.filter(|(_, count)| *count == self.tasks).map(|(row, _)| row).collect();
        for row in &mut rows {
            row.texts = texts;
            row.label_only /= tasks;
            for measured in row.measured() {
                let over = |value: &Option<f64>| value.map(|sum| sum / tasks);
                *measured = Measured::new(over(&measured.value), measured.replicates.iter().map(over).collect());
            }
        }
        compare(&mut rows, tested);
        rows
    }
}
