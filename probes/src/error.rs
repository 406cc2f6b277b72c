//! What can go wrong in an evaluation.

use assay_models::ModelError;

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, ProbeError>;

/// Errors of evaluation and geometry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The model refused the hook or the tokens.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An SAE for activations of another width.
    #[error("the SAE's d_in is {d_in}, the model's d_model is {d_model}; it was trained on another model")]
    WidthMismatch {
        /// Width of the SAE.
        d_in: usize,
        /// Width of the model.
        d_model: usize,
    },
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
    },
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
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let token = at / width;
            Err(ProbeError::NotFinite { what, sequence: start + token / context, position: token % context })
        }
    }
}
