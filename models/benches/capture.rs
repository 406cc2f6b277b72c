//! Time of capturing activations at the last layer: `cargo bench --bench capture [--features cuda] -- [OPTIONS]`; `-- --help`.
//!
//! FLOPs a token and layer: 2 for each weight of the maps, d·(H + 2K)·D + H·D·d + 2·d·m (3·d·m if the MLP is gated), and 4·min(T, W)·H·D for
//! attention's scores and mixing (half of it behind the causal mask). Nothing is unembedded. Bytes a token and layer, bf16, where every
//! operation writes its result once and reads its operands once: the residual stream in f32 five times (4·d each), norms 2·d each way,
//! attention's output 2·H·D each way, qkv 2·(H + 2K)·D and the MLP's hidden activations 2·m, written and read; the weights once per pass.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "../../benches/device.rs"]
mod device;

use std::path::{Path, PathBuf};
use std::time::Instant;

use assay_kernels::Precision;
use assay_models::config::DecoderConfig;
use assay_models::{Decoder, HookPoint};
use ndarray::Array2;

const HELP: &str = "Options:
  --model DIR,…       checkpoints [default: the bundled ones]
  --device cpu|cuda|vulkan|metal|wgpu   [default: cpu]
  --batch B,…         contexts of a pass [default: 32]
  --context T         tokens of a context [cpu: 128; else 256]
  --precision f32,bf16   [cpu: f32; else bf16,f32]
  --passes N          timed passes [default: 20]
  --json FILE         rows as JSON lines, beside the table";

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.iter().any(|a| a == "--help") {
        println!("{HELP}");
        return;
    }
    let mut take = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.remove(at);
        Some(args.remove(at))
    };
    let name = take("--device").unwrap_or_else(|| "cpu".to_owned());
    let on_cpu = name == "cpu";
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled");
    let models: Vec<PathBuf> = match take("--model") {
        Some(list) => list.split(',').map(PathBuf::from).collect(),
        None => vec![bundled.join("small"), bundled.join("medium")],
    };
    let numbers = |text: String| text.split(',').map(|n| n.parse::<usize>().expect("a number")).collect::<Vec<_>>();
    let batches = numbers(take("--batch").unwrap_or_else(|| "32".to_owned()));
    let context = numbers(take("--context").unwrap_or_else(|| if on_cpu { "128" } else { "256" }.to_owned()))[0];
    let passes = numbers(take("--passes").unwrap_or_else(|| "20".to_owned()))[0];
    let precisions: Vec<Precision> = take("--precision")
        .unwrap_or_else(|| if on_cpu { "f32" } else { "bf16,f32" }.to_owned())
        .split(',')
        .map(|p| if p == "bf16" { Precision::Bf16 } else { Precision::F32 })
        .collect();
    let json = take("--json");
    assert!(args.is_empty(), "unknown arguments {args:?}\n{HELP}");

    let device = device::open(&name);
    let mut rows = String::new();
    println!("| model | batch | context | precision | ms a pass | fastest | tokens/s | TFLOP/s | memory, MiB |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for dir in models {
        let model = Decoder::load(&dir, &device).expect("a checkpoint directory");
        let config = model.config().clone();
        let site = [HookPoint::resid_post(config.n_layers() - 1).into()];
        let label = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        for &batch in &batches {
            let tokens =
                Array2::from_shape_fn((batch, context), |(s, t)| ((s * 7919 + t * 104_729) % config.vocab_size) as u32);
            for &precision in &precisions {
                let pass = |count: usize| {
                    let started = Instant::now();
                    for _ in 0..count {
                        drop(model.capture_in(precision, tokens.view(), &site).expect("the site exists"));
                    }
                    device.sync().expect("the device works");
                    started.elapsed().as_secs_f64() / count as f64
                };
                pass(3);
                let mut times: Vec<f64> = (0..5).map(|_| pass(passes)).collect();
                times.sort_by(f64::total_cmp);
                let (median, fastest) = (times[2], times[0]);
                let flops = (flops_of_a_token(&config, context) * batch * context) as f64;
                let memory = device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved / (1 << 20));
                let speed = (batch * context) as f64 / median;
                println!(
                    "| {label} | {batch} | {context} | {precision} | {:.3} | {:.3} | {speed:.0} | {:.3} | {memory} |",
                    median * 1e3,
                    fastest * 1e3,
                    flops / median / 1e12,
                );
                rows += &format!(
                    "{{\"program\":\"assay\",\"work\":\"capture\",\"model\":\"{label}\",\"batch\":{batch},\"context\":{context},\"precision\":\"{precision}\",\"ms_median\":{},\"ms_min\":{},\"tflops\":{},\"memory_mib\":{memory}}}\n",
                    median * 1e3,
                    fastest * 1e3,
                    flops / median / 1e12
                );
            }
        }
    }
    if let Some(path) = json {
        std::fs::write(path, rows).expect("the JSON file can be written");
    }
}

/// See the head of this file.
fn flops_of_a_token(config: &DecoderConfig, context: usize) -> usize {
    let (attention, mlp) = (&config.attention, &config.mlp);
    let in_mlp = if mlp.gated { 3 } else { 2 } * config.d_model * mlp.d_mlp;
    let weights = config.d_model * (2 * attention.d_q() + 2 * attention.d_kv()) + in_mlp;
    let seen = config.layers.iter().map(|layer| layer.window.map_or(context, |window| window.min(context)));
    seen.map(|keys| 2 * weights + 4 * keys * attention.d_q()).sum()
}
