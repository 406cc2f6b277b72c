//! An evaluation as a JSON object, and as a table.

use assay_probes::metrics::{Kind, METRICS, metric};
use assay_probes::stats::Interval;
use assay_probes::{Evaluation, Subset, Sums};
use serde_json::{Map, Value, json};

use crate::markdown;
use crate::replicates::Replicates;

const LEVEL: f64 = 0.95;

/// The columns of an evaluation as a JSON object: behaviour on all tokens at the top, reconstruction by subset below.
pub(super) fn evaluation_json(found: &Evaluation, replicates: &Replicates) -> Map<String, Value> {
    let mut object = Map::new();
    let all = found.total(Subset::All);
    for metric in METRICS.iter().filter(|m| m.kind == Kind::Behaviour) {
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
            if metric.kind == Kind::Reconstruction || subset != Subset::All {
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
    let pr = |top| found.spectrum.participation_ratio(top);
    [
        ("alive_frac", found.firing.alive_frac()),
        ("bits_per_token", found.firing.bits_per_token()),
        ("bits_bernoulli", found.firing.bits_bernoulli()),
        ("pr", pr(0)),
        ("pr_deflated_1", pr(1)),
        ("pr_deflated_2", pr(2)),
        ("pr_deflated_4", pr(4)),
        ("pr_deflated_8", pr(8)),
    ]
}

pub(super) fn evaluation_table(found: &Evaluation, replicates: &Replicates) -> String {
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
