//! Every GPU kernel against the CPU's code for the same operation, and the training step on both. Exists only in builds with a GPU
//! feature, and fails where no such device is found.
//!
//! Where something is selected, inputs are small integers: products and sums are exact in f32 and bf16 alike, ties are many, and
//! the selections must be equal, not close.

use burn::tensor::{Device, DeviceType, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kernels::{self, AdamStep, Counters, Dead, Encoder, SparseGradient};
use crate::{Precision, Recipe, TrainConfig, Trainer};

fn cpu() -> Device {
    Device::flex()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().unwrap()
}

fn gpu() -> Device {
    let mut found = Vec::new();
    #[cfg(feature = "cuda")]
    found.extend(Device::enumerate(DeviceType::Cuda));
    #[cfg(feature = "vulkan")]
    found.extend(Device::enumerate(DeviceType::Vulkan));
    #[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
    found.extend(Device::enumerate(DeviceType::Wgpu));
    found.into_iter().next().expect("a build with a GPU feature is tested on a machine with that GPU")
}

fn matrix(data: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(data.to_vec(), shape), device)
}

fn vector(data: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(data, device)
}

fn ints<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().unwrap()
}

fn whole_numbers(rng: &mut ChaCha8Rng, len: usize, most: i32) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-most..=most) as f32).collect()
}

fn floats(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let mut difference = 0.0;
    let mut norm = 0.0;
    for (&f, &e) in found.iter().zip(expected) {
        difference += (f64::from(f) - f64::from(e)).powi(2);
        norm += f64::from(e).powi(2);
    }
    let relative = (difference / norm.max(1e-30)).sqrt();
    assert!(relative <= tolerance, "{what}: relative error {relative:.2e}, at most {tolerance:.0e} wanted");
}

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
        let (input, encoder) = self.encoder(Precision::F32, &cpu());
        let (expected, expected_indices) = kernels::encode_topk(input, encoder, self.k);
        let (expected, expected_indices) = (values(expected), ints(expected_indices));
        for precision in [Precision::F32, Precision::Bf16] {
            let (input, encoder) = self.encoder(precision, &gpu());
            let (found, indices) = kernels::encode_topk(input, encoder, self.k);
            let Self { tokens, d, n, k, .. } = self;
            let what = format!("{what}: {tokens} tokens, d {d}, n {n}, k {k}, {precision}");
            let (found, indices) = (values(found), ints(indices));
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
            let (_, indices) = kernels::encode_topk(input, encoder, k);
            for row in ints(indices).chunks(k) {
                assert!(row.is_sorted_by(|a, b| a < b) && row[0] >= 0 && row[k - 1] < n as i32, "{precision}: {row:?}");
            }
        }
    }
}

