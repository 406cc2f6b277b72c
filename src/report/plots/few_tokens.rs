//! How much of R² is a handful of tokens?

use assay_probes::metrics::Subset;

use super::{Context, Plot, in_rows, point};
use crate::analysis::{Cell, Quantity, on, on_all};
use crate::frames::{Class, Site};
use crate::report::figure::{Axis, DARK, Figure, Key, Marker, Panel, Scale, Series, Style, share_y};

/// Below this no SAE's R² changes enough with the tokens that are left out for a reader to see it.
const SHOWN_FROM: f64 = 0.05;

/// A quantity, what it is called and how it is drawn.
type Line = (Quantity, &'static str, Style);

fn lines() -> [Line; 4] {
    [
        (on_all("r2"), "R², all tokens", Style::of_model(0)),
        (on("r2", Subset::NoFirst), "R² without position 0", Style::of_model(2)),
        (on("r2", Subset::NoOutlier), "R² without tokens of outlying norm", Style::of_model(1)),
        (on_all("ce_rec_pooled"), "CE_rec", Style::dashed(DARK, Marker::Diamond)),
    ]
}

/// R² on each subset of tokens and the pooled CE_rec against sparsity, of the class whose R² changes most: a column per depth, a row per
/// model. Empty where none changes by [`SHOWN_FROM`].
pub fn plot(context: &Context<'_>) -> Plot {
    let analysis = context.analysis;
    let classes = analysis.grid.classes();
    let [all, no_first, no_outlier, _] = lines().map(|(quantity, ..)| quantity);
    let change = |cell: &Cell| {
        let r2 = |quantity| analysis.score(cell, quantity).value;
        let left = [no_first, no_outlier].into_iter().filter_map(|some| Some(r2(all)? - r2(some)?));
        left.fold(f64::NEG_INFINITY, f64::max)
    };
    let most = |class: &Class| {
        let cells = analysis.cells.iter().filter(|cell| cell.budget == context.budget && cell.setting.is_of(class));
        cells.map(change).fold(f64::NEG_INFINITY, f64::max)
    };
    // The first of equals.
    let shown =
        classes.iter().rev().max_by(|a, b| most(a).total_cmp(&most(b))).filter(|class| most(class) >= SHOWN_FROM);
    let panel = |model: &str, site: &Site, class: &Class| {
        let cells = analysis.path(model, site, context.budget, class);
        let series = lines().map(|(quantity, _, look)| {
            let place = |cell: &&_| {
                Some(context.marked(cell, point(analysis.sparsity(cell)?, analysis.score(cell, quantity))?))
            };
            Series::line(look, cells.iter().filter_map(place).collect())
        });
        let site = analysis.names.site(site);
        let title = if context.models.len() > 1 { format!("{model}, {site}") } else { site };
        Panel::new(title, context.k_axis(), Axis::new("", Scale::Linear), series.into())
    };
    let mut rows = Vec::new();
    if let Some(class) = shown {
        for model in &context.models {
            for sites in &context.sites {
                let mut row: Vec<Panel> = sites.iter().map(|site| panel(model, site, class)).collect();
                share_y(&mut row);
                rows.push(row);
            }
        }
    }
    let (columns, panels) = in_rows(rows);
    let name = shown.filter(|_| classes.len() > 1).map(|class| analysis.names.class(class));
    let (title, of) = name.map_or_else(Default::default, |name| (format!(" ({name})"), format!(" of {name}")));
    Plot {
        figure: Figure {
            title: format!("How much of R² is a handful of tokens?{title}"),
            subtitle: context.subtitle(),
            legend: lines().map(|(_, label, look)| Key::line(label, look)).into(),
            columns,
            panel: (240, 230),
            panels,
        },
        caption: format!(
            "R²{of} on all tokens, without position 0 of each context, and without tokens whose norm exceeds 10 times the median, beside the pooled \
             CE_rec, which leaves out nothing ({}, {}); {}. Where the first line lies far above the others, R² is decided by those tokens. R² and CE_rec have \
             different units: compare how they move, not their heights.",
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}
