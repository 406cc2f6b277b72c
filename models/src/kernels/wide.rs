//! The decoder's f32 work beside its products on a CUDA device, where no gradient is wanted; elsewhere Burn's operations do it.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};

use crate::config::{Attention, LayerKind, Norm, NormKind};
use crate::device::runs_on_cuda;
use crate::rotary::Rotary;

/// Numbers of a layer's attention.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the kernel reads them"))]
pub struct WideShape {
    pub(crate) batch: usize,
    pub(crate) context: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) d_head: usize,
    pub(crate) rotary_dims: usize,
    pub(crate) window: Option<usize>,
    pub(crate) scale: f64,
    pub(crate) cap: Option<f64>,
}

/// Backend operations of a decoder in f32; only where [`takes_norms`] or [`takes_attention`] say so.
#[backend_extension(Flex, Cube: cfg(feature = "cuda"))]
pub trait WideOps: Backend {
    /// See [`attention`].
    fn wide_attention(
        _qkv: FloatTensor<Self>,
        _cos: FloatTensor<Self>,
        _sin: FloatTensor<Self>,
        _shape: WideShape,
    ) -> FloatTensor<Self> {
        unreachable!("other devices have no such kernel")
    }

    /// See [`norm`]; without `biased` the bias is not read.
    fn wide_norm(
        _x: FloatTensor<Self>,
        _gain: FloatTensor<Self>,
        _bias: FloatTensor<Self>,
        _biased: bool,
        _layer: bool,
        _eps: f64,
    ) -> FloatTensor<Self> {
        unreachable!("other devices have no such kernel")
    }
}

impl WideOps for Flex {}

/// Whether [`norm`] is for a tensor: on a CUDA device, and no gradient is wanted.
pub(crate) fn takes_norms<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && runs_on_cuda(&x.device())
}

/// The norm of each row of the last dimension; see [`NormKind`] for the formulas.
pub(crate) fn norm<const D: usize>(x: Tensor<D>, norm: Norm, gain: &Tensor<1>, bias: Option<&Tensor<1>>) -> Tensor<D> {
    let shape = x.dims();
    let rows: Tensor<2> = x.reshape([shape[..D - 1].iter().product(), shape[D - 1]]);
    let [gain, given] = [gain, bias.unwrap_or(gain)].map(|weights| weights.clone().into_dispatch());
    let layer = norm.kind == NormKind::Layer;
    let out = Dispatch::wide_norm(rows.into_dispatch(), gain, given, bias.is_some() && layer, layer, norm.eps);
    Tensor::<2>::from_dispatch(out).reshape(shape)
}

/// Whether [`attention`] is for a tensor: on a Hopper GPU, in the widths that the kernel is made for, and no gradient is wanted.
pub(crate) fn takes_attention(x: &Tensor<3>, config: &Attention) -> bool {
    #[cfg(feature = "cuda")]
    {
        let device = x.device();
        x.dtype() == DType::F32
            && runs_on_cuda(&device)
            && config.d_head.is_multiple_of(16)
            && config.d_head <= 256
            && device.identity().is_some_and(|identity| identity.fingerprint == assay_kernels::source::HOPPER)
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (x, config);
        false
    }
}

