//! What was found of an SAE, by letter and in the mean over letters, with intervals.

use anyhow::{Result, anyhow};
use assay_probes::absorption::{Absorption, LEARNED, LetterProbe, MainLatents};
use assay_probes::probing::Features;
use assay_probes::stats::{Interval, Resamples, mean, sample_sd};
use assay_sae::Sae;
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use rayon::prelude::*;

use super::Spelling;
use crate::interrupt::{self, Interrupted};
use crate::replicates::{LEVEL, paired_interval};

/// Latents in memory at a time.
const LATENTS: usize = 1 << 24;

/// What is measured of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// F1 of the first main latent.
    FirstF1,
    /// F1 of all main latents.
    F1,
    /// How many they are.
    Latents,
    /// The mean absorption fraction of words in which the probe finds the letter.
    Fraction,
    /// The share of those that are fully absorbed.
    Full,
    /// The fraction where the decoder's bias does not count as part of the activation.
    FractionWithoutBias,
    /// The share where it does not.
    FullWithoutBias,
}

impl Quantity {
    /// All, in the order of tables.
    pub const ALL: [Self; 7] = [
        Self::FirstF1,
        Self::F1,
        Self::Latents,
        Self::Fraction,
        Self::Full,
        Self::FractionWithoutBias,
        Self::FullWithoutBias,
    ];

    /// Its name in JSON; SAEBench's, where it has it, is `mean_{name}_score`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstF1 => "f1_first",
            Self::F1 => "f1",
            Self::Latents => "num_split_features",
            Self::Fraction => "absorption_fraction",
            Self::Full => "full_absorption",
            Self::FractionWithoutBias => "absorption_fraction_without_bias",
            Self::FullWithoutBias => "full_absorption_without_bias",
        }
    }
}

/// What was found of a letter.
pub struct LetterReport {
    /// The letter, from 0.
    pub letter: usize,
    /// The latents that tell it.
    pub main: MainLatents,
    /// Of each tested word in which the probe finds it, what is absorbed: as SAEBench counts, and without the decoder's bias.
    pub words: Vec<[Absorption; 2]>,
}

impl LetterReport {
    /// A quantity; `None` where no latent speaks for the letter. `counts` says how often each word counts.
    pub fn value(&self, quantity: Quantity, counts: impl Fn(usize) -> f64) -> Option<f64> {
        let [first, all] = self.main.reached()?;
        let mean_of = |of: fn(&[Absorption; 2]) -> f64| {
            let (mut sum, mut total) = (0.0, 0.0);
            for (at, word) in self.words.iter().enumerate() {
                sum += counts(at) * of(word);
                total += counts(at);
            }
            (total > 0.0).then(|| sum / total)
        };
        match quantity {
            Quantity::FirstF1 => Some(first),
            Quantity::F1 => Some(all),
            Quantity::Latents => Some(self.main.latents.len() as f64),
            Quantity::Fraction => mean_of(|word| word[0].fraction),
            Quantity::Full => mean_of(|word| f64::from(u8::from(word[0].full))),
            Quantity::FractionWithoutBias => mean_of(|word| word[1].fraction),
            Quantity::FullWithoutBias => mean_of(|word| f64::from(u8::from(word[1].full))),
        }
    }
}

/// A mean over letters.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The mean over letters that have it; `None` without any.
    pub value: Option<f64>,
    /// The standard deviation over letters.
    pub sd: Option<f64>,
    /// The percentile interval of the mean.
    pub interval: Option<Interval>,
    replicates: Vec<Option<f64>>,
}

impl Summary {
    /// This less another of the same letters and words: the difference, and its paired interval.
    pub fn minus(&self, other: &Self) -> (Option<f64>, Option<Interval>) {
        let difference = self.value.zip(other.value).map(|(own, other)| own - other);
        (difference, paired_interval(self.replicates.clone(), other.replicates.clone(), LEVEL))
    }
}

/// Draws of letters, and of the words of each, that all SAEs share.
pub struct Bootstrap {
    letters: Resamples,
    /// How often each word of a letter is in each replicate, `[replicates, words]`.
    words: Vec<Array2<f64>>,
}

