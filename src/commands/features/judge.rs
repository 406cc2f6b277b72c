//! `--judge-url`: what a language model of the user's makes of latents.

use std::path::Path;

use anyhow::{Result, ensure};
use assay_probes::features::sample;
use clap::Args;
use serde::Serialize;

use super::made::Made;
use crate::features::Feature;
use crate::features::judge::{Calibration, Endpoint, Judged, Limits, Summary, requests, summary};
use crate::files::write_atomic;
use crate::markdown;

/// The judge's answers and what came of them, beside the store.
pub const JUDGE: &str = "judge.json";
/// Every answer as it came.
const ANSWERS: &str = "judge-answers";

/// How a judge is asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "A language model as the judge (off unless asked for)")]
pub struct JudgeArgs {
    /// Also have a language model describe latents, and decide by each description where it fits: a server that speaks OpenAI's chat
    /// completions, as llama.cpp, vLLM and Ollama do, by the address before /chat/completions, such as http://127.0.0.1:8080/v1. It has to do better than
    /// chance on sentences of which the answer is known. Answers are kept and not asked for again. A key is read from ASSAY_JUDGE_KEY
    #[arg(long, value_name = "URL", conflicts_with = "latent")]
    judge_url: Option<String>,
    /// Which of the server's models, if it has several
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_model: Option<String>,
    /// Latents that it is asked about, drawn at random among those that fire often enough to be explained
    #[arg(long, value_name = "N", default_value_t = 32, requires = "judge_url")]
    judge_latents: usize,
    /// Requests that this run may make; each has up to five excerpts of 32 tokens, or twenty
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "judge_url")]
    judge_requests: usize,
    /// Let the judge be on another machine, which is asked by https and gets excerpts of your text
    #[arg(long, requires = "judge_url")]
    judge_remote: bool,
}

/// What `judge.json` says.
#[derive(Serialize)]
pub struct JudgeReport {
    url: String,
    model: String,
    calibration: Calibration,
    /// `None` if fewer than two latents have all scores.
    summary: Option<Summary>,
    latents: Vec<Judged>,
}

impl JudgeArgs {
    /// The judge, if one is named, before any work is done that it may be the end of.
    ///
    /// # Errors
    /// If it can't be asked.
    pub fn open(&self, out: &Path) -> Result<Option<Endpoint>> {
        let Some(url) = &self.judge_url else { return Ok(None) };
        ensure!(
            self.judge_latents > 1,
            "--judge-latents {}: at least 2, as the description of one stands beside the other",
            self.judge_latents
        );
        let limits = Limits { remote: self.judge_remote, requests: self.judge_requests };
        Endpoint::open(url, self.judge_model.as_deref(), out.join(ANSWERS), limits).map(Some)
    }

    /// Asks the judge about some latents, and writes what came of it.
    ///
    /// # Errors
    /// If the judge can't be asked or is no better than chance, the work is interrupted, or if the file can't be written.
    pub(super) fn run(
        &self,
        judge: &Endpoint,
        made: &Made<'_>,
        features: &[Feature],
        out: &Path,
        saved: &str,
    ) -> Result<JudgeReport> {
        let explained: Vec<usize> = features.iter().filter(|f| !f.described.is_empty()).map(|f| f.latent).collect();
        ensure!(
            explained.len() > 1,
            "--judge-url: fewer than two latents fire often enough to be judged; give more tokens"
        );
        let drawn = sample(explained, self.judge_latents);
        let most = requests(drawn.len());
        // Five excerpts of 32 tokens and the words around them are about 400.
        made.progress.say(&format!(
            "{} at {} is asked {most} times about {} latents, about {} thousand tokens in all; what it has answered before is not asked again",
            judge.model(),
            judge.url(),
            drawn.len(),
            (most * 400).div_ceil(1000)
        ));
        let mut stage = made.progress.stage("judge", most as u64, "requests");
        let (calibration, latents) = made.judged(judge, features, &drawn, &mut stage, saved)?;
        stage.finish("");
        let (url, model) = (judge.url().to_owned(), judge.model().to_owned());
        let report = JudgeReport { url, model, calibration, summary: summary(&latents), latents };
        write_atomic(&out.join(JUDGE), serde_json::to_string_pretty(&report)?.as_bytes())?;
        Ok(report)
    }
}

impl JudgeReport {
    /// Its sentences and table for the terminal.
    pub fn text(&self) -> String {
        let Calibration { right, of, shuffled, .. } = self.calibration;
        let unread: usize = self.latents.iter().map(|of| of.unread).sum();
        let windows: usize = self.latents.iter().map(|of| 2 * of.windows).sum();
        let head = format!(
            "The judge {} decides {right} of {of} known sentences rightly by their own descriptions, {shuffled} by others. Of {windows} windows of {} latents \
             it gave {unread} no answer that can be read, which count as wrong ({JUDGE} has every latent's description).",
            self.model,
            self.latents.len()
        );
        let Some(summary) = &self.summary else { return format!("{head}\n") };
        let mut table = markdown::Table::new(["balanced accuracy on held-out windows", "mean", "95 % interval"]);
        for (name, of) in [
            ("by the judge's description", summary.balanced_accuracy),
            ("by its description of another latent", summary.other),
            ("the first less the second", summary.beyond_other),
            ("by the tokens that the latent fires on, without a judge", summary.tokens),
            ("the first less that", summary.beyond_tokens),
        ] {
            table.row([name.to_owned(), markdown::score(of.value), markdown::interval(of.interval)]);
        }
        format!("{head}\n\n{table}\nMeans over {} latents, which the intervals resample.\n", summary.latents)
    }
}
