//! Behaviour against R²: a path per model along k, and what separates the paths at equal R².

use super::{Context, Plot, point};
use crate::analysis::{BEHAVIOURS, Behaviour, Given, at_equal, behaviour, on_all};
use crate::report::figure::{
    Axis, Figure, Key, Look, Marker, PURPLE, Panel, Point, Rule, Scale, Series, Spread, align_x, share_y,
};

const DIFFERENCE: Look = Look::new(PURPLE, Marker::Diamond);

/// CE_rec against R² above, a column per depth; below, the distance between the paths of the last and the first model.
pub fn plot(context: &Context<'_>) -> Plot {
    let metric = behaviour("ce_rec_pooled");
    let mut panels: Vec<Panel> = context.depths.iter().map(|depth| path(context, depth, metric, depth)).collect();
    share_y(&mut panels);
    let mut legend = context.keys_with_hollow();
    let mut below: Vec<Panel> = context.depths.iter().map(|depth| apart(context, depth, metric)).collect();
    let mut lower = String::new();
    // Nothing lies below where no R² is common to both paths.
    if below.iter().any(|panel| !panel.series.is_empty()) {
        // The two rows of a column share their horizontal axis.
        for (above, below) in panels.iter_mut().zip(&mut below) {
            align_x([above, below]);
        }
        share_y(&mut below);
        panels.extend(below);
        legend.push(Key::mark(format!("{} at equal R²", context.difference()), DIFFERENCE));
        lower = format!(
            " Below: {} of CE_rec at equal R², at each k of the last model whose R² lies within the range of the first model's path; {}.",
            context.difference(),
            context.intervals("bars"),
        );
    }
    Plot {
        figure: Figure {
            title: "Behaviour (pooled CE_rec) against reconstruction (R²)".to_owned(),
            subtitle: context.subtitle(),
            legend,
            columns: context.depths.len().max(1),
            panel: (330, 220),
            panels,
        },
        caption: format!(
            "Pooled CE_rec against R², a path per model along k, a column per depth ({}, {}). Where the paths coincide, R² tells what \
             behaviour is, and differences at equal k only say how far along the path each model has come.{lower} Axes are truncated.",
            context.seeds(),
            context.trained(),
        ),
    }
}

/// The same for every behaviour metric, at the anchor depth.
pub fn by_metric(context: &Context<'_>) -> Plot {
    let panel = |metric: &Behaviour| path(context, &context.anchor, metric, metric.name);
    Plot {
        figure: Figure {
            title: format!("Every behaviour metric against R², {}", context.anchor),
            subtitle: context.subtitle(),
            legend: context.keys_with_hollow(),
            columns: 3,
            panel: (330, 210),
            panels: BEHAVIOURS.iter().map(panel).collect(),
        },
        caption: format!(
            "Six metrics of behaviour against R² at depth {}, a path per model along k ({}, {}), up is better. They are normalised by \
             different losses, so models can change places from panel to panel. Axes are truncated.",
            context.anchor,
            context.seeds(),
            context.trained(),
        ),
    }
}

/// The paths of all models at a depth.
fn path(context: &Context<'_>, depth: &str, metric: &Behaviour, title: &str) -> Panel {
    let series = context.along_k(depth).map(|(at, cells)| {
        let place = |cell: &&crate::analysis::Cell| {
            let r2 = context.analysis.score(cell, on_all("r2")).value?;
            let behaves = context.analysis.score(cell, metric.quantity()).value?;
            Some(context.marked(cell, Point::new(r2, metric.sign * behaves, None)))
        };
        Series::line(Look::of_model(at), cells.iter().filter_map(place).collect())
    });
    let name = metric.name.split(" (").next().unwrap_or(metric.name);
    Panel::new(title, Axis::new("R²", Scale::Linear), Axis::new(name, Scale::Linear), series.collect())
}

/// How far the last model's path lies above the first's.
fn apart(context: &Context<'_>, depth: &str, metric: &Behaviour) -> Panel {
    let (first, last) = (context.models.first(), context.models.last());
    let last = last.filter(|last| Some(*last) != first);
    let cells = last.map(|model| context.analysis.along_k(model, depth, context.budget)).unwrap_or_default();
    let place = |cell: &&crate::analysis::Cell| {
        let r2 = context.analysis.score(cell, on_all("r2")).value?;
        point(r2, at_equal(context.analysis, first?, cell, metric, Given::R2)?)
    };
    // A series for each point: its interval is a bar.
    let bars = cells.iter().filter_map(place).map(|point| Series {
        look: DIFFERENCE,
        points: vec![point],
        joined: false,
        spread: Spread::Band,
    });
    let y = Axis::new("ΔCE_rec at equal R²", Scale::Linear);
    Panel::new(String::new(), Axis::new("R²", Scale::Linear), y, bars.collect()).rule(Rule::Level(0.0))
}
