//! The figures of a report. Each takes its numbers from [`crate::analysis`] and draws them; none computes its own.

mod contrasts;
mod controls;
mod curves;
mod errors_by_norm;
mod few_tokens;
mod gap;
mod geometry;
mod k_star;
mod leaderboard;
mod loops;
mod loss;
mod paths;
mod rate_distortion;

use std::path::Path;

use anyhow::{Context as _, Result};
use rayon::prelude::*;

use super::document::Drawn;
use super::figure::{self, Axis, Figure, Key, Panel, Point, Scale, Style};
use crate::analysis::{Analysis, Cell, Gap, Score, gaps};
use crate::frames::{Class, Setting, Site};
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
    /// What lines along an axis of sparsity are of.
    lines: Vec<Line>,
    /// Kind by kind, the depths of each, shallowest first.
    sites: Vec<Vec<Site>>,
    settings: Vec<Setting>,
    /// The largest budget, of which all figures are that don't have one on an axis.
    budget: u64,
    /// The depth of those figures that show one.
    anchor: String,
    /// Last model against first, all sites, budgets and settings.
    gaps: Vec<Gap<'a>>,
}

/// A model's SAEs of one architecture and objective.
struct Line {
    model: String,
    class: Class,
    look: Style,
}

/// Draws what the grid has data for, as SVG and PNG, and says what it drew, in the order in which a reader wants it.
///
/// # Errors
/// If a file can't be written.
pub fn write(analysis: &Analysis<'_>, dir: &Path) -> Result<Vec<Drawn>> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let context = Context::new(analysis);
    let figures: [(&'static str, Maker); 16] = [
        ("few-tokens", few_tokens::plot),
        ("paths", paths::plot),
        ("paths-by-metric", paths::by_metric),
        ("curves", curves::plot),
        ("gap", gap::plot),
        ("gap-by-budget", gap::by_budget),
        ("frontier", curves::frontier),
        ("contrasts", contrasts::plot),
        ("controls", controls::plot),
        ("errors-by-norm", errors_by_norm::plot),
        ("geometry", geometry::plot),
        ("k-star", k_star::plot),
        ("leaderboard", leaderboard::plot),
        ("rate-distortion", rate_distortion::plot),
        ("loss", loss::plot),
        ("loops", loops::plot),
    ];
    let drawn = figures.into_par_iter().filter_map(|(stem, plot)| {
        let Plot { figure, caption } = plot(&context);
        (!figure.is_empty()).then(|| figure.save(dir, stem).map(|svg| Drawn { stem, caption, svg }))
    });
    drawn.collect()
}

impl<'a> Context<'a> {
    fn new(analysis: &'a Analysis<'a>) -> Self {
        let (models, classes) = (analysis.grid.models(), analysis.grid.classes());
        let line = |model: usize, class: usize| Line {
            model: models[model].clone(),
            class: classes[class].clone(),
            look: if models.len() == 1 { Style::of_class_alone(class) } else { Style::of_model(model).of_class(class) },
        };
        let of_model = |model| (0..classes.len()).map(move |class| (model, class));
        let sites = analysis.grid.sites();
        let ends = |g: &Gap<'_>| Some(&g.from.model) == models.first() && Some(&g.to.model) == models.last();
        Self {
            gaps: gaps(analysis).into_iter().filter(ends).collect(),
            lines: (0..models.len()).flat_map(of_model).map(|(model, class)| line(model, class)).collect(),
            sites: sites
                .chunk_by(|a, b| (&a.kind, a.centered) == (&b.kind, b.centered))
                .map(<[Site]>::to_vec)
                .collect(),
            settings: analysis.grid.settings(),
            budget: analysis.largest_budget(),
            anchor: analysis.anchor_depth().unwrap_or_default(),
            models,
            analysis,
        }
    }

    /// The gap at a site, budget and setting.
    fn gap(&self, site: &Site, budget: u64, setting: &Setting) -> Option<&Gap<'a>> {
        self.gaps.iter().find(|g| g.to.site == *site && g.to.budget == budget && g.to.setting == *setting)
    }

    /// `medium − small`.
    fn difference(&self) -> String {
        match (self.models.first(), self.models.last()) {
            (Some(first), Some(last)) => format!("{last} − {first}"),
            _ => String::new(),
        }
    }

    /// The cells of every line in order of sparsity, at the largest budget.
    fn paths(&self, site: &Site) -> impl Iterator<Item = (&Line, Vec<&Cell>)> {
        let path = |line: &Line| {
            self.analysis.path(&line.model, site, self.analysis.largest_budget_of(&line.model), &line.class)
        };
        let paths: Vec<_> = self.lines.iter().map(|line| (line, path(line))).collect();
        paths.into_iter()
    }

    /// The classes' settings, the sparsest of each first.
    fn settings_by_class(&self) -> impl Iterator<Item = &[Setting]> {
        self.settings.chunk_by(|a, b| a.class() == b.class())
    }

    /// The axis of sparsity, by ratios: k, or the measured L0 where some SAEs have no k.
    fn k_axis(&self) -> Axis {
        let name =
            if self.analysis.grid.is_by_k() { "k (active latents per token)" } else { "L0 (active latents per token)" };
        Axis::new(name, Scale::Log).marks(self.k_marks())
    }

    /// The axis of the measured L0, by ratios, for what is compared at equal L0: SAEs of one k may differ in it.
    fn l0_axis(&self) -> Axis {
        let all = || self.analysis.cells.iter().filter_map(|cell| self.analysis.column(cell, "l0"));
        let ends = (all().reduce(f64::min).unwrap_or(1.0), all().reduce(f64::max).unwrap_or(1.0));
        Axis::new("L0 (active latents per token, measured)", Scale::Log).marks(named(&powers_between(ends)))
    }

    /// Each k of the grid, or powers of two among the measured L0.
    fn k_marks(&self) -> Vec<(f64, String)> {
        let grid = self.analysis.grid;
        named(&if grid.is_by_k() { grid.ks() } else { powers_between(self.sparsities()) })
    }

    /// The ends of the axis of sparsity.
    fn sparsities(&self) -> (f64, f64) {
        let places = || self.analysis.cells.iter().filter_map(|cell| self.analysis.sparsity(cell));
        (places().reduce(f64::min).unwrap_or(1.0), places().reduce(f64::max).unwrap_or(1.0))
    }

    /// `k = 8`, with what else tells its panel from others.
    fn panel_title(&self, site: &Site, setting: &Setting) -> String {
        let names = &self.analysis.names;
        let site = names.has_kinds().then(|| format!(", {}", names.site(site)));
        names.setting_with("k = ", setting) + &site.unwrap_or_default()
    }

    /// A key a model.
    fn model_keys(&self) -> Vec<Key> {
        let models = self.models.iter().enumerate();
        models.map(|(at, model)| Key::line(model.clone(), Style::of_model(at))).collect()
    }

    /// A key a line.
    fn line_keys(&self) -> Vec<Key> {
        let name = |line: &Line| self.analysis.names.series(&line.model, &line.class);
        self.lines.iter().map(|line| Key::line(name(line), line.look)).collect()
    }

    /// What there is a line of: `model`, `model, architecture and objective`, of one model `objective`.
    fn per_line(&self) -> String {
        let model = (self.models.len() > 1).then_some("model");
        let classes = self.analysis.names.classes().into_iter().flat_map(|classes| classes.split(", "));
        match model.into_iter().chain(classes).collect::<Vec<_>>()[..] {
            [] => "model".to_owned(),
            [one] => one.to_owned(),
            [ref others @ .., last] => format!("{} and {last}", others.join(", ")),
        }
    }

    /// What every figure must carry with it when it leaves its page.
    fn subtitle(&self) -> String {
        self.subtitle_of(&self.largest_budgets())
    }

    /// The largest budget of each model, each once.
    fn largest_budgets(&self) -> Vec<u64> {
        let mut budgets: Vec<u64> = self.models.iter().map(|model| self.analysis.largest_budget_of(model)).collect();
        budgets.sort_unstable();
        budgets.dedup();
        budgets
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

    /// `61k training tokens`, `6.2M to 25M training tokens`.
    fn trained(&self) -> String {
        let text = |budget: &u64| tokens_text(*budget).replace(" tokens", "");
        match self.largest_budgets().as_slice() {
            [first, .., last] => format!("{} to {} training tokens", text(first), text(last)),
            _ => tokens_text(self.budget).replace(" tokens", " training tokens"),
        }
    }

    /// What intervals cover; what they don't stands among the caveats.
    fn intervals(&self, what: &str) -> String {
        let percent = (100.0 * self.analysis.grid.bootstrap.level).round();
        match self.analysis.grid.seeds().len() {
            1 => format!("{what} are {percent} % bootstrap intervals over evaluation sequences"),
            seeds => {
                format!("{what} are {percent} % intervals over {seeds} seeds and the evaluation sequences together")
            }
        }
    }
}

impl Context<'_> {
    /// Hollow where k is no bottleneck: at d_model or more active latents per token a code can be exact.
    fn marked(&self, cell: &Cell, point: Point) -> Point {
        Point { hollow: self.is_wide(cell), ..point }
    }

    fn is_wide(&self, cell: &Cell) -> bool {
        self.analysis.column(cell, "d_model").zip(self.analysis.sparsity(cell)).is_some_and(|(d, k)| k >= d)
    }

    /// The lines' keys, and what a hollow mark means where there is one.
    fn keys_with_hollow(&self) -> Vec<Key> {
        let mut keys = self.line_keys();
        if self.analysis.cells.iter().any(|cell| self.is_wide(cell)) {
            let look = Style::new(figure::DARK, figure::Marker::Circle);
            keys.push(Key { hollow: true, ..Key::mark("k ≥ d_model", look) });
        }
        keys
    }
}

