//! Which latents of two SAEs are the same: those of two seeds, matched one to one by the cosines of their directions.

use std::ops::ControlFlow;

use assay_sae::{Sae, product};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::assignment::assignment;
use crate::error::ProbeError;
use crate::metrics::norm;

/// Both directions of a latent have this cosine with those of its partner, or more, where it is shared (Paulo and Belrose 2025, "Sparse
/// Autoencoders Trained on the Same Data Learn Different Features").
pub const SHARED: f64 = 0.7;
/// Of more latents the best one-to-one match takes too long.
pub const MOST: usize = 16_384;
/// Rows of a product.
const ROWS: usize = 1024;

/// A latent's partners in the other SAE.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Twin {
    /// The one that the best one-to-one match of decoder rows gives it, and their cosine; `None` if the other has fewer latents.
    pub matched: Option<(usize, f64)>,
    /// The same of encoder directions.
    pub encoder: Option<(usize, f64)>,
    /// The largest cosine of its decoder row with any of the other's.
    pub largest: Option<f64>,
}

impl Twin {
    /// Whether both matches name the same latent, with cosines of [`SHARED`] or more.
    pub fn is_shared(&self) -> bool {
        self.matched
            .zip(self.encoder)
            .is_some_and(|((a, decoder), (b, encoder))| a == b && decoder.min(encoder) >= SHARED)
    }
}

/// Means over latents.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// The mean cosine of decoder rows over the best one-to-one match (PW-MCC: Song et al. 2025).
    pub matched: Option<f64>,
    /// The mean of the largest cosines, of which several may be with the same row (MMCS: Sharkey et al. 2022).
    pub largest: Option<f64>,
}

/// Matches the latents of an SAE with those of another. Beside them what the means come to with `random` directions in place of the
/// other's rows: of many directions in few dimensions some are close by chance.
///
/// The three matches are made side by side; at the most latents that takes a minute or so, and about 4 GB.
///
/// # Errors
/// [`ProbeError::Stopped`] where `flow` breaks.
///
/// # Panics
/// If the SAEs have other widths, or the match is asked of more than [`MOST`] latents.
pub fn twins(
    sae: &Sae,
    other: &Sae,
    random: Tensor<2>,
    flow: impl Fn() -> ControlFlow<()> + Sync,
) -> Result<(Vec<Twin>, Agreement, Agreement), ProbeError> {
    let [own_encoder, own_decoder] = sae.weights();
    let [encoder, decoder] = other.weights();
    let goes_on = || flow().is_continue();
    let pairs = [(own_decoder.clone(), decoder), (own_encoder, encoder), (own_decoder, random)];
    let cosines = pairs.map(|(a, b)| Cosines::new(a, b));
    let matches: Option<Vec<_>> = cosines.par_iter().map(|cosines| cosines.matched(goes_on)).collect();
    let Ok([matched, encoders, by_chance]) = <[_; 3]>::try_from(matches.ok_or(ProbeError::Stopped)?) else {
        unreachable!("there are three");
    };
    let of_latents = matched.into_iter().zip(encoders).zip(cosines[0].largest());
    let twins: Vec<Twin> = of_latents.map(|((matched, encoder), largest)| Twin { matched, encoder, largest }).collect();
    let null = agreement(by_chance, cosines[2].largest());
    let own =
        agreement(twins.iter().map(|twin| twin.matched).collect(), twins.iter().map(|twin| twin.largest).collect());
    Ok((twins, own, null))
}

fn agreement(matched: Vec<Option<(usize, f64)>>, largest: Vec<Option<f64>>) -> Agreement {
    let mean = |values: Vec<f64>| crate::stats::mean(&values);
    let matched = mean(matched.into_iter().flatten().map(|(_, cosine)| cosine).collect());
    Agreement { matched, largest: mean(largest.into_iter().flatten().collect()) }
}

/// Cosines of all rows of a matrix with all of another, `[rows, columns]`; those with a row of norm 0 are 0.
struct Cosines {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Cosines {
    fn new(a: Tensor<2>, b: Tensor<2>) -> Self {
        let ([rows, width], [columns, other]) = (a.dims(), b.dims());
        assert!(width == other && rows.max(columns) <= MOST, "[{rows}, {width}] and [{columns}, {other}]");
        let (a, b) = (units(a), units(b).transpose());
        let mut values = Vec::with_capacity(rows * columns);
        for start in (0..rows).step_by(ROWS) {
            let part = a.clone().slice([start..(start + ROWS).min(rows), 0..width]);
            values.extend(product(part, b.clone()).into_data().try_into_vec::<f32>().expect("f32"));
        }
        Self { rows, columns, values }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.values[row * self.columns + column])
    }

