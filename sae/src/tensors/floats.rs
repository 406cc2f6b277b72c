//! Floats of any width, read as f32 a piece at a time, so that a tensor is in memory once however large its file is.

use std::io::{self, Read};

use half::{bf16, f16};

/// The number format of floats in a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

/// What reading floats can meet.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The file can't be read.
    Io(io::Error),
    /// NaN or infinity.
    NotFinite {
        /// The value.
        value: f32,
        /// Where it is in the file's order.
        index: usize,
    },
}

/// Elements read at once.
const PIECE: usize = 1 << 16;

impl Float {
    /// Bytes of an element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The elements of some bytes.
    fn widen(self, bytes: &[u8], out: &mut Vec<f32>) {
        let two = |b: &[u8]| [b[0], b[1]];
        match self {
            Self::F16 => out.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes(two(b)).to_f32())),
            Self::Bf16 => out.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes(two(b)).to_f32())),
            Self::F32 => {
                out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
            Self::F64 => out.extend(
                bytes
                    .chunks_exact(8)
                    .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
            ),
        }
    }

    /// `count` elements, all finite. Memory grows with what the file has.
    pub(crate) fn read(self, from: &mut impl Read, count: usize) -> Result<Vec<f32>, Unread> {
        let mut values = Vec::new();
        self.pieces(from, count, PIECE, |piece| values.extend_from_slice(piece))?;
        Ok(values)
    }

    /// The transpose of a matrix `[rows, cols]`, row-major, all finite: `[cols, rows]`.
    pub(crate) fn read_transposed(self, from: &mut impl Read, [rows, cols]: [usize; 2]) -> Result<Vec<f32>, Unread> {
        // A few whole rows at a time: their elements lie together in the columns that they go to.
        let together = (PIECE / cols.max(1)).clamp(1, 64);
        let mut out = vec![0.0; rows * cols];
        let mut row = 0;
        self.pieces(from, rows * cols, together * cols, |piece| {
            let lines = piece.len() / cols;
            for col in 0..cols {
                let to = &mut out[col * rows + row..col * rows + row + lines];
                for (line, to) in to.iter_mut().enumerate() {
                    *to = piece[line * cols + col];
                }
            }
            row += lines;
        })?;
        Ok(out)
    }

    fn pieces(
        self,
        from: &mut impl Read,
        count: usize,
        piece: usize,
        mut see: impl FnMut(&[f32]),
    ) -> Result<(), Unread> {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < count {
            let len = piece.min(count - at);
            bytes.resize(len * self.size(), 0);
            from.read_exact(&mut bytes).map_err(Unread::Io)?;
            values.clear();
            self.widen(&bytes, &mut values);
            if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
                return Err(Unread::NotFinite { value: values[bad], index: at + bad });
            }
            see(&values);
            at += len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_floats_widen_exactly() {
        let values = [0.0_f32, -1.5, 65504.0, 6.103_515_6e-5];
        let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        assert_eq!(Float::F16.read(&mut halves.as_slice(), 4).unwrap(), values);
        let brains: Vec<u8> = [1.0_f32, -3.5].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        assert_eq!(Float::Bf16.read(&mut brains.as_slice(), 2).unwrap(), [1.0, -3.5]);
        assert_eq!(Float::F64.read(&mut 1e-3_f64.to_le_bytes().as_slice(), 1).unwrap(), [1e-3_f32]);
    }

    #[test]
    fn a_matrix_is_transposed_while_it_is_read() {
        for (rows, cols) in [(1, 1), (3, 2), (70, 5), (130, 1), (2, PIECE + 3), (0, 4), (4, 0)] {
            let at = |row: usize, col: usize| (row * cols + col) as f32;
            let bytes: Vec<u8> = (0..rows * cols).flat_map(|i| (i as f32).to_le_bytes()).collect();
            let found = Float::F32.read_transposed(&mut bytes.as_slice(), [rows, cols]).unwrap();
            let expected: Vec<f32> = (0..cols).flat_map(|col| (0..rows).map(move |row| at(row, col))).collect();
            assert!(found == expected, "{rows}×{cols}");
        }
    }

    #[test]
    fn what_is_not_finite_or_not_there_is_said() {
        let mut values = vec![1.0_f32; PIECE + 10];
        values[PIECE + 4] = f32::NAN;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        for transposed in [false, true] {
            let mut from = bytes.as_slice();
            let found = match transposed {
                false => Float::F32.read(&mut from, values.len()),
                true => Float::F32.read_transposed(&mut from, [values.len() / 2, 2]),
            };
            assert!(matches!(found, Err(Unread::NotFinite { index, .. }) if index == PIECE + 4));
        }
        assert!(matches!(Float::F32.read(&mut &bytes[..7], 2), Err(Unread::Io(_))));
    }
}
