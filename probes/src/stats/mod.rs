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
pub use correlation::{Estimate, demean_by, gather, partial, pearson, ranks, ranks_by, spearman};
pub use effect::{cohen_d, cohen_d_z, mean, sample_sd};
pub use quantile::{median, quantile};
pub use seeds::{SeedResamples, t_interval};
pub use threshold::{KStar, k_star};

/// Terms of reports that are computed here.
pub const TERMS: &[(&str, &str)] = &[
    (
        "[low, high]",
        "percentile bootstrap over sequences (Efron 1979), quantiles interpolated linearly; over seeds first where there are several (two-level). Ratios and R² are recomputed from the sums of each replicate; one draw is shared by everything, so that differences are paired",
    ),
    ("BCa", "the bias-corrected and accelerated bootstrap interval (Efron 1987): an option of the library"),
    ("t interval", "mean ± t·SD/√n over training seeds (Student 1908); undefined for one seed"),
    (
        "Cohen's d",
        "difference of means over the pooled unpaired standard deviation (Cohen 1988); `d_z`: mean of paired differences over their standard deviation",
    ),
    (
        "k*(t)",
        "the smallest k with CE_rec ≥ t, linear in k between grid points, first crossing; `≤ k_min` if met there, `never` if no k reaches it (+∞ in replicates)",
    ),
    (
        "Pearson, Spearman",
        "correlations over rows of the grid, intervals from resampled rows; within fixed k: the mean of each k (and depth) subtracted first, or ranks taken within it, and what is left resampled",
    ),
    ("partial correlation", "of a proxy with CE_rec, after regressing both on the given one; on ranks here"),
    (
        "mismatch rate",
        "share of (k, seed) pairs in which ΔR² and ΔCE_rec have opposite signs (Ohiagwu 2026, 'Transport Geometry')",
    ),
    ("ΔR²/ΔCE_rec", "ratio of the differences of means; undefined where ΔCE_rec is 0"),
];
