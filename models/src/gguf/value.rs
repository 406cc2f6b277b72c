//! Values of a GGUF file's keys. Strings and arrays stay in the file; what is kept of them is their place.

use std::ops::Range;

use super::reader::{Bad, Cursor};

/// How deep arrays of arrays may go; no known key has any.
const MAX_DEPTH: usize = 4;

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its first byte, that of its type, from the beginning of the file.
    pub at: usize,
    /// What it is.
    pub data: Data,
}

/// What a value is. Numbers of all widths are kept in the widest.
#[derive(Clone, Debug)]
pub enum Data {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32, f64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// The place of its bytes, which ought to be UTF-8.
    Text(Range<usize>),
    /// Values of one type, one after the other.
    Array {
        /// Of what.
        of: Type,
        /// How many.
        len: usize,
        /// Their place.
        bytes: Range<usize>,
    },
}

/// Types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Type {
    /// By the number that the format gives it.
    fn from_number(number: u32, at: usize) -> Result<Self, Bad> {
        use Type::{Array, Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        let all = [U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64];
        let found = usize::try_from(number).ok().and_then(|i| all.get(i));
        found
            .copied()
            .ok_or_else(|| Bad::damaged(at, format!("there is no type {number} of values; types are 0 to 12")))
    }

    /// Bytes of a value, if all of this type have as many.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }
}

impl Value {
    /// As a whole number that is not negative.
    pub fn unsigned(&self) -> Option<u64> {
        match self.data {
            Data::Unsigned(n) => Some(n),
            Data::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    /// Whether it is the number 0.
    pub(super) fn is_zero(&self) -> bool {
        match self.data {
            Data::Float(number) => number == 0.0,
            _ => self.unsigned() == Some(0),
        }
    }

    /// For messages.
    pub(super) fn what(&self) -> &'static str {
        match self.data {
            Data::Unsigned(_) => "a whole number",
            Data::Signed(_) => "a whole number with a sign",
            Data::Float(_) => "a floating-point number",
            Data::Bool(_) => "true or false",
            Data::Text(_) => "a string",
            Data::Array { .. } => "an array",
        }
    }
}

/// Reads a value with its type before it.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Value, Bad> {
    let at = cursor.at;
    let of = Type::from_number(cursor.u32("the type of a value")?, at)?;
    Ok(Value { at, data: read_as(of, cursor, 0)? })
}

/// Reads a value of a type.
pub(super) fn read_as(of: Type, cursor: &mut Cursor<'_>, depth: usize) -> Result<Data, Bad> {
    let Some(size) = of.size() else {
        return match of {
            Type::Text => cursor.string("a string").map(Data::Text),
            _ => read_array(cursor, depth),
        };
    };
    let at = cursor.at;
    let range = cursor.take(size, "a value")?;
    // Little endian: a shorter number is a longer one whose further bytes are zero.
    let mut wide = [0; 8];
    wide[..range.len()].copy_from_slice(&cursor.bytes[range]);
    let bits = u64::from_le_bytes(wide);
    Ok(match of {
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Data::Unsigned(bits),
        Type::I8 => Data::Signed(i64::from(bits as u8 as i8)),
        Type::I16 => Data::Signed(i64::from(bits as u16 as i16)),
        Type::I32 => Data::Signed(i64::from(bits as u32 as i32)),
        Type::I64 => Data::Signed(bits as i64),
        Type::F32 => Data::Float(f64::from(f32::from_bits(bits as u32))),
        Type::F64 => Data::Float(f64::from_bits(bits)),
        Type::Bool if bits <= 1 => Data::Bool(bits == 1),
        _ => return Err(Bad::damaged(at, format!("{bits} where true (1) or false (0) is expected"))),
    })
}

/// Steps over an array, whose elements are checked on the way as far as their lengths go.
fn read_array(cursor: &mut Cursor<'_>, depth: usize) -> Result<Data, Bad> {
    let at = cursor.at;
    if depth >= MAX_DEPTH {
        return Err(Bad::damaged(at, format!("arrays in arrays in arrays, more than {MAX_DEPTH} deep")));
    }
    let of = Type::from_number(cursor.u32("the type of an array")?, at)?;
    let len = cursor.u64("the length of an array")?;
    let bytes = if let Some(size) = of.size() {
        let what = format!("an array of {len} values");
        let size = len.checked_mul(size).ok_or_else(|| Bad::damaged(at, format!("{what} is larger than any file")))?;
        cursor.take(size, &what)?
    } else {
        let start = cursor.at;
        for _ in 0..len {
            read_as(of, cursor, depth + 1)?;
        }
        start..cursor.at
    };
    // The elements have at least a byte each and are in the file, so their number fits.
    let len = usize::try_from(len).map_err(|_| Bad::damaged(at, "an array of too many values"))?;
    Ok(Data::Array { of, len, bytes })
}
