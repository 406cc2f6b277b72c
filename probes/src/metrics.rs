//! Every metric of an evaluation, each defined once.
//!
//! A metric is a function of [`Sums`], which add up over tokens and over sequences: sum first, divide
//! last. The same function gives the value on the whole evaluation set, on a subset of its tokens and
//! in a bootstrap replicate. Where a denominator is zero the value is `None`, never 0.
//!
//! Notation: a is the activation, â its reconstruction, δ = â − a; g = ∂(Σ_t ce_t)/∂a at the hook. The "scored"
//! positions are the T − 1 of a sequence whose next token lies in it. g̃ is g with labels drawn from the model's own output in
//! place of the text's next tokens.

mod subsets;
mod tokens;

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

pub use subsets::{FirstLook, FromMean, SecondLook, Subsets};
pub use tokens::{DEFLATIONS, Directions, drawn_sums, token_sums};

/// Tokens that a metric, or a loss, is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// Every token.
    #[default]
    All,
    /// Without position 0 of each sequence, where attention sinks live.
    NoFirst,
    /// Without tokens whose ‖a‖ exceeds 10 × the median ‖a‖: a few massive activations can hold nearly all variance
    /// (Sun et al. 2024, arXiv:2402.17762).
    NoOutlier,
}

impl Subset {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 3] = [Self::All, Self::NoFirst, Self::NoOutlier];

    /// Position in arrays that hold one element a subset.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::NoFirst => "no_first",
            Self::NoOutlier => "no_outlier",
        }
    }
}

macro_rules! sums {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Sums over the tokens of a subset: of one sequence, or of several added together.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct Sums {
            $($(#[doc = $doc])+ pub $name: f64,)+
        }

        impl Sums {
            /// Names of the fields.
            pub const FIELDS: &'static [&'static str] = &[$(stringify!($name)),+];

            /// The fields' values, in the order of [`Self::FIELDS`].
            pub fn values(&self) -> Vec<f64> {
                vec![$(self.$name),+]
            }

            /// The inverse of [`Self::values`]; `None` if the number of values differs.
            pub fn from_values(values: &[f64]) -> Option<Self> {
                let mut values = values.iter().copied();
                let sums = Self { $($name: values.next()?),+ };
                values.next().is_none().then_some(sums)
            }
        }

        impl AddAssign<&Self> for Sums {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

sums! {
    /// Tokens.
    tokens,
    /// Tokens × d_model.
    elements,
    /// ‖δ‖².
    sse,
    /// ‖a − ā‖², ā the mean of the subset over the whole evaluation set.
    sst,
    /// ‖a‖².
    norm_sq,
    /// ‖â‖².
    recon_norm_sq,
    /// a·â.
    dot,
    /// cos(a, â).
    cosine,
    /// ‖δ‖ / (‖a‖ + 1e-10).
    rel_err,
    /// Tokens with ‖a‖ > 0.
    nonzero,
    /// ‖â‖ / ‖a‖ of those.
    l2_ratio,
    /// Latents with z ≠ 0.
    l0,
    /// Scored positions.
    scored,
    /// Cross-entropy of the unpatched model.
    ce_orig,
    /// Cross-entropy with â in place of a.
    ce_recon,
    /// Cross-entropy with 0 in place of a.
    ce_zero,
    /// Cross-entropy with the evaluation set's mean in place of a.
    ce_mean,
    /// KL(p_orig ‖ p_recon).
    kl,
    /// Whether both distributions have the same argmax.
    top1_agreement,
    /// (gᵀδ)².
    swd,
    /// |gᵀδ|.
    abs_gdelta,
    /// gᵀδ.
    gdelta,
    /// (g̃ᵀδ)², mean over the draws of labels.
    fwd,
    /// ‖g̃‖²‖δ‖², mean over the draws of labels: d_model times the mean of (g̃ᵀδ)² over all directions of δ.
    fisher_isotropic,
    /// Scored positions with labels drawn.
    drawn,
    /// ½(Σ_t g̃_tᵀδ_t)², the ½ included, mean over the draws of labels; of whole sequences only.
    kl_pred,
    /// Scored positions of whole sequences with labels drawn.
    drawn_whole,
    /// Part of `sse` along the top eigenvector of the activations' covariance: what deflation subtracts from it.
    sse_top_1,
    /// Along the top two.
    sse_top_2,
    /// Along the top four.
    sse_top_4,
    /// Along the top eight.
    sse_top_8,
    /// Part of `sst` along the top eigenvector: what deflation subtracts from it.
    sst_top_1,
    /// Along the top two.
    sst_top_2,
    /// Along the top four.
    sst_top_4,
    /// Along the top eight.
    sst_top_8,
    /// Sequences with a defined ce_rec.
    sequences,
    /// 2 − ce_recon(s)/ce_orig(s), of each sequence.
    ce_rec,
}

/// The sums of some sequences added together, by subset.
pub fn total<'a>(sequences: impl IntoIterator<Item = &'a [Sums; 3]>) -> [Sums; 3] {
    let mut total = [Sums::default(); 3];
    for sequence in sequences {
        for (total, sums) in total.iter_mut().zip(sequence) {
            *total += sums;
        }
    }
    total
}

/// ‖a‖² of one vector, in f64.
pub fn norm_squared(a: &[f32]) -> f64 {
    a.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}

/// ‖a‖ of one vector.
pub fn norm(a: &[f32]) -> f64 {
    norm_squared(a).sqrt()
}

/// The largest ‖a‖ that is no outlier: 10 × the median.
pub fn outlier_limit(norms: &[f64]) -> f64 {
    10.0 * crate::stats::median(norms).unwrap_or(f64::INFINITY)
}

/// What a metric speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// What the model does with the reconstruction.
    Behaviour,
    /// What the reconstruction looks like.
    Reconstruction,
}

/// A metric: its name in every result, its definition, and the formula.
pub struct Metric {
    /// Column name.
    pub name: &'static str,
    /// What it speaks of.
    pub kind: MetricKind,
    /// The definition in words and symbols, with its source where it is somebody's.
    pub definition: &'static str,
    /// Its value, or `None` where it is undefined.
    pub value: fn(&Sums) -> Option<f64>,
}

/// The metric of that name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.name == name)
}

