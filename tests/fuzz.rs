//! Files that are damaged at random: each is refused or read, none ends in a panic. GGUF files and SAEs have such tests of their own beside
//! their readers, and so have the hub's listings.
//!
//! `ASSAY_FUZZ_SECONDS=600` runs each of the tests for so long, with other seeds; peak memory is checked then, and printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use assay::spec::SpecDocument;
use assay_models::tokens::Texts;
use assay_models::{ModelFiles, RowUse, TokenSource};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::{bundled, copy_dir, golden, root};

/// Kilobytes of memory that a long run may have taken at its peak, with the test binary itself.
const MAX_KB: u64 = 1 << 20;

/// What may stand where a value stood.
const VALUES: [&str; 22] = [
    "null",
    "true",
    "0",
    "1",
    "-1",
    "7",
    "0.5",
    "1e308",
    "4294967296",
    "9223372036854775807",
    "99999999999999999999",
    "nan",
    "-inf",
    "\"\"",
    "''",
    "\"../../etc/passwd\"",
    "\"/dev/zero\"",
    "[]",
    "[3]",
    "[[]]",
    "{}",
    "{ a = 1 }",
];
/// Numbers at the edges of what is sensible.
const EDGES: [u64; 9] = [0, 1, 255, 0x7fff_ffff, 0xffff_ffff, 1 << 33, 1 << 60, i64::MAX as u64, u64::MAX];

/// Damages a file in one to four places: a value of a text, or bytes anywhere, most often near the beginning and the end.
fn damage(file: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let len = bytes.len();
        if len == 0 {
            break;
        }
        let values: Vec<usize> = (1..len).filter(|&at| at < 100_000 && matches!(bytes[at - 1], b'=' | b':')).collect();
        if std::str::from_utf8(&bytes).is_ok() && !values.is_empty() && rng.random_bool(0.6) {
            let at = values[rng.random_range(0..values.len())];
            let end = bytes[at..].iter().position(|b| b",\n}]".contains(b)).map_or(len, |end| at + end);
            let value = VALUES[rng.random_range(0..VALUES.len())];
            bytes.splice(at..end, format!(" {value}").into_bytes());
            continue;
        }
        let at = match rng.random_range(0..4) {
            0 => rng.random_range(0..len.min(400)),
            1 => len - 1 - rng.random_range(0..len.min(4000)),
            _ => rng.random_range(0..len),
        };
        let end = (at + rng.random_range(1..48)).min(len);
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => {
                let width = [1, 2, 4, 8][rng.random_range(0..4)].min(len - at);
                let number = EDGES[rng.random_range(0..EDGES.len())];
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            3 => bytes.truncate(at),
            4 => {
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            5 => _ = bytes.drain(at..end),
            _ => bytes[at] = b"0123456789,:{}[]()\"'-="[rng.random_range(0..22)],
        }
    }
    bytes
}

/// Damages each of some files in turn, `mutations` times in all, and uses what is there.
#[expect(clippy::print_stderr, reason = "a long run says how much it tried")]
fn fuzz(mutations: u64, files: &[PathBuf], used: impl Fn(&Path) -> Result<()>) {
    let seconds = std::env::var("ASSAY_FUZZ_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
    let whole: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for file in files {
        used(file).unwrap_or_else(|e| panic!("{}: {e:#}", file.display()));
    }
    let start = Instant::now();
    let (mut count, mut accepted) = (0u64, 0u64);
    while seconds.map_or(count < mutations, |s| start.elapsed() < Duration::from_secs(s)) {
        let mut rng = ChaCha8Rng::seed_from_u64(seconds.map_or(count, |s| (s << 40) + count));
        let which = (count % files.len() as u64) as usize;
        std::fs::write(&files[which], damage(&whole[which], &mut rng)).unwrap();
        match catch_unwind(AssertUnwindSafe(|| used(&files[which]))) {
            Ok(result) => accepted += u64::from(result.is_ok()),
            Err(_) => {
                let kept = std::env::temp_dir().join("assay-fuzz").join(files[which].file_name().unwrap());
                std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
                std::fs::copy(&files[which], &kept).unwrap();
                panic!(
                    "mutation {count} of {} ends in a panic; it is kept as {}",
                    files[which].display(),
                    kept.display()
                );
            }
        }
        std::fs::write(&files[which], &whole[which]).unwrap();
        count += 1;
    }
    assert!(accepted > 0 && accepted < count, "{accepted} of {count} were accepted");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    eprintln!("{count} mutations, {accepted} accepted, peak memory {peak:?} kB");
    if seconds.is_some() {
        assert!(peak.is_none_or(|peak| peak < MAX_KB), "{peak:?} kB");
    }
}

#[test]
fn damaged_specs_of_sweeps_are_refused_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let to = dir.path().join(name);
        std::fs::copy(root().join("sweeps").join(name), &to).unwrap();
        to
    };
    let specs = ["demo.toml", "classes.toml", "transcoders.toml", "objectives.toml"].map(copy);
    fuzz(4_000, &specs, |path| SpecDocument::read(path, &[])?.spec().map(|_| ()));
}

#[test]
fn damaged_configurations_of_models_are_refused_or_read() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&golden("families"), dir.path());
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path().join("config.json")).collect();
    files.retain(|file| file.exists());
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    fuzz(1_500, &files, |path| Ok(ModelFiles::open(path.parent().unwrap()).map(|_| ())?));
}

/// A source of contexts is opened, and the first is read.
fn first_context(path: &Path, model: &Path) -> Result<()> {
    let texts = Texts { model, begin: None, bos: None, eos: Some(0) };
    let source = TokenSource::open(path, 8, RowUse::Split, Some(texts))?;
    assert_eq!(source.read(0, 1)?.dim(), (1, 8));
    Ok(())
}

#[test]
fn damaged_tokens_are_refused_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: PathBuf| {
        let to = dir.path().join(from.file_name().unwrap());
        std::fs::copy(from, &to).unwrap();
        to
    };
    let fixture = |name: &str| root().join("tests/fixtures").join(name);
    let ids = dir.path().join("ids.jsonl");
    let rows =
        (0..20).map(|row| format!("{{\"input_ids\": {:?}, \"id\": {row}}}\n", (row..row + 12).collect::<Vec<u32>>()));
    std::fs::write(&ids, rows.collect::<String>()).unwrap();
    let files = [
        bundled("eval.parquet"),
        bundled("eval-documents.parquet"),
        fixture("sample.jsonl"),
        fixture("sample.jsonl.zst"),
    ];
    let files: Vec<PathBuf> = files.map(copy).into_iter().chain([ids]).collect();
    fuzz(1_000, &files, |path| first_context(path, &bundled("small")));
}

#[test]
fn damaged_tokenizers_are_refused_or_read() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&bundled("small"), dir.path());
    let text = root().join("tests/fixtures/sample.txt");
    fuzz(60, &[dir.path().join("tokenizer.json")], |path| first_context(&text, path.parent().unwrap()));
}
