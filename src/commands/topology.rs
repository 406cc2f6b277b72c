//! `assay topology`: is there more of a loop in a cloud of points than in clouds that have none?

mod text;

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result, bail, ensure};
use assay_models::memory;
use assay_probes::stats::Interval;
use assay_probes::topology::{AgainstNull, Filtration, Landmarks, Metric, Null, PiOfParts, Statistic, subsample};
use assay_sae::formats;
use burn::tensor::Device;
use clap::ValueEnum;
use indicatif::DecimalBytes;
use ndarray::{Array2, Axis};

use crate::files::{check_writable, write_atomic};
use crate::interrupt::{self, Interrupted};
use crate::progress::{Progress, duration};
use crate::report::figure::Figure;
use crate::report::growth::{self, GrowthPanel, Line};
use crate::report::loops::{Envelope, LoopPanel, figure as loop_figure};
use crate::spec::twice;
use crate::topology::{self, Audited, CloudFound, Components, Points, Settings, too_few_draws};
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
    #[arg(long, value_enum, default_value_t = SaeVectors::Decoder)]
    what: SaeVectors,
    /// Only points that have a label: a file of zeros and ones, a row a point and a column a label
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Which array, tensor or column of it
    #[arg(long, value_name = "NAME", requires = "labels")]
    labels_key: Option<String>,
    /// Which label: the number of its column, from 0
    #[arg(long, value_name = "N", default_value_t = 0, requires = "labels")]
    label: usize,
    /// How far points are apart: euclidean, cosine (1 − cos), angular (its arc), cityblock, chebyshev, jaccard or tanimoto; several are
    /// separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "euclidean")]
    metric: Vec<Metric>,
    /// The filtration: plain, dtm[:K] (distance to a measure), or on a graph of K neighbours geodesic[:K] (shortest paths) or resistance[:K]
    #[arg(long, value_name = "NAME", default_value = "plain")]
    filtration: Filtration,
    /// What to compare with: gaussian, axes (shuffled along each principal axis), columns (each shuffled), margins (zeros and
    /// ones with the same sums of rows and columns), clusters[:K] (a Gaussian in each, which keeps a loop that runs through several),
    /// labels (as many of all points, as of shuffled labels), separated by commas; or none
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
    /// Also draw how pi, the largest death/birth, grows from random quarters and halves to all points, beside the nulls', as SVG
    #[arg(long, value_name = "FILE")]
    plot_parts: Option<PathBuf>,
    /// Only say how many points there are and what time and memory they will take
    #[arg(long, conflicts_with_all = ["out", "plot", "plot_parts", "json"])]
    dry_run: bool,
    /// Print JSON instead of tables: one object for each metric, in a list if there are several
    #[arg(long)]
    json: bool,
}

/// Seconds from which on it is said how long it will take.
const WORTH_SAYING: f64 = 10.0;

/// Points of an SAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SaeVectors {
    /// What each latent writes: the decoder's rows
    Decoder,
    /// What each latent reads: the encoder's columns
    Encoder,
}

