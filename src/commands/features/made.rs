//! What is made of a finished store.

use std::path::Path;

use anyhow::{Result, ensure};
use assay_models::Decoder;
use assay_models::vocabulary::Vocabulary;
use assay_probes::ablation;
use assay_probes::amplification::{PROMPT, output_scores};
use assay_probes::features::sample;
use assay_probes::features::topics::Topic;
use assay_probes::latents::{decoder_cosine, encoder_decoder_cosines, nearest_decoder_rows, nearest_to};
use assay_probes::seeds::{Agreement, twins};
use assay_sae::{Activation, LoadedSae, Normalization, Sae};
use burn::tensor::{Tensor, TensorData};
use ndarray::Array2;

use crate::commands::eval::place::Place;
use crate::controls::random_rows;
use crate::events::Events;
use crate::features::dashboard::Page;
use crate::features::exports::neuronpedia::{self, Source};
use crate::features::firings::{COMPARED, Compared, ComparedFirings, Readers, Texts};
use crate::features::judge::{Calibration, Endpoint, Judged, judged};
use crate::features::windows::shown;
use crate::features::{Feature, effects, explaining, table, terminal, weights};
use crate::interrupt::{self, Interrupted};
use crate::markdown;
use crate::output;
use crate::progress::{Progress, Stage};

/// Nearest decoder rows of a latent that are kept.
const NEAREST: usize = 5;

/// A store, and what it is of.
pub(super) struct Made<'a> {
    pub model: &'a Decoder,
    pub loaded: &'a LoadedSae,
    pub place: Place,
    pub vocabulary: &'a Vocabulary,
    pub events: &'a Events,
    pub progress: Progress,
}

