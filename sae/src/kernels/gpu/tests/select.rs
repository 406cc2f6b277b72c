//! Selections, which must be equal.

use burn::tensor::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{cpu, gpu, ints, matrix, values, vector, whole_numbers};
use crate::Precision;
use crate::kernels::{self, Dead, Encoder, Selection};

struct Case {
    tokens: usize,
    d: usize,
    n: usize,
    k: usize,
    input: Vec<f32>,
    w_enc: Vec<f32>,
    b_enc: Vec<f32>,
    scale: Option<Vec<f32>>,
}

impl Case {
    fn random(rng: &mut ChaCha8Rng, [tokens, d, n, k]: [usize; 4]) -> Self {
        Self {
            tokens,
            d,
            n,
            k,
            input: whole_numbers(rng, tokens * d, 3),
            w_enc: whole_numbers(rng, n * d, 2),
            b_enc: whole_numbers(rng, n, 5),
            scale: None,
        }
    }

    fn encoder(&self, precision: Precision, device: &Device) -> (Tensor<2>, Encoder) {
        let encoder = Encoder {
            w_enc: matrix(&self.w_enc, [self.n, self.d], device),
            b_enc: vector(&self.b_enc, device),
            scale: self.scale.as_ref().map(|s| vector(s, device)),
            precision,
        };
        (matrix(&self.input, [self.tokens, self.d], device), encoder)
    }

    fn check(&self, what: &str) {
        self.check_selection(Selection::TopK { k: self.k }, what);
        if self.n.is_multiple_of(self.k) {
            self.check_selection(Selection::GroupMax { k: self.k }, what);
        }
    }

    fn check_selection(&self, selection: Selection, what: &str) {
        let (input, encoder) = self.encoder(Precision::F32, &cpu());
        let expected = kernels::encode(input, encoder, selection);
        let (expected, expected_indices) = (values(expected.values()), ints(expected.indices()));
        for precision in [Precision::F32, Precision::Bf16] {
            let (input, encoder) = self.encoder(precision, &gpu());
            let found = kernels::encode(input, encoder, selection);
            let Self { tokens, d, n, k, .. } = self;
            let what = format!("{what}: {tokens} tokens, d {d}, n {n}, {selection:?}, {precision}");
            let (found, indices) = (values(found.values()), ints(found.indices()));
            for token in 0..*tokens {
                let at = token * k..(token + 1) * k;
                assert_eq!(indices[at.clone()], expected_indices[at.clone()], "{what}: indices of token {token}");
                assert_eq!(found[at.clone()], expected[at], "{what}: values of token {token}");
            }
        }
    }
}

#[test]
fn the_k_largest_are_exact_at_odd_shapes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for shape in [
        [1, 16, 32, 1],
        [5, 16, 40, 3],
        [130, 32, 264, 7],
        [3, 48, 1000, 1000],
        [64, 64, 4096, 32],
        [200, 16, 4096, 256],
        [33, 7, 50, 5],
        [17, 20, 33, 33],
    ] {
        Case::random(&mut rng, shape).check("random");
    }
}

#[test]
fn scaled_selection_keeps_unscaled_values() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for shape in [[40, 16, 512, 8], [40, 32, 96, 96]] {
        let mut case = Case::random(&mut rng, shape);
        case.scale = Some((0..case.n).map(|_| f32::from(rng.random_range(1_u8..4))).collect());
        case.check("scaled");
    }
}

#[test]
fn ties_infinities_and_negative_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let shape = [20, 16, 4096, 16];
    let mut equal = Case::random(&mut rng, shape);
    equal.input.fill(0.0);
    equal.b_enc.fill(2.0);
    equal.check("all equal");
    let mut negative = Case::random(&mut rng, shape);
    negative.b_enc.fill(-1000.0);
    negative.check("all negative");
    let mut infinite = Case::random(&mut rng, shape);
    for b in infinite.b_enc.iter_mut().skip(3) {
        *b = f32::NEG_INFINITY;
    }
    infinite.check("all but three −∞");
    let mut zeros = Case::random(&mut rng, shape);
    zeros.w_enc.fill(-0.0);
    for (i, b) in zeros.b_enc.iter_mut().enumerate() {
        *b = if i % 2 == 0 { -0.0 } else { 0.0 };
    }
    zeros.check("zeros of both signs");
    let mut clustered = Case::random(&mut rng, [20, 16, 4096, 256]);
    for b in clustered.b_enc.iter_mut().take(600) {
        *b += 1000.0;
    }
    clustered.check("all in a few groups");
}

/// What is not a number is chosen last, and the indices are latents all the same: kernels go where they point.
#[test]
fn rows_of_nan_select_latents_that_exist() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for [n, k] in [[512, 8], [4096, 16], [4096, 200]] {
        let mut case = Case::random(&mut rng, [4, 16, n, k]);
        case.input[..16].fill(f32::NAN);
        for b in case.b_enc.iter_mut().skip(3) {
            *b = f32::NEG_INFINITY;
        }
        for precision in [Precision::F32, Precision::Bf16] {
            let (input, encoder) = case.encoder(precision, &gpu());
            let code = kernels::encode(input, encoder, Selection::TopK { k });
            for row in ints(code.indices()).chunks(k) {
                assert!(row.is_sorted_by(|a, b| a < b) && row[0] >= 0 && row[k - 1] < n as i32, "{precision}: {row:?}");
            }
        }
    }
}

#[test]
fn dead_latents_are_selected_among_themselves() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (shape, share) in
        [([50, 16, 700, 8], 0.0), ([50, 16, 700, 8], 0.05), ([300, 32, 2048, 8], 0.7), ([9, 16, 64, 4], 1.0)]
    {
        let mut case = Case::random(&mut rng, shape);
        let since: Vec<i32> = (0..case.n).map(|_| if rng.random_bool(share) { 1000 } else { 3 }).collect();
        let n_dead = since.iter().filter(|&&s| s > 100).count();
        for scaled in [false, true] {
            case.scale = scaled.then(|| (0..case.n).map(|i| (i % 3 + 1) as f32).collect());
            let run = |precision, device: &Device| {
                let (input, encoder) = case.encoder(precision, device);
                let dead = Dead { since_fired: Tensor::from_data(since.as_slice(), device), after: 100, k: 60 };
                let [_, code] = kernels::encode_with_dead(input, encoder, Selection::TopK { k: case.k }, dead);
                (values(code.values()), ints(code.indices()))
            };
            let expected = run(Precision::F32, &cpu());
            for precision in [Precision::F32, Precision::Bf16] {
                let found = run(precision, &gpu());
                assert_eq!(found.0, expected.0, "{n_dead} dead, {precision}");
                for t in 0..case.tokens {
                    let at = t * 60..t * 60 + n_dead.min(60);
                    assert_eq!(found.1[at.clone()], expected.1[at], "{n_dead} dead, {precision}, token {t}");
                }
            }
        }
    }
}
