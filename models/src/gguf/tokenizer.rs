//! The tokenizer that a GGUF file describes, for the `tokenizers` crate.
//!
//! Two kinds are read: byte-level BPE with merges (`tokenizer.ggml.model` = `gpt2`), and SentencePiece's BPE with scores
//! (`llama`). What the file leaves out is as in llama.cpp (`llama_vocab::impl::load`).

use std::collections::HashMap;

use serde_json::json;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer};

use super::splitting::Splitting;
use super::{Gguf, scores};
use crate::error::{ModelError, Result};

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// A tokenizer, and the tokens at the ends of a text.
pub struct FileTokenizer {
    /// With special tokens asked for, it puts `bos` first if `add_bos`, and nothing else anywhere.
    pub tokenizer: Tokenizer,
    /// The token at the beginning of a text.
    pub bos: Option<u32>,
    /// The token at its end.
    pub eos: Option<u32>,
    /// Whether the model was trained on texts that begin with `bos`.
    pub add_bos: bool,
}

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Text, or a part of it.
    Normal,
    /// Text that is a token before anything else is done.
    UserDefined,
    /// No text, but how a beginning or an end is written.
    Control,
    /// Stands for a byte, for what is unknown, or for nothing.
    Other,
}

/// The tokens of a file.
pub(super) struct Tokens<'a> {
    pub texts: Vec<&'a str>,
    pub roles: Vec<Role>,
}

/// Rebuilds the tokenizer of a file.
///
/// # Errors
/// If the file has none, or one of another kind, if it splits text in a way that is not known, or contradicts itself.
pub fn tokenizer(file: &Gguf) -> Result<FileTokenizer> {
    let kind = file.text("tokenizer.ggml.model")?.ok_or_else(|| file.missing("tokenizer.ggml.model"))?;
    let tokens = Tokens::read(file)?;
    let refused = |e: tokenizers::Error| ModelError::data(file.path(), format!("the tokenizer in the file: {e}"));
    let (mut tokenizer, add_bos) = match kind {
        "gpt2" => byte_level(file, &tokens)?,
        "llama" => sentence_piece(file, &tokens)?,
        other => {
            let why = format!("is `{other}`; `gpt2` (byte-level BPE) and `llama` (SentencePiece BPE) are read");
            return Err(file.bad("tokenizer.ggml.model", why));
        }
    };
    let added = |role: Role, special| {
        let of_role = tokens.texts.iter().zip(&tokens.roles).filter(move |(_, r)| **r == role);
        of_role.map(move |(text, _)| AddedToken::from(*text, special).normalized(false)).collect::<Vec<_>>()
    };
    tokenizer.add_special_tokens(&added(Role::Control, true));
    tokenizer.add_tokens(&added(Role::UserDefined, false));

    let defaults = if kind == "llama" { [Some(1), Some(2)] } else { [None, None] };
    let bos = tokens.special(file, "tokenizer.ggml.bos_token_id", defaults[0])?;
    let eos = tokens.special(file, "tokenizer.ggml.eos_token_id", defaults[1])?;
    let add_bos = file.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos);
    if add_bos {
        let bos = bos.ok_or_else(|| file.missing("tokenizer.ggml.bos_token_id"))?;
        tokenizer
            .with_post_processor(Some(begin_with(tokens.texts[bos as usize], bos).map_err(|e| refused(e.into()))?));
    }
    Ok(FileTokenizer { tokenizer, bos, eos, add_bos })
}