/// A quotient, `None` where it is undefined.
pub fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    let value = numerator / denominator;
    (denominator != 0.0 && value.is_finite()).then_some(value)
}

/// What f32 rounding alone makes of ‖a − ā‖² where every activation is the same, of its d_model and ‖a‖². A dot product of d_model terms
/// in f32 has a relative error of at most d_model·u, u = 2⁻²⁴ (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, §3.1),
/// and an activation is made of such products.
pub(crate) fn rounding(d_model: f64, norm_sq: f64) -> f64 {
    let relative = d_model * f64::from(f32::EPSILON) / 2.0;
    relative * relative * norm_sq
}

/// [`rounding`] of all tokens of the sums.
fn rounding_of(s: &Sums) -> f64 {
    rounding(s.elements / s.tokens, s.norm_sq)
}

/// 1 − SSE/SST. Undefined where the activations vary no more than rounding makes them: there is no variance to explain.
pub(crate) fn r2(s: &Sums) -> Option<f64> {
    (s.sst > rounding_of(s)).then(|| ratio(s.sse, s.sst)).flatten().map(|r| 1.0 - r)
}

/// R² of what is left without some directions. Undefined where they hold all variance but rounding.
fn deflated_r2(s: &Sums, sse_top: f64, sst_top: f64) -> Option<f64> {
    let left = s.sst - sst_top;
    (left > rounding_of(s).max(1e-9 * s.sst)).then(|| 1.0 - (s.sse - sse_top) / left)
}

/// (ablated − ce_recon)/(ablated − ce_orig). Undefined where the ablation costs no more than the model itself: then the text is none
/// that the model knows, and a reconstruction that is worse would score higher.
fn loss_score(s: &Sums, ablated: f64) -> Option<f64> {
    let lost = ablated - s.ce_orig;
    (lost > 0.0).then(|| ratio(ablated - s.ce_recon, lost)).flatten()
}

macro_rules! metrics {
    ($($name:ident $kind:ident $definition:literal |$s:ident| $value:expr;)+) => {
        /// All metrics that are functions of sums.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: stringify!($name), kind: MetricKind::$kind, definition: $definition, value: |$s| $value },)+
        ];
    };
}

