//! Activations and reconstructions of an evaluation as a safetensors file.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use anyhow::Result;
use assay_probes::evaluate::{Observed, Observer};
use safetensors::tensor::{Dtype, TensorView};

use crate::files::write_atomic;

/// The bytes of all activations and reconstructions that were seen, f32 `[S·T, d_model]`.
#[derive(Default)]
pub(super) struct Reconstructions {
    x: Vec<u8>,
    recon: Vec<u8>,
}

impl Observer for Reconstructions {
    fn batch(&mut self, observed: &Observed<'_>) -> io::Result<()> {
        self.x.extend(observed.activations.iter().flat_map(|v| v.to_le_bytes()));
        self.recon.extend(observed.reconstructions.iter().flat_map(|v| v.to_le_bytes()));
        Ok(())
    }
}

impl Reconstructions {
    /// Writes them as `x` and `recon`.
    pub fn save(&self, path: &Path, d_model: usize) -> Result<()> {
        let shape = vec![self.x.len() / size_of::<f32>() / d_model, d_model];
        let view = |bytes| TensorView::new(Dtype::F32, shape.clone(), bytes);
        let tensors = [("x", view(&self.x)?), ("recon", view(&self.recon)?)];
        write_atomic(path, &safetensors::serialize(tensors, None::<HashMap<String, String>>)?)
    }
}
