//! Tokens a second of capturing activations on the CPU: `cargo bench --bench capture [-- MODEL_DIR]`.
//!
//! FLOPs a token and layer: 2·(4·d² + 2·d·d_mlp) for the weights and 4·T·d for attention's scores and mixing (half of it behind
//! the causal mask). Nothing is unembedded.

use std::path::{Path, PathBuf};
use std::time::Instant;

use assay_models::{ActivationStream, Decoder, HookPoint, RowUse, StreamConfig, TokenSource};
use burn::tensor::Device;

fn main() {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled");
    let given: Vec<PathBuf> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).map(PathBuf::from).collect();
    let models = if given.is_empty() { vec![bundled.join("small"), bundled.join("medium")] } else { given };
    let (contexts, context_size) = (64, 128);
    let source = TokenSource::open(&bundled.join("train.parquet"), context_size, RowUse::Split, None, None)
        .expect("the bundled tokens are there");
    for dir in models {
        let model = Decoder::load(&dir, &Device::flex()).expect("a GPT-NeoX checkpoint directory");
        let config = model.config();
        let last = [HookPoint::resid_post(config.n_layers - 1)];
        let tokens = contexts * context_size;
        let stream = StreamConfig {
            first_context: 0,
            tokens,
            batch_size: 256,
            buffer_tokens: tokens,
            contexts_per_pass: 32,
            seed: 0,
            center_residual: false,
        };
        let mut times: Vec<f64> = (0..8)
            .map(|_| {
                let mut stream = ActivationStream::new(&model, &source, &last, stream).expect("the hook exists");
                let started = Instant::now();
                stream.next_round().expect("the tokens are there");
                started.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let weights = 4 * config.d_model * config.d_model + 2 * config.d_model * config.d_mlp;
        let flops = (config.n_layers * (2 * weights + 4 * context_size * config.d_model) * tokens) as f64;
        println!(
            "{}: {:.0} tokens/s median, {:.0} best; {:.1} GFLOP/s",
            dir.display(),
            tokens as f64 / median,
            tokens as f64 / times[0],
            flops / median / 1e9
        );
    }
}
