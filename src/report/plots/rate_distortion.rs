//! What a bit buys, by four measures of distortion.

use super::{Context, Plot, point};
use crate::analysis::{Cell, Score, on_all};
use crate::report::figure::{Axis, Figure, Panel, Scale, Series, align_y, share_x};

type Distortion = fn(&Context<'_>, &Cell) -> Score;

const DISTORTIONS: [(&str, Distortion); 4] = [
    ("1 − R²", |c, cell| c.analysis.derived(&[(cell, on_all("r2"))], |v| Some(1.0 - v[0]))),
    ("1 − CE_rec", |c, cell| c.analysis.derived(&[(cell, on_all("ce_rec_pooled"))], |v| Some(1.0 - v[0]))),
    ("SWD", |c, cell| c.analysis.score(cell, on_all("swd"))),
    ("FWD", |c, cell| c.analysis.score(cell, on_all("fwd"))),
];

/// One row per site, one column per distortion, one line per model (and architecture) in order of sparsity.
pub fn plot(context: &Context<'_>) -> Plot {
    // Not every sweep draws labels: then there is no FWD, and no column for it.
    let measured =
        |(_, of): &&(&str, Distortion)| context.analysis.cells.iter().any(|c| of(context, c).value.is_some());
    let distortions: Vec<_> = DISTORTIONS.iter().filter(measured).collect();
    let mut panels = Vec::new();
    for site in context.sites.iter().flatten() {
        for (label, of) in &distortions {
            let series = context.paths(site).map(|(line, cells)| {
                let place = |cell: &&Cell| {
                    let bits = context.analysis.column(cell, "bits_per_token")?;
                    Some(context.marked(cell, point(bits, of(context, cell))?))
                };
                Series::line(line.look, cells.iter().filter_map(place).collect())
            });
            // One scale for a column: by ratios unless a value has none.
            let positive = context.analysis.cells.iter().all(|c| of(context, c).value.is_none_or(|v| v > 0.0));
            let y = Axis::new("", if positive { Scale::Log } else { Scale::Linear });
            let x = Axis::new("bits/token", Scale::Log);
            let title = format!("{label}, {}", context.analysis.names.site(site));
            panels.push(Panel::new(title, x, y, series.collect()));
        }
    }
    share_x(&mut panels);
    let columns = distortions.len().max(1);
    (0..columns).for_each(|column| align_y(panels.iter_mut().skip(column).step_by(columns)));
    Plot {
        figure: Figure {
            title: "Rate and distortion".to_owned(),
            subtitle: context.subtitle(),
            legend: context.keys_with_hollow(),
            columns,
            panel: (245, 190),
            panels,
        },
        caption: format!(
            "Distortion against bits per token (entropy-coded latents, 8 bits per value), a row per depth, a point per k ({}, {}); lower is \
             better; {}. SWD and FWD are in units of the model's own gradients: between models, compare shapes and crossings, not \
             heights. The panels of a column share their vertical axis; different columns do not.",
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}
