//! A look inside: which latents fire on a prompt, what each writes, and what the model says without one.

mod groups;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use assay_models::decoder::Cut;
use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, DecoderConfig, HookPoint, Site};
use assay_probes::ablation;
use assay_sae::{Normalization, Sae};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use ndarray::Array2;

use crate::belonging::Used;
use crate::catalogue::assumptions::{Given, complete};
use crate::features::weights::{has_lens, largest};

pub use groups::{Group, Read, together};

/// A model with an SAE at one of its sites.
pub struct ModelWithSae {
    model: Decoder,
    vocabulary: Vocabulary,
    sae: Sae,
    site: Site,
    doubts: Vec<String>,
    /// What one unit of each latent adds to the activation, `[d_sae, width of the site]`.
    writes: Tensor<2>,
}

/// A text that has passed through the model up to the SAE's site.
pub struct Prompt {
    /// Token ids, first the token before a text in training: BOS where the tokenizer puts one, else the model's end-of-text.
    pub tokens: Vec<u32>,
    /// What each token stands for.
    pub texts: Vec<String>,
    /// The active latents of each token, the strongest first.
    pub active: Vec<Vec<Active>>,
    /// The model's pass over it, at the SAE's site.
    cut: Cut,
}

/// An active latent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Active {
    /// Its number.
    pub latent: usize,
    /// How strongly it is active, z.
    pub value: f32,
}

/// A token and a number about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// What the token stands for.
    pub text: String,
    /// Its probability or logit.
    pub value: f32,
}

impl ModelWithSae {
    /// Loads a model (a checkpoint directory or a GGUF file) and an SAE of it, which names its hook.
    ///
    /// # Errors
    /// If one of them can't be read, there is no tokenizer, or they don't belong together.
    pub fn open(model: impl AsRef<Path>, sae: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let (checkpoint, path) = (model.as_ref(), sae.as_ref());
        let vocabulary = Vocabulary::load(checkpoint)?;
        let model = Decoder::load(checkpoint, device)?;
        let mut loaded = assay_sae::formats::load(path, device)?;
        let assumed = complete(&mut loaded, &Given::default())?;
        let hook: HookPoint = match &loaded.metadata.hook_name {
            Some(name) => name.parse().with_context(|| path.display().to_string())?,
            None => anyhow::bail!("{} names no hook; `assay convert --hook` writes one", path.display()),
        };
        let site = Site {
            center: loaded.metadata.center_residual,
            without_value_bias: assumed.without_value_bias,
            ..hook.into()
        };
        site.check(model.config()).with_context(|| path.display().to_string())?;
        let (d_in, width) = (loaded.sae.d_in(), hook.width(model.config()));
        ensure!(
            d_in == width,
            "{}: it reads activations {d_in} wide, and {hook} of the model is {width} wide; it was trained on another model or at another hook",
            path.display()
        );
        let used = Used { model: checkpoint, checkpoint, hook, hook_out: None };
        let doubts = used.doubts(&loaded.metadata);
        let sae = loaded.sae;
        ensure!(
            !sae.is_transcoder(),
            "{}: a transcoder predicts another activation than the one that it reads; give an SAE",
            path.display()
        );
        ensure!(
            sae.normalization() == Normalization::None,
            "{}: normalize_activations is {}: what a latent adds differs from token to token",
            path.display(),
            sae.normalization().name()
        );
        let writes = ablation::written(&sae);
        Ok(Self { model, vocabulary, sae, site, doubts, writes })
    }

    /// Where the SAE names another model than this one, a sentence.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// The SAE.
    pub fn sae(&self) -> &Sae {
        &self.sae
    }

    /// The model's configuration.
    pub fn config(&self) -> &DecoderConfig {
        self.model.config()
    }

    /// How many latents the SAE has.
    pub fn latents(&self) -> usize {
        self.sae.d_sae()
    }

    /// Where the SAE sits.
    pub fn hook(&self) -> HookPoint {
        self.site.hook
    }

    /// Runs the model on a text up to the hook, and the SAE on what is there.
    ///
    /// # Errors
    /// If the text has no tokens or too many for the model.
    pub fn read(&self, text: &str) -> Result<Prompt> {
        let ids = self.vocabulary.encode(text)?;
        ensure!(!ids.is_empty(), "the prompt is empty");
        let first = self.vocabulary.bos().or(self.model.config().eos);
        let tokens: Vec<u32> = first.into_iter().chain(ids).collect();
        let (length, most) = (tokens.len(), self.model.config().max_positions);
        ensure!(length <= most, "the prompt has {length} tokens, and the model takes {most}; give a shorter one");
        self.read_tokens(tokens)
    }

