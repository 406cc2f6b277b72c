//! `assay cloud`: points of a model's activations, for `assay topology`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, HookPoint, ModelFiles, Site};
use assay_probes::ablation::written;
use assay_sae::{Sae, formats};
use burn::tensor::{Device, Tensor, TensorData};
use clap::ValueEnum;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::contexts::{ALL_SEQUENCES, ContextArgs, whole};
use super::labelled::LabelledArgs;
use crate::catalogue::assumptions::{Given, complete};
use crate::cloud::places;
use crate::files::{check_writable, write_atomic};
use crate::inside::together;
use crate::interrupt::{self, Interrupted};
use crate::probe::{Pooling, Reading};
use crate::progress::Progress;
use crate::{device, fetch, output};

/// Write points of a model's activations to a file that `assay topology` reads.
///
/// A point is a token's activation at a hook, or what some latents of an SAE write there. The first token of each context is left out,
/// because it is unlike the others. One token per context is taken, because tokens of one text depend on each other. Of each labelled
/// text the last token is taken.
#[derive(clap::Args, Debug)]
#[command(
    mut_group("Source", |of| of.required(false)),
    mut_group("Texts", |of| of.required(false)),
    group(clap::ArgGroup::new("points").args(["tokens", "text", "case", "data"]).required(true)),
    mut_arg("sequences", |of| of.help(ALL_SEQUENCES)),
    after_help = "Examples:\n  assay cloud --model models/bundled/small --tokens models/bundled/eval.parquet --context-size 128 \\\n    --hook blocks.3.hook_resid_post --out /tmp/cloud.safetensors\n  assay cloud --model models/bundled/small --tokens models/bundled/eval.parquet --context-size 128 \\\n    --sae tests/golden/eval-small/L3_k8 --latents 3,178 --what reconstruction \\\n    --out /tmp/written.safetensors\n  assay cloud --model models/bundled/small --case months --labels March,April \\\n    --hook blocks.3.hook_resid_post --out /tmp/months.safetensors"
)]
pub struct CloudArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    #[command(flatten)]
    contexts: ContextArgs,
    #[command(flatten)]
    texts: LabelledArgs,
    /// Only labelled texts with these labels, separated by commas [default: all]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', conflicts_with = "Source")]
    labels: Vec<String>,
    /// Hook point, such as blocks.3.hook_resid_post [default: the one that the SAE names]
    #[arg(long, value_name = "NAME", required_unless_present = "sae")]
    hook: Option<HookPoint>,
    /// SAE whose latents choose tokens: a path, or a name on the hub or of `assay saes`
    #[arg(long, value_name = "DIR|NAME", requires = "latents")]
    sae: Option<PathBuf>,
    /// Take tokens on which any of these latents fires, the strongest first; separated by commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "sae")]
    latents: Vec<usize>,
    /// What a point is
    #[arg(long, value_enum, default_value_t = PointKind::Activation)]
    what: PointKind,
    /// Maximum number of points
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole(1, 1_000_000, "a cloud has a point"))]
    rows: u64,
    /// Maximum tokens per context
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(1, u64::MAX, "a context gives a token"))]
    per_context: u64,
    /// Seed of the choice of tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The file to write, which must not exist yet; it gets one tensor, `cloud`, [points, width]
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PointKind {
    /// The activation at the hook
    Activation,
    /// What the latents write there together: the sum of z times their decoder rows
    Reconstruction,
}

/// A point, and how strongly the latents fire there.
struct Point {
    strength: f32,
    values: Vec<f32>,
}

/// Which tokens the rows of activations are of.
#[derive(Clone, Copy)]
struct Rows {
    /// The number of the first context.
    first: usize,
    /// Tokens of a context.
    length: usize,
    /// Tokens at the start of each that are left out.
    skipped: usize,
}

/// What chooses tokens.
struct Chooser<'a> {
    sae: &'a Sae,
    latents: &'a [usize],
    /// What one unit of each of them adds, row by row, if that is what points are of.
    writes: Option<Vec<f32>>,
}

