//! `assay encode`: an SAE on activations that are in a file.

mod output;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use assay_models::first_not_finite;
use assay_sae::formats;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::json;

use self::output::{Encoded, Layout, Output};
use self::source::Source;
use super::given::GivenArgs;
use crate::catalogue::assumptions::complete;
use crate::files::{check_writable, write_atomic_with};
use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;
use crate::{device, fetch, markdown, output as print};

/// Encode activations from a file: which latents are active, and what they reconstruct.
///
/// Reads safetensors, numpy's .npy, or Parquet with a column of lists, a batch at a time, so that what is read and written need not fit
/// into memory. Activations of more than two dimensions are taken row by row. Inputs are centred first if the SAE was trained on
/// centred activations.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Tensors of the file that is written, N being the number of rows:\n  reconstruction  [N, d_out] f32: for a transcoder, its prediction with the skip connection;\n                  absent for a layer of a cross-layer transcoder\n  offsets         [N + 1] i64: row r has the entries from offsets[r] up to offsets[r + 1] of\n  indices         [entries] i64: which latents are active, ascending in each row, and of\n  values          [entries] f32: how much\n  latents         [N, d_sae] f32: instead of these three, with --dense\n\nIn Python:\n  t = safetensors.numpy.load_file(FILE)\n  scipy.sparse.csr_matrix((t[\"values\"], t[\"indices\"], t[\"offsets\"]), shape=(N, d_sae))\n\nExamples:\n  assay encode --sae tests/golden/formats/saelens-jumprelu/sae \\\n    --activations tests/golden/formats/saelens-jumprelu/encode.safetensors:x \\\n    --out latents.safetensors\n  assay encode --sae gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82 \\\n    --activations resid.npy --out latents.safetensors --dense"
)]
pub struct EncodeArgs {
    /// SAE or transcoder: a directory or file of any format that assay reads, its name on the hub, org/name[@revision][:path], or a
    /// name that `assay saes` lists, release/id
    #[arg(long, value_name = "DIR|NAME")]
    sae: PathBuf,
    /// Activations, [N, d_in]: a safetensors, .npy or Parquet file, with the tensor or column after a colon if there are several; or a
    /// directory of shards that `assay capture` wrote
    #[arg(long, value_name = "FILE[:TENSOR]")]
    activations: PathBuf,
    /// The file to write, which must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write all latents of each token, [N, d_sae], instead of the active ones
    #[arg(long)]
    dense: bool,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    given: GivenArgs,
}

/// Latents in memory at a time, about.
const LATENTS: usize = 1 << 25;
/// Tokens at a time, at most.
const TOKENS: usize = 4096;

impl EncodeArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the SAE or the activations can't be read or have different widths, an activation is not finite, or the file is there already or
    /// can't be written.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let out = self.out.display();
        ensure!(self.out.symlink_metadata().is_err(), "{out} is there already; remove it, or give another file");
        check_writable(&self.out)?;
        let mut source = Source::open(&self.activations)?;
        let device = device::open(device_name)?.device;
        let mut loaded = formats::load_encoder(&fetch::sae(&self.sae, progress)?, &device)?;
        let assumed = complete(&mut loaded, &self.given.given())?;
        let (sae, mut notes) = (&loaded.sae, loaded.notes);
        ensure!(
            source.width() == sae.d_in(),
            "the activations in {} are {} wide, and the SAE {} reads {} (its d_in)",
            self.activations.display(),
            source.width(),
            self.sae.display(),
            sae.d_in()
        );
        let center = loaded.metadata.center_residual;
        if center {
            notes.push(
                "the SAE was trained on activations without their mean over d_model (center_writing_weights), so that it is subtracted first, \
                 and what is reconstructed has none either"
                    .to_owned(),
            );
        }
        if assumed.without_value_bias {
            notes.push(
                "the activations are encoded as they are; whether they are without b_V is not checked".to_owned(),
            );
        }
        let named = loaded.metadata.hook_name.as_deref();
        // A capture says behind a comma what was left out.
        let captured = source.hook().map(|hook| hook.split(',').next().unwrap_or(hook));
        if let Some((named, captured)) = named.zip(captured).filter(|(named, captured)| named != captured) {
            notes.push(format!("the SAE names the hook {named}, and the activations were captured at {captured}"));
        }
        interrupt::listen()?;
        let layout = Layout { rows: source.rows(), d_sae: sae.d_sae(), d_out: sae.d_out(), dense: self.dense };
        let batch = (LATENTS / sae.d_sae().max(1)).clamp(1, TOKENS);
        let mut stage = progress.stage("encode", source.rows() as u64, "tokens");
        // What stops the work is no failure to write.
        let mut stopped = None;
        let mut active = 0;
        let mut done = 0;
        let beside = self.out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let cannot = || format!("cannot write {out}");
        let written = write_atomic_with(&self.out, |file| {
            let mut work = || -> Result<()> {
                let mut output = Output::begin(file, layout, beside).with_context(cannot)?;
                loop {
                    if interrupt::requested() {
                        return Err(Interrupted { saved: format!("{out} is not written") }.into());
                    }
                    let x = source.next(batch)?;
                    if x.is_empty() {
                        break;
                    }
                    let tokens = x.len() / sae.d_in();
                    let x = on(&device, x, sae.d_in());
                    let x = if center { x.clone() - x.mean_dim(1) } else { x };
                    // A layer of a cross-layer transcoder reconstructs nothing.
                    let (reconstruction, code) = if sae.d_out() == 0 {
                        (Vec::new(), sae.encode(x))
                    } else {
                        let (reconstruction, code) = sae.reconstruct(x);
                        (reconstruction.into_data().try_into_vec::<f32>()?, code)
                    };
                    if let Some(bad) = first_not_finite(&reconstruction) {
                        bail!(
                            "the reconstruction of row {} is not finite ({}): the activations there are beyond what f32 holds, or a weight \
                             of {} is",
                            done + bad / sae.d_out(),
                            reconstruction[bad],
                            self.sae.display()
                        );
                    }
                    done += tokens;
                    output.write(&Encoded::of(code, tokens, reconstruction)).with_context(cannot)?;
                    stage.advance(tokens as u64, String::new);
                }
                active = output.finish().with_context(cannot)?;
                Ok(())
            };
            work().map_err(|error| {
                let shown = anyhow!("stopped: {error}");
                stopped = Some(error);
                shown
            })
        });
        if let Some(error) = stopped {
            return Err(error);
        }
        written?;
        stage.finish("");
        let l0 = active as f64 / layout.rows.max(1) as f64;
        if self.json {
            let report = json!({
                "out": out.to_string(), "tokens": layout.rows, "d_in": sae.d_in(), "d_out": sae.d_out(), "d_sae": sae.d_sae(),
                "active": active, "l0": l0, "notes": notes,
            });
            return print::result_line(serde_json::to_string_pretty(&report)?);
        }
        print::result(format_args!(
            "{out}: {} tokens, {} active latents per token of {}\n{}",
            layout.rows,
            markdown::number(Some(l0)),
            layout.d_sae,
            markdown::notes(&notes)
        ))
    }
}

fn on(device: &Device, values: Vec<f32>, width: usize) -> Tensor<2> {
    let rows = values.len() / width;
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}
