//! Does a score tell kinds of things apart, or only what would differ between two of one kind?

use statrs::distribution::{ContinuousCDF, FisherSnedecor};

use super::bootstrap::Interval;
use super::correlation::{demean_by, partial};
use super::effect::mean;
use super::inverse;

/// A one-way analysis of variance of kinds with replicates, within blocks whose means may differ.
///
/// MS_b = Σ_blocks Σ_kinds n_k (x̄_k − x̄_block)² / df_b with df_b = Σ_blocks (kinds − 1), and MS_w = Σ_kinds Σ (x − x̄_k)² / df_w with
/// df_w = Σ_kinds (n_k − 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reliability {
    /// The share of the variance within blocks that is between kinds, (MS_b − MS_w) / (MS_b + (n₀ − 1) MS_w): the intraclass correlation
    /// of a single replicate, ICC(1, 1) of Shrout and Fleiss (1979). n₀ is the number of replicates of a kind or, where that differs,
    /// Σ_blocks (N − Σ n_k²/N) / df_b (Donner 1986). It is below 0 where kinds differ less than replicates do.
    pub icc: f64,
    /// F = MS_b / MS_w.
    pub f: f64,
    /// The probability of an F as large where kinds do not differ and replicates are normal with one variance.
    pub p: f64,
    /// df_b and df_w.
    pub freedom: [usize; 2],
}

/// The share of the variance of a score that is between kinds.
///
/// `scores` are one a replicate, with its block and its kind. `None` if there is no block of two kinds, no kind with two replicates,
/// nothing varies, or a score is not finite.
pub fn reliability<B: Ord, K: Ord>(scores: &[(B, K, f64)]) -> Option<Reliability> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| (&scores[a].0, &scores[a].1).cmp(&(&scores[b].0, &scores[b].1)));
    let (mut between, mut within) = (0.0, 0.0);
    let (mut of_kinds, mut of_replicates, mut size) = (0, 0, 0.0);
    for block in order.chunk_by(|&a, &b| scores[a].0 == scores[b].0) {
        let value = |at: &usize| scores[*at].2;
        let all: Vec<f64> = block.iter().map(value).collect();
        let (centre, mut squares, mut kinds) = (mean(&all)?, 0.0, 0);
        for kind in block.chunk_by(|&a, &b| scores[a].1 == scores[b].1) {
            let values: Vec<f64> = kind.iter().map(value).collect();
            let (of_kind, n) = (mean(&values)?, values.len() as f64);
            between += n * (of_kind - centre).powi(2);
            within += values.iter().map(|x| (x - of_kind).powi(2)).sum::<f64>();
            of_replicates += values.len() - 1;
            squares += n * n;
            kinds += 1;
        }
        of_kinds += kinds - 1;
        size += all.len() as f64 - squares / all.len() as f64;
    }
    let largest = scores.iter().fold(0.0_f64, |largest, (_, _, x)| largest.max(x.abs()));
    // By no more than rounding, as in `pearson`.
    let is_constant = between + within <= scores.len() as f64 * (1e-13 * largest).powi(2);
    if of_kinds == 0 || of_replicates == 0 || is_constant {
        return None;
    }
    let [ms_b, ms_w] = [between / of_kinds as f64, within / of_replicates as f64];
    let per_kind = size / of_kinds as f64;
    let icc = (ms_b - ms_w) / (ms_b + (per_kind - 1.0) * ms_w);
    let f = ms_b / ms_w;
    if !icc.is_finite() || f.is_nan() {
        return None;
    }
    let p = match f.is_finite() {
        true => FisherSnedecor::new(of_kinds as f64, of_replicates as f64).ok()?.sf(f),
        false => 0.0,
    };
    Some(Reliability { icc, f, p, freedom: [of_kinds, of_replicates] })
}

