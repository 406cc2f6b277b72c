//! Statistics over host arrays. Everything random takes a seed, or the index matrix itself; what is undefined is
//! `None`, never 0 and never NaN.
//!
//! - [`Resamples`], [`Interval`]: the bootstrap over sequences, percentile and BCa.
//! - [`SeedResamples`], [`t_interval`]: over training seeds.
//! - [`mean`], [`sample_sd`], [`cohen_d`], [`cohen_d_z`]: effect sizes.
//! - [`pearson`], [`spearman`], [`partial`], [`demean_by`], [`Estimate`]: correlations over the rows of a grid.
//! - [`k_star`]: the sparsity budget that reaches a target.
//! - [`hypotheses`]: the decision rules H0 to H3.

mod bootstrap;
mod correlation;
mod effect;
pub mod hypotheses;
mod quantile;
mod seeds;
mod threshold;

pub use bootstrap::{Interval, Resamples, jackknife};
pub use correlation::{Estimate, demean_by, gather, partial, pearson, ranks, spearman};
pub use effect::{cohen_d, cohen_d_z, mean, sample_sd};
pub use quantile::{median, quantile};
pub use seeds::{SeedResamples, t_interval};
pub use threshold::{KStar, k_star};
