//! A sparse code on the device.

use assay_kernels::tensor::{contiguous, len};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::gradients::marks::Marks;
use crate::kernels::{CodeOf, LevelsOf, MarksOf, RowsOf, TableOf};

/// A sparse code, contiguous. Kernels are compiled for rows of one length, which they need not read, or for rows of any.
#[derive(Clone)]
pub(super) struct Code {
    pub values: CubeTensor,
    pub indices: CubeTensor,
    /// `[tokens + 1]`; `None`: every row has `k` entries.
    starts: Option<CubeTensor>,
    /// Not looked at where there are starts.
    pub k: usize,
    pub tokens: usize,
    marks: Option<Marks>,
}

impl Code {
    pub(super) fn new(code: CodeOf<CubeBackend>) -> Self {
        let (values, indices) = (contiguous(code.values), contiguous(code.indices));
        let (starts, k, tokens) = match code.rows {
            RowsOf::Each(k) => (None, k, len(&values) / k),
            RowsOf::Starts(starts) => {
                let tokens = len(&starts) - 1;
                (Some(contiguous(starts)), 0, tokens)
            }
        };
        let marks = match code.marks {
            MarksOf::Unknown => None,
            MarksOf::Known(TableOf { bits, counts }) => Some(Marks { bits, counts }),
        };
        Self { values, indices, starts, k, tokens, marks }
    }

    /// The tokens of each of `n` latents.
    pub(super) fn marks(&self, n: usize) -> Marks {
        self.marks.clone().unwrap_or_else(|| Marks::new(self, n))
    }

    /// The starts of the rows, or where the kernel doesn't look at them, something of their type.
    pub(super) fn starts(&self) -> &CubeTensor {
        self.starts.as_ref().unwrap_or(&self.indices)
    }

    pub(super) fn ragged(&self) -> bool {
        self.starts.is_some()
    }
}

/// Where the levels of latents end that have output gradients of their own. Kernels are compiled for one gradient for all, or for levels.
#[derive(Clone)]
pub(super) struct Levels(Option<CubeTensor>);

impl Levels {
    pub(super) fn new(levels: LevelsOf<CubeBackend>) -> Self {
        match levels {
            LevelsOf::One => Self(None),
            LevelsOf::Ends(ends) => Self(Some(contiguous(ends))),
        }
    }

    /// The ends, or where the kernel doesn't look at them, something of their type.
    pub(super) fn ends<'a>(&'a self, code: &'a Code) -> &'a CubeTensor {
        self.0.as_ref().unwrap_or(&code.indices)
    }

    pub(super) fn nested(&self) -> bool {
        self.0.is_some()
    }
}

/// The first row of the output gradient that belongs to a latent's level: of the level after l levels, l·tokens.
#[cube]
pub(super) fn first_row(ends: &[i32], latent: i32, tokens: usize, #[comptime] nested: bool) -> usize {
    let mut row = 0usize;
    if comptime!(nested) {
        // The last level ends behind every latent.
        let mut level = 0usize;
        while ends[level] <= latent {
            level += 1usize;
            row += tokens;
        }
    }
    row
}

/// Where the entries of a token begin; of the token after the last, where they all end.
#[cube]
pub(super) fn row_start(starts: &[i32], token: usize, k: usize, #[comptime] ragged: bool) -> usize {
    if comptime!(ragged) { usize::cast_from(starts[token]) } else { token * k }
}

/// The token that an entry belongs to: the last whose entries begin at it or before.
#[cube]
pub(super) fn token_of(starts: &[i32], entry: usize, k: usize, tokens: usize, #[comptime] ragged: bool) -> usize {
    if comptime!(ragged) {
        let mut low = 0usize;
        let mut high = tokens - 1;
        while low < high {
            let middle = (low + high + 1) / 2;
            if usize::cast_from(starts[middle]) <= entry {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    } else {
        entry / k
    }
}