metrics! {
    ce_orig Behaviour "mean next-token cross-entropy of the unpatched model, nats"
        |s| ratio(s.ce_orig, s.scored);
    ce_recon Behaviour "the same with â patched in at the hook"
        |s| ratio(s.ce_recon, s.scored);
    ce_zero Behaviour "the same with 0 patched in"
        |s| ratio(s.ce_zero, s.scored);
    ce_mean Behaviour "the same with the evaluation set's mean activation patched in"
        |s| ratio(s.ce_mean, s.scored);
    ce_rec Behaviour "mean over sequences of 2 − ce_recon(s)/ce_orig(s); 1 is perfect, 0 is a doubled loss; not ablation-normalised (Ohiagwu 2026, 'Your SAE looks solved')"
        |s| ratio(s.ce_rec, s.sequences);
    ce_rec_pooled Behaviour "2 − Σ ce_recon / Σ ce_orig over all scored positions"
        |s| ratio(s.ce_recon, s.ce_orig).map(|r| 2.0 - r);
    ce_loss_score Behaviour "(ce_zero − ce_recon)/(ce_zero − ce_orig), pooled: 1 is perfect, 0 is no better than zero ablation; undefined unless ce_zero > ce_orig (Bricken et al. 2023; SAELens)"
        |s| loss_score(s, s.ce_zero);
    ce_loss_score_mean Behaviour "the same against mean ablation: like R², 0 for the mean activation and 1 for a perfect reconstruction"
        |s| loss_score(s, s.ce_mean);
    kl Behaviour "mean KL(p_orig ‖ p_recon) over scored positions, nats"
        |s| ratio(s.kl, s.scored);
    top1_agreement Behaviour "fraction of scored positions where both distributions have the same argmax"
        |s| ratio(s.top1_agreement, s.scored);
    swd Behaviour "sensitivity-weighted distortion E[(gᵀδ)²], g = ∂(Σ_t ce_t)/∂a, over scored positions (Ohiagwu 2026, 'Transport Geometry')"
        |s| ratio(s.swd, s.scored);
    abs_gdelta Behaviour "E|gᵀδ| over scored positions"
        |s| ratio(s.abs_gdelta, s.scored);
    gdelta Behaviour "E[gᵀδ] over scored positions: the first-order change of the loss"
        |s| ratio(s.gdelta, s.scored);
    fwd Behaviour "Fisher-weighted distortion E[(g̃ᵀδ)²] over scored positions, g̃ as g with labels drawn from the model's own output: an unbiased estimate of δᵀGδ, G = JᵀFJ the pullback of the output's Fisher information at one token (Ohiagwu 2026, 'Transport Geometry'; Martens 2020, arXiv:1412.1193, for the sampled Fisher)"
        |s| ratio(s.fwd, s.drawn);
    fisher_euclidean Behaviour "Fisher–Euclidean deviation: d_model·Σ(g̃ᵀδ)²/Σ‖g̃‖²‖δ‖² over scored positions, that is, fwd over what it would be if each error kept its length and had a random direction; 1 without preference for where the loss is sensitive, however large errors are where gradients are large (ours, after Ohiagwu 2026, 'Transport Geometry')"
        |s| ratio(s.fwd * s.elements, s.fisher_isotropic * s.tokens);
    kl_pred Behaviour "½·E[(Σ_t g̃_tᵀδ_t)²]/(T−1), labels drawn likewise: second-order prediction of kl, all errors of a sequence taken together; all tokens only"
        |s| ratio(s.kl_pred, s.drawn_whole);
    tokens Reconstruction "tokens that the reconstruction metrics are taken over"
        |s| Some(s.tokens);
    r2 Reconstruction "1 − SSE/SST, SST centred on the subset's mean and summed over dimensions; undefined where the activations vary by no more than f32 rounding"
        |s| r2(s);
    r2_uncentered Reconstruction "1 − SSE/Σ‖a‖²: R² without subtracting the mean"
        |s| ratio(s.sse, s.norm_sq).map(|r| 1.0 - r);
    r2_deflated_1 Reconstruction "R² with the top eigenvector of the activations' covariance projected out of δ and of a − ā"
        |s| deflated_r2(s, s.sse_top_1, s.sst_top_1);
    r2_deflated_2 Reconstruction "the same without the top two"
        |s| deflated_r2(s, s.sse_top_2, s.sst_top_2);
    r2_deflated_4 Reconstruction "the same without the top four"
        |s| deflated_r2(s, s.sse_top_4, s.sst_top_4);
    r2_deflated_8 Reconstruction "the same without the top eight"
        |s| deflated_r2(s, s.sse_top_8, s.sst_top_8);
    sse_per_token Reconstruction "mean ‖δ‖²"
        |s| ratio(s.sse, s.tokens);
    sst_per_token Reconstruction "mean ‖a − ā‖²"
        |s| ratio(s.sst, s.tokens);
    mse_mean Reconstruction "mean ‖δ‖²/d_model"
        |s| ratio(s.sse, s.elements);
    nmse Reconstruction "Σ‖δ‖²/Σ‖a‖²"
        |s| ratio(s.sse, s.norm_sq);
    cosine Reconstruction "mean over tokens of cos(a, â)"
        |s| ratio(s.cosine, s.tokens);
    rel_err Reconstruction "mean over tokens of ‖δ‖/(‖a‖ + 1e-10)"
        |s| ratio(s.rel_err, s.tokens);
    l2_ratio Reconstruction "mean over tokens (with a ≠ 0) of ‖â‖/‖a‖; below 1 is shrinkage"
        |s| ratio(s.l2_ratio, s.nonzero);
    recon_bias Reconstruction "mean‖â‖²/mean(a·â) (relative reconstruction bias, Rajamanoharan et al. 2024, arXiv:2404.16014)"
        |s| ratio(s.recon_norm_sq, s.dot);
    l0 Reconstruction "mean number of active latents per token"
        |s| ratio(s.l0, s.tokens);
}

