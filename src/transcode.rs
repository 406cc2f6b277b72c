//! What makes an SAE of a sweep a transcoder: it reads what an MLP reads, and is put where the MLP writes.

use std::fmt;

use assay_models::{HookKind, HookPoint, Site};
use assay_sae::{Task, TrainConfig};

/// A transcoder beside its class: `transcode = "mlp_in"`, and `skip`, of a coder at `mlp_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcode {
    /// What it reads, in the layer whose MLP's output it predicts: one of [`Self::READS`].
    pub reads: HookKind,
    /// Whether a linear map from there to the prediction is beside its latents.
    pub skip: bool,
}

impl Transcode {
    /// What a transcoder may read.
    pub const READS: [HookKind; 2] = [HookKind::MlpIn, HookKind::MlpNormalized];
    /// What it predicts.
    pub const PREDICTS: HookKind = HookKind::MlpOut;

    /// That of a training, which reads `reads` if it is a transcoder's.
    pub fn of(train: &TrainConfig, reads: Option<HookKind>) -> Option<Self> {
        reads.map(|reads| Self { reads, skip: train.task == Task::SkipTranscoder })
    }

    /// What is reconstructed.
    pub fn task(self) -> Task {
        if self.skip { Task::SkipTranscoder } else { Task::Transcoder }
    }

    /// Where it reads, if `site` is where it is patched in: as the model has it, also where the site is centred, as matrices read it.
    pub fn reads_at(self, site: Site) -> Site {
        HookPoint { kind: self.reads, ..site.hook }.into()
    }
}

impl fmt::Display for Transcode {
    /// As tables call it after its class: `transcoder`, `skip transcoder`, `transcoder of mlp_normalized`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}transcoder", if self.skip { "skip " } else { "" })?;
        match self.reads {
            HookKind::MlpIn => Ok(()),
            other => write!(f, " of {}", other.short_name()),
        }
    }
}

/// What an SAE is compared as: its class, and whether it is a transcoder.
pub fn class_name(class: &impl fmt::Display, transcode: Option<Transcode>) -> String {
    match transcode {
        None => class.to_string(),
        Some(transcode) => format!("{class} {transcode}"),
    }
}
