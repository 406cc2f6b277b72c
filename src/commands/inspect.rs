//! `assay inspect`: what is in a model, SAE, results directory, or source of tokens or text.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use assay_models::tokens::describe;
use assay_models::{Decoder, NeoxConfig};
use assay_sae::checkpoint;

use crate::progress::Progress;
use crate::{device, fetch, frames, markdown};

/// Say what a model, SAE, results directory, or source of tokens or text holds.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay inspect models/bundled/small\n  assay inspect tests/golden/eval-small/L3_k8\n  assay inspect models/bundled/eval.parquet\n  assay inspect results/demo"
)]
pub struct InspectArgs {
    /// What to look at: a path, or the name of a model or SAE on the hub, org/name[@revision][:path]
    #[arg(value_name = "PATH|NAME")]
    path: PathBuf,
}

impl InspectArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the path is none of these, or damaged.
    pub fn run(&self, progress: Progress) -> Result<()> {
        let path = fetch::anything(&self.path, progress)?;
        let path = path.as_path();
        let mut table = markdown::Table::new(["what", "value"]);
        if path.join("runs.parquet").is_file() {
            results(path, &mut table)?;
        } else if path.join("cfg.json").is_file() {
            sae(path, &mut table)?;
        } else if path.join("config.json").is_file() {
            model(path, &mut table)?;
        } else {
            for (what, value) in describe(path).with_context(|| {
                format!(
                    "{} is no model (config.json), SAE (cfg.json) or results directory (runs.parquet), nor tokens or text",
                    path.display()
                )
            })? {
                table.row([what.to_owned(), value]);
            }
        }
        print!("{table}");
        Ok(())
    }
}

fn model(path: &Path, table: &mut markdown::Table) -> Result<()> {
    let config = NeoxConfig::load(path)?;
    let model = Decoder::load(path, &device::open("cpu")?.device)?;
    let parameters = config.n_layers * (4 * config.d_model * config.d_model + 2 * config.d_model * config.d_mlp)
        + 2 * config.vocab_size * config.d_model;
    for (what, value) in [
        ("kind", "model, GPT-NeoX".to_owned()),
        ("d_model", config.d_model.to_string()),
        ("layers", config.n_layers.to_string()),
        ("heads", config.n_heads.to_string()),
        ("d_mlp", config.d_mlp.to_string()),
        ("vocabulary", config.vocab_size.to_string()),
        ("weight matrices", format!("{:.2} M parameters", parameters as f64 / 1e6)),
        ("residual", if config.parallel_residual { "parallel" } else { "sequential" }.to_owned()),
        ("rotary dimensions", format!("{} of {} a head", config.rotary_dims, config.d_head())),
        ("hooks", format!("blocks.0.hook_resid_post … blocks.{}.hook_resid_post", config.n_layers - 1)),
        ("configuration and weights (BLAKE3)", model.weights_hash()[..16].to_owned()),
    ] {
        table.row([what.to_owned(), value]);
    }
    Ok(())
}

fn sae(path: &Path, table: &mut markdown::Table) -> Result<()> {
    let (sae, metadata) = checkpoint::load(path, &device::open("cpu")?.device)?;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| markdown::NONE.to_owned());
    for (what, value) in [
        ("kind", "SAE, topk, SAELens format".to_owned()),
        ("d_in", sae.d_model().to_string()),
        ("d_sae", sae.d_sae().to_string()),
        ("k", sae.k().to_string()),
        ("model", or_none(metadata.model_name)),
        ("hook", or_none(metadata.hook_name)),
        ("trained on", or_none(metadata.dataset_path)),
    ] {
        table.row([what.to_owned(), value]);
    }
    Ok(())
}

fn results(path: &Path, table: &mut markdown::Table) -> Result<()> {
    let grid = frames::read(path)?;
    let list = |mut values: Vec<String>| {
        values.dedup();
        values.join(", ")
    };
    table.row(["kind".to_owned(), "results of a sweep".to_owned()]);
    table.row(["runs".to_owned(), grid.runs.len().to_string()]);
    table.row(["models".to_owned(), grid.models().join(", ")]);
    table.row(["depths".to_owned(), grid.depths().join(", ")]);
    table.row(["k".to_owned(), list(grid.ks().iter().map(ToString::to_string).collect())]);
    table.row(["evaluation".to_owned(), format!("{} sequences", grid.runs.first().map_or(0, |r| r.sequences.len()))]);
    Ok(())
}
