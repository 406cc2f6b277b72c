//! `assay probe`: what labels can be read off an SAE's latents.

mod given;
mod read;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use assay_probes::probing::Protocol;
use assay_probes::stats::Resamples;
use serde_json::json;

use self::given::{Labels, Width};
use self::read::Models;
use super::contexts::whole;
use super::eval::named::{model_of, named, shortened};
use super::eval::place::PlaceArgs;
use super::given::GivenArgs;
use crate::controls::Control;
use crate::files::check_writable;
use crate::frames::{Probes, write_probes};
use crate::interrupt::{self, Interrupted};
use crate::output;
use crate::probe::{
    Means, Measures, Pooling, Row, Wanted, check_memory, json as rows_json, measure, numbered, tasks, text,
};
use crate::progress::Progress;

/// Probe SAEs: how well labels of texts can be read off their latents, with baselines.
///
/// A logistic regression on the k best latents, or on all, tells each class from the others. The labels are also coded with what such a
/// probe predicts before it has seen them (prequential minimum description length). In the same table: the activations that the SAE
/// reads, their principal components, a bag of words, random directions as sparse as the SAE, and permuted labels.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Protocols:\n  saebench    SAEBench 0.6.0, sparse_probing: the mean over tokens without BOS and end-of-text;\n              columns by |mean₊ − mean₋|; L2-penalised logistic regression, C = 1, of columns as\n              they are; accuracy. What differs here: by default 2,000 texts per task, a quarter to\n              test, split by document; the probe of all columns is the same regression, not a\n              network's layer that is stopped where it does best on the test texts.\n  sae-probes  sae-probes 0.4.2, setting normal, penalty l2: the last token of at most 1,024,\n              long texts cut at their beginning; columns by the difference of means after\n              division by the mean of what is not 0; C of ten values by the AUROC of validation\n              texts. What differs here: the penalty is not l1, its default; texts are not drawn\n              as numpy draws them; of 12 texts or fewer there are six folds.\n\nCode:\n  Bits per label, over blocks of texts in random orders of documents. Each block is coded with a\n  probe fitted on those before it, whose columns are chosen on them too; penalties are mixed by\n  Bayes' rule. Compression is against the code of labels alone (Krichevsky and Trofimov 1981).\n\nExamples:\n  assay probe --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tasks bundled --task source\n  assay probe --model models/bundled/small --sae tests/golden/eval-small/L3_k8 --tasks bundled \\\n    --controls random-model,permuted-decoder --out /tmp/probes    # all tasks: a minute or two\n  assay probe --sae gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82 --data reviews.jsonl \\\n    --label-column stars --protocol sae-probes"
)]
pub struct ProbeArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf] [default: that of
    /// a published SAE]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,
    /// SAE or transcoder, of any format that assay reads, a name on the hub or one that `assay saes` lists; several, or a pattern. All are
    /// compared with the first
    #[arg(long, value_name = "DIR|NAME", required = true, num_args = 1..)]
    sae: Vec<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    place: PlaceArgs,
    /// How probes are fitted; see below
    #[arg(long, value_name = "NAME", default_value = "saebench", value_parser = given::protocol)]
    protocol: Protocol,
    /// Columns that a probe reads: numbers, and `all`
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1,2,5,all")]
    k: Vec<Width>,
    /// Maximum texts per task
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = whole(24, 1_000_000, "a probe of fewer says nothing"))]
    texts: u64,
    /// Share of the texts to test on
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, value_parser = given::share)]
    test_share: f64,
    /// Keep the classes as frequent as they are, instead of taking equally many texts of each
    #[arg(long)]
    unbalanced: bool,
    /// Orders of the texts over which the code is averaged; 0 for no code
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = whole(0, 1000, ""))]
    orders: u64,
    /// Also compute the code of probes on more than 512 columns, and on all: minutes per task of a thousand texts
    #[arg(long)]
    code_all: bool,
    /// Bootstrap replicates of the intervals
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole(100, 20_000, "the ends of an interval would be chance"))]
    resamples: u64,
    /// Seed of splits, orders, controls and the bootstrap
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0, i64::MAX as u64, "a seed is not negative"))]
    seed: u64,
    /// Tokens read per text, BOS included [default: 128; with --protocol sae-probes 1024]
    #[arg(long, value_name = "N", value_parser = whole(2, u64::MAX, "a text needs two tokens"))]
    context_size: Option<u64>,
    /// Also probe controls of the first SAE; `random-dictionary` is always included
    #[arg(long, value_name = "NAME,…", value_enum, value_delimiter = ',')]
    controls: Vec<Control>,
    /// Write every number to DIR/probe.parquet, which must not exist yet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print every number of columns, score and control, and the table of every task, not only their mean
    #[arg(long)]
    all: bool,
    /// Print one JSON object instead of tables
    #[arg(long, conflicts_with = "all")]
    json: bool,
    #[command(flatten)]
    given: GivenArgs,
}

