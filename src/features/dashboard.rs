//! `dashboard.html`: all latents on one page that opens from disk, without a server or a network.
//!
//! Text of the corpus gets onto the page as data alone: gzip in base64, which holds no `<`, read by `assets/dashboard.js` and put there as text
//! nodes; a content security policy forbids everything else. What is always loaded is the index, columns of numbers; contexts are in shards of
//! [`SHARD`] latents, which the page unpacks when one of them is looked at.
//!
//! All is one file, or, of more than [`MOST`] latents, a folder: `index.html`, and `data/sN.js` for shard N, the same bytes as the text in a
//! call that hands them to the page. A page may not read files on its own where it was opened from disk, but it may load scripts.

mod base64;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use assay_models::vocabulary::Vocabulary;
use assay_probes::features::explanation::Method;
use assay_probes::features::{HISTOGRAM_BINS, PickReason, STRATA};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use self::base64::Base64;
use super::Feature;
use super::windows::Shown;
use crate::files::write_atomic_with;

/// Latents of a shard.
pub const SHARD: usize = 64;
/// More latents in one file make one that browsers take long to open.
pub const MOST: usize = 65_536;
/// Of a folder: the page, and where its shards are.
pub const INDEX: &str = "index.html";
const DATA: &str = "data";
/// Tokens and neighbours of a latent in the index.
const TOKENS: usize = 10;
const NEAREST: usize = 5;
/// What stands for no token and no latent.
const NONE: u32 = u32::MAX;

/// What stands in a column of one number a latent, and of several, or none.
type Score = fn(&Feature) -> Option<f64>;
type List = fn(&Feature) -> Vec<u32>;

/// What the page is of.
pub struct Page<'a> {
    /// A name for its title.
    pub title: String,
    /// What is said of model, SAE and tokens: labels and values.
    pub about: Vec<(String, String)>,
    /// All latents, in order.
    pub features: &'a [Feature],
    /// How tokens read.
    pub vocabulary: &'a Vocabulary,
    /// How many there are.
    pub vocab_size: usize,
    /// Tokens of the store, and of each context.
    pub tokens: u64,
    /// See `tokens`.
    pub context_size: usize,
}

/// What gives what is shown of some latents, from the first number up to the second.
type Shards<'a> = &'a mut dyn FnMut(usize, usize) -> Result<Vec<Option<Shown>>>;

