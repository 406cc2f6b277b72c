//! Probes as a frame: one row per task, representation and k, and one for their mean over tasks.

use std::path::Path;

use anyhow::Result;
use assay_probes::probing::SCORES;
use assay_probes::stats::Interval;
use polars::prelude::{Column, NamedFrom, Series};

use super::columns::{frame, numbers, text, whole, write_frame};
use crate::probe::{Measured, Row};

/// What all rows have in common.
pub struct Probes<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The protocol's.
    pub protocol: &'a str,
    /// Seed of all draws.
    pub seed: u64,
}

/// Writes the rows to a parquet file. `task` is null in means over tasks, `k` where a probe reads all columns; `columns` are those that it
/// reads, the best first. `X_low` and `X_high` are ends of 95 % intervals, `X_minus_sae` and `X_minus_words` paired differences, and
/// `…_smallest` the smallest difference that such a measurement finds with the chance 80 %.
///
/// # Errors
/// If the file can't be written.
pub fn write_probes(path: &Path, probes: &Probes<'_>, rows: &[Row]) -> Result<()> {
    let tasks: Vec<Option<&str>> = rows.iter().map(|row| row.task.as_deref()).collect();
    let ks: Vec<Option<u64>> = rows.iter().map(|row| row.k.map(|k| k as u64)).collect();
    let chosen = |row: &Row| row.columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut columns = vec![
        text("model", rows.iter().map(|_| probes.model.to_owned())),
        text("protocol", rows.iter().map(|_| probes.protocol.to_owned())),
        whole("seed", rows.iter().map(|_| probes.seed)),
        Column::from(Series::new("task".into(), tasks)),
        text("representation", rows.iter().map(|row| row.representation.clone())),
        text("kind", rows.iter().map(|row| row.kind.name().to_owned())),
        Column::from(Series::new("k".into(), ks)),
        whole("train", rows.iter().map(|row| row.texts[0] as u64)),
        whole("test", rows.iter().map(|row| row.texts[1] as u64)),
        text("columns", rows.iter().map(chosen)),
        numbers("c", rows.iter().map(|row| row.c)),
        whole("not_converged", rows.iter().map(|row| row.not_converged as u64)),
    ];
    for (at, name) in SCORES.iter().enumerate() {
        columns.extend(measured(name, rows, |row| row.scores.get(at)));
    }
    columns.extend(measured("bits", rows, |row| row.bits.as_ref()));
    columns.push(numbers("bits_label_only", rows.iter().map(|row| Some(row.label_only))));
    columns.push(numbers("compression", rows.iter().map(Row::compression)));
    columns.push(numbers("bits_sd_over_orders", rows.iter().map(|row| row.orders_sd)));
    write_frame(path, frame(columns)?)
}

fn measured<'a>(name: &str, rows: &'a [Row], of: impl Fn(&'a Row) -> Option<&'a Measured>) -> Vec<Column> {
    let number = |name: String, value: &dyn Fn(&Measured) -> Option<f64>| {
        numbers(&name, rows.iter().map(|row| of(row).and_then(value)))
    };
    let low = |interval: Option<Interval>| interval.map(|i| i.low);
    let high = |interval: Option<Interval>| interval.map(|i| i.high);
    let mut columns = vec![
        number(name.to_owned(), &|m| m.value),
        number(format!("{name}_low"), &|m| low(m.interval)),
        number(format!("{name}_high"), &|m| high(m.interval)),
    ];
    for (other, is_sae) in [("sae", true), ("words", false)] {
        let against = move |m: &Measured| if is_sae { m.sae } else { m.words };
        let name = format!("{name}_minus_{other}");
        columns.extend([
            number(name.clone(), &|m| against(m).difference),
            number(format!("{name}_low"), &|m| low(against(m).interval)),
            number(format!("{name}_high"), &|m| high(against(m).interval)),
            number(format!("{name}_smallest"), &|m| against(m).smallest),
        ]);
    }
    columns
}
