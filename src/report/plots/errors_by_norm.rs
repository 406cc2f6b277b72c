//! Who carries the error: tokens of small or of large ‖a‖?

use super::{Context, Plot, in_rows};
use crate::analysis::{NormPoint, norm_profile};
use crate::frames::Setting;
use crate::report::figure::{Axis, Figure, Panel, Point, Rule, Scale, Series, Style, share_y};

/// What a row of panels shows: its name, the line to compare with, and the quantity.
type Quantity = (&'static str, f64, fn(&NormPoint) -> Option<f64>);

/// Bins with fewer tokens say little and would set the scale: they are left out.
const FEW: f64 = 30.0;

const QUANTITIES: [Quantity; 2] =
    [("share of error / share of tokens", 1.0, |p| p.error_share), ("CE increase per token", 0.0, |p| p.ce_increase)];

/// The share of the error above the increase of cross-entropy, the smallest k beside the largest; the anchor depth.
pub fn plot(context: &Context<'_>) -> Plot {
    let analysis = context.analysis;
    let mut rows = Vec::new();
    for site in analysis.anchor_sites() {
        for settings in context.settings_by_class() {
            let mut ends: Vec<&Setting> = settings.first().into_iter().chain(settings.last()).collect();
            ends.dedup();
            for (label, line, of) in QUANTITIES {
                let panel = |setting: &&Setting| {
                    let series = context.models.iter().enumerate().map(|(i, model)| {
                        let cell = analysis.cell(model, &site, analysis.largest_budget_of(model), setting);
                        let profile = cell.map(|cell| norm_profile(analysis, cell)).unwrap_or_default();
                        let enough = profile.iter().filter(|p| p.tokens >= FEW);
                        let points = enough.filter_map(|p| Some(Point::new(p.quantile, of(p)?, None))).collect();
                        Series::line(Style::of_model(i), points)
                    });
                    let x = Axis::new("tokens in order of their norm (quantile)", Scale::Linear);
                    let y = Axis::new(label, Scale::Linear);
                    Panel::new(context.panel_title(&site, setting), x, y, series.collect()).rule(Rule::Level(line))
                };
                let mut row: Vec<Panel> = ends.iter().map(panel).collect();
                share_y(&mut row);
                rows.push(row);
            }
        }
    }
    let (columns, panels) = in_rows(rows);
    Plot {
        figure: Figure {
            title: format!("Which tokens carry the error? By their norm, {}", context.anchor),
            subtitle: context.subtitle(),
            legend: context.model_keys(),
            columns,
            panel: (400, 220),
            panels,
        },
        caption: format!(
            "Top: the share of Σ‖δ‖² that falls on each bin of tokens in order of ‖a‖, over the bin's share of the tokens (the line, 1, is a fair share). \
             Below: the mean increase of cross-entropy at the token's own position; what an error costs at later positions is counted at those. Depth {}, the smallest and \
             largest k ({}, {}). Bins are twentieths of the tokens, with the largest 1 % and 0.1 % apart; bins with fewer than {FEW} tokens are left out. There are no \
             intervals, since bins are summed over sequences.",
            context.anchor,
            context.seeds().replace("mean over", "sums over"),
            context.trained(),
        ),
    }
}
