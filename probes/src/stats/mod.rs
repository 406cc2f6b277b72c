//! Statistics over host arrays. Everything random takes a seed, or the index matrix itself; what is undefined is
//! `None`, never 0 and never NaN.
//!
//! - [`Resamples`], [`Interval`]: the bootstrap over sequences, percentile and BCa; [`end_errors`], [`Excludes`]: what more replicates could change.
//! - [`StandardError`], [`Components`], [`jackknife_variance`]: training seeds and sequences together, by Satterthwaite.
//! - [`SeedResamples`], [`t_interval`]: over training seeds alone, and the two-level bootstrap.
//! - [`mean`], [`sample_sd`], [`cohen_d`], [`cohen_d_z`]: effect sizes.
//! - [`minimum_detectable`], [`equivalence_margin`], [`values_needed`]: what a measurement could have shown, and how many values it takes.
//! - [`pearson`], [`spearman`], [`partial`], [`demean_by`], [`Estimate`]: correlations over the rows of a grid; [`swap_test`]: two of them.
//! - [`reliability`], [`correlation_within`]: whether a score tells kinds apart beyond their replicates, and goes with another within groups.
//! - [`clopper_pearson`], [`wilson`]: shares; [`holm`], [`benjamini_hochberg`]: several tests.
//! - [`k_star`]: the sparsity budget that reaches a target; [`along`]: one score where another has a given value.
//! - [`hypotheses`]: the decision rules H0 to H3.

mod bootstrap;
mod correlation;
mod crossed;
mod effect;
pub mod hypotheses;
pub(crate) mod inverse;
mod monte_carlo;
mod multiplicity;
mod path;
mod power;
mod proportion;
mod quantile;
mod reliability;
mod seeds;
mod swap;
mod threshold;

pub use bootstrap::{Interval, Resamples, jackknife};
pub use correlation::{DEGENERATE, Estimate, demean_by, gather, partial, pearson, ranks, ranks_by, spearman};
pub use crossed::{Components, StandardError, jackknife_variance};
pub use effect::{cohen_d, cohen_d_z, mean, sample_sd};
pub use monte_carlo::{Excludes, end_errors};
pub use multiplicity::{benjamini_hochberg, holm};
pub use path::{along, along_or_beyond};
pub use power::{equivalence_margin, minimum_detectable, values_needed};
pub use proportion::{clopper_pearson, wilson};
pub use quantile::{median, quantile};
pub use reliability::{Reliability, correlation_within, reliability};
pub use seeds::{SeedResamples, t_interval};
pub use swap::swap_test;
pub use threshold::{Between, KStar, k_star};

/// Terms of reports that are computed here.
pub const TERMS: &[(&str, &str)] = &[
    (
        "[low, high]",
        "with one training seed: percentile bootstrap over sequences (Efron 1979), quantiles interpolated linearly; with several: value ± t·√(s²_seed/S + s²_seq/n), the sequences' part by the jackknife, degrees of freedom by Satterthwaite (1946). Ratios and R² are recomputed from the sums of each replicate; one draw is shared by everything, so that differences are paired",
    ),
    (
        "two-level bootstrap",
        "seeds resampled, then sequences (Davison and Hinkley 1997): too narrow for few seeds, shown for comparison with texts that use it",
    ),
    ("BCa", "the bias-corrected and accelerated bootstrap interval (Efron 1987): an option of the library"),
    ("t interval", "mean ± t·SD/√n over training seeds alone (Student 1908); undefined for one seed"),
    (
        "unsure",
        "an end of a bootstrap interval lies within two of its Monte-Carlo standard errors of 0: another seed of the bootstrap may give the other answer",
    ),
    (
        "Cohen's d",
        "difference of means over the pooled unpaired standard deviation (Cohen 1988); `d_z`: mean of paired differences over their standard deviation",
    ),
    (
        "k*(t)",
        "the smallest k with CE_rec ≥ t, straight in ln k between grid points (the reference texts: straight in k), first crossing; `≤ k_min` if met there, `never` if no k reaches it (+∞ in replicates)",
    ),
    (
        "ΔCE_rec at equal R²",
        "the later model's CE_rec minus that of the earlier model's path (R², CE_rec) along k at the same R², linear between neighbouring k, inside the measured range only; ΔR² at equal CE_rec likewise. Both have one unit, which ΔR² − ΔCE_rec has not",
    ),
    (
        "Pearson, Spearman",
        "correlations over rows of the grid; intervals resample blocks of one depth and k, all models and seeds of it together, and are left out below 12 cells (model, depth, k). Within fixed k: the mean of each depth and k subtracted first, or ranks taken within it, and what is left resampled",
    ),
    ("partial correlation", "of a proxy with CE_rec, after regressing both on the given one; on ranks here"),
    (
        "swap test",
        "p-value that two proxies, each scaled to the standard deviation 1, are exchangeable in every block of one depth and k (Pitman 1937); by Holm (1979) where several are tested",
    ),
    (
        "mismatch rate",
        "share of (k, seed) pairs in which ΔR² and the difference of a behaviour metric have opposite signs (Ohiagwu 2026, 'Transport Geometry'); its interval is exact (Clopper and Pearson 1934), over seeds of one cell",
    ),
    ("ΔR²/ΔCE_rec", "ratio of the differences of means, of different units; undefined where ΔCE_rec is 0"),
    (
        "smallest difference found",
        "the smallest true difference that a two-sided test at 5 % finds in four of five samples (80 % power) with such an error: (t₀.₉₇₅ + t₀.₈)·error (Bloom 1995); the minimum detectable effect",
    ),
    (
        "smallest margin",
        "what two one-sided tests at 5 % (Schuirmann 1987) could show with such an error if the true difference were 0, at best and with 80 % power",
    ),
    (
        "sequences needed",
        "evaluation sequences like those used with which the sequences' error alone has a smallest margin of ±0.01 at 80 % power (Chow et al. 2018). Seeds have an error of their own, which more sequences do not lessen: its smallest margin stands beside",
    ),
];
