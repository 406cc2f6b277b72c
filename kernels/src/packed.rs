//! Matrices in the order in which Hopper's tensor cores read them: `[ceil(rows/128), columns/8, 128, 8]` in bf16.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::tensor::{cubes_for, empty, slice};

/// Rows of a tile.
pub const TILE: usize = 128;
/// Columns of a product of which one maximum is kept, where maxima are asked for.
pub const GROUP: usize = 32;
/// Units of a cube.
const UNITS: usize = 256;

/// A bf16 matrix in packed order.
#[derive(Clone)]
pub struct Packed {
    /// The buffer, `[tiles, chunks, 128, 8]`; rows beyond the last are not initialised.
    pub tensor: CubeTensor,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix, a multiple of 16.
    pub columns: usize,
}

/// A factor of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Left,
    /// The second, by its columns.
    Right,
}

impl Packed {
    /// Room for a matrix, not initialised.
    pub fn empty(like: &CubeTensor, rows: usize, columns: usize) -> Self {
        let tensor = empty(like, [rows.div_ceil(TILE), columns / 8, TILE, 8], DType::BF16);
        Self { tensor, rows, columns }
    }

    /// A contiguous f32 matrix, rounded to bf16 and packed.
    ///
    /// # Panics
    /// If the number of columns is not a multiple of 16.
    pub fn from_f32(x: &CubeTensor, rows: usize, columns: usize) -> Self {
        assert_eq!(columns % 16, 0, "a packed matrix has a multiple of 16 columns");
        let packed = Self::empty(x, rows, columns);
        let tiles = rows.div_ceil(TILE);
        // SAFETY: every unit checks its position against the number of rows.
        #[allow(unsafe_code)]
        unsafe {
            pack::launch_unchecked(
                &x.client,
                cubes_for(tiles * TILE * (columns / 8), UNITS),
                CubeDim::new_1d(UNITS as u32),
                slice(x, 4),
                slice(&packed.tensor, 8),
                rows,
                columns / 8,
            );
        }
        packed
    }

    /// A contiguous f32 matrix in three bf16 parts, x = high + middle + low to 24 bits, laid side by side so that one bf16 product of a
    /// left and a right matrix adds up the products of parts that matter, the smallest first.
    ///
    /// - Of two f32 matrices six: m·m + h·l + l·h + h·m + m·h + h·h. What is left out is below 2⁻²⁵ of the product.
    /// - Of an f32 matrix and one of bf16 values (`right_is_bf16`) three, which are all there are: l·h + m·h + h·h. The sum is the same
    ///   as of six.
    ///
    /// # Panics
    /// If the number of columns is not a multiple of 16.
    pub fn split(x: &CubeTensor, rows: usize, columns: usize, side: Side, right_is_bf16: bool) -> Self {
        assert_eq!(columns % 16, 0, "a packed matrix has a multiple of 16 columns");
        let packed = Self::empty(x, rows, if right_is_bf16 { 3 } else { 6 } * columns);
        let tiles = rows.div_ceil(TILE);
        // SAFETY: every unit checks its position against the number of rows.
        #[allow(unsafe_code)]
        unsafe {
            pack_split::launch_unchecked(
                &x.client,
                cubes_for(tiles * TILE * (columns / 8), UNITS),
                CubeDim::new_1d(UNITS as u32),
                slice(x, 4),
                slice(&packed.tensor, 8),
                rows,
                columns / 8,
                side == Side::Left,
                right_is_bf16,
            );
        }
        packed
    }
}

/// As [`pack`], in three parts, each written wherever the products want it.
#[cube(launch_unchecked)]
fn pack_split(
    x: &[Vector<f32, Const<4>>],
    packed: &mut [Vector<half::bf16, Const<8>>],
    rows: usize,
    chunks: usize,
    #[comptime] left: bool,
    #[comptime] right_is_bf16: bool,
) {
    let in_tile = ABSOLUTE_POS % TILE;
    let chunk = ABSOLUTE_POS / TILE % chunks;
    let tile = ABSOLUTE_POS / TILE / chunks;
    let row = tile * TILE + in_tile;
    if row < rows {
        let from = (row * chunks + chunk) * 2;
        let mut high = Vector::<half::bf16, Const<8>>::empty();
        let mut middle = Vector::<half::bf16, Const<8>>::empty();
        let mut low = Vector::<half::bf16, Const<8>>::empty();
        #[unroll]
        for half in 0..2usize {
            let values = x[from + half];
            #[unroll]
            for i in 0..4usize {
                let v = values.extract(i);
                let h = half::bf16::cast_from(v);
                let rest = v - f32::cast_from(h);
                let m = half::bf16::cast_from(rest);
                high.insert(half * 4 + i, h);
                middle.insert(half * 4 + i, m);
                low.insert(half * 4 + i, half::bf16::cast_from(rest - f32::cast_from(m)));
            }
        }
        let parts = comptime!(if right_is_bf16 { 3usize } else { 6usize });
        let to = (tile * parts * chunks + chunk) * TILE + in_tile;
        let step = chunks * TILE;
        packed[to + (parts - 1) * step] = high;
        if comptime!(right_is_bf16) {
            if comptime!(left) {
                packed[to] = low;
                packed[to + step] = middle;
            } else {
                packed[to] = high;
                packed[to + step] = high;
            }
        } else {
            packed[to] = middle;
            if comptime!(left) {
                packed[to + step] = high;
                packed[to + 2 * step] = low;
                packed[to + 3 * step] = high;
                packed[to + 4 * step] = middle;
            } else {
                packed[to + step] = low;
                packed[to + 2 * step] = high;
                packed[to + 3 * step] = middle;
                packed[to + 4 * step] = high;
            }
        }
    }
}

/// Neighbouring units take neighbouring rows of one chunk: 16 bytes each, next to each other in the packed order.
#[cube(launch_unchecked)]
fn pack(x: &[Vector<f32, Const<4>>], packed: &mut [Vector<half::bf16, Const<8>>], rows: usize, chunks: usize) {
    let in_tile = ABSOLUTE_POS % TILE;
    let chunk = ABSOLUTE_POS / TILE % chunks;
    let row = ABSOLUTE_POS / TILE / chunks * TILE + in_tile;
    if row < rows {
        let from = (row * chunks + chunk) * 2;
        let low = x[from];
        let high = x[from + 1];
        let mut out = Vector::<half::bf16, Const<8>>::empty();
        #[unroll]
        for i in 0..4usize {
            out.insert(i, half::bf16::cast_from(low.extract(i)));
            out.insert(i + 4, half::bf16::cast_from(high.extract(i)));
        }
        packed[ABSOLUTE_POS] = out;
    }
}