impl ProbeArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the labelled texts, the model or an SAE are unusable or don't belong together, `--out` holds such a file already, or somebody
    /// interrupts ([`Interrupted`]).
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let out = self.out.as_ref().map(|out| out.join("probe.parquet"));
        if let Some(out) = &out {
            ensure!(
                out.symlink_metadata().is_err(),
                "{} is there already; remove it, or give another --out",
                out.display()
            );
            check_writable(out)?;
        }
        let names = named(&self.sae)?;
        let model_name = &model_of(self.model.as_deref(), &names)?;
        // Before anything is fetched.
        let sets = self.labels.sets(progress)?;
        let wanted = Wanted {
            most: self.texts as usize,
            test_share: self.test_share,
            balance: !self.unbalanced,
            seed: self.seed,
        };
        let (mut all, mut notes) = (Vec::new(), Vec::new());
        for set in sets {
            let (mut of_set, left_out) = tasks(&set, wanted);
            notes.extend(left_out);
            let documents = numbered(&mut of_set);
            if !of_set.is_empty() {
                all.push((set, of_set, documents));
            }
        }
        ensure!(!all.is_empty(), "there is no task: {}", notes.join("; "));
        let models = Models::open(self, device_name, &names, model_name, progress)?;
        let d_sae = models.d_sae();
        if let Some(k) = self.k.iter().filter_map(|k| k.0).find(|k| *k > d_sae) {
            bail!("--k {k}: the SAE has {d_sae} latents; give numbers up to that, or `all`");
        }
        notes.splice(0..0, models.notes.iter().cloned());
        let measures = Measures {
            protocol: self.protocol,
            ks: self.k.iter().filter_map(|k| k.0).collect(),
            all: self.k.iter().any(|k| k.0.is_none()),
            code_all: self.code_all,
            orders: self.orders as usize,
            resamples: self.resamples as usize,
            seed: self.seed,
        };
        if measures.all {
            check_memory(all.iter().flat_map(|(_, of_set, _)| of_set), &models.representations())?;
        }
        interrupt::listen()?;
        let mut found: Vec<Vec<Row>> = Vec::new();
        let mut means = Means::default();
        let mut l0 = Vec::new();
        for (at, (set, of_set, documents)) in all.iter().enumerate() {
            let mut used: Vec<usize> = of_set.iter().flat_map(|task| task.rows.iter().copied()).collect();
            used.sort_unstable();
            used.dedup();
            let (representations, l0_of_set) = models.read(set, of_set, &used, progress)?;
            l0.push(l0_of_set);
            // Sets share no document, and have draws of their own.
            let drawn = Resamples::draw(*documents, measures.resamples, self.seed.wrapping_add(at as u64));
            let mut stage = progress.stage(format!("probe {}", set.name), of_set.len() as u64, "tasks");
            for task in of_set {
                let rows = measure(task, &used, &representations, &drawn, &measures)
                    .ok_or_else(Interrupted::with_nothing_written)?;
                means.add(&rows, at, task);
                found.push(rows);
                stage.advance(1, || task.name.clone());
            }
            stage.finish("");
        }
        let means = means.finish();
        let failed: usize = found.iter().flatten().map(|row| row.not_converged).sum();
        if failed > 0 {
            notes.push(format!("{failed} fits stopped before they converged; the file of --out says which"));
        }
        let shown = models.model_name.clone();
        if let Some(out) = &out {
            let rows: Vec<Row> = means.iter().chain(found.iter().flatten()).cloned().collect();
            write_probes(out, &Probes { model: &shown, protocol: self.protocol.name(), seed: self.seed }, &rows)?;
            progress.say(&format!("{}: written", out.display()));
        }
        let (_, short) = shortened(&names);
        let l0 = |sae: usize| l0.iter().map(|of_set: &Vec<f64>| of_set[sae]).sum::<f64>() / l0.len() as f64;
        if self.json {
            let saes: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(at, name)| json!({"sae": name.display().to_string(), "name": short[at], "l0": l0(at)}))
                .collect();
            let rows: Vec<Row> = found.into_iter().flatten().collect();
            let object = json!({
                "model": shown, "saes": saes, "protocol": self.protocol.name(), "seed": self.seed,
                "context_size": models.context, "resamples": self.resamples, "orders": self.orders,
                "means": rows_json(&means), "rows": rows_json(&rows), "notes": notes,
            });
            return output::result_line(serde_json::to_string_pretty(&object)?);
        }
        let saes: Vec<String> = short
            .iter()
            .enumerate()
            .map(|(at, name)| format!("{name} (L0 {})", crate::markdown::number(Some(l0(at)))))
            .collect();
        let head = format!(
            "{} of {}, protocol {}, texts of at most {} tokens",
            saes.join(", "),
            shown,
            self.protocol.name(),
            models.context
        );
        output::result(text(&head, &found, &means, self.protocol, self.all, &notes))
    }

    /// Tokens of a text on a model with so many positions.
    fn context(&self, max_positions: usize) -> Result<usize> {
        let usual = match self.protocol {
            Protocol::SaeBench => 128,
            Protocol::SaeProbes => 1024,
        };
        let Some(asked) = self.context_size else { return Ok(max_positions.min(usual)) };
        let asked = usize::try_from(asked).unwrap_or(usize::MAX);
        ensure!(asked <= max_positions, "--context-size {asked}: the model has {max_positions} positions; lower it");
        Ok(asked)
    }

    fn pooling(&self) -> Pooling {
        match self.protocol {
            Protocol::SaeBench => Pooling::Mean,
            Protocol::SaeProbes => Pooling::Last,
        }
    }
}

/// What a path is called in a table.
pub(super) fn of_path(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
