//! Files of SAEs that are damaged at random: each is refused or read, none ends in a panic.
//!
//! `ASSAY_FUZZ_SECONDS=600` runs each of the tests for so long, with other seeds; peak memory is checked then, and printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::load;
use crate::activation::Activation;
use crate::error::Result;

/// Mutations of the normal test.
const MUTATIONS: u64 = 4_000;
/// Kilobytes of memory that a long run may have taken at its peak, with the test binary itself.
const MAX_KB: u64 = 512 << 10;

/// Numbers at the edges of what is sensible.
const EDGES: [u64; 12] =
    [0, 1, 2, 8, 255, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 33, 1 << 60, i64::MAX as u64, u64::MAX];

/// What a value of a configuration may be replaced by.
const VALUES: [&str; 22] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "7",
    "96",
    "97",
    "0.5",
    "1e308",
    "-1e-9",
    "99999999999999999999",
    "9007199254740991",
    "NaN",
    "-Infinity",
    "\"\"",
    "\"topk\"",
    "\"jumprelu\"",
    "[]",
    "[3]",
    "{}",
];

/// Damages bytes in one to four places, of which most are among the first `head` or the last `tail`.
fn damage(file: &[u8], [head, tail]: [usize; 2], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        let at = match rng.random_range(0..10) {
            0..5 => rng.random_range(0..head.clamp(1, len)),
            5..8 => len - 1 - rng.random_range(0..tail.clamp(1, len)),
            _ => rng.random_range(0..len),
        };
        let end = (at + rng.random_range(1..48)).min(len);
        match rng.random_range(0..9) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2..4 => {
                let number = if rng.random_bool(0.3) { len as u64 } else { EDGES[rng.random_range(0..EDGES.len())] };
                let width = [1, 2, 4, 8][rng.random_range(0..4)].min(len - at);
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            4 => bytes[at] = b"0123456789,:{}[]()\"'-"[rng.random_range(0..21)],
            5 => bytes.truncate(at),
            6 => {
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            7 => _ = bytes.drain(at..end),
            _ => bytes[at] = bytes[at].wrapping_add([1, 255][rng.random_range(0..2)]),
        }
    }
    bytes
}

/// Replaces the value of a key of a JSON or YAML file, or damages it.
fn reword(file: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let text = String::from_utf8_lossy(file);
    let colons: Vec<usize> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
    if colons.is_empty() || rng.random_bool(0.3) {
        return damage(file, [file.len(), file.len()], rng);
    }
    let at = colons[rng.random_range(0..colons.len())];
    let end = at + text[at..].find([',', '\n', '}']).unwrap_or(text.len() - at);
    let value = VALUES[rng.random_range(0..VALUES.len())];
    format!("{}{value}{}", &text[..at], &text[end..]).into_bytes()
}

/// What is done with an SAE.
fn used(dir: &Path, device: &Device) -> Result<()> {
    let sae = load(dir, device)?.sae;
    // However long it is told to go on, it may.
    if !matches!(sae.activation(), Activation::MatchingPursuit(_)) {
        let _ = sae.reconstruct(Tensor::ones([2, sae.d_in()], device));
    }
    Ok(())
}

/// Copies of samples' SAEs, and the file of each that is damaged.
fn copies(samples: &[(&str, &str)], into: &Path) -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let copy = |(number, (dir, file)): (usize, &(&str, &str))| {
        let to = into.join(number.to_string());
        let mut open = vec![(golden.join(dir), to.clone())];
        while let Some((from, to)) = open.pop() {
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(from).unwrap() {
                let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
                if path.is_dir() {
                    open.push((path, to));
                } else {
                    std::fs::copy(path, to).unwrap();
                }
            }
        }
        to.join(file)
    };
    samples.iter().enumerate().map(copy).collect()
}

