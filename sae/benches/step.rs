//! Time of one training step on the CPU: `cargo bench --bench step [-- BATCH D_MODEL D_SAE K]`.
//!
//! FLOPs of a step: the encoder's product 2·B·d·n, and k-sparse work 2·B·k·d for each of decode, value gradients and the two
//! weight gradients. Bytes: Adam reads and writes a parameter, its gradient and two moments, 28 B for each of 2·d·n.

use std::time::Instant;

use assay_sae::{Recipe, TrainConfig, Trainer};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let shapes = match args[..] {
        [batch, d, n, k] => vec![(batch, d, n, k)],
        _ => vec![
            (1024, 128, 4096, 8),
            (1024, 128, 4096, 32),
            (256, 128, 512, 8),
            (256, 256, 1024, 8),
            (256, 256, 1024, 32),
        ],
    };
    println!("{} threads", std::thread::available_parallelism().map_or(1, usize::from));
    for (batch, d, n, k) in shapes {
        for recipe in [Recipe::Assay, Recipe::Saelens] {
            let steps = 30;
            let config = TrainConfig::from_recipe(recipe, d, n, k, batch, (steps * batch) as u64 * 10);
            let device = Device::flex();
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let values: Vec<f32> = (0..batch * d).map(|_| StandardNormal.sample(&mut rng)).collect();
            let x: Tensor<2> = Tensor::from_data(TensorData::new(values, [batch, d]), &device);
            let mut trainer = Trainer::new(config, 0, &device).expect("these settings can be");
            for _ in 0..5 {
                trainer.step(x.clone());
            }
            let mut times: Vec<f64> = (0..steps)
                .map(|_| {
                    let started = Instant::now();
                    trainer.step(x.clone());
                    started.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let median = times[steps / 2];
            let encoder = 2.0 * (batch * d * n) as f64;
            println!(
                "{recipe:?} B {batch} d {d} n {n} k {k}: {:.2} ms a step ({:.2} fastest), {:.0} tokens/s, encoder alone {:.1} GFLOP/s if it were all",
                median * 1e3,
                times[0] * 1e3,
                batch as f64 / median,
                encoder / median / 1e9
            );
        }
    }
}
