//! `assay eval`: SAEs on a token file or on text.

mod controls;
mod measured;
pub(super) mod named;
mod pace;
pub(super) mod place;
mod reconstructions;
mod saebench;
mod several;
pub(super) mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use assay_models::{LoadedWeights, ModelFiles, Site};
use assay_probes::stats::Resamples;
use assay_probes::{EvalConfig, ProbeError, Survey, evaluate};
use assay_sae::{Sae, formats};

use super::contexts::{CONTEXT_OF_SAE, ContextArgs, Contexts, whole};
use super::given::GivenArgs;
use super::sweep::quoted;
use crate::belonging::{Used, starts};
use crate::catalogue::assumptions::complete;
use crate::controls::Control;
use crate::files::check_writable;
use crate::frames::Bootstrap;
use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;
use crate::replicates::{LEVEL, Replicates};
use crate::verdict::verdict;
use crate::{device, fetch, output};
use controls::{Controlled, made};
use measured::{EvaluatedOn, Measured, of_file};
use named::{model_of, named, shortened};
use pace::Pace;
use place::PlaceArgs;
use reconstructions::Reconstructions;

/// Evaluate SAEs: patch their reconstructions into the model and measure what changes.
///
/// Takes any SAE that assay reads: its own, or one of SAELens, sparsify, dictionary_learning or the releases that `assay saes` lists. A
/// verdict comes first: does R² reflect what the SAE keeps of the model? A transcoder reads one activation and its predictions replace
/// another, and all metrics are of the latter.
#[derive(clap::Args, Debug)]
#[command(
    mut_arg("context_size", |of| of.help(CONTEXT_OF_SAE)),
    after_help = "Verdict:\n  What an SAE keeps of what the activation does for the model's loss is the loss score under mean\n  ablation: 0 for the mean activation in its place, 1 for a perfect reconstruction, as with R².\n  R² minus that score, by its 95 % interval over sequences:\n    inside ±0.075    R² tells what the SAE keeps of the model\n    above +0.125     R² overstates it\n    below -0.125     R² understates it\n    else             undecided, with roughly how many sequences would decide, if any\n  Fewer than 32 sequences or 1000 resamples decide nothing. An SAE is useless if R² is at most 0\n  and so is the loss score or CE_rec. Where the model's own loss is no lower than that of a uniform\n  guess or of an ablation, the tokens are not its text, and there is no verdict.\n\nExamples:\n  assay eval --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tokens models/bundled/eval.parquet --context-size 128\n  assay eval --sae gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82 --text README.md\n  assay eval --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --text README.md --json\n  assay eval --model models/bundled/small --text README.md \\\n    --sae tests/golden/eval-small/L3_k8 tests/golden/eval-small/L4_k32"
)]
pub struct EvalArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf] [default: that of
    /// a published SAE]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,
    /// SAE or transcoder: a directory or file of any format that assay reads (SAELens, sparsify, dictionary_learning, Gemma Scope, Gemma
    /// Scope 2, Llama Scope, circuit-tracer), its name on the hub, org/name[@revision][:path], or a name that `assay saes` lists,
    /// release/id. Several, or a pattern ('release/layer_12/*'), are evaluated in the same passes
    /// and compared with the first
    #[arg(long, value_name = "DIR|NAME", required = true, num_args = 1..)]
    sae: Vec<PathBuf>,
    #[command(flatten)]
    contexts: ContextArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Labels sampled per token from the model's predictions, for `fwd` and `kl_pred`; 0 skips both
    #[arg(long, value_name = "N", default_value_t = 4)]
    fisher_samples: usize,
    /// Bootstrap replicates of the 95 % intervals; a verdict needs 1000
    #[arg(long, value_name = "N", default_value_t = 5000,
        value_parser = whole(MIN_RESAMPLES, MAX_RESAMPLES, "the ends of an interval would be chance"))]
    resamples: u64,
    /// Seed of the bootstrap and of the sampled labels
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0, i64::MAX as u64, "a seed is not negative"))]
    seed: u64,
    /// Also write activations (`x`) and reconstructions (`recon`), f32 [S·T, d_model], to a safetensors file; of a transcoder, the
    /// activations that it predicts and its predictions
    #[arg(long, value_name = "FILE")]
    save_reconstructions: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    format: Output,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// In the table, every metric, also without first tokens and without tokens of huge norm
    #[arg(long)]
    all: bool,
    /// Also write what was measured to this new directory, as Parquet files like a sweep's, which `assay report DIR` and the notebooks
    /// read. With --format saebench: write {release}_{sae}_eval_results.json there instead of printing it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also evaluate controls, which lack a learned part, and print by how much the SAE exceeds each
    #[arg(long, value_name = "NAME,…", value_enum, value_delimiter = ',')]
    controls: Vec<Control>,
    #[command(flatten)]
    given: GivenArgs,
}