/// Pearson's correlation within groups, of what is left of both after regression on `held` within groups, with the interval of Fisher's z
/// (1921, 1924): the mean of a group and what is held fixed cost a degree of freedom each, so that z has the standard error
/// 1/√(n − g − h − 2) for n values in g groups and h held fixed, 1/√(n − 3) in one group alone. Both are `None` where nothing is left to vary, the
/// interval also where no degree of freedom is.
pub fn correlation_within<G: Ord>(
    x: &[f64],
    y: &[f64],
    groups: &[G],
    held: &[&[f64]],
    level: f64,
) -> (Option<f64>, Option<Interval>) {
    let within = |values: &[f64]| demean_by(values, groups);
    let held: Option<Vec<Vec<f64>>> = held.iter().map(|held| within(held)).collect();
    let Some(((x, y), held)) = within(x).zip(within(y)).zip(held) else { return (None, None) };
    let controls: Vec<&[f64]> = held.iter().map(Vec::as_slice).collect();
    let mut distinct: Vec<&G> = groups.iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let free = x.len() as f64 - (distinct.len() + held.len()) as f64 - 2.0;
    // With fewer values it is ±1, whatever they are.
    let Some(r) = partial(&x, &y, &controls).filter(|_| free >= 0.0) else { return (None, None) };
    let interval = inverse::normal((1.0 + level) / 2.0).filter(|_| free > 0.0).map(|z| {
        let half = z / free.sqrt();
        let end = |z: f64| (r.clamp(-1.0, 1.0).atanh() + z).tanh();
        Interval { low: end(-half), high: end(half) }
    });
    (Some(r), interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 2 of Shrout and Fleiss (1979): six targets, four judges. They print BMS 11.24, WMS 6.26 and ICC(1, 1) = .17.
    const JUDGED: [[f64; 4]; 6] = [
        [9.0, 2.0, 5.0, 8.0],
        [6.0, 1.0, 3.0, 2.0],
        [8.0, 4.0, 6.0, 8.0],
        [7.0, 1.0, 2.0, 6.0],
        [10.0, 5.0, 6.0, 9.0],
        [6.0, 2.0, 4.0, 7.0],
    ];

    fn judged(block: u32, shift: f64) -> Vec<(u32, usize, f64)> {
        let rows = JUDGED.iter().enumerate();
        rows.flat_map(|(kind, row)| row.iter().map(move |x| (block, kind, x + shift))).collect()
    }

    #[test]
    fn the_published_table_has_its_published_coefficient() {
        let found = reliability(&judged(0, 0.0)).unwrap();
        assert_eq!(found.freedom, [5, 18]);
        assert!((found.icc - 0.17).abs() < 0.005, "{}", found.icc);
        assert!((found.f - 11.24 / 6.26).abs() < 2e-3, "{}", found.f);
        // scipy.stats.f_oneway (1.17.1), of all and of kinds of 4, 3, 2 and 4 replicates.
        assert!((found.f - 1.7946784922394678).abs() < 1e-12 && (found.p - 0.16476880834463953).abs() < 1e-12);
        let kept = |(_, kind, _): &(u32, usize, f64), at: usize| at < [4, 3, 2, 4, 0, 0][*kind];
        let some: Vec<_> = judged(0, 0.0).into_iter().enumerate().filter(|(at, row)| kept(row, at % 4)).collect();
        let some: Vec<_> = some.into_iter().map(|(_, row)| row).collect();
        let found = reliability(&some).unwrap();
        assert!((found.f - 0.6903010033444817).abs() < 1e-12 && (found.p - 0.5805202188516896).abs() < 1e-12);
    }

    /// A block is a shift that says nothing: two of them have twice the degrees of freedom and the same F.
    #[test]
    fn blocks_may_lie_anywhere() {
        let one = reliability(&judged(0, 0.0)).unwrap();
        let two = reliability(&[judged(0, 0.0), judged(1, 1e3)].concat()).unwrap();
        assert_eq!(two.freedom, [10, 36]);
        assert!((two.f - one.f).abs() < 1e-9 && (two.icc - one.icc).abs() < 1e-9 && two.p < one.p);
    }

    #[test]
    fn what_has_no_answer_is_none() {
        assert_eq!(reliability::<u8, u8>(&[]), None);
        // One kind; no replicates; nothing varies; nothing but NaN.
        assert_eq!(reliability(&[(0, 0, 1.0), (0, 0, 2.0)]), None);
        assert_eq!(reliability(&[(0, 0, 1.0), (0, 1, 2.0)]), None);
        assert_eq!(reliability(&[(0, 0, 1.0), (0, 0, 1.0), (0, 1, 1.0)]), None);
        assert_eq!(reliability(&[(0, 0, f64::NAN), (0, 0, 1.0), (0, 1, 1.0)]), None);
        // Replicates that agree to the last bit: all of the variance is between kinds.
        let found = reliability(&[(0, 0, 1.0), (0, 0, 1.0), (0, 1, 2.0), (0, 1, 2.0)]).unwrap();
        assert_eq!((found.icc, found.p), (1.0, 0.0));
    }

    #[test]
    fn what_is_held_fixed_is_taken_out_of_both() {
        let column = |judge: usize| JUDGED.map(|row| row[judge]);
        // scipy 1.17.1: pearsonr of the residuals of linregress(z, x) and linregress(z, y), z the second judge, and the ends of its z, with
        // the standard error 1/√(6 − 4).
        let (r, interval) = correlation_within(&column(0), &column(2), &[0; 6], &[&column(1)], 0.95);
        assert!((r.unwrap() - 0.1956559480312315).abs() < 1e-12, "{r:?}");
        let interval = interval.unwrap();
        assert!((interval.low + 0.829861776889067).abs() < 1e-9, "{interval:?}");
        assert!((interval.high - 0.9192421707238891).abs() < 1e-9, "{interval:?}");
        assert_eq!(correlation_within(&column(0), &column(0), &[0; 6], &[&column(0)], 0.95), (None, None));
    }

    #[test]
    fn a_correlation_within_one_group_is_pearsons() {
        let column = |judge: usize| JUDGED.map(|row| row[judge]);
        // scipy.stats.pearsonr and its confidence_interval (1.17.1).
        for (level, low, high) in
            [(0.95, -0.2102951356372084, 0.967375196398472), (0.9, -0.03154060318580807, 0.9533908242941564)]
        {
            let (r, interval) = correlation_within(&column(0), &column(2), &[0; 6], &[], level);
            let interval = interval.unwrap();
            assert!((r.unwrap() - 0.725).abs() < 1e-12);
            assert!((interval.low - low).abs() < 1e-9 && (interval.high - high).abs() < 1e-9, "{interval:?}");
        }
        // A group more costs a degree of freedom, and where it lies says nothing.
        let of = |shift: f64| [column(0), column(0).map(|x| x + shift)].concat();
        let y = [column(2), column(2)].concat();
        let groups = [[0; 6], [1; 6]].concat();
        let (r, interval) = correlation_within(&of(100.0), &y, &groups, &[], 0.95);
        assert!((r.unwrap() - 0.725).abs() < 1e-12);
        let width = |free: f64| (0.725_f64.atanh() + 1.959963984540054 / free.sqrt()).tanh();
        assert!((interval.unwrap().high - width(8.0)).abs() < 1e-9);
        let (r, interval) = correlation_within(&[1.0, 2.0, 4.0], &[1.0, 3.0, 4.0], &[0; 3], &[], 0.95);
        assert!(r.is_some() && interval.is_none());
        assert_eq!(correlation_within(&[1.0; 4], &[1.0, 2.0, 3.0, 5.0], &[0; 4], &[], 0.95), (None, None));
    }
}
