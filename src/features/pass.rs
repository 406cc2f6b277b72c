//! The streaming pass: contexts through the model as far as the SAE, and what fires into the store.

use anyhow::{Result, anyhow, bail};
use assay_models::{Decoder, Site, TokenSource, first_not_finite};
use assay_sae::Sae;
use burn::tensor::Tensor;

use crate::events::Store;
use crate::interrupt::{self, Interrupted};
use crate::progress::Stage;

/// Latents in memory at a time, about, of codes that are dense.
const LATENTS: usize = 1 << 25;

/// What firings are made of.
pub struct Pass<'a> {
    /// The model; it runs no further than the site.
    pub model: &'a Decoder,
    /// The SAE.
    pub sae: &'a Sae,
    /// Where it reads.
    pub reads: Site,
    /// The contexts.
    pub source: &'a TokenSource,
    /// How many of them.
    pub sequences: usize,
    /// Contexts of a forward pass.
    pub batch: usize,
}

impl Pass<'_> {
    /// Puts the firings of all contexts that are not in the store yet into it.
    ///
    /// # Errors
    /// If an activation is not finite, the store can't be written, or the work is interrupted; then what was encoded is in the store.
    pub fn run(&self, store: &mut Store, stage: &mut Stage, saved: &str) -> Result<()> {
        store.begin()?;
        stage.resume(store.next() as u64);
        for first in (store.next()..self.sequences).step_by(self.batch) {
            let count = self.batch.min(self.sequences - first);
            self.encode(first, count, store)?;
            let stop = interrupt::requested();
            store.reached(first + count, stop || first + count == self.sequences)?;
            stage.advance(count as u64, String::new);
            if stop && first + count < self.sequences {
                return Err(Interrupted { saved: saved.to_owned() }.into());
            }
        }
        Ok(())
    }

    fn encode(&self, first: usize, count: usize, store: &mut Store) -> Result<()> {
        let context_size = self.source.context_size();
        let captured = self.model.capture(self.source.read(first, count)?.view(), &[self.reads])?.remove(0);
        let x: Tensor<2> = captured.flatten(0, 1);
        let (rows, at_once) = (count * context_size, (LATENTS / self.sae.d_sae().max(1)).max(1));
        for start in (0..rows).step_by(at_once) {
            let end = (start + at_once).min(rows);
            let code = self.sae.encode(x.clone().slice([start..end, 0..self.sae.d_in()]));
            let mut bad = None;
            code.for_each_active(|row, latent, value| {
                let position = first * context_size + start + row;
                if value.is_finite() {
                    store.push(latent, position as u32, value);
                } else {
                    bad.get_or_insert((position, latent, value));
                }
            });
            if let Some((position, latent, value)) = bad {
                bail!(
                    "latent {latent} is {value} in sequence {}, position {}: the activations at {} are beyond what f32 holds, or a weight of \
                     the SAE is",
                    position / context_size,
                    position % context_size,
                    self.reads
                );
            }
        }
        self.check(x, first)
    }

    /// A NaN may make no latent fire.
    fn check(&self, x: Tensor<2>, first: usize) -> Result<()> {
        let values = x.into_data().try_into_vec::<f32>().map_err(|e| anyhow!("activations: {e:?}"))?;
        if let Some(at) = first_not_finite(&values) {
            let (token, context_size) = (at / self.sae.d_in(), self.source.context_size());
            let (sequence, position) = (first + token / context_size, token % context_size);
            bail!("the activation at {} is {} in sequence {sequence}, position {position}", self.reads, values[at]);
        }
        Ok(())
    }
}
