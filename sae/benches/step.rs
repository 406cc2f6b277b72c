//! Time of one training step: `cargo bench --bench step [--features cuda] -- [OPTIONS]`; `-- --help` lists them.
//!
//! FLOPs of a step (`GFLOP`): the encoder's product 2·B·d·n, and sparse work 2·B·L0·d for each of decode, value gradients and the two
//! weight gradients; of a gated SAE's gate, decode, value gradients and encoder gradient once more. What revives dead latents is not
//! counted. The floor on a GPU, in bytes through device memory, f32 (P = d·n, one of the two matrices):
//!
//! - Adam reads parameter, gradient and two moments and writes all but the gradient: 28 B for each of 2·P;
//! - the gradients are written once, 8 B for each P, and the decoder is read for the projection, 4 B for each P;
//! - pre-activations are written once, 4 B for each of B·n, and a small part of them is read;
//! - the encoder is rounded and packed for the tensor cores, 6 B for each P, and read by the product, 2 B for each P;
//! - gathers of rows: decode and value gradients 4·B·k·d B each from the decoder, the weight gradients 8·B·k·d B from batch-sized
//!   matrices: from L2 where it holds them. In bf16, where B·k ≥ 4·n, half of that, and 6 B for each P to round the decoder.
//!
//! `share of floor` sets the larger of the product's time at the peak and the bytes' time at the bandwidth, added up stage by
//! stage as above, against the measured time; the peaks are arguments, by default those of an H100 SXM as measured with large
//! products and copies (790 TFLOP/s, 3.0 TB/s, 5.5 TB/s from L2).

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "../../benches/device.rs"]
mod device;

use std::path::PathBuf;
use std::time::Instant;

use assay_sae::{Architecture, Precision, Recipe, TrainConfig, Trainer};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde_json::json;

const HELP: &str = "Options:
  --device cpu|cuda|vulkan|metal|wgpu    [default: cpu]
  --shapes DxN,…                   d_model x d_sae [cpu: 128x4096; else 512x16384,1024x32768]
  --k K,…                          [cpu: 8,32; else 8,32,256]
  --classes NAME,…                 topk, batchtopk, matryoshka (five widths), jumprelu, gated, standard [default: topk]; those without a
                                   k start from thresholds or biases at which k latents of a token are active
  --batch B                        tokens per step [cpu: 1024; else 4096]
  --precision f32,bf16             [cpu: f32; else bf16,f32]
  --recipe assay,saelens           [default: both]
  --activations FILE               safetensors with `activations` [tokens, d_model] instead of random data;
                                   shapes of another width are left out
  --steps S                        timed steps [default: 50]
  --lockstep N                     that many SAEs side by side, for the memory they take [default: 1]
  --json FILE                      rows as JSON lines, beside the table
  --profile                        time every operation of the step on its own, each waited for";

struct Options {
    device: String,
    shapes: Vec<(usize, usize)>,
    k: Vec<usize>,
    classes: Vec<String>,
    batch: usize,
    precisions: Vec<Precision>,
    recipes: Vec<Recipe>,
    activations: Option<PathBuf>,
    steps: usize,
    lockstep: usize,
    json: Option<PathBuf>,
    profile: bool,
}

fn main() {
    let options = Options::parse();
    let device = device::open(&options.device);
    let real = options.activations.as_ref().map(load);
    let mut rows = String::new();
    println!(
        "| class | d_model | d_sae | k | L0 | batch | recipe | precision | data | SAEs | ms a step | fastest | tokens/s | GFLOP | floor, ms | share of floor | memory, MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for &(d, n) in &options.shapes {
        let batches = match &real {
            Some((values, width)) if *width == d => batches_of(values, d, options.batch, &device),
            Some(_) => continue,
            None => random_batches(d, options.batch, &device),
        };
        for &k in &options.k {
            for class in &options.classes {
                for &recipe in &options.recipes {
                    for &precision in &options.precisions {
                        rows += &row(&options, &device, &batches, class, [d, n, k], recipe, precision);
                    }
                }
            }
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, rows).expect("the JSON file can be written");
    }
}