impl Bootstrap {
    /// Draws of the letters that probes tell, and of the words in which they find them.
    pub fn draw(spelling: &Spelling<'_>, replicates: usize, seed: u64) -> Self {
        let words: Vec<Array2<f64>> = spelling
            .learned()
            .map(|probe| {
                let seed = seed.wrapping_add(1 + probe.letter as u64);
                Resamples::draw(probe.found(spelling.words).len(), replicates, seed).counts()
            })
            .collect();
        Self { letters: Resamples::draw(words.len(), replicates, seed), words }
    }

    /// The interval of one letter, the `at`-th of those that probes tell, over its words.
    pub fn interval(&self, at: usize, letter: &LetterReport, quantity: Quantity) -> Option<Interval> {
        let of = |row: ArrayView1<'_, f64>| letter.value(quantity, |word| row[word]);
        Interval::percentile(&self.words[at].rows().into_iter().map(of).collect::<Vec<_>>(), LEVEL)
    }

    /// The mean over letters; an interval draws letters, and words within them.
    fn summary(&self, letters: &[LetterReport], quantity: Quantity) -> Summary {
        let values: Vec<f64> = letters.iter().filter_map(|letter| letter.value(quantity, |_| 1.0)).collect();
        let drawn: Vec<Vec<Option<f64>>> = letters
            .iter()
            .zip(&self.words)
            .map(|(letter, counts)| {
                counts.rows().into_iter().map(|row| letter.value(quantity, |word| row[word])).collect()
            })
            .collect();
        let rows: Vec<Vec<usize>> = self.letters.map(|rows| rows.iter().map(|&at| at as usize).collect());
        let mean_of = |(replicate, rows): (usize, &Vec<usize>)| {
            mean(&rows.iter().filter_map(|&at| drawn[at][replicate]).collect::<Vec<f64>>())
        };
        let replicates: Vec<Option<f64>> = rows.iter().enumerate().map(mean_of).collect();
        let interval = Interval::percentile(&replicates, LEVEL);
        Summary { value: mean(&values), sd: sample_sd(&values), interval, replicates }
    }
}

/// What was found of an SAE, or of a control.
pub struct SaeReport {
    /// What it is called.
    pub name: String,
    /// Whether it is a control.
    pub is_control: bool,
    /// Latents that were active a word.
    pub l0: f64,
    /// Every letter that probes tell.
    pub letters: Vec<LetterReport>,
    /// The mean of each [`Quantity::ALL`].
    pub means: Vec<Summary>,
}

impl SaeReport {
    /// Measures an SAE; `advance` is told of letters that are done.
    ///
    /// # Errors
    /// If an activation of a latent is not finite, or somebody asks to stop.
    pub fn measure(
        name: String,
        is_control: bool,
        sae: &Sae,
        spelling: &Spelling<'_>,
        bootstrap: &Bootstrap,
        mut advance: impl FnMut(u64),
    ) -> Result<Self> {
        let words = spelling.words;
        let decoder = Decoder::of(sae)?;
        let latents = encode(sae, words.activations, &decoder.lengths)?;
        let active: usize = (0..latents.rows()).map(|row| latents.row(row).count()).sum();
        let l0 = active as f64 / latents.rows().max(1) as f64;
        let probes: Vec<&LetterProbe> = spelling.learned().collect();
        let mut letters = Vec::new();
        // A few at a time, so that progress is shown and a request to stop is seen.
        for some in probes.chunks(rayon::current_num_threads()) {
            if interrupt::requested() {
                return Err(Interrupted::with_nothing_written().into());
            }
            let one = |probe: &&LetterProbe| {
                let main = MainLatents::find(words, &latents, probe.letter);
                let found = probe.found(words);
                let cosines = decoder.cosines(probe);
                let of = |offset| probe.absorbed(words, &found, &latents, &cosines, &main.latents, offset);
                let both = of(0.0).into_iter().zip(of(decoder.bias.dot(&probe.direction)));
                LetterReport { letter: probe.letter, words: both.map(|(a, b)| [a, b]).collect(), main }
            };
            letters.extend(some.par_iter().map(one).collect::<Vec<_>>());
            advance(some.len() as u64);
        }
        let means = Quantity::ALL.map(|quantity| bootstrap.summary(&letters, quantity)).into();
        Ok(Self { name, is_control, l0, letters, means })
    }

