//! Passages of a document: words, beginnings, code, and what stands within quotation marks.

/// A word, between blanks, without what follows it of punctuation.
pub(super) struct Word<'a> {
    pub text: &'a str,
    /// Where it begins and ends, in bytes.
    pub start: usize,
    pub end: usize,
}

/// The words of a text.
pub(super) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    text.split_whitespace().filter_map(move |part| {
        // The part is a slice of the text.
        let start = part.as_ptr() as usize - text.as_ptr() as usize;
        let word = part.trim_matches(|c: char| !c.is_alphanumeric());
        let start = start + part.find(word).unwrap_or_default();
        (!word.is_empty()).then_some(Word { text: word, start, end: start + word.len() })
    })
}

/// The first characters of a text.
pub(super) fn begin(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    text[..end].trim_end()
}

/// The characters before a place in a text, in bytes, from the beginning of a word.
pub(super) fn ending(text: &str, end: usize, characters: usize) -> &str {
    let before = &text[..end];
    let start = before.char_indices().rev().nth(characters - 1).map_or(0, |(at, _)| at);
    let passage = &before[start..];
    // Not from the middle of a word, unless there is one word alone.
    let blank = if start == 0 { None } else { passage.find(char::is_whitespace) };
    blank.map_or(passage, |at| passage[at..].trim_start())
}

/// The sources whose documents hold code, its language, and what its lines begin with.
const CODE: [(&str, &str, &[&str]); 4] = [
    ("Python documentation", "Python", &[">>> ", "def ", "import ", "from ", "class ", "print("]),
    ("Rust books and std", "Rust", &["fn ", "pub ", "let ", "impl", "use ", "#["]),
    ("SQLite documentation", "SQL", &["SELECT ", "CREATE ", "INSERT ", "UPDATE ", "ALTER ", "DELETE "]),
    ("PostgreSQL documentation", "SQL", &["SELECT ", "CREATE ", "INSERT ", "UPDATE ", "ALTER ", "DELETE "]),
];

/// The first block of code of a document, from a line that begins as code does, and its language.
pub(super) fn code<'a>(text: &'a str, source: &str, characters: usize) -> Option<(&'a str, &'static str)> {
    let (_, language, marks) = CODE.iter().find(|(of, ..)| *of == source)?;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let plain = line.trim_start();
        if marks.iter().any(|mark| plain.starts_with(mark)) {
            let block = &text[at + line.len() - plain.len()..];
            let end = block.find("\n\n").unwrap_or(block.len());
            return Some((begin(&block[..end], characters), language));
        }
        at += line.len();
    }
    None
}

/// Where a text is within double quotation marks.
pub(super) struct Quotes(Vec<(usize, usize)>);

impl Quotes {
    /// Of pairs of “ ” or of " ", within a paragraph.
    pub fn of(text: &str) -> Self {
        let mut pairs = Vec::new();
        let mut open = None;
        for (at, c) in text.char_indices() {
            match (c, open) {
                ('“', _) | ('"', None) => open = Some(at + c.len_utf8()),
                ('”' | '"', Some(from)) => {
                    pairs.push((from, at));
                    open = None;
                }
                ('\n', _) if text[at..].starts_with("\n\n") => open = None,
                _ => {}
            }
        }
        Self(pairs)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a place is within one, before its end.
    pub fn hold(&self, at: usize) -> bool {
        self.0.iter().any(|&(from, to)| from < at && at < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_begin_and_end_at_words() {
        let text = "one, “two three” (4th) é.";
        let found: Vec<&str> = words(text).map(|word| word.text).collect();
        assert_eq!(found, ["one", "two", "three", "4th", "é"]);
        assert!(words(text).all(|word| &text[word.start..word.end] == word.text));
        assert_eq!(begin("añb c", 3), "añb");
        let end = text.find("three").unwrap() + 5;
        assert_eq!((ending(text, end, 9), ending(text, end, 100)), ("three", "one, “two three"));
        let quotes = Quotes::of(text);
        let inside: Vec<&str> = words(text).filter(|word| quotes.hold(word.end)).map(|word| word.text).collect();
        assert_eq!(inside, ["two"], "the last word within the marks ends where they do");
        assert!(Quotes::of("5\" wide\n\nand 6\" high").is_empty());
    }

    #[test]
    fn code_is_taken_from_its_first_line_to_a_blank_one() {
        let text = "Some words.\n\n   let x = 1;\n   x + 1\n\nMore.";
        assert_eq!(code(text, "Rust books and std", 99), Some(("let x = 1;\n   x + 1", "Rust")));
        assert_eq!(code(text, "Jane Austen", 99), None);
    }
}
