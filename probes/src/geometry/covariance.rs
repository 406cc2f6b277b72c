//! Means, second moments and their eigenvalues, in f64.

use burn::tensor::{Device, Tensor};
use faer::Side;
use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::error::{ProbeError, Result};
use crate::kernels::Moments;
use crate::metrics::{DEFLATIONS, Directions, rounding};

/// Mean and second moments, accumulated in f64 from batch to batch.
///
/// Moments are taken about the mean of the first batch, so that a large common offset costs no digits.
pub struct Covariance {
    tokens: f64,
    shift: Option<Vec<f64>>,
    sum: Vec<f64>,
    moments: Array2<f64>,
    /// Moments that are not read from a device yet.
    on_device: Option<Moments>,
}

/// Eigenvalues of a covariance divided by N, descending.
#[derive(Clone, Debug)]
pub struct Spectrum(Vec<f64>);

impl Covariance {
    /// Of vectors of `d_model` elements.
    pub fn new(d_model: usize) -> Self {
        Self {
            tokens: 0.0,
            shift: None,
            sum: vec![0.0; d_model],
            moments: Array2::zeros((d_model, d_model)),
            on_device: None,
        }
    }

    /// The same, with moments that a device adds up, if it can: [`Self::add_on_device`] is to be called after each [`Self::add`], and
    /// [`Self::read_device`] at the end.
    pub(crate) fn on(device: &Device, d_model: usize) -> Self {
        Self { on_device: Moments::new(d_model, device), ..Self::new(d_model) }
    }

    /// Shows the device what [`Self::add`] was last given, `[tokens, d_model]`; nothing to do without one.
    pub(crate) fn add_on_device(&mut self, rows: Tensor<2>) {
        if let (Some(moments), Some(shift)) = (&mut self.on_device, &self.shift) {
            moments.add(rows, shift);
        }
    }

    /// Waits for the device's moments, where it has any.
    pub(crate) fn read_device(&mut self) {
        if let Some(moments) = self.on_device.take() {
            self.moments = moments.read();
        }
    }

    /// Length of the vectors.
    pub(crate) fn d_model(&self) -> usize {
        self.sum.len()
    }

    /// Adds rows, `[tokens, d_model]`.
    pub fn add(&mut self, rows: ArrayView2<'_, f32>) {
        if rows.is_empty() {
            return;
        }
        let shift =
            self.shift.get_or_insert_with(|| rows.mapv(f64::from).mean_axis(ndarray::Axis(0)).expect("rows").to_vec());
        for row in rows.as_standard_layout().rows() {
            let row = row.to_slice().expect("rows in the order of memory");
            for ((&v, &shift), sum) in row.iter().zip(shift.iter()).zip(&mut self.sum) {
                *sum += f64::from(v) - shift;
            }
        }
        if self.on_device.is_none() {
            let shifted = rows.mapv(f64::from) - ArrayView1::from(shift.as_slice());
            self.moments += &shifted.t().dot(&shifted);
        }
        self.tokens += rows.nrows() as f64;
    }

    /// The mean-centred covariance, divided by N; NaN if there were no rows.
    pub(crate) fn matrix(&self) -> Array2<f64> {
        self.about(&self.offset())
    }

