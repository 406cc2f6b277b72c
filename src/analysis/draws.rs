//! The replicates that an analysis works with, made when they are asked for and kept as far as there is room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use assay_probes::metrics::Subset;
use assay_probes::stats::{SeedResamples, mean};
use ndarray::Array2;

use super::Quantity;
use crate::frames::Grid;
use crate::replicates::{OfSubset, leave_one_out};

/// Bytes of values that are kept: 80 KB for a metric of a cell at 5,000 resamples. A report asks for the same ones in many tables and figures.
const ROOM: usize = 128 << 20;
/// Bytes of sums that are kept: those of one subset of a run take 1.4 MB at 5,000 resamples. Metrics of one run are asked for one after the other.
const ROOM_OF_SUMS: usize = 32 << 20;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resampling {
    /// Sequences with replacement, and seeds where there are several, by one draw for all runs.
    Bootstrap,
    /// Without each sequence in turn.
    LeaveOneOut,
}

/// A value in each replicate.
pub type Replicated = Vec<Option<f64>>;

/// Replicates of the runs of a grid.
pub struct Draws<'a> {
    grid: &'a Grid,
    counts: OnceLock<Array2<f64>>,
    left_out: OnceLock<Array2<f64>>,
    sums: Kept<(usize, Subset, Resampling), OfSubset>,
    values: Kept<(Vec<usize>, &'static str, Subset, Resampling), Replicated>,
}

impl<'a> Draws<'a> {
    /// Nothing is drawn yet.
    pub fn new(grid: &'a Grid) -> Self {
        let (sums, values) = (Kept::new(ROOM_OF_SUMS), Kept::new(ROOM));
        Self { grid, counts: OnceLock::new(), left_out: OnceLock::new(), sums, values }
    }

    /// The mean of a metric over runs that differ in their seeds, in every replicate. The same draws of sequences are made of all runs, and the same
    /// draws of seeds of any that are as many.
    pub fn values(&self, runs: &[usize], (metric, subset): Quantity, kind: Resampling) -> Arc<Replicated> {
        let key = (runs.to_vec(), metric.name, subset, kind);
        self.values.get(
            key,
            |values| size_of_val(values.as_slice()),
            || {
                let of_runs: Vec<Replicated> =
                    runs.iter().map(|&run| self.sums(run, subset, kind).values(metric)).collect();
                match kind {
                    Resampling::Bootstrap => {
                        let bootstrap = self.grid.bootstrap;
                        let draw = SeedResamples::draw(runs.len(), bootstrap.resamples, bootstrap.seed);
                        draw.combine(&of_runs).unwrap_or_default()
                    }
                    Resampling::LeaveOneOut => means(&of_runs),
                }
            },
        )
    }

    fn sums(&self, run: usize, subset: Subset, kind: Resampling) -> Arc<OfSubset> {
        self.sums.get((run, subset, kind), OfSubset::size, || {
            let sequences = &self.grid.run(run).sequences;
            // All runs are evaluated on the same sequences.
            let counts = match kind {
                Resampling::Bootstrap => self.counts.get_or_init(|| self.grid.resamples().counts()),
                Resampling::LeaveOneOut => self.left_out.get_or_init(|| leave_one_out(sequences.len())),
            };
            OfSubset::new(sequences, subset, counts)
        })
    }
}

/// The mean over seeds of each replicate, undefined where one of them is.
fn means(per_seed: &[Replicated]) -> Replicated {
    let replicates = per_seed.iter().map(Vec::len).min().unwrap_or(0);
    let at = |r: usize| mean(&per_seed.iter().map(|values| values[r]).collect::<Option<Vec<f64>>>()?);
    (0..replicates).map(at).collect()
}

/// What was made, of which those used last are kept.
struct Kept<K, V> {
    room: usize,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    /// Each with its size and the time of its last use.
    made: BTreeMap<K, (Arc<V>, usize, u64)>,
    uses: u64,
    size: usize,
}

