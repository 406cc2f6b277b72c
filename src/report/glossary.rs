//! Every term of a report with its definition, each taken from where it is computed.

use assay_probes::metrics::CE_INCREASE;
use assay_probes::{METRICS, geometry, information, rate, stats};

/// Terms and definitions, in the order of reports.
pub fn terms() -> Vec<(String, String)> {
    let metrics = METRICS.iter().chain([&CE_INCREASE]).map(|m| (m.name, m.definition));
    let beside = [rate::TERMS, geometry::TERMS, information::TERMS, stats::TERMS].into_iter().flatten().copied();
    metrics.chain(beside).map(|(term, definition)| (format!("`{term}`"), definition.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns and statistics of the design's list of metrics.
    const EXPECTED: &str = "ce_orig ce_recon ce_zero ce_mean ce_rec ce_rec_pooled ce_loss_score ce_loss_score_mean kl \
        top1_agreement r2 sse_per_token sst_per_token mse_mean nmse cosine rel_err l0 alive_frac density l2_ratio recon_bias \
        bits_per_token bits_bernoulli swd abs_gdelta gdelta fwd kl_pred pr pr_deflated_m k*(t)";

    #[test]
    fn every_metric_has_one_entry() {
        let terms = terms();
        for name in EXPECTED.split_whitespace() {
            let entries = terms.iter().filter(|(term, _)| *term == format!("`{name}`")).count();
            assert_eq!(entries, 1, "{name}");
        }
        let mut names: Vec<&String> = terms.iter().map(|(term, _)| term).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), terms.len(), "a term is defined twice");
    }
}
