//! Texts as rows of numbers: pooled activations and latents, and counts of tokens.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, Site, first_not_finite};
use assay_probes::probing::Features;
use assay_sae::Sae;
use burn::tensor::{Tensor, TensorData};
use ndarray::Array2;

use crate::interrupt::{self, Interrupted};

/// Which tokens of a text stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens but BOS and end-of-text.
    Mean,
    /// The last token.
    Last,
}

/// A model that reads texts.
pub struct Reading<'a> {
    /// The model.
    pub model: &'a Decoder,
    /// Its tokenizer.
    pub vocabulary: &'a Vocabulary,
    /// Tokens of a text at most, BOS included.
    pub context: usize,
    /// How tokens become a row.
    pub pooling: Pooling,
}

/// One row per text of each representation.
pub struct Pooled {
    /// The activations where the first SAE reads.
    pub residual: Features,
    /// The latents of each SAE.
    pub latents: Vec<Features>,
    /// Latents that were active a token, by SAE.
    pub l0: Vec<f64>,
}

/// Tokens of a pass, about, and latents in memory at a time.
const TOKENS: usize = 2048;
const LATENTS: usize = 1 << 24;

impl Reading<'_> {
    /// The tokens of a text: BOS where the tokenizer puts one, and of a long text the first ones, or, where the last token stands for it, the
    /// last.
    ///
    /// # Errors
    /// If the tokenizer refuses it.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.vocabulary.encode(text)?;
        let bos = self.vocabulary.bos();
        let room = self.context.saturating_sub(usize::from(bos.is_some())).min(ids.len());
        let kept = match self.pooling {
            Pooling::Mean => &ids[..room],
            Pooling::Last => &ids[ids.len() - room..],
        };
        Ok(bos.into_iter().chain(kept.iter().copied()).collect())
    }

    /// The places that stand for a text.
    fn places(&self, tokens: &[u32]) -> Vec<usize> {
        let special = [self.vocabulary.bos(), self.model.config().bos, self.model.config().eos];
        match self.pooling {
            Pooling::Last => tokens.len().checked_sub(1).into_iter().collect(),
            Pooling::Mean => (0..tokens.len()).filter(|&at| !special.contains(&Some(tokens[at]))).collect(),
        }
    }

    /// How often each token is in each text, without BOS and end-of-text: a bag of words, of the tokenizer's words.
    pub fn words(&self, texts: &[Vec<u32>]) -> Features {
        let special = [self.vocabulary.bos(), self.model.config().bos, self.model.config().eos];
        let mut words = Features::new(self.model.config().vocab_size);
        for tokens in texts {
            let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
            for &token in tokens.iter().filter(|&&token| !special.contains(&Some(token))) {
                *counts.entry(token as usize).or_default() += 1.0;
            }
            words.push(counts);
        }
        words
    }

    /// Activations at a site, `[rows, width]`, of places that stand for texts, `most` at most, evenly from all of them.
    ///
    /// # Errors
    /// If the model refuses the tokens.
    pub fn sample(&self, texts: &[Vec<u32>], site: Site, most: usize) -> Result<Tensor<2>> {
        let places: usize = texts.iter().map(|tokens| self.places(tokens).len()).sum();
        // Of long texts a quarter of the places, or fewer: from more texts than are needed, and of fewer than there are.
        let every_text = (places / (4 * most.max(1))).max(1);
        let some: Vec<Vec<u32>> = texts.iter().step_by(every_text).cloned().collect();
        let places: usize = some.iter().map(|tokens| self.places(tokens).len()).sum();
        let every = places.div_ceil(most.max(1)).max(1);
        let (mut values, mut width, mut seen) = (Vec::new(), 0, 0);
        self.each_pass(
            &some,
            |text| self.places(&some[text]),
            &[site],
            |pass| {
                if !pass.texts.is_empty() {
                    width = pass.widths[0];
                }
                for row in pass.values[0].chunks_exact(width.max(1)) {
                    if seen % every == 0 {
                        values.extend_from_slice(row);
                    }
                    seen += 1;
                }
                Ok(())
            },
        )?;
        ensure!(!values.is_empty(), "the texts hold no tokens");
        Ok(Tensor::from_data(TensorData::new(values.clone(), [values.len() / width, width]), self.model.device()))
    }

    /// The activation at the last token of each text, `[texts, width of the site]`.
    ///
    /// # Errors
    /// If the model refuses the tokens, a text has none, an activation is not finite, or somebody asks to stop.
    pub fn last(&self, texts: &[Vec<u32>], site: Site, advance: impl FnMut(u64)) -> Result<Array2<f64>> {
        ensure!(texts.iter().all(|tokens| !tokens.is_empty()), "a text has no tokens");
        let places: Vec<Vec<usize>> = texts.iter().map(|tokens| vec![tokens.len() - 1]).collect();
        self.at(texts, &places, site, advance)
    }

    /// The activation at some places of each text, those of a text together, `[places, width of the site]`; `advance` is told of texts that are
    /// done.
    ///
    /// # Errors
    /// If the model refuses the tokens, an activation is not finite, or somebody asks to stop.
    pub fn at(
        &self,
        texts: &[Vec<u32>],
        places: &[Vec<usize>],
        site: Site,
        mut advance: impl FnMut(u64),
    ) -> Result<Array2<f64>> {
        let mut next: Vec<usize> = Vec::with_capacity(texts.len());
        let all = places.iter().fold(0, |before, of| {
            next.push(before);
            before + of.len()
        });
        let mut rows = Array2::zeros((all, site.hook.width(self.model.config())));
        self.each_pass(
            texts,
            |text| places[text].clone(),
            &[site],
            |pass| {
                if interrupt::requested() {
                    return Err(Interrupted::with_nothing_written().into());
                }
                for (values, &text) in pass.values[0].chunks_exact(pass.widths[0]).zip(&pass.texts) {
                    let bad = values.iter().find(|value| !value.is_finite());
                    ensure!(bad.is_none(), "the activation at {site} is not finite in text {text}");
                    rows.row_mut(next[text]).iter_mut().zip(values).for_each(|(to, &value)| *to = f64::from(value));
                    next[text] += 1;
                }
                advance(pass.read as u64);
                Ok(())
            },
        )?;
        Ok(rows)
    }

    /// Reads texts. The first SAE's site is that of the activations; `advance` is told of texts that are done.
    ///
    /// # Errors
    /// If the model refuses the tokens, an activation is not finite, or somebody asks to stop.
    pub fn pool(&self, texts: &[Vec<u32>], saes: &[(&Sae, Site)], mut advance: impl FnMut(u64)) -> Result<Pooled> {
        let mut sites: Vec<Site> = Vec::new();
        for (_, site) in saes {
            if !sites.contains(site) {
                sites.push(*site);
            }
        }
        let mut residual = vec![Vec::new(); texts.len()];
        let mut latents = vec![vec![Vec::new(); texts.len()]; saes.len()];
        let mut active = vec![0_u64; saes.len()];
        let mut places = 0;
        self.each_pass(
            texts,
            |text| self.places(&texts[text]),
            &sites,
            |pass| {
                if interrupt::requested() {
                    return Err(Interrupted::with_nothing_written().into());
                }
                places += pass.texts.len();
                let width = pass.widths[0];
                if let Some(bad) = first_not_finite(&pass.values[0]) {
                    bail!(
                        "the activation at {} is {} in text {}",
                        sites[0],
                        pass.values[0][bad],
                        pass.texts[bad / width]
                    );
                }
                let mut sums: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
                for (row, &text) in pass.values[0].chunks_exact(width).zip(&pass.texts) {
                    let sum = sums.entry(text).or_insert_with(|| vec![0.0; width]);
                    sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
                }
                let counts = pass.counts();
                for (text, sum) in sums {
                    residual[text] = sum.into_iter().map(|sum| sum / counts[&text]).enumerate().collect();
                }
                for (at, (sae, site)) in saes.iter().enumerate() {
                    let place = sites.iter().position(|known| known == site).expect("every site is captured");
                    active[at] += encode(sae, &pass, place, self, &mut latents[at])?;
                }
                advance(pass.read as u64);
                Ok(())
            },
        )?;
        let width = saes.first().map_or(0, |(sae, _)| sae.d_in());
        let gathered = |columns: usize, rows: Vec<Vec<(usize, f64)>>| {
            let mut features = Features::new(columns);
            rows.into_iter().for_each(|row| features.push(row));
            features
        };
        Ok(Pooled {
            residual: gathered(width, residual),
            latents: saes.iter().zip(latents).map(|((sae, _), rows)| gathered(sae.d_sae(), rows)).collect(),
            l0: active.into_iter().map(|active| active as f64 / places.max(1) as f64).collect(),
        })
    }

    /// Runs the model on texts of about one length at a time; `places_of` gives the places of a text that are seen.
    fn each_pass(
        &self,
        texts: &[Vec<u32>],
        places_of: impl Fn(usize) -> Vec<usize>,
        sites: &[Site],
        mut see: impl FnMut(Pass) -> Result<()>,
    ) -> Result<()> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| (texts[text].len(), text));
        let mut at = 0;
        while at < order.len() {
            let longest = |count: usize| texts[order[at + count - 1]].len().max(1);
            let mut count = 1;
            while at + count < order.len() && (count + 1) * longest(count + 1) <= TOKENS {
                count += 1;
            }
            let (batch, length) = (&order[at..at + count], longest(count));
            at += count;
            let places: Vec<(usize, usize)> =
                (0..count).flat_map(|row| places_of(batch[row]).into_iter().map(move |place| (row, place))).collect();
            let mut pass = Pass {
                texts: places.iter().map(|&(row, _)| batch[row]).collect(),
                values: Vec::new(),
                widths: Vec::new(),
                read: count,
            };
            if !places.is_empty() {
                // What stands behind a text changes nothing before it.
                let padded = Array2::from_shape_fn((count, length), |(row, place)| {
                    texts[batch[row]].get(place).copied().unwrap_or(0)
                });
                for captured in self.model.capture(padded.view(), sites)? {
                    let [_, _, width] = captured.dims();
                    let values = captured.into_data().convert::<f32>().try_into_vec::<f32>();
                    let values = values.map_err(|e| anyhow!("activations: {e:?}"))?;
                    let row = |&(row, place): &(usize, usize)| {
                        let start = (row * length + place) * width;
                        &values[start..start + width]
                    };
                    pass.values.push(places.iter().flat_map(row).copied().collect());
                    pass.widths.push(width);
                }
            }
            if pass.values.is_empty() {
                pass.values = vec![Vec::new(); sites.len()];
                pass.widths = vec![1; sites.len()];
            }
            see(pass)?;
        }
        Ok(())
    }
}

