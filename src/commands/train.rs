//! `assay train`: one SAE, without a file that says how.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use assay_models::HookPoint;
use assay_sae::Architecture;

use super::contexts::whole;
use super::draft::DraftArgs;
use super::eval::show::scores;
use super::sweep::{SweepArgs, SweepOptions, quoted};
use crate::frames::{self, RunResult};
use crate::plan::{Outline, name_of_run};
use crate::progress::Progress;
use crate::spec::SpecDocument;
use crate::spec::draft::{Coders, Layers};
use crate::verdict::of_run;
use crate::{markdown, output};

/// Train one SAE on a model and a text, evaluate it on held-out text, and keep it.
///
/// It is a sweep of one SAE: the same command resumes where it was stopped, and the results directory has the same files. One of them
/// is sweep.toml, the commented spec that these options stand for: add to it, and `assay sweep` trains the rest. The paths of the
/// report and of the SAE are printed.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay train --model models/bundled/small --text models/bundled/train.parquet --layer 3 --k 8\n  assay train --model models/bundled/small --text models/bundled/train.parquet \\\n    --architecture jumprelu --k 16 --training-tokens 100000 --set train.lr=2e-3"
)]
pub struct TrainArgs {
    #[command(flatten)]
    draft: DraftArgs,
    /// The layer, from 0 [default: the one in the middle]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    layer: Option<usize>,
    /// Active latents per token: `k`, or `target_l0` of the classes that are steered to it (jumprelu, gated, standard)
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = whole(1, 1 << 20, "an SAE without active latents reconstructs nothing"))]
    k: u64,
    /// The class: topk, groupmax, batchtopk, jumprelu, gated or standard; other classes need settings that only a spec has
    #[arg(long, value_name = "NAME", default_value = "topk")]
    architecture: String,
    /// Seed of initialisation and batch order
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0, i64::MAX as u64, "a seed is not negative"))]
    seed: u64,
    /// Name of the sweep [default: of model, layer, class and k]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    options: SweepOptions,
}

impl TrainArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model or the text can't be used, and as `assay sweep`.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let settled = ["hierarchical", "matryoshka"];
        let known = Architecture::NAMES.into_iter().filter(|name| !settled.contains(name)).collect::<Vec<_>>();
        ensure!(
            known.contains(&self.architecture.as_str()),
            "--architecture {0}: options alone can train {1}; for another class let `assay new` write a spec, and put coders = \
             [{{ architecture = \"…\" }}] in it",
            self.architecture,
            known.join(", ")
        );
        let draft = self.draft.clone().with_overrides(&self.options.overrides)?;
        let found = draft.look(progress)?;
        let layers = found.config.n_layers();
        let layer = self.layer.unwrap_or(layers / 2);
        ensure!(layer < layers, "--layer {layer}: {} has layers 0 to {}", self.draft.model.display(), layers - 1);
        let width = HookPoint { layer, kind: self.draft.hook }.width(&found.config);
        if self.k > width as u64 {
            progress.say(&format!(
                "--k {}: the activation has {width} dimensions, and a code with more active latents than that is not sparse; 16 to 64 are usual",
                self.k
            ));
        }
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| format!("{}-L{layer}-{}-{}", found.model_name, self.architecture, self.k));
        let coders = Coders { architecture: self.architecture.clone(), l0: vec![self.k] };
        let text = draft.draft(&found, &name, Layers::One(layer), coders, vec![self.seed])?.text();
        let label = Path::new("assay train");
        let document = SpecDocument::of(label, &text, &self.options.overrides)?;
        let results = self.options.results(&document.spec()?);
        SweepArgs::of(label, &self.options).alone().run_document(&document, device_name, progress)?;
        if self.options.dry_run {
            return Ok(());
        }
        let grid = frames::read(&results)?;
        for run in &grid.runs {
            let vocab_size = found.config.vocab_size;
            progress.say(&format!("{}\n{}", of_run(run, grid.bootstrap, vocab_size).text, scores_of(run)));
        }
        let outline = Outline::read(&results)?.context("a sweep that is done has a plan")?;
        for group in &outline.groups {
            for run in &group.runs {
                let hook: HookPoint = run.key.hook.parse()?;
                let sae = results.join("saes").join(name_of_run(&group.model, hook, &run.key));
                output::result_line(sae.display())?;
                let [model, sae] = [&self.draft.model, &sae].map(|path| quoted(&path.to_string_lossy()));
                // What latents fire on in the text that they were trained on says less of them.
                let held_out = self.draft.eval_text.as_deref().map(|text| quoted(&text.to_string_lossy()));
                let text = held_out.unwrap_or_else(|| "FILE".to_owned());
                progress.say(&format!(
                    "next, on text that it was not trained on: `assay eval --model {model} --sae {sae} --text FILE`, and `assay features --model \
                     {model} --sae {sae} {} {text} --out features` for what its latents mean",
                    if found.is_tokens { "--tokens" } else { "--text" }
                ));
            }
        }
        Ok(())
    }
}

/// The first things to know of a run.
fn scores_of(run: &RunResult) -> markdown::Table {
    scores(|name| (run.value(name), run.interval(name)))
}