/// Causal attention; see `wide_attention.cu`.
///
/// # Shapes
/// - `qkv`: `[batch, context, (n_heads + 2·n_kv_heads)·d_head]`, queries and keys normed but not rotated
/// - result: `[batch, context, n_heads·d_head]`
pub(crate) fn attention(qkv: Tensor<3>, config: &Attention, layer: &LayerKind, rotary: Option<&Rotary>) -> Tensor<3> {
    let [batch, context, width] = qkv.dims();
    let shape = WideShape {
        batch,
        context,
        n_heads: config.n_heads,
        n_kv_heads: config.n_kv_heads,
        d_head: config.d_head,
        rotary_dims: rotary.map_or(0, Rotary::dims),
        window: layer.window,
        scale: layer.score_scale,
        cap: config.score_cap,
    };
    let nothing = || Tensor::<4>::zeros([1, 1, 1, 1], &qkv.device());
    let (cos, sin) = rotary.map_or_else(|| (nothing(), nothing()), Rotary::tables);
    let rows: Tensor<2> = qkv.reshape([batch * context, width]);
    let out = Dispatch::wide_attention(rows.into_dispatch(), cos.into_dispatch(), sin.into_dispatch(), shape);
    Tensor::<2>::from_dispatch(out).reshape([batch, context, config.d_q()])
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor, TensorData};

    use super::*;
    use crate::config::{QkNorm, Rope, RopeScaling};

    fn random<const D: usize>(shape: [usize; D], seed: u64) -> Vec<f32> {
        Device::flex().seed(seed);
        let values: Tensor<D> = Tensor::random(shape, Distribution::Normal(0.5, 2.0), &Device::flex());
        values.into_data().try_into_vec().expect("it was made so")
    }

    fn on_card<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::cuda(0))
    }

    #[track_caller]
    fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: &[f64]) {
        let found: Vec<f32> = found.into_data().try_into_vec().expect("it was made so");
        assert_eq!(found.len(), expected.len());
        let size = expected.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        for (at, (&found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((f64::from(found) - expected).abs() <= 1e-5 * size, "{what}, {at}: {found}, not {expected}");
        }
    }

    #[test]
    fn norms_of_any_width() {
        for (seed, [a, b, d]) in [[3, 5, 7], [2, 300, 64], [1, 9, 1024], [4, 1, 2050]].into_iter().enumerate() {
            let (x, gain, bias) = (random([a, b, d], seed as u64), random([d], 10), random([d], 11));
            for (kind, biased) in [(NormKind::Layer, true), (NormKind::Layer, false), (NormKind::Rms, false)] {
                let expected: Vec<f64> = x
                    .chunks(d)
                    .flat_map(|row| {
                        let mean = match kind {
                            NormKind::Layer => row.iter().copied().map(f64::from).sum::<f64>() / d as f64,
                            NormKind::Rms => 0.0,
                        };
                        let squares = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
                        let deviation = (squares / d as f64 + 1e-5).sqrt();
                        let bias = |c: usize| if biased { f64::from(bias[c]) } else { 0.0 };
                        let of = |c: usize| (f64::from(row[c]) - mean) / deviation * f64::from(gain[c]) + bias(c);
                        (0..d).map(of).collect::<Vec<f64>>()
                    })
                    .collect();
                let [gain, bias] = [&gain, &bias].map(|weights| on_card(weights, [d]));
                let found = norm(on_card(&x, [a, b, d]), Norm { kind, eps: 1e-5 }, &gain, biased.then_some(&bias));
                assert_close(&format!("{kind:?} of {d}, biased {biased}"), found, &expected);
            }
        }
    }

    /// Attention as its definition has it, in f64.
    fn defined(qkv: &[f32], shape: [usize; 2], config: &Attention, layer: &LayerKind, dims: usize) -> Vec<f64> {
        let ([batch, context], d) = (shape, config.d_head);
        let width = (config.n_heads + 2 * config.n_kv_heads) * d;
        let head = |b: usize, t: usize, number: usize, rotate: bool| -> Vec<f64> {
            let from = (b * context + t) * width + number * d;
            let x: Vec<f64> = qkv[from..from + d].iter().copied().map(f64::from).collect();
            let (mut out, half) = (x.clone(), dims / 2);
            for i in (0..half).filter(|_| rotate) {
                let frequency = 1.0 / 10_000.0_f32.powf((2 * i) as f32 / dims as f32);
                let angle = t as f32 * frequency;
                let (cos, sin) = (f64::from(angle.cos()), f64::from(angle.sin()));
                out[i] = x[i] * cos - x[i + half] * sin;
                out[i + half] = x[i + half] * cos + x[i] * sin;
            }
            out
        };
        let mut out = Vec::new();
        for b in 0..batch {
            let kv: Vec<Vec<(Vec<f64>, Vec<f64>)>> = (0..config.n_kv_heads)
                .map(|h| {
                    let of = |t: usize| {
                        (
                            head(b, t, config.n_heads + h, true),
                            head(b, t, config.n_heads + config.n_kv_heads + h, false),
                        )
                    };
                    (0..context).map(of).collect()
                })
                .collect();
            for t in 0..context {
                for h in 0..config.n_heads {
                    let (q, kv) = (head(b, t, h, true), &kv[h * config.n_kv_heads / config.n_heads]);
                    let first = layer.window.map_or(0, |window| (t + 1).saturating_sub(window));
                    let scores: Vec<f64> = kv[first..=t]
                        .iter()
                        .map(|(k, _)| {
                            let score = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * layer.score_scale;
                            config.score_cap.map_or(score, |cap| cap * (score / cap).tanh())
                        })
                        .collect();
                    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    out.extend(
                        (0..d).map(|i| {
                            weights.iter().zip(&kv[first..=t]).map(|(w, (_, v))| w * v[i]).sum::<f64>() / total
                        }),
                    );
                }
            }
        }
        out
    }

    /// Contexts on both sides of a tile, grouped heads, windows that begin inside a tile, partial rotation, caps.
    #[test]
    fn attention_is_as_defined() {
        for (d_head, dims, context, heads, window, score_cap) in [
            (16, 16, 1, (1, 1), None, None),
            (64, 16, 200, (4, 4), None, None),
            (64, 64, 130, (6, 2), Some(50), None),
            (80, 32, 65, (2, 1), None, Some(20.0)),
            (128, 128, 97, (4, 1), Some(3), None),
            (256, 256, 140, (2, 1), Some(64), Some(50.0)),
            (96, 0, 64, (3, 3), None, None),
        ] {
            let (n_heads, n_kv_heads) = heads;
            let config = Attention {
                n_heads,
                n_kv_heads,
                d_head,
                qkv_bias: false,
                out_bias: false,
                qk_norm: QkNorm::None,
                score_cap,
            };
            let layer = LayerKind { window, rope: (dims > 0).then_some(0), score_scale: 0.3 / (d_head as f64).sqrt() };
            let rope = Rope { dims, theta: 10_000.0, scaling: RopeScaling::Default };
            let rotary = (dims > 0).then(|| Rotary::new(&rope, context, |frequency| frequency, &Device::cuda(0)));
            let width = (n_heads + 2 * n_kv_heads) * d_head;
            let qkv = random([2, context, width], 5);
            let found = attention(on_card(&qkv, [2, context, width]), &config, &layer, rotary.as_ref());
            let what = format!("heads {heads:?} of {d_head}, {context} tokens, window {window:?}, cap {score_cap:?}");
            assert_close(&what, found, &defined(&qkv, [2, context], &config, &layer, dims));
        }
    }
}
