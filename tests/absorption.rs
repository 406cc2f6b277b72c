//! First letters of words: against SAEBench's own functions on made-up words, and `assay absorption`.

use std::collections::BTreeMap;

use assay::absorption::{Bootstrap, Quantity, SaeReport, Spelling, json, text};
use assay_probes::absorption::{Absorption, LetterProbe, MainLatents, STEPS_AN_EPOCH, Words, sparse_weights};
use assay_probes::probing::{Features, Split};
use assay_sae::{Activation, Sae};
use assert_cmd::Command;
use burn::tensor::Tensor;
use ndarray::{Array1, Array2};
use serde_json::Value;

use crate::common::{Reference, assay, bundled, golden, refused, stdout_of};

struct Made {
    x: Array2<f64>,
    letters: Vec<usize>,
    split: Split,
    latents: Features,
    decoder: Array2<f64>,
    bias: Array1<f64>,
    expected: Value,
}

impl Made {
    fn open() -> Self {
        let reference = Reference::open(golden("absorption/words.safetensors"));
        let matrix = |name: &str| {
            let (values, shape) = reference.floats(name);
            let values = values.into_iter().map(f64::from).collect();
            Array2::from_shape_vec((shape[0], shape.get(1).copied().unwrap_or(1)), values).unwrap()
        };
        let rows = |name: &str| reference.integers(name).into_iter().map(|row| row as usize).collect::<Vec<_>>();
        let (x, bias) = (matrix("x"), matrix("b_dec").column(0).to_owned());
        let pre = (&x - &bias).dot(&matrix("w_enc")) + matrix("b_enc").column(0);
        let expected = std::fs::read_to_string(golden("absorption/expected.json")).unwrap();
        Self {
            letters: rows("letters"),
            split: Split { train: rows("train"), test: rows("test") },
            latents: Features::dense(&pre.mapv(|value| value.max(0.0))),
            decoder: matrix("w_dec"),
            bias,
            expected: serde_json::from_str(&expected).unwrap(),
            x,
        }
    }

