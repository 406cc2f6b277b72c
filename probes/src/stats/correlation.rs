//! Correlations over the rows of a grid: pooled, by rank, within groups, and with controls held fixed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bootstrap::{Interval, Resamples};
use super::effect::mean;

/// Pearson's product-moment correlation, in [−1, 1].
///
/// `None` where it is undefined: samples of different size, a value that is not finite, or one that does not vary by
/// more than rounding (within 1e-13 of its mean, scipy's limit); and for fewer than three rows, where it is ±1
/// whatever the data.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    (x.len() == y.len() && x.len() > 2).then_some(())?;
    cosine(&centred(x)?, &centred(y)?)
}

/// Spearman's rank correlation: [`pearson`] of the [`ranks`]. Values may be infinite.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x)?, &ranks(y)?)
}

/// Ranks from 1, equal values sharing the mean of theirs. `None` if a value is NaN.
pub fn ranks(values: &[f64]) -> Option<Vec<f64>> {
    if values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    // By `==`, which the total order is not: it puts −0 before 0.
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = rank);
        before += tied.len();
    }
    Some(ranks)
}

/// Ranks within each group, without the group's mean rank: Pearson's correlation of two such is Spearman's within groups.
///
/// Any increasing map of the values, another one in each group, leaves it as it is; ranks of [`demean_by`] would follow the groups
/// of which the values spread most. `None` as there.
pub fn ranks_by<G: Ord>(values: &[f64], groups: &[G]) -> Option<Vec<f64>> {
    (values.len() == groups.len()).then_some(())?;
    let mut members = BTreeMap::<&G, Vec<usize>>::new();
    for (at, group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(at);
    }
    let mut out = vec![0.0; values.len()];
    for rows in members.values() {
        let ranks = ranks(&rows.iter().map(|&at| values[at]).collect::<Vec<_>>())?;
        let middle = (rows.len() + 1) as f64 / 2.0;
        rows.iter().zip(ranks).for_each(|(&at, rank)| out[at] = rank - middle);
    }
    Some(out)
}

/// The values without their group's mean: with k as the group, what is left varies within fixed k.
///
/// A group of one, or of equal values, leaves exact zeros. `None` if the sizes differ or a value is not finite.
pub fn demean_by<G: Ord>(values: &[f64], groups: &[G]) -> Option<Vec<f64>> {
    (values.len() == groups.len()).then_some(())?;
    let mut members = BTreeMap::<&G, Vec<f64>>::new();
    for (&value, group) in values.iter().zip(groups) {
        members.entry(group).or_default().push(value);
    }
    let means: BTreeMap<&G, f64> = members.into_iter().map(|(g, m)| Some((g, mean(&m)?))).collect::<Option<_>>()?;
    Some(values.iter().zip(groups).map(|(v, group)| v - means[group]).collect())
}

/// The partial correlation of x and y: of what is left of each after regression on the controls and an intercept.
///
/// A control that is constant, or a combination of others up to rounding, changes nothing and is left out. `None` if x
/// or y is itself such a combination, where nothing but rounding would be correlated; if sizes differ or a value is
/// not finite; and if fewer than two degrees of freedom remain, where the result is ±1 whatever the data.
pub fn partial(x: &[f64], y: &[f64], controls: &[&[f64]]) -> Option<f64> {
    let n = x.len();
    let mut basis = Basis::default();
    for control in controls {
        let sound = control.len() == n && control.iter().all(|v| v.is_finite());
        sound.then_some(())?;
        if let Some(control) = centred(control) {
            basis.add(control);
        }
    }
    (y.len() == n && n >= basis.vectors.len() + 3).then_some(())?;
    cosine(&basis.residual(centred(x)?)?, &basis.residual(centred(y)?)?)
}

/// The values at the given rows, for a statistic of resampled rows.
pub fn gather(values: &[f64], rows: &[u32]) -> Vec<f64> {
    rows.iter().map(|&i| values[i as usize]).collect()
}