impl CloudArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model, the SAE or the tokens are unusable, no token is found, or the file is there already or can't be written.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let out = self.out.display();
        ensure!(self.out.symlink_metadata().is_err(), "{out} is there already; remove it, or give another file");
        ensure!(
            self.what == PointKind::Activation || self.sae.is_some(),
            "--what reconstruction is of latents: give --sae and --latents"
        );
        check_writable(&self.out)?;
        let device = device::open(device_name)?.device;
        let checkpoint = fetch::model(&self.model, progress)?;
        let files = ModelFiles::open(&checkpoint)?;
        let mut loaded = match &self.sae {
            Some(sae) => Some(formats::load(&fetch::sae(sae, progress)?, &device)?),
            None => None,
        };
        let mut site = self.hook.map(Site::from);
        if let Some(loaded) = &mut loaded {
            let assumed = complete(loaded, &Given::default())?;
            let named = loaded.metadata.hook_name.as_deref().map(str::parse).transpose()?;
            let hook = self.hook.or(named).context("the SAE names no hook; give --hook")?;
            let center = loaded.metadata.center_residual;
            site = Some(Site { center, without_value_bias: assumed.without_value_bias, ..hook.into() });
        }
        let site = site.context("give --hook")?;
        site.check(files.config())?;
        let chooser = loaded.as_ref().map(|loaded| self.chooser(&loaded.sae, site, &files)).transpose()?;
        let labelled = self.labelled()?;
        interrupt::listen()?;
        let mut points = match labelled {
            Some(texts) => {
                let vocabulary = Vocabulary::load(&checkpoint)?;
                self.of_texts(&files.load(&device)?, &vocabulary, &texts, site, chooser.as_ref(), progress)?
            }
            None => self.of_contexts(&files, &checkpoint, &device, site, chooser.as_ref(), progress)?,
        };
        ensure!(!points.is_empty(), "none of the latents fires on these tokens; give more of them, or other latents");
        // Of equals the earlier.
        points.sort_by(|a, b| b.strength.total_cmp(&a.strength));
        points.truncate(self.rows as usize);
        let width = points[0].values.len();
        let bytes: Vec<u8> = points.iter().flat_map(|p| p.values.iter().flat_map(|v| v.to_le_bytes())).collect();
        let view = TensorView::new(Dtype::F32, vec![points.len(), width], &bytes)?;
        write_atomic(&self.out, &safetensors::serialize([("cloud", view)], None::<HashMap<String, String>>)?)?;
        output::result(format_args!("{out}: {} points in {width} dimensions, at {site}\n", points.len()))
    }

    /// Labelled texts that are asked for, if points are of such.
    fn labelled(&self) -> Result<Option<Vec<String>>> {
        let (texts, labels, classes) = match (self.texts.case()?, self.texts.file()?) {
            (Some(case), _) => (case.texts, case.labels, case.classes),
            (None, Some(file)) => (file.texts, file.labels, file.classes),
            (None, None) => return Ok(None),
        };
        if let Some(unknown) = self.labels.iter().find(|label| !classes.contains(label)) {
            bail!("--labels {unknown}: there is no such label; there are {}", classes.join(", "));
        }
        let wanted = |label: usize| self.labels.is_empty() || self.labels.contains(&classes[label]);
        Ok(Some(texts.into_iter().zip(labels).filter(|(_, label)| wanted(*label)).map(|(text, _)| text).collect()))
    }

    /// The last token of each text.
    fn of_texts(
        &self,
        model: &Decoder,
        vocabulary: &Vocabulary,
        texts: &[String],
        site: Site,
        chooser: Option<&Chooser<'_>>,
        progress: Progress,
    ) -> Result<Vec<Point>> {
        let reading = Reading { model, vocabulary, context: model.config().max_positions, pooling: Pooling::Last };
        let tokens = texts.iter().map(|text| reading.tokens(text)).collect::<Result<Vec<_>>>()?;
        let mut stage = progress.stage("read", tokens.len() as u64, "texts");
        let rows = reading.last(&tokens, site, |n| stage.advance(n, String::new))?;
        stage.finish("");
        let shape = [rows.nrows(), rows.ncols()];
        let values: Vec<f32> = rows.iter().map(|&value| value as f32).collect();
        let x = Tensor::from_data(TensorData::new(values, shape), model.device());
        let mut points = Vec::new();
        self.take(x, Rows { first: 0, length: 1, skipped: 0 }, chooser, &mut points)?;
        Ok(points)
    }

    /// Tokens of contexts.
    fn of_contexts(
        &self,
        files: &ModelFiles,
        checkpoint: &Path,
        device: &Device,
        site: Site,
        chooser: Option<&Chooser<'_>>,
        progress: Progress,
    ) -> Result<Vec<Point>> {
        let (source, sequences) = self.contexts.open(files.config(), checkpoint, None)?;
        let model = files.load(device)?;
        let length = source.context_size();
        let batch = self.contexts.batch(length, files.config().vocab_size).max(1);
        let mut stage = progress.stage("read", sequences as u64, "contexts");
        let mut points = Vec::new();
        for first in (0..sequences).step_by(batch) {
            if interrupt::requested() {
                return Err(Interrupted { saved: format!("{} is not written", self.out.display()) }.into());
            }
            let count = batch.min(sequences - first);
            let x = model.capture(source.read(first, count)?.view(), &[site])?.remove(0).flatten(0, 1);
            let taken = self.take(x, Rows { first, length, skipped: 1 }, chooser, &mut points);
            taken.with_context(|| format!("activations at {site}"))?;
            stage.advance(count as u64, String::new);
            if chooser.is_none() && points.len() >= self.rows as usize {
                break;
            }
        }
        stage.finish("");
        Ok(points)
    }

    fn chooser<'a>(&'a self, sae: &'a Sae, site: Site, files: &ModelFiles) -> Result<Chooser<'a>> {
        let width = site.hook.width(files.config());
        ensure!(sae.d_in() == width, "the SAE's d_in is {}, and {site} is {width} wide", sae.d_in());
        let beyond = self.latents.iter().find(|&&latent| latent >= sae.d_sae());
        ensure!(
            beyond.is_none(),
            "--latents {}: the SAE has {} latents, from 0",
            beyond.copied().unwrap_or_default(),
            sae.d_sae()
        );
        let rows = || -> Result<Vec<f32>> {
            let row = |&latent: &usize| host(written(sae).slice([latent..latent + 1, 0..sae.d_out()]));
            Ok(self.latents.iter().map(row).collect::<Result<Vec<_>>>()?.concat())
        };
        let writes = (self.what == PointKind::Reconstruction).then(rows).transpose()?;
        Ok(Chooser { sae, latents: &self.latents, writes })
    }

    /// Adds the points of some contexts, whose activations are `[contexts · length, width]`.
    fn take(&self, x: Tensor<2>, rows: Rows, chooser: Option<&Chooser<'_>>, points: &mut Vec<Point>) -> Result<()> {
        let Rows { first, length, skipped } = rows;
        let most = self.per_context as usize;
        let [tokens, width] = x.dims();
        let count = tokens / length;
        let values = host(x.clone())?;
        ensure!(values.iter().all(|value| value.is_finite()), "one of them is not finite");
        let at = |row: usize| values[row * width..(row + 1) * width].to_vec();
        let Some(chooser) = chooser else {
            for context in 0..count {
                let of = |place: usize| Point { strength: 0.0, values: at(context * length + place) };
                points.extend(places(self.seed, first + context, [skipped, length], most).into_iter().map(of));
            }
            return Ok(());
        };
        let mut firing: BTreeMap<usize, Vec<(usize, f32)>> = BTreeMap::new();
        chooser.sae.encode(x).for_each_active(|row, latent, z| {
            let place = chooser.latents.iter().position(|&wanted| wanted == latent);
            if let Some(place) = place.filter(|_| row % length >= skipped) {
                firing.entry(row).or_default().push((place, z));
            }
        });
        let mut of_context: Vec<Vec<Point>> = (0..count).map(|_| Vec::new()).collect();
        for (row, fired) in firing {
            let values = match &chooser.writes {
                None => at(row),
                Some(writes) => {
                    let width = writes.len() / chooser.latents.len();
                    together(&fired, writes, width).into_iter().map(|v| v as f32).collect()
                }
            };
            of_context[row / length].push(Point { strength: fired.iter().map(|(_, z)| z).sum(), values });
        }
        for mut of in of_context {
            of.sort_by(|a, b| b.strength.total_cmp(&a.strength));
            points.extend(of.into_iter().take(most));
        }
        Ok(())
    }
}

fn host(values: Tensor<2>) -> Result<Vec<f32>> {
    values.into_data().convert::<f32>().try_into_vec::<f32>().map_err(|e| anyhow!("activations: {e:?}"))
}
