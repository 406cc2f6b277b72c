//! `assay geometry`: the residual stream of every layer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use assay_models::Decoder;
use assay_probes::geometry::{ModelGeometry, model_geometry};

use super::contexts::ContextArgs;
use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;
use crate::{device, fetch, markdown, output};

/// Measure the geometry of every layer's residual stream: participation ratios, norms, variance.
///
/// The participation ratio (Σλ)²/Σλ² of the covariance's eigenvalues says over how many directions the variance is spread; the
/// deflated ones leave out the largest m eigenvalues. Outliers are tokens whose ‖a‖ is above ten times the layer's median. No SAE is
/// needed: where the ratio is near 1, R² says little about any.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay geometry --model models/bundled/small --tokens tests/golden/eval-small/tokens.safetensors\n  assay geometry --model models/bundled/small --text README.md"
)]
pub struct GeometryArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    #[command(flatten)]
    contexts: ContextArgs,
    /// Subtract the mean over d_model from every activation
    #[arg(long)]
    center_residual: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl GeometryArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model or the tokens are unusable.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let device = device::open(device_name)?.device;
        let checkpoint = fetch::model(&self.model, progress)?;
        let model = Decoder::load(&checkpoint, &device)?;
        let tokens = self.contexts.read(&model, &checkpoint, None, progress)?.tokens;
        let batch = self.contexts.batch(tokens.ncols(), model.config().vocab_size);
        let mut stage = progress.stage("geometry", tokens.nrows() as u64, "sequences");
        interrupt::listen()?;
        let found = model_geometry(&model, tokens.view(), batch, self.center_residual, |n| {
            stage.advance(n as u64, String::new);
            interrupt::flow()
        });
        let found = interrupt::unless_stopped(found)
            .with_context(|| format!("model {}, tokens {}", self.model.display(), self.contexts.path().display()))?;
        let found = found.ok_or_else(Interrupted::with_nothing_written)?;
        stage.finish("");
        if self.json {
            output::result_line(serde_json::to_string_pretty(&found)?)
        } else {
            output::result(table(&found))
        }
    }
}

fn table(found: &ModelGeometry) -> String {
    let mut table = markdown::Table::new([
        "layer",
        "pr",
        "pr/d_model",
        "pr_deflated_1",
        "pr_deflated_2",
        "pr_deflated_4",
        "pr_deflated_8",
        "variance",
        "top eigenvalue",
        "mean ‖a‖",
        "max ‖a‖",
        "outliers",
    ]);
    for layer in &found.layers {
        table.row([
            layer.layer.to_string(),
            markdown::number(layer.pr),
            markdown::number(layer.pr_over_d_model),
            markdown::number(layer.pr_deflated_1),
            markdown::number(layer.pr_deflated_2),
            markdown::number(layer.pr_deflated_4),
            markdown::number(layer.pr_deflated_8),
            markdown::number(Some(layer.variance)),
            markdown::percent(layer.top_eigenvalue_share),
            markdown::number(Some(layer.mean_norm)),
            markdown::number(Some(layer.max_norm)),
            markdown::percent(Some(layer.outlier_frac)),
        ]);
    }
    format!("ce_orig {}\n\n{table}\n", markdown::number(Some(found.ce_orig)))
}