/// The deviations from the mean, the largest scaled to 1. `None` if there is no deviation but rounding.
fn centred(values: &[f64]) -> Option<Vec<f64>> {
    let mean = mean(values)?;
    let largest = values.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
    (largest > 1e-13 * mean.abs()).then(|| values.iter().map(|v| (v - mean) / largest).collect())
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn cosine(x: &[f64], y: &[f64]) -> Option<f64> {
    let r = dot(x, y) / (dot(x, x).sqrt() * dot(y, y).sqrt());
    r.is_finite().then_some(r.clamp(-1.0, 1.0))
}

/// An orthonormal basis of the controls by the modified Gram-Schmidt method, whose residuals are as accurate as
/// Householder's (Björck 1967). The normal equations would square the condition number.
struct Basis {
    vectors: Vec<Vec<f64>>,
    /// The share of a vector's length below which its residual is rounding.
    rounding: f64,
}

impl Default for Basis {
    fn default() -> Self {
        Self { vectors: Vec::new(), rounding: 1e-13 }
    }
}

impl Basis {
    /// What is left of a vector, and the share of its length that this is.
    fn split(&self, mut vector: Vec<f64>) -> (Vec<f64>, f64) {
        let before = dot(&vector, &vector).sqrt();
        for unit in &self.vectors {
            let along = dot(&vector, unit);
            vector.iter_mut().zip(unit).for_each(|(v, u)| *v -= along * u);
        }
        let share = dot(&vector, &vector).sqrt() / before;
        (vector, share)
    }

    fn add(&mut self, control: Vec<f64>) {
        let (mut rest, share) = self.split(control);
        // A direction that is all difference of two near-equal controls is known only as well as that difference.
        if share > 1e-10 {
            self.rounding = self.rounding.max(1e-13 / share);
            let norm = dot(&rest, &rest).sqrt();
            rest.iter_mut().for_each(|v| *v /= norm);
            self.vectors.push(rest);
        }
    }

    fn residual(&self, vector: Vec<f64>) -> Option<Vec<f64>> {
        let (rest, share) = self.split(vector);
        (share > self.rounding).then_some(rest)
    }
}

/// The share of degenerate replicates up to which an interval is given: less than half of either tail of a 95 % interval.
pub const DEGENERATE: f64 = 0.01;

/// A statistic of grid rows, and how well the rows determine it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On all rows.
    pub value: Option<f64>,
    /// Percentile interval over the replicates in which the statistic is defined. `None` if the value is undefined, if all replicates are
    /// equal, or if more than [`DEGENERATE`] of them are degenerate: the rest would describe the draws that happened to work, not
    /// the statistic.
    pub interval: Option<Interval>,
    /// Replicates in which the statistic is undefined, because the rows drawn do not vary.
    pub degenerate: usize,
}