impl TopologyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the cloud can't be read, is not one of the metric, is too large for the memory, or files can't be written.
    pub fn run(&self, progress: Progress) -> Result<()> {
        let settings = self.settings()?;
        if let Some(out) = &self.out {
            topology::check_writable_in(out)?;
        }
        ensure!(
            self.plot_parts.is_none() || !settings.nulls.is_empty(),
            "--plot-parts: parts are looked at beside nulls; leave out --nulls none"
        );
        for plot in self.plot.iter().chain(&self.plot_parts) {
            check_writable(plot)?;
        }
        let whole = self.read(progress)?;
        ensure!(
            whole.nrows() > 0 && whole.ncols() > 0,
            "{} has no points: its shape is {:?}",
            self.cloud.display(),
            whole.dim()
        );
        let points = self.points(whole)?;
        let few = |null: &&Null| matches!(null, Null::Clusters { count } if *count >= points.cloud.nrows());
        if let Some(null) = settings.nulls.iter().find(few) {
            bail!(
                "--nulls {null}: with {} points each is a cluster of its own, and every draw the cloud itself; give fewer clusters",
                points.cloud.nrows()
            );
        }
        settings.check_size(points.rows, "--rows or --landmarks")?;
        interrupt::listen()?;
        if self.dry_run {
            return output::result_line(self.estimate(&settings, &points)?);
        }
        self.say_what_comes(&settings, &points, progress)?;
        let name = self.name();
        let mut found = Vec::new();
        for &metric in &self.metric {
            let draws = (settings.nulls.len() * self.draws) as u64;
            let mut stage = progress.stage(metric.name(), draws, "draws");
            let tick = |made| stage.advance(made as u64, String::new);
            let audited = settings.audit(metric, &points, tick).with_context(|| self.cloud.display().to_string())?;
            found.push(audited.ok_or_else(Interrupted::with_nothing_written)?);
            stage.finish("");
        }
        topology::together(&mut found);
        let text = if self.json { text::json(&found)? } else { text::tables(&name, &found) };
        if let Some(plot) = &self.plot {
            write_atomic(plot, figure(&self.title(), &found).svg()?.as_bytes())?;
        }
        if let Some(plot) = &self.plot_parts {
            write_atomic(plot, parts_figure(&self.title(), &found).svg()?.as_bytes())?;
        }
        if let Some(out) = &self.out {
            topology::write(out, &[CloudFound { cloud: name, place: None, found }])?;
        }
        output::result_line(text)
    }

    /// What the cloud is called.
    fn name(&self) -> String {
        self.labelled(&self.cloud)
    }

    /// The same without directories.
    fn title(&self) -> String {
        self.labelled(Path::new(self.cloud.file_name().unwrap_or(self.cloud.as_os_str())))
    }

    fn labelled(&self, cloud: &Path) -> String {
        let label = self.labels.as_ref().map(|path| format!(", label {} of {}", self.label, path.display()));
        format!("{}{}", cloud.display(), label.unwrap_or_default())
    }

    /// Those of the label, if one was given, and of them so many as were asked for.
    fn points(&self, whole: Array2<f64>) -> Result<Points> {
        let chosen = |from: &Array2<f64>| Arc::new(subsample(from.view(), self.rows, self.seed));
        let Some(path) = &self.labels else {
            return Ok(Points { cloud: chosen(&whole), rows: whole.nrows(), all: None });
        };
        let labels = cloud::read_labels(path, self.labels_key.as_deref(), &whole, &self.cloud)?;
        ensure!(
            self.label < labels.ncols(),
            "--label {}: the labels of {} are its columns 0 to {}",
            self.label,
            path.display(),
            labels.ncols() - 1
        );
        let of_label: Vec<usize> = (0..whole.nrows()).filter(|&row| labels[[row, self.label]]).collect();
        ensure!(!of_label.is_empty(), "no point has label {} of {}", self.label, path.display());
        let cloud = chosen(&whole.select(Axis(0), &of_label));
        Ok(Points { cloud, rows: of_label.len(), all: Some(Arc::new(whole)) })
    }

    /// How long it will take, where somebody would wait for it, and whether metrics are too many for the draws.
    fn say_what_comes(&self, settings: &Settings, points: &Points, progress: Progress) -> Result<()> {
        if settings.nulls.is_empty() {
            return Ok(());
        }
        let metrics = self.metric.len();
        if let Some(why) = too_few_draws(metrics, "metrics", self.draws, self.alpha, |name| format!("--{name}")) {
            progress.warn(&why);
        }
        if progress == Progress::Quiet {
            return Ok(());
        }
        let seconds: f64 = self.seconds(settings, points)?.iter().sum();
        if seconds >= WORTH_SAYING {
            progress.say(&format!(
                "about {} here, by a little of each null's draws; --rows chooses fewer points",
                duration(seconds)
            ));
        }
        Ok(())
    }

    /// About how long each metric takes.
    fn seconds(&self, settings: &Settings, points: &Points) -> Result<Vec<f64>> {
        let (settings, points, metrics) = (settings.clone(), points.clone(), self.metric.clone());
        let timed = move |_: &Sender<()>| -> Result<Vec<f64>> {
            metrics.iter().map(|&metric| settings.seconds(metric, points.cloud())).collect()
        };
        let timed = interrupt::unless_requested(timed, |()| {})?.ok_or_else(Interrupted::with_nothing_written)?;
        timed.with_context(|| self.cloud.display().to_string())
    }

    /// What `--dry-run` says.
    fn estimate(&self, settings: &Settings, points: &Points) -> Result<String> {
        let whole = points.cloud.nrows();
        let of = if whole < points.rows { format!(" of {}", points.rows) } else { String::new() };
        let landmarks = match settings.points_of(points.rows) {
            few if few < whole => format!(", for which {few} landmarks stand"),
            _ => String::new(),
        };
        let free = memory::free(&Device::flex());
        let mut text =
            format!("# {}\n\n{whole}{of} points in {} dimensions{landmarks}\n", self.name(), points.cloud.ncols());
        let _ = writeln!(
            text,
            "memory: up to about {}{}",
            DecimalBytes(settings.bytes(points.rows)),
            free.map_or_else(String::new, |free| format!("; {} are free", DecimalBytes(free)))
        );
        let what = match settings.nulls.len() {
            0 => "its bars alone".to_owned(),
            nulls => format!("up to {} draws", nulls * self.draws),
        };
        for (metric, seconds) in self.metric.iter().zip(self.seconds(settings, points)?) {
            let _ = writeln!(text, "time, {metric}: about {} here for {what}", duration(seconds));
        }
        text.push_str("\nThe time is carried on from fewer points of this cloud. Nothing was computed or written.");
        Ok(text)
    }

    fn nulls(&self) -> Result<Vec<Null>> {
        if self.nulls == "none" {
            return Ok(Vec::new());
        }
        let nulls: Result<Vec<Null>> =
            self.nulls.split(',').map(|name| name.trim().parse().map_err(anyhow::Error::msg)).collect();
        once("--nulls", nulls?)
    }

    fn settings(&self) -> Result<Settings> {
        ensure!((0.0..1.0).contains(&self.trim), "--trim {}: a share below 1 is expected", self.trim);
        if let Some(threshold) = self.threshold {
            ensure!(threshold >= 0.0, "--threshold {threshold}: a length is expected, 0 or more");
        }
        once("--metric", self.metric.clone())?;
        let components = self.components.as_deref().map_or(Ok(Components::Usual), str::parse);
        let settings = Settings {
            filtration: self.filtration,
            nulls: self.nulls()?,
            draws: self.draws,
            seed: self.seed,
            alpha: self.alpha,
            rows: self.rows,
            components: components.map_err(|e: String| anyhow::anyhow!("--components {e}"))?,
            landmarks: self.landmarks.map(|count| Landmarks { count, trimmed: self.trim }),
            max_dim: usize::from(self.max_dim),
            threshold: self.threshold,
        };
        settings.check(&self.metric, |name| format!("--{name}"))?;
        ensure!(
            self.labels.is_some() || !settings.nulls.contains(&Null::Labels),
            "--nulls labels: give --labels FILE, which says which points have a label"
        );
        Ok(settings)
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
            SaeVectors::Decoder => decoder,
            SaeVectors::Encoder => encoder,
        };
        cloud::as_f64(rows)
    }
}

