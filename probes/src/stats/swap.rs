//! Is one of two proxies the better one? A permutation test that swaps them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Up to so many blocks every swap is made; beyond, [`DRAWS`] of them.
const ALL: usize = 12;
const DRAWS: usize = 4095;

/// The two-sided p-value of "the two are exchangeable": the share of swaps that make the difference at least as large as it is.
///
/// `difference` is given, for each block, whether the two change names there. Blocks are what chance deals with independently of the
/// others; with n of them no p-value is below 2/2ⁿ. Above 12 blocks swaps are drawn, and the one that was observed counts among them (Phipson
/// and Smyth 2010). `None` without blocks, or where a difference is undefined.
///
/// It is exact if the two, brought to one scale, are exchangeable in each block independently (Pitman 1937); a preference that all
/// blocks share, such as that of one pair of models, it takes for one of the proxies.
pub fn swap_test(blocks: usize, seed: u64, difference: impl Fn(&[bool]) -> Option<f64> + Sync) -> Option<f64> {
    (blocks > 0).then_some(())?;
    let observed = difference(&vec![false; blocks])?.abs();
    let swaps: Vec<Vec<bool>> = if blocks <= ALL {
        (0..1usize << blocks).map(|mask| (0..blocks).map(|at| (mask >> at) & 1 == 1).collect()).collect()
    } else {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let drawn = (0..DRAWS).map(|_| (0..blocks).map(|_| rng.random()).collect());
        std::iter::once(vec![false; blocks]).chain(drawn).collect()
    };
    // Swaps that only rounding tells apart from the observed one count as equal to it.
    let limit = observed - 1e-12 * observed.max(1.0);
    let reached: Option<Vec<bool>> = swaps.par_iter().map(|swap| Some(difference(swap)?.abs() >= limit)).collect();
    let reached = reached?;
    Some(reached.iter().filter(|r| **r).count() as f64 / reached.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::crossed::tests::normal;
    use super::*;
    use crate::stats::{Estimate, Resamples, gather, pearson};

    fn difference(x: &[f64], rival: &[f64], y: &[f64], swap: &[bool]) -> Option<f64> {
        let pick = |first: &[f64], second: &[f64]| -> Vec<f64> {
            swap.iter().zip(first.iter().zip(second)).map(|(&swap, (&a, &b))| if swap { b } else { a }).collect()
        };
        Some(pearson(&pick(x, rival), y)? - pearson(&pick(rival, x), y)?)
    }

    /// scipy 1.17.1:
    ///
    /// ```python
    /// r = lambda u: np.corrcoef(u, y)[0, 1]
    /// stats.permutation_test((x, z), lambda u, v: r(u) - r(v), permutation_type="samples", n_resamples=np.inf).pvalue
    /// ```
    #[test]
    fn agrees_with_scipy() {
        let y = [0.1, 0.4, 0.2, 0.9, 0.7, 1.3, 1.1, 1.6];
        let x = [0.2, 0.5, 0.1, 0.8, 0.9, 1.2, 1.0, 1.7];
        let z = [0.9, 0.1, 0.6, 0.5, 1.2, 0.8, 1.5, 1.0];
        let p = swap_test(8, 0, |swap| difference(&x, &z, &y, swap)).unwrap();
        assert!((p - 0.03125).abs() < 1e-12, "{p}");
        assert_eq!(swap_test(0, 0, |_| Some(1.0)), None);
        assert_eq!(swap_test(3, 0, |_| None), None);
        assert_eq!(swap_test(4, 0, |swap| Some(if swap.iter().all(|s| !s) { 1.0 } else { 0.0 })), Some(1.0 / 16.0));
    }

    /// Two proxies of equal worth, each behaviour plus noise of its own, two models at each of so many k: how often the swap test
    /// rejects at 5 %, and how often 0 lies outside the 95 % bootstrap interval of cells drawn one by one, and of whole k.
    fn false_positives(blocks: usize, samples: usize) -> [f64; 3] {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let by_cell = Resamples::draw(2 * blocks, 400, 1);
        let by_block = Resamples::draw(blocks, 400, 1);
        let mut hits = [0usize; 3];
        for _ in 0..samples {
            // Within fixed k the two models' residuals are opposite.
            let paired = |values: Vec<f64>| values.into_iter().flat_map(|v| [v, -v]).collect::<Vec<f64>>();
            let y: Vec<f64> = (0..blocks).map(|_| 1.0 + 0.5 * normal(&mut rng)).collect();
            let mut noisy = || paired(y.iter().map(|v| v + 0.7 * normal(&mut rng)).collect());
            let (x, z) = (noisy(), noisy());
            let y = paired(y);
            let p = swap_test(blocks, 0, |swap| {
                let rows: Vec<bool> = swap.iter().flat_map(|&s| [s, s]).collect();
                difference(&x, &z, &y, &rows)
            });
            hits[0] += usize::from(p.unwrap() <= 0.05);
            let of_rows = |rows: &[u32]| {
                let y = gather(&y, rows);
                Some(pearson(&gather(&x, rows), &y)? - pearson(&gather(&z, rows), &y)?)
            };
            let whole = |drawn: &[u32]| drawn.iter().flat_map(|&b| [2 * b, 2 * b + 1]).collect::<Vec<u32>>();
            let cells = Estimate::over_rows(&by_cell, 0.95, of_rows);
            let k = Estimate::over_rows(&by_block, 0.95, |drawn| of_rows(&whole(drawn)));
            for (hits, found) in hits[1..].iter_mut().zip([cells, k]) {
                *hits += usize::from(found.interval.is_some_and(|i| i.excludes_zero()));
            }
        }
        hits.map(|h| h as f64 / samples as f64)
    }

    /// The standard error of a share of 1,000 near 0.05 is 0.7 %.
    #[test]
    fn equal_proxies_are_told_apart_no_more_often_than_the_level() {
        for blocks in [4, 6, 18] {
            let samples = if blocks > ALL { 200 } else { 1000 };
            let [swaps, cells, whole] = false_positives(blocks, samples);
            println!("{blocks} blocks: swaps {swaps}, cells {cells}, whole k {whole}");
            assert!(swaps <= 0.05 + 3.0 * (0.05 * 0.95 / samples as f64).sqrt(), "{blocks}: {swaps}");
            assert!(cells > 0.15 && whole < cells, "{blocks}: {cells} {whole}");
        }
    }

    /// Two distortions of equal worth, straight in behaviour, whose size falls over the k: how often the swap test takes one of them for the worse
    /// proxy, turned as −x and as 1/x, while the other is turned as −x like R².
    fn taken_for_worse(samples: usize) -> [f64; 2] {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let blocks = 12;
        let mut hits = [0usize; 2];
        for _ in 0..samples {
            // Within a k the two models' residuals are half their difference, either way; all scaled to one size.
            let residuals = |of: &dyn Fn(f64) -> f64, values: &[[f64; 2]]| -> Vec<f64> {
                let half: Vec<f64> = values.iter().map(|[a, b]| (of(*a) - of(*b)) / 2.0).collect();
                let size = half.iter().map(|v| 2.0 * v * v).sum::<f64>().sqrt();
                half.into_iter().flat_map(|v| [v / size, -v / size]).collect()
            };
            let truth: Vec<[f64; 2]> = (0..blocks)
                .map(|k| {
                    let size = 0.75_f64.powi(k);
                    [size * (0.2 + 0.1 * normal(&mut rng)).exp(), size]
                })
                .collect();
            let mut noisy = || -> Vec<[f64; 2]> {
                truth.iter().map(|pair| pair.map(|v| v * (0.05 * normal(&mut rng)).exp())).collect()
            };
            let (x, rival) = (noisy(), noisy());
            let y = residuals(&|v| -v, &truth);
            let rival = residuals(&|v| -v, &rival);
            for (hits, turned) in hits.iter_mut().zip([&(|v: f64| -v) as &dyn Fn(f64) -> f64, &|v: f64| 1.0 / v]) {
                let x = residuals(turned, &x);
                let worse = difference(&x, &rival, &y, &[false; 24]).unwrap() < 0.0;
                let p = swap_test(blocks as usize, 0, |swap| {
                    let rows: Vec<bool> = swap.iter().flat_map(|&s| [s, s]).collect();
                    difference(&x, &rival, &y, &rows)
                });
                *hits += usize::from(worse && p.unwrap() <= 0.05);
            }
        }
        hits.map(|h| h as f64 / samples as f64)
    }

    /// One-sided, so that 2.5 % are due; the standard error of a share of 300 there is 0.9 %.
    #[test]
    fn the_reciprocal_is_taken_for_a_worse_proxy() {
        let [minus, reciprocal] = taken_for_worse(300);
        println!("taken for worse: −x {minus}, 1/x {reciprocal}");
        assert!(minus <= 0.06, "{minus}");
        assert!(reciprocal > 0.5, "{reciprocal}");
    }
}
