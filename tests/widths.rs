//! Activations that are not d_model wide: what the heads mix, where n_heads · d_head is another number.

use assay::frames;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::{assay, golden, refused, stdout_of, sweep, write_tokens};

/// d_model 32, 4 heads of 16 dimensions: 64 at `z`.
const MODEL: &str = "families/gemma2";

#[test]
fn saes_are_as_wide_as_their_hook() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (name, contexts) in [("train", 40), ("eval", 4)] {
        let tokens = Array2::from_shape_fn((contexts, 16), |_| rng.random_range(0..160));
        write_tokens(&dir.path().join(format!("{name}.safetensors")), &tokens);
    }
    let spec = dir.path().join("wide.toml");
    let text = format!(
        r#"name = "wide"
k = [4]
hooks = ["resid_post", "z"]
training_tokens = [512]

[[models]]
name = "gemma2"
path = '{}'
layers = {{ mid = 1 }}

[tokens]
train = "train.safetensors"
eval = "eval.safetensors"
context_size = 16

[train]
expansion = 2
batch_size = 64
buffer_tokens = 256
save_saes = true

[eval]
sequences = 4
context_size = 16
resamples = 100
"#,
        golden(MODEL).display()
    );
    std::fs::write(&spec, text).unwrap();
    let out = dir.path().join("out");
    // The estimate times both.
    let plan = stdout_of(sweep(&spec, &out).args(["--dry-run", "--json"]));
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let sizes: Vec<&serde_json::Value> = plan["runs"].as_array().unwrap().iter().map(|run| &run["d_sae"]).collect();
    assert_eq!(sizes, [128, 64], "{plan}");
    stdout_of(&mut sweep(&spec, &out));
    let frame = frames::open(&out.join("runs.parquet")).unwrap();
    let widths: Vec<u64> = frame.column("d_model").unwrap().u64().unwrap().iter().flatten().collect();
    assert_eq!(widths, [64, 32]);

    let eval = |more: &[&str]| {
        let mut assay = assay();
        assay.args(["eval", "--json", "--resamples", "100", "--model"]).arg(golden(MODEL));
        assay.arg("--tokens").arg(dir.path().join("eval.safetensors")).arg("--sae");
        assay.arg(out.join("saes/gemma2-L1-z-k4-seed0-512tokens")).args(more);
        assay
    };
    let found: serde_json::Value = serde_json::from_str(&stdout_of(&mut eval(&[]))).unwrap();
    assert_eq!((&found["hook"], &found["d_model"]), (&"blocks.1.attn.hook_z".into(), &64.into()));
    let r2 = frame.column("r2").unwrap().f64().unwrap().get(0).unwrap();
    assert!((found["all"]["r2"].as_f64().unwrap_or(f64::NAN) - r2).abs() < 1e-6, "{r2}: {found}");
    refused(&mut eval(&["--hook", "blocks.1.hook_mlp_out"]), &["d_in is 64", "blocks.1.hook_mlp_out", "is 32 wide"]);
}