fn fuzz(samples: &[(&str, &str)], mutate: impl Fn(&[u8], &mut ChaCha8Rng) -> Vec<u8>) {
    let seconds = std::env::var("ASSAY_FUZZ_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let files = copies(samples, temporary.path());
    let whole: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let dir_of =
        |file: &Path| temporary.path().join(file.strip_prefix(temporary.path()).unwrap().iter().next().unwrap());
    for file in &files {
        used(&dir_of(file), &device).unwrap();
    }
    let start = Instant::now();
    let (mut count, mut accepted) = (0u64, 0u64);
    while seconds.map_or(count < MUTATIONS, |s| start.elapsed() < Duration::from_secs(s)) {
        let mut rng = ChaCha8Rng::seed_from_u64(seconds.map_or(count, |s| (s << 40) + count));
        let which = (count % files.len() as u64) as usize;
        std::fs::write(&files[which], mutate(&whole[which], &mut rng)).unwrap();
        match catch_unwind(AssertUnwindSafe(|| used(&dir_of(&files[which]), &device))) {
            Ok(result) => accepted += u64::from(result.is_ok()),
            Err(_) => {
                let kept = std::env::temp_dir().join(format!("assay-fuzz-{}", samples[which].1.replace('/', "-")));
                std::fs::copy(&files[which], &kept).unwrap();
                panic!("mutation {count} of {} ends in a panic; the file is {}", samples[which].0, kept.display());
            }
        }
        count += 1;
    }
    let peak = peak_kb();
    println!("{count} mutations, {accepted} accepted, peak memory {peak:?} kB");
    assert!(accepted > count / 200 && accepted < count * 9 / 10, "{accepted} of {count} were accepted");
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

#[test]
fn damaged_archives_of_numpy_are_refused_or_read() {
    let samples = [
        ("formats-2/gemma-scope/layer_5/width_16k/average_l0_11", "params.npz"),
        ("formats-2/gemma-scope-compressed/layer_5/width_16k/average_l0_11", "params.npz"),
    ];
    fuzz(&samples, |file, rng| damage(file, [300, 700], rng));
}

#[test]
fn damaged_safetensors_are_refused_or_read() {
    let samples = [
        ("formats-2/saelens-jumprelu-skip-transcoder/sae", "sae_weights.safetensors"),
        ("formats-2/sparsify-skip-transcoder/model.layers.3.mlp", "sae.safetensors"),
        (
            "formats-2/gemma-scope-2-affine-transcoder/transcoder/layer_5_width_16k_l0_small_affine",
            "params.safetensors",
        ),
        ("formats-2/llama-scope/Llama3_1-8B-Base-L3M-8x", "checkpoints/final.safetensors"),
        ("formats-2/llama-scope-r1/400M-Slimpajama-400M-OpenR1-Math-220k/L3R", "sae_weights.safetensors"),
        ("formats-2/circuit-tracer-jumprelu/set", "layer_4.safetensors"),
        ("formats/dictionary-learning-topk/trainer_0", "ae.safetensors"),
    ];
    fuzz(&samples, |file, rng| damage(file, [400, 64], rng));
}

#[test]
fn damaged_configurations_are_refused_or_read() {
    let samples = [
        ("formats-2/saelens-jumprelu-skip-transcoder/sae", "cfg.json"),
        ("formats-2/saelens-abstopk/sae", "cfg.json"),
        ("formats-2/saelens-matching-pursuit/sae", "cfg.json"),
        ("formats/saelens-legacy-topk-bf16/sae", "cfg.json"),
        ("formats-2/sparsify-skip-transcoder/model.layers.3.mlp", "cfg.json"),
        ("formats-2/gemma-scope-2-affine-transcoder/transcoder/layer_5_width_16k_l0_small_affine", "config.json"),
        ("formats-2/llama-scope/Llama3_1-8B-Base-L3M-8x", "hyperparams.json"),
        ("formats-2/llama-scope-r1/400M-Slimpajama-400M-OpenR1-Math-220k/L3R", "config.json"),
        ("formats-2/circuit-tracer-jumprelu/set", "config.yaml"),
        ("formats/dictionary-learning-topk/trainer_0", "config.json"),
    ];
    fuzz(&samples, reword);
}
