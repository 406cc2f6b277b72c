//! Controls of an evaluation: what they leave as it is, and what they take away.

use serde_json::Value;

use crate::common::{assay, refused, root, stdout_of};

fn eval(extra: &[&str]) -> assert_cmd::Command {
    let mut command = assay();
    command.current_dir(root()).args(["eval", "--model", "models/bundled/small", "--device", "cpu", "--quiet"]);
    command.args(["--tokens", "models/bundled/eval.parquet", "--context-size", "64", "--sequences", "16"]);
    command.args(["--fisher-samples", "0", "--resamples", "200", "--sae", "tests/golden/eval-small/L3_k8"]).args(extra);
    command
}

const ALL: &str = "random-model,permuted-decoder,random-dictionary";

#[test]
fn a_permuted_decoder_loses_what_is_causal_and_keeps_what_is_encoded() {
    let plain: Value = serde_json::from_str(&stdout_of(&mut eval(&["--json"]))).unwrap();
    let found: Value = serde_json::from_str(&stdout_of(&mut eval(&["--json", "--controls", ALL]))).unwrap();
    let controls = found["controls"].as_array().unwrap().clone();
    let mut without = found.clone();
    without.as_object_mut().unwrap().remove("controls");
    assert_eq!(without, plain, "controls change nothing of the SAE");
    let of = |name: &str| controls.iter().find(|control| control["control"] == name).unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let (r2, loss) = (number(&plain["all"]["r2"]), number(&plain["ce_loss_score_mean"]));
    let permuted = of("permuted-decoder");
    assert_eq!(permuted["l0"], plain["l0"], "what is encoded stays");
    assert!(number(&permuted["r2"]["control"]) < 0.0 && r2 > 0.5);
    assert!(number(&permuted["ce_loss_score_mean"]["control"]) < 0.2 && loss > 0.5);
    assert!(number(&permuted["ce_loss_score_mean"]["interval_95"][0]) > 0.3);
    let random = of("random-dictionary");
    let l0 = number(&random["l0"]) / number(&plain["l0"]);
    assert!((0.7..1.4).contains(&l0), "{l0}");
    assert!(number(&random["r2"]["control"]) < r2 - 0.2);
    let model = of("random-model");
    let difference = r2 - number(&model["r2"]["control"]);
    assert!((number(&model["r2"]["sae_minus_control"]) - difference).abs() < 1e-12);
}

#[test]
fn controls_are_a_table_under_the_evaluation_of_one_or_several() {
    let one = stdout_of(&mut eval(&["--controls", "permuted-decoder"]));
    assert!(
        one.contains("Controls; Δ is the SAE's value minus the control's") && one.contains("permuted-decoder"),
        "{one}"
    );
    let several = stdout_of(&mut eval(&["tests/golden/eval-small/L4_k32", "--controls", ALL]));
    assert_eq!(several.matches("| random-model ").count(), 2, "{several}");
    refused(&mut eval(&["--controls", "random-model", "--format", "saebench"]), &["--controls", "SAEBench"]);
}
