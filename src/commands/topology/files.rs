//! The files of `assay topology --out`.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::Found;
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
/// each draw.
pub(super) fn write(out: &Path, cloud: &Path, found: &[Found]) -> Result<()> {
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
            numbers("ratio_author", all().map(|(found, ..)| found.author.as_ref()?.ratio)),
        ])?,
    )?;
    let mut bars: Vec<(String, String, u64, Option<f64>, Option<f64>, f64)> = Vec::new();
    for found in found {
        let metric = found.metric.to_string();
        for (dimension, of) in found.audit.diagram.bars.iter().enumerate() {
            for bar in of {
                let length = bar.persistence().unwrap_or(f64::INFINITY);
                bars.push((metric.clone(), "cloud".to_owned(), dimension as u64, Some(bar.birth), bar.death, length));
            }
        }
        for null in &found.audit.nulls {
            bars.extend(null.maxima.iter().map(|&max| (metric.clone(), null.null.to_string(), 1, None, None, max)));
        }
    }
    let all = || bars.iter();
    write_frame(
        &out.join(BARS),
        frame(vec![
            text("metric", all().map(|bar| bar.0.clone())),
            text("of", all().map(|bar| bar.1.clone())),
            whole("dimension", all().map(|bar| bar.2)),
            numbers("birth", all().map(|bar| bar.3)),
            numbers("death", all().map(|bar| bar.4)),
            numbers("persistence", all().map(|bar| Some(bar.5))),
        ])?,
    )
}
