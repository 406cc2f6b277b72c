//! The header of numpy's `.npy` (numpy.lib.format, versions 1 to 3): a magic, a length, and a Python dictionary with `descr`,
//! `fortran_order` and `shape`.

use std::io::Read;

use super::Float;

/// What is in an array's file before its numbers.
#[derive(Debug, PartialEq)]
pub struct Header {
    /// Bytes of all of it.
    pub len: u64,
    /// What its numbers are, as numpy writes it: `<f4`, `|b1`, `>i8`.
    pub descr: String,
    /// Whether the first dimension runs fastest.
    pub fortran_order: bool,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The longest header that is taken; numpy itself warns of more than 10,000 bytes.
const LONGEST: usize = 1 << 16;

impl Header {
    /// Whether a file that begins so is one of numpy's.
    pub fn is(begin: &[u8]) -> bool {
        begin.starts_with(MAGIC)
    }

    /// Reads it, and nothing of what follows.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(from: &mut impl Read) -> Result<Self, String> {
        let mut bytes = |len: usize| -> Result<Vec<u8>, String> {
            let mut bytes = vec![0; len];
            from.read_exact(&mut bytes).map_err(|e| format!("its header can't be read: {e}"))?;
            Ok(bytes)
        };
        let begin = bytes(8)?;
        if begin[..6] != MAGIC[..] {
            return Err("it is no array of numpy (.npy)".to_owned());
        }
        let wide = match begin[6] {
            1 => false,
            2 | 3 => true,
            version => return Err(format!("version {version} of .npy is not known; 1, 2 and 3 are")),
        };
        let length = bytes(if wide { 4 } else { 2 })?;
        let length = length.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        if length > LONGEST {
            return Err(format!("its header claims {length} bytes"));
        }
        let text = bytes(length)?;
        let text = std::str::from_utf8(&text).map_err(|_| "its header is not text".to_owned())?;
        let len = (8 + if wide { 4 } else { 2 } + length) as u64;
        let [descr, fortran_order, shape] = ["descr", "fortran_order", "shape"].map(|key| value(text, key));
        Ok(Self {
            len,
            descr: descr?.trim_matches(['\'', '"']).to_owned(),
            fortran_order: fortran_order.and_then(truth)?,
            shape: shape.and_then(tuple)?,
        })
    }

    /// Its numbers, if they are floats of this machine's order.
    pub(crate) fn float(&self) -> Result<Float, String> {
        match self.descr.as_str() {
            "<f2" => Ok(Float::F16),
            "<f4" => Ok(Float::F32),
            "<f8" => Ok(Float::F64),
            other => Err(format!("its numbers are '{other}'; '<f2', '<f4' and '<f8' are read")),
        }
    }

    /// Elements; `None` if they are more than a number holds.
    pub fn count(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n))
    }
}

/// The text of a key's value, up to where the next key or the end of the dictionary is.
fn value<'a>(text: &'a str, key: &str) -> Result<&'a str, String> {
    let of = |quote: char| text.split_once(&format!("{quote}{key}{quote}:"));
    let (_, rest) = of('\'').or_else(|| of('"')).ok_or_else(|| format!("its header has no `{key}`"))?;
    let rest = rest.trim_start();
    // A tuple has commas of its own.
    let end = if rest.starts_with('(') { rest.find(')').map(|at| at + 1) } else { rest.find([',', '}']) };
    end.map(|end| rest[..end].trim()).ok_or_else(|| format!("the `{key}` of its header does not end"))
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "True" => Ok(true),
        "False" => Ok(false),
        _ => Err(format!("its fortran_order is {text}; True or False is expected")),
    }
}

fn tuple(text: &str) -> Result<Vec<usize>, String> {
    let refused = || format!("its shape is {text}; a tuple of whole numbers is expected");
    let inside = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).ok_or_else(refused)?;
    let inside = inside.trim().strip_suffix(',').unwrap_or(inside.trim());
    if inside.is_empty() {
        return Ok(Vec::new());
    }
    inside.split(',').map(|number| number.trim().trim_end_matches('L').parse().map_err(|_| refused())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, dictionary: &str) -> Result<Header, String> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        let len = dictionary.len() as u32;
        bytes.extend(if version == 1 { len.to_le_bytes()[..2].to_vec() } else { len.to_le_bytes().to_vec() });
        bytes.extend(dictionary.bytes());
        Header::read(&mut bytes.as_slice())
    }

    #[test]
    fn headers_as_numpy_writes_them_are_read() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2304, 16384), }        \n";
        let expected = Header {
            len: 10 + text.len() as u64,
            descr: "<f4".to_owned(),
            fortran_order: false,
            shape: vec![2304, 16384],
        };
        assert_eq!(header(1, text).unwrap(), expected);
        assert_eq!(header(3, text).unwrap(), Header { len: 12 + text.len() as u64, ..expected });
        let python2 = header(1, "{'shape': (3L,), 'fortran_order': True, 'descr': '<f8'}").unwrap();
        assert_eq!((python2.float(), python2.shape, python2.fortran_order), (Ok(Float::F64), vec![3], true));
        assert_eq!(header(2, "{\"descr\":\"<f2\",\"fortran_order\":False,\"shape\":()}").unwrap().shape, [0_usize; 0]);
    }

    #[test]
    fn headers_of_anything_else_are_refused() {
        for (version, text, part) in [
            (4, "{}", "version 4"),
            (1, "{'descr': '<f4', 'shape': (2,)}", "no `fortran_order`"),
            (1, "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", "fortran_order is 0"),
            (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -1)}", "(2, -1)"),
            (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "whole numbers"),
            (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2", "does not end"),
        ] {
            let error = header(version, text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        for descr in ["'>f4'", "[('a', '<f4')]"] {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,)}}");
            let error = header(1, &text).unwrap().float().unwrap_err();
            assert!(error.contains("its numbers are"), "{error}");
        }
        assert!(Header::read(&mut &b"PK\x03\x04rubbish"[..]).unwrap_err().contains("no array"));
        assert!(Header::read(&mut &b"\x93NUM"[..]).unwrap_err().contains("can't be read"));
        assert!(Header::read(&mut &b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).unwrap_err().contains("4294967295"));
    }
}
