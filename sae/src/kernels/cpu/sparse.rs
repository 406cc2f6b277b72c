//! Sparse codes on the CPU: decoding, and gradients as sums over each latent's tokens.

use burn::backend::Flex;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::nested::Rows;
use super::{ROWS, add_scaled, contiguous, dims2, dot, float_tensor, floats, floats_mut, ints, ints_mut, len, row_of};
use crate::code::HostRows;
use crate::kernels::{CodeOf, GradientOf, LevelsOf, RowsOf};

/// A sparse code, contiguous.
pub(super) struct Code {
    pub values: FlexTensor,
    pub indices: FlexTensor,
    rows: RowsOf<Flex>,
}

impl Code {
    pub(super) fn new(code: CodeOf<Flex>) -> Self {
        let rows = match code.rows {
            RowsOf::Each(k) => RowsOf::Each(k),
            RowsOf::Starts(starts) => RowsOf::Starts(contiguous(starts)),
        };
        Self { values: contiguous(code.values), indices: contiguous(code.indices), rows }
    }

    pub(super) fn rows(&self) -> HostRows<'_> {
        match &self.rows {
            RowsOf::Each(k) => HostRows::Each { k: *k, tokens: len(&self.values) / k },
            RowsOf::Starts(starts) => HostRows::Starts(ints(starts)),
        }
    }

    /// Brings the counters forward by the code's tokens.
    pub(super) fn count_fires(&self, since_fired: FlexTensor, fires: FlexTensor) -> (FlexTensor, FlexTensor) {
        let (mut since_fired, mut fires) = (contiguous(since_fired), contiguous(fires));
        let batch = self.rows().tokens();
        let (since, count) = (ints_mut(&mut since_fired), ints_mut(&mut fires));
        for since in since.iter_mut() {
            *since = since.saturating_add(batch as i32);
        }
        for (&value, &i) in floats(&self.values).iter().zip(ints(&self.indices)) {
            if value != 0.0 {
                since[i as usize] = 0;
                count[i as usize] = count[i as usize].saturating_add(1);
            }
        }
        (since_fired, fires)
    }
}

/// `Σ_j values[t, j] · w_dec[indices[t, j]]`
pub(super) fn decode(code: &Code, w_dec: &FlexTensor) -> FlexTensor {
    let (rows, [_, d]) = (code.rows(), dims2(w_dec));
    let (values, indices, w_dec) = (floats(&code.values), ints(&code.indices), floats(w_dec));
    let mut out = vec![0.0_f32; rows.tokens() * d];
    out.par_chunks_mut(d * ROWS).enumerate().for_each(|(task, out)| {
        for (row, out) in out.chunks_mut(d).enumerate() {
            let at = rows.of(task * ROWS + row);
            for (&value, &i) in values[at.clone()].iter().zip(&indices[at]) {
                if value != 0.0 {
                    add_scaled(out, value, row_of(w_dec, i as usize, d));
                }
            }
        }
    });
    float_tensor(out, [rows.tokens(), d])
}

/// Where the levels of latents end, contiguous, if they have output gradients of their own.
pub(super) struct Levels(Option<FlexTensor>);

impl Levels {
    pub(super) fn new(levels: LevelsOf<Flex>) -> Self {
        match levels {
            LevelsOf::One => Self(None),
            LevelsOf::Ends(ends) => Self(Some(contiguous(ends))),
        }
    }

    fn rows(&self, tokens: usize) -> Rows<'_> {
        self.0.as_ref().map_or(Rows::One, |ends| Rows::Levels { ends: ints(ends), tokens })
    }
}

/// `grad[t] · w_dec[indices[t, j]]` of the active entries
pub(super) fn value_gradients(grad: &FlexTensor, code: &Code, w_dec: &FlexTensor, levels: &Levels) -> FlexTensor {
    let (rows, [_, d]) = (code.rows(), dims2(w_dec));
    let (grad, w_dec) = (floats(grad), floats(w_dec));
    let (values, indices) = (floats(&code.values), ints(&code.indices));
    let of_latent = levels.rows(rows.tokens());
    let mut out = vec![0.0_f32; values.len()];
    of_tasks(&mut out, rows).into_par_iter().enumerate().for_each(|(task, mut out)| {
        for token in task * ROWS..rows.tokens().min((task + 1) * ROWS) {
            let at = rows.of(token);
            let (own, rest) = out.split_at_mut(at.len());
            for ((out, &value), &i) in own.iter_mut().zip(&values[at.clone()]).zip(&indices[at]) {
                if value != 0.0 {
                    let grad = row_of(grad, of_latent.of(i as usize, token), d);
                    *out = dot(grad, row_of(w_dec, i as usize, d));
                }
            }
            out = rest;
        }
    });
    let entries = out.len();
    float_tensor(out, [entries])
}

