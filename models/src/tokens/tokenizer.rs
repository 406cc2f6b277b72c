//! Documents to token ids, some at a time, with a model's own tokenizer.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use super::spool::Tokens;
use crate::config::DecoderConfig;
use crate::corpus::Piece;
use crate::error::{ModelError, Result};
use crate::vocabulary;

/// Bytes of text that are tokenised at a time.
const BATCH: usize = 1 << 22;

/// How text becomes contexts of a model: by whose tokenizer, and with which tokens around documents.
///
/// Where BOS is used, each context is BOS and `context_size` − 1 tokens of the stream, and BOS stands between documents: what SAELens'
/// `concat_and_batch_sequences` makes with `prepend_bos` (`begin_batch_token` and `sequence_separator_token` are BOS). A BOS that is due
/// where one stands already is not repeated. Elsewhere the end-of-text token stands before each document, and contexts are cut out of that
/// stream as it is.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// The model: a directory with `tokenizer.json`, or a GGUF file.
    pub model: &'a Path,
    /// Whether BOS is used; `None`: if the tokenizer puts a token before a text by itself, which is then that one.
    pub begin: Option<bool>,
    /// BOS by the model's configuration, for a tokenizer that puts none.
    pub bos: Option<u32>,
    /// The end-of-text token.
    pub eos: Option<u32>,
}

impl<'a> Texts<'a> {
    /// As the model's own settings are.
    pub fn of(model: &'a Path, config: &DecoderConfig) -> Self {
        Self { model, begin: None, bos: config.bos, eos: config.eos }
    }

    /// With BOS or without it, whatever the tokenizer's setting; `None` leaves that.
    #[must_use]
    pub fn begun(self, begin: Option<bool>) -> Self {
        Self { begin, ..self }
    }
}

/// A tokenizer whose output for a document depends on that document alone.
pub(super) struct TextTokenizer {
    file: PathBuf,
    tokenizer: Tokenizer,
    around: Around,
}

/// What stands around documents.
#[derive(Clone, Copy)]
enum Around {
    /// This token before each.
    Eos(u32),
    /// This token between two, and at the start of each context.
    Bos(u32),
}

impl TextTokenizer {
    /// Loads the tokenizer of a model.
    pub(super) fn load(texts: Texts<'_>) -> Result<Self> {
        let (file, tokenizer) = vocabulary::tokenizer(texts.model)?;
        let own = vocabulary::begins_with(&tokenizer);
        let bos = match texts.begin {
            None => own,
            Some(false) => None,
            Some(true) => match own.or(texts.bos) {
                None => {
                    let why = "contexts are to begin with BOS, but the tokenizer puts no token before a text, and the model's \
                               configuration has no bos_token_id";
                    return Err(ModelError::data(&file, why));
                }
                bos => bos,
            },
        };
        let around = match (bos, texts.eos) {
            (Some(bos), _) => Around::Bos(bos),
            (None, Some(eos)) => Around::Eos(eos),
            (None, None) => {
                let why = "text needs a token between documents, and the model's configuration has no eos_token_id";
                return Err(ModelError::data(texts.model, why));
            }
        };
        Ok(Self { file, tokenizer, around })
    }

    /// The token that contexts begin with, if they do with any.
    pub(super) fn bos(&self) -> Option<u32> {
        match self.around {
            Around::Bos(bos) => Some(bos),
            Around::Eos(_) => None,
        }
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

    /// The tokens of documents in contexts of `context_size`, in order, batch by batch.
    pub(super) fn tokens(
        self,
        pieces: impl Iterator<Item = Result<Piece>> + Send + 'static,
        context_size: usize,
    ) -> Tokens {
        let (mut pieces, around) = (pieces, self.around);
        let stream = std::iter::from_fn(move || self.batch(&mut pieces).transpose());
        match around {
            Around::Eos(_) => Box::new(stream),
            Around::Bos(bos) => {
                let mut at = 0;
                Box::new(stream.map(move |ids| Ok(begin_contexts(&ids?, context_size, bos, &mut at))))
            }
        }
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
            let before = match self.around {
                Around::Eos(eos) => Some(eos),
                // A document that begins with BOS has its own.
                Around::Bos(bos) => Some(bos).filter(|bos| encoded.get_ids().first() != Some(bos)),
            };
            ids.extend(before.filter(|_| piece.starts));
            ids.extend_from_slice(encoded.get_ids());
        }
        Ok(ids)
    }
}

