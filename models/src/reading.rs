//! What is read of a source where its files leave a choice, and what was left out on the way.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a source, or a column of it, holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Rows of token ids.
    Tokens,
    /// Documents.
    Text,
}

impl Contents {
    /// What a column of it is made of.
    pub(crate) fn elements(self) -> &'static str {
        match self {
            Self::Tokens => "lists of integers",
            Self::Text => "strings",
        }
    }
}

/// How a source is read where its files leave a choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Token ids or text; `None`: what is there, and token ids where both are.
    pub wanted: Option<Contents>,
    /// The column, field or tensor, instead of `tokens` or `input_ids` for token ids and `text` for text.
    pub column: Option<String>,
    /// Leave out lines of JSON that can't be read, and count them.
    pub skip_bad_lines: bool,
}

impl Reading {
    /// Token ids from the usual columns.
    pub fn tokens() -> Self {
        Self { wanted: Some(Contents::Tokens), ..Self::default() }
    }

    /// Text from the usual columns.
    pub fn text() -> Self {
        Self { wanted: Some(Contents::Text), ..Self::default() }
    }
}

/// The usual columns, the first before the others.
const COLUMNS: [(&str, Contents); 3] =
    [("tokens", Contents::Tokens), ("input_ids", Contents::Tokens), ("text", Contents::Text)];

/// The columns that say which tokens count, the first before the others.
pub(crate) const MASKS: [&str; 2] = ["attention_mask", "mask"];

/// A column, or a field of a JSON object, as far as its type goes.
pub(crate) struct Field {
    pub name: String,
    /// What it may be read as.
    pub fits: Option<Contents>,
    /// Whether it may say which tokens count.
    pub is_mask: bool,
    /// Its type in words.
    pub kind: String,
}

/// The column to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    pub contents: Contents,
    /// The column beside token ids that says which of them count.
    pub mask: Option<String>,
}

impl Reading {
    /// Chooses among the fields of a source, each of which is called a `what`: by their types, and only then by their names.
    ///
    /// # Errors
    /// If none fits; the text says which there are.
    pub(crate) fn choose(&self, fields: &[Field], what: &str) -> Result<Column, String> {
        let find = |name: &str| fields.iter().find(|field| field.name == name);
        let wanted = |contents: Contents| self.wanted.is_none_or(|wanted| wanted == contents);
        let found = match &self.column {
            Some(name) => {
                let field = find(name).ok_or_else(|| format!("no {what} `{name}`; {}", listed(fields, what)))?;
                field.fits.filter(|&contents| wanted(contents)).map(|contents| (field, contents))
            }
            None => COLUMNS
                .into_iter()
                .filter(|&(_, contents)| wanted(contents))
                .find_map(|(name, contents)| Some((find(name).filter(|f| f.fits == Some(contents))?, contents))),
        };
        let Some((field, contents)) = found else { return Err(self.misfit(fields, what)) };
        let mask = if contents == Contents::Tokens { mask(fields, what)? } else { None };
        Ok(Column { name: field.name.clone(), contents, mask })
    }

    /// Why no field is read.
    fn misfit(&self, fields: &[Field], what: &str) -> String {
        let elements = |name: &str| match self.wanted {
            Some(contents) => contents.elements(),
            None if self.column.is_some() => "lists of integers or strings",
            None => COLUMNS.into_iter().find(|(known, _)| *known == name).map_or("", |(_, c)| c.elements()),
        };
        let wanted = |contents| self.wanted.is_none_or(|wanted| wanted == contents);
        let usual = COLUMNS.into_iter().filter(|&(_, contents)| wanted(contents)).map(|(name, _)| name);
        let names: Vec<&str> = self.column.as_deref().map_or_else(|| usual.collect(), |name| vec![name]);
        let there = fields.iter().find(|field| names.contains(&field.name.as_str()));
        let why = match there {
            Some(field) => format!("{what} `{}` is {}, not {}", field.name, field.kind, elements(&field.name)),
            None => {
                let usual = match self.wanted {
                    None => "`tokens` or `input_ids` (lists of token ids) or `text` (strings)",
                    Some(Contents::Tokens) => "`tokens` or `input_ids` (lists of token ids)",
                    Some(Contents::Text) => "`text` (strings)",
                };
                format!("no {what} {usual}")
            }
        };
        let other = match self.wanted {
            Some(Contents::Tokens) if fields.iter().any(|f| f.fits == Some(Contents::Text)) => {
                "; to have text tokenised give it as text (`--text`)"
            }
            Some(Contents::Text) if fields.iter().any(|f| f.fits == Some(Contents::Tokens)) => {
                "; token ids are read as tokens (`--tokens`)"
            }
            _ => "",
        };
        format!("{why}; {}{other}", listed(fields, what))
    }
}

