//! Sparse codes, with rows of one length and of any.

use burn::tensor::{Device, Int, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{assert_close, cpu, floats, gpu, ints, matrix, values, vector};
use crate::SparseCode;
use crate::kernels::{self, Counters, SparseGradient};

/// A sparse code in host memory.
struct HostCode {
    values: Vec<f32>,
    indices: Vec<i32>,
    /// `None`: rows of k entries.
    starts: Option<Vec<usize>>,
    k: usize,
    n: usize,
}

impl HostCode {
    /// Rows of k entries, or of any number from 0 to n: ascending latents, one in five not active, latent 0 active on nearly every token.
    fn random(rng: &mut ChaCha8Rng, tokens: usize, n: usize, k: usize, ragged: bool) -> Self {
        let (mut values, mut indices, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        for token in 0..tokens {
            let len = match token % 5 {
                _ if !ragged => k,
                1 => 0,
                3 if token % 50 == 3 => n,
                _ => rng.random_range(1..=(2 * k).min(n)),
            };
            let mut row: Vec<usize> = rand::seq::index::sample(rng, n, len).into_vec();
            if len > 0 && !row.contains(&0) {
                row[0] = 0;
            }
            row.sort_unstable();
            for i in row {
                indices.push(i as i32);
                values.push(if rng.random_bool(0.2) && i != 0 { 0.0 } else { rng.random_range(0.0..2.0) });
            }
            starts.push(indices.len());
        }
        Self { values, indices, starts: ragged.then_some(starts), k, n }
    }

    fn on(&self, device: &Device) -> SparseCode {
        let (values, indices): (Tensor<1>, Tensor<1, Int>) =
            (vector(&self.values, device), Tensor::from_data(self.indices.as_slice(), device));
        match &self.starts {
            Some(starts) => SparseCode::ragged(values, indices, starts, self.n),
            None => {
                let shape = [self.values.len() / self.k, self.k];
                SparseCode::new(values.reshape(shape), indices.reshape(shape), self.n)
            }
        }
        .unwrap()
    }
}

#[test]
fn sparse_products_and_gradients() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for sizes in
        [[1, 16, 8, 1, 1], [70, 12, 100, 9, 5], [1500, 128, 300, 32, 64], [40, 7, 30, 30, 3], [33, 1536, 64, 4, 4]]
    {
        for ragged in [[false, false], [true, false], [true, true]] {
            check_sparse(&mut rng, sizes, ragged);
        }
    }
}

fn check_sparse(rng: &mut ChaCha8Rng, [tokens, d, n, k, k_aux]: [usize; 5], ragged: [bool; 2]) {
    let code = HostCode::random(rng, tokens, n, k, ragged[0]);
    let aux_code = HostCode::random(rng, tokens, n, k_aux, ragged[1]);
    let [w_dec, input, grad, aux_grad] = [n, tokens, tokens, tokens].map(|rows| floats(rng, rows * d));
    let w_dec_row = w_dec[..d].to_vec();
    let run = |device: &Device| {
        let w_dec = matrix(&w_dec, [n, d], device);
        let term = |code: &HostCode, grad: &[f32]| {
            let (code, grad) = (code.on(device), matrix(grad, [tokens, d], device));
            let value_grads = kernels::value_gradients(grad.clone(), code.clone(), w_dec.clone(), None);
            SparseGradient { code, value_grads, output_grad: grad, levels: None }
        };
        let main = term(&code, &grad);
        let aux = term(&aux_code, &aux_grad);
        let mut counted = Vec::new();
        let (residual, squares) = kernels::residual(
            main.code.clone(),
            w_dec.clone(),
            vector(&w_dec_row, device),
            matrix(&grad, [tokens, d], device),
        );
        let mut out = vec![
            values(residual),
            vec![values(squares).iter().sum()],
            values(kernels::decode(main.code.clone(), w_dec.clone())),
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
    let what = format!("tokens {tokens}, d {d}, n {n}, k {k}, rows of any length {ragged:?}");
    assert_eq!(counted, expected_counts, "{what}: counters");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_close(&format!("{what}: result {i}"), found, &expected, 2e-6);
    }
}

#[test]
fn rows_of_any_length_that_are_all_of_one_give_the_same_bits() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (tokens, d, n, k) = (900, 40, 200, 16);
    let fixed = HostCode::random(&mut rng, tokens, n, k, false);
    let [w_dec, grad] = [n, tokens].map(|rows| floats(&mut rng, rows * d));
    let run = |code: SparseCode| {
        let (w_dec, grad) = (matrix(&w_dec, [n, d], &gpu()), matrix(&grad, [tokens, d], &gpu()));
        let value_grads = kernels::value_gradients(grad.clone(), code.clone(), w_dec.clone(), None);
        let decoded = values(kernels::decode(code.clone(), w_dec.clone()));
        let zeros = || Tensor::<1, Int>::from_data(vec![0_i32; n].as_slice(), &gpu());
        let counters = Counters { since_fired: zeros(), fires: zeros() };
        let main = SparseGradient { code, value_grads: value_grads.clone(), output_grad: grad.clone(), levels: None };
        let (g, _) = kernels::latent_gradients(main, None, grad, w_dec, counters, true);
        [decoded, values(value_grads), values(g.w_enc), values(g.b_enc), values(g.w_dec)]
    };
    let starts: Vec<usize> = (0..=tokens).map(|token| token * k).collect();
    let ragged = SparseCode::ragged(
        vector(&fixed.values, &gpu()),
        Tensor::from_data(fixed.indices.as_slice(), &gpu()),
        &starts,
        n,
    );
    assert!(run(fixed.on(&gpu())) == run(ragged.unwrap()));
}

/// Nothing is active anywhere.
#[test]
fn a_code_without_entries() {
    let run = |device: &Device| {
        let code = SparseCode::from_dense(Tensor::zeros([3, 8], device)).unwrap();
        let (w_dec, grad) = (Tensor::<2>::ones([8, 4], device), Tensor::<2>::ones([3, 4], device));
        let value_grads = kernels::value_gradients(grad.clone(), code.clone(), w_dec.clone(), None);
        let (residual, _) = kernels::residual(code.clone(), w_dec.clone(), Tensor::ones([4], device), grad.clone());
        let of_latents = || Tensor::<1, Int>::from_data([5_i32; 8], device);
        let counters = Counters { since_fired: of_latents(), fires: of_latents() };
        let main = SparseGradient { code, value_grads, output_grad: grad.clone(), levels: None };
        let (g, counters) = kernels::latent_gradients(main, None, grad, w_dec, counters, true);
        let counts = [ints(counters.since_fired), ints(counters.fires)];
        ([values(residual), values(g.w_enc), values(g.b_enc), values(g.w_dec)], counts)
    };
    assert_eq!(run(&gpu()), run(&cpu()));
}
