//! delphi's cache of activations (EleutherAI's delphi of 2026): `latents/HOOK/FIRST_LAST.safetensors` with `locations`, `[n, 3]` sequence, position
//! and latent less FIRST, `activations`, f16, and `tokens`, `[S, T]` i64, which every file repeats, as delphi reads them; and `config.json`
//! beside.
//!
//! delphi writes counts of firings as a pickle too, which it can do without.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::events::{Events, header};
use crate::files::{write_atomic, write_atomic_with};

/// The directory of the cache.
pub const DIR: &str = "delphi";
/// Files that the latents are divided among.
const SPLITS: usize = 5;

/// Writes the firings of a store.
///
/// # Errors
/// If the store can't be read, a value is beyond what f16 holds, or the cache can't be written.
pub fn write(dir: &Path, events: &mut Events) -> Result<()> {
    let contents = events.contents().clone();
    let hook = dir.join("latents").join(&contents.hook);
    let bounds: Vec<usize> = (0..=SPLITS).map(|at| contents.d_sae * at / SPLITS).collect();
    for pair in bounds.windows(2).filter(|pair| pair[0] < pair[1]) {
        let (first, end) = (pair[0], pair[1]);
        let path = hook.join(format!("{first}_{}.safetensors", end - 1));
        write_atomic_with(&path, |file| split(file, events, first, end))?;
    }
    let config = json!({
        "model_name": contents.model, "sparse_model": contents.sae, "hookpoints": [contents.hook], "n_splits": SPLITS,
        "cache_ctx_len": contents.context_size, "batch_size": contents.batch,
        "n_tokens": contents.sequences * contents.context_size,
    });
    write_atomic(&hook.join("config.json"), &serde_json::to_vec_pretty(&config)?)
}

fn split(file: &mut File, events: &mut Events, first: usize, end: usize) -> Result<()> {
    let contents = events.contents().clone();
    let (sequences, context) = (contents.sequences, contents.context_size);
    let count: u64 = (first..end).map(|latent| events.firings(latent)).sum();
    // What it takes depends on the largest number, as there.
    let narrow = sequences.max(context).max(end - first) <= 1 << 16;
    let (kind, width) = if narrow { ("U16", 2) } else { ("U32", 4) };
    let tokens = (sequences * context) as u64;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&header(&[
        ("tokens", "I64", vec![sequences as u64, context as u64], 8 * tokens),
        ("locations", kind, vec![count, 3], 3 * width * count),
        ("activations", "F16", vec![count], 2 * count),
    ]))?;
    let mut of_contexts = events.tokens()?;
    for at in 0..of_contexts.len() {
        out.write_all(&i64::from(of_contexts.at(at)?).to_le_bytes())?;
    }
    for latent in first..end {
        events.each(latent, |position, _| {
            for part in [position as usize / context, position as usize % context, latent - first] {
                out.write_all(&(part as u32).to_le_bytes()[..width as usize])?;
            }
            Ok(())
        })?;
    }
    for latent in first..end {
        events.each(latent, |position, value| {
            let half = half::f16::from_f32(value);
            ensure!(
                half.is_finite(),
                "latent {latent} is {value} at token {position}, beyond f16, which delphi's cache is in"
            );
            Ok(out.write_all(&half.to_le_bytes())?)
        })?;
    }
    Ok(out.flush()?)
}
