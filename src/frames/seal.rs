//! A hash of a Parquet file, in its own footer: a bit that flips on a disk or on a wire would change a number without a word.
//!
//! It is BLAKE3 of the whole file with zeros in the place of the hash. Other programs read the file as any other and see one key more; where they write it anew
//! without that key, nothing is checked.

#[cfg(feature = "workbench")]
use anyhow::{Context, Result};
#[cfg(feature = "workbench")]
use polars::io::parquet::write::KeyValueMetadata;

/// The key in the file's metadata.
pub const KEY: &str = "assay.blake3";
/// Digits of a hash.
const DIGITS: usize = 64;
/// What stands between the key and its value in the footer: in Thrift's compact protocol, the next field, of text, and its length.
const BETWEEN: [u8; 2] = [0x18, DIGITS as u8];

/// What a file is to be written with, to be sealed then.
#[cfg(feature = "workbench")]
pub fn unsealed() -> KeyValueMetadata {
    KeyValueMetadata::from_static(vec![(KEY.to_owned(), zeros())])
}

/// Puts the hash into a file that was written with [`unsealed`].
///
/// # Errors
/// If there is no place for it.
#[cfg(feature = "workbench")]
pub fn seal(file: &mut [u8]) -> Result<()> {
    let at = place(file).context("a Parquet file has its metadata")?;
    let hash = blake3::hash(file).to_hex();
    file[at..at + DIGITS].copy_from_slice(hash.as_bytes());
    Ok(())
}

/// Whether the bytes of a file are those that were sealed; `None` where it has no seal.
pub fn is_whole(file: &[u8]) -> Option<bool> {
    let at = place(file)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..at]).update(zeros().as_bytes()).update(&file[at + DIGITS..]);
    Some(hasher.finalize().to_hex().as_bytes() == &file[at..at + DIGITS])
}

fn zeros() -> String {
    "0".repeat(DIGITS)
}

/// Where the hash begins. The footer is the file's end, and its metadata is the last of it.
fn place(file: &[u8]) -> Option<usize> {
    let before = [KEY.as_bytes(), &BETWEEN].concat();
    let at = file.windows(before.len()).rposition(|bytes| bytes == before)? + before.len();
    (at + DIGITS <= file.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::columns::{frame, numbers, text, write_frame};
    use super::super::open;
    use super::*;

    /// Every bit of a file, its footer included.
    #[test]
    fn a_bit_that_flips_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.parquet");
        let columns = vec![
            text("id", ["a", "b", "c"].into_iter().map(str::to_owned)),
            numbers("r2", [Some(0.5), None, Some(-1.25)].into_iter()),
        ];
        write_frame(&path, frame(columns).unwrap()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(is_whole(&whole), Some(true));
        let found = open(&path).unwrap();
        let r2: Vec<Option<f64>> = found.column("r2").unwrap().f64().unwrap().iter().collect();
        assert_eq!(r2, [Some(0.5), None, Some(-1.25)]);
        let key = whole.windows(KEY.len()).rposition(|bytes| bytes == KEY.as_bytes()).unwrap();
        let mut unseen = 0;
        for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            // In the key's name and before its value a flip hides the hash, and changes no number.
            if is_whole(&damaged).is_none() {
                unseen += 1;
                assert!((key..key + KEY.len() + BETWEEN.len()).contains(&at), "byte {at}");
            } else {
                assert_eq!(is_whole(&damaged), Some(false), "byte {at}, bit {bit}");
            }
        }
        assert_eq!(unseen, 8 * (KEY.len() + BETWEEN.len()));
        let mut damaged = whole;
        damaged[20] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let error = format!("{:#}", open(&path).unwrap_err());
        assert!(error.contains("runs.parquet is damaged") && error.contains("assay gather"), "{error}");
    }
}