/// A parameter that somebody else still holds is not written into, at a width whose rows CubeCL lays apart.
#[test]
fn adam_leaves_shared_parameters_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let [p, g, m, v] = [0; 4].map(|_| floats(&mut rng, 50 * 48));
    let v: Vec<f32> = v.iter().map(|v| v.abs()).collect();
    let run = |device: &Device| {
        let of = |x: &[f32]| matrix(x, [50, 48], device);
        let step = AdamStep { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 3 };
        let clip = vector(&[0.7], device);
        let (p1, moments) = kernels::adam(of(&p), of(&g), (of(&m), of(&v)), clip.clone(), step, true);
        let held = p1.clone();
        let (p2, _) = kernels::adam(p1, of(&g), moments, clip, step, true);
        [values(held), values(p2)]
    };
    for (found, expected) in run(&gpu()).iter().zip(run(&cpu())) {
        assert_close("adam with a parameter held", found, &expected, 1e-6);
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
                let [_, (v, i)] = kernels::encode_topk_and_dead(input, encoder, case.k, dead);
                (values(v), ints(i))
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

/// Sparse activations: ascending latents, one in five not active, latent 0 active on nearly every token.
fn sparse(rng: &mut ChaCha8Rng, tokens: usize, n: usize, k: usize) -> (Vec<f32>, Vec<i32>) {
    let (mut z, mut indices) = (Vec::new(), Vec::new());
    for _ in 0..tokens {
        let mut row: Vec<usize> = rand::seq::index::sample(rng, n, k).into_vec();
        if !row.contains(&0) {
            row[0] = 0;
        }
        row.sort_unstable();
        for i in row {
            indices.push(i as i32);
            z.push(if rng.random_bool(0.2) && i != 0 { 0.0 } else { rng.random_range(0.0..2.0) });
        }
    }
    (z, indices)
}

#[test]
fn sparse_products_and_gradients() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for [tokens, d, n, k, k_aux] in
        [[1, 16, 8, 1, 1], [70, 12, 100, 9, 5], [1500, 128, 300, 32, 64], [40, 7, 30, 30, 3], [33, 1536, 64, 4, 4]]
    {
        let (z, indices) = sparse(&mut rng, tokens, n, k);
        let (aux_z, aux_indices) = sparse(&mut rng, tokens, n, k_aux);
        let [w_dec, input, grad, aux_grad] = [n, tokens, tokens, tokens].map(|rows| floats(&mut rng, rows * d));
        let w_dec_row = w_dec[..d].to_vec();
        let run = |device: &Device| {
            let w_dec = matrix(&w_dec, [n, d], device);
            let term = |z: &[f32], indices: &[i32], grad: &[f32], k: usize| {
                let z = matrix(z, [tokens, k], device);
                let indices: Tensor<2, Int> = Tensor::from_data(TensorData::new(indices.to_vec(), [tokens, k]), device);
                let grad = matrix(grad, [tokens, d], device);
                let value_grads = kernels::value_gradients(grad.clone(), z.clone(), indices.clone(), w_dec.clone());
                SparseGradient { values: z, value_grads, indices, output_grad: grad }
            };
            let main = term(&z, &indices, &grad, k);
            let aux = term(&aux_z, &aux_indices, &aux_grad, k_aux);
            let mut counted = Vec::new();
            let (residual, squares) = kernels::residual(
                main.values.clone(),
                main.indices.clone(),
                w_dec.clone(),
                vector(&w_dec_row, device),
                matrix(&grad, [tokens, d], device),
            );
            let mut out = vec![
                values(residual),
                vec![values(squares).iter().sum()],
                values(kernels::decode(main.values.clone(), main.indices.clone(), w_dec.clone())),
                values(main.value_grads.clone()),
            ];
            for (with_aux, project) in [(false, false), (true, false), (false, true), (true, true)] {
                let aux = with_aux.then(|| aux.clone());
                let since: Vec<i32> = (0..n as i32).map(|i| if i % 7 == 0 { i32::MAX - 5 } else { i }).collect();
                let of_latents = || Tensor::<1, Int>::from_data(since.as_slice(), device);
                let (g, counters) = kernels::latent_gradients(
                    main.clone(),
                    aux,
                    matrix(&input, [tokens, d], device),
                    w_dec.clone(),
                    Counters { since_fired: of_latents(), fires: of_latents() },
                    project,
                );
                let squares = values(g.squares).iter().sum();
                out.extend([values(g.w_enc), values(g.b_enc), values(g.w_dec), vec![squares]]);
                counted.push([ints(counters.since_fired), ints(counters.fires)]);
            }
            (out, counted)
        };
        let ((found, counted), (expected, expected_counts)) = (run(&gpu()), run(&cpu()));
        assert_eq!(counted, expected_counts, "tokens {tokens}, d {d}, n {n}, k {k}: counters");
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_close(&format!("tokens {tokens}, d {d}, n {n}, k {k}: result {i}"), found, &expected, 2e-6);
        }
    }
}

#[test]
fn sums_of_many_kinds() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for [n, d] in [[77, 36], [1, 5], [1100, 16], [33, 2048]] {
        let x = floats(&mut rng, n * d);
        let weights = floats(&mut rng, n);
        let run = |device: &Device| {
            let x = matrix(&x, [n, d], device);
            [
                values(kernels::sum_squares(x.clone())),
                values(kernels::row_norms(x.clone())),
                values(kernels::scale_rows(x.clone(), vector(&weights, device))),
                values(kernels::column_sums(x.clone())),
                values(kernels::weighted_rows(vector(&weights, device), x)),
                values(kernels::clip_factor(vector(&[3.0, 4.0], device), vector(&weights, device), 0.3)),
                values(kernels::clip_factor(vector(&[3.0, 4.0], device), vector(&weights, device), 1e9)),
            ]
        };
        let names = ["Σx²", "norms", "scaled rows", "sums", "weighted sums", "clip", "no clip"];
        for (what, (f, e)) in names.iter().zip(run(&gpu()).iter().zip(&run(&cpu()))) {
            assert_close(&format!("{n}×{d}: {what}"), f, e, 1e-6);
        }
    }
}

