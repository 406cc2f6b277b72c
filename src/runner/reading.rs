//! Reads what the latents of trained SAEs mean, where a spec asks for it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, TokenSource};
use assay_probes::features::explanation::Classes;
use assay_sae::Sae;

use super::{ModelAtWork, Sweep};
use crate::legibility::{self, Legibility, Subject};
use crate::plan::{Group, Run};
use crate::progress::Stage;
use crate::results_dir::state_dir;

/// The model and the text that latents are read with.
pub(super) struct Reading<'a> {
    latents: usize,
    model: &'a Decoder,
    classes: Classes,
    source: TokenSource,
    sequences: usize,
    batch: usize,
    bos: Option<u32>,
    /// Where firings are while they are read.
    scratch: PathBuf,
    /// What stays if somebody interrupts.
    saved: String,
    stage: Stage,
}

impl<'a> ModelAtWork<'a> {
    /// What is needed to read so many SAEs of a group; `None` where the spec does not ask for it.
    ///
    /// # Errors
    /// If the model or its tokenizer can't be read.
    pub(super) fn reading(&self, group: &Group, label: &str, saes: usize) -> Result<Option<Reading<'a>>> {
        let Sweep { spec, results, progress, .. } = *self.sweep;
        let Some(legibility) = spec.legibility else { return Ok(None) };
        let (model, path, tokens) = (self.decoder()?, self.model.files.path(), &self.model.tokens);
        let vocabulary = Vocabulary::load(path).with_context(|| format!("model `{}`", self.model.name))?;
        Ok(Some(Reading {
            latents: legibility.latents,
            model,
            classes: legibility::classes(model, &vocabulary),
            source: TokenSource::of(path, tokens.eval.view()),
            sequences: tokens.eval.nrows(),
            batch: self.passes.sequences(),
            bos: tokens.bos(),
            scratch: state_dir(results, &group.id()),
            saved: self.stopped().saved,
            stage: progress.stage(format!("{label} read latents"), saes as u64, "SAEs"),
        }))
    }
}

impl Reading<'_> {
    /// What some latents of a run's SAE mean.
    ///
    /// # Errors
    /// Those of [`Subject::measure`].
    pub fn read(&mut self, run: &Run, sae: &Sae) -> Result<Legibility> {
        let subject = Subject {
            model: self.model,
            sae,
            reads: run.reads,
            site: run.site,
            source: &self.source,
            sequences: self.sequences,
            batch: self.batch,
            bos: self.bos,
            classes: &self.classes,
        };
        let found = subject.measure(self.latents, &self.scratch, &self.saved)?;
        self.stage.advance(1, String::new);
        Ok(found)
    }

    /// Says that all are read.
    pub fn finish(self) {
        self.stage.finish("");
    }
}
