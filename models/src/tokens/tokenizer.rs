//! Documents to token ids, some at a time, with a model's own tokenizer.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use super::spool::Tokens;
use crate::corpus::Piece;
use crate::error::{ModelError, Result};
use crate::vocabulary;

/// Bytes of text that are tokenised at a time.
const BATCH: usize = 1 << 22;

/// A tokenizer whose output for a document depends on that document alone.
pub(super) struct TextTokenizer {
    file: PathBuf,
    tokenizer: Tokenizer,
    eos: u32,
}

impl TextTokenizer {
    /// Loads `tokenizer.json` from a directory; `eos` goes before each document.
    pub(super) fn load(dir: &Path, eos: u32) -> Result<Self> {
        let (file, mut tokenizer) = vocabulary::tokenizer(dir)?;
        let bad = |e: tokenizers::Error| ModelError::data(&file, e.to_string());
        // Padding would depend on what a document is tokenised with, and documents are wanted whole.
        tokenizer.with_padding(None).with_truncation(None).map_err(bad)?;
        Ok(Self { file, tokenizer, eos })
    }

    /// Whether a document may be tokenised in pieces that are cut where white space follows something else.
    ///
    /// It may if no token goes across such a place, and none depends on what is on the other side: so it is with GPT-2's splitting
    /// (`ByteLevel`; each of its matches is white space alone, or one space and something else), with NFC, and with added tokens
    /// that neither have such a place in them nor take white space from around them.
    pub(super) fn cuts(&self) -> bool {
        let splits = match self.tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(b)) => b.use_regex && !b.add_prefix_space,
            _ => false,
        };
        let normalises = matches!(self.tokenizer.get_normalizer(), None | Some(NormalizerWrapper::NFC(_)));
        let crosses = |text: &str| {
            let white: Vec<bool> = text.chars().map(char::is_whitespace).collect();
            white.windows(2).any(|pair| !pair[0] && pair[1])
        };
        let added = self.tokenizer.get_added_tokens_decoder();
        splits && normalises && added.values().all(|t| !(t.lstrip || t.rstrip || t.single_word || crosses(&t.content)))
    }

    /// The tokens of documents, in order, batch by batch.
    pub(super) fn tokens(self, pieces: impl Iterator<Item = Result<Piece>> + Send + 'static) -> Tokens {
        let mut pieces = pieces;
        Box::new(std::iter::from_fn(move || self.batch(&mut pieces).transpose()))
    }

    fn batch(&self, pieces: &mut impl Iterator<Item = Result<Piece>>) -> Result<Option<Vec<u32>>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH {
            let Some(piece) = pieces.next().transpose()? else { break };
            bytes += piece.text.len();
            batch.push(piece);
        }
        if batch.is_empty() {
            return Ok(None);
        }
        // On threads of its own: a caller may hold a lock that the threads of rayon's pool wait for.
        let share = batch.len().div_ceil(rayon::current_num_threads());
        let parts: Vec<Result<Vec<u32>>> = std::thread::scope(|scope| {
            let started: Vec<_> = batch.chunks(share).map(|pieces| scope.spawn(|| self.encode(pieces))).collect();
            started.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        Ok(Some(parts.into_iter().collect::<Result<Vec<_>>>()?.concat()))
    }

    fn encode(&self, pieces: &[Piece]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in pieces {
            let encoded = self
                .tokenizer
                .encode_fast(piece.text.as_str(), false)
                .map_err(|e| ModelError::data(&self.file, format!("the tokenizer refuses a document: {e}")))?;
            ids.extend(piece.starts.then_some(self.eos));
            ids.extend_from_slice(encoded.get_ids());
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled() -> TextTokenizer {
        TextTokenizer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled/small"), 0).unwrap()
    }

    fn ids(pieces: &[&str]) -> Vec<u32> {
        let pieces: Vec<Piece> =
            pieces.iter().enumerate().map(|(i, p)| Piece { text: (*p).to_owned(), starts: i == 0 }).collect();
        bundled().encode(&pieces).unwrap()
    }

    #[test]
    fn pieces_give_the_tokens_of_the_whole() {
        assert!(bundled().cuts());
        let text = "Don't stop:  the\u{a0}3rd line\r\n\r\n  ends (here).\n\nCafe\u{301} \u{2003}über 12 345\t\n<|endoftext|> x\n";
        let whole = ids(&[text]);
        let (mut before, mut cuts) = ('\n', 0);
        for (at, c) in text.char_indices() {
            if c.is_whitespace() && !before.is_whitespace() {
                assert_eq!(ids(&[&text[..at], &text[at..]]), whole, "cut at {at}");
                cuts += 1;
            }
            before = c;
        }
        assert!(cuts > 10);
        // Elsewhere they need not: this is what the rule is for.
        assert_ne!(ids(&["wor", "d"]), ids(&["word"]));
    }

    #[test]
    fn a_tokenizer_with_another_way_of_splitting_is_given_whole_documents() {
        let dir = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(bundled().file).unwrap();
        for (from, to) in [
            ("\"add_prefix_space\": false", "\"add_prefix_space\": true"),
            ("\"rstrip\": false", "\"rstrip\": true"),
            ("\"<|endoftext|>\",\n      \"single_word\"", "\"end of\",\n      \"single_word\""),
            ("\"normalizer\": null", "\"normalizer\": {\"type\": \"Lowercase\"}"),
        ] {
            assert!(text.contains(from), "{from}");
            std::fs::write(dir.path().join("tokenizer.json"), text.replacen(from, to, 1)).unwrap();
            assert!(!TextTokenizer::load(dir.path(), 0).unwrap().cuts(), "{to}");
        }
    }
}
