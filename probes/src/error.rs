//! What can go wrong in an evaluation.

use std::ops::ControlFlow;

use assay_models::{HookPoint, ModelError, Site, first_not_finite};

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, ProbeError>;

/// Errors of evaluation, geometry and estimates of information.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The model refused the hook or the tokens.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An SAE for activations of another width.
    #[error(
        "the SAE's {key} is {width}, and {hook} of the model is {expected} wide; it was trained on another model or at another hook"
    )]
    WidthMismatch {
        /// `d_in` or `d_out`.
        key: &'static str,
        /// Width of the SAE there.
        width: usize,
        /// The hook.
        hook: HookPoint,
        /// Width of the model's activation there.
        expected: usize,
    },
    /// A transcoder that predicts what comes before what it reads.
    #[error(
        "it reads {reads}, which the model computes after {hook}, where its prediction is to be put; a transcoder predicts what follows from \
         what it reads"
    )]
    ReadsAhead {
        /// Where it reads.
        reads: HookPoint,
        /// Where it is patched in.
        hook: HookPoint,
    },
    /// A pass whose logits do not fit into memory.
    #[error(
        "a pass of {batch} sequence(s) of {context} tokens over a vocabulary of {vocab_size} needs about {:.1} GB of memory, and {:.1} GB \
         are free; take {}shorter contexts", *needed as f64 / 1e9, *free as f64 / 1e9, if *batch > 1 { "fewer sequences per pass (batch) or " } else { "" }
    )]
    Memory {
        /// Sequences of a pass.
        batch: usize,
        /// Tokens of each.
        context: usize,
        /// Entries of the vocabulary.
        vocab_size: usize,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// An SAE at a site that the survey left out.
    #[error("{site} was not surveyed; name it when the survey is made")]
    NotSurveyed {
        /// The site.
        site: Site,
    },
    /// An observer that failed, as when it can't write what it sees.
    #[error(transparent)]
    Observer(std::io::Error),
    /// The progress callback asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// A covariance without eigenvalues.
    #[error("the eigenvalues of the activations' covariance could not be found; are the activations finite?")]
    Spectrum,
    /// An activation, reconstruction or loss that is NaN or infinite.
    #[error("{what} is not finite at sequence {sequence}, position {position}; the model or the SAE diverged")]
    NotFinite {
        /// Which value.
        what: &'static str,
        /// Row.
        sequence: usize,
        /// Column.
        position: usize,
        /// Which of the SAEs that are evaluated it is of, if it is of one.
        subject: Option<usize>,
    },
    /// A setting of a critic, or a view for it, that makes no sense.
    #[error("mutual information can't be estimated: {problem}")]
    Critic {
        /// What is wrong.
        problem: &'static str,
    },
    /// Views of different lengths.
    #[error("x has {x} rows and y {y}; row i of both must belong together")]
    Unpaired {
        /// Rows of x.
        x: usize,
        /// Rows of y.
        y: usize,
    },
    /// Too few pairs for the batches of training and estimate.
    #[error(
        "{pairs} pairs are too few, at least {needed} are needed; give more or longer sequences, or make the critic's batches smaller"
    )]
    TooFewPairs {
        /// Pairs at hand.
        pairs: usize,
        /// Pairs that would do.
        needed: usize,
    },
    /// A value to estimate from that is NaN or infinite.
    #[error("{view} is not finite at row {row}, column {column}; drop such pairs, or find out where they come from")]
    PairNotFinite {
        /// Which view.
        view: &'static str,
        /// Row.
        row: usize,
        /// Column.
        column: usize,
    },
    /// A critic whose scores are no longer finite.
    #[error("the critic's training diverged by step {step}; lower its learning rate")]
    CriticDiverged {
        /// Training step.
        step: usize,
    },
}

impl ProbeError {
    /// The same of an SAE, by its place among those that are evaluated.
    pub(crate) fn of_subject(self, at: usize) -> Self {
        match self {
            Self::NotFinite { what, sequence, position, subject: None } => {
                Self::NotFinite { what, sequence, position, subject: Some(at) }
            }
            other => other,
        }
    }
}

/// Tells a progress callback of `n` more, and fails if it breaks off.
pub(crate) fn advance(progress: &mut impl FnMut(usize) -> ControlFlow<()>, n: usize) -> Result<()> {
    match progress(n) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ProbeError::Stopped),
    }
}

/// Fails at the first value that is NaN or infinite. `values` are rows of `width`, `context` of them a sequence, the first of
/// which is number `start`.
pub(crate) fn check_finite(
    what: &'static str,
    values: &[f32],
    width: usize,
    start: usize,
    context: usize,
) -> Result<()> {
    match first_not_finite(values) {
        None => Ok(()),
        Some(at) => {
            let token = at / width;
            let (sequence, position) = (start + token / context, token % context);
            Err(ProbeError::NotFinite { what, sequence, position, subject: None })
        }
    }
}
