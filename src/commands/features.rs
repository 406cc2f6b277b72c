//! `assay features`: what each latent means.

mod judge;
mod made;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use assay_models::vocabulary::Vocabulary;
use assay_models::{DecoderConfig, ModelFiles, TokenSource, memory};
use assay_probes::features::explanation::Method;
use assay_probes::seeds::{self, Agreement, SHARED, Twin};
use assay_probes::stats::median as median_of;
use assay_sae::{LoadedSae, Sae, formats};
use burn::tensor::Device;
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use self::judge::{JudgeArgs, JudgeReport};
use self::made::Made;
use super::contexts::{ALL_SEQUENCES, CONTEXT_OF_SAE, ContextArgs};
use super::eval::named::model_of;
use super::eval::place::PlaceArgs;
use super::given::GivenArgs;
use crate::catalogue::assumptions::complete;
use crate::events::{Contents, Events, INDEX, Store, TOKENS, Tokens, hash_file, separators};
use crate::features::explaining::{Described, WINDOWS};
use crate::features::exports::neuronpedia::Source;
use crate::features::exports::{delphi, neuronpedia};
use crate::features::firings::Compared;
use crate::features::pass::Pass;
use crate::features::topics::Topic;
use crate::features::{DASHBOARD, FOLDER, Feature, TABLE, dashboard, topics};
use crate::files::check_writable;
use crate::progress::Progress;
use crate::{device, fetch, interrupt, markdown, output};

/// What each latent of an SAE means: where it fires, on which tokens, what it writes, and what the model loses without it.
///
/// One pass over the tokens writes every firing of every latent to --out (events.safetensors, sorted by latent, and
/// tokens.safetensors); from these it makes features.parquet, one row per latent, topics.parquet, and dashboard.html, a page that opens from disk. An
/// interrupted pass resumes with the same command. Memory grows neither with the tokens nor with the firings.
#[derive(clap::Args, Debug)]
#[command(
    mut_arg("sequences", |of| of.help(ALL_SEQUENCES)),
    mut_arg("context_size", |of| of.help(CONTEXT_OF_SAE)),
    after_help = "Columns of features.parquet (null where undefined):\n  density                 share of tokens on which it fires; density_low and density_high are\n                          Wilson's 95 % interval\n  token_entropy, purity   entropy in bits of the token ids that it fires on, weighted by\n                          activation, and the largest share\n  eta2_X                  share of its variance over all tokens that X explains: the token, the\n                          previous token, the position, the document. eta2_X_chance is expected\n                          of a latent that has nothing to do with X, and eta2_X_adjusted is 0\n                          for it\n  tokens_in, tokens_out   tokens that it fires on, and tokens that it writes by the logit lens\n  nearest, partner        the latent with the nearest decoder row, and the one that fires most\n                          where it does. partner_contexts is the share of contexts in which that\n                          was looked for: below 1 where there are more than 8 million firings\n  input_score             share of its largest contexts that peak on a token that it writes\n                          (Arad et al. 2025)\n  output_score            how much of what it writes the model predicts where it is made very\n                          active (same source)\n  explained_by_X          what can be said of it without a language model, by X: tokens,\n                          sequences (ngrams), keywords of its windows, tokens that it writes, or\n                          a rule\n  detection_X_auroc       how well that tells windows of up to 32 tokens in which it fires from\n                          others, in documents that it was not made from (7 may be split where a\n                          row ends); _balanced_accuracy likewise. Up to half of the others have\n                          a token that it fires on. Null where there is only one document.\n                          _other_ is the same for the explanation of a latent drawn at random,\n                          as a baseline\n  twin, twin_encoder      with --other: the latents that the best one-to-one match by decoder\n                          rows and by encoder directions gives it there. twin_shared says\n                          whether both are the same, at cosines of 0.7 or more\n  delta_ce, delta_kl      what ablating it does to the context's loss and predictions, in nats\n                          per firing. Measured for a sample (--ablate), null for the others\n\nColumns of topics.parquet, a row for each frequent token:\n  latents, f1             those whose firings together are nearest to its occurrences, and how near\n                          (F1; f1_first of the first alone): several share it (splitting)\n  absorbers, absorbed     others that fire where none of those does, and on how many occurrences\n                          (docs/features.md defines both)\n\nIn Python:\n  e = safetensors.numpy.load_file(\"DIR/events.safetensors\")\n  scipy.sparse.csr_matrix((e[\"values\"], e[\"positions\"], e[\"offsets\"]))   # latents x tokens\n\nExamples:\n  assay features --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tokens models/bundled/eval.parquet --context-size 128 --out /tmp/features\n  assay features --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --tokens models/bundled/eval.parquet --context-size 128 --out /tmp/features --latent 3"
)]
pub struct FeaturesArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf] [default: that of
    /// a published SAE]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,
    /// SAE or transcoder: a directory or file of any format that assay reads, its name on the hub, org/name[@revision][:path], or a
    /// name that `assay saes` lists, release/id
    #[arg(long, value_name = "DIR|NAME")]
    sae: PathBuf,
    #[command(flatten)]
    contexts: ContextArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Where to write: a new directory, or one that this command started
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Ablate this many latents, drawn at random among those that fire, each in up to 4 contexts (512 tokens) in which it fires; 0 for
    /// none [default: 256; for models with more than 100 million parameters in their layers, 32]
    #[arg(long, value_name = "N")]
    ablate: Option<usize>,
    /// Another SAE of the same hook, for example of another seed: match its latents one to one with those of --sae, by the cosines of
    /// their directions
    #[arg(long, value_name = "DIR|NAME", conflicts_with = "latent")]
    other: Option<PathBuf>,
    /// Don't write dashboard.html
    #[arg(long)]
    no_dashboard: bool,
    /// Write the page as a folder, dashboard/index.html and a file for every 64 latents, as is always done for an SAE of more than
    /// 65,536 latents
    #[arg(long, conflicts_with = "no_dashboard")]
    shards: bool,
    /// Also write neuronpedia/batch-N.json, for Neuronpedia's upload, with the names of the model and the source there
    #[arg(long, value_name = "MODEL/SOURCE", conflicts_with = "latent")]
    neuronpedia: Option<Source>,
    /// Also write delphi/, the firings as delphi caches them
    #[arg(long, conflicts_with = "latent")]
    delphi: bool,
    /// Print one latent with the contexts in which it fires, instead of writing table and page
    #[arg(long, value_name = "N")]
    latent: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    judge: JudgeArgs,
}

