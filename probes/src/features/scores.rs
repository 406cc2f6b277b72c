//! Scores of a latent from the stream of its firings. Tokens where it is silent count as 0, and need not be seen.

use std::cmp::Reverse;

use super::cells::Cells;
use crate::stats::{Interval, wilson};

/// Shares of a latent's variance by what explains them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Explained<T> {
    /// By the id of the token that it fires on.
    pub token: Option<T>,
    /// By the id of the token before; of the first token of a context, that there is none.
    pub previous: Option<T>,
    /// By the position in the context.
    pub position: Option<T>,
    /// By the document.
    pub document: Option<T>,
}

impl Explained<f64> {
    /// ε² = (η² − c)/(1 − c), with c the [chance](Cells::chance): 0 is expected of a latent that has nothing to do with a kind (Kelley
    /// 1935; of a regression on indicators it is the adjusted R²). It may be below 0.
    #[must_use]
    pub fn adjusted(self, chance: Self) -> Self {
        let adjust = |share: Option<f64>, chance: Option<f64>| {
            let (share, chance) = share.zip(chance)?;
            (chance < 1.0).then(|| (share - chance) / (1.0 - chance))
        };
        Self {
            token: adjust(self.token, chance.token),
            previous: adjust(self.previous, chance.previous),
            position: adjust(self.position, chance.position),
            document: adjust(self.document, chance.document),
        }
    }

    /// The shares with their names, in one order.
    pub fn named(self) -> [(&'static str, Option<f64>); 4] {
        [("token", self.token), ("previous", self.previous), ("position", self.position), ("document", self.document)]
    }
}

/// A token id and its share of a latent's mass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopToken {
    /// The id.
    pub id: u32,
    /// Its share.
    pub share: f64,
}

/// Scores of a latent. What is undefined of a latent that never fires, or is the same on all tokens, is `None`.
///
/// With a_t its activation on token t, 0 where it is silent, and mass |a_t|:
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Tokens on which it fires, a_t ≠ 0.
    pub firings: u64,
    /// Their share of all tokens.
    pub density: Option<f64>,
    /// Wilson's interval of that at 95 %, as if tokens were independent: within a document they are not, so it is too short.
    pub density_interval: Option<Interval>,
    /// Documents in which it fires.
    pub documents: u64,
    /// The largest activation.
    pub max: Option<f64>,
    /// The largest |a_t|.
    pub max_magnitude: Option<f64>,
    /// The mean activation where it fires.
    pub mean: Option<f64>,
    /// H = −Σ_x p_x log₂ p_x over token ids x in bits, with p_x the share of its mass on tokens x. An estimate from few firings is too
    /// low, by about (ids seen − 1)/(2 ln 2 · firings) bits (Miller 1955).
    pub token_entropy: Option<f64>,
    /// The largest p_x.
    pub purity: Option<f64>,
    /// η² = Var(E[a | x]) / Var(a) over all tokens, silent ones included: Σ_x n_x (ā_x − ā)² / Σ_t (a_t − ā)² (Pearson 1905, the
    /// correlation ratio). Of many small cells it is too high by about [`Cells::chance`]; [`Explained::adjusted`] takes that out.
    pub explained: Explained<f64>,
    /// The token ids with the most mass, the largest share first, ties to the lowest id.
    pub top: Vec<TopToken>,
    /// Token ids at the largest activation of each of the contexts with the largest ones, up to 100.
    pub peaks: Vec<u32>,
}

impl Scores {
    /// The input score: the share of the up to 100 contexts with the largest activations whose token there is among `written`, the 20
    /// tokens that the latent's decoder row raises most (Arad et al. 2025, "SAEs Are Good for Steering -- If You Select the Right
    /// Features"). `None` if it fires in fewer than 10 contexts.
    pub fn input_score(&self, written: &[u32]) -> Option<f64> {
        (self.peaks.len() >= FEWEST_PEAKS).then(|| {
            let inside = self.peaks.iter().filter(|id| written.contains(id)).count();
            inside as f64 / self.peaks.len() as f64
        })
    }
}

/// Contexts of the input score, most and fewest.
pub const PEAKS: usize = 100;
const FEWEST_PEAKS: usize = 10;
/// Tokens of [`Scores::top`].
const TOP: usize = 10;
const LEVEL: f64 = 0.95;

/// Sums by cell, of those that were touched.
#[derive(Clone, Debug)]
struct ByCell {
    sums: Vec<f64>,
    masses: Vec<f64>,
    touched: Vec<u32>,
}

impl ByCell {
    fn new(cells: usize) -> Self {
        Self { sums: vec![0.0; cells], masses: vec![0.0; cells], touched: Vec::new() }
    }

    fn add(&mut self, cell: usize, value: f64) {
        // A firing has mass, so an untouched cell is one without.
        if self.masses[cell] == 0.0 {
            self.touched.push(cell as u32);
        }
        self.sums[cell] += value;
        self.masses[cell] += value.abs();
    }

