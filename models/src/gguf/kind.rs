//! Number formats of tensors in GGUF files, to f32.

use rayon::prelude::*;

use super::blocks;

/// A number format: plain floats, or blocks of small integers with scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are what ggml calls them")]
#[expect(non_camel_case_types, reason = "they are what ggml calls them")]
pub enum TensorType {
    F32,
    F16,
    BF16,
    F64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Blocks that a thread widens at a time.
const BLOCKS: usize = 1024;

/// The formats' numbers in files and their names, those that are not read too (ggml's `ggml_type`).
const NAMES: [(u32, &str); 38] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (4, "Q4_2"),
    (5, "Q4_3"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (30, "BF16"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl TensorType {
    /// All that are read.
    pub const ALL: [Self; 12] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F64,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// By its number in files; else why it can't be read.
    pub(super) fn from_number(number: u32) -> Result<Self, String> {
        let name = NAMES.iter().find(|(n, _)| *n == number).map(|&(_, name)| name);
        if let Some(kind) = name.and_then(|name| Self::ALL.into_iter().find(|kind| kind.name() == name)) {
            return Ok(kind);
        }
        let what = name.map_or_else(|| format!("of unknown number ({number})"), str::to_owned);
        let known = Self::ALL.map(Self::name).join(", ");
        Err(format!("number format {what} is not read; {known} are: take another quantisation of the model"))
    }

    /// What ggml calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F64 => "F64",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// Elements of a block; rows are whole blocks.
    pub fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 | Self::F64 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::F64 => 8,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes of so many elements; `None` if they are no whole blocks or the number is too large.
    pub fn bytes_of(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block()) {
            return None;
        }
        (elements / self.block()).checked_mul(self.block_bytes())
    }

    /// The values of whole blocks as f32. Each has the bits that llama.cpp's reference code (`ggml-quants.c`) and the
    /// Python package `gguf` give it: products and sums are rounded in the same order.
    pub fn widen(self, bytes: &[u8]) -> Vec<f32> {
        self.of_blocks(Widened(bytes))
    }

    /// The first value of whole blocks that is NaN or infinite as f32, with its place.
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<(usize, f32)> {
        self.of_blocks(NotFinite(bytes))
    }

    fn of_blocks<T: OfBlocks>(self, task: T) -> T::Out {
        match self {
            Self::F32 => task.with(blocks::f32),
            Self::F16 => task.with(blocks::f16),
            Self::BF16 => task.with(blocks::bf16),
            Self::F64 => task.with(blocks::f64),
            Self::Q4_0 => task.with(blocks::q4_0),
            Self::Q4_1 => task.with(blocks::q4_1),
            Self::Q5_0 => task.with(blocks::q5_0),
            Self::Q5_1 => task.with(blocks::q5_1),
            Self::Q8_0 => task.with(blocks::q8_0),
            Self::Q4_K => task.with(blocks::q4_k),
            Self::Q5_K => task.with(blocks::q5_k),
            Self::Q6_K => task.with(blocks::q6_k),
        }
    }
}

/// What is done with blocks of B bytes and N numbers, given how one of them is widened.
trait OfBlocks {
    type Out;

    fn with<const B: usize, const N: usize>(self, widen: fn(&[u8; B], &mut [f32; N])) -> Self::Out;
}

/// All of these bytes' numbers.
struct Widened<'a>(&'a [u8]);

impl OfBlocks for Widened<'_> {
    type Out = Vec<f32>;

    fn with<const B: usize, const N: usize>(self, widen: fn(&[u8; B], &mut [f32; N])) -> Vec<f32> {
        let (blocks, _) = self.0.as_chunks::<B>();
        let mut values = vec![0.0; blocks.len() * N];
        let (places, _) = values.as_chunks_mut::<N>();
        places.par_chunks_mut(BLOCKS).zip(blocks.par_chunks(BLOCKS)).for_each(|(places, blocks)| {
            for (place, block) in places.iter_mut().zip(blocks) {
                widen(block, place);
            }
        });
        values
    }
}

/// The first of these bytes' numbers that is NaN or infinite; none is kept.
struct NotFinite<'a>(&'a [u8]);

impl OfBlocks for NotFinite<'_> {
    type Out = Option<(usize, f32)>;

    fn with<const B: usize, const N: usize>(self, widen: fn(&[u8; B], &mut [f32; N])) -> Option<(usize, f32)> {
        let (blocks, _) = self.0.as_chunks::<B>();
        let in_block = |(number, block): (usize, &[u8; B])| {
            let mut values = [0.0; N];
            widen(block, &mut values);
            values.iter().position(|value| !value.is_finite()).map(|at| (number * N + at, values[at]))
        };
        let in_part = |(part, blocks): (usize, &[[u8; B]])| (part * BLOCKS..).zip(blocks).find_map(in_block);
        blocks.par_chunks(BLOCKS).enumerate().find_map_first(in_part)
    }
}
