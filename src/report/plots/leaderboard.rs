//! Which proxy goes with CE_rec best?

use assay_probes::stats::Estimate;

use super::{Context, Plot, dodge};
use crate::analysis::{ProxyRank, leaderboard};
use crate::report::figure::{Axis, DARK, Figure, Key, Look, Marker, Panel, Point, Rule, Scale, Series, Spread, shade};

type Correlation = fn(&ProxyRank) -> Estimate;

/// Spearman with CE_rec, pooled and within fixed k; the anchor depth, and all depths together beside it.
pub fn plot(context: &Context<'_>) -> Plot {
    let anchor = leaderboard(context.analysis, Some(&context.anchor), context.budget);
    let mut boards = vec![(format!("depth {}", context.anchor), Look::new(DARK, Marker::Circle), anchor)];
    if context.depths.len() > 1 {
        let all = leaderboard(context.analysis, None, context.budget);
        boards.push(("all depths".to_owned(), Look::new(shade(DARK, 0.3), Marker::Diamond), all));
    }
    boards.retain(|(.., board)| !board.is_empty());
    let names: Vec<&str> = boards.first().map(|(.., board)| board.iter().map(|r| r.name).collect()).unwrap_or_default();
    let kinds: [(&str, Correlation); 2] =
        [("k and models pooled", |r| r.spearman), ("within fixed k", |r| r.spearman_within)];
    let panels = kinds.iter().enumerate().map(|(panel, (title, of))| {
        let series = boards.iter().enumerate().map(|(at, (_, look, board))| {
            let point = |(row, name): (usize, &&str)| {
                let estimate = of(board.iter().find(|r| r.name == *name)?);
                let y = -(row as f64) - dodge(at, boards.len(), 0.34);
                Some(Point::new(estimate.value?, y, estimate.interval))
            };
            let points = names.iter().enumerate().filter_map(point).collect();
            Series { look: *look, points, joined: false, spread: Spread::Across }
        });
        let mut x = Axis::new("Spearman with CE_rec", Scale::Linear);
        x.range = Some((-1.05, 1.05));
        let mut y = Axis::names(names.iter().map(|&n| n.to_owned()));
        y.bare = panel > 0;
        Panel::new(*title, x, y, series.collect()).rule(Rule::Upright(0.0))
    });
    let panels = panels.collect();
    let keys = boards.iter().map(|(label, look, _)| Key::mark(label.clone(), *look));
    let percent = (100.0 * context.analysis.grid.bootstrap.level).round();
    Plot {
        figure: Figure {
            title: "Which proxy ranks SAEs as CE_rec does?".to_owned(),
            legend: keys.collect(),
            columns: 2,
            panel: (360, 26 * names.len().max(1) as u32),
            panels,
        },
        caption: format!(
            "Rank correlation of each proxy with CE_rec over the grid's SAEs, every seed a row ({}); best pooled one on top. Left all \
             rows as they are, where k alone carries most of it; right ranks within each k (and depth), which leaves models \
             and seeds. Bars are {percent} % bootstrap intervals over models, depths and k with all of their seeds, which are few and, \
             sharing text and models, not independent; none where all resamples agree.",
            context.trained(),
        ),
    }
}