impl Made<'_> {
    fn tokens(&self) -> u64 {
        let contents = self.events.contents();
        (contents.sequences * contents.context_size) as u64
    }

    /// What is to be said beside the numbers.
    pub fn notes(&self) -> Result<Vec<String>> {
        let unexplained = explaining::unexplained(self.texts()?.cells.documents());
        Ok(self.loaded.notes.iter().cloned().chain(unexplained).collect())
    }

    fn texts(&self) -> Result<Texts> {
        Texts::read(self.events, self.model.config().vocab_size)
    }

    /// What latents write where their ablation is defined: what is added differs from token to token where activations are normalised.
    fn rows(&self) -> Option<Tensor<2>> {
        let sae = &self.loaded.sae;
        let is_fixed = sae.normalization() == Normalization::None || sae.is_transcoder();
        is_fixed.then(|| ablation::written(sae))
    }

    /// Everything about every latent, what they do with each frequent token id, and on which contexts both were compared; ablations of up to
    /// `ablate` that fire.
    pub fn all(&self, ablate: usize, saved: &str) -> Result<(Vec<Feature>, Vec<Topic>, Compared)> {
        let sae = &self.loaded.sae;
        let texts = self.texts()?;
        let readers = Readers::open(self.events, &texts)?;
        let latents: Vec<usize> = (0..sae.d_sae()).collect();
        let mut stage = self.progress.stage("score", latents.len() as u64, "latents");
        let scores = readers.scores(&latents, &mut stage, saved)?;
        stage.finish("");
        let together = readers.together(self.events, COMPARED)?;
        let (partners, compared) = (together.partners(), together.compared);
        let topics = self.topics(&together);
        drop(together);
        let written = weights::written_at(self.model, self.place.site, &ablation::written(sae));
        let (cosines, nearest) = (encoder_decoder_cosines(sae), nearest_decoder_rows(sae, NEAREST));
        let output_scores = self.output_scores(&written)?;
        let chance = texts.cells.chance();
        let mut features = Vec::with_capacity(latents.len());
        let beside = written.into_iter().zip(nearest).zip(partners).zip(cosines).zip(output_scores);
        for (latent, (scores, ((((written, nearest), partner), encoder_decoder), output_score))) in
            scores.into_iter().zip(beside).enumerate()
        {
            let of = Feature::of(latent, scores, written, chance);
            features.push(Feature { output_score, nearest, partner, encoder_decoder, ..of });
        }
        self.describe(&readers, &texts, &mut features, &latents, saved)?;
        if let Some(rows) = self.rows().filter(|_| ablate > 0) {
            let alive = latents.into_iter().filter(|latent| self.events.firings(*latent) > 0).collect();
            let drawn = sample(alive, ablate);
            let mut stage = self.progress.stage("ablate", drawn.len() as u64, "latents");
            let found = effects::effects(self.model, self.place.site, &rows, &readers, &drawn, &mut stage, saved)?;
            for (latent, effect) in drawn.into_iter().zip(found) {
                features[latent].effect = Some(effect);
            }
            stage.finish("");
        }
        Ok((features, topics, compared))
    }

    /// What latents do with each token id that is often there, but for those that begin or separate documents.
    fn topics(&self, together: &ComparedFirings) -> Vec<Topic> {
        let contents = self.events.contents();
        let left_out: Vec<u32> = contents.separators.iter().copied().chain(contents.bos).collect();
        let cosine = decoder_cosine(&self.loaded.sae);
        together.topics(&left_out, cosine)
    }

    /// Matches the latents with those of another SAE; gives the agreement, and that with random directions.
    pub fn twins(&self, features: &mut [Feature], other: &Sae, saved: &str) -> Result<[Agreement; 2]> {
        let mut stage = self.progress.stage("match", 1, "SAE");
        let width = self.loaded.sae.d_out();
        let random = random_rows(other.d_sae(), width, 0);
        let random = Tensor::from_data(TensorData::new(random, [other.d_sae(), width]), &self.loaded.sae.device());
        let (twins, own, null) = interrupt::unless_stopped(twins(&self.loaded.sae, other, random, interrupt::flow))?
            .ok_or_else(|| Interrupted { saved: saved.to_owned() })?;
        features.iter_mut().zip(twins).for_each(|(feature, twin)| feature.twin = Some(twin));
        stage.advance(1, String::new);
        stage.finish("");
        Ok([own, null])
    }

    /// Explains some latents.
    fn describe(
        &self,
        readers: &Readers<'_>,
        texts: &Texts,
        features: &mut [Feature],
        latents: &[usize],
        saved: &str,
    ) -> Result<()> {
        let classes = explaining::classes(self.model, self.vocabulary);
        let mut stage = self.progress.stage("explain", latents.len() as u64, "latents");
        let found = explaining::described(readers, texts, &classes, features, latents, &mut stage, saved)?;
        found.into_iter().for_each(|(latent, described)| features[latent].described = described);
        stage.finish("");
        Ok(())
    }

    /// What a judge makes of some latents, all of which have been explained.
    pub fn judged(
        &self,
        judge: &Endpoint,
        features: &[Feature],
        latents: &[usize],
        stage: &mut Stage,
        saved: &str,
    ) -> Result<(Calibration, Vec<Judged>)> {
        let texts = self.texts()?;
        let readers = Readers::open(self.events, &texts)?;
        let judgeable = explaining::judgeable(&readers, &texts, features, latents)?;
        let classes = explaining::classes(self.model, self.vocabulary);
        judged(judge, &judgeable, &|id| self.vocabulary.text(id), &classes, stage, saved)
    }

    /// The output score of each latent, by what it writes; `None` where ablations are not defined either, and of all latents where none fires at
    /// the prompt's last token.
    fn output_scores(&self, written: &[Vec<(u32, f32)>]) -> Result<Vec<Option<f64>>> {
        let Some(rows) = self.rows().filter(|_| written.iter().any(|written| !written.is_empty())) else {
            return Ok(vec![None; written.len()]);
        };
        let bos = self.vocabulary.bos().or(self.events.contents().bos);
        let tokens: Vec<u32> = bos.into_iter().chain(self.vocabulary.encode(PROMPT)?).collect();
        ensure!(!tokens.is_empty(), "the tokenizer makes nothing of `{PROMPT}`");
        let prompt = Array2::from_shape_fn((1, tokens.len()), |(_, at)| tokens[at]);
        let captured = self.model.capture(prompt.view(), &[self.place.reads])?.remove(0);
        let [_, context, width] = captured.dims();
        let last: Tensor<2> = captured.slice([0..1, context - 1..context, 0..width]).flatten(0, 1);
        let mut largest = 0.0_f32;
        self.loaded.sae.encode(last).for_each_active(|_, _, value| largest = largest.max(value));
        let ids: Vec<Vec<u32>> = written.iter().map(|of| of.iter().map(|(id, _)| *id).collect()).collect();
        Ok(output_scores(self.model, self.place.site, &tokens, &rows, largest, &ids)?)
    }

    /// Writes the table.
    pub fn table(&self, features: &[Feature], compared: Compared, path: &Path) -> Result<()> {
        table::write(path, features, self.texts()?.cells.chance(), compared, self.vocabulary)
    }

    /// Writes the page, as a file or a folder.
    pub fn dashboard(
        &self,
        features: &[Feature],
        compared: Compared,
        path: &Path,
        is_folder: bool,
        saved: &str,
    ) -> Result<()> {
        let texts = self.texts()?;
        let readers = Readers::open(self.events, &texts)?;
        let contents = self.events.contents();
        let about = [
            ("model", contents.model.clone()),
            ("SAE", contents.sae.clone()),
            ("hook", self.place.to_string()),
            ("class", self.loaded.sae.activation().name().to_owned()),
            ("tokens", format!("{} sequences of {}", contents.sequences, contents.context_size)),
            ("documents", texts.cells.documents().count().to_string()),
            ("firings", self.events.total().to_string()),
            ("co-firing", format!("compared on {compared}")),
        ];
        let page = Page {
            title: format!("{} on {}", contents.sae, contents.model),
            about: about.map(|(label, value)| (label.to_owned(), value)).to_vec(),
            features,
            vocabulary: self.vocabulary,
            vocab_size: self.model.config().vocab_size,
            tokens: self.tokens(),
            context_size: contents.context_size,
        };
        let mut stage = self.progress.stage("dashboard.html", features.len() as u64, "latents");
        let mut shards = |start: usize, end: usize| {
            if interrupt::requested() {
                return Err(Interrupted { saved: saved.to_owned() }.into());
            }
            let latents: Vec<usize> = (start..end).collect();
            let found = shown(&readers, &texts, &latents, |latent| features[latent].scores.clone())?;
            stage.advance((end - start) as u64, String::new);
            Ok(found)
        };
        let written = if is_folder { page.write_folder(path, &mut shards) } else { page.write(path, &mut shards) };
        written.map_err(|error| error.downcast::<Interrupted>().map_or_else(|error| error, Into::into))?;
        stage.finish("");
        Ok(())
    }

    /// Writes what Neuronpedia's upload takes.
    pub fn neuronpedia(&self, features: &[Feature], source: &Source, dir: &Path, saved: &str) -> Result<()> {
        let texts = self.texts()?;
        let readers = Readers::open(self.events, &texts)?;
        let rows = ablation::written(&self.loaded.sae);
        let mut stage = self.progress.stage("neuronpedia", features.len() as u64, "latents");
        for (number, batch) in features.chunks(neuronpedia::BATCH).enumerate() {
            if interrupt::requested() {
                return Err(Interrupted { saved: saved.to_owned() }.into());
            }
            let (first, count) = (number * neuronpedia::BATCH, batch.len());
            let latents: Vec<usize> = (first..first + count).collect();
            let found = shown(&readers, &texts, &latents, |latent| features[latent].scores.clone())?;
            let suppressed = match weights::has_lens(self.place.site) {
                true => weights::suppressed(self.model, &rows.clone().narrow(0, first, count)),
                false => vec![Vec::new(); count],
            };
            neuronpedia::write(dir, number, source, batch, &found, &suppressed, self.vocabulary)?;
            stage.advance(count as u64, String::new);
        }
        stage.finish("");
        Ok(())
    }

    /// Prints one latent.
    pub fn latent(&self, latent: usize, json: bool) -> Result<()> {
        let sae = &self.loaded.sae;
        let texts = self.texts()?;
        let readers = Readers::open(self.events, &texts)?;
        let mut stage = Progress::Quiet.stage("score", 1, "latents");
        let mut features: Vec<Feature> =
            (0..sae.d_sae()).map(|latent| Feature { latent, ..Feature::default() }).collect();
        let (classes, chance) = (explaining::classes(self.model, self.vocabulary), texts.cells.chance());
        let saved = &Interrupted::with_nothing_written().saved;
        let mut explain = |features: &mut [Feature], of: usize| -> Result<()> {
            let scores = readers.scores(&[of], &mut stage, saved)?.remove(0);
            let row = ablation::written(sae).narrow(0, of, 1);
            let written = weights::written_at(self.model, self.place.site, &row).remove(0);
            features[of] = Feature::of(of, scores, written, chance);
            let beside: Vec<usize> = [latent].into_iter().chain((of != latent).then_some(of)).collect();
            let found = explaining::described(&readers, &texts, &classes, features, &beside, &mut stage, saved)?;
            found.into_iter().for_each(|(latent, described)| features[latent].described = described);
            Ok(())
        };
        explain(&mut features, latent)?;
        // Its explanation stands beside that of the other one that it has in the table.
        let is_explained = !features[latent].described.is_empty();
        let others = explaining::others(latent, sae.d_sae()).into_iter().filter(|_| is_explained);
        for other in others.filter(|&other| self.events.firings(other) > 0) {
            explain(&mut features, other)?;
            if !features[other].described.is_empty() {
                break;
            }
        }
        let mut feature = features.swap_remove(latent);
        feature.nearest = nearest_to(sae, latent, NEAREST);
        feature.encoder_decoder = encoder_decoder_cosines(sae)[latent];
        if let Some(rows) = self.rows() {
            let (model, site) = (self.model, self.place.site);
            if feature.scores.firings > 0 {
                feature.effect = effects::effects(model, site, &rows, &readers, &[latent], &mut stage, "")?.pop();
            }
            let mut written = vec![Vec::new(); sae.d_sae()];
            written[latent].clone_from(&feature.written);
            feature.output_score = self.output_scores(&written)?.swap_remove(latent);
        }
        let found = shown(&readers, &texts, &[latent], |_| feature.scores.clone())?.remove(0);
        let notes: Vec<String> = explaining::unexplained(texts.cells.documents()).into_iter().collect();
        if json {
            let mut object = terminal::json(&feature, found.as_ref(), self.vocabulary, self.tokens());
            object["notes"] = serde_json::json!(notes);
            return output::result_line(serde_json::to_string_pretty(&object)?);
        }
        let text = terminal::text(&feature, found.as_ref(), self.vocabulary, self.tokens());
        output::result(text + &markdown::notes(&notes))
    }
}

