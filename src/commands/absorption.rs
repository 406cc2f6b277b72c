//! `assay absorption`: which latents tell the first letters of words, and which absorb them.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, ModelFiles, Site};
use assay_probes::absorption::{LETTERS, LetterProbe, Words};
use assay_sae::{Normalization, Sae};
use burn::tensor::{Tensor, TensorData};
use ndarray::Array2;
use rayon::prelude::*;
use serde_json::json;

use super::contexts::whole;
use super::eval::named::{model_of, named, shortened};
use super::eval::place::PlaceArgs;
use super::given::GivenArgs;
use super::probe::of_path;
use crate::absorption::{Asked, Bootstrap, SaeReport, Spelled, Spelling, json as found_json, text};
use crate::controls::{SAMPLE, permuted_decoder, random_dictionary};
use crate::interrupt::{self, Interrupted};
use crate::markdown::counted;
use crate::probe::{Pooling, Reading};
use crate::progress::Progress;
use crate::{device, fetch, output};

/// Do several latents share the first letter of words (splitting), and do others write it where those are silent (absorption)?
///
/// SAEBench's first-letter task, for models that can spell. Each word of the vocabulary is shown behind examples, ` word has the first letter:
/// W`. A probe on the activations at the word says which letter it begins with; where probes tell fewer than 20 letters there is no result.
/// Of each letter: the latents that tell it, and what share of it others write. The same for random directions and for the SAE with a permuted
/// decoder. A low score alone is no merit: an SAE that was hardly trained has one too.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Definitions, in a word in which the probe finds its letter; p the probe's direction, of length 1:\n  P           x·p, x the activation\n  π           of a latent: its activation times the length of its decoder row and its cosine with p\n  M           Σ π of the letter's own latents\n  A           Σ of the three largest π of others, with a cosine of 0.1 or more\n  absorption fraction\n              0 if M ≥ P or A < 0.4 P; else 1 if M ≤ 0; else t/(t + M), t = min(A, P − M)\n  full absorption\n              the letter's latents are silent, and the largest π of all is 0.4 P or more,\n              of a latent with a cosine of 0.025 or more\n  without the decoder's bias\n              the same with P = (x − b_dec)·p, which is what latents are to write\n  SAEBench 0.6.0, absorption_first_letter, has the first two. What differs here is in docs/features.md.\n\nExamples:\n  assay absorption --model models/bundled/small --sae tests/golden/eval-small/L3_k8\n  assay absorption --sae gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82 --words 400 --json"
)]
pub struct AbsorptionArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf] [default: that of
    /// a published SAE]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,
    /// SAE, of any format that assay reads, a name on the hub or one that `assay saes` lists; several, or a pattern, that read at one place. All
    /// are compared with the first
    #[arg(long, value_name = "DIR|NAME", required = true, num_args = 1..)]
    sae: Vec<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Maximum words per letter: four fifths to fit on, the others to test
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = whole(10, 1_000_000, "a probe of fewer says nothing"))]
    words: u64,
    /// Words that stand, with their letters, before each word; at least so many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = whole(0, 1000, ""))]
    examples: u64,
    /// Tokens per context, BOS included: the longer, the more words share one
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = whole(8, u64::MAX, "examples and a word need room"))]
    context_size: u64,
    /// Bootstrap replicates of the intervals
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole(100, 20_000, "the ends of an interval would be chance"))]
    resamples: u64,
    /// Seed of words, examples, controls and the bootstrap
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0, i64::MAX as u64, "a seed is not negative"))]
    seed: u64,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    given: GivenArgs,
}

