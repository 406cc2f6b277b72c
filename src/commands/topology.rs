//! `assay topology`: is there more of a loop in a cloud of points than in clouds that have none?

mod files;
mod plot;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use assay_models::memory;
use assay_probes::topology::{
    Audit, AuthorRule, Draws, Filtration, Landmarks, Metric, Null, Pipeline, Statistic, audit, author_rule,
    over_metrics, subsample,
};
use assay_sae::formats;
use burn::tensor::{Device, Tensor};
use clap::ValueEnum;
use indicatif::DecimalBytes;
use ndarray::Array2;
use serde::Serialize;

use crate::files::{check_writable, write_atomic};
use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;
use crate::{cloud, fetch, output};

/// Ask whether a cloud of points has more of a loop than clouds without one.
///
/// Computes the persistent homology (Vietoris-Rips, Z/2) of the cloud, and of draws of nulls that keep something of it: its covariance,
/// its distribution along each principal axis, or its clusters. Each draw goes through the same steps as the cloud. A small p says that
/// there is more of a loop than in that null. A sphere passes as well, and a loop is no proof of a cyclic concept.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay topology tests/golden/topology/circle.npy\n  assay topology activations.npz --key layer_12 --metric euclidean,angular \\\n    --draws 999 --out results/loops\n  assay topology results/demo/saes/small-L3-k8 --what decoder --metric angular\n  assay topology cloud.npy --metric euclidean --nulls none --json"
)]
pub struct TopologyArgs {
    /// Points, one per row: numpy's .npy or .npz, safetensors, Parquet (a column of lists, or all numeric columns), or an SAE
    #[arg(value_name = "FILE|DIR|NAME")]
    cloud: PathBuf,
    /// Which array, tensor or column of the file
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Which points of an SAE
    #[arg(long, value_enum, default_value_t = What::Decoder)]
    what: What,
    /// How far points are apart: euclidean, cosine (1 − cos), angular (its arc), cityblock, chebyshev, jaccard or tanimoto; several are
    /// separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "euclidean")]
    metric: Vec<Metric>,
    /// The filtration: plain, dtm[:K] (distance to a measure) or resistance[:K] (on a graph of K neighbours)
    #[arg(long, value_name = "NAME", default_value = "plain")]
    filtration: Filtration,
    /// What to compare with: gaussian, axes (shuffled along each principal axis), columns, clusters[:K] (a Gaussian in each, which
    /// keeps a loop that runs through several), separated by commas; or none
    #[arg(long, value_name = "NAMES", default_value = "gaussian,axes")]
    nulls: String,
    /// Draws of each null; p is at least 1/(draws + 1)
    #[arg(long, value_name = "B", default_value_t = 199)]
    draws: usize,
    /// A claim needs every null's p at or below this
    #[arg(long, value_name = "ALPHA", default_value_t = 0.05)]
    alpha: f64,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Maximum number of rows; from more, this many are chosen at random
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rows: usize,
    /// Principal components to keep, about the mean, or all [default: 50 where there are nulls and the metric is neither of angles nor
    /// of sets, else all]
    #[arg(long, value_name = "K|all")]
    components: Option<String>,
    /// Choose this many landmarks, each farthest from those before it
    #[arg(long, value_name = "N")]
    landmarks: Option<usize>,
    /// Share of points, those farthest from their tenth neighbour, that is dropped before landmarks are chosen
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    trim: f64,
    /// Highest dimension of homology; 2 is for 300 points at most
    #[arg(long, value_name = "D", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    max_dim: u8,
    /// Longest edge [default: the enclosing radius, beyond which nothing happens]
    #[arg(long, value_name = "LENGTH")]
    threshold: Option<f64>,
    /// Also write topology.parquet (a row for each metric, null and statistic) and bars.parquet to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also draw the bars of dimension 1, with what 95 % of each null's draws stay below, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print JSON instead of tables: one object for each metric, in a list if there are several
    #[arg(long)]
    json: bool,
}

/// Whether a metric is of sets or counts, which a Gaussian is none of.
fn is_of_sets(metric: Metric) -> bool {
    matches!(metric, Metric::Jaccard | Metric::Tanimoto)
}

/// The nulls of the earlier rule, as far as they are of the metric.
fn author_nulls(metric: Metric) -> Vec<Null> {
    if is_of_sets(metric) { vec![Null::Columns] } else { vec![Null::Columns, Null::Gaussian] }
}

/// Points of an SAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// What each latent writes: the decoder's rows
    Decoder,
    /// What each latent reads: the encoder's columns
    Encoder,
}

