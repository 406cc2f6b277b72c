//! The encoder with its selection, and everything that is done with a sparse code.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use super::{
    AuxiliaryOf, CodeOf, EncoderOf, GradientOf, Levels, LevelsOf, MarksOf, Precision, RowsOf, SaeOps, TableOf, VectorOf,
};
use crate::code::{Marks, Rows, SparseCode};

/// An encoder as the kernels see it.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`
    pub b_enc: Tensor<1>,
    /// Factors on the pre-activations in the selection alone, `[d_sae]`; `None`: no factors.
    pub scale: Option<Tensor<1>>,
    /// Number format of the product.
    pub precision: Precision,
}

impl Encoder {
    fn d_sae(&self) -> usize {
        self.w_enc.dims()[0]
    }

    pub(super) fn into_dispatch(self) -> EncoderOf<Dispatch> {
        EncoderOf {
            w_enc: self.w_enc.into_dispatch(),
            b_enc: self.b_enc.into_dispatch(),
            scale: self.scale.map_or(VectorOf::None, |scale| VectorOf::Latents(scale.into_dispatch())),
            precision: self.precision,
        }
    }
}

/// Which latents of a token are chosen, by their pre·scale; as many of every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The k largest, ties to the lowest index.
    TopK { k: usize },
    /// The largest of each of k groups of d_sae/k neighbours, ties to the lowest index.
    GroupMax { k: usize },
}

impl Selection {
    /// Latents chosen of a token.
    pub fn k(self) -> usize {
        match self {
            Self::TopK { k } | Self::GroupMax { k } => k,
        }
    }
}

/// The latents of each token that `selection` chooses by `pre·scale`, pre = input·W_encᵀ + b_enc; values are `ReLU(pre)`, not scaled.
/// What is not a number is chosen last.
///
/// # Shapes
/// - `input`: `[batch, d_model]`
pub fn encode(input: Tensor<2>, encoder: Encoder, selection: Selection) -> SparseCode {
    let d_sae = encoder.d_sae();
    let (values, indices) = Dispatch::sae_encode(input.into_dispatch(), encoder.into_dispatch(), selection);
    SparseCode::trusted(Tensor::from_dispatch(values), Tensor::from_dispatch(indices), d_sae)
}

/// Which latents the auxiliary loss may use.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Tokens since each latent was active, `[d_sae]`.
    pub since_fired: Tensor<1, Int>,
    /// A latent is dead above this many.
    pub after: i32,
    /// How many of them a token may use.
    pub k: usize,
}

/// As [`encode`], and with it, from the same pre-activations, the `dead.k` largest among the dead latents: without the
/// ReLU, so negative values are kept. Where fewer are dead, the entries left over have value 0.
pub fn encode_with_dead(input: Tensor<2>, encoder: Encoder, selection: Selection, dead: Dead) -> [SparseCode; 2] {
    let d_sae = encoder.d_sae();
    let (values, indices, dead_values, dead_indices) = Dispatch::sae_encode_with_dead(
        input.into_dispatch(),
        encoder.into_dispatch(),
        selection,
        dead.since_fired.into_dispatch(),
        dead.after,
        dead.k,
    );
    [(values, indices), (dead_values, dead_indices)].map(|(values, indices)| {
        SparseCode::trusted(Tensor::from_dispatch(values), Tensor::from_dispatch(indices), d_sae)
    })
}

impl SparseCode {
    pub(super) fn into_dispatch(self) -> CodeOf<Dispatch> {
        let (values, indices, rows, marks) = self.into_parts();
        CodeOf {
            values: values.into_dispatch(),
            indices: indices.into_dispatch(),
            rows: match rows {
                Rows::Each(k) => RowsOf::Each(k),
                Rows::Starts(starts) => RowsOf::Starts(starts.into_dispatch()),
            },
            marks: marks.map_or(MarksOf::Unknown, |Marks { bits, counts }| {
                MarksOf::Known(TableOf { bits: bits.into_dispatch(), counts: counts.into_dispatch() })
            }),
        }
    }