/// The fields that there are, and how to choose one.
fn listed(fields: &[Field], what: &str) -> String {
    const SHOWN: usize = 16;
    let shown = fields.iter().take(SHOWN).map(|field| format!("`{}` ({})", field.name, field.kind));
    let mut names = shown.collect::<Vec<_>>().join(", ");
    match fields.len() {
        0 => names.push_str("none"),
        all if all > SHOWN => names += &format!(" and {} more", all - SHOWN),
        _ => {}
    }
    format!(
        "its {what}s are {names}; to read another {what}: `--column NAME`, in a sweep `tokens.column` or `tokens.eval_column`"
    )
}

/// Names under which other tools say which tokens count, without case and underscores.
const OTHER_MASKS: [&str; 5] = ["attentionmask", "attnmask", "paddingmask", "padmask", "tokenmask"];

fn mask(fields: &[Field], what: &str) -> Result<Option<String>, String> {
    let plain = |name: &str| name.to_lowercase().replace('_', "");
    let other =
        |field: &&Field| OTHER_MASKS.contains(&plain(&field.name).as_str()) && !MASKS.contains(&field.name.as_str());
    // Which of 0 and 1 is padding differs from tool to tool, so it is not guessed.
    if let Some(field) = fields.iter().find(other) {
        return Err(format!(
            "{what} `{}` may say which tokens count, but only `attention_mask` and `mask` are read (1: a token, 0: padding); rename it to one \
             of them, or remove it if all count",
            field.name
        ));
    }
    for name in MASKS {
        match fields.iter().find(|field| field.name == name) {
            Some(field) if field.is_mask => return Ok(Some(name.to_owned())),
            // Another use of a common word.
            Some(_) if name == "mask" => {}
            Some(field) => {
                return Err(format!(
                    "{what} `{name}` says which tokens count, but is {}, not lists of 0 and 1 as long as the tokens; remove it if all count",
                    field.kind
                ));
            }
            None => {}
        }
    }
    Ok(None)
}

/// Counts of what was left out of a source, shared by all who read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeftOut(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// Names of files, and why.
    files: Vec<(String, &'static str)>,
    bad_lines: u64,
    /// What is wrong with the first of them, and where it is.
    first_bad: String,
    short_rows: u64,
}

impl LeftOut {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file that is no data, or was read before.
    pub(crate) fn file(&self, path: &Path, why: &'static str) {
        self.counts().files.push((path.display().to_string(), why));
    }

    /// A line that can't be read.
    pub(crate) fn bad_line(&self, why: impl std::fmt::Display) {
        let mut counts = self.counts();
        if counts.bad_lines == 0 {
            counts.first_bad = why.to_string();
        }
        counts.bad_lines += 1;
    }

    /// A row with too few tokens beside its padding.
    pub(crate) fn short_row(&self) {
        self.counts().short_rows += 1;
    }

