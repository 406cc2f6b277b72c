//! Token ids as text and back, for people to read.

use std::path::{Path, PathBuf};

use tokenizers::{ModelWrapper, Tokenizer};

use crate::error::{ModelError, Result};
use crate::files::{guarded, read_text};
use crate::gguf::{self, Gguf};
use crate::place::is_gguf;

/// A model's tokenizer and the file that it is from: `tokenizer.json` in a directory, or a GGUF file itself.
pub(crate) fn tokenizer(model: &Path) -> Result<(PathBuf, Tokenizer)> {
    if is_gguf(model) {
        return Ok((model.to_owned(), gguf::tokenizer(&Gguf::open(model)?)?.tokenizer));
    }
    let file = model.join("tokenizer.json");
    if !file.is_file() {
        return Err(ModelError::data(&file, "not found; text needs the model's tokenizer (token files need none)"));
    }
    let text = read_text(&file)?;
    let bad = |e: tokenizers::Error| ModelError::data(&file, format!("not a tokenizer: {e}"));
    let mut tokenizer = guarded(&file, || text.parse::<Tokenizer>().map_err(bad))?;
    // Padding would depend on what a text is tokenised with, and texts are wanted whole.
    tokenizer.with_padding(None).with_truncation(None).map_err(bad)?;
    Ok((file, tokenizer))
}

/// The token that a tokenizer puts before a text by itself, if it does.
pub(crate) fn begins_with(tokenizer: &Tokenizer) -> Option<u32> {
    let encoded = tokenizer.encode("a", true).ok()?;
    let first = encoded.get_ids().first().copied()?;
    (encoded.get_special_tokens_mask().first() == Some(&1)).then_some(first)
}

/// A model's vocabulary.
pub struct Vocabulary {
    file: PathBuf,
    tokenizer: Tokenizer,
    bos: Option<u32>,
}

impl Vocabulary {
    /// Loads the tokenizer of a model: a directory with `tokenizer.json`, or a GGUF file.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn load(model: &Path) -> Result<Self> {
        let (file, tokenizer) = tokenizer(model)?;
        let bos = begins_with(&tokenizer);
        Ok(Self { file, tokenizer, bos })
    }

    /// The token that the tokenizer puts before a text by itself, BOS in the families that need one. That is its own setting (the
    /// post-processor of a `tokenizer.json`, `add_bos_token` of a GGUF file), whatever the model's configuration calls BOS.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// What it is, and how many tokens it has: `byte-level BPE, 50277 tokens`.
    pub fn kind(&self) -> String {
        let kind = match self.tokenizer.get_model() {
            ModelWrapper::BPE(bpe) if bpe.byte_fallback => "BPE of characters, with bytes for the others",
            ModelWrapper::BPE(_) => "byte-level BPE",
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::WordLevel(_) => "words",
            ModelWrapper::Unigram(_) => "unigram",
        };
        format!("{kind}, {} tokens", self.tokenizer.get_vocab_size(true))
    }

    /// A hash of all that the ids of a text follow from.
    pub fn hash(&self) -> String {
        let text = self.tokenizer.to_string(false).unwrap_or_default();
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// The ids of a text, and nothing before or after them.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let refused =
            |e: tokenizers::Error| ModelError::data(&self.file, format!("the tokenizer refuses the text: {e}"));
        Ok(self.tokenizer.encode_fast(text, false).map_err(refused)?.get_ids().to_vec())
    }

    /// The ids of a text, and the byte behind the end of each in the text.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode_with_ends(&self, text: &str) -> Result<Vec<(u32, usize)>> {
        let refused =
            |e: tokenizers::Error| ModelError::data(&self.file, format!("the tokenizer refuses the text: {e}"));
        let encoded = self.tokenizer.encode(text, false).map_err(refused)?;
        Ok(encoded.get_ids().iter().copied().zip(encoded.get_offsets().iter().map(|&(_, end)| end)).collect())
    }

    /// The tokens that are letters of the English alphabet alone, by id, with the space before them if they have one. A token's own spelling says
    /// so, as decoders of some tokenizers drop the space of a token that stands alone.
    pub fn alphabetic(&self) -> Vec<(u32, String)> {
        let word = |id: u32| {
            let token = self.tokenizer.id_to_token(id)?;
            let (space, letters) = match token.strip_prefix(['Ġ', '▁']) {
                Some(letters) => (" ", letters),
                None => ("", token.as_str()),
            };
            let is_word = !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_alphabetic());
            is_word.then(|| (id, format!("{space}{letters}")))
        };
        (0..self.tokenizer.get_vocab_size(true) as u32).filter_map(word).collect()
    }

    /// What an id stands for, with the space before it if it has one; a part of a character is shown as `�`, an id that the
    /// tokenizer does not know (vocabularies are padded) as its number.
    pub fn text(&self, id: u32) -> String {
        match self.tokenizer.decode(&[id], false) {
            Ok(text) if !text.is_empty() => text,
            _ => format!("<{id}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_tokens_make_the_text() {
        let vocabulary = Vocabulary::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled/small")).unwrap();
        let text = "The museum was opened in 1952.";
        let ids = vocabulary.encode(text).unwrap();
        assert!(ids.len() > 5);
        assert_eq!(ids.iter().map(|&id| vocabulary.text(id)).collect::<String>(), text);
        assert_eq!(vocabulary.text(4_000_000_000), "<4000000000>");
        let ended = vocabulary.encode_with_ends(text).unwrap();
        assert_eq!(ended.iter().map(|&(id, _)| id).collect::<Vec<_>>(), ids);
        assert!(
            ended
                .iter()
                .zip(&ids)
                .scan(0, |from, (&(_, end), &id)| {
                    let own = &text[*from..end];
                    *from = end;
                    Some(own == vocabulary.text(id))
                })
                .all(|same| same)
        );
        let words = vocabulary.alphabetic();
        assert!(words.len() > 1000 && words.iter().all(|(id, word)| vocabulary.text(*id) == *word));
        assert!(words.iter().any(|(_, word)| word == " the"));
        let Err(error) = Vocabulary::load(Path::new("/nowhere")) else { panic!("nothing is there") };
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
