//! The files of `assay topology --out`.

use std::path::Path;

use anyhow::{Context as _, Result};
use assay_probes::topology::Statistic;

use super::TopologyReport;
use crate::files::check_writable;
use crate::frames::columns::{frame, numbers, text, whole, write_frame};

const TESTS: &str = "topology.parquet";
const BARS: &str = "bars.parquet";

/// Makes the directory, and checks that files can be written there.
pub(super) fn check(out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    check_writable(&out.join(TESTS))
}

/// `topology.parquet`: a row for each metric, null and statistic. `bars.parquet`: the cloud's bars by metric and dimension, and the longest of
/// each draw, 0 where it has none.
pub(super) fn write(out: &Path, cloud: &Path, found: &[TopologyReport]) -> Result<()> {
    let cloud = cloud.display().to_string();
    let tests: Vec<_> = found
        .iter()
        .flat_map(|found| {
            found.audit.nulls.iter().flat_map(move |null| null.tests.iter().map(move |test| (found, null, test)))
        })
        .collect();
    let all = || tests.iter();
    write_frame(
        &out.join(TESTS),
        frame(vec![
            text("cloud", all().map(|_| cloud.clone())),
            text("metric", all().map(|(found, ..)| found.metric.to_string())),
            text("filtration", all().map(|(found, ..)| found.filtration.clone())),
            whole("points", all().map(|(found, ..)| found.points as u64)),
            whole("dimensions", all().map(|(found, ..)| found.components.unwrap_or(found.dimensions) as u64)),
            text("null", all().map(|(_, null, _)| null.null.to_string())),
            whole("draws", all().map(|(_, null, _)| null.draws as u64)),
            whole("seed", all().map(|(found, ..)| found.seed)),
            text("statistic", all().map(|(.., test)| test.statistic.name().to_owned())),
            numbers("observed", all().map(|(.., test)| test.observed)),
            numbers("null_p05", all().map(|(.., test)| Some(test.null[0]))),
            numbers("null_median", all().map(|(.., test)| Some(test.null[1]))),
            numbers("null_p95", all().map(|(.., test)| Some(test.null[2]))),
            numbers("p", all().map(|(.., test)| Some(test.p))),
            numbers("p_adjusted", all().map(|(.., test)| Some(test.p_adjusted))),
            numbers(
                "p_over_metrics",
                all().map(|(found, _, test)| found.p_over_metrics.filter(|_| test.statistic == Statistic::Pi)),
            ),
            numbers("ratio_author", all().map(|(found, ..)| found.author.as_ref()?.ratio)),
        ])?,
    )?;
    let mut bars = Vec::new();
    for found in found {
        for (dimension, of) in found.audit.diagram.bars.iter().enumerate() {
            bars.extend(of.iter().map(|bar| Row {
                metric: found.metric.to_string(),
                of: "cloud".to_owned(),
                dimension: dimension as u64,
                birth: Some(bar.birth),
                death: bar.death,
                persistence: bar.persistence(),
            }));
        }
        for null in &found.audit.nulls {
            bars.extend(null.maxima.iter().map(|&max| Row {
                metric: found.metric.to_string(),
                of: null.null.to_string(),
                dimension: 1,
                birth: None,
                death: None,
                persistence: Some(max),
            }));
        }
    }
    let all = || bars.iter();
    write_frame(
        &out.join(BARS),
        frame(vec![
            text("metric", all().map(|bar| bar.metric.clone())),
            text("of", all().map(|bar| bar.of.clone())),
            whole("dimension", all().map(|bar| bar.dimension)),
            numbers("birth", all().map(|bar| bar.birth)),
            numbers("death", all().map(|bar| bar.death)),
            numbers("persistence", all().map(|bar| bar.persistence)),
        ])?,
    )
}

/// A row of `bars.parquet`.
struct Row {
    metric: String,
    /// The cloud, or a null.
    of: String,
    dimension: u64,
    birth: Option<f64>,
    death: Option<f64>,
    persistence: Option<f64>,
}
