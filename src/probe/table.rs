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

/// What is printed: of the mean over tasks, or of the only one, the answer in a sentence and a table of the widest sparse probes; with `all`
/// every score, number of columns and control, of each task too.
pub fn text(head: &str, tasks: &[Vec<Row>], means: &[Row], protocol: Protocol, all: bool, notes: &[String]) -> String {
    let main: &[Row] = if means.is_empty() { tasks.first().map_or(&[], Vec::as_slice) } else { means };
    let answered = compared_width(main);
    let mut text = answered.and_then(|k| answer(main, k, protocol)).map_or_else(String::new, |answer| answer + "\n\n");
    text.push_str(&format!("{head}\n"));
    let mut add = |title: &str, rows: &[Row]| {
        let [train, test] = rows.first().map_or([0, 0], |row| row.texts);
        let plain = rows.first().map_or(0.0, |row| row.label_only);
        text.push_str(&format!("\n{title}: {train} texts to fit on, {test} to test"));
        if rows.iter().any(|row| row.bits.is_some()) {
            text.push_str(&format!("; {} bits per label without a representation", markdown::number(Some(plain))));
        }
        text.push_str("\n\n");
        if all {
            text.push_str(&format!("{}\n{}", table(rows, protocol), controls(rows, protocol)));
        } else {
            text.push_str(&brief(rows, answered.flatten(), protocol).to_string());
        }
    };
    let title = |rows: &[Row]| rows.first().and_then(|row| row.task.clone()).unwrap_or_default();
    if !means.is_empty() {
        add(&format!("Mean over {} tasks", tasks.len()), means);
    }
    if means.is_empty() || all {
        tasks.iter().for_each(|rows| add(&title(rows), rows));
    }
    if !all {
        text.push_str(
            "\nIntervals are at 95 %, over documents; Δ is minus the first SAE's row, on the same texts. Fewer bits are better.\n--all shows the other numbers of columns, all scores, the controls and the table of every task; --json \
             and --out have every number.\n",
        );
        return text + &markdown::notes(notes);
    }
    text.push_str(&format!(
        "\nIntervals are at 95 %, over documents; Δ is minus the SAE's or the bag of words' row with as many columns, on the same texts. \
         `smallest` is the smallest true difference to the SAE that such a measurement finds with the chance 80 %. Fewer bits are better; \
         compression is the bits without a representation over those with it. Permuted labels are a mean over {PERMUTATIONS} permutations, \
         the bits over one per order; the chance that remains is not in the intervals.\n"
    ));
    text + &markdown::notes(notes)
}

/// How many columns the probes read that are compared first: the most of those that were asked for by their number, else all.
fn compared_width(rows: &[Row]) -> Option<Option<usize>> {
    let of_sae = rows.iter().filter(|row| row.kind == RepresentationKind::Sae);
    of_sae.map(|row| row.k).max()
}

/// One sentence: how well the first SAE tells the labels, and which other representations it beats or is beaten by, as far as intervals
/// tell. Permuted labels are a check of the measurement and no rival.
fn answer(rows: &[Row], k: Option<usize>, protocol: Protocol) -> Option<String> {
    let (at, name) = headline(protocol);
    let at_k = || rows.iter().filter(|row| row.k == k && row.kind != RepresentationKind::Permuted);
    let sae = at_k().find(|row| row.kind == RepresentationKind::Sae)?;
    let [mut above, mut below, mut open] = [const { Vec::new() }; 3];
    for row in at_k().filter(|row| row.representation != sae.representation) {
        let score = &row.scores[at];
        let side = match score.sae.interval {
            Some(Interval { high, .. }) if high < 0.0 => &mut above,
            Some(Interval { low, .. }) if low > 0.0 => &mut below,
            _ => &mut open,
        };
        side.push(format!("{} ({})", in_a_sentence(row), markdown::score(score.value)));
    }
    let parts = [("higher than with", above), ("lower than with", below), ("not told apart from", open)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(how, names)| format!("{how} {}", markdown::listed(&names)))
        .collect();
    let columns = match k {
        Some(1) => "the best column".to_owned(),
        Some(k) => format!("the best {k} columns"),
        None => "all columns".to_owned(),
    };
    let others = if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) };
    Some(format!("A probe of {columns} has {name} {} with {}{others}.", shown(&sae.scores[at]), sae.representation))
}

/// A representation's name with an article.
fn in_a_sentence(row: &Row) -> &str {
    match row.kind {
        RepresentationKind::Residual => "the residual stream",
        RepresentationKind::Principal => "its principal components",
        RepresentationKind::Words => "a bag of words",
        RepresentationKind::RandomDictionary => "a random dictionary",
        RepresentationKind::RandomModel => "a random model",
        RepresentationKind::RandomResidual => "a random model's residual stream",
        RepresentationKind::PermutedDecoder => "the permuted decoder",
        RepresentationKind::Sae | RepresentationKind::Permuted => &row.representation,
    }
}

/// Of each representation the row at `k` columns: the score, what it has less the SAE's, and the bits.
fn brief(rows: &[Row], k: Option<usize>, protocol: Protocol) -> Table {
    let (at, name) = headline(protocol);
    let mut table = Table::new(["representation", "k", name, &format!("Δ{name}, SAE"), "bits per label"]);
    for row in rows.iter().filter(|row| row.k == k) {
        let main = &row.scores[at];
        table.row([
            row.representation.clone(),
            width(row.k),
            shown(main),
            difference(&main.sae),
            row.bits.as_ref().map_or_else(|| markdown::NONE.to_owned(), |bits| markdown::number(bits.value)),
        ]);
    }
    table
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
