//! `assay utility`: does the topology of a point's neighbourhood add to what its geometry says of labels?

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result, ensure};
use assay_probes::topology::{
    Metric, Splits, Surroundings, Undefined, Utility, principal_scores, random_projection, utility,
};
use ndarray::{Array2, Axis};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::contexts::whole;
use crate::interrupt::{self, Interrupted};
use crate::markdown::{Table, number};
use crate::progress::Progress;
use crate::{cloud, output};

/// Ask whether the topology of neighbourhoods adds to what their geometry says of labels.
///
/// Of each point and its nearest neighbours nine numbers of distances and variances are taken, and five of the bars of their persistent homology in dimension 1.
/// From them a ridge regression predicts how alike the labels of the point and its neighbours are, and how mixed the neighbours' are. Clusters of the neighbour graph are never split
/// between fitting and testing, as neighbourhoods overlap. Five more columns gain a little by chance: so rows of a cluster exchange their topology,
/// and p says how often they gain as much. With --beside the same is asked of other values of the same points, brought to as many dimensions by PCA and by a random projection.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay utility activations.npy --labels labels.npy\n  assay utility activations.npz --key layer_12 --labels labels.npz --labels-key topics \\\n    --beside counts.npy --metric angular --json"
)]
pub struct UtilityArgs {
    /// Points, one a row: numpy's .npy or .npz, safetensors or Parquet
    #[arg(value_name = "FILE")]
    cloud: PathBuf,
    /// Which array, tensor or column of it
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Labels, a row a point and a column a label, 0 where it is not there: a file of the same kinds
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// Which array, tensor or column of it
    #[arg(long, value_name = "NAME")]
    labels_key: Option<String>,
    /// Other values of the same points, as counts of words: their principal components and a random projection are asked beside the cloud
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// Which array, tensor or column of it
    #[arg(long, value_name = "NAME", requires = "beside")]
    beside_key: Option<String>,
    /// How far points are apart: euclidean, cosine, angular, cityblock or chebyshev
    #[arg(long, value_name = "NAME", default_value = "euclidean")]
    metric: Metric,
    /// Neighbours of a point
    #[arg(long, value_name = "K", default_value_t = 40, value_parser = whole(3, 10_000, "a loop has four points"))]
    neighbours: u64,
    /// Points at most; of more, so many are chosen at random
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole(10, 20_000, "folds need points"))]
    rows: u64,
    /// Clusters of the neighbour graph
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = whole(2, 10_000, "there are two folds"))]
    clusters: u64,
    /// Folds, each of whole clusters
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole(2, 1000, "one is fitted and one tested"))]
    folds: u64,
    /// Times that points are clustered and dealt out anew
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole(1, 1000, "there is a split"))]
    repeats: u64,
    /// Times that points of a cluster exchange their topology; p is at least 1/(N + 1)
    #[arg(long, value_name = "N", default_value_t = 199, value_parser = whole(1, 1_000_000, "p needs one"))]
    draws: u64,
    /// Everything random follows from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// What was found of one representation of the points.
#[derive(Serialize)]
struct UtilityOfRepresentation {
    representation: String,
    dimensions: usize,
    targets: Vec<Utility>,
}

#[derive(Serialize)]
struct UtilityReport {
    metric: Metric,
    points: usize,
    rows: usize,
    labels: usize,
    neighbours: u64,
    splits: Splits,
    found: Vec<UtilityOfRepresentation>,
}

