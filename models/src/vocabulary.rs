//! Token ids as text and back, for people to read.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::error::{ModelError, Result};
use crate::files::read_text;

/// The `tokenizer.json` of a model's directory.
pub(crate) fn tokenizer(dir: &Path) -> Result<(PathBuf, Tokenizer)> {
    let file = dir.join("tokenizer.json");
    if !file.is_file() {
        return Err(ModelError::data(&file, "not found; text needs the model's tokenizer (token files need none)"));
    }
    let tokenizer = read_text(&file)?.parse::<Tokenizer>();
    let tokenizer = tokenizer.map_err(|e| ModelError::data(&file, format!("not a tokenizer: {e}")))?;
    Ok((file, tokenizer))
}

/// A model's vocabulary.
pub struct Vocabulary {
    file: PathBuf,
    tokenizer: Tokenizer,
}

impl Vocabulary {
    /// Loads the `tokenizer.json` of a model's directory.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub fn load(dir: &Path) -> Result<Self> {
        let (file, tokenizer) = tokenizer(dir)?;
        Ok(Self { file, tokenizer })
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
        let Err(error) = Vocabulary::load(Path::new("/nowhere")) else { panic!("nothing is there") };
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