impl Page<'_> {
    /// Writes the page as one file.
    ///
    /// # Errors
    /// If it can't be written, or those of `shards`.
    pub fn write(&self, path: &Path, shards: Shards<'_>) -> Result<()> {
        write_atomic_with(path, |file| self.write_into(file, Some(shards)))
    }

    /// Writes the page into a folder, the page itself last.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_folder(&self, dir: &Path, shards: Shards<'_>) -> Result<()> {
        for start in (0..self.features.len()).step_by(SHARD) {
            let (number, bytes) = (start / SHARD, self.shard(start, shards)?);
            write_atomic_with(&dir.join(DATA).join(format!("s{number}.js")), |file| {
                let mut out = BufWriter::with_capacity(1 << 20, file);
                write!(out, "__shard({number},\"")?;
                packed(&mut out, &bytes)?;
                writeln!(out, "\")")?;
                Ok(out.flush()?)
            })?;
        }
        write_atomic_with(&dir.join(INDEX), |file| self.write_into(file, None))
    }

    /// The bytes of the shard that begins with a latent.
    fn shard(&self, start: usize, shards: Shards<'_>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for shown in shards(start, (start + SHARD).min(self.features.len()))? {
            self.put(&mut bytes, shown.as_ref());
        }
        Ok(bytes)
    }

    /// The page, with the shards in it if they are given.
    fn write_into(&self, file: &mut File, shards: Option<Shards<'_>>) -> Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let (head, tail) = TEMPLATE.split_once("<!--data-->").expect("the template has a place for data");
        let title = escaped(&self.title);
        let files = if shards.is_some() { "" } else { " 'self' file:" };
        let head = head.replace("/*style*/", STYLE).replace("<!--title-->", &title).replace("/*files*/", files);
        out.write_all(head.as_bytes())?;
        let (latents, folder) = (self.features.len(), shards.is_none());
        if let Some(shards) = shards {
            for start in (0..latents).step_by(SHARD) {
                data(&mut out, &format!("shard-{}", start / SHARD), &self.shard(start, shards)?)?;
            }
        }
        data(&mut out, "vocabulary", &self.vocabulary_bytes())?;
        let (columns, index) = self.index();
        data(&mut out, "index", &index)?;
        let about = json!({
            "title": self.title, "about": self.about, "latents": latents, "shard": SHARD, "tokens": self.tokens,
            "context_size": self.context_size, "folder": folder,
            "vocabulary": self.vocab_size, "id_bytes": self.id_bytes(), "columns": columns, "bins": HISTOGRAM_BINS, "strata": STRATA,
        });
        data(&mut out, "about", about.to_string().as_bytes())?;
        out.write_all(tail.replace("/*script*/", SCRIPT).as_bytes())?;
        Ok(out.flush()?)
    }

    fn id_bytes(&self) -> usize {
        if self.vocab_size <= 1 << 16 { 2 } else { 4 }
    }

    /// The lengths of all tokens' texts, u32, then the texts.
    fn vocabulary_bytes(&self) -> Vec<u8> {
        let texts: Vec<String> = (0..self.vocab_size as u32).map(|id| self.vocabulary.text(id)).collect();
        let mut bytes: Vec<u8> = texts.iter().flat_map(|text| (text.len() as u32).to_le_bytes()).collect();
        texts.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
        bytes
    }

    /// The columns by name, type and numbers per latent, and their numbers, column after column.
    fn index(&self) -> (Vec<Value>, Vec<u8>) {
        let (mut columns, mut bytes) = (Vec::new(), Vec::new());
        let number = |of: Score| -> Vec<u8> {
            let values = self.features.iter().map(|f| of(f).map_or(f32::NAN, |v| v as f32));
            values.flat_map(f32::to_le_bytes).collect()
        };
        let floats: [(&str, Score); 31] = [
            ("density_low", |f| f.scores.density_interval.map(|i| i.low)),
            ("density_high", |f| f.scores.density_interval.map(|i| i.high)),
            ("max", |f| f.scores.max),
            ("magnitude", |f| f.scores.max_magnitude),
            ("mean", |f| f.scores.mean),
            ("token_entropy", |f| f.scores.token_entropy),
            ("purity", |f| f.scores.purity),
            ("eta2_token", |f| f.scores.explained.token),
            ("eta2_previous", |f| f.scores.explained.previous),
            ("eta2_position", |f| f.scores.explained.position),
            ("eta2_document", |f| f.scores.explained.document),
            ("eps2_token", |f| f.adjusted.token),
            ("eps2_previous", |f| f.adjusted.previous),
            ("eps2_position", |f| f.adjusted.position),
            ("eps2_document", |f| f.adjusted.document),
            ("input_score", |f| f.input_score),
            ("partner_jaccard", |f| f.partner.map(|partner| partner.jaccard)),
            ("encoder_decoder_cosine", |f| f.encoder_decoder),
            ("delta_ce", Feature::delta_ce),
            ("delta_kl", Feature::delta_kl),
            ("output_score", |f| f.output_score),
            ("detection_tokens", |f| f.detection(Method::Tokens)?.own.auroc),
            ("detection_ngrams", |f| f.detection(Method::Ngrams)?.own.auroc),
            ("detection_keywords", |f| f.detection(Method::Keywords)?.own.auroc),
            ("detection_written", |f| f.detection(Method::Written)?.own.auroc),
            ("detection_rule", |f| f.detection(Method::Rule)?.own.auroc),
            ("other_tokens", |f| f.detection(Method::Tokens)?.other.auroc),
            ("other_ngrams", |f| f.detection(Method::Ngrams)?.other.auroc),
            ("other_keywords", |f| f.detection(Method::Keywords)?.other.auroc),
            ("other_written", |f| f.detection(Method::Written)?.other.auroc),
            ("other_rule", |f| f.detection(Method::Rule)?.other.auroc),
        ];
        for (name, of) in floats {
            columns.push(json!([name, "f32", 1]));
            bytes.extend(number(of));
        }
        let lists: [(&str, &str, usize, List); 8] = [
            ("firings", "u32", 1, |f| vec![u32::try_from(f.scores.firings).unwrap_or(NONE)]),
            ("partner", "u32", 1, |f| f.partner.iter().map(|partner| partner.latent as u32).collect()),
            ("in", "u32", TOKENS, |f| f.scores.top.iter().map(|token| token.id).collect()),
            ("in_share", "f32", TOKENS, |f| f.scores.top.iter().map(|t| (t.share as f32).to_bits()).collect()),
            ("out", "u32", TOKENS, |f| f.written.iter().map(|(id, _)| *id).collect()),
            ("out_logit", "f32", TOKENS, |f| f.written.iter().map(|(_, logit)| logit.to_bits()).collect()),
            ("near", "u32", NEAREST, |f| f.nearest.iter().map(|(latent, _)| *latent as u32).collect()),
            ("near_cosine", "f32", NEAREST, |f| f.nearest.iter().map(|(_, c)| (*c as f32).to_bits()).collect()),
        ];
        for (name, kind, width, of) in lists {
            columns.push(json!([name, kind, width]));
            for feature in self.features {
                let mut values = of(feature);
                values.resize(width, NONE);
                bytes.extend(values.into_iter().flat_map(u32::to_le_bytes));
            }
        }
        (columns, bytes)
    }

    /// A latent's part of a shard: the number of its windows, u32, and if there are any: of each stratum the firings (u32), their share of
    /// the mass and the least magnitude (f32 both); the histogram (u32 each); the windows.
    fn put(&self, out: &mut Vec<u8>, shown: Option<&Shown>) {
        let Some(shown) = shown else { return out.extend(0_u32.to_le_bytes()) };
        out.extend((shown.windows.len() as u32).to_le_bytes());
        for stratum in &shown.strata {
            out.extend(u32::try_from(stratum.events).unwrap_or(NONE).to_le_bytes());
            out.extend((stratum.mass as f32).to_le_bytes());
            out.extend(stratum.low.to_le_bytes());
        }
        shown.histogram.iter().for_each(|&n| out.extend(u32::try_from(n).unwrap_or(NONE).to_le_bytes()));
        let max = shown.windows.iter().flat_map(|w| &w.values).fold(0.0_f32, |max, v| max.max(v.abs()));
        for window in &shown.windows {
            let kind = match window.kind {
                PickReason::Largest => 0,
                PickReason::Stratum(at) => 1 + at,
                PickReason::Least => 1 + STRATA as u8,
                PickReason::Silent => 2 + STRATA as u8,
            };
            out.extend([kind, window.focus as u8, window.ids.len() as u8]);
            out.extend(window.context.to_le_bytes());
            out.extend(window.first.to_le_bytes());
            window.ids.iter().for_each(|id| out.extend(&id.to_le_bytes()[..self.id_bytes()]));
            // In 255ths of the largest magnitude; what fires is never shown as silent.
            let part = |v: &f32| if *v == 0.0 { 0 } else { ((v.abs() / max * 255.0).round() as u8).max(1) };
            out.extend(window.values.iter().map(part));
        }
    }
}

const TEMPLATE: &str = include_str!("assets/dashboard.html");
const STYLE: &str = include_str!("assets/dashboard.css");
const SCRIPT: &str = include_str!("assets/dashboard.js");

/// An element of data: gzip in base64.
fn data(out: &mut impl Write, id: &str, bytes: &[u8]) -> Result<()> {
    write!(out, "<script type=\"text/plain\" id=\"{id}\">")?;
    packed(out, bytes)?;
    Ok(writeln!(out, "</script>")?)
}

fn packed(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    let mut encoder = GzEncoder::new(Base64::new(out), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()?.finish()?;
    Ok(())
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
