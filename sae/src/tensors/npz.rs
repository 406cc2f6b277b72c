//! numpy's archives (`numpy.savez`): a zip of `.npy` arrays, stored or deflated, of which one is read at a time.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::npy::Header;
use super::{Float, is_lfs_pointer, open};
use crate::error::{Result, SaeError};

/// An archive.
pub(crate) struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

/// Bytes that deflate makes of one at most (zlib's documentation, "Maximum Expansion Factor").
const MOST_EXPANDED: u64 = 1032;

impl Npz {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let mut begin = Vec::new();
        (&file).take(128).read_to_end(&mut begin).map_err(|e| SaeError::read(path, e))?;
        if is_lfs_pointer(&begin) {
            return Err(SaeError::LfsPointer { path: path.to_owned() });
        }
        let archive = ZipArchive::new(BufReader::with_capacity(1 << 20, file)).map_err(|e| damaged(path, &e))?;
        Ok(Self { path: path.to_owned(), archive })
    }

    /// Whether there is an array of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&member(name)).is_some()
    }

    /// The shape of a matrix.
    pub(crate) fn matrix_shape(&mut self, name: &str) -> Result<[usize; 2]> {
        let path = self.path.clone();
        let (header, ..) = self.array(name)?;
        <[usize; 2]>::try_from(header.shape)
            .map_err(|shape| SaeError::config(&path, format!("`{name}` has shape {shape:?}; a matrix is expected")))
    }

    /// An array as f32.
    pub(crate) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.read(name, shape, false)
    }

    /// A matrix `[rows, cols]` that the archive holds transposed, `[cols, rows]`.
    pub(crate) fn transposed(&mut self, name: &str, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        self.read(name, &[cols, rows], true)
    }

    fn read(&mut self, name: &str, shape: &[usize], transpose: bool) -> Result<Vec<f32>> {
        let path = self.path.clone();
        let (Header { fortran_order, shape: found, .. }, float, mut from) = self.array(name)?;
        if found != shape {
            return Err(SaeError::config(&path, format!("`{name}` has shape {found:?}; {shape:?} is expected")));
        }
        let values = match *shape {
            // In Fortran's order the transpose is what is stored.
            [rows, cols] if fortran_order != transpose => {
                float.read_transposed(&mut from, if fortran_order { [cols, rows] } else { [rows, cols] })
            }
            _ if fortran_order && shape.len() > 2 => {
                let why =
                    format!("`{name}` has shape {shape:?} in Fortran's order, which is supported for matrices only");
                return Err(SaeError::config(&path, why));
            }
            _ => float.read(&mut from, shape.iter().product()),
        };
        let values = values.map_err(|e| SaeError::unread(&path, name, e))?;
        // At the end its checksum is compared.
        match from.read(&mut [0]) {
            Ok(0) => Ok(values),
            Ok(_) => Err(SaeError::config(&path, format!("`{name}` is longer than its shape says"))),
            Err(e) => Err(SaeError::read(&path, e)),
        }
    }

    /// An array's header, and its numbers to be read; their size is what the shape says.
    fn array(&mut self, name: &str) -> Result<(Header, Float, ZipFile<'_, BufReader<File>>)> {
        let path = &self.path;
        let refused = |why: String| SaeError::config(path, format!("`{name}`: {why}"));
        let mut file = match self.archive.by_name(&member(name)) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => {
                return Err(SaeError::MissingTensor {
                    path: path.clone(),
                    name: name.to_owned(),
                    config: "its layout",
                });
            }
            Err(e) => return Err(damaged(path, &e)),
        };
        let most = match file.compression() {
            CompressionMethod::Stored => file.compressed_size(),
            CompressionMethod::Deflated => file.compressed_size().saturating_mul(MOST_EXPANDED),
            other => return Err(refused(format!("compressed as {other}; stored and deflated arrays are read"))),
        };
        let size = file.size();
        if size > most {
            return Err(refused(format!("its {} bytes can't hold the {size} that it claims", file.compressed_size())));
        }
        let header = Header::read(&mut file).map_err(refused)?;
        let float = header.float().map_err(refused)?;
        let count = header.count().and_then(|count| count.checked_mul(float.size()));
        if count.and_then(|bytes| header.len.checked_add(bytes as u64)) != Some(size) {
            return Err(refused(format!(
                "{size} bytes are not the array of shape {:?} that its header names",
                header.shape
            )));
        }
        Ok((header, float, file))
    }
}

/// The name of an array's file in an archive.
fn member(name: &str) -> String {
    format!("{name}.npy")
}