/// BLAKE3 of all that an SAE's code is computed with.
pub(super) fn hash(sae: &Sae) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |name: &str, bytes: &[u8]| {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let [encoder, decoder] = sae.weights();
    for (name, tensor) in [("W_enc", encoder), ("W_dec", decoder)] {
        add(name, &bytes(tensor));
    }
    for (name, tensor) in [("b_enc", sae.gate_bias()), ("b_dec", sae.decoder_bias())] {
        add(name, &bytes(tensor));
    }
    let activation = sae.activation();
    add(activation.name(), &[]);
    match activation {
        Activation::TopK { k, by_decoder_norm } | Activation::AbsTopK { k, by_decoder_norm } => {
            add("k", &(*k as u64).to_le_bytes());
            add("by_decoder_norm", &[u8::from(*by_decoder_norm)]);
        }
        Activation::GroupMax { k } => add("k", &(*k as u64).to_le_bytes()),
        Activation::Relu => {}
        Activation::JumpRelu { threshold } => add("threshold", &bytes(threshold.clone())),
        Activation::Gated { r_mag, b_mag } => {
            add("r_mag", &bytes(r_mag.clone()));
            add("b_mag", &bytes(b_mag.clone()));
        }
        Activation::MatchingPursuit(pursuit) => {
            add("residual_threshold", &pursuit.residual_threshold.to_le_bytes());
            add("max_iterations", &pursuit.max_iterations.map_or(u64::MAX, |n| n as u64).to_le_bytes());
            add("stop_on_duplicate_support", &[u8::from(pursuit.stop_on_duplicate_support)]);
        }
    }
    add(sae.normalization().name(), &[u8::from(sae.applies_b_dec_to_input())]);
    hasher.finalize().to_hex().to_string()
}

fn bytes<const D: usize>(tensor: Tensor<D>) -> Vec<u8> {
    let values = tensor.into_data().try_into_vec::<f32>().expect("weights are f32");
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}
