//! A comparison as markdown and as JSON.

use std::fmt::Write as _;

use assay_probes::stats::Interval;
use serde_json::{Value, json};

use super::Compared;
use super::published::{Printed, Published};
use crate::markdown::{NONE, Table, number};

/// The table, the summary, and why the others have no counterpart, with `all` row by row; `results` is what was compared.
pub fn markdown(compared: &[Compared<'_>], results: &str, all: bool) -> String {
    let mut out = String::new();
    let table = table(compared);
    if !table.is_empty() {
        let _ = writeln!(out, "{table}");
    }
    let _ = writeln!(out, "{}", summary(compared, results));
    out += &without_counterpart(compared, all);
    out
}

fn table(compared: &[Compared<'_>]) -> Table {
    let mut table =
        Table::new(["experiment", "table", "row", "column", "published", "ours", "difference", "intervals"]);
    for row in compared {
        let Some(found) = row.found() else { continue };
        let printed = row.published.printed();
        let mut ours = value(found.value, printed);
        if let Some(Interval { low, high }) = found.interval {
            let _ = write!(ours, " [{}, {}]", value(low, printed), value(high, printed));
        }
        let published = row.published;
        table.row([
            published.experiment.clone(),
            published.table.clone(),
            published.row.clone(),
            published.named_column(),
            published.text.clone(),
            ours,
            row.difference().map_or_else(String::new, |d| difference(d, printed)),
            row.relation().unwrap_or(NONE).to_owned(),
        ]);
    }
    table
}

/// A number as the text prints its own, with one digit more.
fn value(value: f64, printed: Option<Printed>) -> String {
    let Some(Printed { decimals, percent, signed }) = printed else { return number(Some(value)) };
    let (value, unit) = if percent { (100.0 * value, "%") } else { (value, "") };
    let decimals = decimals + 1;
    if signed { format!("{value:+.decimals$}{unit}") } else { format!("{value:.decimals$}{unit}") }
}

/// With its sign; of percentages in percentage points.
fn difference(difference: f64, printed: Option<Printed>) -> String {
    if difference == 0.0 {
        return "0".to_owned();
    }
    let printed = printed.unwrap_or(Printed { decimals: 2, percent: false, signed: true });
    value(difference, Some(Printed { signed: true, ..printed })).replace('%', " pp")
}

/// How many were compared, how many are equal, how many intervals overlap.
fn summary(compared: &[Compared<'_>], results: &str) -> String {
    let count = |of: &dyn Fn(&Compared<'_>) -> bool| compared.iter().filter(|c| of(c)).count();
    let found = count(&|c| c.found().is_some());
    if found == 0 {
        return format!(
            "None of the {} published numbers has a counterpart in {results}: there is nothing to compare.",
            compared.len()
        );
    }
    format!(
        "{found} of {} published numbers have a counterpart in {results}: {} are equal within the published rounding. {} have an interval on \
         both sides: {} overlap.",
        compared.len(),
        count(&|c| c.agrees() == Some(true)),
        count(&|c| c.overlap().is_some()),
        count(&|c| c.overlap() == Some(true)),
    )
}

/// The reasons for which rows have no counterpart, and below each, with `all`, the rows themselves.
fn without_counterpart(compared: &[Compared<'_>], all: bool) -> String {
    let mut reasons: Vec<(String, Vec<&Published>)> = Vec::new();
    for row in compared {
        let Err(missing) = &row.ours else { continue };
        let reason = missing.to_string();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, rows)) => rows.push(row.published),
            None => reasons.push((reason, vec![row.published])),
        }
    }
    let mut out = String::new();
    if !reasons.is_empty() {
        out +=
            if all { "\nWithout a counterpart:\n\n" } else { "\nWithout a counterpart (`--all` lists the rows):\n\n" };
    }
    for (reason, rows) in reasons {
        let colon = if all { ":" } else { "" };
        let _ = writeln!(out, "- {reason} ({}){colon}", rows.len());
        if !all {
            continue;
        }
        for cells in rows.chunk_by(|a, b| (&a.experiment, &a.table, &a.row) == (&b.experiment, &b.table, &b.row)) {
            let columns: Vec<String> = cells.iter().map(|p| p.named_column()).collect();
            let _ = writeln!(
                out,
                "  - {} {}, {}: {}",
                cells[0].experiment,
                cells[0].table,
                cells[0].row,
                columns.join("; ")
            );
        }
    }
    out
}

/// An array with one object per published number.
pub fn json(compared: &[Compared<'_>]) -> Value {
    let object = |row: &Compared<'_>| {
        let (published, found) = (row.published, row.found());
        let ends = |interval: Option<Interval>| interval.map(|i| [i.low, i.high]);
        json!({
            "experiment": published.experiment,
            "table": published.table,
            "row": published.row,
            "column": published.column,
            "model": published.model,
            "depth": published.depth,
            "layer": published.layer,
            "k": published.k,
            "tokens": published.tokens,
            "quantity": published.quantity,
            "end": published.end.name(),
            "text": published.text,
            "published": published.value,
            "published_interval": ends(row.interval),
            "ours": found.map(|f| f.value),
            "our_interval": ends(found.and_then(|f| f.interval)),
            "difference": row.difference(),
            "intervals": row.relation(),
            "equal_within_rounding": row.agrees(),
            "missing": row.ours.as_ref().err().map(super::Missing::kind),
            "reason": row.ours.as_ref().err().map(ToString::to_string),
        })
    };
    compared.iter().map(object).collect()
}

/// A line for each of some cells, with both numbers.
pub fn named<'a>(compared: impl Iterator<Item = &'a Compared<'a>>) -> String {
    let line = |row: &Compared<'_>| {
        let ours = row.found().map_or_else(|| NONE.to_owned(), |f| value(f.value, row.published.printed()));
        format!("\n  {}: published {}, ours {ours}", row.published.cell(), row.published.text)
    };
    compared.map(line).collect()
}