fn damaged(path: &Path, why: &ZipError) -> SaeError {
    SaeError::config(path, format!("not a complete archive of numpy ({why}); copy or download it again"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// An array's file; values are 0, 1, 2 …
    fn npy(shape: &str, count: usize, fortran: &str) -> Vec<u8> {
        let text = format!("{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes.extend((0..count).flat_map(|i| (i as f32).to_le_bytes()));
        bytes
    }

    fn archive(method: CompressionMethod, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn open(bytes: &[u8]) -> Result<(tempfile::TempDir, Npz)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("params.npz");
        std::fs::write(&path, bytes).unwrap();
        Npz::open(&path).map(|npz| (dir, npz))
    }

    #[test]
    fn matrices_are_read_in_both_orders() {
        let by_rows = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let by_columns = [0.0, 2.0, 4.0, 1.0, 3.0, 5.0];
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let bytes = archive(
                method,
                &[
                    ("C.npy", npy("(2, 3)", 6, "False")),
                    ("F.npy", npy("(2, 3)", 6, "True")),
                    ("v.npy", npy("(3,)", 3, "True")),
                ],
            );
            let (_dir, mut npz) = open(&bytes).unwrap();
            assert!(npz.has("C") && !npz.has("D"));
            assert_eq!(npz.matrix_shape("F").unwrap(), [2, 3]);
            assert_eq!(npz.floats("C", &[2, 3]).unwrap(), by_rows);
            assert_eq!(npz.transposed("C", [3, 2]).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
            // Stored column by column: 0 and 1 are the first column.
            assert_eq!(npz.floats("F", &[2, 3]).unwrap(), by_columns);
            assert_eq!(npz.transposed("F", [3, 2]).unwrap(), by_rows);
            assert_eq!(npz.floats("v", &[3]).unwrap(), [0.0, 1.0, 2.0]);
            assert!(npz.floats("C", &[3, 2]).unwrap_err().to_string().contains("[2, 3]; [3, 2] is expected"));
        }
    }

    /// As zip64 has it: sizes and offsets of 64 bits, and the marks of 32 that say so.
    #[test]
    fn archives_of_more_than_four_gigabytes_are_read_in_their_own_way() {
        let plain = archive(CompressionMethod::Stored, &[("v.npy", npy("(3,)", 3, "False"))]);
        let size = npy("(3,)", 3, "False").len() as u64;
        let central = plain.windows(4).position(|w| w == *b"PK\x01\x02").unwrap();
        let end = plain.windows(4).position(|w| w == *b"PK\x05\x06").unwrap();
        let mut bytes = plain[..central].to_vec();
        let mut entry = plain[central..end].to_vec();
        let name_len = usize::from(u16::from_le_bytes([entry[28], entry[29]]));
        entry.truncate(46 + name_len);
        entry[20..28].fill(0xff);
        entry[42..46].fill(0xff);
        entry[30..32].copy_from_slice(&28_u16.to_le_bytes());
        entry.extend([1, 0, 24, 0]);
        for number in [size, size, 0] {
            entry.extend(number.to_le_bytes());
        }
        let (at, len) = (bytes.len() as u64, entry.len() as u64);
        bytes.extend(&entry);
        let record = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44_u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [1, 1, len, at] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(record.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([0xff; 12]);
        bytes.extend([0, 0]);
        let (_dir, mut npz) = open(&bytes).unwrap();
        assert_eq!(npz.floats("v", &[3]).unwrap(), [0.0, 1.0, 2.0]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |bytes: &[u8]| match open(bytes) {
            Err(error) => error.to_string(),
            Ok((_dir, mut npz)) => npz.floats("v", &[3]).unwrap_err().to_string(),
        };
        let of = |array: Vec<u8>| archive(CompressionMethod::Stored, &[("v.npy", array)]);
        assert!(refused(&of(npy("(3,)", 4, "False"))).contains("not the array of shape [3]"));
        assert!(refused(&of(npy("(3,)", 2, "False"))).contains("not the array of shape [3]"));
        assert!(refused(&of(npy("(4611686018427387904, 4)", 3, "False"))).contains("not the array"));
        assert!(refused(&of(b"rubbish that is no array".to_vec())).contains("no array of numpy"));
        assert!(refused(&archive(CompressionMethod::Stored, &[])).contains("`v` is missing"));
        assert!(refused(b"PK\x05\x06").contains("not a complete archive"));
        assert!(refused(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
        // One bit of a number is another: the checksum says so.
        let mut bytes = of(npy("(3,)", 3, "False"));
        let header = bytes.windows(4).position(|w| w == *b"PK\x01\x02").unwrap();
        bytes[header - 1] ^= 1;
        let dir_and_npz = open(&bytes);
        assert!(dir_and_npz.is_err() || dir_and_npz.unwrap().1.floats("v", &[3]).is_err());
        let mut infinite = npy("(3,)", 3, "False");
        let len = infinite.len();
        infinite[len - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        assert!(refused(&of(infinite)).contains("inf at element 2"));
    }
}