    /// Σ S²/n.
    fn between(&self, size: impl Fn(usize) -> u64) -> f64 {
        self.touched.iter().map(|&cell| self.sums[cell as usize].powi(2) / size(cell as usize) as f64).sum()
    }

    fn clear(&mut self) {
        for cell in self.touched.drain(..) {
            self.sums[cell as usize] = 0.0;
            self.masses[cell as usize] = 0.0;
        }
    }
}

/// Adds up the firings of one latent, then of the next.
#[derive(Clone, Debug)]
pub struct Tally<'a> {
    cells: &'a Cells,
    current: ByCell,
    previous: ByCell,
    position: ByCell,
    firings: u64,
    sum: f64,
    squares: f64,
    max: f64,
    max_magnitude: f64,
    /// The document of the last firing, the sum there, and Σ S²/n of those before.
    document: Option<(usize, f64)>,
    between_documents: f64,
    documents: u64,
    /// The context of the last firing with the largest activation there and its token, and those of the contexts before that are largest.
    peak: Option<(usize, f64, u32)>,
    peaks: Vec<(f64, usize, u32)>,
}

impl<'a> Tally<'a> {
    /// For latents on these tokens.
    pub fn new(cells: &'a Cells) -> Self {
        Self {
            cells,
            current: ByCell::new(cells.current.len()),
            previous: ByCell::new(cells.previous.len()),
            position: ByCell::new(cells.context_size),
            firings: 0,
            sum: 0.0,
            squares: 0.0,
            max: f64::NEG_INFINITY,
            max_magnitude: 0.0,
            document: None,
            between_documents: 0.0,
            documents: 0,
            peak: None,
            peaks: Vec::new(),
        }
    }

    /// Takes a firing: its position, counted through all contexts, its token, the one before it in the context, and its value, which is
    /// not 0. Positions ascend.
    pub fn push(&mut self, position: u32, token: u32, previous: Option<u32>, value: f32) {
        let value = f64::from(value);
        self.firings += 1;
        self.sum += value;
        self.squares += value * value;
        self.max = self.max.max(value);
        self.max_magnitude = self.max_magnitude.max(value.abs());
        self.current.add(token as usize, value);
        let none = self.cells.previous.len() - 1;
        self.previous.add(previous.map_or(none, |id| id as usize), value);
        let (context, within) =
            (position as usize / self.cells.context_size, position as usize % self.cells.context_size);
        self.position.add(within, value);
        let document = self.cells.documents.of(position);
        match &mut self.document {
            Some((same, sum)) if *same == document => *sum += value,
            _ => {
                self.end_document();
                self.document = Some((document, value));
                self.documents += 1;
            }
        }
        match &mut self.peak {
            Some((same, largest, id)) if *same == context => {
                if value > *largest {
                    (*largest, *id) = (value, token);
                }
            }
            _ => {
                self.end_context();
                self.peak = Some((context, value, token));
            }
        }
    }

    fn end_document(&mut self) {
        if let Some((document, sum)) = self.document.take() {
            self.between_documents += sum * sum / self.cells.documents.len(document) as f64;
        }
    }

    fn end_context(&mut self) {
        if let Some((context, largest, token)) = self.peak.take() {
            self.peaks.push((largest, context, token));
            if self.peaks.len() >= 4 * PEAKS {
                self.keep_peaks();
            }
        }
    }

    fn keep_peaks(&mut self) {
        self.peaks.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        self.peaks.truncate(PEAKS);
    }

    /// The scores of the latent; the tally is then empty again.
    pub fn finish(&mut self) -> Scores {
        self.end_document();
        self.end_context();
        self.keep_peaks();
        let scores = self.scores();
        self.current.clear();
        self.previous.clear();
        self.position.clear();
        self.peaks.clear();
        (self.firings, self.documents) = (0, 0);
        (self.sum, self.squares, self.between_documents) = (0.0, 0.0, 0.0);
        (self.max, self.max_magnitude) = (f64::NEG_INFINITY, 0.0);
        scores
    }

