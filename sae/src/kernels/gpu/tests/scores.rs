//! Codes that are chosen among a whole batch, and what is done with rows of any length.

use burn::tensor::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{assert_close, cpu, floats, gpu, ints, matrix, values, vector, whole_numbers};
use crate::kernels::scores::Scores;
use crate::kernels::{self, Coming, Dead, Encoder, Levels, SparseGradient};
use crate::{Precision, SparseCode};

/// Small integers, so that ties are many and selections must be equal.
struct Batch {
    tokens: usize,
    d: usize,
    n: usize,
    input: Vec<f32>,
    w_enc: Vec<f32>,
    b_enc: Vec<f32>,
    scale: Option<Vec<f32>>,
}

impl Batch {
    fn random(rng: &mut ChaCha8Rng, [tokens, d, n]: [usize; 3], scaled: bool) -> Self {
        Self {
            tokens,
            d,
            n,
            input: whole_numbers(rng, tokens * d, 3),
            w_enc: whole_numbers(rng, n * d, 2),
            b_enc: whole_numbers(rng, n, 5),
            scale: scaled.then(|| (0..n).map(|_| f32::from(rng.random_range(1_u8..4))).collect()),
        }
    }

    fn scores(&self, precision: Precision, device: &Device) -> Scores {
        let encoder = Encoder {
            w_enc: matrix(&self.w_enc, [self.n, self.d], device),
            b_enc: vector(&self.b_enc, device),
            scale: self.scale.as_ref().map(|s| vector(s, device)),
            precision,
        };
        kernels::scores(matrix(&self.input, [self.tokens, self.d], device), encoder)
    }
}

/// Token, latent and value of every entry of a token that is not 0.
fn shown(code: SparseCode) -> Vec<(usize, usize, u32)> {
    let mut seen = Vec::new();
    crate::code::Code::Sparse(code).for_each_active(|token, latent, value| seen.push((token, latent, value.to_bits())));
    seen
}

/// The same of a code whose values may be 0: entries are told by their latents.
fn latents(code: SparseCode) -> Vec<(usize, usize, u32)> {
    shown(code.map_values(|values| values + 1e6))
}

const SHAPES: [[usize; 3]; 6] =
    [[1, 16, 32], [5, 16, 40], [130, 32, 264], [64, 64, 4096], [33, 7, 50], [200, 16, 1000]];