    /// The same, with the tokens of each latent looked up once for all that needs them.
    pub(crate) fn marked(self) -> Self {
        let d_sae = self.d_sae();
        let (bits, counts) = Dispatch::sae_mark(self.clone().into_dispatch(), d_sae);
        self.with_marks(Marks { bits: Tensor::from_dispatch(bits), counts: Tensor::from_dispatch(counts) })
    }
}

/// `Σ_j values[t, j] · w_dec[indices[t, j]]` over the entries j of token t, the sparse product z·W_dec.
///
/// # Shapes
/// - `w_dec`: `[d_sae, d_model]`; result `[batch, d_model]`
pub fn decode(code: SparseCode, w_dec: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sae_decode(code.into_dispatch(), w_dec.into_dispatch()))
}

/// x̂ − x with x̂ = [`decode`] + b_dec, and sums of its squares: of every token or of some tokens together, so that all of them add
/// up to the whole.
///
/// # Shapes
/// - `b_dec`: `[d_model]`; `x` and the residual: `[batch, d_model]`
pub fn residual(code: SparseCode, w_dec: Tensor<2>, b_dec: Tensor<1>, x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    let (residual, squares) =
        Dispatch::sae_residual(code.into_dispatch(), w_dec.into_dispatch(), b_dec.into_dispatch(), x.into_dispatch());
    (Tensor::from_dispatch(residual), Tensor::from_dispatch(squares))
}

/// `grad[t] · w_dec[indices[t, j]]` where `values[t, j] ≠ 0`, else 0: the gradient of the active values
/// when `grad` is that of the decoder's output. With levels, the gradient is that of the latent's level.
///
/// # Shapes
/// - `grad`: `[batch, d_model]`, or with levels `[levels·batch, d_model]`
/// - result: one for each entry of the code, in their order
pub fn value_gradients(grad: Tensor<2>, code: SparseCode, w_dec: Tensor<2>, levels: Option<&Levels>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::sae_value_gradients(
        grad.into_dispatch(),
        code.into_dispatch(),
        w_dec.into_dispatch(),
        levels_of(levels),
    ))
}

fn levels_of(levels: Option<&Levels>) -> LevelsOf<Dispatch> {
    levels.map_or(LevelsOf::One, |levels| LevelsOf::Ends(levels.ends().into_dispatch()))
}

/// A sparse code, the gradient of its values, and that of what it decodes to.
#[derive(Clone, Debug)]
pub struct SparseGradient {
    /// The code.
    pub code: SparseCode,
    /// One for each entry of the code.
    pub value_grads: Tensor<1>,
    /// `[batch, d_model]`, or with levels `[levels·batch, d_model]`.
    pub output_grad: Tensor<2>,
    /// The levels of latents that have an output gradient each; `None`: all have the same.
    pub levels: Option<Levels>,
}

impl SparseGradient {
    fn into_dispatch(self) -> GradientOf<Dispatch> {
        GradientOf {
            code: self.code.into_dispatch(),
            value_grads: self.value_grads.into_dispatch(),
            output_grad: self.output_grad.into_dispatch(),
            levels: levels_of(self.levels.as_ref()),
        }
    }
}

/// Gradients of the encoder (stored as `[d_sae, d_model]`), its bias and the decoder.
pub struct LatentGradients {
    /// `[d_sae, d_model]`
    pub w_enc: Tensor<2>,
    /// `[d_sae]`
    pub b_enc: Tensor<1>,
    /// `[d_sae, d_model]`
    pub w_dec: Tensor<2>,
    /// Sums of the squares of all three, of every latent or of some together.
    pub squares: Tensor<1>,
}

/// What is counted of every latent while it trains, `[d_sae]` each.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Tokens since the latent was active.
    pub since_fired: Tensor<1, Int>,
    /// Tokens on which it was active.
    pub fires: Tensor<1, Int>,
}