/// Fewer replicates make no 95 % interval; more would take gigabytes and change no digit that is shown.
const MIN_RESAMPLES: u64 = 100;
const MAX_RESAMPLES: u64 = 100_000;

/// How an evaluation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// The verdict and a table
    Table,
    /// One JSON object
    Json,
    /// One JSON object with the keys of SAEBench's core evaluation
    Saebench,
}

impl EvalArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model, an SAE or the tokens are unusable or don't belong together.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let format = if self.json { Output::Json } else { self.format };
        ensure!(
            self.controls.is_empty() || format != Output::Saebench,
            "--controls has no keys in SAEBench's report; give --format json"
        );
        if let Some(out) = self.out.as_ref().filter(|_| format != Output::Saebench) {
            ensure!(
                out.symlink_metadata().is_err() || formats::is_vacant(out),
                "--out {}: there is something already; give a new directory (reports of `--format saebench` are added to any)",
                out.display()
            );
        }
        // Reports are written into a directory, frames take its place.
        let out =
            self.out.as_ref().map(|out| if format == Output::Saebench { out.join("report") } else { out.clone() });
        out.iter().chain(&self.save_reconstructions).try_for_each(|path| check_writable(path))?;
        let names = named(&self.sae)?;
        if let Some(path) = &self.save_reconstructions {
            ensure!(names.len() == 1, "--save-reconstructions is of one SAE, and {} are given", names.len());
            ensure!(
                path.symlink_metadata().is_err(),
                "--save-reconstructions {}: it is there already; remove it, or give another file",
                path.display()
            );
        }
        ensure!(
            format != Output::Saebench || names.len() == 1 || self.out.is_some(),
            "--format saebench writes a file for each of several SAEs; give --out DIR"
        );
        if format == Output::Saebench {
            let known = names.iter().map(|name| saebench::known_as(name)).collect::<Result<Vec<_>>>()?;
            let twice = (1..known.len())
                .find_map(|at| known[..at].iter().position(|name| *name == known[at]).map(|first| (first, at)));
            if let Some((first, at)) = twice {
                bail!(
                    "{} and {} would have one report, {}_{}: it is called after the last two directories; evaluate them one by one, \
                     with --out of their own",
                    names[first].display(),
                    names[at].display(),
                    known[at].0,
                    known[at].1
                );
            }
        }
        let device = device::open(device_name)?.device;
        let model_name = &model_of(self.model.as_deref(), &names)?;
        // First, as pickled ones are refused.
        let dirs = names.iter().map(|name| fetch::sae(name, progress)).collect::<Result<Vec<_>>>()?;
        let checkpoint = fetch::model(model_name, progress)?;
        let files = ModelFiles::open(&checkpoint)?;
        let model = files.load(&device)?;
        let mut opened = Vec::with_capacity(names.len());
        for (name, dir) in names.iter().zip(&dirs) {
            let mut loaded = formats::load(dir, &device)?;
            let assumed = complete(&mut loaded, &self.given.given())?;
            let place = self.place.place(name, &loaded, model.config(), assumed.without_value_bias)?;
            opened.push((loaded, place));
        }
        let trained = opened.iter().filter_map(|(loaded, _)| loaded.metadata.context_size).min();
        let Contexts { tokens, bos } = self.contexts.read(&model, &checkpoint, trained, progress)?;
        let (starts, mut doubts) = (starts(bos, model.config()), Vec::new());
        for (loaded, place) in &mut opened {
            let used =
                Used { model: model_name, checkpoint: &checkpoint, hook: place.reads.hook, hook_out: place.hook_out() };
            doubts.extend(used.doubts(&loaded.metadata));
            loaded.notes.extend(used.notes(&loaded.metadata, tokens.view(), &starts));
        }
        let (sequences, context_size) = tokens.dim();
        let what = match opened.as_slice() {
            [(_, place)] => place.site.hook.to_string(),
            all => format!("{} SAEs", all.len()),
        };
        let mut stage = progress.stage(format!("evaluate {what}"), sequences as u64, "sequences");
        let config = EvalConfig {
            fisher_samples: self.fisher_samples,
            fisher_seed: self.seed,
            kl_zero: format == Output::Saebench,
        };
        let batch = self.contexts.batch(context_size, model.config().vocab_size);
        let mut subjects: Vec<_> = opened.iter().map(|(loaded, place)| place.subject(&loaded.sae)).collect();
        let mut reconstructions = self.save_reconstructions.is_some().then(Reconstructions::default);
        if let Some(reconstructions) = &mut reconstructions {
            subjects[0].observers.push(reconstructions);
        }
        interrupt::listen()?;
        let mut pace = Pace::new(sequences, context_size);
        let mut advance = |n: usize| {
            if let Some(estimate) = pace.after(n) {
                progress.say(&estimate);
            }
            stage.advance(n as u64, String::new);
            interrupt::flow()
        };
        let mut sites: Vec<Site> = Vec::new();
        for (_, place) in &opened {
            if !sites.contains(&place.site) {
                sites.push(place.site);
            }
        }
        let read: Vec<(&Sae, Site)> = opened.iter().map(|(loaded, place)| (&loaded.sae, place.reads)).collect();
        let made = made(&self.controls, &read, &model, tokens.view(), self.seed)?;
        subjects.extend(made.iter().map(|control| opened[control.of].1.subject(&control.sae)));
        let named_in = |error: ProbeError| {
            let which = match error {
                ProbeError::NotFinite { subject: Some(at), .. } => names.get(at..=at).unwrap_or(&names),
                _ => &names[..],
            };
            let of = which.iter().map(|name| name.display().to_string()).collect::<Vec<_>>().join(", ");
            let on = format!("model {}, tokens {}", model_name.display(), self.contexts.path().display());
            anyhow::Error::from(error).context(format!("SAE {of}, {on}"))
        };
        let found = Survey::new(&model, tokens.view(), &sites, &[], batch, |_| advance(0))
            .and_then(|survey| evaluate(&survey, &mut subjects, config, &mut advance));
        let mut found =
            interrupt::unless_stopped(found).map_err(named_in)?.ok_or_else(Interrupted::with_nothing_written)?;
        let of_made = found.split_off(opened.len());
        stage.finish("");
        let mut of_controls: Vec<_> = made
            .iter()
            .map(|made| (made.control, made.of))
            .zip(of_made)
            .map(|((c, of), found)| (c, of, found))
            .collect();
        if self.controls.contains(&Control::RandomModel) {
            let redrawn = files.load_with(LoadedWeights::Redrawn(self.seed), &device)?;
            let mut stage = progress.stage("evaluate random-model", sequences as u64, "sequences");
            let mut advance = |n: usize| {
                stage.advance(n as u64, String::new);
                interrupt::flow()
            };
            let mut subjects: Vec<_> = opened.iter().map(|(loaded, place)| place.subject(&loaded.sae)).collect();
            let found = Survey::new(&redrawn, tokens.view(), &sites, &[], batch, |_| advance(0))
                .and_then(|survey| evaluate(&survey, &mut subjects, config, &mut advance));
            let found = interrupt::unless_stopped(found).map_err(named_in).context("random-model")?;
            let found = found.ok_or_else(Interrupted::with_nothing_written)?;
            stage.finish("");
            of_controls.extend(found.into_iter().enumerate().map(|(of, found)| (Control::RandomModel, of, found)));
        }
        // What can't be written is told when what was found has been printed.
        let saved = self.save_reconstructions.as_deref().zip(reconstructions);
        let saved = saved.map_or(Ok(()), |(path, reconstructions)| reconstructions.save(path, opened[0].0.sae.d_out()));
        if format == Output::Saebench {
            let dataset = of_file(self.contexts.path()).unwrap_or_default();
            for ((name, (loaded, place)), found) in names.iter().zip(&opened).zip(&found) {
                let (place, dataset) = (*place, dataset.clone());
                let report = saebench::Report { loaded, found, place, tokens: tokens.dim(), dataset, batch };
                report.write(name, self.out.as_deref())?;
            }
            return saved;
        }
        let counts = Resamples::draw(sequences, self.resamples as usize, self.seed).counts();
        let vocab_size = model.config().vocab_size;
        let saes: Vec<Measured<'_>> = names
            .iter()
            .zip(&opened)
            .zip(&found)
            .map(|((name, (loaded, place)), found)| {
                let replicates = Replicates::new(&found.sequences, &counts);
                let verdict = verdict(&found.sequences, &replicates, vocab_size);
                Measured { name, loaded, place: *place, found, replicates, verdict }
            })
            .collect();
        let controlled: Vec<Controlled> = of_controls
            .into_iter()
            .map(|(control, of, found)| {
                let replicates = Replicates::new(&found.sequences, &counts);
                Controlled { control, of, found, replicates }
            })
            .collect();
        let on = EvaluatedOn { model: model_name, tokens: tokens.dim(), bos, vocab_size };
        let written = self.out.as_ref().map_or(Ok(()), |out| {
            let bootstrap = Bootstrap { resamples: self.resamples as usize, level: LEVEL, seed: self.seed };
            several::write(out, &saes, &on, model.config(), bootstrap)?;
            progress.say(&format!("{}: written; `assay report {}` makes a report of it", out.display(), out.display()));
            Ok(())
        });
        match format {
            Output::Json => {
                let mut object = match saes.as_slice() {
                    [sae] => sae.json(&on)?,
                    saes => several::json(saes, &on)?,
                };
                if !controlled.is_empty() {
                    object["controls"] = controls::json(&saes, &controlled);
                }
                output::result_line(serde_json::to_string_pretty(&object)?)
            }
            _ => {
                let text = match saes.as_slice() {
                    [sae] => sae.text(&on, self.all),
                    saes => several::text(saes, &on),
                };
                // Said before the verdict, and in the notes after it.
                doubts.dedup();
                doubts.iter().for_each(|doubt| progress.warn(doubt));
                output::result(text + &controls::text(&saes, &shortened(&names).1, &controlled))?;
                if let [name] = names.as_slice() {
                    progress.say(&self.next(model_name, name));
                }
                Ok(())
            }
        }?;
        saved.and(written)
    }

    /// What to try after an evaluation of one SAE.
    fn next(&self, model: &Path, sae: &Path) -> String {
        let [model, sae] = [model, sae].map(|path| quoted(&path.to_string_lossy()));
        let (contexts, hooks) = (self.contexts.as_arguments(), self.place.as_arguments());
        format!(
            "next: `--controls permuted-decoder` compares it with a dictionary that learned no directions, and `assay features \
             --model {model} --sae {sae} {contexts}{hooks} --out features` what its latents mean"
        )
    }
}