/// The rise of the loss itself, ce_recon − ce_orig. A function of two columns, so it has none of its own in results.
pub static CE_INCREASE: Metric = Metric {
    name: "ce_increase",
    kind: MetricKind::Behaviour,
    definition: "ce_recon − ce_orig, nats per token (ΔL): the rise of the loss, normalised by nothing",
    value: |s| ratio(s.ce_recon - s.ce_orig, s.scored),
};

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, sums: &Sums) -> Option<f64> {
        (metric(name).unwrap().value)(sums)
    }

    /// Sums over `tokens` copies of an activation, each element rounded up or down by one unit in the last place.
    fn nearly_constant(tokens: usize, d_model: usize, level: f32) -> Sums {
        let element = |token: usize, i: usize| match (token * 31 + i * 17) % 3 {
            0 => level.next_down(),
            1 => level,
            _ => level.next_up(),
        };
        let activations: Vec<f32> = (0..tokens * d_model).map(|at| element(at / d_model, at % d_model)).collect();
        let directions = Directions::default();
        let mut look = FirstLook::new(d_model, tokens);
        look.add(&activations);
        let subsets = look.finish().finish();
        let recon = vec![0.9 * level; d_model];
        let mut sums = Sums::default();
        for a in activations.chunks(d_model) {
            let from_mean = subsets.from_mean(Subset::All, a, &directions);
            sums += &from_mean.complete(token_sums(a, &recon, &directions));
        }
        sums
    }

    #[test]
    fn activations_that_vary_by_rounding_alone_have_no_r2() {
        for (d_model, level) in [(16, 1.0_f32), (128, -3e-20), (512, 7e12)] {
            let sums = nearly_constant(40, d_model, level);
            assert!(sums.sst > 0.0 && sums.sse > 0.0, "{sums:?}");
            for name in ["r2", "r2_deflated_1", "r2_deflated_8"] {
                assert_eq!(value(name, &sums), None, "{name} at {level}");
            }
            // What needs no variance is there.
            assert!((value("r2_uncentered", &sums).unwrap() - 0.99).abs() < 1e-5);
        }
        let constant = Sums { tokens: 8.0, elements: 32.0, sse: 1.0, norm_sq: 4.0, ..Sums::default() };
        assert_eq!(value("r2", &constant), None);
        assert_eq!(value("r2", &Sums::default()), None);
        // A thousandth of the norm is variance.
        assert_eq!(value("r2", &Sums { sst: 4e-6, sse: 2e-6, ..constant }), Some(0.5));
    }

    /// ```python
    /// a = np.array([[1, 2, 2], [0, 3, 4], [-1, .5, 2]]); r = np.array([[1.5, 2, 1], [0, 2, 4.5], [-1, 1.5, 2.25]]); d = r - a
    /// g = np.array([[[.5, -1, 2], [0, 1, 1], [3, 0, -1]], [[1, 1, 0], [-2, .5, 0], [.25, .25, 4]]])
    /// 3 * ((g * d).sum(2)**2).mean(0).sum() / ((g**2).sum(2) * (d**2).sum(1)).mean(0).sum()   # 0.36548223350253806
    /// ```
    #[test]
    fn the_deviation_agrees_with_numpy() {
        let a = [[1.0, 2.0, 2.0], [0.0, 3.0, 4.0], [-1.0, 0.5, 2.0_f32]];
        let r = [[1.5, 2.0, 1.0], [0.0, 2.0, 4.5], [-1.0, 1.5, 2.25_f32]];
        let g = [
            [[0.5, -1.0, 2.0], [0.0, 1.0, 1.0], [3.0, 0.0, -1.0]],
            [[1.0, 1.0, 0.0], [-2.0, 0.5, 0.0], [0.25, 0.25, 4.0_f32]],
        ];
        let mut sums = Sums::default();
        for token in 0..3 {
            let (a, r) = (&a[token], &r[token]);
            let mut of_token = token_sums(a, r, &Directions::default());
            let draws = g.map(|g| {
                let along: f64 = (0..3).map(|i| f64::from(g[token][i]) * (f64::from(r[i]) - f64::from(a[i]))).sum();
                (along, norm_squared(&g[token]))
            });
            drawn_sums(&mut of_token, &draws);
            sums += &of_token;
        }
        assert!((value("fisher_euclidean", &sums).unwrap() - 0.365_482_233_502_538_06).abs() < 1e-12, "{sums:?}");
    }

    /// Errors in random directions, as large as gradients are: sizes that go together are no preferred direction.
    #[test]
    fn sizes_that_go_together_are_no_preferred_direction() {
        const D: usize = 8;
        let mut state = 1u64;
        let mut unit = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let mut sums = Sums::default();
        for token in 0..20_000 {
            let size = if token % 10 == 0 { 10.0 } else { 1.0 };
            let error: [f32; D] = std::array::from_fn(|_| size * unit());
            let gradient: [f32; D] = std::array::from_fn(|_| size * unit());
            let mut of_token = token_sums(&[0.0; D], &error, &Directions::default());
            let along: f64 = error.iter().zip(gradient).map(|(e, g)| f64::from(*e) * f64::from(g)).sum();
            drawn_sums(&mut of_token, &[(along, norm_squared(&gradient))]);
            sums += &of_token;
        }
        let found = value("fisher_euclidean", &sums).unwrap();
        assert!((found - 1.0).abs() < 0.1, "{found}");
        // The quotient of means that the metric was before would be near 8.
    }

    #[test]
    fn a_score_whose_ablation_costs_nothing_is_undefined() {
        let sums =
            Sums { scored: 10.0, ce_orig: 20.0, ce_recon: 25.0, ce_zero: 40.0, ce_mean: 30.0, ..Sums::default() };
        assert_eq!(value("ce_loss_score", &sums), Some(0.75));
        assert_eq!(value("ce_loss_score_mean", &sums), Some(0.5));
        for ablated in [20.0, 19.0, 0.0] {
            assert_eq!(value("ce_loss_score", &Sums { ce_zero: ablated, ..sums }), None, "{ablated}");
            assert_eq!(value("ce_loss_score_mean", &Sums { ce_mean: ablated, ..sums }), None, "{ablated}");
        }
        // Worse than the ablation is a score, below 0.
        assert_eq!(value("ce_loss_score_mean", &Sums { ce_recon: 35.0, ..sums }), Some(-0.5));
    }
}
