//! What `assay features` and `assay latents` find: against scipy, against known answers, and against `assay encode`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use assay::events::{Contents, Events, Store, Tokens, hash_file};
use assay::features::Feature;
use assay::features::explaining::described;
use assay::features::firings::{Readers, Texts};
use assay::progress::Progress;
use assay_models::vocabulary::Vocabulary;
use assay_models::{RowUse, TokenSource};
use assay_probes::features::explanation::{Classes, Explanation, Method, Rule};
use assay_probes::features::topics::topics;
use assay_probes::features::{Cells, Scores, Tally, partners};
use assay_sae::formats::Format;
use assert_cmd::Command;
use polars::prelude::{ParquetReader, SerReader as _};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::{Reference, assay, bundled, golden, refused, stdout_of};

/// Scores of latents that are given by their values on all tokens, `[latents, S·T]`; 0 separates documents, contexts are documents too.
fn scored(tokens: &ndarray::Array2<u32>, values: &[f32], vocab_size: usize) -> (Cells, Vec<Scores>) {
    let (sequences, context) = tokens.dim();
    let ids: Vec<u32> = tokens.iter().copied().collect();
    let previous = |at: usize| (!at.is_multiple_of(context)).then(|| ids[at - 1]);
    let mut cells = Cells::new(vocab_size, context);
    for (at, &id) in ids.iter().enumerate() {
        cells.push(id, previous(at), id == 0 || at % context == 0);
    }
    let mut tally = Tally::new(&cells);
    let scores = values.chunks(sequences * context).map(|row| {
        row.iter().enumerate().filter(|(_, value)| **value != 0.0).for_each(|(at, &value)| {
            tally.push(at as u32, ids[at], previous(at), value);
        });
        tally.finish()
    });
    let scores = scores.collect();
    (cells, scores)
}

#[test]
fn scores_are_those_of_scipy() {
    let file = Reference::open(golden("features/scores.safetensors"));
    let (tokens, (values, shape)) = (file.tokens("tokens"), file.floats("values"));
    let (cells, scores) = scored(&tokens, &values, 12);
    let check = |name: &str, of: &dyn Fn(&Scores) -> Option<f64>| {
        for (latent, (scores, expected)) in scores.iter().zip(file.floats(name).0).enumerate() {
            match of(scores) {
                None => assert!(expected.is_nan(), "{name} of latent {latent} is null, not {expected}"),
                Some(found) => {
                    assert!((found - f64::from(expected)).abs() < 1e-6, "{name} of {latent}: {found}, not {expected}");
                }
            }
        }
    };
    check("token_entropy", &|s| s.token_entropy);
    check("purity", &|s| s.purity);
    check("mean", &|s| s.mean);
    check("eta2_token", &|s| s.explained.token);
    check("eta2_previous", &|s| s.explained.previous);
    check("eta2_position", &|s| s.explained.position);
    check("eta2_document", &|s| s.explained.document);
    // The mean over drawn permutations is the exact one but for chance: 4000 draws.
    for ((name, exact), drawn) in cells.chance().named().into_iter().zip(file.floats("chance").0) {
        let drawn = f64::from(drawn);
        assert!((exact.unwrap() - drawn).abs() < 0.03 * drawn, "{name}: {exact:?} {drawn}");
    }
    let tokens = shape[1];
    let firings: Vec<Vec<u32>> = values
        .chunks(tokens)
        .map(|row| (0..tokens).filter(|&at| row[at] != 0.0).map(|at| at as u32).collect())
        .collect();
    let (expected, jaccard) = (file.integers("partner"), file.floats("jaccard").0);
    for (latent, found) in partners(&firings, tokens).into_iter().enumerate() {
        match found {
            None => assert!(jaccard[latent] == 0.0, "latent {latent}"),
            Some(found) => {
                assert_eq!(found.latent as i64, expected[latent], "latent {latent}");
                assert!((found.jaccard - f64::from(jaccard[latent])).abs() < 1e-6);
            }
        }
    }
}

