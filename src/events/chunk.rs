//! Firings of a stretch of contexts, sorted by latent: how many each latent has (u32), then all positions (u32), then all values (f32).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::files::write_atomic;

/// Firings that are held at once, about: 12 bytes each, and 8 more while they are written.
const ENOUGH: usize = 2 << 20;
/// A kill costs no more than this.
const LONG: Duration = Duration::from_secs(60);

/// The length of a chunk.
pub(super) fn bytes(d_sae: usize, events: u64) -> u64 {
    4 * d_sae as u64 + 8 * events
}

/// Firings since the last chunk.
pub(super) struct Gathered {
    d_sae: usize,
    latents: Vec<u32>,
    positions: Vec<u32>,
    values: Vec<f32>,
    since: Instant,
}

impl Gathered {
    pub fn new(d_sae: usize) -> Self {
        Self { d_sae, latents: Vec::new(), positions: Vec::new(), values: Vec::new(), since: Instant::now() }
    }

    pub fn push(&mut self, latent: u32, position: u32, value: f32) {
        self.latents.push(latent);
        self.positions.push(position);
        self.values.push(value);
    }

    pub fn is_enough(&self) -> bool {
        self.latents.len() >= ENOUGH || self.since.elapsed() > LONG
    }

    /// Writes the chunk and forgets it; gives the number of its firings and its BLAKE3.
    pub fn write(&mut self, path: &Path) -> Result<(u64, String)> {
        let events = self.latents.len();
        let mut counts = vec![0_u32; self.d_sae];
        self.latents.iter().for_each(|&latent| counts[latent as usize] += 1);
        // Where the next firing of each latent goes: sorting by counting keeps the order within a latent.
        let mut next: Vec<usize> = Vec::with_capacity(self.d_sae);
        let mut start = 0;
        for &count in &counts {
            next.push(start);
            start += count as usize;
        }
        let places: Vec<usize> = self
            .latents
            .iter()
            .map(|&latent| {
                let place = &mut next[latent as usize];
                *place += 1;
                *place - 1
            })
            .collect();
        let mut content = vec![0; bytes(self.d_sae, events as u64) as usize];
        let (head, rest) = content.split_at_mut(4 * self.d_sae);
        let (positions, values) = rest.split_at_mut(4 * events);
        for (slot, count) in head.chunks_exact_mut(4).zip(&counts) {
            slot.copy_from_slice(&count.to_le_bytes());
        }
        for (at, &place) in places.iter().enumerate() {
            let slot = 4 * place..4 * place + 4;
            positions[slot.clone()].copy_from_slice(&self.positions[at].to_le_bytes());
            values[slot].copy_from_slice(&self.values[at].to_le_bytes());
        }
        let hash = blake3::hash(&content).to_hex().to_string();
        write_atomic(path, &content)?;
        *self = Self::new(self.d_sae);
        Ok((events as u64, hash))
    }
}
