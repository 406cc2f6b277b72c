//! An evaluation as a JSON object, and as a table.

use assay_probes::metrics::{METRICS, MetricKind, metric};
use assay_probes::stats::Interval;
use assay_probes::{Evaluation, Subset, Sums};
use serde_json::{Map, Value, json};

use crate::markdown;
use crate::replicates::{LEVEL, Replicates};

/// The columns of an evaluation as a JSON object: behaviour on all tokens at the top, reconstruction by subset below.
pub(super) fn evaluation_json(found: &Evaluation, replicates: &Replicates) -> Map<String, Value> {
    let mut object = Map::new();
    let all = found.total(Subset::All);
    for metric in METRICS.iter().filter(|m| m.kind == MetricKind::Behaviour) {
        object.insert(metric.name.to_owned(), json!((metric.value)(&all)));
    }
    let l0 = metric("l0").and_then(|m| (m.value)(&all));
    for (name, value) in std::iter::once(("l0", l0)).chain(beside_sums(found)) {
        object.insert(name.to_owned(), json!(value));
    }
    for subset in Subset::ALL {
        let sums = found.total(subset);
        let mut nested = Map::new();
        for metric in METRICS {
            // A count of tokens is a whole number.
            let value = (metric.value)(&sums);
            let value = if metric.name == "tokens" { json!(value.map(|v| v as u64)) } else { json!(value) };
            if metric.kind == MetricKind::Reconstruction || subset != Subset::All {
                nested.insert(metric.name.to_owned(), value);
            }
        }
        object.insert(subset.name().to_owned(), Value::Object(nested));
    }
    let mut intervals = Map::new();
    for metric in METRICS.iter().filter(|m| m.name != "tokens") {
        let interval = replicates.interval(metric, Subset::All, LEVEL);
        intervals.insert(metric.name.to_owned(), interval.map_or(Value::Null, |i| json!([i.low, i.high])));
    }
    object.insert("intervals_95".to_owned(), Value::Object(intervals));
    let of = |field: fn(&Sums) -> f64| -> Vec<f64> {
        found.sequences.iter().map(|s| field(&s[Subset::All.index()]) / s[Subset::All.index()].scored).collect()
    };
    object.insert("per_sequence".to_owned(), json!({ "ce_orig": of(|s| s.ce_orig), "ce_recon": of(|s| s.ce_recon) }));
    object
}

/// The columns that are no functions of sums: rates of the code and the geometry at the hook.
fn beside_sums(found: &Evaluation) -> [(&'static str, Option<f64>); 8] {
    let [pr, one, two, four, eight] = found.spectrum.participation_ratios();
    [
        ("alive_frac", found.firing.alive_frac()),
        ("bits_per_token", found.firing.bits_per_token()),
        ("bits_bernoulli", found.firing.bits_bernoulli()),
        ("pr", pr),
        ("pr_deflated_1", one),
        ("pr_deflated_2", two),
        ("pr_deflated_4", four),
        ("pr_deflated_8", eight),
    ]
}

/// What stands in the table unless all is asked for: the scores that a verdict sets side by side, and what the code is.
const SHOWN: [&str; 8] =
    ["r2", "ce_loss_score_mean", "ce_rec_pooled", "ce_rec", "ce_loss_score", "kl", "l0", "alive_frac"];

/// The losses that all scores of behaviour are made of, in one sentence.
pub(super) fn losses(found: &Evaluation, vocab_size: usize) -> String {
    let all = found.total(Subset::All);
    let loss = |name: &str| markdown::number(metric(name).and_then(|m| (m.value)(&all)));
    format!(
        "Loss in nats per token: {} of the model itself, {} with the reconstruction, {} with the mean activation, {} with zeros; {} for a \
         uniform guess among {vocab_size} tokens",
        loss("ce_orig"),
        loss("ce_recon"),
        loss("ce_mean"),
        loss("ce_zero"),
        markdown::number(Some((vocab_size as f64).ln())),
    )
}

/// The evaluation as a table: the rows of [`SHOWN`], or every metric on every subset.
pub(super) fn evaluation_table(found: &Evaluation, replicates: &Replicates, all: bool) -> String {
    if all { whole_table(found, replicates) } else { short_table(found, replicates) }
}

fn short_table(found: &Evaluation, replicates: &Replicates) -> String {
    let (all, beside) = (found.total(Subset::All), beside_sums(found));
    let table = scores(|name| match metric(name) {
        Some(metric) => ((metric.value)(&all), replicates.interval(metric, Subset::All, LEVEL)),
        None => (beside.iter().find(|(n, _)| *n == name).and_then(|(_, value)| *value), None),
    });
    let more = METRICS.len() + beside.len() - SHOWN.len();
    format!("{table}\n--all shows {more} more rows, --json everything.\n")
}

/// The rows of [`SHOWN`], by the value and the interval that something has under a name.
pub(in crate::commands) fn scores(of: impl Fn(&str) -> (Option<f64>, Option<Interval>)) -> markdown::Table {
    let mut table = markdown::Table::new(["metric", "value", "95 % interval", "what it is"]);
    for name in SHOWN {
        let (value, interval) = of(name);
        // What is no function of a sequence's sums has no interval.
        let interval = if metric(name).is_some() { markdown::interval(interval) } else { String::new() };
        table.row([name.to_owned(), markdown::number(value), interval, in_short(name).to_owned()]);
    }
    table
}

/// What a row of the short table is, in a few words; `assay_probes::metrics` has the definitions.
fn in_short(name: &str) -> &'static str {
    match name {
        "r2" => "share of the activations' variance that is reconstructed",
        "ce_loss_score_mean" => "share of the effect on the loss that is kept: 0 mean activation, 1 perfect",
        "ce_rec_pooled" => "2 − loss with it / the model's own: 0 doubled loss, 1 perfect",
        "ce_rec" => "the same, a mean over sequences (Ohiagwu 2026)",
        "ce_loss_score" => "share of the effect on the loss that is kept: 0 zeros, 1 perfect",
        "kl" => "divergence from the model's own predictions, nats",
        "l0" => "active latents per token",
        _ => "share of latents that fired",
    }
}

fn whole_table(found: &Evaluation, replicates: &Replicates) -> String {
    let mut table = markdown::Table::new(["metric", "all", "95 % interval", "no_first", "no_outlier"]);
    for metric in METRICS {
        let value = |subset| markdown::number((metric.value)(&found.total(subset)));
        let interval: Option<Interval> = replicates.interval(metric, Subset::All, LEVEL);
        table.row([
            metric.name.to_owned(),
            value(Subset::All),
            if metric.name == "tokens" { String::new() } else { markdown::interval(interval) },
            value(Subset::NoFirst),
            value(Subset::NoOutlier),
        ]);
    }
    for (name, value) in beside_sums(found) {
        table.row([name.to_owned(), markdown::number(value), String::new(), String::new(), String::new()]);
    }
    table.to_string()
}