impl FeaturesArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model, the SAE or the tokens are unusable or don't belong together, or `--out` holds something else or can't be written.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        Store::check(&self.out)?;
        check_writable(&self.out.join(INDEX))?;
        let judge = self.judge.open(&self.out)?;
        let model_name = model_of(self.model.as_deref(), std::slice::from_ref(&self.sae))?;
        let opened = device::open(device_name)?;
        let device = opened.device;
        let dir = fetch::sae(&self.sae, progress)?;
        let checkpoint = fetch::model(&model_name, progress)?;
        let files = ModelFiles::open(&checkpoint)?;
        let vocabulary = Vocabulary::load(&checkpoint).context(
            "`assay features` shows tokens as text, also those of a token file: it needs tokenizer.json beside the model's config.json",
        )?;
        let mut loaded = formats::load(&dir, &device)?;
        let assumed = complete(&mut loaded, &self.given.given())?;
        let place = self.place.place(&self.sae, &loaded, files.config(), assumed.without_value_bias)?;
        place.doubts(&model_name, &checkpoint, &loaded.metadata).iter().for_each(|doubt| progress.warn(doubt));
        let d_sae = loaded.sae.d_sae();
        if let Some(latent) = self.latent {
            ensure!(latent < d_sae, "--latent {latent}: the SAE has {d_sae} latents, from 0");
        }
        let other = self.other.as_ref().map(|other| self.other(other, &loaded, &device, progress)).transpose()?;
        let is_folder = self.shards || d_sae > dashboard::MOST;
        let (source, sequences) = self.contexts.open(files.config(), &checkpoint, loaded.metadata.context_size)?;
        source.notes().iter().for_each(|note| progress.say(note));
        let context_size = source.context_size();
        assay_models::decoder::check_context(context_size, files.config())?;
        ensure!(
            u32::try_from(sequences * context_size).is_ok(),
            "{sequences} sequences of {context_size} tokens are more than {} tokens; take fewer --sequences",
            u32::MAX
        );
        let config = files.config();
        let contents = Contents {
            model: model_name.display().to_string(),
            weights: files.weights_hash(),
            sae: self.sae.display().to_string(),
            sae_weights: made::hash(&loaded.sae),
            hook: place.reads.to_string(),
            device: opened.class,
            tokens: Tokens::hash(&source, sequences)?,
            sequences,
            context_size,
            batch: self.contexts.batch(context_size, config.vocab_size),
            bos: source.bos(),
            is_text: self.contexts.is_text(),
            separators: separators(config, source.bos()),
            d_sae,
        };
        interrupt::listen()?;
        let mut store = Store::open(&self.out, contents)?;
        let (was_finished, model) = (store.is_finished(), files.load(&device)?);
        if was_finished {
            progress.say(&format!("{}: the firings are there already", self.out.display()));
            Events::verify(&self.out)?;
        } else {
            let batch = self.contexts.batch(context_size, model.config().vocab_size);
            let pass = Pass { model: &model, sae: &loaded.sae, reads: place.reads, source: &source, sequences, batch };
            self.fill(&mut store, &pass, progress)?;
            self.merge(store, &source, sequences, progress)?;
        }
        let events = Events::open(&self.out)?;
        let made = Made { model: &model, loaded: &loaded, place, vocabulary: &vocabulary, events: &events, progress };
        if let Some(latent) = self.latent {
            return made.latent(latent, self.json);
        }
        let (mut features, found, compared) =
            made.all(self.ablate.unwrap_or_else(|| ablated(files.config())), &self.saved())?;
        let agreement = other.map(|other| made.twins(&mut features, &other, &self.saved())).transpose()?;
        made.table(&features, compared, &self.out.join(TABLE))?;
        topics::write(&self.out.join(topics::TABLE), &found, &vocabulary)?;
        if !self.no_dashboard {
            let path = self.out.join(if is_folder { FOLDER } else { DASHBOARD });
            made.dashboard(&features, compared, &path, is_folder, &self.saved())?;
        }
        if let Some(source) = &self.neuronpedia {
            made.neuronpedia(&features, source, &self.out.join(neuronpedia::DIR), &self.saved())?;
        }
        if self.delphi {
            delphi::write(&self.out.join(delphi::DIR), &mut events.again()?)?;
        }
        let judged =
            judge.map(|judge| self.judge.run(&judge, &made, &features, &self.out, &self.saved())).transpose()?;
        self.report(&made, &features, &found, compared, is_folder, (agreement, judged))
    }

    /// The SAE whose latents are matched.
    fn other(&self, name: &Path, own: &LoadedSae, device: &Device, progress: Progress) -> Result<Sae> {
        let loaded = formats::load(&fetch::sae(name, progress)?, device)?;
        let (shown, most) = (name.display(), seeds::MOST);
        let (other, sae) = (&loaded.sae, &own.sae);
        let widths = |sae: &Sae| (sae.d_in(), sae.d_out());
        ensure!(
            widths(other) == widths(sae),
            "--other {shown}: it reads and writes {:?} channels, --sae {:?}; give an SAE of the same hook",
            widths(other),
            widths(sae)
        );
        let hooks = loaded.metadata.hook_name.as_ref().zip(own.metadata.hook_name.as_ref());
        if let Some((theirs, ours)) = hooks.filter(|(theirs, ours)| theirs != ours) {
            progress.warn(&format!(
                "--other {shown} names the hook {theirs}, --sae {ours}: directions of different activations are compared, of which few are alike"
            ));
        }
        let largest = other.d_sae().max(sae.d_sae());
        ensure!(largest <= most, "--other {shown}: a match of {largest} latents takes too long; {most} are possible");
        // Cosines of one kind of direction at a time, and as many to look for the largest product of.
        let needed = 8 * (other.d_sae() * sae.d_sae()) as u64;
        let free = memory::free(&Device::flex());
        ensure!(
            free.is_none_or(|free| needed <= free),
            "--other {shown}: the cosines of all latents take {}, and {} are free",
            DecimalBytes(needed),
            DecimalBytes(free.unwrap_or_default())
        );
        Ok(loaded.sae)
    }

    fn saved(&self) -> String {
        format!("what is finished is in {}, and the same command resumes", self.out.display())
    }

    fn fill(&self, store: &mut Store, pass: &Pass<'_>, progress: Progress) -> Result<()> {
        let mut stage = progress.stage(format!("encode {}", pass.reads), pass.sequences as u64, "sequences");
        pass.run(store, &mut stage, &self.saved())?;
        stage.finish("");
        Ok(())
    }

    fn merge(&self, store: Store, source: &TokenSource, sequences: usize, progress: Progress) -> Result<()> {
        Tokens::write(&self.out, source, sequences)?;
        let mut stage = progress.stage("sort by latent", 2 * store.events(), "firings");
        let hash = hash_file(&self.out.join(TOKENS))?;
        store.finish(hash, &mut |n| stage.advance(n, String::new))?;
        stage.finish("");
        Ok(())
    }

    /// What is said when all is written.
    fn report(
        &self,
        made: &Made<'_>,
        features: &[Feature],
        found: &[Topic],
        compared: Compared,
        is_folder: bool,
        (agreement, judged): (Option<[Agreement; 2]>, Option<JudgeReport>),
    ) -> Result<()> {
        let contents = made.events.contents();
        let tokens = (contents.sequences * contents.context_size) as u64;
        let alive = features.iter().filter(|feature| feature.scores.firings > 0).count();
        let notes = &made.notes()?;
        let median = |of: fn(&Feature) -> Option<f64>| {
            let values: Vec<f64> = features.iter().filter_map(of).collect();
            (median_of(&values), values.len())
        };
        let detection = detections(features);
        let shared = topics::TopicMeans::of(found);
        let medians: [(&str, (Option<f64>, usize)); 9] = [
            ("token_entropy", median(|f| f.scores.token_entropy)),
            ("purity", median(|f| f.scores.purity)),
            ("eta2_token_adjusted", median(|f| f.adjusted.token)),
            ("eta2_previous_adjusted", median(|f| f.adjusted.previous)),
            ("eta2_position_adjusted", median(|f| f.adjusted.position)),
            ("eta2_document_adjusted", median(|f| f.adjusted.document)),
            ("input_score", median(|f| f.input_score)),
            ("output_score", median(|f| f.output_score)),
            ("delta_ce", median(Feature::delta_ce)),
        ];
        if self.json {
            let of = |part: fn((Option<f64>, usize)) -> Value| -> serde_json::Map<String, Value> {
                medians.iter().map(|(name, found)| ((*name).to_owned(), part(*found))).collect()
            };
            let object = json!({
                "out": self.out.display().to_string(), "tokens": tokens, "latents": features.len(), "alive": alive,
                "firings": made.events.total(), "l0": made.events.total() as f64 / tokens as f64, "medians": of(|(median, _)| json!(median)),
                "medians_of": of(|(_, latents)| json!(latents)),
                "detection": detection.iter().map(|found| json!({
                    "explanation": found.method.name(), "auroc": found.auroc, "balanced_accuracy": found.balanced_accuracy,
                    "other_auroc": found.other_auroc, "latents": found.latents, "other_latents": found.others,
                })).collect::<Vec<_>>(),
                "twins": agreement.map(|[own, chance]| json!({
                    "pw_mcc": own.matched, "pw_mcc_random": chance.matched, "mmcs": own.largest, "mmcs_random": chance.largest,
                    "shared": shared_of(features),
                })),
                "topics": {
                    "topics": shared.topics, "learned": shared.learned, "latents": shared.split, "absorbed": shared.absorbed,
                },
                "judge": judged,
                "partners": { "every": compared.every, "share": compared.share }, "contents": contents, "notes": notes,
            });
            return output::result_line(serde_json::to_string_pretty(&object)?);
        }
        let mut table = markdown::Table::new(["median", "value", "of latents"]);
        for (name, (value, latents)) in medians {
            table.row([name.to_owned(), markdown::number(value), latents.to_string()]);
        }
        let head =
            ["explanation", "AUROC", "balanced accuracy", "of latents", "AUROC of another latent's", "of latents"];
        let mut explained = markdown::Table::new(head);
        for found in &detection {
            let [own, balanced, other] = [found.auroc, found.balanced_accuracy, found.other_auroc].map(markdown::score);
            let [latents, others] = [found.latents, found.others].map(|count| count.to_string());
            explained.row([found.method.name().to_owned(), own, balanced, latents, other, others]);
        }
        let twins = agreement.map_or_else(String::new, |[own, null]| twins_table(own, null, shared_of(features)));
        let judged = judged.map_or_else(String::new, |judged| format!("\n{}", judged.text()));
        let page = match (self.no_dashboard, is_folder) {
            (true, _) => String::new(),
            (false, true) => format!(", {FOLDER}/{} to look at in a browser", dashboard::INDEX),
            (false, false) => format!(", {DASHBOARD} to look at in a browser"),
        };
        output::result(format_args!(
            "{}: {} firings on {tokens} tokens of {alive} of {} latents\n{TABLE} has a row for each latent{page}\n\n{table}\nDetection of held-out windows by explanations, \
             medians; {WINDOWS} of each kind of window at most\n\n{explained}\nPartners, latents that fire \
             together, were looked for in {compared}.\n{}\n{twins}{judged}{}",
            self.out.display(),
            made.events.total(),
            features.len(),
            topics::sentence(shared),
            markdown::notes(notes)
        ))
    }
}

