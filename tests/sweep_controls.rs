//! Controls as rows of a sweep: what each leaves as it is and what it takes away, that they change nothing of the SAEs, and that they resume.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assay::frames::{self, Grid, RunResult};
use burn::tensor::Tensor;
use safetensors::SafeTensors;

use crate::common::{
    bundled, copy_dir, cpu, files, killed_and_resumed, reference_sweep, refused, spec_of, stdout_of, sweep,
};

const ALL: &str = r#"controls = ["permuted-decoder", "random-model", "gaussian-inputs", "frozen-decoder"]
coders = [{ architecture = "topk", k = [4] }, { architecture = "hierarchical", ks = [2, 8] }]"#;

fn spec(dir: &Path) -> PathBuf {
    spec_of(ALL, dir)
}

fn whole() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| reference_sweep("controls-reference", spec))
}

/// The SAEs with their controls of one name.
fn pairs<'a>(grid: &'a Grid, control: &str) -> Vec<(&'a RunResult, &'a RunResult)> {
    let of = |run: &'a RunResult| {
        let same = |of: &&frames::ControlRun| {
            of.control == control && of.run.setting == run.setting && of.run.seed == run.seed && of.run.site == run.site
        };
        (run, &grid.controls.iter().find(same).unwrap_or_else(|| panic!("no {control} of {:?}", run.setting)).run)
    };
    grid.runs.iter().map(of).collect()
}

fn value(run: &RunResult, column: &str) -> f64 {
    run.value(column).unwrap_or_else(|| panic!("no {column}"))
}

/// A permuted decoder encodes as before, and writes something else.
#[test]
fn a_permuted_decoder_moves_what_is_of_the_reconstruction_and_nothing_of_the_encoder() {
    let grid = frames::read(whole()).unwrap();
    assert_eq!((grid.runs.len(), grid.controls.len()), (3, 12));
    for (run, permuted) in pairs(&grid, "permuted-decoder") {
        for encoder in ["l0", "alive_frac", "bits_per_token", "bits_bernoulli", "no_first.l0", "n_dead", "final_loss"] {
            assert_eq!(value(run, encoder).to_bits(), value(permuted, encoder).to_bits(), "{encoder}");
        }
        assert_eq!(value(run, "ce_orig"), value(permuted, "ce_orig"), "the model is the same");
        assert!(value(permuted, "r2") < value(run, "r2") - 0.1, "{} {}", value(permuted, "r2"), value(run, "r2"));
        for (causal, sign) in
            [("ce_rec", 1.0), ("ce_loss_score", 1.0), ("cosine", 1.0), ("kl", -1.0), ("rel_err", -1.0)]
        {
            assert!(sign * (value(run, causal) - value(permuted, causal)) > 0.0, "{causal}");
        }
        // The saved SAE is the permuted one, of the same rows.
        let saved = |name: &str| whole().join(format!("saes/small-L3-{name}-seed0-5120tokens/cfg.json")).exists();
        assert!(saved("k4") && saved("permuted-decoder-k4") && saved("frozen-decoder-k4"));
    }
}

#[test]
fn a_random_model_has_another_loss_and_a_frozen_decoder_the_rows_that_were_drawn() {
    let grid = frames::read(whole()).unwrap();
    for (run, random) in pairs(&grid, "random-model") {
        // No better than guessing among the vocabulary of 4,096: ln 4096 = 8.3.
        assert!(value(run, "ce_orig") < 6.0 && value(random, "ce_orig") > 7.5);
        assert_eq!(run.training_tokens, random.training_tokens);
    }
    let weights = |name: &str| {
        let dir = whole().join(format!("saes/small-L3-{name}-seed0-5120tokens"));
        let sae = assay_sae::formats::load(&dir, &cpu()).unwrap().sae;
        sae.weights().map(|matrix: Tensor<2>| crate::common::values(matrix))
    };
    let [[_, own], [encoder, frozen]] = [weights("k4"), weights("frozen-decoder-k4")];
    // Rows of norm 1 that the trained ones began as, and the encoder too, which has learned.
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let rows = |a: &[f32], b: &[f32]| a.chunks(128).zip(b.chunks(128)).map(|(a, b)| cosine(a, b)).collect::<Vec<_>>();
    assert!(rows(&frozen, &frozen).iter().all(|norm| (norm - 1.0).abs() < 1e-5));
    let moved = mean(&rows(&own, &frozen));
    assert!((0.2..0.999).contains(&moved), "{moved}");
    assert_ne!(encoder, frozen);
    for (run, frozen) in pairs(&grid, "frozen-decoder") {
        assert_ne!(value(frozen, "r2"), value(run, "r2"));
    }
}

