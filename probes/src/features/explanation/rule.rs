//! Single rules about a token.

use super::Example;

/// What a token's text is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It has a digit.
    Digit,
    /// Its first letter is a capital.
    Capital,
    /// It has a line end.
    LineEnd,
    /// It begins with a space.
    Space,
    /// It has no letter, digit or space.
    Punctuation,
}

impl Class {
    /// All.
    pub const ALL: [Self; 5] = [Self::Digit, Self::Capital, Self::LineEnd, Self::Space, Self::Punctuation];

    fn has(self, text: &str) -> bool {
        match self {
            Self::Digit => text.chars().any(|c| c.is_ascii_digit()),
            Self::Capital => text.chars().find(|c| c.is_alphabetic()).is_some_and(char::is_uppercase),
            Self::LineEnd => text.contains('\n'),
            Self::Space => text.starts_with(' '),
            Self::Punctuation => !text.is_empty() && !text.chars().any(|c| c.is_alphanumeric() || c.is_whitespace()),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Digit => "a token with a digit",
            Self::Capital => "a token with a capital",
            Self::LineEnd => "a line end",
            Self::Space => "a token that begins with a space",
            Self::Punctuation => "punctuation",
        }
    }
}

/// The classes of every token of a vocabulary, and how many brackets each opens less those that it closes.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    bits: Vec<u8>,
    depth: Vec<i8>,
}

impl Classes {
    /// Of a vocabulary's texts, in the order of their ids.
    pub fn new(texts: impl Iterator<Item = String>) -> Self {
        let mut this = Self::default();
        for text in texts {
            let bits = Class::ALL.into_iter().enumerate().map(|(at, class)| u8::from(class.has(&text)) << at);
            this.bits.push(bits.sum());
            let step = |c| match c {
                '(' | '[' | '{' => 1,
                ')' | ']' | '}' => -1,
                _ => 0,
            };
            this.depth.push(text.chars().map(step).sum::<i32>().clamp(-9, 9) as i8);
        }
        this
    }

    fn has(&self, id: u32, class: Class) -> bool {
        self.bits.get(id as usize).is_some_and(|bits| bits >> class as usize & 1 == 1)
    }
}

/// What has to hold of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It has this id.
    Token(u32),
    /// The one before has this id; `None`: there is none.
    Previous(Option<u32>),
    /// Its text is of a class.
    Of(Class),
    /// A bracket that was opened in the window is still open.
    Bracket,
    /// It has this position in its context.
    Position(u32),
    /// Its position is 2ⁱ − 1 or above, and below 2ⁱ⁺¹ − 1.
    Octave(u32),
}

impl Rule {
    /// Whether it holds at a place.
    pub fn holds(&self, window: &Example, at: usize, classes: &Classes) -> bool {
        let position = window.first + at as u32;
        match *self {
            Self::Token(id) => window.tokens[at] == id,
            Self::Previous(id) => window.back(at, 1) == id && (id.is_some() || position == 0),
            Self::Of(class) => classes.has(window.tokens[at], class),
            Self::Bracket => {
                let step = |id: &u32| i32::from(classes.depth.get(*id as usize).copied().unwrap_or(0));
                // What closes more than is open was opened before the window.
                window.tokens[..at].iter().map(step).fold(0, |depth, step| (depth + step).max(0)) > 0
            }
            Self::Position(of) => position == of,
            Self::Octave(of) => octave(position) == of,
        }
    }

    /// In words.
    pub(super) fn text(&self, token: impl Fn(u32) -> String) -> String {
        match *self {
            Self::Token(id) => format!("the token {}", token(id)),
            Self::Previous(Some(id)) => format!("what follows {}", token(id)),
            Self::Previous(None) => "the first token of a context".to_owned(),
            Self::Of(class) => class.text().to_owned(),
            Self::Bracket => "what is within brackets".to_owned(),
            Self::Position(of) => format!("position {of}"),
            Self::Octave(of) => format!("positions {} to {}", (1_u64 << of) - 1, (1_u64 << (of + 1)) - 2),
        }
    }
}

/// The i of the positions from 2ⁱ − 1 up to 2ⁱ⁺¹ − 2.
pub(super) fn octave(position: u32) -> u32 {
    position.saturating_add(1).ilog2()
}