    fn words(&self) -> Words<'_> {
        Words { activations: &self.x, letters: &self.letters, split: &self.split }
    }

    /// The dictionary with decoder rows `scale` times as long, and activations as many times smaller.
    fn sae(&self, scale: f32) -> Sae {
        let reference = Reference::open(golden("absorption/words.safetensors"));
        let encoder: Tensor<2> = reference.tensor("w_enc");
        let [b_enc, b_dec] = ["b_enc", "b_dec"].map(|name| reference.tensor::<1>(name));
        let decoder: Tensor<2> = reference.tensor("w_dec");
        Sae::new([encoder.transpose() / scale, decoder * scale], [b_enc / scale, b_dec], Activation::Relu, true)
    }

    fn of(&self, letter: usize) -> &Value {
        &self.expected["letters"][letter]
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// Probes against scikit-learn; L1 weights, k-sparse probes, splits, absorption and their means against the package `sae-bench` 0.6.0.
#[test]
fn made_up_words_are_split_and_absorbed_as_saebench_says() {
    let made = Made::open();
    let words = made.words();
    let mut found: BTreeMap<usize, Absorption> = BTreeMap::new();
    let mut means = [Vec::new(), Vec::new(), Vec::new()];
    for letter in 0..26 {
        let expected = made.of(letter);
        let probe = LetterProbe::fit(words, letter).unwrap();
        assert!(probe.has_converged);
        let weights = Array1::from(numbers(&expected["probe"]));
        let direction = &weights / weights.dot(&weights).sqrt();
        assert!((&probe.direction - &direction).iter().all(|off| off.abs() < 1e-6), "{letter}");
        assert!((probe.f1 - expected["probe_f1"].as_f64().unwrap()).abs() < 1e-12, "{letter}");
        if let Some(expected) = expected["weights"].as_array() {
            let labels: Vec<bool> = made.split.train.iter().map(|&row| made.letters[row] == letter).collect();
            let found: BTreeMap<usize, f64> =
                sparse_weights(&made.latents, &made.split.train, &labels, 26, STEPS_AN_EPOCH).into_iter().collect();
            for (latent, expected) in expected.iter().enumerate() {
                let off = found.get(&latent).copied().unwrap_or(0.0) - expected.as_f64().unwrap();
                assert!(off.abs() < 1e-6, "{letter} {latent}: {off}");
            }
        }
        let main = MainLatents::find(words, &made.latents, letter);
        let latents: Vec<usize> = numbers(&expected["main"]).into_iter().map(|latent| latent as usize).collect();
        assert_eq!(main.latents, latents, "{letter}");
        for (own, expected) in main.f1.iter().zip(numbers(&expected["f1"])) {
            assert!((own - expected).abs() < 1e-12, "{letter}: {own} {expected}");
        }
        let rows = probe.found(words);
        assert_eq!(rows.len() as u64, expected["true_positives"].as_u64().unwrap());
        let cosines = made.decoder.dot(&probe.direction).to_vec();
        let absorbed = probe.absorbed(words, &rows, &made.latents, &cosines, &main.latents, 0.0);
        if probe.is_learned() {
            let mean_of = |of: fn(&Absorption) -> f64| absorbed.iter().map(of).sum::<f64>() / absorbed.len() as f64;
            means[0].push(mean_of(|of| of.fraction));
            means[1].push(mean_of(|of| f64::from(u8::from(of.full))));
            means[2].push(main.latents.len() as f64);
        }
        found.extend(rows.into_iter().zip(absorbed));
    }
    let expected = made.expected["words"].as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    let (mut partly, mut full) = (0, 0);
    for word in expected {
        let of = found[&(word[0].as_u64().unwrap() as usize)];
        let fraction = word[1].as_f64().unwrap();
        assert!((of.fraction - fraction).abs() < 1e-5, "{word}: {}", of.fraction);
        assert_eq!(of.full, word[2].as_bool().unwrap(), "{word}");
        partly += usize::from(fraction > 0.0 && fraction < 1.0);
        full += usize::from(of.full);
    }
    assert!(partly > 20 && full > 5, "the case has words of each kind: {partly} {full}");
    let names = ["mean_absorption_fraction_score", "mean_full_absorption_score", "mean_num_split_features"];
    for (values, name) in means.iter().zip(names) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - made.expected["means"][name].as_f64().unwrap()).abs() < 1e-5, "{name}: {mean}");
    }
}