fn row(
    options: &Options,
    device: &Device,
    batches: &[Tensor<2>],
    class: &str,
    [d, n, k]: [usize; 3],
    recipe: Recipe,
    precision: Precision,
) -> String {
    let real = options.activations.is_some();
    let batch = options.batch;
    // Far from the end of any schedule, and no latent dies while the clock runs: the peers' steps have no dead latents either.
    let mut config = TrainConfig {
        precision,
        ..TrainConfig::from_recipe(recipe, d, n, architecture(class, k, n), batch, 100_000_000)
    };
    if config.architecture.k().is_none() {
        // So small that L0 stays where it starts.
        config.lr = 1e-9;
    }
    let mut trainers: Vec<Trainer> =
        (0..options.lockstep).map(|seed| trainer(&config, class, k, seed as u64, &batches[0], device)).collect();
    let mut at = 0;
    let mut step = |count: usize| {
        let started = Instant::now();
        for _ in 0..count {
            let x = &batches[at % batches.len()];
            for trainer in &mut trainers {
                trainer.step(x.clone());
            }
            at += 1;
        }
        device.sync().expect("the device works");
        started.elapsed().as_secs_f64() / count as f64
    };
    step(10);
    let mut times: Vec<f64> = (0..5).map(|_| step(options.steps)).collect();
    times.sort_by(f64::total_cmp);
    let (median, fastest) = (times[2] / options.lockstep as f64, times[0] / options.lockstep as f64);
    let floor = floor_seconds([batch, d, n, k].map(|v| v as f64), config.gathers_bf16((k * batch) as f64));
    let l0 = trainers[0].step_watched(batches[0].clone()).l0().expect("the step was watched");
    let memory = device.memory_pool_usage().map(|usage| usage.bytes_reserved / (1 << 20));
    let flops = flops([batch, d, n].map(|v| v as f64), l0, class);
    let on_gpu = options.device != "cpu";
    println!(
        "| {class} | {d} | {n} | {k} | {l0:.1} | {batch} | {recipe} | {precision} | {} | {} | {:.3} | {:.3} | {:.0} | {:.1} | {} | {} | {} |",
        if real { "real" } else { "random" },
        options.lockstep,
        median * 1e3,
        fastest * 1e3,
        batch as f64 / median,
        flops / 1e9,
        if on_gpu { format!("{:.3}", floor * 1e3) } else { "–".to_owned() },
        if on_gpu { format!("{:.2}", floor / median) } else { "–".to_owned() },
        memory.map_or("–".to_owned(), |m| m.to_string()),
    );
    if options.profile && class == "topk" {
        for (name, seconds) in trainers[0].profile(k, &batches[0], 20) {
            println!("    {name}: {:.1} µs", seconds * 1e6);
        }
    }
    format!(
        "{{\"program\":\"assay\",\"work\":\"sae_step\",\"class\":\"{class}\",\"l0\":{l0},\"d_model\":{d},\"d_sae\":{n},\"k\":{k},\"batch\":{batch},\"recipe\":\"{recipe}\",\"precision\":\"{precision}\",\"data\":\"{}\",\"saes\":{},\"ms_median\":{},\"ms_min\":{},\"gflop\":{},\"floor_ms\":{},\"memory_mib\":{}}}\n",
        if real { "real" } else { "random" },
        options.lockstep,
        median * 1e3,
        fastest * 1e3,
        flops / 1e9,
        floor * 1e3,
        memory.unwrap_or(0)
    )
}

fn architecture(class: &str, k: usize, n: usize) -> Architecture {
    let settings = match class {
        "topk" => json!({ "k": k }),
        "batchtopk" => json!({ "architecture": class, "k": k as f64 }),
        "matryoshka" => {
            let widths: Vec<usize> = [16, 8, 4, 2, 1].iter().map(|part| n / part).collect();
            json!({ "architecture": class, "k": k as f64, "widths": widths })
        }
        // Coefficients so small that L0 stays about where it starts.
        "jumprelu" => json!({ "architecture": class, "l0_coefficient": 1e-6 }),
        _ => json!({ "architecture": class, "l1_coefficient": 1e-6 }),
    };
    serde_json::from_value(settings).expect("the settings of a class")
}

/// A trainer about to take its first step: where no k says how many latents are active, from a threshold that k of a token exceed.
fn trainer(config: &TrainConfig, class: &str, k: usize, seed: u64, x: &Tensor<2>, device: &Device) -> Trainer {
    let mut trainer = Trainer::new(config.clone(), seed, device).expect("these settings can be");
    trainer.calibrate(x);
    if config.architecture.k().is_some() {
        return trainer;
    }
    let [w_enc, w_dec] = trainer.weights();
    let [_, b_dec] = trainer.biases();
    let some = x.clone().narrow(0, 0, 64.min(x.dims()[0]));
    let pre = (some - b_dec.clone().unsqueeze()).matmul(w_enc.clone().transpose());
    let mut pre: Vec<f32> = pre.into_data().try_into_vec().expect("floats");
    let at = pre.len() - k * pre.len() / config.d_sae;
    pre.sort_by(f32::total_cmp);
    let full = |value: f32| Tensor::<1>::full([config.d_sae], value, device);
    match class {
        "jumprelu" => trainer.with_vector("threshold", full(pre[at])).expect("a class with thresholds"),
        _ => Trainer::from_weights(config.clone(), [w_enc, w_dec], [full(-pre[at]), b_dec]).expect("as before"),
    }
}