/// Each SAE of a random model reconstructs one of the few thousand vectors of its tokens, on their way; where every occurrence has a
/// vector of its own, there is nothing to learn, and the share that 4 of 512 directions have of 128 dimensions is all that is left.
#[test]
fn without_tokens_to_learn_an_sae_reconstructs_less() {
    let grid = frames::read(whole()).unwrap();
    for ((run, random), (_, noise)) in pairs(&grid, "random-model").into_iter().zip(pairs(&grid, "gaussian-inputs")) {
        assert!(value(noise, "ce_orig") > 7.5);
        let [own, random, noise] = [run, random, noise].map(|run| value(run, "r2_deflated_8"));
        assert!(noise < random, "{own} {random} {noise}");
    }
}

/// Records and ids of the SAEs are those of a sweep without controls, whose files know nothing of them.
#[test]
fn controls_change_no_byte_of_the_saes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny");
    let plain = ALL.split_once('\n').unwrap().1;
    stdout_of(&mut sweep(&spec_of(plain, dir.path()), &out));
    let (alone, company) = (frames::read(&out).unwrap(), frames::read(whole()).unwrap());
    let ids = |grid: &Grid| grid.runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&alone), ids(&company));
    for id in ids(&alone) {
        let record = |out: &Path| std::fs::read(out.join(format!("runs/{id}.json"))).unwrap();
        assert!(record(&out) == record(whole()), "{id}");
    }
    let text = |out: &Path, file: &str| std::fs::read_to_string(out.join(file)).unwrap();
    assert!(!text(&out, "report.md").contains("controls don't") && !text(&out, "plan.json").contains("control"));
    assert!(!files(&out).keys().any(|path| path.to_string_lossy().contains("against-controls")));
    let report = text(whole(), "report.md");
    assert!(report.contains("What do SAEs have that their controls don't?"), "{report}");
    assert!(
        report.contains("beside them 12 controls (permuted-decoder, frozen-decoder, random-model, gaussian-inputs)"),
        "{report}"
    );
    let table = text(whole(), "tables/against-controls.md");
    for control in ["none: the SAE", "permuted-decoder", "frozen-decoder", "random-model", "gaussian-inputs"] {
        assert_eq!(table.matches(control).count(), 3, "{control}: {table}");
    }
    assert_eq!(text(whole(), "tables/grid.md").matches("random-model").count(), 3);
    // What compares SAEs leaves controls out.
    for (name, table) in [("headline", "tables/headline.md"), ("alive", "tables/alive.md")] {
        assert_eq!(text(whole(), table), text(&out, table), "{name}");
    }
}

#[test]
fn a_sweep_with_controls_resumes() {
    killed_and_resumed("controls-killed", spec);
}

#[test]
fn what_is_no_control_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (controls, part) in [
        (
            r#"["random"]"#,
            "unknown variant `random`, expected one of `random-model`, `gaussian-inputs`, `step-0`, `frozen-decoder`, `permuted-decoder`",
        ),
        (r#"["random-model", "random-model"]"#, "controls: a value is listed twice (random-model)"),
    ] {
        let spec = spec_of(&format!("controls = {controls}\nk = [4]"), dir.path());
        refused(&mut sweep(&spec, &dir.path().join("out")), &[part]);
    }
}

