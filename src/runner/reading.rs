//! What a group's SAEs are read with, where a spec asks what their latents mean.

use anyhow::{Context, Result};
use assay_models::TokenSource;
use assay_models::vocabulary::Vocabulary;

use super::{ModelAtWork, Sweep};
use crate::features::explaining;
use crate::legibility::LatentReader;
use crate::plan::Group;
use crate::results_dir::state_dir;

impl<'a> ModelAtWork<'a> {
    /// Reads latents on the held-out sequences; `None` where the spec does not ask for it.
    ///
    /// # Errors
    /// If the model or its tokenizer can't be read.
    pub(super) fn latent_reader(&self, group: &Group) -> Result<Option<LatentReader<'a>>> {
        let Sweep { spec, results, .. } = *self.sweep;
        let Some(legibility) = spec.legibility else { return Ok(None) };
        let (model, path, tokens) = (self.decoder()?, self.model.files.path(), &self.model.tokens);
        let vocabulary = Vocabulary::load(path).with_context(|| format!("model `{}`", self.model.name))?;
        Ok(Some(LatentReader {
            model,
            classes: explaining::classes(model, &vocabulary),
            source: TokenSource::of(path, tokens.eval.view()),
            sequences: tokens.eval.nrows(),
            batch: self.passes.sequences(),
            bos: tokens.bos(),
            latents: legibility.latents,
            // Where a kill leaves them, the group's end removes them.
            scratch: state_dir(results, &group.id()),
            saved: self.stopped().saved,
        }))
    }
}