/// Powers of two between the ends of an axis, both included.
fn powers_between((first, last): (f64, f64)) -> Vec<u64> {
    (0..32).map(|p| 1 << p).filter(|k| (first..=last).contains(&(*k as f64))).collect()
}

/// Marks of an axis by what they say.
fn named(marks: &[u64]) -> Vec<(f64, String)> {
    marks.iter().map(|k| (*k as f64, k.to_string())).collect()
}

/// Rows of panels, each filled up to the width of the widest; also that width.
fn in_rows(mut rows: Vec<Vec<Panel>>) -> (usize, Vec<Panel>) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
    rows.iter_mut().for_each(|row| row.resize_with(columns, Panel::blank));
    (columns, rows.concat())
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
    use crate::analysis::made::{MODELS, Made, Whole, grid_of, noise};

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let grid = grid_of(&[], &[], &[], &[], (0, 0), |_, _| unreachable!("there is no run"));
        let dir = tempfile::tempdir().unwrap();
        assert!(write(&Analysis::new(&grid), dir.path()).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Two kinds of hook at three depths, two architectures at the same k: each has its panel or line, under its own name.
    #[test]
    fn sites_are_panels_and_architectures_lines() {
        let site = |kind: &str, depth| Site { kind: kind.to_owned(), ..Site::resid_post(depth) };
        let at = |kind| ["early", "mid", "late"].map(|depth| site(kind, depth));
        let sites = [at("resid_post"), at("mlp_out")].concat();
        let setting = |name: &str, k| Setting { architecture: name.to_owned(), ..Setting::topk(k) };
        // More k of one architecture than of the other.
        let settings = [("topk", 4), ("topk", 8), ("topk", 16), ("groupmax", 4), ("groupmax", 8)];
        let settings = settings.map(|(name, k)| setting(name, k));
        let made = |(model, _, setting, ..): Whole<'_>, at: usize| {
            let ln = (setting.k.unwrap() as f64).ln();
            Made::new(0.1 * ln - 0.01 * (model.len() as f64), 0.2 * ln + 0.01 * noise(&[at as u64]))
        };
        let grid = grid_of(&MODELS, &sites, &settings, &[1000, 2000], (1, 12), made);
        let analysis = Analysis::new(&grid);
        let context = Context::new(&analysis);
        let figure = |plot: Maker| plot(&context).figure;
        let lines = |panel: &Panel| panel.series.iter().map(|s| s.points.len()).collect::<Vec<_>>();

        let curves = figure(curves::plot);
        assert_eq!((curves.columns, curves.panels.len()), (3, 12));
        assert!(curves.panels.iter().all(|p| lines(p) == [3, 2, 3, 2]));
        let labels: Vec<&str> = curves.legend.iter().map(|k| k.label.as_str()).collect();
        assert_eq!(labels[..4], ["little topk", "little groupmax", "large topk", "large groupmax"]);
        let contrasts = figure(contrasts::plot);
        assert_eq!((contrasts.columns, contrasts.panels.len()), (3, 18));
        assert!(contrasts.panels.iter().all(|p| lines(p) == [2, 2]), "of the later architecture alone");
        let frontier = figure(curves::frontier);
        assert_eq!((frontier.columns, frontier.panels.len()), (3, 24));
        let all = [
            frontier,
            contrasts,
            curves,
            figure(paths::plot),
            figure(gap::plot),
            figure(gap::by_budget),
            figure(controls::plot),
        ];
        for figure in all {
            let mut titles: Vec<&str> =
                figure.panels.iter().map(|p| p.title.as_str()).filter(|t| !t.is_empty()).collect();
            let panels = titles.len();
            titles.sort_unstable();
            titles.dedup();
            assert_eq!(titles.len(), panels, "{titles:?}");
            let mut looks: Vec<String> = figure.legend.iter().map(|k| format!("{:?}", k.look)).collect();
            looks.sort_unstable();
            looks.dedup();
            assert_eq!(looks.len(), figure.legend.len(), "{}: two keys look alike", figure.title);
        }
        // Five settings at each of two anchor sites; in rows of three, where an architecture has two k, one place stays empty.
        assert_eq!(figure(controls::plot).panels.len(), 10);
        let by_budget = figure(gap::by_budget);
        assert_eq!((by_budget.columns, by_budget.panels.len()), (3, 36));
        assert_eq!(by_budget.panels.iter().filter(|p| p.title.is_empty()).count(), 6);
        assert!(by_budget.panels.iter().any(|p| p.title == "CE_rec, groupmax k = 8, mid mlp_out"));
        let gap = figure(gap::plot);
        assert!(gap.panels.iter().all(|p| lines(p) == [3, 2]) && gap.panels.len() == 12);
        assert_eq!(figure(rate_distortion::plot).panels.len() % 6, 0);
        assert_eq!(figure(k_star::plot).panels.iter().map(|p| p.series.len()).collect::<Vec<_>>(), [4; 6]);
        let dir = tempfile::tempdir().unwrap();
        write(&analysis, dir.path()).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("curves.svg")).unwrap();
        assert!(svg.contains("CE_rec, late mlp_out") && svg.contains("large groupmax"));
    }

    #[test]
    fn what_shares_a_place_is_centred_on_it() {
        assert_eq!((dodge(0, 1, 0.2), dodge(0, 3, 0.2), dodge(2, 3, 0.2)), (0.0, -0.2, 0.2));
    }
}