    /// The mean of a quantity.
    pub fn mean(&self, quantity: Quantity) -> &Summary {
        let at = Quantity::ALL.iter().position(|known| *known == quantity).expect("all are there");
        &self.means[at]
    }

    /// The letters that its latents tell: F1 of all main latents is above what a probe must have.
    pub fn told(&self) -> impl Iterator<Item = &LetterReport> {
        self.letters.iter().filter(|letter| letter.value(Quantity::F1, |_| 1.0) > Some(LEARNED))
    }

    /// The mean of a quantity over those; `None` without any.
    pub fn mean_of_told(&self, quantity: Quantity) -> Option<f64> {
        mean(&self.told().filter_map(|letter| letter.value(quantity, |_| 1.0)).collect::<Vec<f64>>())
    }

    /// Letters for which no latent speaks.
    pub fn without_latents(&self) -> usize {
        self.letters.iter().filter(|letter| letter.main.latents.is_empty()).count()
    }
}

/// What an SAE writes.
struct Decoder {
    /// `[d_sae, d_in]`
    rows: Array2<f64>,
    /// What an activation is multiplied by to be in units of rows of length 1, `[d_sae]`.
    lengths: Vec<f64>,
    norms: Vec<f64>,
    bias: Array1<f64>,
}

impl Decoder {
    fn of(sae: &Sae) -> Result<Self> {
        let host = |values: TensorData| {
            let values = values.convert::<f32>().try_into_vec::<f32>().map_err(|e| anyhow!("weights: {e:?}"))?;
            anyhow::Ok(values.into_iter().map(f64::from).collect::<Vec<f64>>())
        };
        let [_, rows] = sae.weights();
        let rows = Array2::from_shape_vec((sae.d_sae(), sae.d_out()), host(rows.into_data())?)?;
        let norms: Vec<f64> = rows.rows().into_iter().map(|row| row.dot(&row).sqrt()).collect();
        // Latents that are chosen by the norms of their rows come in these units already.
        let lengths = if sae.activation().by_decoder_norm() { vec![1.0; norms.len()] } else { norms.clone() };
        Ok(Self { rows, lengths, norms, bias: host(sae.decoder_bias().into_data())?.into() })
    }

    /// Cosines of the rows with a probe, `[d_sae]`; 0 of a row of zeros.
    fn cosines(&self, probe: &LetterProbe) -> Vec<f64> {
        let along = self.rows.dot(&probe.direction);
        along.iter().zip(&self.norms).map(|(along, norm)| if *norm > 0.0 { along / norm } else { 0.0 }).collect()
    }
}

/// The latents of activations, in units of decoder rows of length 1.
fn encode(sae: &Sae, activations: &Array2<f64>, lengths: &[f64]) -> Result<Features> {
    let mut features = Features::new(sae.d_sae());
    let at_once = (LATENTS / sae.d_sae().max(1)).max(1);
    for chunk in activations.axis_chunks_iter(Axis(0), at_once) {
        let values: Vec<f32> = chunk.iter().map(|&value| value as f32).collect();
        let x = Tensor::from_data(TensorData::new(values, [chunk.nrows(), chunk.ncols()]), &sae.device());
        let mut rows: Vec<Vec<(usize, f64)>> = vec![Vec::new(); chunk.nrows()];
        sae.encode(x)
            .for_each_active(|row, latent, value| rows[row].push((latent, f64::from(value) * lengths[latent])));
        for mut row in rows {
            if let Some((latent, _)) = row.iter().find(|of| !of.1.is_finite()) {
                return Err(anyhow!("latent {latent} is not finite on a word"));
            }
            row.sort_unstable_by_key(|of| of.0);
            features.push(row);
        }
    }
    Ok(features)
}