/// Puts `bos` at the start of every context, where it doesn't stand already; `at` is the place in the context that the stream has come to.
fn begin_contexts(ids: &[u32], context_size: usize, bos: u32, at: &mut usize) -> Vec<u32> {
    let mut begun = Vec::with_capacity(ids.len() + ids.len() / (context_size - 1) + 1);
    for &id in ids {
        if *at == 0 && id != bos {
            begun.push(bos);
            *at = 1;
        }
        begun.push(id);
        *at = (*at + 1) % context_size;
    }
    begun
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(model: &Path) -> Texts<'_> {
        Texts { model, begin: None, bos: None, eos: Some(0) }
    }

    fn bundled() -> TextTokenizer {
        TextTokenizer::load(texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled/small"))).unwrap()
    }

    fn pieces(texts: &[&str]) -> Vec<Piece> {
        texts.iter().enumerate().map(|(i, p)| Piece { text: (*p).to_owned(), starts: i == 0 }).collect()
    }

    fn ids(texts: &[&str]) -> Vec<u32> {
        bundled().encode(&pieces(texts)).unwrap()
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

    /// The bundled tokenizer with another text in its file.
    fn changed(dir: &Path, from: &str, to: &str) -> Result<TextTokenizer> {
        let text = std::fs::read_to_string(bundled().file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(dir.join("tokenizer.json"), text.replacen(from, to, 1)).unwrap();
        TextTokenizer::load(texts(dir))
    }

    #[test]
    fn a_tokenizer_with_another_way_of_splitting_is_given_whole_documents() {
        let dir = tempfile::tempdir().unwrap();
        for (from, to) in [
            ("\"add_prefix_space\": false", "\"add_prefix_space\": true"),
            ("\"rstrip\": false", "\"rstrip\": true"),
            ("\"<|endoftext|>\",\n      \"single_word\"", "\"end of\",\n      \"single_word\""),
            ("\"normalizer\": null", "\"normalizer\": {\"type\": \"Lowercase\"}"),
        ] {
            assert!(!changed(dir.path(), from, to).unwrap().cuts(), "{to}");
        }
    }

    /// Post-processors as families have them: Gemma's or Mistral's, Llama 3's, BERT's, GPT-2's; and one with a token at the end alone.
    #[test]
    fn the_tokenizers_own_setting_says_whether_texts_begin_with_bos() {
        let dir = tempfile::tempdir().unwrap();
        let template = |single: &str| {
            format!(
                r#"{{"type": "TemplateProcessing", "single": [{single}], "pair": [{single}, {{"Sequence": {{"id": "B", "type_id": 0}}}}],
                   "special_tokens": {{"<s>": {{"id": "<s>", "ids": [7], "tokens": ["<s>"]}}}}}}"#
            )
        };
        let (special, text) =
            (r#"{"SpecialToken": {"id": "<s>", "type_id": 0}}"#, r#"{"Sequence": {"id": "A", "type_id": 0}}"#);
        let bytes = r#"{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}"#;
        let before = template(&format!("{special}, {text}"));
        for (post, bos) in [
            (before.clone(), Some(7)),
            (format!(r#"{{"type": "Sequence", "processors": [{bytes}, {before}]}}"#), Some(7)),
            (r#"{"type": "BertProcessing", "sep": ["</s>", 8], "cls": ["<s>", 7]}"#.to_owned(), Some(7)),
            (bytes.to_owned(), None),
            (template(&format!("{text}, {special}")), None),
            ("null".to_owned(), None),
        ] {
            let found =
                changed(dir.path(), "\"post_processor\": null", &format!("\"post_processor\": {post}")).unwrap();
            assert_eq!(found.bos(), bos, "{post}");
            let said = |begin| TextTokenizer::load(texts(dir.path()).begun(Some(begin))).map(|t| t.bos());
            assert_eq!(said(false).unwrap(), None);
            match bos {
                Some(_) => assert_eq!(said(true).unwrap(), bos),
                None => assert!(said(true).unwrap_err().to_string().contains("bos_token_id")),
            }
            let by_config = Texts { bos: Some(9), begin: Some(true), ..texts(dir.path()) };
            assert_eq!(TextTokenizer::load(by_config).unwrap().bos(), bos.or(Some(9)));
            // Only text without BOS needs an end-of-text token.
            let without = TextTokenizer::load(Texts { eos: None, ..texts(dir.path()) });
            match bos {
                Some(_) => assert_eq!(without.unwrap().bos(), bos),
                None => assert!(without.err().unwrap().to_string().contains("eos_token_id")),
            }
        }
    }

    /// What SAELens 6.54's `concat_and_batch_sequences` gives for these documents with 9 as `begin_batch_token_id` and
    /// `sequence_separator_token_id`, contexts of 4.
    #[test]
    fn contexts_begin_as_those_of_saelens() {
        let documents: [&[u32]; 6] = [&[1, 2], &[3, 4, 5, 6, 7], &[9, 8], &[10, 11, 12], &[13], &[14, 15, 16, 17]];
        let expected =
            [[9, 1, 2, 9], [9, 3, 4, 5], [9, 6, 7, 9], [9, 8, 9, 10], [9, 11, 12, 9], [9, 13, 9, 14], [9, 15, 16, 17]];
        // In batches of every size, as documents come.
        for size in 1..=documents.len() {
            let mut at = 0;
            let mut stream = Vec::new();
            for batch in documents.chunks(size) {
                let ids: Vec<u32> = batch
                    .iter()
                    .flat_map(|ids| (ids[0] != 9).then_some(9).into_iter().chain(ids.iter().copied()))
                    .collect();
                stream.extend(begin_contexts(&ids, 4, 9, &mut at));
            }
            assert_eq!((at, stream), (0, expected.concat()));
        }
    }
}
