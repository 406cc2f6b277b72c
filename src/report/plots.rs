//! The figures of a report. Each takes its numbers from [`crate::analysis`] and draws them; none computes its own.

mod controls;
mod curves;
mod errors_by_norm;
mod gap;
mod geometry;
mod k_star;
mod leaderboard;
mod loss;
mod paths;
mod rate_distortion;

use std::path::Path;

use anyhow::{Context as _, Result};

use super::figure::{self, Axis, Figure, Key, Look, Point, Scale};
use crate::analysis::{Analysis, Cell, Gap, Score, gaps};
use crate::markdown::tokens_text;

/// A figure and a sentence about it.
struct Plot {
    figure: Figure,
    caption: String,
}

/// Makes a figure; an empty one where the grid has no data for it.
type Maker = fn(&Context<'_>) -> Plot;

/// What the figures ask an analysis for again and again.
struct Context<'a> {
    analysis: &'a Analysis<'a>,
    models: Vec<String>,
    depths: Vec<String>,
    ks: Vec<u64>,
    /// The largest budget, of which all figures are that don't have one on an axis.
    budget: u64,
    /// The depth of those figures that show one.
    anchor: String,
    /// Last model against first, all depths, budgets and k.
    gaps: Vec<Gap<'a>>,
}

/// Draws what the grid has data for, as SVG and PNG, and says what it drew: the files' stem and a caption, in the order in which
/// a reader wants them.
///
/// # Errors
/// If a file can't be written.
pub fn write(analysis: &Analysis<'_>, dir: &Path) -> Result<Vec<(String, String)>> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let context = Context::new(analysis);
    let figures: [(&str, Maker); 12] = [
        ("paths", paths::plot),
        ("paths-by-metric", paths::by_metric),
        ("curves", curves::plot),
        ("gap", gap::plot),
        ("gap-by-budget", gap::by_budget),
        ("controls", controls::plot),
        ("errors-by-norm", errors_by_norm::plot),
        ("geometry", geometry::plot),
        ("k-star", k_star::plot),
        ("leaderboard", leaderboard::plot),
        ("rate-distortion", rate_distortion::plot),
        ("loss", loss::plot),
    ];
    let mut drawn = Vec::new();
    for (stem, plot) in figures {
        let Plot { figure, caption } = plot(&context);
        if !figure.is_empty() {
            figure.save(dir, stem)?;
            drawn.push((stem.to_owned(), caption));
        }
    }
    Ok(drawn)
}

impl<'a> Context<'a> {
    fn new(analysis: &'a Analysis<'a>) -> Self {
        let models = analysis.grid.models();
        let ends = |g: &Gap<'_>| Some(&g.from.model) == models.first() && Some(&g.to.model) == models.last();
        Self {
            gaps: gaps(analysis).into_iter().filter(ends).collect(),
            depths: analysis.grid.depths(),
            ks: analysis.grid.ks(),
            budget: analysis.largest_budget(),
            anchor: analysis.anchor_depth().unwrap_or_default(),
            models,
            analysis,
        }
    }