/// What was found with one metric.
#[derive(Serialize)]
struct TopologyReport {
    metric: Metric,
    filtration: String,
    /// Points that bars were computed of, and their dimensions.
    points: usize,
    dimensions: usize,
    /// Rows that the file has.
    rows: usize,
    components: Option<usize>,
    landmarks: Option<usize>,
    draws: usize,
    seed: u64,
    alpha: f64,
    /// p of pi over all metrics together, the largest over nulls; without nulls there is none.
    p_over_metrics: Option<f64>,
    audit: Audit,
    author: Option<AuthorRule>,
}

/// Components that are kept by default.
const COMPONENTS: usize = 50;
/// Points up to which dimension 2 is computed.
const MOST_IN_DIMENSION_2: usize = 300;
/// Subsamples of the earlier rule.
const AUTHOR_RUNS: usize = 8;

impl TopologyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the cloud can't be read, is not one of the metric, is too large for the memory, or files can't be written.
    pub fn run(&self, progress: Progress) -> Result<()> {
        let nulls = self.nulls()?;
        self.check(&nulls)?;
        if let Some(out) = &self.out {
            files::check(out)?;
        }
        if let Some(plot) = &self.plot {
            check_writable(plot)?;
        }
        let whole = self.read(progress)?;
        let rows = whole.nrows();
        ensure!(
            rows > 0 && whole.ncols() > 0,
            "{} has no points: its shape is {:?}",
            self.cloud.display(),
            whole.dim()
        );
        let cloud = subsample(whole.view(), self.rows, self.seed);
        self.check_size(cloud.nrows(), !nulls.is_empty())?;
        interrupt::listen()?;
        let mut found = Vec::new();
        for &metric in &self.metric {
            let pipeline = self.pipeline(metric, cloud.ncols(), !nulls.is_empty())?;
            let draws = Draws { count: self.draws, seed: self.seed, ..Draws::default() };
            let mut stage = progress.stage(metric.name(), (nulls.len() * self.draws) as u64, "draws");
            let audit = audit(cloud.view(), &pipeline, &nulls, &draws, |done| -> Result<()> {
                stage.advance(done as u64, String::new);
                let stopped = || Interrupted {
                    saved: "nothing is written; the same command starts from the beginning".to_owned(),
                };
                if interrupt::requested() { Err(stopped().into()) } else { Ok(()) }
            });
            let audit = audit.with_context(|| format!("{}", self.cloud.display()))?;
            stage.finish("");
            let author = (!nulls.is_empty()).then(|| {
                let of = [AUTHOR_RUNS, cloud.nrows().div_ceil(2)];
                let pipeline = Pipeline { components: None, ..pipeline.clone() };
                author_rule(cloud.view(), &pipeline, &author_nulls(metric), of, self.seed)
            });
            found.push(TopologyReport {
                metric,
                filtration: self.filtration.to_string(),
                points: audit.points,
                dimensions: cloud.ncols(),
                rows,
                components: pipeline.components,
                landmarks: self.landmarks,
                draws: self.draws,
                seed: self.seed,
                alpha: self.alpha,
                p_over_metrics: None,
                audit,
                author: author.transpose()?,
            });
        }
        let audits: Vec<&Audit> = found.iter().map(|found| &found.audit).collect();
        if let Some(together) = over_metrics(&audits, Statistic::Pi) {
            found.iter_mut().zip(together).for_each(|(found, p)| found.p_over_metrics = Some(p));
        }
        if let Some(out) = &self.out {
            files::write(out, &self.cloud, &found)?;
        }
        if let Some(plot) = &self.plot {
            write_atomic(plot, plot::figure(&self.cloud, &found).svg()?.as_bytes())?;
        }
        output::result_line(if self.json { text::json(&found)? } else { text::tables(&self.cloud, &found) })
    }

    fn nulls(&self) -> Result<Vec<Null>> {
        if self.nulls == "none" {
            return Ok(Vec::new());
        }
        self.nulls.split(',').map(|name| name.trim().parse().map_err(anyhow::Error::msg)).collect()
    }

    /// What is wrong with the settings, before anything is read.
    fn check(&self, nulls: &[Null]) -> Result<()> {
        ensure!(nulls.is_empty() || self.draws > 0, "--draws 0: a null needs a draw; --nulls none leaves them out");
        if let Some(metric) = self.metric.iter().find(|&&metric| is_of_sets(metric)) {
            ensure!(
                nulls.iter().all(|null| *null == Null::Columns),
                "a draw of {} is none of the metric {metric}: give --nulls columns, or none",
                self.nulls
            );
        }
        ensure!((0.0..1.0).contains(&self.trim), "--trim {}: a share below 1 is expected", self.trim);
        ensure!(self.alpha > 0.0 && self.alpha < 1.0, "--alpha {}: a number between 0 and 1 is expected", self.alpha);
        let floor = 1.0 / (self.draws + 1) as f64;
        ensure!(
            nulls.is_empty() || floor <= self.alpha,
            "with --draws {} no p is below {floor:.3}, so none reaches --alpha {}; give --draws {} or more",
            self.draws,
            self.alpha,
            (1.0 / self.alpha).ceil() as usize - 1
        );
        ensure!(self.rows > 0 && self.landmarks != Some(0), "--rows and --landmarks are at least 1");
        if let Some(threshold) = self.threshold {
            ensure!(threshold >= 0.0, "--threshold {threshold}: a length is expected, 0 or more");
        }
        Ok(())
    }

    /// The matrix that was asked for.
    fn read(&self, progress: Progress) -> Result<Array2<f64>> {
        // Any archive of numpy may be an SAE; of those without its usual name it is not assumed here.
        let is_archive = self.cloud.extension().is_some_and(|e| e == "npz") && !self.cloud.ends_with("params.npz");
        let is_sae = formats::is_sae(&self.cloud) && !is_archive;
        if self.key.is_some() || self.cloud.is_file() && !is_sae {
            return cloud::read(&self.cloud, self.key.as_deref());
        }
        ensure!(
            self.cloud.exists() || !has_extension_of_points(&self.cloud),
            "there is no file {}",
            self.cloud.display()
        );
        let loaded = formats::load(&fetch::sae(&self.cloud, progress)?, &Device::flex())?;
        let [encoder, decoder] = loaded.sae.weights();
        let rows = match self.what {
            What::Decoder => decoder,
            What::Encoder => encoder,
        };
        as_f64(rows)
    }

    fn pipeline(&self, metric: Metric, width: usize, has_nulls: bool) -> Result<Pipeline> {
        let components = match self.components.as_deref() {
            Some("all") => None,
            Some(text) => {
                let count = text.parse().ok().filter(|&count: &usize| count > 0);
                Some(count.with_context(|| format!("--components {text}: a number above 0, or all, is expected"))?)
            }
            // Components are about the cloud's mean, and angles about the origin.
            None if has_nulls && !metric.is_angular() && !is_of_sets(metric) => Some(COMPONENTS),
            None => None,
        };
        let count = self.landmarks;
        Ok(Pipeline {
            components: components.filter(|&count| count < width),
            metric,
            filtration: self.filtration,
            landmarks: count.map(|count| Landmarks { count, trimmed: self.trim }),
            max_dim: usize::from(self.max_dim),
            threshold: self.threshold,
        })
    }

    /// Refuses what would take more memory than there is, or would not end.
    fn check_size(&self, rows: usize, has_nulls: bool) -> Result<()> {
        let points = self.landmarks.unwrap_or(rows).min(rows);
        ensure!(
            self.max_dim < 2 || points <= MOST_IN_DIMENSION_2,
            "--max-dim 2 of {points} points takes too long; choose {MOST_IN_DIMENSION_2} with --rows or --landmarks"
        );
        // Distances twice over, and of an activation-like cloud of 5000 points another 1.4 GiB of the engine's.
        let pairs = (rows * rows.saturating_sub(1) / 2) as u64;
        let at_once = if has_nulls { rayon::current_num_threads() as u64 } else { 1 };
        let needed = (pairs * 8 * 2 + (points * points) as u64 * 60) * at_once;
        let free = memory::free(&Device::flex());
        ensure!(
            free.is_none_or(|free| needed <= free),
            "{points} points take about {}, and {} are free; choose fewer with --rows or --landmarks",
            DecimalBytes(needed),
            DecimalBytes(free.unwrap_or(0))
        );
        Ok(())
    }
}

fn has_extension_of_points(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["npy", "npz", "parquet", "safetensors"].iter().any(|known| e == *known))
}

fn as_f64(matrix: Tensor<2>) -> Result<Array2<f64>> {
    let shape = matrix.dims();
    let values = matrix.into_data().convert::<f32>().try_into_vec::<f32>()?;
    Ok(Array2::from_shape_vec(shape, values.into_iter().map(f64::from).collect())?)
}
