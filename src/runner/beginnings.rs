//! SAEs before their first step.

use anyhow::Result;
use assay_sae::{Initial, Trainer};
use burn::tensor::Device;
use rayon::prelude::*;

use super::job::TrainingJob;
use crate::plan::Run;

/// SAEs that begin with the same weights: the place of each among all, in the order of their runs, and the runs that share it.
type Alike<'a> = Vec<(usize, Vec<&'a Run>)>;

/// The SAEs of some runs before there are any. Weights that several begin with are drawn once.
pub(super) struct Beginnings<'a> {
    alike: Vec<Alike<'a>>,
    /// The weights of the first of those.
    drawn: Vec<Initial>,
}

impl<'a> Beginnings<'a> {
    /// Draws the weights of the first: of as many as there are threads.
    pub fn draw(runs: &[&'a Run]) -> Result<Self> {
        let saes = together(runs.to_vec(), |run, other| run.trains_as(other));
        let begin_alike = |(_, one): &(usize, Vec<&Run>), (_, other): &(usize, Vec<&Run>)| {
            let (one, other) = (&one[0].key, &other[0].key);
            one.seed == other.seed && Initial::is_same(&one.train, &other.train)
        };
        let alike = together(saes.into_iter().enumerate().collect(), begin_alike);
        let drawn = drawn(&alike[..alike.len().min(rayon::current_num_threads())])?;
        Ok(Self { alike, drawn })
    }

    /// The SAEs before their first step, in the order of their runs. Weights are drawn and brought to the device so many at a time.
    pub fn untrained(self, device: &Device) -> Result<Vec<TrainingJob<'a>>> {
        let (first, others) = self.alike.split_at(self.drawn.len());
        let mut jobs = Vec::new();
        let mut begin = |some: &[Alike<'a>], drawn: Vec<Initial>| {
            for (initial, alike) in drawn.into_iter().zip(some) {
                let trainers = Trainer::begin(alike.iter().map(|(_, runs)| runs[0].key.train.clone()), initial, device);
                let begun = alike.iter().zip(trainers);
                jobs.extend(begun.map(|((at, runs), trainer)| (*at, TrainingJob::new(runs.clone(), trainer, device))));
            }
        };
        begin(first, self.drawn);
        for some in others.chunks(rayon::current_num_threads()) {
            begin(some, drawn(some)?);
        }
        jobs.sort_by_key(|(at, _)| *at);
        Ok(jobs.into_iter().map(|(_, job)| job).collect())
    }
}

/// The weights that some SAEs begin with.
fn drawn(alike: &[Alike<'_>]) -> Result<Vec<Initial>> {
    let draw = |alike: &Alike<'_>| {
        let key = &alike[0].1[0].key;
        Initial::draw(&key.train, key.seed)
    };
    Ok(alike.par_iter().map(draw).collect::<Result<_, _>>()?)
}

/// Those that are alike, together, in the order in which the first of them comes.
fn together<T>(items: Vec<T>, are_alike: impl Fn(&T, &T) -> bool) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    for item in items {
        match groups.iter_mut().find(|group| are_alike(&group[0], &item)) {
            Some(group) => group.push(item),
            None => groups.push(vec![item]),
        }
    }
    groups
}
