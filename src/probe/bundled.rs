//! Labelled texts made from the bundled text's own structure, under the licences of `models/bundled/README.md`.
//!
//! They are small, and some are easy on purpose: a bag of words tells sources apart too, which is what its row is for. Texts are passages
//! of at most [`LENGTH`] characters. Where the label is about the last word, the passage ends with it, so that a probe of the last token
//! sees it and one of the mean hardly does.

mod passages;

use anyhow::{Context, Result, ensure};

use super::labelled::Labelled;
use passages::{Quotes, Word, begin, code, words};

/// Documents, one JSON object per line.
const TEXTS: [&[u8]; 2] = [
    include_bytes!("../../models/bundled/train-text.jsonl.zst"),
    include_bytes!("../../models/bundled/eval-text.jsonl.zst"),
];
/// The source of each, as `models/bundled/make_tokens.py` guesses it.
const SOURCES: &str = include_str!("../../models/bundled/sources.txt");

/// Characters of a passage, at most.
const LENGTH: usize = 240;
/// Sources of fewer documents are no class.
const FEWEST: usize = 40;
/// Names of the sets.
const NAMES: [&str; 6] = ["source", "code", "digit", "capital", "quote", "position"];

type Example = (String, String, Option<String>);

/// All sets, or those whose names are given: of which source a text is (`source`), in which language code is (`code`), whether the last word
/// has a digit (`digit`) or begins with a capital (`capital`), whether the passage ends within quotation marks (`quote`), and whether it is
/// the beginning of its document or from its middle (`position`).
///
/// # Errors
/// If there is no set of that name.
pub fn bundled(names: &[String]) -> Result<Vec<Labelled>> {
    let unknown = names.iter().find(|name| !NAMES.contains(&name.as_str()));
    ensure!(
        unknown.is_none(),
        "there is no bundled set {}; there are {}",
        unknown.map_or("", String::as_str),
        NAMES.join(", ")
    );
    let mut documents = Vec::new();
    for bytes in TEXTS {
        let text = zstd::decode_all(bytes).context("the bundled text")?;
        for line in String::from_utf8(text).context("the bundled text")?.lines() {
            let object: serde_json::Value = serde_json::from_str(line).context("the bundled text")?;
            documents.push(object["text"].as_str().unwrap_or_default().to_owned());
        }
    }
    let sources: Vec<&str> = SOURCES.lines().collect();
    ensure!(sources.len() == documents.len(), "a source for each bundled document");
    let of_name = |name: &&&str| names.is_empty() || names.iter().any(|wanted| wanted == **name);
    NAMES.iter().filter(of_name).map(|name| Labelled::new(name, examples(name, &documents, &sources))).collect()
}

fn examples(name: &str, documents: &[String], sources: &[&str]) -> Vec<Example> {
    let is_class = |source: &str| sources.iter().filter(|other| **other == source).count() >= FEWEST;
    let mut examples = Vec::new();
    for (at, (document, &source)) in documents.iter().zip(sources).enumerate() {
        let mut add =
            |text: &str, label: &str| examples.push((text.to_owned(), label.to_owned(), Some(at.to_string())));
        match name {
            "source" if is_class(source) => add(begin(document, LENGTH), source),
            "code" => {
                if let Some((block, language)) = code(document, source, LENGTH) {
                    add(block, language);
                }
            }
            "digit" => {
                both(document, at, &mut add, ["yes", "no"], |word| word.text.chars().any(|c| c.is_ascii_digit()));
            }
            "capital" => {
                both(document, at, &mut add, ["yes", "no"], |word| {
                    word.text.starts_with(|c: char| c.is_ascii_uppercase())
                });
            }
            "quote" => {
                let quotes = Quotes::of(document);
                if !quotes.is_empty() {
                    both(document, at, &mut add, ["inside", "outside"], |word| quotes.hold(word.end));
                }
            }
            "position" => {
                let begins = begin(document, LENGTH);
                let middle = words(document).find(|word| word.start >= document.len() / 2);
                if let Some(middle) = middle.filter(|middle| middle.start > begins.len()) {
                    add(begins, "beginning");
                    add(begin(&document[middle.start..], LENGTH), "middle");
                }
            }
            _ => {}
        }
    }
    examples
}

/// Adds two passages of a document, one that ends with a word that has a property and one with a word that has not: one behind [`LENGTH`]
/// characters, the other not before twice as many. Which is first alternates from document to document, so that the place in a document
/// does not tell the label.
fn both(
    document: &str,
    at: usize,
    add: &mut impl FnMut(&str, &str),
    labels: [&str; 2],
    has: impl Fn(&Word<'_>) -> bool,
) {
    let froms = if at.is_multiple_of(2) { [LENGTH, 2 * LENGTH] } else { [2 * LENGTH, LENGTH] };
    for (label, wanted, from) in [(labels[0], true, froms[0]), (labels[1], false, froms[1])] {
        // A word of letters or digits: neither an operator nor a ruled line.
        let of_letters = |word: &Word<'_>| word.text.chars().all(char::is_alphanumeric);
        if let Some(word) = words(document).find(|word| word.start >= from && of_letters(word) && has(word) == wanted) {
            add(passages::ending(document, word.end, LENGTH), label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_texts_of_every_class_and_ends_where_its_label_says() {
        let sets = bundled(&[]).unwrap();
        assert_eq!(sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(), NAMES);
        for set in &sets {
            for class in 0..set.classes.len() {
                assert!(set.rows_of(class) >= FEWEST, "{}: {} {}", set.name, set.classes[class], set.rows_of(class));
            }
            let short = |text: &String| !text.is_empty() && text.chars().count() <= LENGTH;
            assert!(set.texts.iter().all(short), "{}", set.name);
        }
        let digit = &sets[2];
        for (text, &label) in digit.texts.iter().zip(&digit.labels) {
            let last = text.split_whitespace().next_back().unwrap();
            assert_eq!(last.chars().any(|c| c.is_ascii_digit()), digit.classes[label] == "yes", "{text}");
        }
        assert_eq!(sets[0].classes.len(), 9);
        assert_eq!(sets[1].classes, ["Python", "Rust", "SQL"]);
        let error = bundled(&["sauce".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("sauce") && error.contains("source"), "{error}");
    }
}
