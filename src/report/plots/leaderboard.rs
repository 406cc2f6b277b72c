//! Which proxy goes with CE_rec best?

use assay_probes::stats::Estimate;

use super::{Context, Plot, dodge};
use crate::analysis::{ProxyRank, behaviour, leaderboard};
use crate::report::figure::{
    Axis, DARK, Figure, Key, Marker, PURPLE, Panel, Point, Rule, Scale, Series, Spread, Style, shade,
};

type Correlation = fn(&ProxyRank) -> Option<Estimate>;

/// Pearson with the pooled CE_rec within fixed site and setting, and that minus R²'s; the anchor depth, and all sites together beside it.
pub fn plot(context: &Context<'_>) -> Plot {
    let board = |site| leaderboard(context.analysis, site, context.budget, behaviour("ce_rec_pooled")).0;
    let (anchors, names_of) = (context.analysis.anchor_sites(), &context.analysis.names);
    let mut boards: Vec<(String, Style, Vec<ProxyRank>)> = Vec::new();
    if context.models.len() > 1 {
        for (at, site) in anchors.iter().enumerate() {
            let look = Style::new(if at == 0 { DARK } else { PURPLE }, Style::of_model(at).marker);
            boards.push((format!("depth {}", names_of.site(site)), look, board(Some(site))));
        }
        if context.sites.iter().flatten().count() > 1 {
            boards.push((names_of.scope(None), Style::new(shade(DARK, 0.3), Marker::Diamond), board(None)));
        }
    }
    boards.retain(|(.., board)| !board.is_empty());
    let names: Vec<&str> =
        boards.first().map(|(.., board)| board.iter().map(|r| r.proxy.name).collect()).unwrap_or_default();
    let kinds: [(&str, Correlation); 2] =
        [("Pearson within fixed k", |r| Some(r.pearson_within)), ("minus that of R²", |r| r.advantage)];
    let panels = kinds.iter().enumerate().map(|(panel, (title, of))| {
        let series = boards.iter().enumerate().map(|(at, (_, look, board))| {
            let point = |(row, name): (usize, &&str)| {
                let estimate = of(board.iter().find(|r| r.proxy.name == *name)?)?;
                let y = -(row as f64) - dodge(at, boards.len(), 0.68 / boards.len() as f64);
                Some(Point::new(estimate.value?, y, estimate.interval))
            };
            let points = names.iter().enumerate().filter_map(point).collect();
            Series { look: *look, points, joined: false, spread: Spread::Across }
        });
        let x = Axis::new("correlation with CE_rec (pooled)", Scale::Linear);
        let mut y = Axis::names(names.iter().map(|&n| n.replace("‖a‖ ", "norm ").replace("gᵀδ", "g·δ")));
        y.bare = panel > 0;
        Panel::new(*title, x, y, series.collect()).rule(Rule::Upright(0.0))
    });
    let panels = panels.collect();
    let keys = boards.iter().map(|(label, look, _)| Key::mark(label.clone(), *look));
    let what_is_left = match context.models.len() {
        1 => "With one model only seeds differ within a depth and k.",
        2 => {
            "With two models this asks how well the size of their difference is followed from k to k; the models are the same throughout."
        }
        _ => "What is left within a depth and k are the models and their seeds.",
    };
    let percent = (100.0 * context.analysis.grid.bootstrap.level).round();
    Plot {
        figure: Figure {
            title: "Which proxy goes with CE_rec at fixed k?".to_owned(),
            subtitle: context.subtitle(),
            legend: keys.collect(),
            columns: 2,
            panel: (360, 26 * names.len().max(1) as u32),
            panels,
        },
        caption: format!(
            "Pearson's correlation of each proxy with the pooled CE_rec over the runs, with the mean of each depth and k subtracted ({}); right, the same minus that \
             of R². Bars are {percent} % bootstrap intervals over blocks of one depth and k; there are none below 12 cells. {what_is_left}",
            context.trained(),
        ),
    }
}
