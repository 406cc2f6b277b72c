//! Explanations by a language model, and the same language model as the judge of them: off unless it is asked for.
//!
//! - `endpoint.rs`: a server that speaks the chat completions of OpenAI's API, as llama.cpp, vLLM and Ollama do; its answers are kept.
//! - `prompts.rs`: what it is asked, and what its answers may be.
//! - `calibration.rs`: descriptions of which it is known where they fit. A judge that does not know is not asked further.
//!
//! The protocol is detection (Paulo et al. 2024, "Automatically Interpreting Millions of Features in Large Language Models"): a description made from windows of some documents
//! is to tell windows of other documents in which the latent fires from others, up to half of which have a token that it fires on. Beside it stand the
//! description of another latent on the same windows, and what the tokens that the latent fires on tell without a language model.

mod calibration;
mod endpoint;
mod prompts;

use anyhow::{Result, ensure};
use assay_probes::features::explanation::{Classes, Example, Explanation, detect};
use assay_probes::stats::{Estimate, Resamples, mean};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub use self::calibration::Calibration;
pub use self::endpoint::{Endpoint, KEY, Limits};
use self::prompts::{MOST_WINDOWS, description, detection};
use crate::interrupt::{self, Interrupted};
use crate::progress::Stage;

/// Windows of each kind that a description is made from, and of each kind that it is scored on, at most.
const SHOWN: usize = 20;
/// Resamples of latents for intervals, their level and seed.
const BOOTSTRAP: (usize, f64, u64) = (10_000, 0.95, 0);

/// A latent's windows, and an explanation of it without a language model.
pub struct Judgeable {
    /// Which latent.
    pub latent: usize,
    /// Windows to explain by.
    pub by: Vec<Example>,
    /// Windows of other documents.
    pub held_out: Vec<Example>,
    /// The tokens that it fires on.
    pub tokens: Option<Explanation>,
}

/// What the judge makes of a latent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Which latent.
    pub latent: usize,
    /// The judge's description of it; `None` where its answer had none.
    pub description: Option<String>,
    /// The mean of the shares of both kinds of windows that the judge tells right by the description. An answer that can't be read is wrong.
    pub balanced_accuracy: Option<f64>,
    /// The same by the description of another latent, the next one that was drawn.
    pub other: Option<f64>,
    /// The same on the same windows by the tokens that the latent fires on, without a language model.
    pub tokens: Option<f64>,
    /// Windows that it was scored on.
    pub windows: usize,
    /// Those of them, with either description, for which there was no answer that could be read.
    pub unread: usize,
}

/// Means over latents, with intervals that resample latents.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Latents that have all three scores, over which the means are taken.
    pub latents: usize,
    /// Of the judge's descriptions.
    pub balanced_accuracy: Estimate,
    /// Of those of other latents.
    pub other: Estimate,
    /// The first less the second.
    pub beyond_other: Estimate,
    /// Of the tokens that a latent fires on.
    pub tokens: Estimate,
    /// The first less that.
    pub beyond_tokens: Estimate,
}

/// Requests that some latents take at most, with those of the calibration.
pub fn requests(latents: usize) -> usize {
    calibration::requests() + latents * (1 + 2 * (2 * SHOWN).div_ceil(MOST_WINDOWS))
}

/// Calibrates the judge, has it describe each latent, and scores the descriptions. `token` says how a token reads.
///
/// # Errors
/// If the judge can't be asked or is none better than chance on what is known, or the work is interrupted.
pub fn judged(
    endpoint: &Endpoint,
    latents: &[Judgeable],
    token: &impl Fn(u32) -> String,
    classes: &Classes,
    stage: &mut Stage,
    saved: &str,
) -> Result<(Calibration, Vec<Judged>)> {
    let calibration = Calibration::of(endpoint, stage, saved)?;
    calibration.check(endpoint.model())?;
    let mut descriptions = Vec::with_capacity(latents.len());
    for of in latents {
        let firing: Vec<String> =
            of.by.iter().filter(|window| window.is_active()).take(SHOWN).map(|window| marked(window, token)).collect();
        descriptions.push(description(endpoint, &firing)?);
        go_on(stage, saved)?;
    }
    let mut found = Vec::with_capacity(latents.len());
    for (at, of) in latents.iter().enumerate() {
        let windows = scored_on(of);
        let texts: Vec<String> = windows.iter().map(|window| plain(window, token)).collect();
        let is_active: Vec<bool> = windows.iter().map(Example::is_active).collect();
        let mut unread = 0;
        let mut score = |description: Option<&String>| -> Result<Option<f64>> {
            let Some(description) = description else { return Ok(None) };
            let answers = detected(endpoint, description, &texts, stage, saved)?;
            unread += answers.iter().filter(|answer| answer.is_none()).count();
            Ok(balanced_accuracy(&answers, &is_active))
        };
        let own = score(descriptions[at].as_ref())?;
        let other = if latents.len() > 1 { descriptions[(at + 1) % latents.len()].as_ref() } else { None };
        let other = score(other)?;
        let tokens = of.tokens.as_ref().and_then(|tokens| detect(tokens, &of.by, &windows, classes).balanced_accuracy);
        found.push(Judged {
            latent: of.latent,
            description: descriptions[at].clone(),
            balanced_accuracy: own,
            other,
            tokens,
            windows: windows.len(),
            unread,
        });
    }
    Ok((calibration, found))
}

