//! What single latents mean, as far as their firings say it; host arrays and streams only.
//!
//! - `cells`: the documents and the kinds of tokens that a text has.
//! - `scores`: how often and how much a latent fires, on which tokens, and how much of that a token's kind explains.
//! - `contexts`: which of its firings to show: the largest, of every share of its mass, the least, and where it is silent.
//! - `cofiring`: which latent fires where it does.
//! - `explanation`: what can be said of where it fires without a language model, and how well that detects it.
//! - `topics`: which latents share a token id, and which absorb some of its occurrences.
//! - `sampling`: which latents and contexts are measured where not all are.

mod cells;
mod cofiring;
mod contexts;
#[cfg(feature = "tensors")]
pub mod explanation;
mod sampling;
mod scores;
pub mod topics;

pub use cells::{Cells, Documents};
pub use cofiring::{Partner, partners};
pub use contexts::{Candidates, HISTOGRAM_BINS, PickReason, Picked, Picks, STRATA, Spectrum, Stratum};
pub use sampling::{ContextSample, sample};
pub use scores::{Explained, Scores, Tally, TopToken};
