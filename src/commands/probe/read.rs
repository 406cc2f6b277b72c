//! The model, the SAEs and their controls, and what they make of texts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, LoadedWeights, ModelFiles, Site};
use assay_probes::probing::principal;
use assay_sae::Sae;

use super::super::eval::named::shortened;
use super::{ProbeArgs, of_path};
use crate::controls::{Control, SAMPLE, permuted_decoder, random_dictionary};
use crate::probe::{Labelled, Pooling, Reading, Representation, RepresentationKind, Task};
use crate::progress::Progress;
use crate::{device, fetch};

/// What reads texts.
pub(super) struct Models {
    pub model_name: String,
    pub context: usize,
    pub notes: Vec<String>,
    model: Decoder,
    redrawn: Option<Decoder>,
    vocabulary: Vocabulary,
    pooling: Pooling,
    /// Names, SAEs and where they read; the controls of the first that are SAEs come behind.
    saes: Vec<(String, RepresentationKind, Sae, Site)>,
    seed: u64,
}

impl Models {
    pub(super) fn open(
        args: &ProbeArgs,
        device_name: &str,
        names: &[PathBuf],
        model_name: &Path,
        progress: Progress,
    ) -> Result<Self> {
        let device = device::open(device_name)?.device;
        // First, as pickled ones are refused.
        let dirs = names.iter().map(|name| fetch::sae(name, progress)).collect::<Result<Vec<_>>>()?;
        let checkpoint = fetch::model(model_name, progress)?;
        let files = ModelFiles::open(&checkpoint)?;
        let context = args.context(files.config().max_positions)?;
        let vocabulary = Vocabulary::load(&checkpoint)?;
        let (_, short) = shortened(names);
        let (mut saes, mut notes) = (Vec::new(), Vec::new());
        for ((name, dir), short) in names.iter().zip(&dirs).zip(short) {
            let (loaded, place) = args.place.open(name, dir, files.config(), &args.given, &device)?;
            notes.extend(place.doubts(model_name, &checkpoint, &loaded.metadata));
            notes.extend(loaded.notes);
            let short = if names.len() == 1 { of_path(name) } else { short };
            saes.push((format!("SAE {short}"), RepresentationKind::Sae, loaded.sae, place.reads));
        }
        let first = saes[0].3;
        if saes.iter().any(|sae| sae.3 != first) {
            notes.push(format!(
                "the SAEs read at several places; residual stream and controls are of the first, at {first}"
            ));
        }
        if args.controls.contains(&Control::PermutedDecoder) {
            let permuted = permuted_decoder(&saes[0].2, args.seed)?;
            saes.push(("permuted decoder".to_owned(), RepresentationKind::PermutedDecoder, permuted, first));
        }
        let redrawn = args.controls.contains(&Control::RandomModel);
        let redrawn = redrawn.then(|| files.load_with(LoadedWeights::Redrawn(args.seed), &device)).transpose()?;
        let model = files.load(&device)?;
        Ok(Self {
            model_name: of_path(model_name),
            context,
            notes,
            model,
            redrawn,
            vocabulary,
            pooling: args.pooling(),
            saes,
            seed: args.seed,
        })
    }

    fn reading<'a>(&'a self, model: &'a Decoder) -> Reading<'a> {
        Reading { model, vocabulary: &self.vocabulary, context: self.context, pooling: self.pooling }
    }

    /// Latents of the widest SAE.
    pub(super) fn d_sae(&self) -> usize {
        self.saes.iter().map(|(_, _, sae, _)| sae.d_sae()).max().unwrap_or(0)
    }

    /// The representations that [`Self::read`] gives, by kind and columns.
    pub(super) fn representations(&self) -> Vec<(RepresentationKind, usize)> {
        let sae = &self.saes[0].2;
        let (config, d_sae, d_in) = (self.model.config(), sae.d_sae(), sae.d_in());
        let mut all: Vec<(RepresentationKind, usize)> =
            self.saes.iter().map(|(_, kind, sae, _)| (*kind, sae.d_sae())).collect();
        all.extend([
            (RepresentationKind::Residual, d_in),
            (RepresentationKind::Principal, d_in),
            (RepresentationKind::Words, config.vocab_size),
        ]);
        all.extend([(RepresentationKind::RandomDictionary, d_sae), (RepresentationKind::Permuted, d_sae)]);
        if self.redrawn.is_some() {
            all.extend([(RepresentationKind::RandomModel, d_sae), (RepresentationKind::RandomResidual, d_in)]);
        }
        all
    }

    /// The representations of the texts `used` of a set, and latents that were active a token, by SAE.
    pub(super) fn read(
        &self,
        set: &Labelled,
        tasks: &[Task],
        used: &[usize],
        progress: Progress,
    ) -> Result<(Vec<Representation>, Vec<f64>)> {
        let reading = self.reading(&self.model);
        let texts = used.iter().map(|&row| reading.tokens(&set.texts[row])).collect::<Result<Vec<_>>>()?;
        let (_, _, sae, site) = &self.saes[0];
        let passes = 1 + u64::from(self.redrawn.is_some());
        let mut stage = progress.stage(format!("read {}", set.name), passes * texts.len() as u64, "texts");
        let sample = reading.sample(&texts, *site, SAMPLE)?;
        let random = random_dictionary(sae, &sample, self.seed)?;
        let mut saes: Vec<(&Sae, Site)> = self.saes.iter().map(|(_, _, sae, site)| (sae, *site)).collect();
        saes.push((&random, *site));
        let mut pooled = reading.pool(&texts, &saes, |n| stage.advance(n, String::new))?;
        let mut train: Vec<usize> = tasks
            .iter()
            .flat_map(|task| task.split.train.iter().map(|&row| task.rows[row]))
            .map(|row| used.partition_point(|known| *known < row))
            .collect();
        train.sort_unstable();
        train.dedup();
        let mut all = Vec::new();
        let mut add = |name: &str, kind, features| {
            all.push(Representation { name: name.to_owned(), kind, features });
        };
        let of_random = pooled.latents.pop().expect("the random dictionary is the last");
        let of_first = pooled.latents[0].clone();
        let mut controls = Vec::new();
        for ((name, kind, ..), features) in self.saes.iter().zip(pooled.latents) {
            if *kind == RepresentationKind::Sae {
                add(name, *kind, features);
            } else {
                controls.push((name.clone(), *kind, features));
            }
        }
        add("PCA of it", RepresentationKind::Principal, principal(&pooled.residual, &train)?);
        add("residual stream", RepresentationKind::Residual, pooled.residual);
        add("bag of words", RepresentationKind::Words, reading.words(&texts));
        add("random dictionary", RepresentationKind::RandomDictionary, of_random);
        add("permuted labels", RepresentationKind::Permuted, of_first);
        controls.into_iter().for_each(|(name, kind, features)| add(&name, kind, features));
        if let Some(model) = &self.redrawn {
            let mut pooled = self.reading(model).pool(&texts, &[(sae, *site)], |n| stage.advance(n, String::new))?;
            add("random model", RepresentationKind::RandomModel, pooled.latents.remove(0));
            add("random model's residual stream", RepresentationKind::RandomResidual, pooled.residual);
        }
        stage.finish("");
        // The stream before its components.
        let pca = all.iter().position(|of| of.kind == RepresentationKind::Principal).expect("it was added");
        all.swap(pca, pca + 1);
        Ok((all, pooled.l0))
    }
}
