//! `assay inspect`: what is in a model, SAE, results directory, or source of tokens or text.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use assay_models::tokens::describe;
use assay_models::{Decoder, NeoxConfig};
use assay_sae::{Activation, Normalization, formats};

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
        let mut notes = Vec::new();
        if path.join("runs.parquet").is_file() {
            results(path, &mut table)?;
        } else if formats::detect(path).is_some() || path.join("cfg.json").is_file() {
            notes = sae(path, &mut table)?;
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
        for note in notes {
            println!("\nNote: {note}");
        }
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

/// Gives the notes that belong to it.
fn sae(path: &Path, table: &mut markdown::Table) -> Result<Vec<String>> {
    let loaded = formats::load(path, &device::open("cpu")?.device)?;
    let (sae, metadata) = (&loaded.sae, loaded.metadata);
    let yes_or_no = |yes| if yes { "yes" } else { "no" }.to_owned();
    let architecture = sae.activation().name();
    table.row(["kind".to_owned(), format!("SAE, {architecture}, {} format", loaded.format)]);
    table.row(["d_in".to_owned(), sae.d_model().to_string()]);
    table.row(["d_sae".to_owned(), sae.d_sae().to_string()]);
    match sae.activation() {
        Activation::TopK { k, by_decoder_norm } => {
            table.row(["k".to_owned(), k.to_string()]);
            table.row(["chosen by decoder norm".to_owned(), yes_or_no(*by_decoder_norm)]);
        }
        Activation::GroupMax { k } => table.row(["k".to_owned(), k.to_string()]),
        Activation::JumpRelu { threshold } => {
            let values = threshold.to_data().try_into_vec::<f32>().expect("thresholds are f32");
            let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
            let number = |v: f32| markdown::number(Some(f64::from(v)));
            let range = if low == high { number(low) } else { format!("{} to {}", number(low), number(high)) };
            table.row(["threshold".to_owned(), range]);
        }
        Activation::Relu | Activation::Gated { .. } => {}
    }
    table.row(["b_dec subtracted from the input".to_owned(), yes_or_no(sae.applies_b_dec_to_input())]);
    if sae.normalization() != Normalization::None {
        table.row(["input normalised".to_owned(), sae.normalization().name().to_owned()]);
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| markdown::NONE.to_owned());
    for (what, value) in
        [("model", metadata.model_name), ("hook", metadata.hook_name), ("trained on", metadata.dataset_path)]
    {
        table.row([what.to_owned(), or_none(value)]);
    }
    if metadata.center_residual {
        table.row(["residual stream".to_owned(), "centred (center_writing_weights)".to_owned()]);
    }
    Ok(loaded.notes)
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
