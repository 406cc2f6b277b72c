//! Tests of loops in clouds, read back from `topology.parquet` and `bars.parquet` of a sweep.

use std::path::Path;

use anyhow::Result;

use super::parquet::Frame;
use super::{BARS, LOOPS};

/// What was found of clouds, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loops {
    /// A row a test.
    pub tests: Vec<LoopTest>,
    /// A row a bar of a cloud in dimension 1.
    pub bars: Vec<LoopBar>,
}

/// One statistic of a cloud in one metric against one null.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopTest {
    /// What the cloud is called.
    pub cloud: String,
    /// `decoder`, `encoder` or `activations`.
    pub what: String,
    /// The model.
    pub model: String,
    /// Name of the depth.
    pub depth: String,
    /// The metric.
    pub metric: String,
    /// The seed of rows and draws.
    pub seed: u64,
    /// Points.
    pub points: u64,
    /// The null, or `none`.
    pub null: String,
    /// `pi`, `max` and others.
    pub statistic: String,
    /// Of the cloud.
    pub observed: Option<f64>,
    /// The 95th percentile of the null's draws.
    pub null_p95: Option<f64>,
    /// By this statistic, metric and null alone.
    pub p: Option<f64>,
    /// Of pi, over all metrics, the largest over nulls.
    pub p_over_metrics: Option<f64>,
    /// The earlier rule's ratio.
    pub ratio_author: Option<f64>,
    /// The level that was asked for.
    pub alpha: f64,
}

/// A bar of a cloud in dimension 1.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopBar {
    /// What the cloud is called.
    pub cloud: String,
    /// The metric.
    pub metric: String,
    /// The seed of rows.
    pub seed: u64,
    /// Where it is born.
    pub birth: f64,
    /// Where it dies, if it does.
    pub death: Option<f64>,
}

/// Reads them; nothing where a sweep asked for none.
pub(super) fn read_loops(results: &Path) -> Result<Loops> {
    if !results.join(LOOPS).exists() {
        return Ok(Loops::default());
    }
    let frame = Frame::open(&results.join(LOOPS))?;
    let names = ["cloud", "what", "model", "depth", "metric", "null", "statistic"];
    let texts = names.map(|name| frame.text(name));
    let [clouds, whats, models, depths, metrics, nulls, statistics] = texts;
    let (clouds, whats, models, depths) = (clouds?, whats?, models?, depths?);
    let (metrics, nulls, statistics) = (metrics?, nulls?, statistics?);
    let (seeds, points) = (frame.whole("seed")?, frame.whole("points")?);
    let (observed, null_p95, p) = (frame.numbers("observed")?, frame.numbers("null_p95")?, frame.numbers("p")?);
    let (together, ratios) = (frame.numbers("p_over_metrics")?, frame.numbers("ratio_author")?);
    let alphas = frame.numbers("alpha")?;
    let test = |row: usize| LoopTest {
        cloud: clouds[row].clone(),
        what: whats[row].clone(),
        model: models[row].clone(),
        depth: depths[row].clone(),
        metric: metrics[row].clone(),
        seed: seeds[row],
        points: points[row],
        null: nulls[row].clone(),
        statistic: statistics[row].clone(),
        observed: observed[row],
        null_p95: null_p95[row],
        p: p[row],
        p_over_metrics: together[row],
        ratio_author: ratios[row],
        alpha: alphas[row].unwrap_or(f64::NAN),
    };
    Ok(Loops { tests: (0..frame.height()).map(test).collect(), bars: read_bars(results)? })
}

fn read_bars(results: &Path) -> Result<Vec<LoopBar>> {
    let frame = Frame::open(&results.join(BARS))?;
    let (clouds, metrics, of) = (frame.text("cloud")?, frame.text("metric")?, frame.text("of")?);
    let (seeds, dimensions) = (frame.whole("seed")?, frame.whole("dimension")?);
    let (births, deaths) = (frame.numbers("birth")?, frame.numbers("death")?);
    let bar = |row: usize| {
        let birth = births[row].filter(|_| of[row] == "cloud" && dimensions[row] == 1)?;
        let (cloud, metric) = (clouds[row].clone(), metrics[row].clone());
        Some(LoopBar { cloud, metric, seed: seeds[row], birth, death: deaths[row] })
    };
    Ok((0..frame.height()).filter_map(bar).collect())
}