#[test]
fn the_largest_of_a_batch_are_those_of_the_cpu() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for shape in SHAPES {
        for scaled in [false, true] {
            let batch = Batch::random(&mut rng, shape, scaled);
            let all = shape[0] * shape[2];
            for count in [0, 1, 7, shape[0] * 8, shape[0] * 33, all / 2, all, 2 * all] {
                let (code, least) = batch.scores(Precision::F32, &cpu()).largest(count);
                let expected = (shown(code), values(least));
                for precision in [Precision::F32, Precision::Bf16] {
                    let (code, least) = batch.scores(precision, &gpu()).largest(count);
                    let what = format!("{shape:?}, scaled {scaled}, {count} of {all}, {precision}");
                    assert!((shown(code), values(least)) == expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn the_largest_of_extreme_batches() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let mut check = |what: &str, change: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::random(&mut rng, [40, 16, 2048], false);
        change(&mut batch);
        for count in [3, 320, 9000] {
            let run = |device: &Device| {
                let (code, least) = batch.scores(Precision::F32, device).largest(count);
                (shown(code), values(least))
            };
            assert!(run(&gpu()) == run(&cpu()), "{what}, {count}");
        }
    };
    check("all equal", &|batch| {
        batch.input.fill(0.0);
        batch.b_enc.fill(2.0);
    });
    check("all negative", &|batch| batch.b_enc.fill(-1000.0));
    check("nothing but zeros", &|batch| {
        batch.input.fill(0.0);
        batch.b_enc.fill(0.0);
    });
    check("some infinite, some not a number", &|batch| {
        batch.b_enc[3] = f32::INFINITY;
        batch.b_enc[700] = f32::NEG_INFINITY;
        batch.b_enc[800] = f32::NAN;
    });
    check("all in a few groups", &|batch| batch.b_enc[..70].iter_mut().for_each(|b| *b += 1000.0));
    check("all of one token", &|batch| {
        batch.input[16..].fill(0.0);
        batch.b_enc.fill(-1.0);
    });
    check("very small numbers", &|batch| {
        batch.input.fill(0.0);
        batch.b_enc.iter_mut().enumerate().for_each(|(i, b)| *b = i as f32 * f32::from_bits(1));
    });
}

#[test]
fn dead_latents_of_ranges_are_those_of_the_cpu() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    for scaled in [false, true] {
        let batch = Batch::random(&mut rng, [50, 16, 700], scaled);
        let since: Vec<i32> = (0..700).map(|_| if rng.random_bool(0.1) { 1000 } else { 3 }).collect();
        for ends in [vec![700], vec![100, 101, 400, 700]] {
            let run = |device: &Device| {
                let dead = Dead { since_fired: Tensor::from_data(since.as_slice(), device), after: 100, k: 20 };
                let codes = batch.scores(Precision::F32, device).dead(&dead, &ends);
                let joined = SparseCode::beside(codes.clone());
                [codes, vec![joined]]
                    .concat()
                    .into_iter()
                    .map(|c| (shown(c.clone()), ints(c.indices())))
                    .collect::<Vec<_>>()
            };
            let (found, expected) = (run(&gpu()), run(&cpu()));
            for ((found, indices), (expected, _)) in found.iter().zip(&expected) {
                assert_eq!(found, expected, "{ends:?}");
                let each = indices.len() / 50;
                assert!(
                    indices.chunks(each).all(<[i32]>::is_sorted),
                    "{ends:?}: kernels search among ascending indices"
                );
            }
        }
    }
}

#[test]
fn what_is_above_and_between_thresholds_is_what_the_cpu_finds() {
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    for shape in SHAPES {
        let batch = Batch::random(&mut rng, shape, false);
        for most in [3_i32, 40, 100_000] {
            let threshold: Vec<f32> = (0..shape[2]).map(|_| rng.random_range(0..=most) as f32).collect();
            let low: Vec<f32> = threshold
                .iter()
                .enumerate()
                .map(|(latent, &t)| if latent % 50 == 7 { f32::NEG_INFINITY } else { t - (latent % 4) as f32 })
                .collect();
            for precision in [Precision::F32, Precision::Bf16] {
                let run = |precision, both: bool, device: &Device| {
                    let low = both.then(|| vector(&low, device));
                    let split =
                        |room| batch.scores(precision, device).split(vector(&threshold, device), low.clone(), room);
                    let exact = split(None);
                    let counts = [Some(exact.above.clone()), exact.between.clone()]
                        .map(|code| code.map_or(0, |code| latents(code).len()));
                    // Room for more, for just as many, and for fewer than there are.
                    for (more, less) in [(7, 0), (0, 0), (0, 1)] {
                        let room = [0, 1].map(|which| (counts[which] + more).saturating_sub(less));
                        let coming = Coming::default();
                        let guessed = split(Some((room, coming.clone())));
                        assert_eq!(values(guessed.active.clone()), [counts[0] as f32]);
                        assert_eq!(coming.wait().unwrap_or(counts), counts);
                        if less == 0 || device == &cpu() {
                            assert_eq!(shown(guessed.above), shown(exact.above.clone()));
                            let between = [guessed.between, exact.between.clone()];
                            let [found, expected] = between.map(|code| code.map(latents));
                            assert_eq!(found, expected);
                        }
                    }
                    (shown(exact.above), exact.between.map(latents))
                };
                for both in [false, true] {
                    let expected = run(Precision::F32, both, &cpu());
                    assert!(
                        run(precision, both, &gpu()) == expected,
                        "{shape:?}, up to {most}, both {both}, {precision}"
                    );
                }
            }
        }
    }
}

#[test]
fn nested_decodes_and_their_gradients() {
    let mut rng = ChaCha8Rng::seed_from_u64(25);
    for (shape, widths) in [
        ([70, 12, 100], vec![3, 100]),
        ([300, 128, 1500], vec![10, 60, 61, 700, 1500]),
        ([33, 1536, 64], vec![1, 2, 64]),
        ([900, 64, 64], vec![16, 64]),
    ] {
        let [tokens, d, n] = shape;
        let batch = Batch::random(&mut rng, shape, false);
        let [w_dec, x] = [n, tokens].map(|rows| floats(&mut rng, rows * d));
        let run = |device: &Device| {
            let (code, _) = batch.scores(Precision::F32, device).largest(9 * tokens);
            let (w_dec, x) = (matrix(&w_dec, [n, d], device), matrix(&x, [tokens, d], device));
            let b_dec = x.clone().narrow(0, 0, 1).flatten(0, 1);
            let levels = Levels::new(&widths, device);
            let (residuals, squares) =
                kernels::nested_residuals(code.clone(), &levels, w_dec.clone(), b_dec, x.clone());
            let grads = kernels::nested_gradients(residuals.clone(), x.clone(), vector(&[0.3], device));
            let value_grads = kernels::value_gradients(grads.clone(), code.clone(), w_dec.clone(), Some(&levels));
            let sums = kernels::latent_sums(code.clone(), [value_grads.clone(), code.values()]);
            let of_tokens = kernels::token_sums(code.clone(), value_grads.clone());
            let spread = kernels::spread(code.clone(), of_tokens.clone());
            let seen = values(kernels::token_sums(code.clone(), spread));
            let main = SparseGradient {
                code: code.clone(),
                value_grads: value_grads.clone(),
                output_grad: grads.clone(),
                levels: Some(levels),
            };
            let zeros = || Tensor::from_data(vec![0_i32; n].as_slice(), device);
            let mut out = vec![
                values(residuals),
                values(squares),
                values(grads),
                values(sums[0].clone()),
                values(sums[1].clone()),
                values(of_tokens),
                seen,
            ];
            for auxiliary in [None, Some(main.clone())] {
                let counters = kernels::Counters { since_fired: zeros(), fires: zeros() };
                let (g, counters) =
                    kernels::latent_gradients(main.clone(), auxiliary, x.clone(), w_dec.clone(), counters, true);
                let fires = ints(counters.fires).into_iter().map(|fires| fires as f32).collect();
                out.extend([values(g.w_enc), values(g.b_enc), values(g.w_dec), fires]);
            }
            out
        };
        for (at, (found, expected)) in run(&gpu()).iter().zip(run(&cpu())).enumerate() {
            assert_close(&format!("{shape:?}, {widths:?}: result {at}"), found, &expected, 1e-5);
        }
    }
}
