//! The header of a GGUF file: key-values, and where each tensor lies.
//!
//! The layout is that of ggml's specification (`docs/gguf.md` in ggml-org/ggml), versions 2 and 3. Nothing in the header is
//! believed: lengths are checked against the file before they are used, sums and products against overflow, and no count
//! makes anything be allocated before the bytes that it counts have been seen.

use std::collections::BTreeMap;
use std::ops::Range;

use super::kind::TensorType;
use super::value::{self, Value};

/// What is wrong in a file, and at which byte.
#[derive(Debug)]
pub(super) struct Bad {
    pub at: usize,
    pub why: String,
}

impl Bad {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }

    /// Of contents that no program writes.
    pub(super) fn damaged(at: usize, why: impl std::fmt::Display) -> Self {
        Self { at, why: format!("{why}; the file is damaged or incomplete, download or copy it again") }
    }

    fn inside(self, what: impl std::fmt::Display) -> Self {
        Self { at: self.at, why: format!("{what}: {}", self.why) }
    }
}

/// What stands before the data of the tensors.
pub(super) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// A tensor's shape, its number format and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Row-major, as safetensors has it: the last dimension is the one whose elements are neighbours (ggml's `ne[0]`).
    pub shape: Vec<usize>,
    /// How numbers are stored.
    pub kind: TensorType,
    /// Where, from the beginning of the file.
    pub bytes: Range<usize>,
}

/// Where a tensor's description stands, and what it says.
struct Description {
    name: String,
    at: usize,
    shape: Vec<usize>,
    kind: TensorType,
    offset: u64,
    len: usize,
}

/// A place in the bytes, which moves on as they are read.
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Cursor<'_> {
    /// The place of the next `len` bytes, which are then behind the cursor.
    pub(super) fn take(&mut self, len: u64, what: &str) -> Result<Range<usize>, Bad> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(len) {
            Ok(len) if len <= left => {
                let start = self.at;
                self.at += len;
                Ok(start..self.at)
            }
            _ => Err(Bad::damaged(self.at, format!("{what} of {len} bytes where the file has {left} left"))),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Bad> {
        let range = self.take(N as u64, what)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[range]);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Bad> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Bad> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The place of a string's bytes, whose length stands before them.
    pub(super) fn string(&mut self, what: &str) -> Result<Range<usize>, Bad> {
        let len = self.u64("the length of a string")?;
        self.take(len, what)
    }

    /// A string that names something.
    fn name(&mut self, what: &str) -> Result<String, Bad> {
        let range = self.string(what)?;
        let name = std::str::from_utf8(&self.bytes[range.clone()]);
        name.map(str::to_owned).map_err(|_| Bad::damaged(range.start, format!("{what} is not UTF-8")))
    }
}

/// Reads the header of a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, Bad> {
    let mut cursor = Cursor { bytes, at: 0 };
    check_version(&mut cursor)?;
    let tensors = cursor.u64("the number of tensors")?;
    let keys = cursor.u64("the number of keys")?;
    let mut metadata = BTreeMap::new();
    for i in 0..keys {
        let at = cursor.at;
        let key = cursor.name("a key").map_err(|e| e.inside(format!("key {i} of {keys}")))?;
        let value = value::read(&mut cursor).map_err(|e| e.inside(format!("key `{key}`")))?;
        if metadata.contains_key(&key) {
            return Err(Bad::damaged(at, format!("key `{key}` is there twice")));
        }
        metadata.insert(key, value);
    }
    check_whole(&metadata)?;
    let mut descriptions = Vec::new();
    for i in 0..tensors {
        descriptions.push(describe(&mut cursor, i, tensors)?);
    }
    let tensors = place(descriptions, &cursor, alignment(&metadata)?)?;
    Ok(Header { metadata, tensors })
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<(), Bad> {
    if !cursor.bytes.starts_with(b"GGUF") {
        return Err(Bad::new(0, "not a GGUF file: it does not begin with the letters GGUF"));
    }
    cursor.at = 4;
    match cursor.u32("the version")? {
        2 | 3 => Ok(()),
        1 => Err(Bad::new(
            4,
            "GGUF of version 1, which was written for a few weeks in 2023; versions 2 and 3 are read: convert the model again with a newer llama.cpp",
        )),
        // Versions are small: in the other byte order the number is in the upper half.
        other if other & 0xffff == 0 => Err(Bad::new(
            4,
            "GGUF in big-endian byte order; only little-endian files are read, convert the model again",
        )),
        other => Err(Bad::new(4, format!("GGUF of version {other}; versions 2 and 3 are read"))),
    }
}

