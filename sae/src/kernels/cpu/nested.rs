//! Codes decoded at several nested widths, and sums over the entries of each latent.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::sparse::{Code, Uses};
use super::{ROWS, add_scaled, dims2, dot, float_tensor, floats, ints, row_of};

/// Which output gradient belongs to a latent on a token.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// The token's, whatever the latent.
    One,
    /// The token's of the latent's level, of which each has that of so many tokens.
    Levels { ends: &'a [i32], tokens: usize },
}

impl Rows<'_> {
    pub(super) fn of(self, latent: usize, token: usize) -> usize {
        match self {
            Self::One => token,
            Self::Levels { ends, tokens } => ends.partition_point(|&end| end as usize <= latent) * tokens + token,
        }
    }
}

/// See [`crate::kernels::nested_residuals`].
pub(super) fn residuals(
    code: &Code,
    ends: &FlexTensor,
    [w_dec, b_dec, x]: [&FlexTensor; 3],
) -> (FlexTensor, FlexTensor) {
    let ([tokens, d], rows) = (dims2(x), code.rows());
    let (values, indices, ends) = (floats(&code.values), ints(&code.indices), ints(ends));
    let (w_dec, b_dec, x) = (floats(w_dec), floats(b_dec), floats(x));
    let of_token = |token: usize| {
        let mut entries = rows.of(token).peekable();
        let mut sum = vec![0.0_f32; d];
        let level = |&end: &i32| -> Vec<f32> {
            while let Some(entry) = entries.next_if(|&entry| indices[entry] < end) {
                if values[entry] != 0.0 {
                    add_scaled(&mut sum, values[entry], row_of(w_dec, indices[entry] as usize, d));
                }
            }
            sum.iter().zip(b_dec).zip(row_of(x, token, d)).map(|((sum, b), x)| sum + b - x).collect()
        };
        ends.iter().map(level).collect::<Vec<_>>()
    };
    let found: Vec<Vec<Vec<f32>>> = (0..tokens).into_par_iter().with_min_len(ROWS).map(of_token).collect();
    let residuals: Vec<f32> =
        (0..ends.len()).flat_map(|level| found.iter().flat_map(move |token| &token[level])).copied().collect();
    let squares: Vec<f32> = residuals.par_chunks(d).map(|row| dot(row, row)).collect();
    let count = squares.len();
    (float_tensor(residuals, [count, d]), float_tensor(squares, [count]))
}

/// See [`crate::kernels::nested_gradients`].
pub(super) fn gradients(residuals: &FlexTensor, output_grad: &FlexTensor, factor: f32) -> FlexTensor {
    let ([rows, d], last) = (dims2(residuals), floats(output_grad));
    let (residuals, size) = (floats(residuals), last.len());
    let mut out = last.repeat(rows * d / size);
    let mut sums = vec![0.0_f32; size];
    for (out, residuals) in out.chunks_mut(size).zip(residuals.chunks(size)).rev().skip(1) {
        out.par_iter_mut().zip(residuals).zip(&mut sums).with_min_len(1 << 12).for_each(|((out, residual), sum)| {
            *sum += residual;
            *out += factor * *sum;
        });
    }
    float_tensor(out, [rows, d])
}

/// See [`crate::kernels::latent_sums`]; the sums run in f64.
pub(super) fn sums(code: &Code, numbers: [&FlexTensor; 2], d_sae: usize) -> [FlexTensor; 2] {
    let uses = Uses::new(code, d_sae);
    numbers.map(|numbers| {
        let numbers = floats(numbers);
        let sum = |latent: usize| {
            let of_latent = uses.of(latent).iter().map(|of| f64::from(numbers[of.entry as usize]));
            of_latent.fold(0.0, |sum, number| sum + number) as f32
        };
        float_tensor((0..d_sae).into_par_iter().with_min_len(ROWS).map(sum).collect(), [d_sae])
    })
}

/// See [`crate::kernels::spread`].
pub(super) fn spread(code: &Code, numbers: &FlexTensor) -> FlexTensor {
    let (rows, numbers) = (code.rows(), floats(numbers));
    let mut out = vec![0.0_f32; floats(&code.values).len()];
    for token in 0..rows.tokens() {
        out[rows.of(token)].fill(numbers[token]);
    }
    let entries = out.len();
    float_tensor(out, [entries])
}
