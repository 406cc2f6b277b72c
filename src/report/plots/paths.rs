//! Behaviour against R²: a path per model along k, and what separates the paths at equal R².

use super::{Context, Plot, in_rows, point};
use crate::analysis::{BEHAVIOURS, Behaviour, Cell, Given, behaviour, models_at_equal, on_all};
use crate::frames::{Class, Site};
use crate::report::figure::{
    Axis, Figure, Key, Marker, PURPLE, Panel, Point, Rule, Scale, Series, Style, align_x, share_y,
};

const DIFFERENCE: Style = Style::new(PURPLE, Marker::Diamond);

/// CE_rec against R² above, a column per depth; below, the distance between the paths of the last and the first model.
pub fn plot(context: &Context<'_>) -> Plot {
    let metric = behaviour("ce_rec_pooled");
    let names = &context.analysis.names;
    let mut rows = Vec::new();
    let mut lower = String::new();
    for sites in &context.sites {
        let above = |site: &Site| path(context, site, metric, &names.site(site));
        let mut above: Vec<Panel> = sites.iter().map(above).collect();
        share_y(&mut above);
        let mut below: Vec<Panel> = sites.iter().map(|site| apart(context, site, metric)).collect();
        // Nothing lies below where no R² is common to both paths.
        if below.iter().all(|panel| panel.series.is_empty()) {
            rows.push(above);
            continue;
        }
        // The two rows of a column share their horizontal axis.
        for (above, below) in above.iter_mut().zip(&mut below) {
            align_x([above, below]);
        }
        share_y(&mut below);
        rows.extend([above, below]);
        lower = format!(
            " Below: {} of CE_rec at equal R², at each k of the last model whose R² lies within the range of the first model's path; {}.",
            context.difference(),
            context.intervals("bars"),
        );
    }
    let (columns, panels) = in_rows(rows);
    let mut legend = context.keys_with_hollow();
    if !lower.is_empty() {
        let classes = context.analysis.grid.classes();
        let key = |(at, class): (usize, &Class)| {
            let label = names.series(&context.difference(), class);
            Key::mark(format!("{label} at equal R²"), DIFFERENCE.of_class(at))
        };
        legend.extend(classes.iter().enumerate().map(key));
    }
    Plot {
        figure: Figure {
            title: "Behaviour (pooled CE_rec) against reconstruction (R²)".to_owned(),
            subtitle: context.subtitle(),
            legend,
            columns,
            panel: (330, 220),
            panels,
        },
        caption: format!(
            "Pooled CE_rec against R², a path per {} along k, a column per depth ({}, {}); {}. Where paths coincide, equal R² means equal \
             behaviour, and differences at equal k only say how far along the path each has come.{lower} Axes are truncated.",
            context.per_line(),
            context.seeds(),
            context.trained(),
            context.intervals("vertical bars"),
        ),
    }
}

/// The same for every behaviour metric, at the anchor depth.
pub fn by_metric(context: &Context<'_>) -> Plot {
    let names = &context.analysis.names;
    let title = |site: &Site, metric: &Behaviour| match names.has_kinds() {
        true => format!("{}, {}", metric.name, names.site(site)),
        false => metric.name.to_owned(),
    };
    let of_site = |site: &Site| BEHAVIOURS.each_ref().map(|metric| path(context, site, metric, &title(site, metric)));
    Plot {
        figure: Figure {
            title: format!("Every behaviour metric against R², {}", context.anchor),
            subtitle: context.subtitle(),
            legend: context.keys_with_hollow(),
            columns: 3,
            panel: (330, 210),
            panels: context.analysis.anchor_sites().iter().flat_map(of_site).collect(),
        },
        caption: format!(
            "Six metrics of behaviour against R² at depth {}, a path per {} along k ({}, {}); {}; higher is better in all. They are normalised by \
             different losses, so models can change places from panel to panel. Axes are truncated.",
            context.anchor,
            context.per_line(),
            context.seeds(),
            context.trained(),
            context.intervals("vertical bars"),
        ),
    }
}

/// The paths of all lines at a site.
fn path(context: &Context<'_>, site: &Site, metric: &Behaviour, title: &str) -> Panel {
    let series = context.paths(site).map(|(line, cells)| {
        let place = |cell: &&Cell| {
            let r2 = context.analysis.value(cell, on_all("r2"))?;
            let behaves = context.analysis.score(cell, metric.quantity()).turned(metric.sign);
            Some(context.marked(cell, point(r2, behaves)?))
        };
        Series::path(line.look, cells.iter().filter_map(place).collect())
    });
    let name = metric.name.split(" (").next().unwrap_or(metric.name);
    Panel::new(title, Axis::new("R²", Scale::Linear), Axis::new(name, Scale::Linear), series.collect())
}

/// How far the last model's paths lie above the first's.
fn apart(context: &Context<'_>, site: &Site, metric: &Behaviour) -> Panel {
    let (first, last) = (context.models.first(), context.models.last());
    let last = last.filter(|last| Some(*last) != first);
    let mut bars = Vec::new();
    for (at, class) in context.analysis.grid.classes().iter().enumerate() {
        let cells =
            last.map(|model| context.analysis.path(model, site, context.analysis.largest_budget_of(model), class));
        let place = |cell: &Cell| {
            let r2 = context.analysis.value(cell, on_all("r2"))?;
            point(r2, models_at_equal(context.analysis, first?, cell, metric.turned(), Given::R2)?)
        };
        let points: Vec<Point> = cells.unwrap_or_default().into_iter().filter_map(place).collect();
        if !points.is_empty() {
            bars.push(Series { joined: false, ..Series::path(DIFFERENCE.of_class(at), points) });
        }
    }
    let y = Axis::new("ΔCE_rec at equal R²", Scale::Linear);
    Panel::new(String::new(), Axis::new("R²", Scale::Linear), y, bars).rule(Rule::Level(0.0))
}