impl<K: Ord + Clone, V> Kept<K, V> {
    fn new(room: usize) -> Self {
        Self { room, state: Mutex::new(State { made: BTreeMap::new(), uses: 0, size: 0 }) }
    }

    /// What is of this key, made unless it is kept. Others go on meanwhile, and may make the same.
    fn get(&self, key: K, size: impl Fn(&V) -> usize, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(found) = self.state().find(&key) {
            return found;
        }
        let made = Arc::new(make());
        self.state().keep(key, made.clone(), size(&made), self.room);
        made
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone, V> State<K, V> {
    fn find(&mut self, key: &K) -> Option<Arc<V>> {
        self.uses += 1;
        let (found, _, used) = self.made.get_mut(key)?;
        *used = self.uses;
        Some(found.clone())
    }

    /// Keeps these, and drops those that were not used for longest until all fit.
    fn keep(&mut self, key: K, made: Arc<V>, size: usize, room: usize) {
        self.uses += 1;
        self.size += size;
        if let Some((_, before, _)) = self.made.insert(key, (made, size, self.uses)) {
            self.size -= before;
        }
        while self.size > room {
            let oldest = self.made.iter().min_by_key(|(_, (_, _, used))| *used).map(|(key, _)| key.clone());
            let Some((_, dropped, _)) = oldest.and_then(|key| self.made.remove(&key)) else { return };
            self.size -= dropped;
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
        let kept = Kept::new(3);
        let keep = |key: usize| *kept.get(key, |_| 1, || key);
        let is_kept = |key: usize| *kept.get(key, |_| 0, || 100) == key;
        (0..3).for_each(|key| assert_eq!(keep(key), key));
        assert!(is_kept(0));
        keep(3);
        assert!(kept.state().find(&1).is_none(), "the others were used since");
        assert!([0, 2, 3].into_iter().all(is_kept));
        kept.state().keep(3, Arc::new(3), 1, 3);
        let held = || {
            let state = kept.state();
            (state.size, state.made.len())
        };
        assert_eq!(held(), (3, 3), "once");
        // What has no room is handed out all the same.
        assert_eq!(*kept.get(4, |_| 4, || 4), 4);
        assert_eq!(held(), (0, 0));
    }

    #[test]
    fn values_are_those_of_the_runs_however_they_are_come_by() {
        let made = |(_, k, ..): Place<'_>, at: usize| Made::new(0.5, 0.1 * noise(&[k, at as u64]));
        let grid = grid(&MODELS, &[4, 8], &[1000], 2, 6, made);
        let draws = Draws::new(&grid);
        let quantity = on_all("ce_rec");
        let counts = grid.resamples().counts();
        let of_run = |run: usize| OfSubset::new(&grid.runs[run].sequences, Subset::All, &counts).values(quantity.0);
        let get = |runs: &[usize]| draws.values(runs, quantity, Resampling::Bootstrap);
        assert_eq!(*get(&[2]), of_run(2), "one run's are its own, bit for bit");
        assert_eq!(get(&[2]), get(&[2]));
        let (bootstrap, both) = (grid.bootstrap, [of_run(0), of_run(1)]);
        let combined = SeedResamples::draw(2, bootstrap.resamples, bootstrap.seed).combine(&both);
        assert_eq!(*get(&[0, 1]), combined.unwrap());
        assert_eq!(draws.values.state().made.len(), 2);
        let without = draws.values(&[0, 1], quantity, Resampling::LeaveOneOut);
        let left_out = leave_one_out(6);
        let whole = |run: usize| OfSubset::new(&grid.runs[run].sequences, Subset::All, &left_out).values(quantity.0);
        let expected: Replicated = whole(0).into_iter().zip(whole(1)).map(|(a, b)| Some((a? + b?) / 2.0)).collect();
        assert_eq!(*without, expected);
    }
}