impl<'a> Tokens<'a> {
    fn read(file: &'a Gguf) -> Result<Self> {
        const KEY: &str = "tokenizer.ggml.tokens";
        let texts = file.texts(KEY)?.ok_or_else(|| file.missing(KEY))?;
        let mut ids = HashMap::new();
        for (id, text) in texts.iter().enumerate() {
            if let Some(other) = ids.insert(*text, id) {
                return Err(file.bad(KEY, format!("has `{text}` twice, as {other} and as {id}")));
            }
        }
        // Normal where nothing is said.
        let roles = file.integers("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![1; texts.len()]);
        if roles.len() != texts.len() {
            let why = format!("has {} entries for {} tokens", roles.len(), texts.len());
            return Err(file.bad("tokenizer.ggml.token_type", why));
        }
        let role = |number| match number {
            1 => Role::Normal,
            3 => Role::Control,
            4 => Role::UserDefined,
            _ => Role::Other,
        };
        Ok(Self { texts, roles: roles.into_iter().map(role).collect() })
    }

    /// The id under a key, or a default if there is such a token.
    fn special(&self, file: &Gguf, key: &str, default: Option<u32>) -> Result<Option<u32>> {
        let inside = |id: &usize| *id < self.texts.len();
        match file.size(key)? {
            Some(id) if inside(&id) => Ok(u32::try_from(id).ok()),
            Some(id) => Err(file.bad(key, format!("is {id}, but there are {} tokens", self.texts.len()))),
            None => Ok(default.filter(|&id| inside(&(id as usize)))),
        }
    }

    fn vocabulary(&self) -> Vocab {
        (0..).zip(&self.texts).map(|(id, text)| ((*text).to_owned(), id)).collect()
    }
}

/// Byte-level BPE, as GPT-2 and many after it have it; and whether it begins with BOS by default.
fn byte_level(file: &Gguf, tokens: &Tokens<'_>) -> Result<(Tokenizer, bool)> {
    const KEY: &str = "tokenizer.ggml.merges";
    let splitting = Splitting::of(file)?;
    let mut merges = Merges::new();
    for merge in file.texts(KEY)?.ok_or_else(|| file.missing(KEY))? {
        // The first of the two may be a space itself, in vocabularies that aren't of bytes.
        let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let Some(space) = space else { return Err(file.bad(KEY, format!("has `{merge}`, which is not two tokens"))) };
        merges.push((merge[..space].to_owned(), merge[space + 1..].to_owned()));
    }
    let bpe = BPE::builder().vocab_and_merges(tokens.vocabulary(), merges).ignore_merges(splitting.whole_words);
    let bpe = bpe.build().map_err(|e| file.bad(KEY, format!("do not fit the tokens: {e}")))?;
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer
        .with_normalizer(splitting.nfc.then_some(NFC))
        .with_pre_tokenizer(Some(splitting.pre_tokenizer().map_err(|e| ModelError::data(file.path(), e.to_string()))?))
        .with_decoder(Some(ByteLevel::default()));
    Ok((tokenizer, splitting.add_bos))
}

/// SentencePiece's BPE.
fn sentence_piece(file: &Gguf, tokens: &Tokens<'_>) -> Result<(Tokenizer, bool)> {
    for key in ["tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap"] {
        // Texts would be changed before they are tokenised.
        if file.metadata.contains_key(key) && file.flag(key).ok().flatten() != Some(false) {
            return Err(file.bad(key, "asks for a normalisation of text that is not implemented"));
        }
    }
    let bpe = BPE::builder().vocab_and_merges(tokens.vocabulary(), scores::merges(file, tokens)?);
    let bpe = match tokens.special(file, "tokenizer.ggml.unknown_token_id", Some(0))? {
        Some(id) => bpe.unk_token(tokens.texts[id as usize].to_owned()),
        None => bpe,
    };
    let bpe = bpe.fuse_unk(true).byte_fallback(true).build();
    let refused = |e: tokenizers::Error| ModelError::data(file.path(), format!("the tokenizer in the file: {e}"));
    let mut tokenizer = Tokenizer::new(bpe.map_err(refused)?);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.push(Prepend::new(SPACE.to_owned()).into());
    }
    normalizers.push(Replace::new(" ", SPACE).map_err(refused)?.into());
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)));
    // The space that was put before a text is not taken away again: what a token stands for has it.
    let space = Replace::new(SPACE, " ").map_err(refused)?;
    tokenizer.with_decoder(Some(Decoders::new(vec![space.into(), ByteFallback::new().into(), Fuse::new().into()])));
    Ok((tokenizer, true))
}

/// What puts a token before a text. In JSON, since the crate's own syntax has no place for names with spaces and colons.
fn begin_with(text: &str, id: u32) -> serde_json::Result<PostProcessorWrapper> {
    let bos = json!({"SpecialToken": {"id": text, "type_id": 0}});
    serde_json::from_value(json!({
        "type": "TemplateProcessing",
        "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {text: {"id": text, "ids": [id], "tokens": [text]}},
    }))
}
