//! `assay capture`: activations of a hook as safetensors.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};
use assay_models::{Decoder, HookPoint, ModelError, ModelFiles, Site, TokenSource, first_not_finite};
use indicatif::DecimalBytes;
use serde_json::json;

use super::contexts::{ALL_SEQUENCES, ContextArgs, whole};
use crate::events::Tokens;
use crate::files::{check_writable, free_space};
use crate::interrupt::{self, Interrupted};
use crate::progress::{Progress, Stage};
use crate::shards::{Contents, Dtype, INDEX, Shard, Shards, write_shard};
use crate::{device, fetch, output};

/// Write the activations at a hook of a model to safetensors: a directory of shards, or one file.
///
/// A shard has one tensor, `activations`, [tokens, d], sequence after sequence; index.json beside them names the model, the hook and
/// the tokens. An interrupted capture resumes with the same command: finished shards are kept. Memory does not grow with the tokens.
#[derive(clap::Args, Debug)]
#[command(
    mut_arg("sequences", |of| of.help(ALL_SEQUENCES)),
    after_help = "Examples:\n  assay capture --model models/bundled/small --tokens models/bundled/eval.parquet \\\n    --hook blocks.3.hook_resid_post --out /tmp/activations\n  assay capture --model models/bundled/small --text README.md --hook blocks.3.hook_mlp_out \\\n    --dtype bf16 --out /tmp/mlp_out.safetensors"
)]
pub struct CaptureArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    #[command(flatten)]
    contexts: ContextArgs,
    /// Hook point, such as blocks.3.hook_resid_post; `assay help eval` lists the kinds
    #[arg(long, value_name = "NAME")]
    hook: HookPoint,
    /// Subtract the mean over d_model from every activation
    #[arg(long)]
    center_residual: bool,
    /// Where to write: a directory, or a file that ends in .safetensors
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Number format
    #[arg(long, value_enum, default_value = "f32", ignore_case = true)]
    dtype: Dtype,
    /// Tokens per shard, rounded down to whole sequences
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = whole(1, u64::MAX, "a shard needs a token"))]
    shard_tokens: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl CaptureArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model or the tokens are unusable, the model has no such hook, `--out` holds something else, or there is no room for what is
    /// to be written.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let shown = self.out.display();
        let is_file = self.out.extension().is_some_and(|end| end == "safetensors");
        if is_file {
            let free = self.out.symlink_metadata().is_err();
            ensure!(free, "{shown}: it is there already; remove it, or give another --out");
        } else {
            Shards::check(&self.out)?;
        }
        check_writable(if is_file { self.out.clone() } else { self.out.join(INDEX) }.as_path())?;
        let device = device::open(device_name)?.device;
        let checkpoint = fetch::model(&self.model, progress)?;
        let files = ModelFiles::open(&checkpoint)?;
        let config = files.config();
        let site = Site { center: self.center_residual, ..self.hook.into() };
        site.check(config)?;
        let (source, sequences) = self.contexts.open(config, &checkpoint, None)?;
        source.notes().iter().for_each(|note| progress.say(note));
        let context_size = source.context_size();
        let max_positions = config.max_positions;
        ensure!(context_size <= max_positions, ModelError::ContextTooLong { context_size, max_positions });
        let contents = Contents {
            model: self.model.display().to_string(),
            weights: files.weights_hash(),
            hook: site.to_string(),
            tokens: Tokens::hash(&source, sequences)?,
            sequences,
            context_size,
            bos: source.bos(),
            dtype: self.dtype,
            shape: [sequences * context_size, self.hook.width(config)],
            shard_sequences: usize::try_from(self.shard_tokens).unwrap_or(usize::MAX).div_euclid(context_size).max(1),
        };
        let batch = self.contexts.batch(context_size, config.vocab_size);
        let mut shards = if is_file { None } else { Some(Shards::open(&self.out, contents.clone())?) };
        // A file is a shard of its own, that has all rows.
        let missing = shards.as_ref().map_or_else(|| vec![contents.single()], Shards::missing);
        let rows: usize = missing.iter().map(|shard| shard.rows).sum();
        check_room(&self.out, contents.bytes(rows) as u64)?;
        if rows > 0 {
            interrupt::listen()?;
            let model = files.load(&device)?;
            let stage = progress.stage(format!("capture {site}"), (rows / context_size) as u64, "sequences");
            let saved = match is_file {
                true => format!("nothing of {shown} is kept, as it is one file"),
                false => format!("what is finished is in {shown}, and the same command resumes"),
            };
            let mut work = Work { model: &model, source: &source, site, batch, stage, saved };
            for shard in &missing {
                let fill = |push: &mut dyn FnMut(&[f32]) -> Result<()>| work.rows(shard, push);
                let written = match &mut shards {
                    Some(shards) => shards.write(shard, fill),
                    None => write_shard(&self.out, &contents, shard, fill),
                };
                // An interrupt is no failure to write.
                written.map_err(|error| error.downcast::<Interrupted>().map_or_else(|error| error, Into::into))?;
            }
            work.stage.finish("");
        }
        let [rows, width] = contents.shape;
        if self.json {
            let mut object = serde_json::to_value(&contents)?;
            object["path"] = json!(shown.to_string());
            return output::result_line(serde_json::to_string_pretty(&object)?);
        }
        let size = DecimalBytes(contents.bytes(rows) as u64);
        output::result_line(format_args!(
            "{shown}: activations [{rows}, {width}], {size}: {sequences} sequences of {context_size} tokens{} at {site} of {}",
            if source.bos().is_some() { ", the first BOS," } else { "" },
            self.model.display()
        ))
    }
}

/// What activations are made of.
struct Work<'a> {
    model: &'a Decoder,
    source: &'a TokenSource,
    site: Site,
    /// Sequences of a pass.
    batch: usize,
    stage: Stage,
    /// What an interrupt leaves.
    saved: String,
}

impl Work<'_> {
    /// Gives the rows of a shard to `push`, a pass at a time.
    fn rows(&mut self, shard: &Shard, push: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let context_size = self.source.context_size();
        let end = (shard.first + shard.rows) / context_size;
        for first in (shard.first / context_size..end).step_by(self.batch) {
            if interrupt::requested() {
                return Err(Interrupted { saved: self.saved.clone() }.into());
            }
            let count = self.batch.min(end - first);
            let captured = self.model.capture(self.source.read(first, count)?.view(), &[self.site])?.remove(0);
            let values = captured.into_data().try_into_vec::<f32>().map_err(|e| anyhow!("activations: {e:?}"))?;
            if let Some(at) = first_not_finite(&values) {
                let token = at / (values.len() / (count * context_size));
                let (sequence, position) = (first + token / context_size, token % context_size);
                bail!("the activation at {} is {} in sequence {sequence}, position {position}", self.site, values[at]);
            }
            push(&values)?;
            self.stage.advance(count as u64, String::new);
        }
        Ok(())
    }
}

/// Refuses what the disk has no room for.
fn check_room(out: &Path, needed: u64) -> Result<()> {
    match free_space(out) {
        Some(free) if needed > free => bail!(
            "{}: {} are to be written, and {} are free; take fewer --sequences, --dtype bf16, or another disk",
            out.display(),
            DecimalBytes(needed),
            DecimalBytes(free)
        ),
        _ => Ok(()),
    }
}
