//! `assay convert`: an SAE in the format of another tool.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use assay_sae::{Format, formats};
use serde_json::json;

use crate::progress::Progress;
use crate::{device, fetch};

/// Write an SAE in the format of another tool, so that the tool reconstructs the same activations.
///
/// What the format has no word for (subtraction of b_dec, decoder norms, input scales) is folded into the weights; an SAE that it
/// can't express is refused, and the formats that can are named. Weights are written in f32. sparsify knows the hook by the name
/// of the directory: call it layers.3 for the output of block 3. dictionary_learning loads pickles itself; of what is written
/// here, `ae.load_state_dict(safetensors.torch.load_file("ae.safetensors"))` loads the weights.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  assay convert tests/golden/eval-small/L3_k8 /tmp/sae/layers.3 --to sparsify")]
pub struct ConvertArgs {
    /// SAE: a directory of SAELens, sparsify or dictionary_learning (safetensors), or its name on the hub
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The directory to write
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// The format to write
    #[arg(long, value_name = "FORMAT", value_enum)]
    to: To,
    /// Replace DST if it holds an SAE already
    #[arg(long)]
    force: bool,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum To {
    /// SAELens 6
    Saelens,
    /// sparsify 1.3 (eai-sparsify)
    Sparsify,
    /// dictionary_learning 0.1, its state dict as safetensors
    DictionaryLearning,
}

impl ConvertArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the SAE is unreadable, the format can't express it, or the directory is there already or can't be written.
    pub fn run(&self, progress: Progress) -> Result<()> {
        let format = match self.to {
            To::Saelens => Format::SaeLens,
            To::Sparsify => Format::Sparsify,
            To::DictionaryLearning => Format::DictionaryLearning,
        };
        self.check_target(&self.target)?;
        let loaded = formats::load(&fetch::sae(&self.source, progress)?, &device::open("cpu")?.device)?;
        formats::save(&self.target, format, &loaded.sae, &loaded.metadata, None)
            .with_context(|| self.source.display().to_string())?;
        let (from, architecture) = (loaded.format, loaded.sae.activation().name());
        let target = self.target.display();
        if self.json {
            let report = json!({
                "source": self.source.display().to_string(), "from": from.name(), "to": format.name(),
                "architecture": architecture, "path": target.to_string(), "notes": loaded.notes,
            });
            println!("{}", serde_json::to_string_pretty(&report)?);
            return Ok(());
        }
        println!("{target}: {architecture}, from {from} to {format}");
        for note in &loaded.notes {
            println!("\nNote: {note}");
        }
        Ok(())
    }

    /// Nothing but an SAE is ever replaced.
    fn check_target(&self, target: &Path) -> Result<()> {
        let is_empty = || std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
        if !target.exists() || is_empty() {
            return Ok(());
        }
        let holds_sae = formats::detect(target).is_some();
        ensure!(holds_sae, "{} is there already and holds no SAE; give another DST", target.display());
        ensure!(self.force, "{} holds an SAE already; give another DST, or --force to replace it", target.display());
        Ok(())
    }
}