#[test]
fn adam_with_and_without_unit_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for [n, d] in [[50, 48], [3, 7], [9, 1300]] {
        let [p, g, m, v] = [0; 4].map(|_| floats(&mut rng, n * d));
        let v: Vec<f32> = v.iter().map(|v| v.abs()).collect();
        for unit_rows in [false, true] {
            let run = |device: &Device| {
                let of = |x: &[f32]| matrix(x, [n, d], device);
                let step = AdamStep { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 3 };
                let clip = vector(&[0.7], device);
                let (p, (m, v)) = kernels::adam(of(&p), of(&g), (of(&m), of(&v)), clip, step, unit_rows);
                [values(p), values(m), values(v)]
            };
            for (found, expected) in run(&gpu()).iter().zip(run(&cpu())) {
                assert_close(&format!("adam, {n}×{d}, unit rows {unit_rows}"), found, &expected, 1e-6);
            }
        }
    }
}

/// A trainer after some steps on data with structure, so that selections are not decided by rounding.
fn trained(recipe: Recipe, precision: Precision, device: &Device) -> (Vec<f64>, Vec<Vec<f32>>) {
    let (d, n, k, batch, steps) = (64, 512, 8, 256, 40);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let directions = floats(&mut rng, 96 * d);
    let config = TrainConfig {
        precision,
        lr: 1e-3,
        dead_after: 1500,
        ..TrainConfig::from_recipe(recipe, d, n, k, batch, (batch * steps) as u64)
    };
    let mut trainer = Trainer::new(config, 3, device).unwrap();
    let mut losses = Vec::new();
    for step in 0..steps {
        let mut x = floats(&mut rng, batch * d);
        for row in x.chunks_mut(d) {
            for value in row.iter_mut() {
                *value *= 0.1;
            }
            for _ in 0..4 {
                let (which, size) = (rng.random_range(0..96), rng.random_range(0.5..2.0));
                for (value, &w) in row.iter_mut().zip(&directions[which * d..(which + 1) * d]) {
                    *value += size * w;
                }
            }
        }
        let x = matrix(&x, [batch, d], device);
        if step == 0 {
            trainer.calibrate(&x);
        }
        let loss = trainer.step(x);
        losses.push(loss.reconstruction() + loss.auxiliary());
    }
    let [w_enc, w_dec] = trainer.weights();
    let [b_enc, b_dec] = trainer.biases();
    (losses, vec![values(w_enc), values(w_dec), values(b_enc), values(b_dec)])
}

#[test]
fn training_on_the_gpu_is_training_on_the_cpu() {
    for recipe in [Recipe::Assay, Recipe::Saelens] {
        let (expected, weights) = trained(recipe, Precision::F32, &cpu());
        for (precision, loss_tolerance, weight_tolerance) in
            [(Precision::F32, 1e-4, 2e-3), (Precision::Bf16, 2e-2, 0.1)]
        {
            let (losses, found) = trained(recipe, precision, &gpu());
            for (step, (f, e)) in losses.iter().zip(&expected).enumerate() {
                assert!(
                    (f - e).abs() <= loss_tolerance * e,
                    "{recipe}, {precision}, step {step}: loss {f}, on the CPU {e}"
                );
            }
            for (what, (f, e)) in ["w_enc", "w_dec", "b_enc", "b_dec"].iter().zip(found.iter().zip(&weights)) {
                assert_close(&format!("{recipe}, {precision}: {what}"), f, e, weight_tolerance);
            }
        }
    }
}

#[test]
fn training_twice_on_the_gpu_gives_identical_bits() {
    for precision in [Precision::F32, Precision::Bf16] {
        assert_eq!(trained(Recipe::Assay, precision, &gpu()), trained(Recipe::Assay, precision, &gpu()), "{precision}");
    }
}
