//! What is printed of probes.

use assay_probes::probing::{Protocol, SCORES};
use assay_probes::stats::Interval;
use serde_json::{Map, Value, json};

use super::measure::{PERMUTATIONS, RepresentationKind, Row, score};
use super::measured::{Against, Measured};
use crate::markdown::{self, Table};

/// The score by which representations are compared in tables: the one that the protocol reports.
fn headline(protocol: Protocol) -> (usize, &'static str) {
    match protocol {
        Protocol::SaeBench => (score("accuracy"), "accuracy"),
        Protocol::SaeProbes => (score("auroc"), "AUROC"),
    }
}

fn width(k: Option<usize>) -> String {
    k.map_or_else(|| "all".to_owned(), |k| k.to_string())
}

fn shown(measured: &Measured) -> String {
    markdown::with_interval(measured.value, measured.interval)
}

fn difference(against: &Against) -> String {
    markdown::signed_with_interval(against.difference, against.interval)
}

/// The table of one task, or of the means.
pub(super) fn table(rows: &[Row], protocol: Protocol) -> Table {
    let (at, name) = headline(protocol);
    let coded = rows.iter().any(|row| row.bits.is_some());
    let mut head = ["representation", "k", "accuracy", "balanced", "AUROC", "F1"].map(str::to_owned).to_vec();
    head.extend([format!("Δ{name}, SAE"), "smallest".to_owned(), format!("Δ{name}, words")]);
    if coded {
        head.extend(["bits per label", "compression", "Δbits, SAE", "Δbits, words"].map(str::to_owned));
    }
    let mut table = Table::new(head);
    let of = |row: &Row, name: &str| row.scores[score(name)].clone();
    let f1 = if protocol == Protocol::SaeProbes { "weighted_f1" } else { "f1" };
    for row in rows {
        let main = &row.scores[at];
        let mut cells = vec![
            row.representation.clone(),
            width(row.k),
            shown(&of(row, "accuracy")),
            markdown::score(of(row, "balanced_accuracy").value),
            shown(&of(row, "auroc")),
            markdown::score(of(row, f1).value),
            difference(&main.sae),
            markdown::score(main.sae.smallest),
            difference(&main.words),
        ];
        if coded {
            let bits = row.bits.clone().unwrap_or_default();
            cells.extend([
                shown(&bits),
                markdown::number(row.compression()),
                difference(&bits.sae),
                difference(&bits.words),
            ]);
        }
        table.row(cells);
    }
    table
}

/// The SAE minus each of its controls, of one task or of the means.
fn controls(rows: &[Row], protocol: Protocol) -> Table {
    let (at, name) = headline(protocol);
    let mut table = Table::new(["control", "k", &format!("SAE − control, {name}"), "bits per label"]);
    let is_control = |kind| {
        matches!(
            kind,
            RepresentationKind::RandomDictionary
                | RepresentationKind::RandomModel
                | RepresentationKind::PermutedDecoder
                | RepresentationKind::Permuted
        )
    };
    let turned = |against: &Against| {
        let interval = against.interval.map(|i| Interval { low: 0.0 - i.high, high: 0.0 - i.low });
        // Not −0.
        markdown::signed_with_interval(against.difference.map(|d| 0.0 - d), interval)
    };
    for row in rows.iter().filter(|row| is_control(row.kind)) {
        let bits = row.bits.as_ref().map_or_else(|| markdown::NONE.to_owned(), |bits| turned(&bits.sae));
        table.row([row.representation.clone(), width(row.k), turned(&row.scores[at].sae), bits]);
    }
    table
}

/// The tables: the means over tasks, and each task's where there is one or `all` are asked for.
pub fn text(head: &str, tasks: &[Vec<Row>], means: &[Row], protocol: Protocol, all: bool, notes: &[String]) -> String {
    let mut text = format!("{head}\n");
    let mut add = |title: &str, rows: &[Row]| {
        let [train, test] = rows.first().map_or([0, 0], |row| row.texts);
        let plain = rows.first().map_or(0.0, |row| row.label_only);
        text.push_str(&format!("\n{title}: {train} texts to fit on, {test} to test"));
        if rows.iter().any(|row| row.bits.is_some()) {
            text.push_str(&format!("; {} bits per label without a representation", markdown::number(Some(plain))));
        }
        text.push_str(&format!("\n\n{}\n{}", table(rows, protocol), controls(rows, protocol)));
    };
    if !means.is_empty() {
        add(&format!("Mean over {} tasks", tasks.len()), means);
    }
    if means.is_empty() || all {
        for rows in tasks {
            add(rows.first().and_then(|row| row.task.as_deref()).unwrap_or_default(), rows);
        }
    }
    text.push_str(
        "\nIntervals are at 95 %, over documents; Δ is minus the SAE's or the bag of words' row with as many columns, on the same texts, and \
         `smallest` the smallest true difference to the SAE that such a measurement finds with the chance 80 %. Fewer bits are better; \
         compression is the bits without a representation over those with it. ",
    );
    text.push_str(&format!(
        "Permuted labels are a mean over {PERMUTATIONS} permutations, the bits over one per order; the chance that remains is not in the \
         intervals.\n"
    ));
    if !means.is_empty() && !all {
        text.push_str("--all shows the table of every task, --json and --out have every number.\n");
    }
    text + &markdown::notes(notes)
}

/// Rows as JSON objects.
pub fn json(rows: &[Row]) -> Value {
    let interval = |interval: Option<Interval>| interval.map(|i| [i.low, i.high]);
    let against = |against: &Against| json!({"difference": against.difference, "interval_95": interval(against.interval), "smallest": against.smallest});
    let measured = |measured: &Measured| {
        json!({
            "value": measured.value, "interval_95": interval(measured.interval),
            "minus_sae": against(&measured.sae), "minus_words": against(&measured.words),
        })
    };
    let row = |row: &Row| {
        let scores: Map<String, Value> =
            SCORES.iter().zip(&row.scores).map(|(name, of)| ((*name).to_owned(), measured(of))).collect();
        json!({
            "task": row.task, "representation": row.representation, "kind": row.kind.name(), "k": row.k,
            "train": row.texts[0], "test": row.texts[1], "columns": row.columns, "c": row.c,
            "not_converged": row.not_converged, "scores": scores, "bits": row.bits.as_ref().map(measured),
            "bits_label_only": row.label_only, "compression": row.compression(), "bits_sd_over_orders": row.orders_sd,
        })
    };
    rows.iter().map(row).collect()
}