/// FLOPs of a step, as the head of this file counts them.
fn flops([b, d, n]: [f64; 3], l0: f64, class: &str) -> f64 {
    let products = if class == "gated" { 7.0 } else { 4.0 };
    2.0 * b * d * n + products * 2.0 * b * l0 * d
}

/// See the head of the file.
fn floor_seconds([b, d, n, k]: [f64; 4], halved: bool) -> f64 {
    let (peak, bandwidth, l2) = (790e12, 3.0e12, 5.5e12);
    let p = d * n;
    let product = (2.0 * b * p / peak).max((4.0 * b * n + 2.0 * p) / bandwidth);
    let streamed = (28.0 * 2.0 + 8.0 + 4.0 + 6.0) * p / bandwidth;
    let gathered = (4.0 + 4.0 + 8.0) * b * k * d / l2;
    let rounded = 6.0 * p / bandwidth;
    product + streamed + if halved { gathered / 2.0 + rounded } else { gathered }
}

fn load(path: &PathBuf) -> (Vec<f32>, usize) {
    let bytes = std::fs::read(path).expect("the file of activations can be read");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = file.tensor("activations").expect("a tensor `activations`");
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    (values, tensor.shape()[1])
}

fn batches_of(values: &[f32], d: usize, batch: usize, device: &Device) -> Vec<Tensor<2>> {
    let rows = values.chunks_exact(batch * d);
    rows.take(16).map(|rows| Tensor::from_data(TensorData::new(rows.to_vec(), [batch, d]), device)).collect()
}

/// Four batches, so that a step does not find the last one's input in the cache.
fn random_batches(d: usize, batch: usize, device: &Device) -> Vec<Tensor<2>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..4 * batch * d).map(|_| StandardNormal.sample(&mut rng)).collect();
    batches_of(&values, d, batch, device)
}

impl Options {
    fn parse() -> Self {
        let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        if args.iter().any(|a| a == "--help") {
            println!("{HELP}");
            std::process::exit(0);
        }
        let mut flag = |name: &str| {
            let at = args.iter().position(|a| a == name)?;
            args.remove(at);
            Some(())
        };
        let profile = flag("--profile").is_some();
        let mut take = |name: &str| {
            let at = args.iter().position(|a| a == name)?;
            args.remove(at);
            Some(args.remove(at))
        };
        let list = |text: Option<String>, default: &str| -> Vec<String> {
            text.unwrap_or_else(|| default.to_owned()).split(',').map(str::to_owned).collect()
        };
        let device = take("--device").unwrap_or_else(|| "cpu".to_owned());
        let gpu = device != "cpu";
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let options = Self {
            shapes: list(take("--shapes"), if gpu { "512x16384,1024x32768" } else { "128x4096" })
                .iter()
                .map(|shape| shape.split_once('x').map(|(d, n)| (number(d), number(n))).expect("DxN"))
                .collect(),
            k: list(take("--k"), if gpu { "8,32,256" } else { "8,32" }).iter().map(|k| number(k)).collect(),
            classes: list(take("--classes"), "topk"),
            batch: take("--batch").map_or(if gpu { 4096 } else { 1024 }, |b| number(&b)),
            precisions: list(take("--precision"), if gpu { "bf16,f32" } else { "f32" })
                .iter()
                .map(|p| match p.as_str() {
                    "f32" => Precision::F32,
                    "bf16" => Precision::Bf16,
                    other => panic!("--precision {other}: f32 or bf16"),
                })
                .collect(),
            recipes: list(take("--recipe"), "assay,saelens")
                .iter()
                .map(|r| match r.as_str() {
                    "assay" => Recipe::Assay,
                    "saelens" => Recipe::Saelens,
                    other => panic!("--recipe {other}: assay or saelens"),
                })
                .collect(),
            activations: take("--activations").map(PathBuf::from),
            steps: take("--steps").map_or(50, |s| number(&s)),
            lockstep: take("--lockstep").map_or(1, |s| number(&s)),
            json: take("--json").map(PathBuf::from),
            device,
            profile,
        };
        assert!(args.is_empty(), "unknown arguments {args:?}\n{HELP}");
        options
    }
}
