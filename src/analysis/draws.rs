//! The replicates that an analysis works with, made when they are asked for and kept as far as there is room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use assay_probes::metrics::Subset;
use ndarray::Array2;

use crate::frames::Grid;
use crate::replicates::OfSubset;

/// Bytes of replicates that are kept: those of one subset of a run take 1.4 MB at 5,000 resamples.
const ROOM: usize = 96 << 20;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resampling {
    /// Sequences with replacement, by one draw for all runs.
    Bootstrap,
    /// Without each sequence in turn.
    LeaveOneOut,
}

/// A run's place in the grid, a subset of its tokens, and what is drawn.
type Key = (usize, Subset, Resampling);

/// Replicates of the runs of a grid, of which those used last are kept.
pub struct Draws<'a> {
    grid: &'a Grid,
    counts: OnceLock<Array2<f64>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Each with the time of its last use.
    replicates: BTreeMap<Key, (u64, Arc<OfSubset>)>,
    uses: u64,
    size: usize,
}

impl<'a> Draws<'a> {
    /// Nothing is drawn yet.
    pub fn new(grid: &'a Grid) -> Self {
        Self { grid, counts: OnceLock::new(), kept: Mutex::default() }
    }

    /// The replicates of a run.
    pub fn of(&self, run: usize, subset: Subset, kind: Resampling) -> Arc<OfSubset> {
        let key = (run, subset, kind);
        if let Some(found) = self.kept().find(key) {
            return found;
        }
        let sequences = &self.grid.run(run).sequences;
        let made = Arc::new(match kind {
            Resampling::Bootstrap => {
                let counts = self.counts.get_or_init(|| self.grid.resamples().counts());
                OfSubset::new(sequences, subset, counts)
            }
            Resampling::LeaveOneOut => OfSubset::leave_one_out(sequences, subset),
        });
        self.kept().keep(key, made.clone(), ROOM);
        made
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&mut self, key: Key) -> Option<Arc<OfSubset>> {
        self.uses += 1;
        let (used, found) = self.replicates.get_mut(&key)?;
        *used = self.uses;
        Some(found.clone())
    }

    /// Keeps these, and drops those that were not used for longest until all fit.
    fn keep(&mut self, key: Key, made: Arc<OfSubset>, room: usize) {
        self.uses += 1;
        self.size += made.size();
        if let Some((_, before)) = self.replicates.insert(key, (self.uses, made)) {
            self.size -= before.size();
        }
        while self.size > room {
            let oldest = self.replicates.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            let Some((_, dropped)) = oldest.and_then(|key| self.replicates.remove(&key)) else { return };
            self.size -= dropped.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{MODELS, Made, Place, grid, noise};
    use super::super::on_all;
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let made = |(_, k, ..): Place<'_>, at: usize| Made::new(0.5, 0.1 * noise(&[k, at as u64]));
        let grid = grid(&MODELS, &[4, 8], &[1000], 1, 6, made);
        let draws = Draws::new(&grid);
        let of = |run: usize| Arc::new(OfSubset::leave_one_out(&grid.runs[run].sequences, Subset::All));
        let size = of(0).size();
        let mut kept = Kept::default();
        let key = |run| (run, Subset::All, Resampling::LeaveOneOut);
        for run in 0..3 {
            kept.keep(key(run), of(run), 3 * size);
        }
        assert!(kept.find(key(0)).is_some());
        kept.keep(key(3), of(3), 3 * size);
        assert!(kept.find(key(1)).is_none(), "the others were used since");
        assert!([0, 2, 3].into_iter().all(|run| kept.find(key(run)).is_some()));
        assert_eq!(kept.size, 3 * size);
        kept.keep(key(3), of(3), 3 * size);
        assert_eq!((kept.size, kept.replicates.len()), (3 * size, 3));
        // What has no room is handed out all the same.
        kept.keep(key(1), of(1), size / 2);
        assert_eq!((kept.size, kept.replicates.len()), (0, 0));
        let again = || draws.of(2, Subset::All, Resampling::Bootstrap).values(on_all("ce_rec").0);
        assert_eq!(again(), again());
        assert_eq!(draws.kept().replicates.len(), 1);
    }
}
