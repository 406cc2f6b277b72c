//! `assay groups`: latents whose decoder rows are alike, and whether they are one feature of several dimensions.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};
use assay_probes::latents::nearest_decoder_rows;
use assay_probes::topology::{Plane, linked, planes, spectral};
use ndarray::Array2;
use serde::Serialize;

use super::contexts::{ALL_SEQUENCES, ContextArgs, whole};
use crate::features::terminal::token;
use crate::inside::{Group, ModelWithSae, Read};
use crate::interrupt::{self, Interrupted};
use crate::markdown::{Table, number};
use crate::progress::Progress;
use crate::{device, fetch, output};

/// Find groups of latents that may be one feature of several dimensions, such as the days of a week.
///
/// Latents with similar decoder rows form a group. What the latents of a group write together, on tokens where any of them fires, is
/// examined in the planes of neighbouring principal components (Engels et al. 2024). Separability is the least information, in bits,
/// that one coordinate has about the other, over all rotations of the plane: it is 0 for two independent features. Mixture is the share
/// of tokens on a line: it is large where a feature is mostly absent. Groups are listed by the product of separability and 1 − mixture,
/// each the mean over planes.
#[derive(clap::Args, Debug)]
#[command(
    mut_arg("sequences", |of| of.help(ALL_SEQUENCES)),
    after_help = "Examples:\n  assay groups --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tokens models/bundled/eval.parquet --context-size 128\n  assay groups --model models/bundled/small --sae tests/golden/eval-small/L3_k8 --by spectral:100 \\\n    --tokens models/bundled/eval.parquet --context-size 128 --json"
)]
pub struct GroupsArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    /// SAE: a path, or a name on the hub or of `assay saes`; it names its hook
    #[arg(long, value_name = "DIR|NAME")]
    sae: PathBuf,
    #[command(flatten)]
    contexts: ContextArgs,
    /// How rows are grouped: linked[:COSINE] (each with its two nearest whose cosine is above that) or spectral:N (N clusters by the angles of
    /// all pairs; for some thousand latents)
    #[arg(long, value_name = "NAME", default_value = "linked:0.5")]
    by: By,
    /// Groups to examine, the largest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole(1, 100_000, "a group is looked at"))]
    groups: u64,
    /// Maximum latents per group: long chains of rows that join everything are no feature
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = whole(2, 1_000_000, "a group has two latents"))]
    largest: u64,
    /// Tokens per group to examine, chosen at random
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole(2, 1_000_000, "a plane has two points"))]
    rows: u64,
    /// Leave out groups that fire on fewer tokens: with few points separability is large by chance, 81/(2n ln 2) bits with n points
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = whole(2, 1_000_000, "a plane has two points"))]
    least: u64,
    /// Seed of k-means and of the choice of tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How rows are grouped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Linked(f64),
    Spectral(usize),
}

/// Nearest rows that a row may be linked with, as in Engels et al.
const NEAREST: usize = 2;
/// A Laplacian of more rows than this takes more than 2 GB and an hour.
const MOST_SPECTRAL: usize = 8192;
/// Tokens and latents of a row of the table.
const SHOWN: usize = 6;

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("linked", None) => return Ok(Self::Linked(0.5)),
            ("linked", Some(value)) => {
                if let Some(cosine) = value.parse().ok().filter(|cosine| (-1.0..1.0).contains(cosine)) {
                    return Ok(Self::Linked(cosine));
                }
            }
            ("spectral", Some(value)) => {
                if let Some(count) = value.parse().ok().filter(|&count| count > 0) {
                    return Ok(Self::Spectral(count));
                }
            }
            _ => {}
        }
        Err(format!(
            "`{text}`: linked[:COSINE], a cosine from -1 up to 1, or spectral:N, a number above 0, is expected"
        ))
    }
}

/// What was found of a group.
#[derive(Serialize)]
struct Row {
    latents: Vec<usize>,
    /// The mean cosine of pairs of decoder rows.
    cosine: Option<f64>,
    /// Tokens on which any fires.
    tokens: usize,
    /// Means over planes.
    separability: f64,
    mixture: f64,
    /// separability · (1 − mixture)
    score: f64,
    planes: Vec<Plane>,
    /// Where it fires most often.
    often: Vec<(String, usize)>,
}

#[derive(Serialize)]
struct GroupsReport {
    model: String,
    sae: String,
    hook: String,
    latents: usize,
    /// Groups of two latents or more.
    groups: usize,
    /// Those that were looked at.
    read: usize,
    /// Of these, those that fired on too few tokens.
    silent: usize,
    contexts: usize,
    seed: u64,
    found: Vec<Row>,
}