/// The share of latents that the other SAE has too.
fn shared_of(features: &[Feature]) -> Option<f64> {
    let twins: Vec<Twin> = features.iter().filter_map(|feature| feature.twin).collect();
    let shared = twins.iter().filter(|twin| twin.is_shared()).count();
    (!twins.is_empty()).then(|| shared as f64 / twins.len() as f64)
}

fn twins_table(own: Agreement, null: Agreement, shared: Option<f64>) -> String {
    let mut table = markdown::Table::new(["the other SAE", "cosine", "of random directions"]);
    let rows =
        [("matched one to one (PW-MCC)", own.matched, null.matched), ("nearest (MMCS)", own.largest, null.largest)];
    for (name, own, null) in rows {
        table.row([name.to_owned(), markdown::number(own), markdown::number(null)]);
    }
    format!(
        "\n{table}\n{} of the latents are in both: encoder and decoder have the same partner, at cosines of {SHARED} or more.\n",
        markdown::percent(shared)
    )
}

/// Medians of one kind of explanation's scores over the latents that have one.
struct Detected {
    method: Method,
    auroc: Option<f64>,
    balanced_accuracy: Option<f64>,
    /// Of another latent's explanation.
    other_auroc: Option<f64>,
    /// How many have an explanation.
    latents: usize,
    /// How many of them have another latent's beside it.
    others: usize,
}

fn detections(features: &[Feature]) -> Vec<Detected> {
    let of = |method: Method| {
        let described = features.iter().flat_map(|f| &f.described).filter(|described| described.method == method);
        let described: Vec<&Described> = described.collect();
        let median = |of: fn(&Described) -> Option<f64>| {
            median_of(&described.iter().copied().filter_map(of).collect::<Vec<f64>>())
        };
        Detected {
            method,
            auroc: median(|d| d.own.auroc),
            balanced_accuracy: median(|d| d.own.balanced_accuracy),
            other_auroc: median(|d| d.other.auroc),
            latents: described.len(),
            others: described.iter().filter(|d| d.other.auroc.is_some()).count(),
        }
    };
    Method::ALL.into_iter().map(of).collect()
}

/// How many latents are ablated by default: a pass of a larger model takes longer.
fn ablated(config: &DecoderConfig) -> usize {
    // Attention has about 4·d_model² weights a layer, an MLP 8.
    let weights = 12 * config.n_layers() * config.d_model * config.d_model;
    if weights <= 100_000_000 { 256 } else { 32 }
}