/// Names that are given once each.
fn once<T: PartialEq + Display>(flag: &str, names: Vec<T>) -> Result<Vec<T>> {
    if let Some(name) = twice(&names) {
        bail!("{flag}: {name} is there twice");
    }
    Ok(names)
}

fn has_extension_of_points(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["npy", "npz", "parquet", "safetensors"].iter().any(|known| e == *known))
}

/// A panel a metric.
fn figure(name: &str, found: &[Audited]) -> Figure {
    let panel = |found: &Audited| LoopPanel {
        title: found.metric.to_string(),
        metric: None,
        bars: found.audit.diagram.bars.get(1).into_iter().flatten().map(|bar| (bar.birth, bar.death)).collect(),
        envelopes: found.audit.nulls.iter().map(envelope).collect(),
    };
    loop_figure(format!("Loops of {name}: bars of dimension 1"), &found.iter().map(panel).collect::<Vec<_>>())
}

fn envelope(null: &AgainstNull) -> Envelope {
    let upper = |s| null.tests.iter().find(|test| test.statistic == s).map(|test| test.null[2]);
    Envelope { null: null.null.to_string(), pi: upper(Statistic::Pi), max: upper(Statistic::Max) }
}

/// A panel a metric.
fn parts_figure(name: &str, found: &[Audited]) -> Figure {
    let panels: Vec<GrowthPanel> = found.iter().map(growth_panel).collect();
    growth::figure(format!("Largest death/birth of parts of {name}"), &panels)
}

/// Of parts of one size: their least and largest, and their mean.
fn of_parts(points: usize, parts: PiOfParts) -> (usize, Interval, f64) {
    (points, Interval { low: parts.least, high: parts.most }, parts.mean)
}

fn growth_panel(found: &Audited) -> GrowthPanel {
    let sizes = found.growth.as_ref().map_or(&[][..], |growth| &growth.sizes);
    let exactly = |pi: f64| (found.points, Interval { low: pi, high: pi }, pi);
    let cloud = sizes.iter().map(|size| of_parts(size.points, size.cloud));
    let of_null = |(at, null): (usize, &AgainstNull)| {
        let parts = sizes.iter().map(|size| of_parts(size.points, size.nulls[at]));
        let tests = null.tests.iter().filter(|test| test.statistic == Statistic::Pi);
        let whole = tests.map(|test| test.null).map(|[low, pi, high]| (found.points, Interval { low, high }, pi));
        (null.null.to_string(), parts.chain(whole).collect::<Line>())
    };
    GrowthPanel {
        title: found.metric.to_string(),
        cloud: cloud.chain(found.audit.statistics.pi.map(exactly)).collect(),
        nulls: found.audit.nulls.iter().enumerate().map(of_null).collect(),
    }
}
