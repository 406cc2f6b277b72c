//! A sparse code on the device.

use assay_kernels::tensor::{contiguous, len};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernels::{CodeOf, RowsOf};

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
        Self { values, indices, starts, k, tokens }
    }

    /// The starts of the rows, or where the kernel doesn't look at them, something of their type.
    pub(super) fn starts(&self) -> &CubeTensor {
        self.starts.as_ref().unwrap_or(&self.indices)
    }

    pub(super) fn ragged(&self) -> bool {
        self.starts.is_some()
    }
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
