//! `assay probe`: probes against scikit-learn and sae-probes' own code, code lengths against numpy, and the program itself.

use std::path::Path;

use assay::probe::{Pooling, Reading};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, HookPoint};
use assay_probes::probing::{
    Features, Gram, Protocol, Ranking, SCORES, Split, Tested, label_only_bits, prequential, probe,
};
use assert_cmd::Command;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::common::{Reference, assay, bundled, cpu, golden, refused, root, stdout_of};

/// What scikit-learn, sae-probes and numpy make of stored latents.
struct Stored {
    expected: Value,
    features: Features,
    gram: Gram,
    labels: Vec<bool>,
    split: Split,
}

fn whole(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

/// Integers of 16 or 32 bits of the stored latents: the file is to stay small.
fn narrow(name: &str) -> Vec<usize> {
    let bytes = std::fs::read(golden("probing/latents.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    match tensor.dtype() {
        Dtype::I16 => {
            tensor.data().chunks_exact(2).map(|b| i16::from_le_bytes(b.try_into().unwrap()) as usize).collect()
        }
        Dtype::I32 => {
            tensor.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as usize).collect()
        }
        other => panic!("{name} is {other:?}"),
    }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

impl Stored {
    fn open() -> Self {
        let text = std::fs::read_to_string(golden("probing/expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let (starts, indices) = (narrow("starts"), narrow("indices"));
        let values = Reference::open(golden("probing/latents.safetensors")).floats("values").0;
        let mut features = Features::new(expected["columns"].as_u64().unwrap() as usize);
        for row in starts.windows(2) {
            features.push((row[0]..row[1]).map(|at| (indices[at], f64::from(values[at]))));
        }
        let labels = expected["labels"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
        let split = Split { train: whole(&expected["train"]), test: whole(&expected["test"]) };
        Self { gram: Gram::of(&features), features, labels, split, expected }
    }

    fn k(of: &Value) -> Option<usize> {
        of["k"].as_u64().map(|k| k as usize)
    }

    fn tested(&self, decisions: &[f64]) -> Tested {
        Tested::new(decisions, &self.split.test.iter().map(|&row| self.labels[row]).collect::<Vec<_>>())
    }
}

#[test]
fn probes_agree_with_scikit_learn_on_stored_latents() {
    let stored = Stored::open();
    for of in stored.expected["saebench"].as_array().unwrap() {
        let k = Stored::k(of);
        let found = probe(Protocol::SaeBench, &stored.features, Some(&stored.gram), &stored.labels, &stored.split, k);
        assert!(found.fit.has_converged(), "{k:?}: {}", found.fit.gradient);
        if k.is_some() {
            assert_eq!(found.columns.unwrap(), whole(&of["columns"]), "{k:?}");
            for (a, b) in found.fit.weights.iter().zip(floats(&of["weights"])) {
                assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{k:?}: {a} {b}");
            }
        }
        // The intercept is in these.
        for (a, b) in found.decisions.iter().zip(floats(&of["decisions"])) {
            assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{k:?}: {a} {b}");
        }
        let scores = stored.tested(&found.decisions).scores().values();
        for (name, value) in SCORES.iter().zip(scores) {
            assert!((value.unwrap() - of["scores"][name].as_f64().unwrap()).abs() < 1e-12, "{k:?} {name}: {value:?}");
        }
    }
}

#[test]
fn the_protocol_of_sae_probes_is_what_its_own_code_does() {
    let stored = Stored::open();
    for of in stored.expected["sae_probes"].as_array().unwrap() {
        let k = Stored::k(of);
        let found = probe(Protocol::SaeProbes, &stored.features, None, &stored.labels, &stored.split, k);
        assert_eq!(found.columns.unwrap(), whole(&of["columns"]), "{k:?}");
        assert!((found.c / of["c"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{k:?}: {}", found.c);
        let scores = stored.tested(&found.decisions).scores();
        for (name, value) in
            [("accuracy", scores.accuracy), ("auroc", scores.auroc), ("weighted_f1", scores.weighted_f1)]
        {
            assert!((value.unwrap() - of[name].as_f64().unwrap()).abs() < 1e-9, "{k:?} {name}: {value:?}");
        }
    }
}

#[test]
fn code_lengths_agree_with_numpy() {
    let stored = Stored::open();
    let label_only = label_only_bits(&stored.labels);
    assert!((label_only - stored.expected["label_only_bits"].as_f64().unwrap()).abs() < 1e-9);
    let orders: Vec<Vec<usize>> = stored.expected["orders"].as_array().unwrap().iter().map(whole).collect();
    for of in stored.expected["codes"].as_array().unwrap() {
        let k = Stored::k(of);
        let (features, gram) = (&stored.features, Some(&stored.gram));
        let found = prequential(features, gram, &stored.labels, &orders, Ranking::Difference, k);
        assert_eq!(found.not_converged, 0, "{k:?}");
        for (a, b) in found.totals.iter().zip(floats(&of["totals"])) {
            assert!((a - b).abs() < 1e-4 * b, "{k:?}: {a} {b}");
        }
        for (a, b) in found.of_rows.iter().zip(floats(&of["of_rows"])) {
            assert!((a - b).abs() < 1e-3, "{k:?}: {a} {b}");
        }
    }
}

#[test]
fn pooled_latents_are_those_of_torch() {
    let stored = Stored::open();
    let device = cpu();
    let model = Decoder::load(&bundled("small"), &device).unwrap();
    let vocabulary = Vocabulary::load(&bundled("small")).unwrap();
    let sae = assay_sae::formats::load(&golden("eval-small/L3_k8"), &device).unwrap().sae;
    let texts: Vec<Vec<u32>> =
        narrow("tokens").chunks(32).take(64).map(|row| row.iter().map(|&id| id as u32).collect()).collect();
    let reading = Reading { model: &model, vocabulary: &vocabulary, context: 32, pooling: Pooling::Mean };
    let found = reading.pool(&texts, &[(&sae, HookPoint::resid_post(3).into())], |_| ()).unwrap();
    assert_eq!(found.l0, [8.0]);
    let (found, mut largest) = (&found.latents[0], 0f64);
    for row in 0..texts.len() {
        let [own, stored] = [found, &stored.features].map(|of| of.of_rows(&[row]).to_dense());
        let scale = stored.iter().fold(0f64, |a, b| a.max(b.abs()));
        let error = (&own - &stored).iter().fold(0f64, |a, b| a.max(b.abs()));
        largest = largest.max(error / scale);
    }
    assert!(largest < 1e-4, "{largest}");
}

fn command(extra: &[&str]) -> Command {
    let mut command = assay();
    command.current_dir(root()).args(["probe", "--model", "models/bundled/small", "--device", "cpu", "--quiet"]);
    command.args(["--sae", "tests/golden/eval-small/L3_k8", "--resamples", "200", "--orders", "3"]).args(extra);
    command
}

fn json(extra: &[&str]) -> Value {
    serde_json::from_str(&stdout_of(command(extra).arg("--json"))).unwrap()
}

fn row<'a>(found: &'a Value, kind: &str, k: Option<u64>) -> &'a Value {
    let rows = found["rows"].as_array().unwrap();
    rows.iter().find(|row| row["kind"] == kind && row["k"].as_u64() == k).unwrap_or_else(|| panic!("{kind} {k:?}"))
}

#[test]
fn a_bundled_set_is_probed_with_its_controls_and_the_same_seed_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, threads: &str| {
        let out = dir.path().join(name);
        let text = stdout_of(
            command(&["--tasks", "bundled", "--task", "capital", "--controls", "random-model,permuted-decoder"])
                .args(["--texts", "600", "--threads", threads, "--out"])
                .arg(&out),
        );
        (text, std::fs::read(out.join("probe.parquet")).unwrap())
    };
    let (text, bytes) = run("a", "1");
    assert_eq!((text.clone(), bytes), run("b", "2"));
    for part in [
        "SAE L3_k8",
        "residual stream",
        "PCA of it",
        "bag of words",
        "random dictionary",
        "permuted labels",
        "random model",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // The answer is first, and the table is that of the widest sparse probe; `--all` has the others and the controls.
    assert!(text.starts_with("A probe of the best 5 columns has accuracy ") && text.contains("(L0 8"), "{text}");
    let answer = text.lines().next().unwrap();
    assert!(
        answer.contains(" with SAE L3_k8: ")
            && answer.contains(" a bag of words (")
            && !answer.contains("permuted labels")
    );
    assert!(text.lines().all(|line| !line.starts_with('|') || line.chars().count() <= 120), "{text}");
    assert!(!text.contains("smallest") && text.contains("--all shows"), "{text}");
    let all = stdout_of(&mut command(&["--tasks", "bundled", "--task", "capital", "--texts", "100", "--all"]));
    assert!(all.starts_with("A probe of ") && all.contains("smallest") && all.contains("SAE − control"), "{all}");
    let frame = assay::frames::open(&dir.path().join("a/probe.parquet")).unwrap();
    for column in
        ["task", "representation", "k", "auroc_minus_sae_low", "accuracy_minus_words_smallest", "bits", "compression"]
    {
        assert!(frame.column(column).is_ok(), "{column}");
    }
    let out = dir.path().join("a");
    refused(&mut command(&["--tasks", "bundled", "--out", out.to_str().unwrap()]), &["probe.parquet", "there already"]);
}

#[test]
fn what_is_known_of_representations_is_found() {
    let found = json(&[
        "--tasks",
        "bundled",
        "--task",
        "source",
        "--controls",
        "permuted-decoder",
        "--k",
        "5",
        "--texts",
        "200",
    ]);
    assert_eq!(found["means"].as_array().unwrap()[0]["task"], Value::Null);
    let mean = |kind: &str, what: &str| {
        let means = found["means"].as_array().unwrap();
        let row = means.iter().find(|row| row["kind"] == kind).unwrap();
        match what {
            "bits" => row["bits"]["value"].as_f64().unwrap(),
            score => row["scores"][score]["value"].as_f64().unwrap(),
        }
    };
    // What a document is of can be read off trained latents; permuted labels cannot, and cost a bit.
    assert!(mean("sae", "auroc") > 0.8, "{}", mean("sae", "auroc"));
    assert!((mean("permuted_labels", "auroc") - 0.5).abs() < 0.03, "{}", mean("permuted_labels", "auroc"));
    assert!(mean("sae", "bits") < 0.8 && mean("permuted_labels", "bits") > 0.95, "{}", mean("sae", "bits"));
    // The decoder's rows are no matter for what is encoded.
    let control = row(&found, "permuted_decoder", Some(5));
    assert_eq!(control["scores"]["accuracy"]["minus_sae"]["difference"], 0.0);
    assert_eq!(control["bits"]["minus_sae"]["difference"], 0.0);
    let l0 = found["saes"][0]["l0"].as_f64().unwrap();
    assert!((l0 - 8.0).abs() < 1e-9, "{l0}");
}

#[test]
fn what_cannot_be_probed_is_named_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let few = write("few.jsonl", "{\"text\": \"a\", \"label\": 0}\n{\"text\": \"b\", \"label\": 1}\n");
    // There is no such model: the text is wrong before it is looked for.
    let probe = |extra: &[&str]| {
        let mut command = assay();
        command.args(["probe", "--model", "/no/such/model", "--sae", "/no/such/sae"]).args(extra);
        command
    };
    refused(&mut probe(&["--data", &few]), &["no task", "few is left out", "8"]);
    refused(&mut probe(&["--data", "/no/such/file.jsonl"]), &["/no/such/file.jsonl: no such file"]);
    let empty = write("empty.jsonl", "");
    refused(&mut probe(&["--data", &empty]), &["empty.jsonl", "it holds no text with a label"]);
    refused(&mut probe(&["--data", &few, "--label-column", "stars"]), &["`stars`", "`label`", "--label-column"]);
    refused(&mut probe(&["--tasks", "bundled", "--task", "sauce"]), &["sauce", "source"]);
    refused(
        &mut probe(&["--tasks", "sae-probes", "--tasks-dir", dir.path().to_str().unwrap()]),
        &[".csv.zst", "--tasks-dir"],
    );
    for (args, part) in [
        (&["--k", "0"][..], "from 1 up"),
        (&["--test-share", "1"], "0.05 to 0.95"),
        (&["--protocol", "ours"], "saebench or sae-probes"),
    ] {
        let output = probe(&[&["--data", &few][..], args].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{said}");
    }
    let mut context = command(&["--tasks", "bundled", "--task", "digit", "--context-size", "9999"]);
    refused(&mut context, &["--context-size 9999", "2048 positions"]);
}

#[test]
fn texts_of_a_file_are_probed_by_either_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kinds.jsonl");
    let line = |at: usize| {
        let (text, label) = match at % 2 {
            0 => (format!("fn number_{at}() -> u32 {{ {at} }}"), "code"),
            _ => (format!("He had {at} horses, and she had none of them."), "prose"),
        };
        serde_json::json!({"body": text, "kind": label}).to_string() + "\n"
    };
    std::fs::write(&path, (0..160).map(line).collect::<String>()).unwrap();
    for protocol in ["saebench", "sae-probes"] {
        let args = ["--text-column", "body", "--label-column", "kind", "--protocol", protocol, "--data"];
        let found = json(&[&args[..], &[path.to_str().unwrap()]].concat());
        let accuracy = |kind, k| row(&found, kind, k)["scores"]["accuracy"]["value"].as_f64().unwrap();
        assert!(accuracy("sae", None) > 0.95 && accuracy("residual", None) > 0.95, "{protocol}");
        assert_eq!(accuracy("words", None), 1.0, "{protocol}");
    }
}

/// The package's data, where the variable names its unpacked wheel; a test that reads them all would take minutes.
#[test]
fn a_set_of_sae_probes_is_read_where_it_is_there() {
    let Some(dir) = std::env::var_os("ASSAY_SAE_PROBES") else { return };
    let dir = Path::new(&dir).join("sae_probes/data/cleaned_data");
    let found = json(&[
        "--tasks",
        "sae-probes",
        "--tasks-dir",
        dir.to_str().unwrap(),
        "--task",
        "105_click_bait",
        "--protocol",
        "sae-probes",
        "--texts",
        "400",
    ]);
    assert!(row(&found, "residual", None)["scores"]["auroc"]["value"].as_f64().unwrap() > 0.7);
}
