//! What is absorbed in one word.

/// Latents that may absorb together, at most (SAEBench, `ABSORPTION_FRACTION_MAX_ABSORBING_LATENTS`).
const ABSORBERS: usize = 3;
/// The cosine with the probe that each of them has at least (`ABSORPTION_FRACTION_PROBE_COS_THRESHOLD`).
const ABSORBER_COSINE: f64 = 0.1;
/// The same of the one latent of a full absorption (`FULL_ABSORPTION_PROBE_COS_THRESHOLD`).
const FULL_COSINE: f64 = 0.025;
/// The share of the activation's projection that absorbers make at least (`ABSORPTION_PROBE_PROJECTION_PROPORTION_THRESHOLD`).
const SHARE: f64 = 0.4;
/// A latent with a smaller activation is silent.
const SILENT: f64 = 1e-8;

/// What is absorbed of a concept in one word. See [`absorption`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absorption {
    /// The share of what latents write of the concept that others than the main ones write, 0 to 1.
    pub fraction: f64,
    /// Whether the main latents are silent and one other writes enough of it.
    pub full: bool,
}

/// What is absorbed of a concept in one word (SAEBench 0.6.0, `FeatureAbsorptionCalculator`, as its pull request 62 corrected it).
///
/// P is the projection of the activation on the concept's probe of length 1, c the cosine of a latent's decoder row with the probe, a the
/// latent's activation in units of rows of length 1, and π = a·c. M is the sum of π over the main latents; A is that of the three largest π among
/// the others with c ≥ 0.1 and π > 0.
///
/// - fraction: 0 if M ≥ P or A < 0.4·P; else 1 if M ≤ 0; else t/(t + M), t = min(A, P − M).
/// - full: no main latent is active (1e-8), and the latent with the largest π of all has c ≥ 0.025 and π ≥ 0.4·P.
///
/// Where P ≤ 0 the activation has nothing of the concept, and nothing is absorbed.
///
/// # Shapes
/// - `active`: latents with their activations, those that are not 0; `cosines`: `[d_sae]`
pub fn absorption(projection: f64, active: &[(usize, f64)], cosines: &[f64], main: &[usize]) -> Absorption {
    if projection <= 0.0 {
        return Absorption { fraction: 0.0, full: false };
    }
    let is_main = |latent: usize| main.contains(&latent);
    let writes = |&(latent, activation): &(usize, f64)| activation * cosines[latent];
    let of_main: f64 = active.iter().filter(|of| is_main(of.0)).map(writes).sum();
    let can_absorb = |of: &&(usize, f64)| !is_main(of.0) && cosines[of.0] >= ABSORBER_COSINE;
    let mut others: Vec<f64> = active.iter().filter(can_absorb).map(writes).filter(|pi| *pi > 0.0).collect();
    others.sort_by(|a, b| b.total_cmp(a));
    let absorbed: f64 = others.iter().take(ABSORBERS).sum();
    let fraction = if of_main >= projection || absorbed < SHARE * projection {
        0.0
    } else if of_main <= 0.0 {
        1.0
    } else {
        let taken = absorbed.min(projection - of_main);
        taken / (taken + of_main)
    };
    let silent = active.iter().filter(|of| is_main(of.0)).all(|of| of.1 < SILENT);
    let top = active.iter().max_by(|a, b| writes(a).total_cmp(&writes(b)));
    let full = silent && top.is_some_and(|top| cosines[top.0] >= FULL_COSINE && writes(top) >= SHARE * projection);
    Absorption { fraction, full }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COSINES: [f64; 5] = [0.8, 0.5, 0.2, 0.09, -0.5];

    fn of(projection: f64, active: &[(usize, f64)]) -> (f64, bool) {
        let found = absorption(projection, active, &COSINES, &[0]);
        (found.fraction, found.full)
    }

    #[test]
    fn each_case_of_the_definition() {
        // The main latent writes all of it, or half and nobody the rest.
        assert_eq!(of(4.0, &[(0, 5.0), (1, 9.0)]), (0.0, false));
        assert_eq!(of(8.0, &[(0, 5.0)]), (0.0, false));
        // It is silent and another writes it: fully absorbed. Two share it: not one latent alone.
        assert_eq!(of(4.0, &[(1, 8.0)]), (1.0, true));
        assert_eq!(of(4.0, &[(1, 3.0), (2, 7.0)]), (1.0, false));
        // It writes 4 of 10 and the other 5, of which no more than what is missing counts.
        assert_eq!(of(10.0, &[(0, 5.0), (1, 10.0)]), (5.0 / 9.0, false));
        assert_eq!(of(6.0, &[(0, 5.0), (1, 10.0)]), (2.0 / 6.0, false));
        // Too little in common with the probe for the fraction, but not for a full absorption.
        assert_eq!(of(1.0, &[(3, 10.0)]), (0.0, true));
        // What is written against it leaves less than nothing; what the probe does not find is not absorbed.
        assert_eq!(of(4.0, &[(1, 8.0), (4, 1.0)]), (1.0, true));
        assert_eq!(of(-1.0, &[(1, 8.0)]), (0.0, false));
        assert_eq!(of(4.0, &[]), (0.0, false));
    }

    proptest! {
        #[test]
        fn a_fraction_is_one_and_knows_no_unit(
            projection in -2.0..8.0f64, values in prop::collection::vec(0.0..6.0f64, 5), scale in 0.01..100.0f64, turn in 0usize..5,
        ) {
            let active: Vec<(usize, f64)> = values.iter().copied().enumerate().filter(|of| of.1 > 1.0).collect();
            let found = absorption(projection, &active, &COSINES, &[0]);
            prop_assert!((0.0..=1.0).contains(&found.fraction));
            // A full absorption by a latent that may absorb is a whole one.
            let alone = active.iter().any(|of| of.0 == 1 || of.0 == 2);
            let strong = active.iter().filter(|of| of.0 == 1 || of.0 == 2).map(|of| of.1 * COSINES[of.0]).sum::<f64>();
            prop_assert!(!found.full || !alone || strong < SHARE * projection || found.fraction == 1.0);
            let scaled: Vec<(usize, f64)> = active.iter().map(|of| (of.0, of.1 * scale)).collect();
            let other = absorption(projection * scale, &scaled, &COSINES, &[0]);
            prop_assert!((found.fraction - other.fraction).abs() < 1e-9);
            let mut turned = active.clone();
            turned.rotate_left(if active.is_empty() { 0 } else { turn % active.len() });
            let other = absorption(projection, &turned, &COSINES, &[0]);
            prop_assert!((found.fraction - other.fraction).abs() < 1e-12);
            // All latents main: nobody else absorbs.
            prop_assert_eq!(absorption(projection, &active, &COSINES, &[0, 1, 2, 3, 4]).fraction, 0.0);
        }
    }
}
