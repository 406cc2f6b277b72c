//! `topology.parquet` and `bars.parquet`: what was found of clouds, a row a test and a row a bar.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use assay_probes::topology::{AgainstNull, Recurrence, Statistic, Test};
use polars::prelude::Column;

use super::Audited;
use crate::files::check_writable;
use crate::frames::columns::{frame, numbers, text, whole, write_frame};
use crate::frames::{BARS, LOOPS, RUNS};

/// What was found of a cloud, in each metric and with each seed.
pub struct CloudFound {
    /// What it is called.
    pub cloud: String,
    /// Where it comes from, in a sweep.
    pub place: Option<Place>,
    /// What was found.
    pub found: Vec<Audited>,
}

/// Where a sweep has a cloud from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The run whose SAE it is of; empty for activations.
    pub run: String,
    /// The model's name.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// The hook point.
    pub hook: String,
    /// `decoder`, `encoder` or `activations`.
    pub what: String,
}

/// Makes a directory, and checks that the files can be written there and replace none, of a sweep or of another audit.
///
/// # Errors
/// If they can't or do.
pub fn check_writable_in(out: &Path) -> Result<()> {
    ensure!(
        !out.join(RUNS).exists(),
        "{} holds the results of a sweep, whose {LOOPS} this would replace; give another directory",
        out.display()
    );
    for path in [LOOPS, BARS].map(|name| out.join(name)) {
        let is_there = path.symlink_metadata().is_ok();
        ensure!(!is_there, "{} is there already; remove it, or give another directory", path.display());
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    check_writable(&out.join(LOOPS))
}

/// Removes both files, as far as they are there.
///
/// # Errors
/// If they can't be removed.
pub fn remove(out: &Path) -> Result<()> {
    for path in [LOOPS, BARS].map(|name| out.join(name)) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
    }
    Ok(())
}

/// A test of one statistic of a cloud against one null; without nulls the statistic alone.
struct TestRow<'a> {
    of: &'a CloudFound,
    found: &'a Audited,
    statistic: Statistic,
    against: Option<(&'a AgainstNull, &'a Test)>,
}

/// A bar of a cloud, or the longest of one draw.
struct BarRow<'a> {
    of: &'a CloudFound,
    found: &'a Audited,
    /// The cloud, or a null.
    whose: String,
    dimension: u64,
    birth: Option<f64>,
    death: Option<f64>,
    persistence: Option<f64>,
}

/// Writes `topology.parquet`, a row for each cloud, metric, seed, null and statistic, and `bars.parquet`: each cloud's bars by metric, seed and
/// dimension, and the longest of each draw, 0 where it has none.
///
/// # Errors
/// If a file can't be written.
pub fn write(out: &Path, clouds: &[CloudFound]) -> Result<()> {
    let (mut tests, mut bars) = (Vec::new(), Vec::new());
    for of in clouds {
        for found in &of.found {
            tests.extend(tests_of(of, found));
            bars.extend(bars_of(of, found));
        }
    }
    let mut columns = places(&tests, |test| test.of);
    columns.extend(test_columns(&tests));
    write_frame(&out.join(LOOPS), frame(columns)?)?;
    let mut columns = places(&bars, |bar| bar.of);
    columns.extend(bar_columns(&bars));
    write_frame(&out.join(BARS), frame(columns)?)
}

fn tests_of<'a>(of: &'a CloudFound, found: &'a Audited) -> Vec<TestRow<'a>> {
    if found.audit.nulls.is_empty() {
        let alone = |(statistic, _)| TestRow { of, found, statistic, against: None };
        return found.audit.observed().map(alone).collect();
    }
    let against = |null: &'a AgainstNull| {
        null.tests.iter().map(move |test| TestRow { of, found, statistic: test.statistic, against: Some((null, test)) })
    };
    found.audit.nulls.iter().flat_map(against).collect()
}

fn bars_of<'a>(of: &'a CloudFound, found: &'a Audited) -> Vec<BarRow<'a>> {
    let mut rows = Vec::new();
    for (dimension, bars) in found.audit.diagram.bars.iter().enumerate() {
        rows.extend(bars.iter().map(|bar| BarRow {
            of,
            found,
            whose: "cloud".to_owned(),
            dimension: dimension as u64,
            birth: Some(bar.birth),
            death: bar.death,
            persistence: bar.persistence(),
        }));
    }
    for null in &found.audit.nulls {
        rows.extend(null.maxima.iter().map(|&max| BarRow {
            of,
            found,
            whose: null.null.to_string(),
            dimension: 1,
            birth: None,
            death: None,
            persistence: Some(max),
        }));
    }
    rows
}