impl AbsorptionArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model or an SAE is unusable, an SAE is a transcoder, normalises its input or reads at another place than the first, the
    /// vocabulary has too few words, or somebody interrupts ([`Interrupted`]).
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let names = named(&self.sae)?;
        let model_name = model_of(self.model.as_deref(), &names)?;
        let device = device::open(device_name)?.device;
        // First, as pickled ones are refused.
        let dirs = names.iter().map(|name| fetch::sae(name, progress)).collect::<Result<Vec<_>>>()?;
        let checkpoint = fetch::model(&model_name, progress)?;
        let files = ModelFiles::open(&checkpoint)?;
        let positions = files.config().max_positions;
        let context = usize::try_from(self.context_size).unwrap_or(usize::MAX);
        ensure!(context <= positions, "--context-size {context}: the model has {positions} positions; lower it");
        let (mut saes, mut notes): (Vec<(String, Sae, Site)>, _) = (Vec::new(), Vec::new());
        for ((name, dir), short) in names.iter().zip(&dirs).zip(shortened(&names).1) {
            let (loaded, place) = self.place.open(name, dir, files.config(), &self.given, &device)?;
            check(name, &loaded.sae)?;
            if let Some((first, _, site)) = saes.first().filter(|first| first.2 != place.reads) {
                anyhow::bail!(
                    "{} reads at {} and {first} at {site}: SAEs that are compared here read at one place; give them one by one",
                    name.display(),
                    place.reads
                );
            }
            notes.extend(place.doubts(&model_name, &checkpoint, &loaded.metadata));
            notes.extend(loaded.notes);
            let short = if names.len() == 1 { of_path(name) } else { short };
            saes.push((short, loaded.sae, place.reads));
        }
        let site = saes[0].2;
        let vocabulary = Vocabulary::load(&checkpoint)?;
        let asked = Asked { most: self.words as usize, examples: self.examples as usize, context, seed: self.seed };
        let spelled = Spelled::draw(&vocabulary, asked)?;
        interrupt::listen()?;
        let activations = read(&spelled, &files.load(&device)?, &vocabulary, site, progress)?;
        let words = Words { activations: &activations, letters: &spelled.letters, split: &spelled.split };
        let spelling = Spelling { words, probes: probes(words, progress)? };
        let bootstrap = Bootstrap::draw(&spelling, self.resamples as usize, self.seed);
        let mut found = Vec::new();
        if spelling.can_spell() {
            let all = self.with_controls(&saes, &activations, &mut notes)?;
            let letters = spelling.learned().count();
            let mut stage = progress.stage("latents of letters", (all.len() * letters) as u64, "letters");
            for (name, is_control, sae) in all {
                let tick = |done| stage.advance(done, || name.clone());
                found.push(SaeReport::measure(name.clone(), is_control, &sae, &spelling, &bootstrap, tick)?);
            }
            stage.finish("");
        }
        let failed = spelling.probes.iter().filter(|probe| !probe.has_converged).count();
        if failed > 0 {
            notes.push(format!("{} stopped before they converged", counted(failed, "probe")));
        }
        let without: usize = found.first().map_or(0, SaeReport::without_latents);
        if without > 0 {
            notes.push(format!("no latent speaks for {}, of which nothing else is said", counted(without, "letter")));
        }
        let shown = of_path(&model_name);
        if self.json {
            let mut object = found_json(&spelling, &bootstrap, &found);
            let about = json!({
                "model": shown, "hook": site.to_string(), "seed": self.seed, "words": spelled.words.len(), "words_per_letter": self.words,
                "examples": self.examples, "context_size": context, "resamples": self.resamples, "notes": notes,
            });
            let about = about.as_object().cloned().unwrap_or_default();
            object.as_object_mut().expect("an object").extend(about);
            return output::result_line(serde_json::to_string_pretty(&object)?);
        }
        let [least, most] = spelled.range();
        let head = format!(
            "# First letters of words in {shown} at {site}\n\n{} of the vocabulary, {least} to {most} of a letter, each behind {} examples or more; {} to fit on and {} to test.",
            counted(spelled.words.len(), "word"),
            self.examples,
            spelled.split.train.len(),
            spelled.split.test.len()
        );
        output::result(text(&head, &spelling, &bootstrap, &found, &notes))
    }

    /// The SAEs, and controls of the first.
    fn with_controls(
        &self,
        saes: &[(String, Sae, Site)],
        activations: &Array2<f64>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<(String, bool, Sae)>> {
        let mut all: Vec<(String, bool, Sae)> =
            saes.iter().map(|(name, sae, _)| (format!("SAE {name}"), false, sae.clone())).collect();
        let first = &saes[0].1;
        // Words are in a random order.
        let rows = activations.nrows().min(SAMPLE);
        let values: Vec<f32> = activations.rows().into_iter().take(rows).flatten().map(|&value| value as f32).collect();
        let sample = Tensor::from_data(TensorData::new(values, [rows, activations.ncols()]), &first.device());
        all.push(("random dictionary".to_owned(), true, random_dictionary(first, &sample, self.seed)?));
        match permuted_decoder(first, self.seed) {
            Ok(permuted) => all.push(("permuted decoder".to_owned(), true, permuted)),
            Err(error) => notes.push(format!("there is no row of a permuted decoder: {error}")),
        }
        Ok(all)
    }
}

/// Refuses what does not write the activation that it reads.
fn check(name: &Path, sae: &Sae) -> Result<()> {
    ensure!(
        !sae.is_transcoder(),
        "{}: a transcoder writes another activation than the one that it reads, so nothing is absorbed in it; give an SAE",
        name.display()
    );
    ensure!(
        sae.normalization() == Normalization::None,
        "{}: it normalises each activation ({}), so what its latents write can't be compared with the activation; give an SAE that does not",
        name.display(),
        sae.normalization().name()
    );
    Ok(())
}

/// The activation at each word, `[words, width]`.
fn read(
    spelled: &Spelled,
    model: &Decoder,
    vocabulary: &Vocabulary,
    site: Site,
    progress: Progress,
) -> Result<Array2<f64>> {
    let context = spelled.contexts.iter().map(Vec::len).max().unwrap_or(0);
    let reading = Reading { model, vocabulary, context, pooling: Pooling::Last };
    let mut stage = progress.stage("read words", spelled.contexts.len() as u64, "contexts");
    let rows = reading.at(&spelled.contexts, &spelled.places, site, |done| stage.advance(done, String::new))?;
    stage.finish("");
    let mut activations = Array2::zeros(rows.raw_dim());
    for (row, &word) in rows.rows().into_iter().zip(&spelled.read) {
        activations.row_mut(word).assign(&row);
    }
    Ok(activations)
}

/// The probe of each letter.
fn probes(words: Words<'_>, progress: Progress) -> Result<Vec<LetterProbe>> {
    let mut stage = progress.stage("probes of letters", LETTERS as u64, "letters");
    let mut found = Vec::new();
    // A few at a time, so that progress is shown and a request to stop is seen.
    for letters in (0..LETTERS).collect::<Vec<_>>().chunks(rayon::current_num_threads()) {
        if interrupt::requested() {
            return Err(Interrupted::with_nothing_written().into());
        }
        let fitted: Vec<_> = letters.par_iter().map(|&letter| LetterProbe::fit(words, letter)).collect();
        found.extend(fitted.into_iter().flatten());
        stage.advance(letters.len() as u64, String::new);
    }
    stage.finish("");
    Ok(found)
}