    /// The match of the largest sum of cosines; `None` where the work is to stop.
    fn matched(&self, goes_on: impl Fn() -> bool) -> Option<Vec<Option<(usize, f64)>>> {
        let mut found = vec![None; self.rows];
        if self.rows <= self.columns {
            let fill = |row: usize, costs: &mut [f64]| {
                let values = &self.values[row * self.columns..][..self.columns];
                costs.iter_mut().zip(values).for_each(|(cost, &cosine)| *cost = -f64::from(cosine));
            };
            let columns = assignment(self.rows, self.columns, fill, goes_on)?;
            columns.into_iter().enumerate().for_each(|(row, column)| found[row] = Some((column, self.at(row, column))));
        } else {
            let fill = |column: usize, costs: &mut [f64]| {
                costs.iter_mut().enumerate().for_each(|(row, cost)| *cost = -self.at(row, column));
            };
            let rows = assignment(self.columns, self.rows, fill, goes_on)?;
            rows.into_iter().enumerate().for_each(|(column, row)| found[row] = Some((column, self.at(row, column))));
        }
        Some(found)
    }

    fn largest(&self) -> Vec<Option<f64>> {
        let of_row = |row: &[f32]| row.iter().copied().max_by(f32::total_cmp).map(f64::from);
        self.values.par_chunks(self.columns.max(1)).map(of_row).collect()
    }
}

/// Rows of norm 1, in f64 but for the result; rows of norm 0 stay.
fn units(rows: Tensor<2>) -> Tensor<2> {
    let (shape, device) = (rows.dims(), rows.device());
    let mut values = rows.into_data().convert::<f32>().try_into_vec::<f32>().expect("weights are f32");
    for row in values.chunks_exact_mut(shape[1].max(1)) {
        let length = norm(row);
        if length > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
    }
    Tensor::from_data(TensorData::new(values, shape), &device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_sae::Activation;
    use burn::tensor::{Device, Distribution};

    fn sae(rows: [Tensor<2>; 2], device: &Device) -> Sae {
        let [n, d] = rows[0].dims();
        let zeros = |n| Tensor::zeros([n], device);
        Sae::new(rows, [zeros(n), zeros(d)], Activation::Relu, false)
    }

    #[test]
    fn the_same_latents_in_another_order_are_found_and_random_ones_are_not() {
        let device = Device::flex();
        device.seed(3);
        let random = |n: usize| Tensor::<2>::random([n, 24], Distribution::Normal(0.0, 1.0), &device);
        let (encoder, decoder) = (random(90), random(90));
        let order: Vec<i32> = (0..90).map(|at| (at * 7 + 5) % 90).collect();
        let order = Tensor::from_data(order.as_slice(), &device);
        // Scaled, in another order, and some noise on it; ten latents of other directions in place of the last of them.
        let moved = |rows: &Tensor<2>| {
            let near = rows.clone().select(0, order.clone()) * 3.0 + random(90) * 0.1;
            near.slice_assign([80..90, 0..24], random(10))
        };
        let own = sae([encoder.clone(), decoder.clone()], &device);
        let other = sae([moved(&encoder), moved(&decoder)], &device);
        let go_on = || ControlFlow::Continue(());
        let (twins, found, null) = twins(&own, &other, random(90), go_on).unwrap();
        let expected = |latent: usize| (0..90).find(|&at| (at * 7 + 5) % 90 == latent).filter(|&at| at < 80);
        for (latent, twin) in twins.iter().enumerate() {
            assert_eq!(twin.is_shared(), expected(latent).is_some(), "{latent}: {twin:?}");
            if let Some(at) = expected(latent) {
                assert_eq!((twin.matched.unwrap().0, twin.encoder.unwrap().0), (at, at));
            }
            assert!(twin.largest.unwrap() >= twin.matched.unwrap().1);
        }
        assert!(found.matched.unwrap() > 0.85 && null.matched.unwrap() < 0.6, "{found:?} {null:?}");
        assert!(null.matched < null.largest, "an assignment takes each row once");
        let narrow = sae([random(50), random(50)], &device);
        let (few, ..) = super::twins(&own, &narrow, random(50), go_on).unwrap();
        assert_eq!(few.iter().filter(|twin| twin.matched.is_some()).count(), 50);
        let stopped = super::twins(&own, &narrow, random(50), || ControlFlow::Break(()));
        assert!(matches!(stopped, Err(ProbeError::Stopped)));
    }
}