    /// The same of token ids as they are.
    ///
    /// # Errors
    /// If there are none or too many for the model, or one is not in its vocabulary.
    pub fn read_tokens(&self, tokens: Vec<u32>) -> Result<Prompt> {
        ensure!(!tokens.is_empty(), "there are no tokens");
        let cut = self.model.cut(as_batch(&tokens).view(), &[self.site])?.remove(0);
        let mut active = vec![Vec::new(); tokens.len()];
        self.sae.encode(cut.value().squeeze_dim(0)).for_each_active(|token, latent, value| {
            active[token].push(Active { latent, value });
        });
        for latents in &mut active {
            latents.sort_by(|a: &Active, b| b.value.total_cmp(&a.value));
        }
        let texts = tokens.iter().map(|&id| self.vocabulary.text(id)).collect();
        Ok(Prompt { tokens, texts, active, cut })
    }

    /// Whether what latents write is in the residual stream, so that [`Self::writes`] says something.
    pub fn has_lens(&self) -> bool {
        has_lens(self.site)
    }

    /// The tokens that a latent's decoder row raises most, by its logit lens ([`Decoder::logit_lens`]).
    ///
    /// # Errors
    /// If there is no such latent, or it does not write to the residual stream.
    pub fn writes(&self, latent: usize, count: usize) -> Result<Vec<Scored>> {
        ensure!(
            self.has_lens(),
            "{} is not in the residual stream, so that a direction there has no logit lens",
            self.site
        );
        let logits = self.model.logit_lens(self.row(latent)?);
        Ok(self.largest(logits.squeeze_dim(0), count))
    }

    /// The likeliest tokens after the prompt.
    pub fn says(&self, prompt: &Prompt, count: usize) -> Vec<Scored> {
        self.next(prompt, prompt.cut.value(), count)
    }

    /// The same with one latent patched out: z times its decoder row is taken away wherever it is active, and everything else, the SAE's
    /// error included, stays.
    ///
    /// # Errors
    /// If there is no such latent.
    pub fn says_without(&self, prompt: &Prompt, latent: usize, count: usize) -> Result<Vec<Scored>> {
        Ok(self.next(prompt, self.without(prompt, latent)?, count))
    }

    /// Cross-entropy of each token but the first, in nats: as it is, and with one latent patched out.
    ///
    /// # Errors
    /// As [`Self::says_without`].
    pub fn losses(&self, prompt: &Prompt, latent: usize) -> Result<Vec<[f32; 2]>> {
        let tokens = as_batch(&prompt.tokens);
        let of = |value: Tensor<3>| -> Vec<f32> {
            let log_probs = scored_log_probs(self.model.forward_from(&prompt.cut, value));
            let losses = token_cross_entropy(log_probs, tokens.view(), self.model.device());
            losses.into_data().try_into_vec::<f32>().expect("losses are f32")
        };
        let (whole, without) = (of(prompt.cut.value()), of(self.without(prompt, latent)?));
        Ok(whole.into_iter().zip(without).map(|(a, b)| [a, b]).collect())
    }

    fn without(&self, prompt: &Prompt, latent: usize) -> Result<Tensor<3>> {
        let row = self.row(latent)?;
        let z: Vec<f32> = prompt
            .active
            .iter()
            .map(|active| active.iter().find(|a| a.latent == latent).map_or(0.0, |a| a.value))
            .collect();
        Ok(ablation::without(&prompt.cut, row, &z))
    }

    /// The decoder row of a latent, `[1, width of the site]`.
    fn row(&self, latent: usize) -> Result<Tensor<2>> {
        let d_sae = self.sae.d_sae();
        ensure!(latent < d_sae, "there is no latent {latent}: the SAE has {d_sae}, from 0");
        Ok(self.writes.clone().narrow(0, latent, 1))
    }

    fn next(&self, prompt: &Prompt, value: Tensor<3>, count: usize) -> Vec<Scored> {
        let logits = self.model.forward_from(&prompt.cut, value);
        let [_, tokens, _] = logits.dims();
        let last: Tensor<2> = logits.narrow(1, tokens - 1, 1).squeeze_dim(1);
        self.largest(softmax(last, 1).squeeze_dim(0), count)
    }

    fn largest(&self, values: Tensor<1>, count: usize) -> Vec<Scored> {
        let values = values.into_data().try_into_vec::<f32>().expect("logits are f32");
        let scored = |(id, value)| Scored { text: self.vocabulary.text(id), value };
        largest(&values, count).into_iter().map(scored).collect()
    }
}

fn as_batch(tokens: &[u32]) -> Array2<u32> {
    Array2::from_shape_vec((1, tokens.len()), tokens.to_vec()).expect("one row")
}