/// Splitting and absorption by sets of Python: every topic, its latents, and which absorb it.
#[test]
fn splitting_and_absorption_are_those_of_sets() {
    let file = Reference::open(golden("features/topics.safetensors"));
    let ids = |name: &str| file.integers(name).into_iter().map(|id| id as u32).collect::<Vec<u32>>();
    let (tokens, positions, offsets) = (ids("tokens"), ids("positions"), ids("offsets"));
    let firings: Vec<Vec<u32>> =
        offsets.windows(2).map(|ends| positions[ends[0] as usize..ends[1] as usize].to_vec()).collect();
    let (rows, shape) = file.floats("rows");
    let cosine = |a: usize, b: usize| {
        let row = |latent: usize| rows[latent * shape[1]..(latent + 1) * shape[1]].iter().map(|&v| f64::from(v));
        let dot = |a: usize, b: usize| row(a).zip(row(b)).map(|(x, y)| x * y).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let found = topics(&firings, &tokens, &[0], cosine);
    assert_eq!(found.iter().map(|topic| topic.token).collect::<Vec<_>>(), ids("token"));
    let (occurrences, absorbed, f1) = (ids("occurrences"), ids("absorbed"), file.floats("f1").0);
    let lists = |name: &str| {
        let all = file.integers(name);
        let width = all.len() / found.len();
        let list = |row: &[i64]| row.iter().filter(|&&latent| latent >= 0).map(|&latent| latent as usize).collect();
        all.chunks(width).map(list).collect::<Vec<Vec<usize>>>()
    };
    let (latents, absorbers) = (lists("latents"), lists("absorbers"));
    for (at, topic) in found.iter().enumerate() {
        let id = topic.token;
        assert_eq!((topic.occurrences, topic.absorbed), (occurrences[at].into(), absorbed[at].into()), "{id}");
        assert_eq!((&topic.latents, &topic.absorbers), (&latents[at], &absorbers[at]), "{id}");
        for (ours, theirs) in topic.f1.into_iter().zip(&f1[2 * at..]) {
            assert!((ours - f64::from(*theirs)).abs() < 1e-6, "{id}: {ours} {theirs}");
        }
    }
    assert!(latents.iter().any(|of| of.len() > 1) && absorbed.iter().filter(|&&count| count > 0).count() > 2);
}

/// On real tokens, latents that detect one thing: the scores say which.
#[test]
fn scores_say_what_a_latent_detects() {
    let tokens = Reference::open(golden("eval-small/tokens.safetensors")).tokens("tokens");
    let (sequences, context) = tokens.dim();
    let ids: Vec<u32> = tokens.iter().copied().collect();
    let mut counts = vec![0_usize; 4096];
    ids.iter().for_each(|&id| counts[id as usize] += 1);
    // A frequent token, but not the one that separates documents.
    let frequent = (1..4096).max_by_key(|&id| counts[id as usize]).unwrap();
    let noise = |at: usize| ((at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32;
    let latent = |fires: &dyn Fn(usize) -> bool| -> Vec<f32> {
        (0..ids.len()).map(|at| if fires(at) { 1.0 + noise(at) / 4.0 } else { 0.0 }).collect()
    };
    let values: Vec<f32> = [
        latent(&|at| ids[at] == frequent),
        latent(&|at| at % context > 0 && ids[at - 1] == frequent),
        latent(&|at| at % context == 60),
        latent(&|at| at / context == 7),
        latent(&|at| noise(at + 100_000) < 0.02),
    ]
    .concat();
    let (cells, scores) = scored(&tokens, &values, 4096);
    assert_eq!(cells.tokens() as usize, sequences * context);
    let adjusted: Vec<Vec<f64>> = scores
        .iter()
        .map(|s| s.explained.adjusted(cells.chance()).named().into_iter().map(|(_, value)| value.unwrap()).collect())
        .collect();
    // A context may hold several documents, so that one context is no more than most of one.
    for (latent, least) in [0.9, 0.9, 0.9, 0.5].into_iter().enumerate() {
        let of = &adjusted[latent];
        assert!(of[latent] > least, "latent {latent}: {of:?}");
        let largest = (0..4).max_by(|&a, &b| of[a].total_cmp(&of[b])).unwrap();
        assert_eq!(largest, latent, "{of:?}");
    }
    // Without the correction noise looks as if its token explained much of it.
    let (raw, adjusted) = (scores[4].explained.token.unwrap(), &adjusted[4]);
    assert!(raw > 0.2, "{raw}");
    assert!(adjusted.iter().all(|share| share.abs() < 0.1), "{adjusted:?}");
    assert_eq!((scores[0].purity, scores[0].top[0].id), (Some(1.0), frequent));
    assert!(scores[4].token_entropy.unwrap() > 4.0 && scores[0].token_entropy == Some(0.0));
}

fn features(out: &Path, args: &[&str]) -> Command {
    let mut command = assay();
    command.arg("features").arg("--model").arg(bundled("small")).arg("--out").arg(out);
    command.arg("--sae").arg(golden("eval-small/L3_k8")).args(args);
    command
}

fn tokens() -> String {
    golden("eval-small/tokens.safetensors").to_str().unwrap().to_owned()
}

/// The firings of a store by latent: position and value.
fn firings(dir: &Path) -> Vec<Vec<(u32, f32)>> {
    let bytes = std::fs::read(dir.join("events.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| -> Vec<u32> {
        let data = file.tensor(name).unwrap().data();
        data.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let offsets = Reference::open(dir.join("events.safetensors")).integers("offsets");
    let (positions, values) = (words("positions"), words("values"));
    let of = |pair: &[i64]| {
        (pair[0] as usize..pair[1] as usize).map(|at| (positions[at], f32::from_bits(values[at]))).collect()
    };
    offsets.windows(2).map(of).collect()
}

fn frame(dir: &Path) -> polars::prelude::DataFrame {
    ParquetReader::new(std::fs::File::open(dir.join("features.parquet")).unwrap()).finish().unwrap()
}

/// The store against `assay capture` and `assay encode`, another way to the same firings.
#[test]
fn a_store_holds_what_encode_finds_and_the_table_counts_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features");
    let said: Value =
        serde_json::from_str(&stdout_of(&mut features(&out, &["--tokens", &tokens(), "--ablate", "8", "--json"])))
            .unwrap();

    let (shards, latents) = (dir.path().join("shards"), dir.path().join("latents.safetensors"));
    let mut capture = assay();
    capture.args(["capture", "--hook", "blocks.3.hook_resid_post", "--tokens", &tokens(), "--model"]);
    stdout_of(capture.arg(bundled("small")).arg("--out").arg(&shards));
    let mut encode = assay();
    encode.arg("encode").arg("--sae").arg(golden("eval-small/L3_k8")).arg("--activations").arg(&shards);
    stdout_of(encode.arg("--out").arg(&latents));
    let encoded = Reference::open(&latents);
    let (offsets, indices) = (encoded.integers("offsets"), encoded.integers("indices"));
    let values = encoded.floats("values").0;
    let mut expected: Vec<Vec<(u32, f32)>> = vec![Vec::new(); 1024];
    for (token, pair) in offsets.windows(2).enumerate() {
        for at in pair[0] as usize..pair[1] as usize {
            expected[indices[at] as usize].push((token as u32, values[at]));
        }
    }
    let found = firings(&out);
    assert_eq!(found.len(), 1024);
    for (latent, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(found.len() == expected.len(), "latent {latent}: {} firings, not {}", found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            // Batches differ, and with them the rounding of products.
            assert!(found.0 == expected.0 && (found.1 - expected.1).abs() <= 1e-4 * expected.1, "latent {latent}");
        }
    }

    let table = frame(&out);
    let column = |name: &str| table.column(name).unwrap().as_materialized_series().clone();
    let (counts, max) = (column("firings"), column("max"));
    let (entropy, ablated, ce) = (column("token_entropy"), column("ablated_firings"), column("delta_ce"));
    let mut alive = 0;
    for (latent, firings) in found.iter().enumerate() {
        assert_eq!(counts.u64().unwrap().get(latent), Some(firings.len() as u64));
        let largest = firings.iter().map(|(_, value)| f64::from(*value)).reduce(f64::max);
        assert_eq!(max.f64().unwrap().get(latent), largest);
        assert_eq!(entropy.f64().unwrap().get(latent).is_some(), largest.is_some());
        alive += usize::from(largest.is_some());
    }
    assert_eq!((&said["alive"], &said["tokens"]), (&alive.into(), &(24 * 128).into()));
    assert_eq!((&said["medians_of"]["token_entropy"], &said["medians_of"]["delta_ce"]), (&alive.into(), &8.into()));
    assert_eq!(said["partners"]["share"], 1.0);
    assert!(column("partner_contexts").f64().unwrap().iter().all(|share| share == Some(1.0)));
    some_contexts_say_how_many_they_are(&out, &found);
    let measured: Vec<f64> = ce.f64().unwrap().iter().flatten().collect();
    assert!(measured.len() == 8 && measured.iter().any(|ce| *ce != 0.0), "{measured:?}");
    assert_eq!(ablated.u64().unwrap().iter().flatten().filter(|n| *n > 0).count(), 8);

    // A second time nothing is encoded, and one latent is shown.
    let latent = (0..1024).max_by_key(|&latent| found[latent].len()).unwrap().to_string();
    let one = stdout_of(&mut features(&out, &["--tokens", &tokens(), "--latent", &latent]));
    assert!(one.starts_with(&format!("Latent {latent} on 3072 tokens")) && one.contains('«'), "{one}");
    let args = ["--tokens", &tokens(), "--latent", &latent, "--json"];
    let one: Value = serde_json::from_str(&stdout_of(&mut features(&out, &args))).unwrap();
    let window = &one["windows"][0];
    let (at, value) = (window["focus"].as_u64().unwrap() as usize, one["max"].as_f64().unwrap());
    assert!((window["values"][at].as_f64().unwrap() - value).abs() < 1e-6 * value, "{window}");

    refused(
        &mut features(&out, &["--tokens", &tokens(), "--latent", "1024"]),
        &["--latent 1024", "1024 latents, from 0"],
    );
    let other = ["--tokens", &tokens(), "--sequences", "3"];
    refused(&mut features(&out, &other), &["other firings", "sequences is 24 there, 3 here", "--out"]);
    let error = features(&out, &other).output().unwrap().stderr;
    assert!(!String::from_utf8_lossy(&error).contains("tokens is"), "hashes say nothing");
    let events = out.join("events.safetensors");
    let mut bytes = std::fs::read(&events).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&events, bytes).unwrap();
    refused(&mut features(&out, &["--tokens", &tokens()]), &["events.safetensors", "BLAKE3", "start again"]);
}

/// Of more firings than are compared, partners are of evenly spaced contexts, and what they are of is said.
fn some_contexts_say_how_many_they_are(dir: &Path, firings: &[Vec<(u32, f32)>]) {
    let events = Events::open(dir).unwrap();
    let texts = Texts::read(&events, 4096).unwrap();
    let readers = Readers::open(&events, &texts).unwrap();
    let some = readers.together(&events, events.total() / 4).unwrap();
    let (found, compared) = (some.partners(), some.compared);
    assert_eq!((compared.every, compared.share), (4, 0.25));
    assert_eq!(compared.to_string(), "one of 4 contexts, 25.0 % of all");
    let of = |firings: &Vec<(u32, f32)>| firings.iter().map(|(at, _)| *at).filter(|at| at / 128 % 4 == 0).collect();
    let expected = partners(&firings.iter().map(of).collect::<Vec<Vec<u32>>>(), 24 * 128);
    assert_eq!(found, expected);
    let whole = readers.together(&events, events.total()).unwrap();
    let (all, compared) = (whole.partners(), whole.compared);
    assert!(compared.to_string() == "all contexts" && all != found);
}

/// Latents that detect a token, what follows one, a pair of tokens, a position, and noise: explanations say which, and detection how well.
#[test]
fn explanations_say_what_a_latent_detects() {
    let dir = tempfile::tempdir().unwrap();
    let source = TokenSource::open(&bundled("train.parquet"), 128, RowUse::First, None).unwrap();
    let sequences = 768;
    let ids: Vec<u32> = source.read(0, sequences).unwrap().into_iter().collect();
    let mut counts = BTreeMap::<[u32; 2], usize>::new();
    ids.windows(2).for_each(|pair| *counts.entry([pair[0], pair[1]]).or_default() += 1);
    let mut single = vec![0_usize; 4096];
    ids.iter().for_each(|&id| single[id as usize] += 1);
    // A token that is not the one between documents, and a pair whose second is most often without the first.
    let frequent = (1..4096).filter(|&id| single[id as usize] < 2000).max_by_key(|&id| single[id as usize]).unwrap();
    let pair = counts
        .iter()
        .filter(|([a, b], n)| *a != 0 && *b != 0 && 8 * **n < single[*b as usize].min(single[*a as usize]))
        .max_by_key(|(_, n)| **n)
        .map(|(pair, _)| *pair)
        .unwrap();
    let noise = |at: usize| ((at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32;
    let fires = |latent: usize, at: usize| match latent {
        0 => ids[at] == frequent,
        1 => !at.is_multiple_of(128) && ids[at - 1] == frequent,
        2 => !at.is_multiple_of(128) && [ids[at - 1], ids[at]] == pair,
        3 => at % 128 == 60,
        _ => noise(at) < 0.01,
    };
    let contents = Contents {
        model: "m".to_owned(),
        weights: String::new(),
        sae: "detectors".to_owned(),
        sae_weights: String::new(),
        hook: "blocks.0.hook_resid_post".to_owned(),
        device: "cpu".to_owned(),
        tokens: Tokens::hash(&source, sequences).unwrap(),
        sequences,
        context_size: 128,
        batch: 1,
        bos: None,
        is_text: false,
        separators: vec![0],
        d_sae: 5,
    };
    let mut store = Store::open(dir.path(), contents).unwrap();
    store.begin().unwrap();
    for at in 0..ids.len() {
        (0..5).filter(|&latent| fires(latent, at)).for_each(|latent| store.push(latent, at as u32, 1.0 + noise(at)));
    }
    store.reached(sequences, true).unwrap();
    Tokens::write(dir.path(), &source, sequences).unwrap();
    store.finish(hash_file(&dir.path().join("tokens.safetensors")).unwrap(), &mut |_| ()).unwrap();

    let events = Events::open(dir.path()).unwrap();
    let texts = Texts::read(&events, 4096).unwrap();
    let readers = Readers::open(&events, &texts).unwrap();
    let vocabulary = Vocabulary::load(&bundled("small")).unwrap();
    let classes = Classes::new((0..4096).map(|id| vocabulary.text(id)));
    let mut stage = Progress::Quiet.stage("", 5, "");
    let latents: Vec<usize> = (0..5).collect();
    let scores = readers.scores(&latents, &mut stage, "").unwrap();
    let features: Vec<Feature> = scores
        .into_iter()
        .enumerate()
        .map(|(latent, scores)| Feature { latent, scores, ..Feature::default() })
        .collect();
    let found = described(&readers, &texts, &classes, &features, &latents, &mut stage, "").unwrap();
    assert_eq!(found.iter().map(|(latent, _)| *latent).collect::<Vec<_>>(), latents);
    let auroc = |latent: usize, method: Method| {
        found[latent].1.iter().find(|described| described.method == method).unwrap().own.auroc.unwrap()
    };
    let rule = |latent: usize| match &found[latent].1.iter().find(|of| of.method == Method::Rule).unwrap().explanation {
        Explanation::Rule(rule) => *rule,
        other => panic!("{other:?}"),
    };
    assert!(auroc(0, Method::Tokens) == 1.0 && rule(0) == Some(Rule::Token(frequent)), "{:?}", found[0]);
    assert!(auroc(1, Method::Rule) == 1.0 && rule(1) == Some(Rule::Previous(Some(frequent))), "{:?}", found[1]);
    assert!(auroc(2, Method::Ngrams) > 0.97 && auroc(2, Method::Tokens) < 0.9, "{:?}", found[2]);
    assert!(auroc(3, Method::Rule) == 1.0 && rule(3) == Some(Rule::Position(60)), "{:?}", found[3]);
    for method in [Method::Tokens, Method::Ngrams, Method::Keywords, Method::Rule] {
        // 100 windows: the standard error of an AUROC of ½ is 0.06.
        assert!((auroc(4, method) - 0.5).abs() < 0.2, "noise by {}: {}", method.name(), auroc(4, method));
    }
    assert!(auroc(3, Method::Tokens) < 0.7, "tokens do not tell a position");
}

/// What latents write matters for what is causal and for nothing that is of where they fire.
#[test]
fn a_permuted_decoder_moves_causal_scores_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let device = crate::common::cpu();
    let loaded = assay_sae::formats::load(&golden("eval-small/L3_k8"), &device).unwrap();
    let permuted = assay::controls::permuted_decoder(&loaded.sae, 1).unwrap();
    let path = dir.path().join("permuted");
    assay_sae::formats::save(&path, Format::SaeLens, &permuted, &loaded.metadata, None).unwrap();
    let run = |name: &str, sae: &Path| {
        let out = dir.path().join(name);
        let mut command = assay();
        command.arg("features").arg("--model").arg(bundled("small")).arg("--out").arg(&out).arg("--sae").arg(sae);
        stdout_of(command.args(["--tokens", &tokens(), "--ablate", "16", "--no-dashboard"]));
        frame(&out)
    };
    let (own, control) = (run("own", &golden("eval-small/L3_k8")), run("control", &path));
    let moved =
        ["delta_ce", "delta_kl", "output_score", "input_score", "tokens_out_ids", "nearest", "encoder_decoder_cosine"];
    for name in moved {
        assert!(!own.column(name).unwrap().equals_missing(control.column(name).unwrap()), "{name} is causal");
    }
    for name in ["firings", "tokens_in_ids", "partner"] {
        assert!(own.column(name).unwrap().equals_missing(control.column(name).unwrap()), "{name} is not");
    }
    let kept = ["max", "mean", "token_entropy", "eta2_token", "eta2_position", "partner_jaccard"];
    let detected =
        ["detection_tokens_auroc", "detection_ngrams_auroc", "detection_keywords_auroc", "detection_rule_auroc"];
    for name in kept.into_iter().chain(detected) {
        let [a, b] = [&own, &control].map(|frame| frame.column(name).unwrap().f64().unwrap().clone());
        for (latent, (a, b)) in a.iter().zip(b.iter()).enumerate() {
            // A file in which rows' norms are folded into the encoder rounds anew.
            let same = a.zip(b).map_or(a == b, |(a, b)| (a - b).abs() <= 1e-4 * a.abs().max(1e-2));
            assert!(same, "{name} of latent {latent} is not: {a:?} {b:?}");
        }
    }
}

/// Neuronpedia's limits, and delphi's cache against the store.
#[test]
fn exports_hold_what_other_tools_expect() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args = ["--tokens", &tokens(), "--ablate", "0", "--no-dashboard", "--neuronpedia", "small/3-res", "--delphi"];
    stdout_of(&mut features(&out, &args));
    let store = firings(&out);
    let mut latents = 0;
    for number in 0..8 {
        let body = std::fs::read(out.join(format!("neuronpedia/batch-{number}.json"))).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["modelId"], &body["source"]), (&"small".into(), &"3-res".into()));
        for feature in body["features"].as_array().unwrap() {
            assert_eq!(feature["index"], latents);
            for (end, falls) in [("topLogits", true), ("bottomLogits", false)] {
                let logits: Vec<f64> =
                    feature[end].as_array().unwrap().iter().map(|of| of["value"].as_f64().unwrap()).collect();
                assert!(
                    logits.len() == 20
                        && logits.windows(2).all(|pair| (pair[0] >= pair[1]) == falls || pair[0] == pair[1])
                );
            }
            let contexts = feature["activations"].as_array().unwrap();
            let largest = contexts.iter().flat_map(|of| of["values"].as_array().unwrap()).filter_map(Value::as_f64);
            let largest = largest.fold(0.0, f64::max);
            let expected = store[latents].iter().map(|(_, value)| f64::from(*value)).fold(0.0, f64::max);
            assert!((largest - expected).abs() < 1e-6 * expected.max(1.0), "latent {latents}");
            for context in contexts {
                let [tokens, values] = ["tokens", "values"].map(|name| context[name].as_array().unwrap().len());
                assert!(tokens == values && (1..=1024).contains(&tokens));
            }
            for explanation in feature["explanations"].as_array().into_iter().flatten() {
                assert!(explanation["text"].as_str().unwrap().chars().count() <= 512);
                assert!(explanation["methodName"].as_str().unwrap().starts_with("assay-"));
            }
            latents += 1;
        }
    }
    assert_eq!(latents, 1024);
    refused_usage(&["--neuronpedia", "small"], "gpt2-small/8-res-jb");

    let hook = out.join("delphi/latents/blocks.3.hook_resid_post");
    let config: Value = serde_json::from_slice(&std::fs::read(hook.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["cache_ctx_len"], &config["n_splits"]), (&128.into(), &5.into()));
    let mut latent = 0;
    for (first, last) in [(0, 203), (204, 408), (409, 613), (614, 818), (819, 1023)] {
        let bytes = std::fs::read(hook.join(format!("{first}_{last}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("tokens").unwrap().shape(), [24, 128]);
        let [places, values] = ["locations", "activations"].map(|name| file.tensor(name).unwrap());
        let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
        let places: Vec<u32> = places.data().chunks(2).map(|bytes| u32::from(half(bytes))).collect();
        let values: Vec<f32> =
            values.data().chunks(2).map(|bytes| half::f16::from_bits(half(bytes)).to_f32()).collect();
        let mut found = places.chunks(3).zip(values);
        assert_eq!(first, latent);
        for (of, firings) in store[first..=last].iter().enumerate() {
            for (position, value) in firings {
                let (place, found) = found.next().unwrap();
                assert_eq!(place, [position / 128, position % 128, of as u32]);
                assert!((found - value).abs() <= 1e-3 * value.abs());
            }
        }
        assert!(found.next().is_none());
        latent = last + 1;
    }
}

fn refused_usage(args: &[&str], part: &str) {
    let output = features(Path::new("/tmp/none"), args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(part), "{said}");
}

/// An SAE of the same place that was made of this one: half of it in another order, half replaced.
#[test]
fn latents_are_matched_with_those_of_another_sae() {
    let dir = tempfile::tempdir().unwrap();
    let run = |other: &Path| {
        let args = ["--tokens", &tokens(), "--sequences", "2", "--ablate", "0", "--no-dashboard", "--json", "--other"];
        let mut command = features(&dir.path().join("out"), &args);
        command.arg(other);
        command
    };
    let same: Value = serde_json::from_str(&stdout_of(&mut run(&golden("eval-small/L3_k8")))).unwrap();
    let twins = &same["twins"];
    assert!(twins["shared"] == 1.0 && twins["pw_mcc"].as_f64().unwrap() > 0.999, "{twins}");
    let null = twins["pw_mcc_random"].as_f64().unwrap();
    assert!(null > 0.05 && null < 0.5 && null < twins["mmcs_random"].as_f64().unwrap(), "{twins}");
    let table = frame(&dir.path().join("out"));
    let twin = table.column("twin").unwrap().u64().unwrap().clone();
    assert!((0..1024).all(|latent| twin.get(latent) == Some(latent as u64)));
    // The SAE of another model has other widths.
    refused(&mut run(&golden("saelens-topk/sae")), &["--other", "channels", "same hook"]);
}

/// Before the first layer an activation is its token's embedding, so that the token explains all of every latent.
#[test]
fn at_the_embedding_every_latent_is_a_lookup_table() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features");
    let args = ["--tokens", &tokens(), "--hook", "blocks.0.hook_resid_pre", "--ablate", "0", "--no-dashboard"];
    stdout_of(&mut features(&out, &args));
    let table = frame(&out);
    let column = |name: &str| table.column(name).unwrap().f64().unwrap().clone();
    let (token, position) = (column("eta2_token"), column("eta2_position_adjusted"));
    let token: Vec<f64> = token.iter().flatten().collect();
    assert!(token.len() > 100 && token.iter().all(|share| *share > 1.0 - 1e-6), "{token:?}");
    let mut position: Vec<f64> = position.iter().flatten().collect();
    position.sort_by(f64::total_cmp);
    assert!(position[position.len() / 2].abs() < 0.02, "the position explains little");
}

#[test]
fn an_ablation_is_the_difference_that_the_model_makes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features");
    let args =
        ["--tokens", &tokens(), "--sequences", "1", "--context-size", "64", "--ablate", "1024", "--no-dashboard"];
    stdout_of(&mut features(&out, &args));
    assert!(!out.join("dashboard.html").exists());
    let table = frame(&out);
    let column = |name: &str| table.column(name).unwrap().f64().unwrap().clone();
    let (ce, kl) = (column("delta_ce"), column("delta_kl"));
    // In the one context there is, what `ModelWithSae` has of the same tokens.
    let device = crate::common::cpu();
    let inside = assay::inside::ModelWithSae::open(bundled("small"), golden("eval-small/L3_k8"), &device).unwrap();
    let ids: Vec<u32> = Reference::open(golden("eval-small/tokens.safetensors"))
        .tokens("tokens")
        .row(0)
        .iter()
        .take(64)
        .copied()
        .collect();
    let prompt = inside.read_tokens(ids).unwrap();
    let firings = firings(&out);
    // Nothing is predicted after the last token, so a firing there does nothing.
    let predicting = |latent: usize| firings[latent].iter().filter(|(position, _)| *position < 63).count() as u64;
    let counted = table.column("ablated_firings").unwrap().u64().unwrap().clone();
    for latent in (0..1024).filter(|&latent| !firings[latent].is_empty()) {
        assert_eq!(counted.get(latent), Some(predicting(latent)), "latent {latent}");
        assert_eq!(ce.get(latent).is_some(), predicting(latent) > 0, "latent {latent}");
    }
    let on_the_last = |latent: &usize| firings[*latent].iter().any(|(position, _)| *position == 63);
    let [some, others]: [Vec<usize>; 2] = [true, false].map(|last| {
        let fires = (0..1024).filter(|&latent| predicting(latent) > 0 && on_the_last(&latent) == last);
        fires.take(3).collect()
    });
    assert!(!some.is_empty(), "some fire on the last token too");
    for latent in some.into_iter().chain(others) {
        let losses = inside.losses(&prompt, latent).unwrap();
        let sum: f64 = losses.iter().map(|[with, without]| f64::from(*without) - f64::from(*with)).sum();
        let expected = sum / predicting(latent) as f64;
        let found = ce.get(latent).unwrap();
        assert!((found - expected).abs() < 1e-3, "latent {latent}: {found}, not {expected}");
        assert!(kl.get(latent).unwrap() >= 0.0);
    }
}

/// Waits for a pass to begin, asks it to stop, and goes on.
#[test]
#[cfg(unix)]
fn an_interrupted_pass_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let train = bundled("train.parquet");
    let args = [
        "--tokens",
        train.to_str().unwrap(),
        "--context-size",
        "64",
        "--sequences",
        "700",
        "--ablate",
        "0",
        "--no-dashboard",
    ];
    let whole = dir.path().join("whole");
    stdout_of(&mut features(&whole, &args));

    let out: PathBuf = dir.path().join("stopped");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args(["--quiet", "--device", "cpu", "features", "--model"]).arg(bundled("small")).arg("--out").arg(&out);
    command.arg("--sae").arg(golden("eval-small/L3_k8")).args(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !out.join("events.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(130) && said.contains("the same command resumes"), "{said}");
    let index: Value = serde_json::from_slice(&std::fs::read(out.join("events.json")).unwrap()).unwrap();
    let end = index["chunks"][0]["end"].as_u64().unwrap();
    assert!((1..700).contains(&end) && !out.join("events.safetensors").exists(), "{index}");
    stdout_of(&mut features(&out, &args));
    for file in ["events.safetensors", "tokens.safetensors", "events.json", "features.parquet"] {
        assert!(std::fs::read(out.join(file)).unwrap() == std::fs::read(whole.join(file)).unwrap(), "{file} differs");
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
    refused(&mut features(dir.path(), &["--tokens", &tokens()]), &["thesis.tex", "another --out"]);
}

#[test]
fn a_prompt_shows_latents_what_they_write_and_what_is_said_without() {
    let latents = |args: &[&str]| {
        let mut command = assay();
        command.arg("latents").arg("--model").arg(bundled("small")).arg("--sae").arg(golden("eval-small/L3_k8"));
        command.args(["--prompt", "The museum was opened in"]).args(args);
        command
    };
    let found: Value = serde_json::from_str(&stdout_of(&mut latents(&["--json", "--top", "3"]))).unwrap();
    let tokens = found["tokens"].as_array().unwrap();
    let text: String = tokens[1..].iter().map(|token| token["text"].as_str().unwrap()).collect();
    assert_eq!(text, "The museum was opened in");
    let strongest = |token: &Value| token["active"][0]["latent"].as_u64().unwrap();
    assert!(
        tokens.iter().all(|token| token["l0"].as_u64() <= Some(8) && token["active"].as_array().unwrap().len() <= 3)
    );
    let last = strongest(&tokens[tokens.len() - 1]);
    assert_eq!(found["writes"][last.to_string()].as_array().unwrap().len(), 3);
    assert_eq!((found["next"].as_array().unwrap().len(), &found["without"]), (3, &Value::Null));
    let without: Value =
        serde_json::from_str(&stdout_of(&mut latents(&["--json", "--ablate", &last.to_string()]))).unwrap();
    assert_ne!(without["without"]["next"], without["next"]);
    let of_last = &without["without"]["losses"][tokens.len() - 2];
    assert!(of_last[0].as_f64().is_some() && of_last[1].as_f64().is_some(), "{of_last}");
    assert_eq!(without["without"]["losses"].as_array().unwrap().len(), tokens.len() - 1);
    let shown = stdout_of(&mut latents(&["--ablate", &last.to_string()]));
    assert!(shown.contains("␣was") && shown.contains(&format!("Without latent {last}:")), "{shown}");
    refused(&mut latents(&["--ablate", "5000"]), &["--ablate 5000", "1024 latents"]);
}
