//! The decoder's operations on the CPU.

mod attention;

use assay_kernels::cpu::{Matrix, shared_product};
use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use super::block::TablesOf;
use super::{BiasOf, NeoxOps};
use crate::config::{Attention, LayerKind};

/// Floats that one task changes.
const CHUNK: usize = 1 << 14;

impl NeoxOps for Flex {
    fn gelu_exact(x: FlexTensor) -> FlexTensor {
        let mut x = if x.is_contiguous() { x } else { x.to_contiguous() };
        x.storage_mut::<f32>().par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|v| *v = gelu(*v)));
        x
    }

    fn neox_linear(x: FlexTensor, weight: FlexTensor, bias: BiasOf<Self>, with_gelu: bool) -> FlexTensor {
        let ([batch, context, d_in], [_, d_out]) =
            (x.layout().shape().dims::<3>(), weight.layout().shape().dims::<2>());
        let (x, rows) = (x.to_contiguous(), batch * context);
        let bias = match bias {
            BiasOf::None => None,
            BiasOf::Some(bias) => Some(bias.to_contiguous()),
        };
        // In one product of all rows the weights are packed once, not once per context.
        let mut out = vec![0.0; rows * d_out];
        shared_product(Matrix::rows(after_start(&x), [rows, d_in], d_in), matrix(&weight), &mut out, d_out);
        out.par_chunks_mut((CHUNK / d_out).max(1) * d_out).for_each(|chunk| {
            for row in chunk.chunks_mut(d_out) {
                if let Some(bias) = &bias {
                    row.iter_mut().zip(after_start(bias)).for_each(|(v, b)| *v += b);
                }
                if with_gelu {
                    row.iter_mut().for_each(|v| *v = gelu(*v));
                }
            }
        });
        let layout = Layout::contiguous(Shape::from([batch, context, d_out]));
        FlexTensor::new(Bytes::from_elems(out), layout, DType::F32)
    }

    fn neox_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        tables: TablesOf<Self>,
        attention: Attention,
        kind: LayerKind,
    ) -> FlexTensor {
        attention::run([q, k, v], tables, &attention, &kind)
    }
}

/// A tensor's numbers, and what lies after them.
fn after_start(x: &FlexTensor) -> &[f32] {
    &x.storage()[x.layout().start_offset()..]
}

/// A matrix as it lies.
fn matrix(x: &FlexTensor) -> Matrix<'_> {
    let (layout, stride) = (x.layout(), |axis| stride(x, axis));
    Matrix { values: after_start(x), shape: layout.shape().dims::<2>(), strides: [stride(0), stride(1)] }
}

fn stride(x: &FlexTensor, axis: usize) -> usize {
    usize::try_from(x.layout().strides()[axis]).expect("no tensor of a decoder runs backwards")
}

#[inline]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// erf by the rational minimax approximation that Eigen and XLA use for f32 (odd polynomial over
/// even polynomial on |x| ≤ 4, where it saturates). No branch and no call, so that it vectorises.
#[inline]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10_f32;
    for c in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2] {
        p = p * s + c;
    }
    let mut q = -1.456_607_2e-5_f32;
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2] {
        q = q * s + c;
    }
    x * p / q
}