/// The same through what the program reports of an SAE, in whatever units its latents are.
#[test]
fn a_report_has_saebenchs_means_whatever_the_length_of_decoder_rows() {
    let made = Made::open();
    let spelling = Spelling {
        words: made.words(),
        probes: (0..26).map(|letter| LetterProbe::fit(made.words(), letter).unwrap()).collect(),
    };
    assert!(spelling.can_spell());
    let bootstrap = Bootstrap::draw(&spelling, 200, 3);
    let report = |scale: f32| {
        let sae = made.sae(scale);
        SaeReport::measure("made".to_owned(), false, &sae, &spelling, &bootstrap, |_| ()).unwrap()
    };
    let (one, longer) = (report(1.0), report(4.0));
    let pairs = [
        (Quantity::Fraction, "mean_absorption_fraction_score"),
        (Quantity::Full, "mean_full_absorption_score"),
        (Quantity::Latents, "mean_num_split_features"),
    ];
    for (quantity, name) in pairs {
        let expected = made.expected["means"][name].as_f64().unwrap();
        for report in [&one, &longer] {
            let mean = report.mean(quantity);
            assert!((mean.value.unwrap() - expected).abs() < 1e-4, "{name}: {:?} {expected}", mean.value);
            let interval = mean.interval.unwrap();
            assert!(interval.contains(expected) && interval.low < interval.high, "{name}: {interval:?}");
        }
        let (difference, interval) = longer.mean(quantity).minus(one.mean(quantity));
        assert!(difference.unwrap().abs() < 1e-4 && interval.unwrap().contains(difference.unwrap()), "{name}");
    }
    let text = text("head", &spelling, &bootstrap, std::slice::from_ref(&one), &[]);
    for part in ["26 letters with F1 above 0.6: the model can spell", "| r ", "without the decoder's bias"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = json(&spelling, &bootstrap, &[one, longer]);
    let second = &json["saes"][1];
    let means = &second["means"]["absorption_fraction"];
    assert!(
        means["minus_first"]["value"].as_f64().unwrap().abs() < 1e-4 && means["sd_over_letters"].as_f64() > Some(0.1)
    );
    let of_all = |letter: usize| numbers(&made.of(letter)["f1"])[numbers(&made.of(letter)["main"]).len() - 1];
    let told: Vec<usize> = (0..26).filter(|&letter| of_all(letter) > 0.6).collect();
    assert!(told.len() > 3 && told.len() < 26, "{told:?}");
    assert_eq!(second["letters_told"].as_u64(), Some(told.len() as u64));
    assert!(second["absorption_fraction_of_told"].as_f64() < means["value"].as_f64(), "{second}");
    let r = &second["letters"][17];
    assert_eq!((r["letter"].as_str(), &r["latents"]), (Some("r"), &made.of(17)["main"]));
    assert!(r["values"]["full_absorption"]["interval"][0].as_f64() < r["values"]["full_absorption"]["value"].as_f64());
}

/// The decoder's bias is a part of the activation that no latent is to write.
#[test]
fn without_the_bias_the_projection_is_what_latents_write() {
    let made = Made::open();
    let words = made.words();
    let (mut differ, mut bound) = (0, 0);
    for letter in 0..26 {
        let probe = LetterProbe::fit(words, letter).unwrap();
        let main = MainLatents::find(words, &made.latents, letter).latents;
        let rows = probe.found(words);
        let cosines = made.decoder.dot(&probe.direction).to_vec();
        let of = |offset| probe.absorbed(words, &rows, &made.latents, &cosines, &main, offset);
        let along = made.bias.dot(&probe.direction);
        differ += usize::from(of(0.0) != of(along));
        // An offset beyond every projection leaves nothing to absorb.
        bound += of(1e6).iter().filter(|of| of.fraction > 0.0 || of.full).count();
    }
    assert!(differ > 5 && bound == 0, "{differ} {bound}");
}

fn absorption(arguments: &[&str]) -> Command {
    let mut command = assay();
    command.args(["absorption", "--model"]).arg(bundled("small")).arg("--sae").arg(golden("eval-small/L3_k8"));
    command.args(["--words", "40"]).args(arguments);
    command
}

#[test]
fn a_model_that_cannot_spell_has_no_result() {
    let text = stdout_of(&mut absorption(&[]));
    for part in [
        "First letters of words in small at blocks.3.hook_resid_post",
        "20 are needed",
        "no result on absorption",
        "| a ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = |threads: &str| stdout_of(&mut absorption(&["--json", "--threads", threads]));
    let (one, two) = (json("1"), json("2"));
    assert_eq!(one, two, "threads change nothing");
    let found: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((found["can_spell"].as_bool(), found["saes"].as_array().map(Vec::len)), (Some(false), Some(0)));
    let probes = found["probes"].as_array().unwrap();
    let learned = probes.iter().filter(|probe| probe["f1"].as_f64().unwrap() > 0.6).count();
    assert_eq!(found["letters_learned"].as_u64(), Some(learned as u64));
    assert!(probes.len() > 20 && learned < 20, "{learned} of {}", probes.len());
}

#[test]
fn what_does_not_fit_is_refused() {
    refused(&mut absorption(&["--context-size", "40"]), &["--context-size 40", "fewer --examples"]);
    refused(&mut absorption(&["--context-size", "4000"]), &["--context-size 4000", "2048 positions"]);
    refused(
        absorption(&[]).arg("--sae").arg(golden("eval-small/L4_k32")),
        &["blocks.4.hook_resid_post", "blocks.3.hook_resid_post", "one place"],
    );
    refused(&mut absorption(&["--normalization", "layer_norm"]), &["normalises each activation", "layer_norm"]);
}
