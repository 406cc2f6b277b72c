//! What each latent of an SAE means, from the firings in an event store ([`crate::events`]) and from weights: a table, `features.parquet`, and
//! a page to look at, `dashboard.html`.
//!
//! - [`pass`]: tokens go through the model as far as the SAE, and its firings into the store.
//! - [`firings`]: scores and places of each latent, from the store.
//! - [`weights`]: which tokens a latent writes, and the latents beside it.
//! - [`effects`]: what the model says without it.
//! - [`explaining`]: what can be said of it without a language model, and how well that detects it.
//! - [`judge`]: what a language model of the user's says of it, if one is asked.
//! - [`table`]: all of that as Parquet.
//! - [`topics`]: what they do with each frequent token id.
//! - [`exports`]: what other tools read.
//! - [`windows`]: the text around places. [`dashboard`], [`terminal`]: all of it to look at.

pub mod dashboard;
pub mod effects;
pub mod explaining;
pub mod exports;
pub mod firings;
pub mod judge;
pub mod pass;
pub mod table;
pub mod terminal;
pub mod topics;
pub mod weights;
pub mod windows;

use assay_probes::ablation::Effect;
use assay_probes::features::explanation::Method;
use assay_probes::features::{Explained, Partner, Scores};
use assay_probes::seeds::Twin;

use self::explaining::Described;

/// The table, beside the store.
pub const TABLE: &str = "features.parquet";
/// The page.
pub const DASHBOARD: &str = "dashboard.html";
/// The same as a folder.
pub const FOLDER: &str = "dashboard";

/// All that is known of a latent.
#[derive(Clone, Debug, Default)]
pub struct Feature {
    /// Its number.
    pub latent: usize,
    /// What its firings say.
    pub scores: Scores,
    /// ε²: η² less what chance gives.
    pub adjusted: Explained<f64>,
    /// Token ids that its decoder row raises most, and by how much, by the logit lens; empty where the row is not in the residual stream.
    pub written: Vec<(u32, f32)>,
    /// How much of its peaks are on tokens that it writes; `None` where it writes none.
    pub input_score: Option<f64>,
    /// How much what it writes is said where it is made very active; `None` where it writes none, its ablation is not
    /// defined, or no latent fires at the prompt's last token.
    pub output_score: Option<f64>,
    /// Explanations, one of each method that says anything; none of a latent that fires too rarely.
    pub described: Vec<Described>,
    /// The latents with the nearest decoder rows, and their cosines.
    pub nearest: Vec<(usize, f64)>,
    /// Its twin in another SAE, if there is one to look in.
    pub twin: Option<Twin>,
    /// The latent that fires most where it does.
    pub partner: Option<Partner>,
    /// Cosine of its encoder and decoder directions.
    pub encoder_decoder: Option<f64>,
    /// What ablating it did, if that was measured.
    pub effect: Option<Effect>,
}

impl Feature {
    /// What its firings say of a latent, and the tokens that it writes; `chance` is what explains nothing.
    pub fn of(latent: usize, scores: Scores, written: Vec<(u32, f32)>, chance: Explained<f64>) -> Self {
        let ids: Vec<u32> = written.iter().map(|(id, _)| *id).collect();
        Self {
            latent,
            adjusted: scores.explained.adjusted(chance),
            input_score: scores.input_score(&ids).filter(|_| !ids.is_empty()),
            scores,
            written,
            ..Self::default()
        }
    }

    /// ΔCE of a firing: what the loss of the context rises by without the latent, a firing, in nats.
    pub fn delta_ce(&self) -> Option<f64> {
        self.effect.filter(|effect| effect.firings > 0).map(|effect| effect.ce / effect.firings as f64)
    }

    /// Its explanation by a method.
    pub fn detection(&self, method: Method) -> Option<&Described> {
        self.described.iter().find(|described| described.method == method)
    }

    /// ΔKL likewise.
    pub fn delta_kl(&self) -> Option<f64> {
        self.effect.filter(|effect| effect.firings > 0).map(|effect| effect.kl / effect.firings as f64)
    }
}
