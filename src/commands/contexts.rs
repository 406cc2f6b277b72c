//! The sequences that a command measures on: from a file of tokens, or from text.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use assay_models::tokens::{Reading, RowUse, Texts, TokenSource, read_sequences};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, DecoderConfig, ModelError};
use ndarray::Array2;

use super::sweep::quoted;
use crate::belonging::missing_bos;
use crate::fetch;
use crate::progress::Progress;
use crate::spelling::missing;

/// The help of `--sequences` in commands that read sequences part by part ([`ContextArgs::open`]).
pub(super) const ALL_SEQUENCES: &str = "Use the first N sequences, or `all` [default: all]";
/// The help of `--context-size` in commands that know how an SAE was trained.
pub(super) const CONTEXT_OF_SAE: &str = "Use the first N tokens of each sequence [default: all, of text 128, but no more than the \
                                         SAE's files say it was trained on]";

/// Where sequences come from, how many of them are used, and how many at once.
#[derive(clap::Args, Debug)]
pub struct ContextArgs {
    #[command(flatten)]
    source: Source,
    /// Column, field or tensor of the token ids or of the text, if not `tokens`, `input_ids` or `text`
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Leave out lines of JSON that can't be read, and count them
    #[arg(long)]
    skip_bad_lines: bool,
    /// Begin each sequence of --text with BOS, which then stands between documents too [default: if the model's tokenizer begins texts
    /// with one]
    #[arg(long, value_enum, value_name = "yes|no", requires = "text", hide_possible_values = true)]
    bos: Option<YesNo>,
    /// Use the first N sequences, or `all` [default: 64, or all if there are fewer]
    #[arg(long, value_name = "N|all")]
    sequences: Option<Sequences>,
    /// Use the first N tokens of each sequence [default: all, of text 128]
    #[arg(long, value_name = "N", value_parser = whole(2, u64::MAX, "a sequence needs two tokens, one to predict the other"))]
    context_size: Option<u64>,
    /// Sequences per forward pass [default: as many as have 1024 tokens together, fewer for vocabularies above 65,536, and at most 8]
    #[arg(long, value_name = "N", value_parser = whole(1, u64::MAX, "a pass needs a sequence"))]
    batch: Option<u64>,
}

/// One of the two.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Source {
    /// Token ids: safetensors, Parquet or JSON lines with a tensor, column or field `tokens` or `input_ids`, one sequence per row
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Text instead of token ids: plain, JSON or Parquet, cut into sequences by the model's tokenizer
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum YesNo {
    Yes,
    No,
}

/// How many sequences are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequences {
    All,
    First(usize),
}

impl FromStr for Sequences {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => match number.parse::<usize>() {
                Ok(count) if count > 0 => Ok(Self::First(count)),
                _ => Err("give a whole number from 1 up, or `all`".to_owned()),
            },
        }
    }
}

/// Twice the 32 that a verdict needs, so that most verdicts are decided.
const DEFAULT_SEQUENCES: usize = 64;
const TEXT_CONTEXT: usize = 128;
/// Tokens of a forward pass, by default: with more, the logits of a pass no longer fit into a processor's cache. Fewer where the vocabulary
/// is larger than this one: logits, and all that is as large, are most of an evaluation's memory.
const TOKENS_PER_PASS: usize = 1024;
const VOCABULARY: usize = 65_536;
const MAX_BATCH: usize = 8;

/// A parser of whole numbers in a range. `why` says what is wrong with those below it.
pub(super) fn whole(low: u64, high: u64, why: &'static str) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| match text.replace('_', "").parse::<u64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        Ok(number) if number < low => Err(format!("{why}; give {low} or more")),
        Ok(_) => Err(format!("give {high} or less")),
        Err(_) => Err(format!("give a whole number from {low} up")),
    }
}

/// The sequences that are measured on.
pub struct Contexts {
    /// `[S, T]`.
    pub tokens: Array2<u32>,
    /// The token that was put at the start of each, if they were made from text and the model wants one.
    pub bos: Option<u32>,
}

impl ContextArgs {
    /// The file of tokens or text.
    pub fn path(&self) -> &Path {
        self.source.tokens.as_deref().or(self.source.text.as_deref()).unwrap_or_else(|| Path::new(""))
    }