impl UtilityArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If a file can't be read, files have different numbers of rows, there are too few points, or somebody interrupts.
    pub fn run(&self, progress: Progress) -> Result<()> {
        let whole = cloud::read(&self.cloud, self.key.as_deref())?;
        cloud::check_rows(&self.cloud, &whole, &whole, &self.cloud)?;
        let labels = cloud::read_labels(&self.labels, self.labels_key.as_deref(), &whole, &self.cloud)?;
        let beside = self.beside.as_ref().map(|path| cloud::read(path, self.beside_key.as_deref())).transpose()?;
        if let (Some(path), Some(beside)) = (&self.beside, &beside) {
            cloud::check_rows(path, beside, &whole, &self.cloud)?;
        }
        let count = (self.rows as usize).min(whole.nrows());
        ensure!(
            count as u64 > self.neighbours,
            "--neighbours {} needs {} points, and there are {count}; give fewer neighbours{}",
            self.neighbours,
            self.neighbours + 1,
            if count < whole.nrows() { ", or more --rows" } else { "" }
        );
        // The same rows of all.
        let mut rows = sample(&mut ChaCha8Rng::seed_from_u64(self.seed), whole.nrows(), count).into_vec();
        rows.sort_unstable();
        let chosen = |matrix: &Array2<f64>| matrix.select(Axis(0), &rows);
        let (points, labels) = (chosen(&whole), labels.select(Axis(0), &rows));
        let dimensions = points.ncols();
        let mut representations = vec![(self.cloud.display().to_string(), points)];
        if let (Some(path), Some(beside)) = (&self.beside, &beside) {
            let (name, beside) = (path.display(), chosen(beside));
            representations
                .push((format!("{name}, principal components"), principal_scores(beside.view(), dimensions)?));
            let projected = random_projection(beside.view(), dimensions, self.seed);
            representations.push((format!("{name}, random projection"), projected));
        }
        interrupt::listen()?;
        let splits = Splits {
            clusters: self.clusters as usize,
            folds: self.folds as usize,
            repeats: self.repeats as usize,
            permutations: self.draws as usize,
            seed: self.seed,
        };
        let mut found = Vec::new();
        for (representation, points) in representations {
            let dimensions = points.ncols();
            let targets = self.asked(&representation, points, &labels, &splits, progress);
            let targets = targets.with_context(|| representation.clone())?;
            found.push(UtilityOfRepresentation { representation, dimensions, targets });
        }
        let report = UtilityReport {
            metric: self.metric,
            points: count,
            rows: whole.nrows(),
            labels: labels.ncols(),
            neighbours: self.neighbours,
            splits,
            found,
        };
        output::result_line(if self.json { serde_json::to_string_pretty(&report)? } else { report.tables() })
    }

    fn asked(
        &self,
        representation: &str,
        points: Array2<f64>,
        labels: &Array2<bool>,
        splits: &Splits,
        progress: Progress,
    ) -> Result<Vec<Utility>> {
        let mut stage = progress.stage(representation, 4, "steps");
        let (labels, splits) = (labels.clone(), splits.clone());
        let (metric, neighbours) = (self.metric, self.neighbours as usize);
        let work = move |said: &Sender<()>| -> Result<Vec<Utility>> {
            let mut done = || said.send(()).context("nobody waits for the rest");
            let surroundings = Surroundings::of(points.view(), metric, neighbours)?;
            done()?;
            utility(&surroundings, labels.view(), &splits, &mut done)
        };
        let found = interrupt::unless_requested(work, |()| stage.advance(1, String::new))?;
        let found = found.ok_or_else(Interrupted::with_nothing_written)??;
        stage.finish("");
        Ok(found)
    }
}

impl UtilityReport {
    fn tables(&self) -> String {
        let Splits { clusters, folds, repeats, permutations, .. } = self.splits;
        let mut table = Table::new([
            "representation",
            "target",
            "rows",
            "R²: geometry",
            "topology",
            "both",
            "gain",
            "splits > 0",
            "gain in rank correlation",
            "exchanged: 5 %, median, 95 %",
            "p",
        ]);
        let mut undefined = String::new();
        for found in &self.found {
            for of in &found.targets {
                if let Some(why) = of.undefined {
                    let (target, of) = (of.target.name(), &found.representation);
                    let _ = write!(undefined, "\n- {target} of {of}: {}", why_undefined(why));
                }
                let r2 = |at: usize| number(of.r2.map(|r2| r2[at]));
                let permuted = of.permuted.map(|values| values.map(|value| number(Some(value))).join(", "));
                table.row([
                    format!("{} ({} dimensions)", found.representation, found.dimensions),
                    of.target.name().to_owned(),
                    of.rows.to_string(),
                    r2(0),
                    r2(1),
                    r2(2),
                    number(of.gain),
                    number(of.share_positive),
                    number(of.gain_spearman),
                    permuted.unwrap_or_else(|| number(None)),
                    number(of.p),
                ]);
            }
        }
        if !undefined.is_empty() {
            undefined.insert_str(0, "\n\nNothing can be said where — stands:\n");
        }
        format!(
            "{} of {} points with {} labels, {} neighbours each, metric {}; {folds} folds of whole clusters ({clusters} at most), {repeats} times; {permutations} exchanges within clusters.\n\n{table}\n\
             Gain: R²(both) − R²(geometry), the mean over splits. Three targets of each representation are tested, and no p is corrected for that. A gain says that bars of neighbourhoods \
             go with how labels lie, not that there is a loop or that a loop is why.{undefined}",
            self.points, self.rows, self.labels, self.neighbours, self.metric
        )
    }
}

fn why_undefined(why: Undefined) -> &'static str {
    match why {
        Undefined::NoRows => "it is defined for no point, as none has a label",
        Undefined::Constant => {
            "it is the same at every point, so that there is nothing to predict; give labels that vary"
        }
        Undefined::NoSplit => {
            "no fold has points to fit it on and others among which it varies; give more points, or fewer --clusters or --folds"
        }
    }
}
