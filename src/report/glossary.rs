//! Every term of a report with its definition, each taken from where it is computed.

use assay_probes::{METRICS, geometry, rate, stats};

/// Terms and definitions, in the order of reports.
pub fn terms() -> Vec<(String, String)> {
    let metrics = METRICS.iter().map(|m| (m.name, m.definition));
    let beside = [rate::TERMS, geometry::TERMS, stats::TERMS].into_iter().flatten().copied();
    metrics.chain(beside).map(|(term, definition)| (format!("`{term}`"), definition.to_owned())).collect()
}