    /// What another command is given to read the same, as on a command line.
    pub fn as_arguments(&self) -> String {
        let source = if self.is_text() { "--text" } else { "--tokens" };
        let path = self.path().to_string_lossy();
        let bos = self.bos.map(|bos| if bos == YesNo::Yes { "yes" } else { "no" }.to_owned());
        let sequences = self.sequences.map(|sequences| match sequences {
            Sequences::All => "all".to_owned(),
            Sequences::First(count) => count.to_string(),
        });
        let given = [
            (source, Some(path.into_owned())),
            ("--column", self.column.clone()),
            ("--bos", bos),
            ("--sequences", sequences),
            ("--context-size", self.context_size.map(|size| size.to_string())),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", quoted(&value?))));
        let bad_lines = self.skip_bad_lines.then(|| "--skip-bad-lines".to_owned());
        given.chain(bad_lines).collect::<Vec<_>>().join(" ")
    }

    /// Whether they are cut from text.
    pub fn is_text(&self) -> bool {
        self.source.text.is_some()
    }

    /// Sequences of one forward pass over sequences of `context_size` tokens of a vocabulary.
    pub fn batch(&self, context_size: usize, vocab_size: usize) -> usize {
        let tokens = TOKENS_PER_PASS * VOCABULARY / vocab_size.max(VOCABULARY);
        let by_context = (tokens / context_size.max(1)).clamp(1, MAX_BATCH);
        self.batch.map_or(by_context, |batch| usize::try_from(batch).unwrap_or(usize::MAX))
    }

    /// The same, to be read part by part: memory does not grow with the sequences. Their number is that which is asked for, or all.
    /// `checkpoint` is where the model of this configuration is, whose tokenizer cuts text; `trained` the tokens of a context that an SAE was
    /// trained on, which they don't exceed by themselves.
    ///
    /// # Errors
    /// If the file can't be read, or holds fewer sequences than are asked for.
    pub fn open(
        &self,
        config: &DecoderConfig,
        checkpoint: &Path,
        trained: Option<usize>,
    ) -> Result<(TokenSource, usize)> {
        self.check_path()?;
        let source = match &self.source.text {
            Some(path) => self.open_text(path, Texts::of(checkpoint, config).begun(self.begin()), trained)?,
            None => {
                let context_size = self.context_size().map_or_else(|| self.row(trained), Ok)?;
                TokenSource::open_as(self.path(), context_size, RowUse::First, None, &self.reading(Reading::tokens()))?
            }
        };
        let count = match self.sequences {
            Some(Sequences::First(count)) => count,
            Some(Sequences::All) | None => source.contexts()?,
        };
        let path = self.path().display();
        match source.check_range(0, count) {
            Err(ModelError::TooFewTokens { available, .. }) => bail!(
                "{path} contains {available} sequences of {} tokens; {count} are asked for (--sequences)",
                source.context_size()
            ),
            checked => checked?,
        }
        ensure!(
            count > 0,
            "{path} contains less than one sequence of {} tokens; lower --context-size",
            source.context_size()
        );
        Ok((source, count))
    }

    /// The sequences. `checkpoint` is where the model is, whose tokenizer cuts text, `trained` as in [`Self::open`]; what is left out is said.
    ///
    /// # Errors
    /// If the file can't be read, or holds fewer or shorter sequences than were asked for.
    pub fn read(
        &self,
        model: &Decoder,
        checkpoint: &Path,
        trained: Option<usize>,
        progress: Progress,
    ) -> Result<Contexts> {
        self.check_path()?;
        let (contexts, notes) = match &self.source.text {
            Some(path) => {
                self.text_contexts(path, Texts::of(checkpoint, model.config()).begun(self.begin()), trained)?
            }
            None => {
                let (tokens, mut notes) = self.token_file(self.path(), trained)?;
                let vocabulary = Vocabulary::load(checkpoint).ok();
                notes.extend(vocabulary.and_then(|vocabulary| missing_bos(&vocabulary, tokens.view())));
                (Contexts { tokens, bos: None }, notes)
            }
        };
        notes.iter().for_each(|note| progress.say(note));
        Ok(contexts)
    }

    fn reading(&self, usual: Reading) -> Reading {
        Reading { column: self.column.clone(), skip_bad_lines: self.skip_bad_lines, ..usual }
    }

    fn context_size(&self) -> Option<usize> {
        self.context_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Tokens that are taken of a row of token ids where nothing else is asked for.
    fn row(&self, trained: Option<usize>) -> Result<usize> {
        let (first, _) = read_sequences(self.path(), &self.reading(Reading::tokens()), Some(1), None)?;
        Ok(first.ncols().min(trained.unwrap_or(usize::MAX)))
    }

    /// Checks that there is something at the path, or that it is a pattern.
    fn check_path(&self) -> Result<()> {
        ensure!(self.path().exists() || fetch::is_pattern(self.path()), missing(self.path()));
        Ok(())
    }

    fn begin(&self) -> Option<bool> {
        self.bos.map(|bos| bos == YesNo::Yes)
    }

    fn open_text(&self, path: &Path, texts: Texts<'_>, trained: Option<usize>) -> Result<TokenSource> {
        let context_size = self.context_size().unwrap_or_else(|| TEXT_CONTEXT.min(trained.unwrap_or(usize::MAX)));
        let reading = self.reading(Reading::text());
        Ok(TokenSource::open_as(path, context_size, RowUse::Split, Some(texts), &reading)?)
    }

    /// The first contexts of a text.
    fn text_contexts(&self, path: &Path, texts: Texts<'_>, trained: Option<usize>) -> Result<(Contexts, Vec<String>)> {
        let source = self.open_text(path, texts, trained)?;
        let context_size = source.context_size();
        let wanted = match self.sequences {
            Some(Sequences::First(count)) => count,
            Some(Sequences::All) => source.contexts()?,
            None => DEFAULT_SEQUENCES,
        };
        let is_exact = matches!(self.sequences, Some(Sequences::First(_)));
        let tokens = match source.read(0, wanted) {
            // A short text is read whole; a long one only as far as it is needed.
            Err(ModelError::TooFewTokens { available, .. }) if available > 0 && !is_exact => {
                source.read(0, available)?
            }
            Err(ModelError::TooFewTokens { available: 0, .. }) => bail!(
                "{} contains less than one sequence of {context_size} tokens; lower --context-size",
                path.display()
            ),
            tokens => tokens?,
        };
        Ok((Contexts { tokens, bos: source.bos() }, source.notes()))
    }

    fn token_file(&self, path: &Path, trained: Option<usize>) -> Result<(Array2<u32>, Vec<String>)> {
        let most = match self.sequences {
            Some(Sequences::First(count)) => Some(count),
            Some(Sequences::All) => None,
            None => Some(DEFAULT_SEQUENCES),
        };
        // Rows are read as they are where nobody says otherwise: their lengths must agree, or a cut say where.
        let context_size = match (self.context_size(), trained) {
            (None, Some(_)) => Some(self.row(trained)?),
            (given, _) => given,
        };
        let (tokens, notes) = read_sequences(path, &self.reading(Reading::tokens()), most, context_size)?;
        if let Some(Sequences::First(count)) = self.sequences {
            ensure!(
                count == tokens.nrows(),
                "{} contains {} sequences of {} tokens; {count} are asked for (--sequences)",
                path.display(),
                tokens.nrows(),
                tokens.ncols()
            );
        }
        Ok((tokens, notes))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        contexts: ContextArgs,
    }

    fn parse(args: &[&str]) -> Result<ContextArgs, String> {
        let line = Line::try_parse_from(std::iter::once("x").chain(args.iter().copied()));
        line.map(|line| line.contexts).map_err(|error| error.to_string())
    }

    #[test]
    fn one_source_is_asked_for_by_both_names() {
        let missing = parse(&[]).unwrap_err();
        assert!(missing.contains("--tokens <FILE>") && missing.contains("--text <FILE>"), "{missing}");
        assert!(parse(&["--tokens", "a", "--text", "b"]).unwrap_err().contains("cannot be used with"));
        assert_eq!(parse(&["--text", "b"]).unwrap().path(), Path::new("b"));
    }

    #[test]
    fn settings_that_measure_nothing_are_refused_with_key_and_remedy() {
        for (args, parts) in [
            (["--sequences", "0"], ["--sequences", "`all`"]),
            (["--sequences", "1.5"], ["--sequences", "`all`"]),
            (["--sequences", "many"], ["--sequences", "`all`"]),
            (["--context-size", "0"], ["--context-size", "give 2 or more"]),
            (["--context-size", "1"], ["--context-size", "give 2 or more"]),
            (["--context-size", "x"], ["--context-size", "from 2 up"]),
            (["--batch", "0"], ["--batch", "give 1 or more"]),
            (["--batch", "99999999999999999999"], ["--batch", "whole number"]),
        ] {
            let args = [&["--tokens", "t"][..], &args].concat();
            let error = parse(&args).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
        }
        assert_eq!(parse(&["--text", "t", "--sequences", "all"]).unwrap().sequences, Some(Sequences::All));
    }

    #[test]
    fn long_sequences_go_through_the_model_in_smaller_batches() {
        let default = parse(&["--tokens", "t"]).unwrap();
        let batches = [2, 32, 128, 129, 256, 1024, 2048].map(|context| default.batch(context, 50_304));
        assert_eq!(batches, [8, 8, 8, 7, 4, 1, 1]);
        assert_eq!([2, 32, 128, 256, 257].map(|context| default.batch(context, 262_144)), [8, 8, 2, 1, 1]);
        assert_eq!(parse(&["--tokens", "t", "--batch", "3"]).unwrap().batch(1024, 50_304), 3);
    }
}
