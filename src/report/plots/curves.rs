//! R² above CE_rec against k.

use super::{Context, Plot, in_rows, point};
use crate::analysis::on_all;
use crate::frames::Site;
use crate::report::figure::{Axis, Figure, Panel, Scale, Series, Spread, share_y};

/// A column a depth, a row a metric (and kind of hook), a line a model (and architecture).
pub fn plot(context: &Context<'_>) -> Plot {
    let analysis = context.analysis;
    let mut rows = Vec::new();
    for (name, label) in [("r2", "R²"), ("ce_rec_pooled", "CE_rec")] {
        for sites in &context.sites {
            let panel = |site: &Site| {
                let series = context.paths(site).map(|(line, cells)| Series {
                    look: line.look,
                    points: cells
                        .iter()
                        .filter_map(|cell| {
                            let score = analysis.score(cell, on_all(name));
                            Some(context.marked(cell, point(analysis.sparsity(cell)?, score)?))
                        })
                        .collect(),
                    joined: true,
                    spread: Spread::Band,
                });
                let title = format!("{label}, {}", analysis.names.site(site));
                Panel::new(title, context.k_axis(), Axis::new(label, Scale::Linear), series.collect())
            };
            let mut row: Vec<Panel> = sites.iter().map(panel).collect();
            share_y(&mut row);
            rows.push(row);
        }
    }
    let (columns, panels) = in_rows(rows);
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
            "R² and pooled CE_rec against k, a column per depth ({}, {}); {}. The bands are of each model alone: that two overlap says little \
             of their difference, which is paired and stands in the next figure. The rows have axes of their own, and axes are truncated.",
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}