/// Means of the scores; `None` if fewer than two latents have them all.
pub fn summary(judged: &[Judged]) -> Option<Summary> {
    let whole = |of: &Judged| Some([of.balanced_accuracy?, of.other?, of.tokens?]);
    let rows: Vec<[f64; 3]> = judged.iter().filter_map(whole).collect();
    (rows.len() > 1).then_some(())?;
    let (resamples, level, seed) = BOOTSTRAP;
    let drawn = Resamples::draw(rows.len(), resamples, seed);
    let of = |value: &(dyn Fn(&[f64; 3]) -> f64 + Sync)| {
        Estimate::over_rows(&drawn, level, |draw| {
            mean(&draw.iter().map(|&row| value(&rows[row as usize])).collect::<Vec<f64>>())
        })
    };
    Some(Summary {
        latents: rows.len(),
        balanced_accuracy: of(&|row| row[0]),
        other: of(&|row| row[1]),
        beyond_other: of(&|row| row[0] - row[1]),
        tokens: of(&|row| row[2]),
        beyond_tokens: of(&|row| row[0] - row[2]),
    })
}

/// Counts a request, and stops if somebody asked for it: what was answered is kept, and is not asked again.
fn go_on(stage: &mut Stage, saved: &str) -> Result<()> {
    stage.advance(1, String::new);
    ensure!(!interrupt::requested(), Interrupted { saved: saved.to_owned() });
    Ok(())
}

/// Held-out windows of both kinds, as many of each, in an order that says nothing.
fn scored_on(of: &Judgeable) -> Vec<Example> {
    let some = |is_active: bool| of.held_out.iter().filter(move |window| window.is_active() == is_active).take(SHOWN);
    let mut windows: Vec<Example> = some(true).chain(some(false)).cloned().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    rng.set_stream(of.latent as u64);
    windows.shuffle(&mut rng);
    windows
}

/// For each text whether the description is said to fit it; `None` where no answer could be read.
fn detected(
    endpoint: &Endpoint,
    description: &str,
    texts: &[String],
    stage: &mut Stage,
    saved: &str,
) -> Result<Vec<Option<bool>>> {
    let mut answers = Vec::with_capacity(texts.len());
    for texts in texts.chunks(MOST_WINDOWS) {
        answers.extend(detection(endpoint, description, texts)?);
        go_on(stage, saved)?;
    }
    Ok(answers)
}

/// The mean of both kinds' shares that are told right; `None` without windows of both kinds.
fn balanced_accuracy(answers: &[Option<bool>], is_active: &[bool]) -> Option<f64> {
    let share = |kind: bool| {
        let of_kind = || answers.iter().zip(is_active).filter(move |(_, active)| **active == kind);
        let right = of_kind().filter(|(answer, _)| **answer == Some(kind)).count();
        (of_kind().next().is_some()).then(|| right as f64 / of_kind().count() as f64)
    };
    Some(0.5 * (share(true)? + share(false)?))
}

fn plain(window: &Example, token: &impl Fn(u32) -> String) -> String {
    window.tokens.iter().map(|&id| token(id)).collect()
}

/// The text of a window with the tokens on which the latent fires between `<<` and `>>`.
fn marked(window: &Example, token: &impl Fn(u32) -> String) -> String {
    let mut text = String::new();
    let mut fired = false;
    for (&id, &fires) in window.tokens.iter().zip(&window.fires) {
        text.push_str(match (fired, fires) {
            (false, true) => "<<",
            (true, false) => ">>",
            _ => "",
        });
        text.push_str(&token(id));
        fired = fires;
    }
    if fired { text + ">>" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_cannot_be_read_is_wrong() {
        let answers = [Some(true), None, Some(false), Some(true)];
        // scikit-learn 1.9.1: balanced_accuracy_score([1, 1, 0, 0], [1, 0, 0, 1]) = 0.5
        assert_eq!(balanced_accuracy(&answers, &[true, true, false, false]), Some(0.5));
        // Of a silent window it is wrong too, where 0 would be right.
        assert_eq!(balanced_accuracy(&answers, &[true, false, false, true]), Some(0.75));
        assert_eq!(balanced_accuracy(&answers, &[true; 4]), None);
    }

    #[test]
    fn neighbouring_tokens_are_marked_together() {
        let of = |fires: [bool; 4]| {
            let window = Example { tokens: vec![1, 2, 3, 4], fires: fires.to_vec(), ..Example::default() };
            marked(&window, &|id| format!(" {id}"))
        };
        assert_eq!(of([false, true, true, false]), " 1<< 2 3>> 4");
        assert_eq!(of([true, false, false, true]), "<< 1>> 2 3<< 4>>");
        assert_eq!(of([false; 4]), " 1 2 3 4");
    }

    #[test]
    fn means_are_over_latents_that_have_all_scores() {
        let judged = |own, other| Judged {
            latent: 0,
            description: None,
            balanced_accuracy: own,
            other,
            tokens: Some(0.5),
            windows: 40,
            unread: 0,
        };
        let found = summary(&[judged(Some(0.9), Some(0.5)), judged(Some(0.7), Some(0.6)), judged(Some(1.0), None)]);
        let found = found.unwrap();
        assert_eq!(found.latents, 2);
        assert!((found.beyond_other.value.unwrap() - 0.25).abs() < 1e-12);
        assert!((found.beyond_tokens.value.unwrap() - 0.3).abs() < 1e-12);
        assert!(summary(&[judged(Some(0.9), Some(0.5))]).is_none());
    }
}