/// The places of some texts.
struct Pass {
    /// The text of each place, those of one text together.
    texts: Vec<usize>,
    /// Their activations at each site, `[places, width]`.
    values: Vec<Vec<f32>>,
    widths: Vec<usize>,
    /// Texts, those without a place too.
    read: usize,
}

impl Pass {
    /// How many places each text has.
    fn counts(&self) -> BTreeMap<usize, f64> {
        let mut counts = BTreeMap::new();
        self.texts.iter().for_each(|&text| *counts.entry(text).or_default() += 1.0);
        counts
    }
}

/// Pools an SAE's latents of a pass; gives the number of active ones.
fn encode(sae: &Sae, pass: &Pass, site: usize, reading: &Reading<'_>, rows: &mut [Vec<(usize, f64)>]) -> Result<u64> {
    let (values, width) = (&pass.values[site], pass.widths[site]);
    if pass.texts.is_empty() {
        return Ok(0);
    }
    let at_once = (LATENTS / sae.d_sae().max(1)).clamp(1, TOKENS);
    let mut sums: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    let (mut active, mut bad) = (0, None);
    for (chunk, texts) in values.chunks(at_once * width).zip(pass.texts.chunks(at_once)) {
        let x = Tensor::from_data(TensorData::new(chunk.to_vec(), [texts.len(), width]), reading.model.device());
        sae.encode(x).for_each_active(|row, latent, value| {
            active += 1;
            if !value.is_finite() {
                bad = Some((texts[row], latent));
            }
            *sums.entry((texts[row], latent)).or_default() += f64::from(value);
        });
    }
    if let Some((text, latent)) = bad {
        bail!("latent {latent} is not finite in text {text}");
    }
    let counts = pass.counts();
    for ((text, latent), sum) in sums {
        rows[text].push((latent, sum / counts[&text]));
    }
    Ok(active)
}