    /// What was left out so far, for people to read.
    pub(crate) fn notes(&self) -> Vec<String> {
        const SHOWN: usize = 3;
        let counts = self.counts();
        let mut notes = Vec::new();
        let mut reasons: Vec<&str> = counts.files.iter().map(|(_, why)| *why).collect();
        reasons.sort_unstable();
        reasons.dedup();
        for reason in reasons {
            let files: Vec<&str> =
                counts.files.iter().filter(|(_, why)| *why == reason).map(|(path, _)| path.as_str()).collect();
            let more = if files.len() > SHOWN { ", …" } else { "" };
            let shown = files[..files.len().min(SHOWN)].join(", ");
            let entries = counted(files.len() as u64, "entry", "entries");
            notes.push(format!("{entries} left out, {reason}: {shown}{more}"));
        }
        if counts.bad_lines > 0 {
            notes.push(format!(
                "{} left out, the first: {}",
                counted(counts.bad_lines, "bad line", "bad lines"),
                counts.first_bad
            ));
        }
        if counts.short_rows > 0 {
            let rows = counted(counts.short_rows, "row", "rows");
            notes.push(format!("{rows} left out, with fewer tokens than a context without their padding"));
        }
        notes
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(of: &[(&str, Option<Contents>)]) -> Vec<Field> {
        let field = |&(name, fits): &(&str, Option<Contents>)| {
            let is_mask = fits == Some(Contents::Tokens);
            Field { name: name.to_owned(), fits, is_mask, kind: "strange".to_owned() }
        };
        of.iter().map(field).collect()
    }

    #[test]
    fn types_decide_before_names() {
        const TOKENS: Option<Contents> = Some(Contents::Tokens);
        const TEXT: Option<Contents> = Some(Contents::Text);
        let choose = |reading: &Reading, of: &[(&str, Option<Contents>)]| {
            reading.choose(&fields(of), "column").map(|column| (column.name, column.contents, column.mask))
        };
        let found = |name: &str, contents, mask: Option<&str>| Ok((name.to_owned(), contents, mask.map(str::to_owned)));
        let any = Reading::default();
        let named = |name: &str, reading: Reading| Reading { column: Some(name.to_owned()), ..reading };
        for (reading, of, expected) in [
            (any.clone(), vec![("tokens", None), ("text", TEXT)], found("text", Contents::Text, None)),
            (any.clone(), vec![("tokens", TEXT), ("text", TEXT)], found("text", Contents::Text, None)),
            (any.clone(), vec![("text", TEXT), ("input_ids", TOKENS)], found("input_ids", Contents::Tokens, None)),
            (Reading::text(), vec![("tokens", TOKENS), ("text", TEXT)], found("text", Contents::Text, None)),
            (
                Reading::tokens(),
                vec![("text", TEXT), ("tokens", TOKENS), ("attention_mask", TOKENS)],
                found("tokens", Contents::Tokens, Some("attention_mask")),
            ),
            (
                named("ids", any.clone()),
                vec![("ids", TOKENS), ("mask", TOKENS)],
                found("ids", Contents::Tokens, Some("mask")),
            ),
            (named("body", Reading::text()), vec![("text", TEXT), ("body", TEXT)], found("body", Contents::Text, None)),
        ] {
            assert_eq!(choose(&reading, &of), expected, "{reading:?}");
        }
        for (reading, of, parts) in [
            (any.clone(), vec![("content", TEXT)], vec!["`tokens` or `input_ids`", "`content` (strange)", "--column"]),
            (any.clone(), vec![("text", None)], vec!["column `text` is strange, not strings"]),
            (Reading::tokens(), vec![("text", TEXT)], vec!["no column `tokens`", "`--text`"]),
            (Reading::text(), vec![("tokens", TOKENS)], vec!["no column `text`", "`--tokens`"]),
            (named("a", any.clone()), vec![("b", TEXT)], vec!["no column `a`", "`b`"]),
            (named("a", Reading::text()), vec![("a", TOKENS)], vec!["`a` is strange, not strings", "`--tokens`"]),
            (named("a", any), vec![("a", None)], vec!["not lists of integers or strings"]),
            (
                Reading::tokens(),
                vec![("tokens", TOKENS), ("attention_mask", TEXT)],
                vec!["`attention_mask`", "which tokens count"],
            ),
        ] {
            let message = choose(&reading, &of).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "`{part}` is not in: {message}");
            }
        }
    }
}