    /// The mean; empty if there were no rows.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let shift = self.shift.iter().flatten();
        shift.zip(&self.offset()).map(|(shift, offset)| shift + offset).collect()
    }

    /// The mean relative to the shift.
    fn offset(&self) -> Vec<f64> {
        self.sum.iter().map(|s| s / self.tokens).collect()
    }

    /// The eigenvalues of the mean-centred covariance, divided by N, and its top eigenvectors (as many as deflation takes
    /// away at most); empty if there were no rows.
    ///
    /// # Errors
    /// If the eigenvalues can't be found, as when the activations were not finite.
    pub fn eigen(&self) -> Result<(Spectrum, Directions)> {
        if self.tokens == 0.0 {
            return Ok((Spectrum(Vec::new()), Directions::default()));
        }
        let eigen = mat(&self.matrix()).self_adjoint_eigen(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
        let top = DEFLATIONS.iter().copied().max().unwrap_or_default();
        let vector = |rank: usize| eigen.U().col(rank).iter().copied().collect::<Vec<f64>>();
        let directions = (0..self.sum.len()).rev().take(top).map(vector).collect();
        Ok((Spectrum::descending(eigen.S().column_vector().iter().copied(), self.rounding()), Directions(directions)))
    }

    /// The eigenvalues alone.
    ///
    /// # Errors
    /// As [`Self::eigen`].
    pub fn spectrum(&self) -> Result<Spectrum> {
        self.values_about(&self.offset())
    }

    /// The eigenvalues of the second moments about zero: what the spectrum is without subtracting the mean.
    ///
    /// # Errors
    /// As [`Self::eigen`].
    pub fn uncentered_spectrum(&self) -> Result<Spectrum> {
        let shift = self.shift.clone().unwrap_or_default();
        self.values_about(&shift.iter().map(|s| -s).collect::<Vec<f64>>())
    }

    fn values_about(&self, point: &[f64]) -> Result<Spectrum> {
        if self.tokens == 0.0 {
            return Ok(Spectrum(Vec::new()));
        }
        let values = mat(&self.about(point)).self_adjoint_eigenvalues(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
        Ok(Spectrum::descending(values.into_iter(), self.rounding()))
    }

    /// The variance that f32 rounding alone makes of activations of this length.
    fn rounding(&self) -> f64 {
        let (shift, offset) = (self.shift.iter().flatten(), self.offset());
        let squares = shift
            .zip(&offset)
            .enumerate()
            .map(|(i, (shift, offset))| self.moments[[i, i]] / self.tokens + shift * (2.0 * offset + shift));
        rounding(self.sum.len() as f64, squares.sum())
    }

    /// Second moments divided by N about a point, which is given relative to the shift.
    fn about(&self, point: &[f64]) -> Array2<f64> {
        let offset = self.offset();
        Array2::from_shape_fn(self.moments.dim(), |(i, j)| {
            let (p, q) = (point[i], point[j]);
            self.moments[[i, j]] / self.tokens - offset[i] * q - p * offset[j] + p * q
        })
    }
}

fn mat(values: &Array2<f64>) -> faer::Mat<f64> {
    faer::Mat::from_fn(values.nrows(), values.ncols(), |i, j| values[[i, j]])
}

impl Spectrum {
    /// From eigenvalues in ascending order. Where they are no more than rounding makes of activations that are all the same, there is
    /// no variance, and all are 0.
    fn descending(ascending: impl DoubleEndedIterator<Item = f64>, rounding: f64) -> Self {
        // Second moments have no negative eigenvalues; rounding does.
        let values: Vec<f64> = ascending.rev().map(|v| if v < 0.0 { 0.0 } else { v }).collect();
        let constant = values.iter().sum::<f64>() <= rounding;
        Self(if constant { vec![0.0; values.len()] } else { values })
    }

    /// Participation ratio (Σλ)²/Σλ² of the spectrum without its `top` largest eigenvalues: how many
    /// directions the variance is spread over. `None` where nothing is left.
    pub fn participation_ratio(&self, top: usize) -> Option<f64> {
        let rest = self.0.get(top..)?;
        let (sum, squares) = rest.iter().fold((0.0, 0.0), |(s, q), &v| (s + v, q + v * v));
        (squares > 0.0).then(|| sum * sum / squares)
    }

    /// The participation ratio of the whole spectrum, then of what is left without each of [`DEFLATIONS`]' largest eigenvalues.
    pub fn participation_ratios(&self) -> [Option<f64>; 1 + DEFLATIONS.len()] {
        let [one, two, four, eight] = DEFLATIONS;
        [0, one, two, four, eight].map(|top| self.participation_ratio(top))
    }

    /// Trace of the covariance.
    pub fn variance(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The largest eigenvalue's share of the trace.
    pub fn top_share(&self) -> Option<f64> {
        let variance = self.variance();
        self.0.first().filter(|_| variance > 0.0).map(|top| top / variance)
    }

    /// The eigenvalues, descending.
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_that_vary_by_rounding_alone_have_no_spectrum() {
        let rows = |spread: f32| {
            Array2::from_shape_fn((50, 16), |(row, column)| {
                let level = 3.0 + column as f32;
                level + spread * ((row * 7 + column * 3) % 5) as f32
            })
        };
        let spectrum = |rows: &Array2<f32>| {
            let mut covariance = Covariance::new(16);
            covariance.add(rows.view());
            covariance.spectrum().unwrap()
        };
        // A few units in the last place.
        let constant = spectrum(&rows(1e-6));
        assert_eq!((constant.participation_ratio(0), constant.top_share(), constant.variance()), (None, None, 0.0));
        let varied = spectrum(&rows(1e-3));
        assert!(varied.participation_ratio(0).unwrap() > 1.0 && varied.variance() > 0.0);
    }
}
