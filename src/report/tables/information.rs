//! Mutual information with the logits, and how many dimensions it needs.

use crate::analysis::{Analysis, dimensions};
use crate::markdown::{NONE, Table, number, score};

/// A row a hook point: four estimates, the curve over bottlenecks and the dimensionality beside the participation ratio.
pub fn information(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "layer",
        "separable, InfoNCE",
        "separable, SMILE",
        "concatenated, InfoNCE",
        "concatenated, SMILE",
        "InfoNCE's cap",
        "nats by bottleneck width (concatenated, SMILE)",
        "inferred dimensionality",
        "raw PR",
        "ln(dimensionality/PR)",
        "mean |R² − CE_rec|",
    ]);
    for found in dimensions(analysis) {
        let nats = |critic: &str, bound: &str| {
            let of = found.information.iter().find(|(c, b, ..)| c == critic && b == bound);
            of.map_or_else(|| NONE.to_owned(), |(_, _, nats, _)| format!("{nats:.2}"))
        };
        let cap = found.information.iter().find_map(|(_, _, _, cap)| *cap);
        let curve: Vec<String> = found.curve.iter().map(|(width, nats)| format!("{width}: {nats:.2}")).collect();
        table.row([
            found.model.clone(),
            found.depth.clone(),
            found.layer.to_string(),
            nats("separable", "info_nce"),
            nats("separable", "smile"),
            nats("concatenated", "info_nce"),
            nats("concatenated", "smile"),
            cap.map_or_else(|| NONE.to_owned(), |c| format!("{c:.2}")),
            curve.join(", "),
            number(found.inferred),
            number(found.pr),
            score(found.mismatch()),
            score(found.failure),
        ]);
    }
    table
}
