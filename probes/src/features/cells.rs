//! What a text is made of: its documents, and how many of its tokens are of each kind.

use super::scores::Explained;

/// Documents of contexts that follow one another.
///
/// A document begins with each separator (the end-of-text token or BOS), and with the first token of all. Contexts that were cut from a
/// text go on where the one before ended; rows of a token file are documents of their own, whatever separators they hold beside.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Positions at which one begins, ascending, the first 0.
    starts: Vec<u32>,
    tokens: u32,
}

impl Documents {
    /// Takes the next token; `begins` says that a document begins with it.
    pub fn push(&mut self, begins: bool) {
        if begins || self.tokens == 0 {
            self.starts.push(self.tokens);
        }
        self.tokens += 1;
    }

    /// The document of a position.
    pub fn of(&self, position: u32) -> usize {
        self.starts.partition_point(|&start| start <= position) - 1
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Tokens of a document.
    pub fn len(&self, document: usize) -> u64 {
        let end = self.starts.get(document + 1).copied().unwrap_or(self.tokens);
        u64::from(end - self.starts[document])
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }
}

/// How many of all tokens are of each kind: the cells of the decompositions of variance.
#[derive(Clone, Debug)]
pub struct Cells {
    pub(super) tokens: u64,
    pub(super) context_size: usize,
    /// Of each token id, and of each id of the token before; a first token has none before it, which is a kind too, the last here.
    pub(super) current: Vec<u64>,
    pub(super) previous: Vec<u64>,
    pub(super) documents: Documents,
}

impl Cells {
    /// No tokens yet, of a vocabulary, in contexts of one size.
    pub fn new(vocab_size: usize, context_size: usize) -> Self {
        let (current, previous) = (vec![0; vocab_size], vec![0; vocab_size + 1]);
        Self { tokens: 0, context_size, current, previous, documents: Documents::default() }
    }

    /// Takes the next token, the token before it in its context, and whether a document begins with it.
    pub fn push(&mut self, token: u32, previous: Option<u32>, begins: bool) {
        self.tokens += 1;
        self.current[token as usize] += 1;
        let none = self.previous.len() - 1;
        self.previous[previous.map_or(none, |id| id as usize)] += 1;
        self.documents.push(begins);
    }

    /// N.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// How often each token id occurs.
    pub fn counts(&self) -> &[u64] {
        &self.current
    }

    /// The documents.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// What η² is expected to be of a latent that has nothing to do with a kind of J cells: (J − 1)/(N − 1), the mean over all
    /// permutations of the N tokens, exactly; `None` of a single token.
    pub fn chance(&self) -> Explained<f64> {
        let cells = |counts: &[u64]| counts.iter().filter(|&&n| n > 0).count();
        let position = (self.context_size as u64).min(self.tokens) as usize;
        let chance =
            |cells: usize| (self.tokens > 1).then(|| cells.saturating_sub(1) as f64 / (self.tokens - 1) as f64);
        Explained {
            token: chance(cells(&self.current)),
            previous: chance(cells(&self.previous)),
            position: chance(position),
            document: chance(self.documents.count()),
        }
    }
}
