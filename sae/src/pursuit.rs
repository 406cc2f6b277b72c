//! Matching pursuit as SAELens 6 has it (`_encode_matching_pursuit`), for every token of a batch at once.

use burn::tensor::activation::relu;
use burn::tensor::{IndexingUpdateOp, Tensor};

use crate::activation::Pursuit;
use crate::kernels;

/// The latents of each token, `[batch, d_sae]`.
///
/// # Shapes
/// - `x`: `[batch, d_in]`; `w_dec`: `[d_sae, d_in]`
pub(crate) fn matching_pursuit(x: Tensor<2>, w_dec: &Tensor<2>, pursuit: Pursuit) -> Tensor<2> {
    let ([batch, d_in], [d_sae, _], device) = (x.dims(), w_dec.dims(), x.device());
    let encoder = w_dec.clone().transpose();
    let mut residual = x;
    let mut latents = Tensor::zeros([batch, d_sae], &device);
    // 1 of a token that goes on, 0 of one that is done.
    let mut goes_on = Tensor::<2>::ones([batch, 1], &device);
    for _ in 0..pursuit.max_iterations.unwrap_or(d_in) {
        let chosen = kernels::product(residual.clone(), encoder.clone()).argmax(1);
        let rows = w_dec.clone().select(0, chosen.clone().squeeze_dim(1));
        let values = relu((residual.clone() * rows.clone()).sum_dim(1)) * goes_on.clone();
        if pursuit.stop_on_duplicate_support {
            // Latents only grow, so another becomes active only where the chosen one was not yet.
            let was = latents.clone().gather(1, chosen.clone());
            goes_on = goes_on * was.equal_elem(0.0).float() * values.clone().greater_elem(0.0).float();
        }
        latents = latents.scatter(1, chosen, values.clone(), IndexingUpdateOp::Add);
        residual = residual - values * rows;
        if pursuit.residual_threshold > 0.0 {
            let norm = (residual.clone() * residual.clone()).sum_dim(1).sqrt();
            goes_on = goes_on * norm.greater_equal_elem(pursuit.residual_threshold).float();
        }
        let stops = pursuit.stop_on_duplicate_support || pursuit.residual_threshold > 0.0;
        if stops && goes_on.clone().sum().into_scalar::<f32>() == 0.0 {
            break;
        }
    }
    latents
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::readback::host;

    fn pursue(x: [f32; 2], pursuit: Pursuit) -> Vec<f32> {
        let device = Device::flex();
        let rows: Tensor<2> = Tensor::from_data([[1.0_f32, 0.0], [0.6, 0.8], [-1.0, 0.0]], &device);
        host(matching_pursuit(Tensor::from_data(TensorData::new(x.to_vec(), [1, 2]), &device), &rows, pursuit))
    }

    #[test]
    fn it_stops_where_it_is_told_to() {
        let pursuit = Pursuit { residual_threshold: 0.0, max_iterations: Some(1), stop_on_duplicate_support: false };
        // Of (1, 2) the second row explains 2.2, and leaves (−0.32, 0.24).
        let close = |found: Vec<f32>, expected: [f32; 3]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
        };
        close(pursue([1.0, 2.0], pursuit), [0.0, 2.2, 0.0]);
        let two = Pursuit { max_iterations: Some(2), ..pursuit };
        close(pursue([1.0, 2.0], two), [0.0, 2.2, 0.32]);
        // 0.4 is left after one.
        close(pursue([1.0, 2.0], Pursuit { residual_threshold: 0.5, ..two }), [0.0, 2.2, 0.0]);
        close(pursue([1.0, 2.0], Pursuit { residual_threshold: 0.3, ..two }), [0.0, 2.2, 0.32]);
        // (0, 0.24) is left: the second row again, which stops it where that is asked for.
        let many = Pursuit { max_iterations: None, ..pursuit };
        let free = pursue([1.0, 2.0], Pursuit { max_iterations: Some(3), ..many });
        close(free.clone(), [0.0, 2.2 + 0.192, 0.32]);
        let stopped = Pursuit { max_iterations: Some(50), stop_on_duplicate_support: true, ..pursuit };
        close(pursue([1.0, 2.0], stopped), [0.0, 2.2 + 0.192, 0.32]);
        close(pursue([0.0, 0.0], stopped), [0.0; 3]);
    }
}