/// A number for each entry of a code, cut into those of [`ROWS`] tokens each.
fn of_tasks<'a>(mut entries: &'a mut [f32], rows: HostRows<'_>) -> Vec<&'a mut [f32]> {
    let tokens = rows.tokens();
    let mut out = Vec::with_capacity(tokens.div_ceil(ROWS));
    for first in (0..tokens).step_by(ROWS) {
        let (own, rest) = entries.split_at_mut(rows.start(tokens.min(first + ROWS)) - rows.start(first));
        out.push(own);
        entries = rest;
    }
    out
}

/// A code, the gradient of its values, and that of what it decodes to.
pub(super) struct Gradient {
    pub code: Code,
    value_grads: FlexTensor,
    output_grad: FlexTensor,
    levels: Levels,
}

impl Gradient {
    pub(super) fn new(gradient: GradientOf<Flex>) -> Self {
        Self {
            code: Code::new(gradient.code),
            value_grads: contiguous(gradient.value_grads),
            output_grad: contiguous(gradient.output_grad),
            levels: Levels::new(gradient.levels),
        }
    }

    /// Adds what the code contributes to the gradients of encoder, bias and decoder.
    pub(super) fn add_to(&self, [w_enc, b_enc, w_dec]: &mut [FlexTensor; 3], input: &FlexTensor) {
        let [n, d] = dims2(w_dec);
        let uses = Uses::new(&self.code, n);
        let (values, value_grads) = (floats(&self.code.values), floats(&self.value_grads));
        let (input, output_grad) = (floats(input), floats(&self.output_grad));
        let of_latent = self.levels.rows(self.code.rows().tokens());
        floats_mut(w_enc)
            .par_chunks_mut(d * ROWS)
            .zip(floats_mut(w_dec).par_chunks_mut(d * ROWS))
            .zip(floats_mut(b_enc).par_chunks_mut(ROWS))
            .enumerate()
            .for_each(|(task, ((w_enc, w_dec), b_enc))| {
                for (row, ((w_enc, w_dec), b_enc)) in
                    w_enc.chunks_mut(d).zip(w_dec.chunks_mut(d)).zip(b_enc).enumerate()
                {
                    let latent = task * ROWS + row;
                    for &Use { entry, token } in uses.of(latent) {
                        let (entry, token) = (entry as usize, token as usize);
                        add_scaled(w_enc, value_grads[entry], row_of(input, token, d));
                        add_scaled(w_dec, values[entry], row_of(output_grad, of_latent.of(latent, token), d));
                        *b_enc += value_grads[entry];
                    }
                }
            });
    }
}

/// Where each latent is active, in token order: the active entries of a code, sorted by latent.
pub(super) struct Uses {
    starts: Vec<u32>,
    uses: Vec<Use>,
}

/// An active entry, and the token that it belongs to.
#[derive(Clone, Copy, Default)]
pub(super) struct Use {
    pub entry: u32,
    token: u32,
}

impl Uses {
    pub(super) fn new(code: &Code, n: usize) -> Self {
        let (rows, values, indices) = (code.rows(), floats(&code.values), ints(&code.indices));
        let mut starts = vec![0_u32; n + 1];
        for (&value, &i) in values.iter().zip(indices) {
            starts[i as usize + 1] += u32::from(value != 0.0);
        }
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut uses = vec![Use::default(); starts[n] as usize];
        for token in 0..rows.tokens() {
            for entry in rows.of(token) {
                if values[entry] != 0.0 {
                    let slot = &mut next[indices[entry] as usize];
                    uses[*slot as usize] = Use { entry: entry as u32, token: token as u32 };
                    *slot += 1;
                }
            }
        }
        Self { starts, uses }
    }

    pub(super) fn of(&self, latent: usize) -> &[Use] {
        &self.uses[self.starts[latent] as usize..self.starts[latent + 1] as usize]
    }
}
