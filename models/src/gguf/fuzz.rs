//! Files that are damaged at random: each is refused or used, none ends in a panic.
//!
//! `ASSAY_FUZZ_SECONDS=600` runs for so long, with other seeds; peak memory is checked then, and printed.

use std::fs::File;
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::testing::{model, with_byte_level, with_sentence_piece};
use super::{Gguf, config, names, tokenizer};
use crate::error::Result;

/// Mutations of the normal test.
const MUTATIONS: u64 = 10_000;

/// Kilobytes of memory that a long run may have taken at its peak, with the test binary itself.
const MAX_KB: u64 = 512 << 10;

/// Numbers at the edges of what is sensible.
const EDGES: [u64; 14] =
    [0, 1, 2, 8, 31, 255, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 33, 1 << 60, i64::MAX as u64, u64::MAX - 31, u64::MAX];

/// Damages a file in one to four places, of which most are among `places`, where numbers stand that matter.
fn mutate(file: &[u8], places: &[usize], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let anywhere = rng.random_range(0..bytes.len());
        let place = places[rng.random_range(0..places.len())].min(bytes.len() - 1);
        let at = if rng.random_bool(0.7) { place } else { anywhere };
        match rng.random_range(0..10) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2..6 => {
                let number = match rng.random_range(0..3) {
                    0 => rng.random_range(0..64),
                    1 => bytes.len() as u64,
                    _ => EDGES[rng.random_range(0..EDGES.len())],
                };
                let width = [1, 4, 8][rng.random_range(0..3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            6 => bytes[at] = bytes[at].wrapping_add([1, 255][rng.random_range(0..2)]),
            7 => bytes.truncate(at),
            8 => {
                let end = (at + rng.random_range(1..64)).min(bytes.len());
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            _ => {
                let end = (at + rng.random_range(1..64)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

/// Everything that is done with a file.
fn used(path: &std::path::Path) -> Result<()> {
    let file = Gguf::open(path)?;
    for tensor in file.tensors.values() {
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(tensor.kind.widen(file.bytes(tensor)).len(), elements);
    }
    let tokenized = tokenizer(&file).map(|found| {
        let ids =
            found.tokenizer.encode_fast("abc ab12\n  ü<s>", true).map(|e| e.get_ids().to_vec()).unwrap_or_default();
        let _ = found.tokenizer.decode(&ids, false);
    });
    names(&config(&file)?);
    tokenized
}

#[test]
fn damaged_files_are_refused_or_used() {
    let seconds = std::env::var("ASSAY_FUZZ_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
    let bases = [
        with_byte_level(model("llama")).bytes(),
        with_sentence_piece(model("gemma3").key("gemma3.attention.sliding_window", 4u32)).bytes(),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut file = File::create(&path).unwrap();
    let mut write = |bytes: &[u8]| {
        // In place, which is much faster than a new file each time.
        file.rewind().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    };
    for (bytes, _) in &bases {
        write(bytes);
        used(&path).unwrap();
    }
    let start = Instant::now();
    let (mut count, mut accepted) = (0u64, 0u64);
    while seconds.map_or(count < MUTATIONS, |s| start.elapsed() < Duration::from_secs(s)) {
        let mut rng = ChaCha8Rng::seed_from_u64(seconds.map_or(count, |s| (s << 40) + count));
        let (bytes, places) = &bases[(count % 2) as usize];
        write(&mutate(bytes, places, &mut rng));
        match catch_unwind(AssertUnwindSafe(|| used(&path))) {
            Ok(result) => accepted += u64::from(result.is_ok()),
            Err(_) => {
                let kept = std::env::temp_dir().join("assay-fuzz.gguf");
                std::fs::copy(&path, &kept).unwrap();
                panic!("mutation {count} ends in a panic; the file is {}", kept.display());
            }
        }
        count += 1;
    }
    assert!(accepted > count / 100 && accepted < count / 2, "{accepted} of {count} were accepted");
    let peak = peak_kb();
    println!("{count} mutations, {accepted} accepted, peak memory {peak:?} kB");
    if seconds.is_some() {
        assert!(peak.is_none_or(|peak| peak < MAX_KB), "{peak:?} kB");
    }
}

/// Peak memory of the process, where the system tells.
fn peak_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