    fn scores(&self) -> Scores {
        let (cells, tokens) = (self.cells, self.cells.tokens);
        let density = (tokens > 0).then(|| self.firings as f64 / tokens as f64);
        let density_interval = wilson(self.firings as usize, tokens as usize, LEVEL);
        if self.firings == 0 {
            return Scores { density, density_interval, ..Scores::default() };
        }
        let n = tokens as f64;
        let total = self.squares - self.sum * self.sum / n;
        // What rounding leaves of a variance of 0 is none.
        let varies = total > (n * f64::EPSILON).max(1e-12) * self.squares;
        let share = |between: f64| varies.then(|| ((between - self.sum * self.sum / n) / total).clamp(0.0, 1.0));
        let size = |counts: &'a [u64]| move |cell: usize| counts[cell];
        // Each position occurs once in every context.
        let sequences = tokens / cells.context_size as u64;
        let explained = Explained {
            token: share(self.current.between(size(&cells.current))),
            previous: share(self.previous.between(size(&cells.previous))),
            position: share(self.position.between(|_| sequences)),
            document: share(self.between_documents),
        };
        let mass: f64 = self.current.touched.iter().map(|&id| self.current.masses[id as usize]).sum();
        let mut top: Vec<TopToken> = self
            .current
            .touched
            .iter()
            .map(|&id| TopToken { id, share: self.current.masses[id as usize] / mass })
            .collect();
        let entropy = -top.iter().map(|token| token.share * token.share.log2()).sum::<f64>();
        top.sort_by(|a, b| b.share.total_cmp(&a.share).then(Reverse(b.id).cmp(&Reverse(a.id))));
        top.truncate(TOP);
        Scores {
            firings: self.firings,
            density,
            density_interval,
            documents: self.documents,
            max: Some(self.max),
            max_magnitude: Some(self.max_magnitude),
            mean: Some(self.sum / self.firings as f64),
            // Of a single token it would be −0.
            token_entropy: Some(entropy.max(0.0)),
            purity: top.first().map(|token| token.share),
            explained,
            top,
            peaks: self.peaks.iter().map(|(_, _, token)| *token).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two contexts of four tokens, each a document: ids 0 1 2 1 | 1 1 0 2.
    fn cells() -> Cells {
        let mut cells = Cells::new(3, 4);
        let ids = [[0, 1, 2, 1], [1, 1, 0, 2]];
        for row in ids {
            for at in 0..4 {
                cells.push(row[at], (at > 0).then(|| row[at - 1]), at == 0);
            }
        }
        cells
    }

    fn scored(firings: &[(u32, u32, Option<u32>, f32)]) -> Scores {
        let cells = cells();
        let mut tally = Tally::new(&cells);
        // What another latent left does not matter.
        tally.push(3, 1, Some(2), -7.0);
        tally.finish();
        firings.iter().for_each(|&(position, token, previous, value)| tally.push(position, token, previous, value));
        tally.finish()
    }

    #[test]
    fn a_detector_of_a_token_is_explained_by_it() {
        let found = scored(&[(1, 1, Some(0), 2.0), (3, 1, Some(2), 2.0), (4, 1, None, 2.0), (5, 1, Some(1), 2.0)]);
        assert_eq!((found.explained.token, found.token_entropy, found.purity), (Some(1.0), Some(0.0), Some(1.0)));
        assert_eq!((found.firings, found.density, found.max, found.mean), (4, Some(0.5), Some(2.0), Some(2.0)));
        assert!(found.explained.document.unwrap() < 1e-12 && found.documents == 2);
        // By the token before: after 0 and at the start once of two times, after 1 once of three, after 2 always; Σ n (ā_x − ā)² is
        // 3·(1/3)² + 1, and Σ (a − ā)² is 8.
        assert!((found.explained.previous.unwrap() - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_detector_of_a_document_or_a_position_is_explained_by_that() {
        let found = scored(&[(4, 1, None, 1.0), (5, 1, Some(1), 1.0), (6, 0, Some(1), 1.0), (7, 2, Some(0), 1.0)]);
        assert_eq!((found.explained.document, found.documents), (Some(1.0), 1));
        let found = scored(&[(0, 0, None, 3.0), (4, 1, None, 3.0)]);
        assert_eq!((found.explained.position, found.explained.previous), (Some(1.0), Some(1.0)));
        assert_eq!((found.token_entropy, found.purity), (Some(1.0), Some(0.5)));
        assert_eq!(found.top.iter().map(|token| token.id).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn what_is_undefined_is_null() {
        let dead = scored(&[]);
        assert_eq!((dead.firings, dead.density, dead.max, dead.token_entropy), (0, Some(0.0), None, None));
        assert_eq!(dead.explained, Explained::default());
        let ids = [0, 1, 2, 1, 1, 1, 0, 2];
        let always = (0..8).map(|at| (at, ids[at as usize], (at % 4 > 0).then(|| ids[at as usize - 1]), 0.1));
        let always = scored(&always.collect::<Vec<_>>());
        assert_eq!((always.explained.token, always.density), (None, Some(1.0)), "it does not vary");
        assert_eq!(always.input_score(&[1]), None, "two contexts are too few");
    }

    #[test]
    fn chance_is_the_mean_over_permutations() {
        let cells = cells();
        assert_eq!(cells.chance().token, Some(2.0 / 7.0));
        assert_eq!(cells.chance().document, Some(1.0 / 7.0));
        // One firing of value 1 on each of the 8 tokens in turn is every permutation of a latent that fires once.
        let ids = [0, 1, 2, 1, 1, 1, 0, 2];
        let mean: f64 = (0..8)
            .map(|at| scored(&[(at, ids[at as usize], (at % 4 > 0).then(|| ids[at as usize - 1]), 1.0)]))
            .map(|found| found.explained.token.unwrap())
            .sum::<f64>()
            / 8.0;
        assert!((mean - 2.0 / 7.0).abs() < 1e-12, "{mean}");
        let adjusted = Explained { token: Some(2.0 / 7.0), ..Explained::default() }.adjusted(cells.chance());
        assert!(adjusted.token.unwrap().abs() < 1e-12 && adjusted.document.is_none());
    }
}