/// Each latent's gradients, summed over the tokens on which it is active, in token order: value_grads·input for `w_enc`,
/// value_grads for `b_enc`, values·output_grad for `w_dec`; of the main path, then of the auxiliary one. With `project`, each row
/// g of `w_dec`'s gradient loses its part along the decoder's row w: g − (g·w)w/‖w‖².
///
/// The counters are brought forward by the main path: `since_fired` grows by the batch's tokens and is 0 where a latent was
/// active, `fires` grows by the number of tokens on which it was.
///
/// # Shapes
/// - `input`: `[batch, d_model]`; `w_dec`: `[d_sae, d_model]`
pub fn latent_gradients(
    main: SparseGradient,
    auxiliary: Option<SparseGradient>,
    input: Tensor<2>,
    w_dec: Tensor<2>,
    counters: Counters,
    project: bool,
) -> (LatentGradients, Counters) {
    let auxiliary = auxiliary.map_or(AuxiliaryOf::None, |path| AuxiliaryOf::Path(path.into_dispatch()));
    let (w_enc, b_enc, w_dec, squares, since_fired, fires) = Dispatch::sae_latent_gradients(
        main.into_dispatch(),
        auxiliary,
        input.into_dispatch(),
        w_dec.into_dispatch(),
        counters.since_fired.into_dispatch(),
        counters.fires.into_dispatch(),
        project,
    );
    (
        LatentGradients {
            w_enc: Tensor::from_dispatch(w_enc),
            b_enc: Tensor::from_dispatch(b_enc),
            w_dec: Tensor::from_dispatch(w_dec),
            squares: Tensor::from_dispatch(squares),
        },
        Counters { since_fired: Tensor::from_dispatch(since_fired), fires: Tensor::from_dispatch(fires) },
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;
    use crate::readback::{host, host_int};

    fn matrix(values: &[f32], shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    fn numbers(len: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-2.0_f32..2.0, len)
    }

    /// a·b of row-major `[m, d]` and `[d, n]`, with strides, in f64.
    fn product(a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32, [m, d, n]: [usize; 3]) -> Vec<f32> {
        let at = |i, j| (0..d).map(|l| f64::from(a(i, l)) * f64::from(b(l, j))).sum::<f64>() as f32;
        (0..m * n).map(|place| at(place / n, place % n)).collect()
    }

    fn close(found: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
        prop_assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            prop_assert!((f - e).abs() <= 1e-4, "{} is not {}", f, e);
        }
        Ok(())
    }

    /// What every operation makes of a code.
    fn all(code: &SparseCode, grad: &Tensor<2>, input: &Tensor<2>, w_dec: &Tensor<2>, n: usize) -> Made {
        let value_grads = value_gradients(grad.clone(), code.clone(), w_dec.clone(), None);
        let zeros = || Tensor::from_data(vec![0_i32; n].as_slice(), &Device::flex());
        let counters = Counters { since_fired: zeros(), fires: zeros() };
        let main = SparseGradient {
            code: code.clone(),
            value_grads: value_grads.clone(),
            output_grad: grad.clone(),
            levels: None,
        };
        let (g, counters) = latent_gradients(main, None, input.clone(), w_dec.clone(), counters, false);
        let b_dec = w_dec.clone().narrow(0, 0, 1).squeeze_dim(0);
        let (residual, squares) = residual(code.clone(), w_dec.clone(), b_dec, input.clone());
        Made {
            decoded: host(decode(code.clone(), w_dec.clone())),
            residual: host(residual),
            squares: host(squares),
            value_grads: host(value_grads),
            gradients: [host(g.w_enc), host(g.b_enc), host(g.w_dec)],
            counters: [host_int(counters.since_fired), host_int(counters.fires)],
        }
    }

    #[derive(PartialEq)]
    struct Made {
        decoded: Vec<f32>,
        residual: Vec<f32>,
        squares: Vec<f32>,
        value_grads: Vec<f32>,
        gradients: [Vec<f32>; 3],
        counters: [Vec<i32>; 2],
    }

    /// Rows of every kind: empty, full, and anything between.
    fn dense_code(n: usize) -> impl Strategy<Value = Vec<f32>> {
        let some = prop::collection::vec(prop_oneof![2 => Just(0.0), 1 => 0.1_f32..2.0, 1 => -2.0_f32..-0.1], n);
        let row = prop_oneof![1 => Just(vec![0.0; n]), 1 => prop::collection::vec(0.1_f32..2.0, n), 4 => some];
        prop::collection::vec(row, 1..50).prop_map(|rows| rows.concat())
    }

    proptest! {
        #[test]
        fn a_code_of_any_rows_does_what_the_dense_one_does(
            (n, d, z, grad, input, w_dec) in (1_usize..40, 1_usize..20).prop_flat_map(|(n, d)| {
                dense_code(n).prop_flat_map(move |z| {
                    let tokens = z.len() / n;
                    (Just(n), Just(d), Just(z), numbers(tokens * d), numbers(tokens * d), numbers(n * d))
                })
            }),
        ) {
            let tokens = z.len() / n;
            let code = SparseCode::from_dense(matrix(&z, [tokens, n])).unwrap();
            let [of_grad, of_input] = [&grad, &input].map(|x| matrix(x, [tokens, d]));
            let made = all(&code, &of_grad, &of_input, &matrix(&w_dec, [n, d]), n);

            let decoded = product(|t, j| z[t * n + j], |j, c| w_dec[j * d + c], [tokens, n, d]);
            close(&made.decoded, &decoded)?;
            let residual: Vec<f32> =
                decoded.iter().zip(&input).enumerate().map(|(at, (y, x))| y + w_dec[at % d] - x).collect();
            close(&made.residual, &residual)?;
            let squares: f32 = residual.iter().map(|r| r * r).sum();
            prop_assert!((made.squares.iter().sum::<f32>() / squares - 1.0).abs() < 1e-4);

            // The gradient of every value, of which those of the active ones count.
            let all_grads = product(|t, c| grad[t * d + c], |c, j| w_dec[j * d + c], [tokens, d, n]);
            let dz: Vec<f32> = all_grads.iter().zip(&z).map(|(&g, &z)| if z == 0.0 { 0.0 } else { g }).collect();
            let of_active: Vec<f32> = all_grads.iter().zip(&z).filter(|(_, z)| **z != 0.0).map(|(&g, _)| g).collect();
            close(&made.value_grads, &of_active)?;
            let [w_enc, b_enc, g_dec] = &made.gradients;
            close(w_enc, &product(|j, t| dz[t * n + j], |t, c| input[t * d + c], [n, tokens, d]))?;
            close(b_enc, &product(|j, t| dz[t * n + j], |_, _| 1.0, [n, tokens, 1]))?;
            close(g_dec, &product(|j, t| z[t * n + j], |t, c| grad[t * d + c], [n, tokens, d]))?;

            let fires: Vec<i32> =
                (0..n).map(|j| (0..tokens).filter(|t| z[t * n + j] != 0.0).count() as i32).collect();
            let since: Vec<i32> = fires.iter().map(|&f| if f > 0 { 0 } else { tokens as i32 }).collect();
            prop_assert_eq!(made.counters, [since, fires]);
        }

        #[test]
        fn rows_of_one_length_have_the_same_bits_whichever_way_they_are_held(
            (n, k, d, order, values, grad, input, w_dec) in (1_usize..30, 1_usize..20, 1_usize..40)
                .prop_flat_map(|(n, d, tokens)| (1..=n).prop_flat_map(move |k| (
                    Just(n),
                    Just(k),
                    Just(d),
                    prop::collection::vec(prop::sample::subsequence((0..n as i32).collect::<Vec<_>>(), k), tokens),
                    prop::collection::vec(prop_oneof![1 => Just(0.0), 3 => 0.1_f32..2.0], tokens * k),
                    numbers(tokens * d),
                    numbers(tokens * d),
                    numbers(n * d),
                ))),
        ) {
            let (tokens, indices) = (order.len(), order.concat());
            let device = Device::flex();
            let of_indices: Tensor<1, Int> = Tensor::from_data(indices.as_slice(), &device);
            let fixed = SparseCode::new(matrix(&values, [tokens, k]), of_indices.clone().reshape([tokens, k]), n);
            let starts: Vec<usize> = (0..=tokens).map(|token| token * k).collect();
            let values: Tensor<1> = Tensor::from_data(values.as_slice(), &device);
            let ragged = SparseCode::ragged(values, of_indices, &starts, n);
            let [grad, input] = [&grad, &input].map(|x| matrix(x, [tokens, d]));
            let w_dec = matrix(&w_dec, [n, d]);
            let [fixed, ragged] = [fixed, ragged].map(|code| all(&code.unwrap(), &grad, &input, &w_dec, n));
            prop_assert!(fixed == ragged);
        }
    }
}
