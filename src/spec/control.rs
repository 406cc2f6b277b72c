//! `controls`: what stands beside every SAE of a sweep, to say what its scores are without what they are to measure.

use assay_models::LoadedWeights;
use serde::{Deserialize, Serialize};

/// A control. Each SAE of the sweep gets one, of the same place, setting, seed and tokens.
///
/// An SAE of a random model, or with a decoder that learned nothing, has much of the usual scores (Heap et al. 2025; Korznikov et al. 2025), and a
/// permuted decoder all of those that ask the encoder alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepControl {
    /// An SAE trained on, and put into, the model with every matrix drawn anew with its mean and standard deviation
    /// ([`LoadedWeights::Redrawn`]), by [`Self::REDRAWN`].
    RandomModel,
    /// As [`Self::RandomModel`], of a model that reads a vector of its own for every occurrence of a token ([`LoadedWeights::GaussianInputs`]).
    GaussianInputs,
    /// An SAE trained on, and put into, the model as it was before its training ([`ModelSpec::step0`](super::ModelSpec::step0)), where the
    /// spec says where that is.
    #[serde(rename = "step-0")]
    Step0,
    /// An SAE trained with its decoder's rows as they were drawn ([`TrainConfig::frozen_decoder`](assay_sae::TrainConfig::frozen_decoder)).
    FrozenDecoder,
    /// The SAE itself with the rows of its decoder permuted ([`permuted_decoder`](crate::controls::permuted_decoder)), by its own seed.
    PermutedDecoder,
}

impl SweepControl {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RandomModel, Self::GaussianInputs, Self::Step0, Self::FrozenDecoder, Self::PermutedDecoder];
    /// The seed by which a model is drawn anew: one random model for all seeds of SAEs.
    pub const REDRAWN: u64 = 0;

    /// Whether it is of SAEs of another model, which is planned beside the spec's.
    pub fn is_of_model(self) -> bool {
        matches!(self, Self::RandomModel | Self::GaussianInputs | Self::Step0)
    }

    /// Which weights its model is loaded with.
    pub fn weights(self) -> LoadedWeights {
        match self {
            Self::RandomModel => LoadedWeights::Redrawn(Self::REDRAWN),
            Self::GaussianInputs => LoadedWeights::GaussianInputs(Self::REDRAWN),
            Self::Step0 | Self::FrozenDecoder | Self::PermutedDecoder => LoadedWeights::OfFiles,
        }
    }

    /// Its name in specs, tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::RandomModel => "random-model",
            Self::GaussianInputs => "gaussian-inputs",
            Self::Step0 => "step-0",
            Self::FrozenDecoder => "frozen-decoder",
            Self::PermutedDecoder => "permuted-decoder",
        }
    }
}

impl std::fmt::Display for SweepControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
