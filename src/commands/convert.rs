//! `assay convert`: an SAE in the format of another tool.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use assay_models::HookPoint;
use assay_sae::{Format, formats};
use serde_json::json;

use super::given::GivenArgs;
use crate::catalogue::assumptions;
use crate::progress::Progress;
use crate::{device, fetch, interrupt, markdown, output};

/// Write an SAE in the format of another tool, so that the tool reconstructs the same activations.
///
/// Features that the format lacks (subtraction of b_dec, decoder norms, input scales) are folded into the weights. An SAE that it can't
/// express is refused, and the formats that can are named. Transcoders can be written for SAELens (ReLU, JumpReLU) and sparsify (TopK).
/// Weights are written in f32. sparsify knows the hook by the name of the directory: call it layers.3 for the output of block 3.
/// dictionary_learning itself loads only pickles; `ae.load_state_dict(safetensors.torch.load_file("ae.safetensors"))` loads the weights
/// written here. Metadata of the source is kept, and what it doesn't say is null.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  assay convert tests/golden/eval-small/L3_k8 /tmp/sae/layers.3 --to sparsify")]
pub struct ConvertArgs {
    /// SAE or transcoder: a directory or file of any format that assay reads (SAELens, sparsify, dictionary_learning, Gemma Scope, Gemma Scope 2,
    /// Llama Scope, circuit-tracer), or its name on the hub
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The directory to write
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// The format to write
    #[arg(long, value_name = "FORMAT", value_enum)]
    to: To,
    /// Replace the SAE in DST if it contains one already; all other files there stay
    #[arg(long)]
    force: bool,
    /// The SAE's hook point, if SRC doesn't name it, such as blocks.3.hook_resid_post
    #[arg(long, value_name = "NAME")]
    hook: Option<HookPoint>,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    given: GivenArgs,
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
    /// If the SAE is unreadable, the format can't express it, or DST is there already, is SRC, or can't be written.
    pub fn run(&self, progress: Progress) -> Result<()> {
        // A conversion takes seconds: the first interrupt lets it finish, so that nothing half-written stays.
        interrupt::listen()?;
        let format = match self.to {
            To::Saelens => Format::SaeLens,
            To::Sparsify => Format::Sparsify,
            To::DictionaryLearning => Format::DictionaryLearning,
        };
        self.check_target()?;
        let mut loaded = formats::load(&fetch::sae(&self.source, progress)?, &device::open("cpu")?.device)?;
        // What the files don't say of a published SAE is written with it.
        assumptions::complete(&mut loaded, &self.given.given())?;
        let is_source =
            self.target.canonicalize().is_ok_and(|to| loaded.dir.canonicalize().is_ok_and(|from| from == to));
        ensure!(!is_source, "{} is the SAE that is converted; give another DST", self.target.display());
        if let Some(hook) = self.hook {
            loaded.metadata.hook_name = Some(hook.to_string());
        }
        loaded.metadata.converted_by = Some(formats::PROGRAM.to_owned());
        let rates = formats::firing_rates(&loaded)?;
        formats::save(&self.target, format, &loaded.sae, &loaded.metadata, rates.as_deref())
            .with_context(|| self.source.display().to_string())?;
        loaded.notes.extend(formats::note_on_place(&self.target, format, &loaded.metadata));
        if loaded.metadata.hook_name.is_none() {
            loaded.notes.push("the hook is not known: --hook blocks.L.hook_resid_post writes it".to_owned());
        }
        let (from, architecture) = (loaded.format, loaded.sae.activation().name());
        let target = self.target.display();
        if self.json {
            let report = json!({
                "source": self.source.display().to_string(), "from": from.name(), "to": format.name(),
                "architecture": architecture, "path": target.to_string(), "notes": loaded.notes,
            });
            return output::result_line(serde_json::to_string_pretty(&report)?);
        }
        let notes = markdown::notes(&loaded.notes);
        output::result(format_args!("{target}: {architecture}, from {from} to {format}\n{notes}"))
    }

    /// Nothing but an SAE is ever replaced.
    fn check_target(&self) -> Result<()> {
        let (target, shown) = (&self.target, self.target.display());
        if !target.is_dir() || formats::is_vacant(target) {
            return Ok(());
        }
        let contains_sae = formats::detect(target)?.is_some();
        ensure!(contains_sae, "{shown} is there already and contains no SAE; give another DST");
        ensure!(self.force, "{shown} contains an SAE already; give another DST, or --force to replace it");
        Ok(())
    }
}
