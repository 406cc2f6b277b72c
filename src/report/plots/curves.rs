//! Metrics against sparsity: R² above CE_rec, and of several classes the frontier of each.

use super::{Context, Plot, in_rows, point};
use crate::analysis::{Cell, on_all};
use crate::frames::Site;
use crate::report::figure::{Axis, Figure, Panel, Scale, Series, Spread, share_y};

/// A metric's name, what it is called on an axis, and the axis's scale.
type Row = (&'static str, &'static str, Scale);

const RECONSTRUCTION: Row = ("r2", "R²", Scale::Linear);
const BEHAVIOUR: Row = ("ce_rec_pooled", "CE_rec", Scale::Linear);

/// What metrics are drawn against.
#[derive(Clone, Copy)]
enum Along {
    /// What was asked for.
    K,
    /// What was measured, so that SAEs above one another have equal L0.
    L0,
}

/// One column per depth, one row per metric (and kind of hook), one line per model (and class).
fn panels(context: &Context<'_>, metrics: &[Row], along: Along) -> (usize, Vec<Panel>) {
    let analysis = context.analysis;
    let place = |cell: &Cell| match along {
        Along::K => analysis.sparsity(cell),
        Along::L0 => analysis.column(cell, "l0"),
    };
    let mut rows = Vec::new();
    for &(name, label, scale) in metrics {
        for sites in &context.sites {
            let panel = |site: &Site| {
                let series = context.paths(site).map(|(line, cells)| Series {
                    look: line.look,
                    points: cells
                        .iter()
                        .filter_map(|cell| {
                            let score = analysis.score(cell, on_all(name));
                            Some(context.marked(cell, point(place(cell)?, score)?))
                        })
                        .collect(),
                    joined: true,
                    spread: Spread::Band,
                });
                let title = format!("{label}, {}", analysis.names.site(site));
                let x = match along {
                    Along::K => context.k_axis(),
                    Along::L0 => context.l0_axis(),
                };
                Panel::new(title, x, Axis::new(label, scale), series.collect())
            };
            let mut row: Vec<Panel> = sites.iter().map(panel).collect();
            share_y(&mut row);
            rows.push(row);
        }
    }
    in_rows(rows)
}

/// Both metrics of every grid.
pub fn plot(context: &Context<'_>) -> Plot {
    let (columns, panels) = panels(context, &[RECONSTRUCTION, BEHAVIOUR], Along::K);
    let next = if context.models.len() > 1 { " and shown in the next figure" } else { "" };
    Plot {
        figure: Figure {
            title: "Reconstruction (R²) and behaviour (CE_rec)".to_owned(),
            subtitle: context.subtitle(),
            legend: context.keys_with_hollow(),
            columns,
            panel: (330, 230),
            panels,
        },
        caption: format!(
            "R² and pooled CE_rec against k, a column per depth ({}, {}); {}. The bands are of each model alone: that two of them overlap says little \
             about the difference, which is paired{next}. Each row has an axis of its own, and axes are truncated.",
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}

/// What each class keeps at the L0 that it came to, by four metrics; empty with one class.
pub fn frontier(context: &Context<'_>) -> Plot {
    let several = context.analysis.grid.classes().len() > 1;
    let rows = [RECONSTRUCTION, BEHAVIOUR, ("kl", "KL (nats per token)", Scale::Log), ("swd", "SWD", Scale::Log)];
    let (columns, panels) = if several { panels(context, &rows, Along::L0) } else { (1, Vec::new()) };
    Plot {
        figure: Figure {
            title: "The frontier of each class".to_owned(),
            subtitle: context.subtitle(),
            legend: context.keys_with_hollow(),
            columns,
            panel: (430, 230),
            panels,
        },
        caption: format!(
            "R² and pooled CE_rec, for which higher is better, and KL and SWD, for which lower is better, against the measured L0, by {}, a column \
             per depth ({}, {}); {}. The next figure and `tables/architectures.md` have the differences at equal L0, paired by sequence.",
            context.per_line(),
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}
