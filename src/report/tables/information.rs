//! Mutual information with the logits, and how many dimensions it needs.

use crate::analysis::{Analysis, dimensions};
use crate::markdown::{NONE, Table, score};

/// One row per hook point: four estimates, the curve over bottlenecks and the dimensionality beside the participation ratio.
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
        "ln(held-out pairs)",
        "nats by bottleneck width (concatenated, SMILE)",
        "inferred dimensionality",
        "raw PR",
        "mean |R² − loss score, mean ablation|",
    ]);
    for found in dimensions(analysis) {
        let most = (found.pairs as f64).ln();
        // One critic seed: tenths of a nat are all that can be read.
        let shown = |nats: f64| if nats > most { format!("{nats:.1} (too high)") } else { format!("{nats:.1}") };
        let nats = |critic: &str, bound: &str| {
            let of = found.information.iter().find(|(c, b, ..)| c == critic && b == bound);
            of.map_or_else(|| NONE.to_owned(), |(_, _, nats, _)| shown(*nats))
        };
        let cap = found.information.iter().find_map(|(_, _, _, cap)| *cap);
        let curve: Vec<String> = found.curve.iter().map(|(width, nats)| format!("{width}: {nats:.1}")).collect();
        let whole = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), |v| format!("{v:.0}"));
        table.row([
            found.model.clone(),
            analysis.names.site(&found.site),
            if found.is_last { format!("{} (last)", found.layer) } else { found.layer.to_string() },
            nats("separable", "info_nce"),
            nats("separable", "smile"),
            nats("concatenated", "info_nce"),
            nats("concatenated", "smile"),
            cap.map_or_else(|| NONE.to_owned(), |c| format!("{c:.1}")),
            format!("{most:.1}"),
            curve.join(", "),
            whole(found.inferred),
            whole(found.pr),
            score(found.failure),
        ]);
    }
    table
}