/// Refuses a part of a model.
fn check_whole(metadata: &BTreeMap<String, Value>) -> Result<(), Bad> {
    match metadata.get("split.count") {
        Some(value) if value.unsigned() != Some(0) && value.unsigned() != Some(1) => Err(Bad::new(
            value.at,
            "the file is one of several that a model is split into (`split.count`); put them together with `llama-gguf-split --merge FIRST.gguf WHOLE.gguf`",
        )),
        _ => Ok(()),
    }
}

/// What the places of tensors are multiples of.
fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, Bad> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(32) };
    match value.unsigned() {
        Some(alignment) if alignment.is_power_of_two() => Ok(alignment),
        _ => Err(Bad::damaged(value.at, "`general.alignment` is not a power of two")),
    }
}

fn describe(cursor: &mut Cursor<'_>, i: u64, count: u64) -> Result<Description, Bad> {
    let at = cursor.at;
    let name = cursor.name("a name").map_err(|e| e.inside(format!("tensor {i} of {count}")))?;
    let inside = |e: Bad| e.inside(format!("tensor `{name}`"));
    let dims = cursor.u32("the number of dimensions").map_err(inside)?;
    if !(1..=4).contains(&dims) {
        return Err(inside(Bad::damaged(at, format!("{dims} dimensions; there are 1 to 4"))));
    }
    let mut shape = Vec::new();
    for _ in 0..dims {
        let n = cursor.u64("a dimension").map_err(inside)?;
        let n = usize::try_from(n).ok().filter(|&n| n > 0);
        shape.push(n.ok_or_else(|| inside(Bad::damaged(at, "a dimension of no possible size")))?);
    }
    let stored = cursor.u32("the number format").map_err(inside)?;
    let kind = TensorType::from_number(stored).map_err(|why| inside(Bad::new(at, why)))?;
    if !shape[0].is_multiple_of(kind.block()) {
        let why =
            format!("rows of {} elements, where {} is stored in blocks of {}", shape[0], kind.name(), kind.block());
        return Err(inside(Bad::damaged(at, why)));
    }
    let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    let len = elements.and_then(|n| kind.bytes_of(n));
    let len =
        len.ok_or_else(|| inside(Bad::damaged(at, format!("{shape:?} has more elements than memory has places"))))?;
    let offset = cursor.u64("the offset").map_err(inside)?;
    shape.reverse();
    Ok(Description { name, at, shape, kind, offset, len })
}

/// Finds the bytes of each tensor behind the header, and checks that none are of two.
fn place(
    descriptions: Vec<Description>,
    cursor: &Cursor<'_>,
    alignment: u64,
) -> Result<BTreeMap<String, TensorInfo>, Bad> {
    let file = cursor.bytes.len();
    // Without tensors nothing follows, and the file may end before the padding does.
    let data = (cursor.at as u64).checked_next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    let mut places = Vec::new();
    for Description { name, at, shape, kind, offset, len } in descriptions {
        let bad = |why: String| Bad::damaged(at, format!("tensor `{name}` {why}"));
        if !offset.is_multiple_of(alignment) {
            return Err(bad(format!("begins at {offset}, which is no multiple of the alignment {alignment}")));
        }
        let start = data.and_then(|data| data.checked_add(offset)).and_then(|start| usize::try_from(start).ok());
        let bytes = start.and_then(|start| Some(start..start.checked_add(len)?)).filter(|bytes| bytes.end <= file);
        let Some(bytes) = bytes else {
            return Err(bad(format!(
                "has {len} bytes at {offset} of the data, beyond the end of the file, which has {file} bytes in all"
            )));
        };
        places.push((bytes.start, bytes.end, at, name.clone()));
        if tensors.contains_key(&name) {
            return Err(bad("is there twice".to_owned()));
        }
        tensors.insert(name, TensorInfo { shape, kind, bytes });
    }
    places.sort_unstable();
    if let Some(pair) = places.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        let why = format!("tensors `{}` and `{}` share bytes", pair[0].3, pair[1].3);
        return Err(Bad::damaged(pair[1].2, why));
    }
    Ok(tensors)
}
