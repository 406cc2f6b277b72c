//! Which latents are tried as the main ones of a letter: those with the largest weights of a logistic regression with an L1 penalty.

use std::collections::BTreeMap;
use std::f64::consts::LN_10;

use crate::probing::{Features, logistic::sigmoid};

/// Epochs of the training.
const EPOCHS: usize = 50;
/// Steps in one, on all words at once. SAEBench steps on batches of 4,096 words, of which the vocabularies that it is meant for have about so
/// many; with fewer steps weights would stay where they begin.
pub const STEPS_AN_EPOCH: usize = 8;
/// The learning rate goes from 10⁻² towards 10⁻⁵, by the same factor an epoch.
const LEARNING_RATE: f64 = 1e-2;
const DECADES: f64 = 3.0;
/// The penalty Σ|w|, and half the square of the weights that Adam's decay adds.
const L1: f64 = 0.01;
const L2: f64 = 1e-6;
const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// The weights of a logistic regression of a class against the others on latents (SAEBench 0.6.0, `train_sparse_multi_probe`), of those that
/// are active on some row, ascending by latent.
///
/// It takes Adam's steps down the gradient of (mean of the loss + 0.01·Σ|w|)/`classes`, in which a row of the class counts as often as there are
/// rows of the others for one of it. It is stopped early on purpose: of the minimum itself, the largest weights are those of latents with
/// small activations. What differs from SAEBench: each step sees all rows, and weights begin at 0 and not at random, so that nothing is drawn.
///
/// # Shapes
/// - `labels`: those of `rows`
///
/// # Panics
/// If the class has no row, or the others have none.
pub fn sparse_weights(
    latents: &Features,
    rows: &[usize],
    labels: &[bool],
    classes: usize,
    steps_an_epoch: usize,
) -> Vec<(usize, f64)> {
    let positive = labels.iter().filter(|&&label| label).count();
    assert!(0 < positive && positive < labels.len(), "both classes have rows");
    let counts_more = (labels.len() - positive) as f64 / positive as f64;
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    rows.iter().flat_map(|&row| latents.row(row)).for_each(|(latent, _)| _ = places.insert(latent, 0));
    places.values_mut().enumerate().for_each(|(at, place)| *place = at);
    let entries: Vec<Vec<(usize, f64)>> =
        rows.iter().map(|&row| latents.row(row).map(|(latent, value)| (places[&latent], value)).collect()).collect();
    // The last place is the intercept's.
    let mut adam = Adam::new(places.len() + 1);
    let scale = 1.0 / (labels.len() * classes) as f64;
    let mut gradient = vec![0.0; places.len() + 1];
    for step in 0..EPOCHS * steps_an_epoch {
        gradient.fill(0.0);
        let (intercept, weights) = adam.values.split_last().expect("an intercept");
        for (row, &label) in entries.iter().zip(labels) {
            let decision = intercept + row.iter().map(|(place, value)| weights[*place] * value).sum::<f64>();
            let slope = if label { -counts_more * sigmoid(-decision) } else { sigmoid(decision) } * scale;
            row.iter().for_each(|(place, value)| gradient[*place] += slope * value);
            gradient[places.len()] += slope;
        }
        for (gradient, weight) in gradient.iter_mut().zip(weights) {
            // The subgradient at 0 is 0, as torch's.
            *gradient += if *weight == 0.0 { 0.0 } else { weight.signum() * L1 / classes as f64 };
        }
        let epoch = (step / steps_an_epoch) as f64;
        adam.step(&gradient, LEARNING_RATE * (-DECADES * LN_10 * epoch / EPOCHS as f64).exp());
    }
    places.into_keys().zip(adam.values).collect()
}

/// Adam (Kingma and Ba 2015) as torch has it, its decay added to the gradient.
struct Adam {
    values: Vec<f64>,
    moments: Vec<[f64; 2]>,
    powers: [f64; 2],
}

impl Adam {
    fn new(count: usize) -> Self {
        Self { values: vec![0.0; count], moments: vec![[0.0; 2]; count], powers: [1.0; 2] }
    }

    fn step(&mut self, gradient: &[f64], learning_rate: f64) {
        self.powers.iter_mut().zip(BETAS).for_each(|(power, beta)| *power *= beta);
        let [first, second] = self.powers.map(|power| 1.0 - power);
        for ((value, [mean, square]), gradient) in self.values.iter_mut().zip(&mut self.moments).zip(gradient) {
            let gradient = gradient + L2 * *value;
            *mean = BETAS[0] * *mean + (1.0 - BETAS[0]) * gradient;
            *square = BETAS[1] * *square + (1.0 - BETAS[1]) * gradient * gradient;
            *value -= learning_rate * (*mean / first) / ((*square / second).sqrt() + EPS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn latents_of_the_class_weigh_more_than_others_in_any_order_of_rows(
            noise in prop::collection::vec(0.1..1.0f64, 40), of_class in 1.0..20.0f64, seed in 0usize..40,
        ) {
            // Latent 3 is active on the class, 5 on the others, 7 on every second row, 9 on none.
            let mut latents = Features::new(10);
            let label = |row: usize| row.is_multiple_of(4);
            for (row, noise) in noise.iter().enumerate() {
                let own = if label(row) { (3, of_class) } else { (5, of_class) };
                latents.push([own].into_iter().chain((row % 2 == 0).then_some((7, *noise))));
            }
            let weights = |rows: &[usize]| {
                let labels: Vec<bool> = rows.iter().map(|&row| label(row)).collect();
                sparse_weights(&latents, rows, &labels, 26, STEPS_AN_EPOCH)
            };
            let rows: Vec<usize> = (0..40).collect();
            let found = weights(&rows);
            prop_assert_eq!(found.iter().map(|of| of.0).collect::<Vec<_>>(), [3, 5, 7]);
            prop_assert!(found[0].1 > 0.0 && found[1].1 < 0.0 && found[0].1 > found[2].1, "{:?}", found);
            let mut turned = rows.clone();
            turned.rotate_left(seed);
            for (a, b) in found.iter().zip(weights(&turned)) {
                prop_assert!((a.1 - b.1).abs() < 1e-6, "{:?} {:?}", a, b);
            }
        }
    }
}