impl GroupsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model, the SAE or the tokens are unusable or don't belong together.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let device = device::open(device_name)?.device;
        let checkpoint = fetch::model(&self.model, progress)?;
        let inside = ModelWithSae::open(&checkpoint, fetch::sae(&self.sae, progress)?, &device)?;
        inside.doubts().iter().for_each(|doubt| progress.warn(doubt));
        let (source, sequences) = self.contexts.open(inside.config(), &checkpoint, None)?;
        // A signal ends this at once: nothing is written.
        let all = self.grouped(&inside)?;
        interrupt::listen()?;
        let mut chosen = all.clone();
        chosen.retain(|group| group.len() as u64 <= self.largest);
        chosen.truncate(self.groups as usize);
        let batch = self.contexts.batch(source.context_size(), inside.config().vocab_size);
        let read = Read { sequences, batch, rows: self.rows as usize, often: SHOWN, seed: self.seed };
        let mut stage = progress.stage("read", sequences as u64, "contexts");
        let gathered = inside.groups(&chosen, &source, read, |done| {
            stage.advance(done, String::new);
            if interrupt::requested() {
                return Err(Interrupted::with_nothing_written().into());
            }
            Ok(())
        })?;
        stage.finish("");
        let (enough, silent): (Vec<Group>, Vec<Group>) =
            gathered.into_iter().partition(|group| group.tokens as u64 >= self.least);
        let rows = enough.into_iter().filter_map(|group| row(&inside, group).transpose());
        let mut found = rows.collect::<Result<Vec<Row>>>()?;
        // Of equals the larger group, which comes first.
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let found = GroupsReport {
            model: self.model.display().to_string(),
            sae: self.sae.display().to_string(),
            hook: inside.hook().to_string(),
            latents: inside.latents(),
            groups: all.len(),
            read: chosen.len(),
            silent: silent.len(),
            contexts: sequences,
            seed: self.seed,
            found,
        };
        output::result_line(if self.json { serde_json::to_string_pretty(&found)? } else { found.text() })
    }

    fn grouped(&self, inside: &ModelWithSae) -> Result<Vec<Vec<usize>>> {
        match self.by {
            By::Linked(cosine) => Ok(linked(&nearest_decoder_rows(inside.sae(), NEAREST), cosine)),
            By::Spectral(count) => {
                let latents = inside.latents();
                ensure!(
                    latents <= MOST_SPECTRAL,
                    "--by spectral: {latents} latents take too long, {MOST_SPECTRAL} are the most; give --by linked"
                );
                let [_, rows] = inside.sae().weights();
                let shape = rows.dims();
                let values = rows.into_data().convert::<f32>().try_into_vec::<f32>()?;
                let rows = Array2::from_shape_vec(shape, values.into_iter().map(f64::from).collect())?;
                spectral(rows.view(), count, self.seed).context("the decoder's rows")
            }
        }
    }
}

/// The indices of a group; `None` where its points have no plane.
fn row(inside: &ModelWithSae, group: Group) -> Result<Option<Row>> {
    let planes = planes(group.points.view(), 0.0)?;
    if planes.is_empty() {
        return Ok(None);
    }
    let mean = |of: fn(&Plane) -> f64| planes.iter().map(of).sum::<f64>() / planes.len() as f64;
    let (separability, mixture) = (mean(|plane| plane.separability), mean(|plane| plane.mixture));
    Ok(Some(Row {
        cosine: inside.mean_cosine(&group.latents)?,
        latents: group.latents,
        tokens: group.tokens,
        separability,
        mixture,
        score: separability * (1.0 - mixture),
        planes,
        often: group.often,
    }))
}

impl GroupsReport {
    fn text(&self) -> String {
        let mut table =
            Table::new(["latents", "cosine", "tokens", "separability", "mixture", "score", "fires most often on"]);
        for row in &self.found {
            let first: Vec<String> = row.latents.iter().take(SHOWN).map(usize::to_string).collect();
            let more = row.latents.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let often: Vec<String> = row.often.iter().map(|(text, count)| format!("{} {count}", token(text))).collect();
            table.row([
                format!("{}{more}", first.join(", ")),
                number(row.cosine),
                row.tokens.to_string(),
                number(Some(row.separability)),
                number(Some(row.mixture)),
                number(Some(row.score)),
                often.join("  "),
            ]);
        }
        format!(
            "{} of {} groups of {} latents at {}; {} of them fire on too few tokens.\n\n{table}\nNot claimed: that a group of high score is a circle, or one \
             feature. `assay cloud --latents … --what reconstruction` writes its points, and `assay topology` asks for loops.",
            self.read, self.groups, self.latents, self.hook, self.silent
        )
    }
}
