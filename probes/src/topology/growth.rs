//! How a cloud's bars change with its points: whether the ratio grows, and whether the same bar is there again.

use ndarray::Axis;
use rand::seq::index::sample;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::audit::{Pipeline, Stream};
use super::error::Result;
use super::nulls::{Cloud, Drawable, Null};
use super::statistics::BarStatistics;
use crate::stats::sample_sd;

/// Random parts of each size.
const PARTS: usize = 16;
/// Sizes: the points of a cloud over these.
const SHARES: [usize; 2] = [4, 2];

/// π, the largest death/birth of dimension 1, of parts; a part without a bar counts as 1, a bar of no length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PiOfParts {
    /// The mean.
    pub mean: f64,
    /// The least.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

/// π of random parts of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizeOfPart {
    /// The points of the cloud over those of a part: 4 or 2.
    pub share: usize,
    /// Points of each.
    pub points: usize,
    /// Of parts of the cloud.
    pub cloud: PiOfParts,
    /// Of the same rows of draws of each null, in the order of nulls.
    pub nulls: Vec<PiOfParts>,
}

/// Whether a bar like that of the largest death/birth is in random halves of the cloud. Where bars are many and alike, as in many dimensions, nearly
/// every half has one, be there a loop or not: of noise a share near 1 says nothing, while a low one says that the bar hangs on few points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrence {
    /// Where it is born in the whole cloud.
    pub birth: f64,
    /// Where it dies there.
    pub death: f64,
    /// Halves.
    pub parts: usize,
    /// Those that have a bar whose birth and death are both nearer to its own than a quarter of its length: half of what the diagonal is away
    /// in the distance that the bottleneck distance is made of, so that no short bar is one.
    pub found: usize,
    /// The standard deviation of the births of those bars; `None` for fewer than two.
    pub birth_sd: Option<f64>,
    /// The same of deaths.
    pub death_sd: Option<f64>,
}

/// What random quarters and halves of a cloud say. Parts of one cloud share points, so that no p follows from how many agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// From few points to many, but not those that are too few for the pipeline.
    pub sizes: Vec<SizeOfPart>,
    /// `None` without a bar, or where halves are too few points.
    pub recurrence: Option<Recurrence>,
}

impl Growth {
    /// Of a cloud with bars `loops` (birth, death) in dimension 1 of all its points, none of which a landmark stands for. Each part and each draw goes through the whole pipeline.
    ///
    /// # Errors
    /// As [`Pipeline::diagram`].
    pub fn of<'a>(
        cloud: impl Into<Cloud<'a>>,
        loops: &[(f64, f64)],
        pipeline: &Pipeline,
        nulls: &[Null],
        seed: u64,
    ) -> Result<Self> {
        let cloud = cloud.into();
        let drawables = nulls.iter().map(|&null| Drawable::of(null, cloud, seed)).collect::<Result<Vec<_>>>()?;
        let pipeline = Pipeline { max_dim: 1, ..pipeline.clone() };
        let (mut sizes, mut recurrence) = (Vec::new(), None);
        for share in SHARES {
            let points = cloud.points.nrows() / share;
            if points < pipeline.least_points() {
                continue;
            }
            let bars_of_part = |part: usize| -> Result<Vec<Vec<(f64, f64)>>> {
                let rows =
                    sample(&mut Stream::Parts.of(seed, share * PARTS + part), cloud.points.nrows(), points).into_vec();
                let drawn = drawables
                    .iter()
                    .enumerate()
                    .map(|(index, null)| null.draw(&mut Stream::Null(index).of(seed, part)));
                let bars = |of: ndarray::ArrayView2<'_, f64>| {
                    Ok(pipeline.loops(&pipeline.diagram(of.select(Axis(0), &rows).view())?))
                };
                let of_nulls = drawn.map(|drawn| bars(drawn.view()));
                std::iter::once(bars(cloud.points)).chain(of_nulls).collect()
            };
            let found = (0..PARTS).into_par_iter().map(bars_of_part).collect::<Result<Vec<_>>>()?;
            let of = |at: usize| PiOfParts::of(found.iter().map(|bars| &bars[at][..]));
            sizes.push(SizeOfPart { share, points, cloud: of(0), nulls: (1..=nulls.len()).map(of).collect() });
            if share == 2 {
                recurrence = Recurrence::of(loops, found.iter().map(|bars| &bars[0][..]));
            }
        }
        Ok(Self { sizes, recurrence })
    }
}

impl PiOfParts {
    fn of<'a>(parts: impl Iterator<Item = &'a [(f64, f64)]>) -> Self {
        let values: Vec<f64> = parts.map(|bars| BarStatistics::of(bars).pi.unwrap_or(1.0)).collect();
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl Recurrence {
    /// Of the whole cloud's bars and those of its halves.
    fn of<'a>(loops: &[(f64, f64)], halves: impl Iterator<Item = &'a [(f64, f64)]>) -> Option<Self> {
        let &(birth, death) = loops.iter().max_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)))?;
        let away = |bar: &(f64, f64)| (bar.0 - birth).abs().max((bar.1 - death).abs());
        let nearest = |bars: &'a [(f64, f64)]| bars.iter().copied().min_by(|a, b| away(a).total_cmp(&away(b)));
        let halves: Vec<Option<(f64, f64)>> = halves.map(nearest).collect();
        let again: Vec<(f64, f64)> =
            halves.iter().flatten().copied().filter(|bar| away(bar) < (death - birth) / 4.0).collect();
        let sd = |of: fn(&(f64, f64)) -> f64| sample_sd(&again.iter().map(of).collect::<Vec<_>>());
        Some(Self {
            birth,
            death,
            parts: halves.len(),
            found: again.len(),
            birth_sd: sd(|bar| bar.0),
            death_sd: sd(|bar| bar.1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: the bar of the largest ratio is (1, 3); a quarter of its length is 0.5.
    #[test]
    fn a_bar_recurs_where_both_its_ends_do() {
        let halves = [vec![(1.2, 2.9)], vec![(1.6, 3.0)], vec![], vec![(1.9, 2.1)], vec![(0.1, 0.2), (0.8, 3.1)]];
        let found = Recurrence::of(&[(0.1, 0.2), (1.0, 3.0), (2.0, 5.0)], halves.iter().map(Vec::as_slice)).unwrap();
        assert_eq!((found.birth, found.death, found.parts, found.found), (1.0, 3.0, 5, 2));
        // Births 1.2 and 0.8, deaths 2.9 and 3.1.
        assert!((found.birth_sd.unwrap() - 0.08_f64.sqrt()).abs() < 1e-12);
        assert!((found.death_sd.unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
        let once = Recurrence::of(&[(1.0, 3.0)], halves[..2].iter().map(Vec::as_slice)).unwrap();
        assert_eq!((once.found, once.birth_sd), (1, None));
        assert_eq!(Recurrence::of(&[], halves.iter().map(Vec::as_slice)), None);
    }
}
