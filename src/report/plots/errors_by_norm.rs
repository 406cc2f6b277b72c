//! Who carries the error: tokens of small or of large ‖a‖?

use super::{Context, Plot};
use crate::analysis::{NormPoint, norm_profile};
use crate::report::figure::{
    Axis, DARK, Figure, Key, Look, Marker, Panel, Point, Rule, Scale, Series, Spread, share_y,
};

/// What a row of panels shows.
type Quantity = fn(&NormPoint) -> Option<f64>;

/// Below so many tokens a bin's mean says little, and its point is hollow.
const FEW: f64 = 30.0;

/// Relative error above the increase of cross-entropy, the smallest k beside the largest; the anchor depth.
pub fn plot(context: &Context<'_>) -> Plot {
    let mut ks: Vec<u64> = context.ks.first().into_iter().chain(context.ks.last()).copied().collect();
    ks.dedup();
    let quantities: [(&str, Scale, Quantity); 2] = [
        ("relative squared error", Scale::Log, |p| p.relative_error),
        ("CE increase per token", Scale::Linear, |p| p.ce_increase),
    ];
    let mut panels = Vec::new();
    for (label, scale, of) in quantities {
        for &k in &ks {
            let series = context.models.iter().enumerate().map(|(i, model)| {
                let cell = context.analysis.cell(model, &context.anchor, context.budget, k);
                let profile = cell.map(|cell| norm_profile(context.analysis, cell)).unwrap_or_default();
                let point = |p: &NormPoint| Some(Point { hollow: p.tokens < FEW, ..Point::new(p.norm, of(p)?, None) });
                let points = profile.iter().filter_map(point).collect();
                Series { look: Look::of_model(i), points, joined: true, spread: Spread::Band }
            });
            let x = Axis::new("mean norm of the bin", Scale::Log);
            let zero = if scale == Scale::Log { 1.0 } else { 0.0 };
            let panel = Panel::new(format!("k = {k}"), x, Axis::new(label, scale), series.collect());
            panels.push(panel.rule(Rule::Level(zero)));
        }
    }
    panels.chunks_mut(ks.len().max(1)).for_each(share_y);
    let mut legend = context.model_keys();
    legend.push(Key { hollow: true, ..Key::mark(format!("fewer than {FEW} tokens"), Look::new(DARK, Marker::Circle)) });
    Plot {
        figure: Figure {
            title: format!("Who carries the error? Tokens by their norm, {}", context.anchor),
            subtitle: context.subtitle(),
            legend,
            columns: ks.len().max(1),
            panel: (400, 220),
            panels,
        },
        caption: format!(
            "Relative squared error Σ‖δ‖²/Σ‖a − mean‖² (top; 1, the line, is no better than the mean) and mean increase of cross-entropy at the token's \
             own position (below) in bins of tokens by ‖a‖, at depth {}, the smallest and largest k ({}, {}); twentieths of the \
             tokens, and the largest 1 % and 0.1 % apart. No intervals: hollow points have fewer than {FEW} tokens, and what an \
             error costs later positions is counted there.",
            context.anchor,
            context.seeds().replace("mean over", "sums over"),
            context.trained(),
        ),
    }
}
