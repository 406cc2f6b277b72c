//! What the latents of a sweep's SAEs mean, as scores that SAEs can be compared by: those of `assay features`, of a sample of latents on the
//! held-out sequences.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_models::{Decoder, Site, TokenSource};
use assay_probes::ablation;
use assay_probes::features::explanation::{Classes, Method};
use assay_probes::features::sample;
use assay_probes::latents::encoder_decoder_cosines;
use assay_probes::stats::{Estimate, Resamples, mean};
use assay_sae::Sae;
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::events::{Contents, Events, Store, TOKENS, Tokens, hash_file, separators};
use crate::features::firings::{Readers, Texts};
use crate::features::pass::Pass;
use crate::features::{Feature, explaining, weights};
use crate::files::ON_ITS_WAY;
use crate::frames::{Bootstrap, OTHER};
use crate::progress::Progress;

/// Whether a latent fires in enough windows to be explained: its mean is the share of latents that do.
pub const EXPLAINED: &str = "explained";

/// The scores of some latents of an SAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Legibility {
    /// The latents, ascending: drawn at random from those that fire.
    pub latents: Vec<usize>,
    /// What the scores are called.
    pub scores: Vec<String>,
    /// Of each score its value of each latent; null where it is undefined.
    pub values: Vec<Vec<Option<f64>>>,
}

impl Legibility {
    fn of(features: &[&Feature]) -> Self {
        let mut found = Self { latents: features.iter().map(|f| f.latent).collect(), scores: vec![], values: vec![] };
        let mut add = |name: String, of: &dyn Fn(&Feature) -> Option<f64>| {
            found.scores.push(name);
            found.values.push(features.iter().map(|feature| of(feature)).collect());
        };
        for method in Method::ALL {
            let name = detection(method);
            add(name.clone(), &|f| f.detection(method)?.own.auroc);
            add(name + OTHER, &|f| f.detection(method)?.other.auroc);
        }
        add(EXPLAINED.to_owned(), &|f| Some(f64::from(u8::from(!f.described.is_empty()))));
        add("token_entropy".to_owned(), &|f| f.scores.token_entropy);
        add("purity".to_owned(), &|f| f.scores.purity);
        for (at, (name, _)) in Feature::default().adjusted.named().into_iter().enumerate() {
            add(format!("eta2_{name}"), &|f| f.adjusted.named()[at].1);
        }
        add("input_score".to_owned(), &|f| f.input_score);
        add("encoder_decoder".to_owned(), &|f| f.encoder_decoder);
        found
    }

    /// The mean of each score over the latents that have one, with an interval that resamples latents: one draw for all scores.
    pub fn means(&self, bootstrap: Bootstrap) -> BTreeMap<&str, Estimate> {
        let Bootstrap { resamples, level, seed } = bootstrap;
        let drawn = Resamples::draw(self.latents.len(), resamples, seed);
        let mean_of = |values: &[Option<f64>]| {
            Estimate::over_rows(&drawn, level, |rows| {
                mean(&rows.iter().filter_map(|&row| values[row as usize]).collect::<Vec<f64>>())
            })
        };
        self.scores.iter().zip(&self.values).map(|(score, values)| (score.as_str(), mean_of(values))).collect()
    }
}

/// How well a method's explanations detect their latents: the AUROC on held-out windows.
pub fn detection(method: Method) -> String {
    format!("detection_{}", method.name())
}

/// A model, and the text on which it is read what latents mean.
pub struct LatentReader<'a> {
    /// The model.
    pub model: &'a Decoder,
    /// The texts of its tokens.
    pub classes: Classes,
    /// Contexts, each the beginning of a document.
    pub source: TokenSource,
    /// How many of them.
    pub sequences: usize,
    /// Contexts of a forward pass.
    pub batch: usize,
    /// The token that contexts begin with, if they do.
    pub bos: Option<u32>,
    /// How many latents of each SAE are read.
    pub latents: usize,
    /// Below which directory firings lie while they are read.
    pub scratch: PathBuf,
    /// What stays if somebody interrupts.
    pub saved: String,
}

impl LatentReader<'_> {
    /// Scores some latents of an SAE, of those that fire, or all if they are not so many.
    ///
    /// # Errors
    /// If an activation is not finite, a file can't be written, or the work is interrupted.
    pub fn read(&self, sae: &Sae, reads: Site, site: Site) -> Result<Legibility> {
        let (scratch, saved) = (&self.scratch, &self.saved);
        std::fs::create_dir_all(scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        // By a name that a state may have beside it: a kill leaves it there.
        let dir = tempfile::TempDir::with_prefix_in(ON_ITS_WAY, scratch);
        let dir = dir.with_context(|| format!("cannot write to {}", scratch.display()))?;
        let events = self.events(sae, reads, dir.path())?;
        let texts = Texts::read(&events, self.model.config().vocab_size)?;
        let readers = Readers::open(&events, &texts)?;
        let alive = (0..sae.d_sae()).filter(|latent| events.firings(*latent) > 0).collect();
        let drawn = sample(alive, self.latents);
        let mut stage = Progress::Quiet.stage("score", drawn.len() as u64, "latents");
        let scores = readers.scores(&drawn, &mut stage, saved)?;
        let (chance, cosines) = (texts.cells.chance(), encoder_decoder_cosines(sae));
        let mut features: Vec<Feature> =
            (0..sae.d_sae()).map(|latent| Feature { latent, ..Feature::default() }).collect();
        for ((&latent, scores), written) in drawn.iter().zip(scores).zip(self.written(sae, site, &drawn)) {
            let of = Feature::of(latent, scores, written, chance);
            features[latent] = Feature { encoder_decoder: cosines[latent], ..of };
        }
        let found = explaining::described(&readers, &texts, &self.classes, &features, &drawn, &mut stage, saved)?;
        found.into_iter().for_each(|(latent, described)| features[latent].described = described);
        Ok(Legibility::of(&drawn.iter().map(|&latent| &features[latent]).collect::<Vec<_>>()))
    }

    /// Every firing of an SAE on the sequences.
    fn events(&self, sae: &Sae, reads: Site, dir: &Path) -> Result<Events> {
        let &Self { model, ref source, sequences, batch, bos, .. } = self;
        let contents = Contents {
            // Who reads them knows what they are of, and nobody resumes.
            model: String::new(),
            weights: String::new(),
            sae: String::new(),
            sae_weights: String::new(),
            device: String::new(),
            hook: reads.to_string(),
            tokens: Tokens::hash(source, sequences)?,
            sequences,
            context_size: source.context_size(),
            batch,
            bos,
            is_text: false,
            separators: separators(model.config(), bos),
            d_sae: sae.d_sae(),
        };
        let mut store = Store::open(dir, contents)?;
        let mut stage = Progress::Quiet.stage("encode", sequences as u64, "sequences");
        Pass { model, sae, reads, source, sequences, batch }.run(&mut store, &mut stage, &self.saved)?;
        Tokens::write(dir, source, sequences)?;
        store.finish(hash_file(&dir.join(TOKENS))?, &mut |_| ())?;
        Events::open(dir)
    }

    /// The token ids that latents write; none where what they write is not in the residual stream.
    fn written(&self, sae: &Sae, site: Site, latents: &[usize]) -> Vec<Vec<(u32, f32)>> {
        let rows = ablation::written(sae);
        let places: Vec<i32> = latents.iter().map(|&latent| latent as i32).collect();
        let places = Tensor::<1, Int>::from_data(TensorData::from(places.as_slice()), &rows.device());
        weights::written_at(self.model, site, &rows.select(0, places))
    }
}