/// The columns that say of which cloud a row is.
fn places<T>(rows: &[T], of: impl Fn(&T) -> &CloudFound) -> Vec<Column> {
    let mut columns = vec![text("cloud", rows.iter().map(|row| of(row).cloud.clone()))];
    if rows.iter().any(|row| of(row).place.is_some()) {
        let column = |name, field: fn(&Place) -> &String| {
            text(
                name,
                rows.iter().map(|row| of(row).place.as_ref().map_or_else(String::new, |place| field(place).clone())),
            )
        };
        columns.extend([
            column("id", |place| &place.run),
            column("model", |place| &place.model),
            column("depth", |place| &place.depth),
            column("hook", |place| &place.hook),
            column("what", |place| &place.what),
        ]);
    }
    columns
}

fn test_columns(rows: &[TestRow<'_>]) -> Vec<Column> {
    let all = || rows.iter();
    let null = |at: usize| all().map(move |row| row.against.map(|(_, test)| test.null[at]));
    vec![
        text("metric", all().map(|row| row.found.metric.to_string())),
        text("filtration", all().map(|row| row.found.filtration.clone())),
        whole("points", all().map(|row| row.found.points as u64)),
        whole("rows", all().map(|row| row.found.rows as u64)),
        whole("dimensions", all().map(|row| row.found.components.unwrap_or(row.found.dimensions) as u64)),
        text("null", all().map(|row| row.against.map_or_else(|| "none".to_owned(), |(null, _)| null.null.to_string()))),
        whole("draws", all().map(|row| row.against.map_or(0, |(null, _)| null.draws as u64))),
        whole("seed", all().map(|row| row.found.seed)),
        numbers("alpha", all().map(|row| Some(row.found.alpha))),
        text("statistic", all().map(|row| row.statistic.name().to_owned())),
        numbers(
            "observed",
            all().map(|row| match row.against {
                Some((_, test)) => test.observed,
                None => row.statistic.of(&row.found.audit.statistics, row.found.audit.voids.as_ref()),
            }),
        ),
        numbers("null_p05", null(0)),
        numbers("null_median", null(1)),
        numbers("null_p95", null(2)),
        numbers("p", all().map(|row| row.against.map(|(_, test)| test.p))),
        numbers("p_adjusted", all().map(|row| row.against.map(|(_, test)| test.p_adjusted))),
        numbers("p_over_metrics", all().map(|row| row.found.p_over_metrics.filter(|_| row.statistic == Statistic::Pi))),
        numbers("ratio_author", all().map(|row| row.found.author.as_ref()?.ratio)),
        numbers("pi_of_quarters", all().map(|row| pi_of_parts(row, 4))),
        numbers("pi_of_halves", all().map(|row| pi_of_parts(row, 2))),
        numbers("recurrence", all().map(|row| recurrence(row).map(|of| of.found as f64 / of.parts as f64))),
        numbers("birth_sd", all().map(|row| recurrence(row)?.birth_sd)),
        numbers("death_sd", all().map(|row| recurrence(row)?.death_sd)),
        numbers("band_c", all().map(|row| Some(row.found.band.as_ref()?.c))),
    ]
}

/// The mean of π of parts that have all points over `share`: of the cloud, whatever the row's null.
fn pi_of_parts(row: &TestRow<'_>, share: usize) -> Option<f64> {
    let sizes = &row.found.growth.as_ref()?.sizes;
    Some(sizes.iter().find(|size| size.share == share)?.cloud.mean)
}

fn recurrence<'a>(row: &TestRow<'a>) -> Option<&'a Recurrence> {
    row.found.growth.as_ref()?.recurrence.as_ref()
}

fn bar_columns(rows: &[BarRow<'_>]) -> Vec<Column> {
    let all = || rows.iter();
    vec![
        text("metric", all().map(|row| row.found.metric.to_string())),
        whole("seed", all().map(|row| row.found.seed)),
        text("of", all().map(|row| row.whose.clone())),
        whole("dimension", all().map(|row| row.dimension)),
        numbers("birth", all().map(|row| row.birth)),
        numbers("death", all().map(|row| row.death)),
        numbers("persistence", all().map(|row| row.persistence)),
    ]
}
