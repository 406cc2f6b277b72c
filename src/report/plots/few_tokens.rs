//! How much of R² is a handful of tokens, or one direction?

use assay_probes::metrics::Subset;

use super::{Context, Plot, dodge, in_rows, point};
use crate::analysis::{Cell, Quantity, on, on_all};
use crate::frames::{Class, Site};
use crate::report::figure::{Axis, DARK, Figure, Key, Marker, PURPLE, Panel, Scale, Series, Style, share_y};

/// Below this no SAE's R² changes enough with the tokens that are left out for a reader to see it.
const SHOWN_FROM: f64 = 0.05;

/// A quantity, what it is called and how it is drawn.
type Line = (Quantity, &'static str, Style);

fn lines() -> [Line; 5] {
    let dashed = |look: Style| Style { dashed: true, ..look };
    [
        (on_all("r2"), "R², all tokens", Style::of_model(0)),
        (on("r2", Subset::NoFirst), "R² without position 0", dashed(Style::of_model(2))),
        (on("r2", Subset::NoOutlier), "R² without tokens of outlying norm", dashed(Style::of_model(1))),
        (on_all("r2_deflated_1"), "R² without the top direction", Style::new(PURPLE, Marker::Down)),
        (on_all("ce_rec_pooled"), "CE_rec", Style::new(DARK, Marker::Diamond)),
    ]
}

/// Whether SAEs of a class are trained for the squared error, alone or beside a divergence of predictions.
fn reconstructs(class: &Class) -> bool {
    class.objective.split([' ', '+']).any(|part| ["mse", "fvu"].contains(&part))
}

/// Lines lie so far apart sideways, as a ratio of L0, that markers at one height are side by side.
const APART: f64 = 1.06;

/// R² on each subset of tokens, and without the top direction, and the pooled CE_rec against sparsity, of the class whose R² changes most with
/// the tokens: a column per depth, a row per model. Empty where none changes by [`SHOWN_FROM`]. A class that is not trained to reconstruct is not
/// shown: there is nothing in its R² that tokens could make.
pub fn plot(context: &Context<'_>) -> Plot {
    let analysis = context.analysis;
    let classes = analysis.grid.classes();
    let [all, no_first, no_outlier, ..] = lines().map(|(quantity, ..)| quantity);
    let change = |cell: &Cell| {
        let r2 = |quantity| analysis.value(cell, quantity);
        let left = [no_first, no_outlier].into_iter().filter_map(|some| Some(r2(all)? - r2(some)?));
        left.fold(f64::NEG_INFINITY, f64::max)
    };
    let most = |class: &Class| {
        let cells =
            analysis.cells.iter().filter(|cell| analysis.is_of_largest_budget(cell) && cell.setting.is_of(class));
        cells.map(change).fold(f64::NEG_INFINITY, f64::max)
    };
    // The first of equals.
    let shown = classes
        .iter()
        .rev()
        .filter(|class| reconstructs(class))
        .max_by(|a, b| most(a).total_cmp(&most(b)))
        .filter(|class| most(class) >= SHOWN_FROM);
    let panel = |model: &str, site: &Site, class: &Class| {
        let cells = analysis.path(model, site, analysis.largest_budget_of(model), class);
        let all = lines();
        let count = all.len();
        let series = all.into_iter().enumerate().map(|(at, (quantity, _, look))| {
            let aside = APART.powf(dodge(at, count, 1.0));
            let place = |cell: &&_| {
                Some(context.marked(cell, point(aside * analysis.sparsity(cell)?, analysis.score(cell, quantity))?))
            };
            Series::path(look, cells.iter().filter_map(place).collect())
        });
        let site = analysis.names.site(site);
        let title = if context.models.len() > 1 { format!("{model}, {site}") } else { site };
        Panel::new(title, context.k_axis(), Axis::new("", Scale::Linear), series.collect())
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
            title: format!("How much of R² is a handful of tokens, or one direction?{title}"),
            subtitle: context.subtitle(),
            legend: lines().map(|(_, label, look)| Key::line(label, look)).into(),
            columns,
            panel: (240, 230),
            panels,
        },
        caption: format!(
            "R²{of} on all tokens, without position 0 of each context, without tokens whose norm exceeds 10 times the median, and without the direction of \
             the largest variance, beside the pooled CE_rec, which leaves out nothing ({}, {}); {}. Where the first line lies far above the next two, R² is \
             decided by those tokens; where it lies far above the fourth, by that direction. Lines are set a little apart sideways, so that equal ones are both \
             seen. R² and CE_rec have different units: compare how they move, not their heights.",
            context.seeds(),
            context.trained(),
            context.intervals("bars"),
        ),
    }
}