impl Estimate {
    /// Evaluates a statistic on all rows and on every resample of them; it is given the indices of the rows.
    ///
    /// A statistic may compare: the difference of two absolute correlations, both taken over the rows it is given, is
    /// paired.
    pub fn over_rows(resamples: &Resamples, level: f64, statistic: impl Fn(&[u32]) -> Option<f64> + Sync) -> Self {
        let statistic = |rows: &[u32]| statistic(rows).filter(|v| !v.is_nan());
        let value = statistic(&(0..resamples.items() as u32).collect::<Vec<_>>());
        let mut replicates = resamples.map(statistic);
        replicates.retain(Option::is_some);
        let degenerate = resamples.len() - replicates.len();
        // Replicates that are all alike, as where each group has two rows, say nothing of how sure the value is.
        let vary = replicates.windows(2).any(|pair| pair[0] != pair[1]);
        let few = degenerate as f64 <= DEGENERATE * resamples.len() as f64;
        let enough = value.is_some() && vary && few;
        let interval = if enough { Interval::percentile(&replicates, level) } else { None };
        Self { value, interval, degenerate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Two models at six k; made up, in the range of such grids.
    const R2: [f64; 12] = [0.807, 0.855, 0.891, 0.922, 0.943, 0.961, 0.961, 0.967, 0.975, 0.979, 0.979, 0.978];
    const CE_REC: [f64; 12] = [0.340, 0.581, 0.731, 0.842, 0.913, 0.959, 0.235, 0.513, 0.714, 0.815, 0.881, 0.922];
    const SWD: [f64; 12] = [31.0, 17.5, 9.1, 5.2, 2.9, 1.6, 44.0, 19.8, 11.2, 7.7, 4.0, 2.1];
    const K: [u32; 12] = [8, 16, 32, 64, 128, 256, 8, 16, 32, 64, 128, 256];

    fn close(value: Option<f64>, expected: f64, tolerance: f64) {
        assert!((value.unwrap() - expected).abs() < tolerance, "{value:?} {expected}");
    }

    /// With a, b, s, k the four arrays above (numpy 2.4, scipy 1.17):
    ///
    /// ```python
    /// stats.pearsonr(a, b).statistic      # 0.4481789255382284
    /// stats.spearmanr(a, b).statistic     # 0.3543881464403645
    /// stats.rankdata(a)                   # [1, 2, 3, 4, 5, 6.5, 6.5, 8, 9, 11.5, 11.5, 10]
    /// dm = lambda v: v - np.array([v[k == g].mean() for g in k])
    /// stats.pearsonr(dm(a), dm(b)).statistic, stats.spearmanr(dm(a), dm(b)).statistic
    ///                                     # (-0.9418962395762066, -0.8601398601398602)
    /// def partial(x, y, controls):
    ///     z = np.column_stack([np.ones(len(x)), *controls])
    ///     res = lambda v: v - z @ np.linalg.lstsq(z, v, rcond=None)[0]
    ///     return np.corrcoef(res(x), res(y))[0, 1]
    /// partial(1 / s, b, [a]), partial(1 / s, b, [a, np.log(k)])
    ///                                     # (0.7163131582653111, -0.7434546242125497)
    /// ```
    #[test]
    fn agree_with_scipy_and_numpy() {
        close(pearson(&R2, &CE_REC), 0.4481789255382284, 1e-13);
        close(spearman(&R2, &CE_REC), 0.3543881464403645, 1e-13);
        assert_eq!(ranks(&R2).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.5, 6.5, 8.0, 9.0, 11.5, 11.5, 10.0]);
        let (a, b) = (demean_by(&R2, &K).unwrap(), demean_by(&CE_REC, &K).unwrap());
        close(pearson(&a, &b), -0.9418962395762066, 1e-12);
        close(spearman(&a, &b), -0.8601398601398602, 1e-12);
        let inverse = SWD.map(f64::recip);
        let ln_k = K.map(|k| f64::from(k).ln());
        close(partial(&inverse, &CE_REC, &[]), pearson(&inverse, &CE_REC).unwrap(), 1e-15);
        close(partial(&inverse, &CE_REC, &[&R2]), 0.7163131582653111, 1e-12);
        close(partial(&inverse, &CE_REC, &[&R2, &ln_k]), -0.7434546242125497, 1e-12);
    }

    /// The reference value was computed in exact rational arithmetic (Python's `fractions`); numpy's `lstsq` gives
    /// 0.8208387878968276. The condition number is 1.7e7: the normal equations would keep no digit.
    #[test]
    fn controls_may_be_nearly_collinear() {
        let inverse = SWD.map(f64::recip);
        let near: [f64; 12] = std::array::from_fn(|i| R2[i] + 1e-7 * (i % 5) as f64);
        close(partial(&inverse, &CE_REC, &[&R2, &near]), 0.8208387879064969, 1e-9);
        let same = R2.map(|v| 3.0 * v - 1.0);
        close(partial(&inverse, &CE_REC, &[&R2, &same, &[7.0; 12]]), 0.7163131582653111, 1e-12);
        let combination: [f64; 12] = std::array::from_fn(|i| 0.3 * R2[i] - 2.0 * SWD[i]);
        assert_eq!(partial(&combination, &CE_REC, &[&R2, &SWD]), None);
        let difference: [f64; 12] = std::array::from_fn(|i| near[i] - R2[i]);
        assert_eq!(partial(&difference, &CE_REC, &[&R2, &near]), None);
    }

    /// With `indices` as in the tests of the bootstrap, i = indices(12, 200):
    ///
    /// ```python
    /// c = lambda u, v: abs(np.corrcoef(u, v)[0, 1])
    /// c(1 / s, b) - c(a, b)   # 0.3161991504827405
    /// np.quantile([c(1 / s[j], b[j]) - c(a[j], b[j]) for j in i], [.025, .975])
    ///                         # [-0.13692345537682987, 0.7497079984327991]
    /// ```
    #[test]
    fn a_difference_of_two_correlations_is_paired() {
        let inverse = SWD.map(f64::recip);
        let estimate = Estimate::over_rows(&Resamples::reference(12, 200), 0.95, |rows| {
            let ce = gather(&CE_REC, rows);
            Some(pearson(&gather(&inverse, rows), &ce)?.abs() - pearson(&gather(&R2, rows), &ce)?.abs())
        });
        close(estimate.value, 0.3161991504827405, 1e-12);
        close(estimate.interval.map(|i| i.low), -0.13692345537682987, 1e-12);
        close(estimate.interval.map(|i| i.high), 0.7497079984327991, 1e-12);
        assert_eq!(estimate.degenerate, 0);
    }

    #[test]
    fn degenerate_draws_are_counted() {
        let (x, y) = ([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]);
        let over = |rows: &[u32]| {
            let resamples = Resamples::from_indices(3, rows.to_vec()).unwrap();
            Estimate::over_rows(&resamples, 0.95, |r| pearson(&gather(&x, r), &gather(&y, r)))
        };
        let some = over(&[0, 1, 2, 1, 1, 1, 2, 2, 2, 0, 0, 1]);
        assert_eq!((some.degenerate, some.interval), (2, None));
        assert_eq!(some.value, pearson(&x, &y));
        let none = over(&[0, 1, 2, 0, 0, 1]);
        assert!(none.interval.is_some_and(|i| i.low < 0.4 && i.high > 0.9), "of two replicates, 0.33 and 1");
        // One of a hundred is let pass.
        let rare: Vec<u32> = [1, 1, 1].into_iter().chain([0, 1, 2, 0, 0, 1].into_iter().cycle().take(297)).collect();
        let rare = over(&rare);
        assert!(rare.degenerate == 1 && rare.interval.is_some());
        let alike = over(&[0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!((alike.degenerate, alike.interval), (0, None));
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        let y = [1.0, 2.0, 4.0, 8.0];
        // Their sum is not four times 0.1 exactly, and the last differs by rounding.
        assert_eq!(pearson(&[0.1; 4], &y), None);
        assert_eq!(pearson(&[0.1, 0.1, 0.1, 0.1 + 1e-16], &y), None);
        assert_eq!(spearman(&[0.1; 4], &y), None);
        assert_eq!(pearson(&[1.0, 2.0, f64::NAN, 3.0], &y), None);
        assert_eq!(pearson(&y[..2], &y[..2]), None);
        assert_eq!(pearson(&y[..3], &y), None);
        assert_eq!(partial(&y, &[1.0, 0.0, 3.0, 2.0], &[&[1.0, 2.0, 5.0, 3.0], &[0.0, 2.0, 1.0, 1.0]]), None);
        assert_eq!(spearman(&[1.0, 2.0, 3.0, f64::INFINITY], &y), Some(1.0));
        let demeaned = demean_by(&[0.1, 0.1, 0.1, 5.0], &["a", "a", "a", "b"]).unwrap();
        assert_eq!(demeaned, [0.0; 4]);
        assert_eq!(demean_by(&[1.0], &[1, 2]), None);
        assert_eq!(ranks(&[0.0, -0.0, f64::NEG_INFINITY]), Some(vec![2.5, 2.5, 1.0]));
        // Far from 1, where squares would underflow or overflow.
        close(pearson(&y.map(|v| v * 1e-200), &y.map(|v| v * 1e200)), 1.0, 1e-15);
    }

    fn rows() -> impl Strategy<Value = Vec<(f64, f64, f64)>> {
        prop::collection::vec((-10.0..10.0f64, -10.0..10.0f64, -10.0..10.0f64), 4..30)
    }

    fn columns(rows: impl IntoIterator<Item = (f64, f64, f64)>) -> [Vec<f64>; 3] {
        let mut columns = [const { Vec::new() }; 3];
        for (x, y, z) in rows {
            columns[0].push(x);
            columns[1].push(y);
            columns[2].push(z);
        }
        columns
    }

    /// ```python
    /// r = lambda v: np.concatenate([stats.rankdata(v[:6]) - 3.5, stats.rankdata(v[6:]) - 3.5])
    /// stats.pearsonr(r(a), r(s)).statistic        # -0.9064982793336027
    /// ```
    #[test]
    fn ranks_within_groups_follow_no_group_s_spread() {
        let groups = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1];
        let (a, s) = (ranks_by(&R2, &groups).unwrap(), ranks_by(&SWD, &groups).unwrap());
        assert_eq!(a, [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -2.5, -1.5, -0.5, 2.0, 2.0, 0.5]);
        close(pearson(&a, &s), -0.9064982793336027, 1e-13);
        let stretched: Vec<f64> =
            SWD.iter().zip(groups).map(|(v, g)| if g == 0 { v.exp() } else { v.sqrt() }).collect();
        assert_eq!(ranks_by(&stretched, &groups).unwrap(), s);
        assert_eq!(ranks_by(&R2, &[0; 3]), None);
    }

    proptest! {
        #[test]
        fn correlations_know_no_order_and_stay_in_range(rows in rows(), by in 0usize..30) {
            let turned = rows.iter().copied().cycle().skip(by).take(rows.len());
            let ([x, y, z], [u, v, w]) = (columns(rows.iter().copied()), columns(turned));
            let pairs = [
                (pearson(&x, &y), pearson(&u, &v)),
                (spearman(&x, &y), spearman(&u, &v)),
                (partial(&x, &y, &[&z]), partial(&u, &v, &[&w])),
            ];
            for (a, b) in pairs {
                let (a, b) = (a.unwrap(), b.unwrap());
                prop_assert!((-1.0..=1.0).contains(&a));
                prop_assert!((a - b).abs() < 1e-9, "{} {}", a, b);
            }
        }

        #[test]
        fn ranks_know_no_scale(rows in rows()) {
            let [x, y, _] = columns(rows.iter().copied());
            let stretched: Vec<f64> = x.iter().map(|v| (v / 3.0).exp()).collect();
            prop_assert_eq!(spearman(&x, &y), spearman(&stretched, &y));
            let fallen: Vec<f64> = y.iter().map(|v| -v.powi(3)).collect();
            prop_assert!((spearman(&x, &y).unwrap() + spearman(&x, &fallen).unwrap()).abs() < 1e-12);
        }

        /// The recursion that defines it for one control.
        #[test]
        fn one_control_gives_the_textbook_formula(rows in rows()) {
            let [x, y, z] = columns(rows.iter().copied());
            let [xy, xz, yz] = [(&x, &y), (&x, &z), (&y, &z)].map(|(a, b)| pearson(a, b).unwrap());
            let denominator = ((1.0 - xz * xz) * (1.0 - yz * yz)).sqrt();
            prop_assume!(denominator > 1e-3);
            prop_assert!((partial(&x, &y, &[&z]).unwrap() - (xy - xz * yz) / denominator).abs() < 1e-8);
        }
    }
}
