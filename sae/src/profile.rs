//! What a step's time goes to, operation by operation: for benchmarks.

use std::time::Instant;

use burn::tensor::Tensor;

use crate::kernels::{self, AdamStep, Dead, Encoder, Selection, SparseGradient};
use crate::trainer::Trainer;

impl Trainer {
    /// Seconds of each operation of a step that chooses `k` latents per token, the median of `times` runs, each waited for: for benchmarks.
    /// The trainer does not change.
    #[doc(hidden)]
    pub fn profile(&self, k: usize, x: &Tensor<2>, times: usize) -> Vec<(&'static str, f64)> {
        let (config, p, device) = (&self.config, &self.params, x.device());
        let input = x.clone() - p.b_dec.clone().unsqueeze();
        let encoder =
            Encoder { w_enc: p.w_enc.clone(), b_enc: p.b_enc.clone(), scale: None, precision: config.precision };
        let selection = Selection::TopK { k };
        let code = kernels::encode(input.clone(), encoder.clone(), selection);
        let scores = kernels::scores(input.clone(), encoder.clone());
        let grad = || input.clone();
        let value_grads = kernels::value_gradients(grad(), code.clone(), p.w_dec.clone(), None);
        let term = SparseGradient { code: code.clone(), value_grads, output_grad: grad(), levels: None };
        let clip: Tensor<1> = Tensor::ones([1], &device);
        let adam = AdamStep { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 1 };
        let dead =
            || Dead { since_fired: self.firing.counters.since_fired.clone(), after: i32::MAX, k: config.k_aux() };
        let time = |run: &mut dyn FnMut()| {
            let mut seconds: Vec<f64> = (0..times + 2)
                .map(|_| {
                    let started = Instant::now();
                    run();
                    device.sync().expect("the device works");
                    started.elapsed().as_secs_f64()
                })
                .skip(2)
                .collect();
            seconds.sort_by(f64::total_cmp);
            seconds[times / 2]
        };
        let adam_of = |unit_rows: bool| {
            let mut held = Some((p.w_dec.clone() * 1.0, (p.w_dec.clone() * 1.0, p.w_dec.clone().abs())));
            time(&mut || {
                let (param, moments) = held.take().expect("put back below");
                held = Some(kernels::adam(param, p.w_dec.clone(), moments, clip.clone(), adam, unit_rows));
            })
        };
        vec![
            ("waiting for nothing", time(&mut || {})),
            ("elementwise on the batch", time(&mut || drop(x.clone() - p.b_dec.clone().unsqueeze()))),
            ("encode and select", time(&mut || drop(kernels::encode(input.clone(), encoder.clone(), selection)))),
            (
                "the same with dead",
                time(&mut || drop(kernels::encode_with_dead(input.clone(), encoder.clone(), selection, dead()))),
            ),
            ("scores", time(&mut || drop(kernels::scores(input.clone(), encoder.clone())))),
            ("the largest of the batch", time(&mut || drop(scores.largest(k * x.dims()[0])))),
            (
                "residual",
                time(&mut || {
                    let (b_dec, x) = (p.b_dec.clone(), x.clone());
                    drop(kernels::residual(code.clone(), p.w_dec.clone(), b_dec, x));
                }),
            ),
            ("decode", time(&mut || drop(kernels::decode(code.clone(), p.w_dec.clone())))),
            (
                "value gradients",
                time(&mut || {
                    drop(kernels::value_gradients(grad(), code.clone(), p.w_dec.clone(), None));
                }),
            ),
            (
                "latent gradients",
                time(&mut || {
                    let counters = self.firing.counters.clone();
                    drop(kernels::latent_gradients(term.clone(), None, input.clone(), p.w_dec.clone(), counters, true));
                }),
            ),
            ("weighted rows", time(&mut || drop(kernels::weighted_rows(p.b_enc.clone(), p.w_enc.clone())))),
            ("sum of squares of the batch", time(&mut || drop(kernels::sum_squares(input.clone())))),
            ("sum over the batch", time(&mut || drop(kernels::column_sums(input.clone())))),
            ("adam of a matrix", adam_of(false)),
            ("adam of unit rows", adam_of(true)),
        ]
    }
}
