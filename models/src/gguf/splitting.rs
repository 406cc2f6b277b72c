//! How byte-level BPE splits a text into words before it merges: a name in GGUF files (`tokenizer.ggml.pre`), for which the
//! regular expressions are those of the models' own `tokenizer.json`.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;

use super::Gguf;
use crate::error::Result;

/// The key.
const KEY: &str = "tokenizer.ggml.pre";

/// Contractions, words, up to three digits, signs, line ends, white space; as Llama 3 has it.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The same with each digit by itself; as Qwen2 has it.
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to split.
#[derive(Clone, Copy)]
pub(super) struct Splitting {
    words: Words,
    /// Whether a word that is a token is that token, whatever the merges make of it.
    pub whole_words: bool,
    /// Whether characters are composed (NFC) before.
    pub nfc: bool,
    /// Whether texts begin with BOS where the file does not say.
    pub add_bos: bool,
}

#[derive(Clone, Copy)]
enum Words {
    /// GPT-2's expression, which is part of `ByteLevel`.
    Gpt2,
    /// Each digit by itself, the rest as GPT-2.
    Digits,
    /// An expression.
    Regex(&'static str),
}

const GPT_2: Splitting = Splitting { words: Words::Gpt2, whole_words: false, nfc: false, add_bos: false };

/// Names and what they mean, after `llama_vocab::impl::load` in llama.cpp.
const KNOWN: [(&str, Splitting); 11] = [
    ("gpt-2", GPT_2),
    ("olmo", GPT_2),
    ("smollm", Splitting { words: Words::Digits, ..GPT_2 }),
    ("llama-bpe", Splitting { words: Words::Regex(LLAMA_3), whole_words: true, nfc: false, add_bos: true }),
    ("llama3", Splitting { words: Words::Regex(LLAMA_3), whole_words: true, nfc: false, add_bos: true }),
    ("llama-v3", Splitting { words: Words::Regex(LLAMA_3), whole_words: true, nfc: false, add_bos: true }),
    ("dbrx", Splitting { words: Words::Regex(LLAMA_3), ..GPT_2 }),
    ("smaug-bpe", Splitting { words: Words::Regex(LLAMA_3), ..GPT_2 }),
    ("qwen2", Splitting { words: Words::Regex(QWEN_2), nfc: true, ..GPT_2 }),
    ("deepseek-r1-qwen", Splitting { words: Words::Regex(QWEN_2), nfc: true, ..GPT_2 }),
    ("megrez", Splitting { words: Words::Regex(QWEN_2), nfc: true, ..GPT_2 }),
];

impl Splitting {
    /// What a file asks for.
    ///
    /// # Errors
    /// If the name is not known, or missing where the architecture does not tell.
    pub(super) fn of(file: &Gguf) -> Result<Self> {
        let name = file.text(KEY)?;
        if let Some((_, splitting)) = name.and_then(|name| KNOWN.iter().find(|(known, _)| *known == name)) {
            return Ok(*splitting);
        }
        let known = KNOWN.map(|(name, _)| name).join(", ");
        match name {
            // All models of these architectures split like GPT-2.
            None | Some("default") if matches!(file.text("general.architecture")?, Some("gpt2" | "gptneox")) => Ok(GPT_2),
            None => Err(file.missing(KEY)),
            // The converter writes it where it does not know the tokenizer.
            Some("default") => Err(file.bad(
                KEY,
                "is `default`: the file does not say how text is split into words; take one made by a newer converter, or token files",
            )),
            Some(other) => Err(file.bad(KEY, format!("is `{other}`, which is not known; {known} are"))),
        }
    }

    /// What splits, and then writes bytes as characters.
    pub(super) fn pre_tokenizer(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let bytes = |use_regex| ByteLevel::new(false, true, use_regex);
        Ok(match self.words {
            Words::Gpt2 => bytes(true).into(),
            Words::Digits => Sequence::new(vec![Digits::new(true).into(), bytes(true).into()]).into(),
            Words::Regex(regex) => {
                let pattern = SplitPattern::Regex(regex.to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
                Sequence::new(vec![split.into(), bytes(false).into()]).into()
            }
        })
    }
}