    /// The gap at a depth, budget and k.
    fn gap(&self, depth: &str, budget: u64, k: u64) -> Option<&Gap<'a>> {
        self.gaps.iter().find(|g| g.to.depth == depth && g.to.budget == budget && g.to.k == k)
    }

    /// `medium − small`.
    fn difference(&self) -> String {
        match (self.models.first(), self.models.last()) {
            (Some(first), Some(last)) => format!("{last} − {first}"),
            _ => String::new(),
        }
    }

    /// The cells of every model along k, at the largest budget.
    fn along_k(&self, depth: &str) -> impl Iterator<Item = (usize, Vec<&Cell>)> {
        let cells: Vec<_> = self.models.iter().map(|m| self.analysis.along_k(m, depth, self.budget)).collect();
        cells.into_iter().enumerate()
    }

    /// The axis of k: by ratios, with a mark at each k of the grid.
    fn k_axis(&self) -> Axis {
        Axis::new("k (active latents per token)", Scale::Log).marks(self.k_marks())
    }

    fn k_marks(&self) -> Vec<(f64, String)> {
        self.ks.iter().map(|&k| (k as f64, k.to_string())).collect()
    }

    /// A key a model.
    fn model_keys(&self) -> Vec<Key> {
        let models = self.models.iter().enumerate();
        models.map(|(at, model)| Key::line(model.clone(), Look::of_model(at))).collect()
    }

    /// What every figure must carry with it when it leaves its page.
    fn subtitle(&self) -> String {
        self.subtitle_of(&[self.budget])
    }

    /// The same for a figure of several budgets.
    fn subtitle_of(&self, budgets: &[u64]) -> String {
        let sequences = self.analysis.grid.runs.first().map_or(0, |r| r.sequences.len());
        let budgets: Vec<String> = budgets.iter().map(|b| tokens_text(*b).replace(" tokens", "")).collect();
        format!("{}; {} training tokens; {sequences} evaluation sequences", self.seeds(), budgets.join(", "))
    }

    /// `one seed`, `mean over 3 seeds`.
    fn seeds(&self) -> String {
        match self.analysis.grid.seeds().len() {
            1 => "one seed".to_owned(),
            seeds => format!("mean over {seeds} seeds"),
        }
    }

    /// `61k training tokens`.
    fn trained(&self) -> String {
        tokens_text(self.budget).replace(" tokens", " training tokens")
    }

    /// What intervals cover, and what they don't.
    fn intervals(&self, what: &str) -> String {
        let percent = (100.0 * self.analysis.grid.bootstrap.level).round();
        match self.analysis.grid.seeds().len() {
            1 => format!(
                "{what} are {percent} % bootstrap intervals over evaluation sequences; they say nothing of the seed or text of training"
            ),
            seeds => format!(
                "{what} are {percent} % intervals over {seeds} seeds and the evaluation sequences together (Satterthwaite); they say nothing \
                 of the text of training"
            ),
        }
    }
}

impl Context<'_> {
    /// Hollow where k is no bottleneck: at d_model or more active latents per token a code can be exact.
    fn marked(&self, cell: &Cell, point: Point) -> Point {
        Point { hollow: self.is_wide(cell), ..point }
    }

    fn is_wide(&self, cell: &Cell) -> bool {
        self.analysis.column(cell, "d_model").is_some_and(|d| cell.k as f64 >= d)
    }

    /// The models' keys, and what a hollow mark means where there is one.
    fn keys_with_hollow(&self) -> Vec<Key> {
        let mut keys = self.model_keys();
        if self.analysis.cells.iter().any(|cell| self.is_wide(cell)) {
            let look = Look::new(figure::DARK, figure::Marker::Circle);
            keys.push(Key { hollow: true, ..Key::mark("k ≥ d_model", look) });
        }
        keys
    }
}

/// A point of a score; `None` if it is undefined.
fn point(x: f64, score: Score) -> Option<Point> {
    Some(Point::new(x, score.value?, score.interval))
}

/// How far row i of several that share a place lies from its middle.
fn dodge(at: usize, of: usize, step: f64) -> f64 {
    (at as f64 - (of as f64 - 1.0) / 2.0) * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Bootstrap, Grid};

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let bootstrap = Bootstrap { resamples: 10, level: 0.95, seed: 0 };
        let grid =
            Grid { runs: Vec::new(), geometry: Vec::new(), information: Vec::new(), missing: Vec::new(), bootstrap };
        let dir = tempfile::tempdir().unwrap();
        assert!(write(&Analysis::new(&grid), dir.path()).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_shares_a_place_is_centred_on_it() {
        assert_eq!((dodge(0, 1, 0.2), dodge(0, 3, 0.2), dodge(2, 3, 0.2)), (0.0, -0.2, 0.2));
    }
}