/// The bundled model with the values of every matrix in reverse order: of its shape, and without what it learned.
fn untrained(dir: &Path) -> PathBuf {
    copy_dir(&bundled("small"), dir);
    let path = dir.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    for (name, info) in metadata.tensors().into_iter().collect::<BTreeMap<_, _>>() {
        if info.shape.len() < 2 {
            continue;
        }
        let size = info.dtype.bitsize() / 8;
        let data = &mut bytes[8 + header..][info.data_offsets.0..info.data_offsets.1];
        assert!(data.len().is_multiple_of(size), "{name}");
        data.reverse();
        data.chunks_mut(size).for_each(<[u8]>::reverse);
    }
    std::fs::write(&path, bytes).unwrap();
    dir.to_owned()
}

/// A spec with models whose `step0` is as given.
fn with_step0(dir: &Path, controls: &str, step0: &str) -> PathBuf {
    let spec = spec_of(&format!("controls = {controls}\nk = [4]"), dir);
    let text = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, text.replace("layers = { mid = 3 }", &format!("layers = {{ mid = 3 }}\n{step0}"))).unwrap();
    spec
}

#[test]
fn a_model_before_its_training_is_a_control() {
    let dir = tempfile::tempdir().unwrap();
    let (out, again) = (dir.path().join("out/tiny"), dir.path().join("out/again"));
    untrained(&dir.path().join("before"));
    let spec = with_step0(dir.path(), r#"["step-0"]"#, "step0 = 'before'");
    stdout_of(&mut sweep(&spec, &out));
    let grid = frames::read(&out).unwrap();
    assert_eq!((grid.runs.len(), grid.controls.len()), (1, 1));
    for (run, before) in pairs(&grid, "step-0") {
        assert!(value(run, "ce_orig") < 6.0 && value(before, "ce_orig") > 7.5, "{}", value(before, "ce_orig"));
        // No other numbers than of the SAE of a sweep of that model.
        let of_before = dir.path().join("alone.toml");
        let text = std::fs::read_to_string(&spec).unwrap().replace("controls = [\"step-0\"]", "");
        let path = bundled("small").display().to_string();
        std::fs::write(&of_before, text.replace("step0 = 'before'", "").replace(&path, "before")).unwrap();
        stdout_of(&mut sweep(&of_before, &dir.path().join("out/alone")));
        let alone = frames::read(&dir.path().join("out/alone")).unwrap();
        assert_eq!(alone.runs[0].values, before.values);
    }
    // From where it is recorded the path leads to the same place.
    stdout_of(&mut sweep(&out.join("sweep.toml"), &again));
    let runs = |of: &Path| std::fs::read(of.join("runs.parquet")).unwrap();
    assert!(runs(&out) == runs(&again));
}

#[test]
fn what_is_no_earlier_state_of_the_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (small, medium) = (bundled("small").display().to_string(), bundled("medium").display().to_string());
    for (controls, step0, parts) in [
        (r#"["step-0"]"#, String::new(), ["`step-0`", "belong together"]),
        ("[]", format!("step0 = '{small}'"), ["`step-0`", "belong together"]),
        (
            r#"["step-0"]"#,
            format!("step0 = '{small}'"),
            ["[[models]] small: step0", "has the weights of the model itself"],
        ),
        (
            r#"["step-0"]"#,
            format!("step0 = '{medium}'"),
            ["[[models]] small: step0", "of another shape or other settings"],
        ),
        (r#"["step-0"]"#, "step0 = 'nowhere'".to_owned(), ["[[models]] small: step0", "nowhere"]),
        (
            r#"["step-0"]"#,
            format!("step0 = '{small}'\nstep0_hub = 'a/b@step0'"),
            ["`step0` and `step0_hub`", "exclude"],
        ),
    ] {
        let out = dir.path().join("out");
        refused(&mut sweep(&with_step0(dir.path(), controls, &step0), &out), &parts);
        assert!(!out.exists());
    }
}
