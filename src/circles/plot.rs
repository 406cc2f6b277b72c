//! Where the texts of each class lie, drawn: in the plane of the classes' means, and along the longest loop.

use std::f64::consts::TAU;

use super::{Case, Circle, Measured, Spread};
use crate::report::figure::{Axis, DARK, Figure, Key, Marker, Panel, Point, Scale, Series, Style};

/// Width and height of a panel: a circle shows as one.
const SIDE: u32 = 360;
/// How much further than the farthest point an axis goes.
const ROOM: f64 = 1.08;

/// A column for each of what was measured: above, texts (outlines) and the means of classes, joined in their order, in the plane of the means'
/// first two principal components, which knows nothing of the order; below, the circular coordinate of the longest loop by class.
pub fn figure(case: &Case, title: String, columns: &[(&str, &Measured)]) -> Figure {
    let legend = case.classes.iter().enumerate();
    let legend = legend.map(|(class, name)| Key::mark(name, Style::of_class_alone(class))).collect();
    let planes = columns.iter().map(|(name, of)| plane(case, name, of));
    let loops = columns.iter().map(|(name, of)| match &of.circle {
        Some(circle) => coordinate(case, name, circle),
        None => Panel::blank(),
    });
    let panels = planes.chain(loops).collect();
    let subtitle = "above, outlines: texts, filled: means of a class, joined in their order; below: each text along the longest loop (0 and 1 are one place)".to_owned();
    Figure { subtitle, columns: columns.len(), panel: (SIDE, SIDE), ..Figure::new(title, legend, panels) }
}

fn plane(case: &Case, name: &str, of: &Measured) -> Panel {
    let Spread { share, texts, means } = &of.spread;
    let at = |row: ndarray::ArrayView1<'_, f64>| Point::new(row[0], row[1], None);
    let of_class = |class: usize| {
        let texts = texts.rows().into_iter().zip(&case.labels).filter(move |(_, label)| **label == class);
        let outlines = texts.map(|(row, _)| Point { hollow: true, ..at(row) });
        Series::marks(Style::of_class_alone(class), outlines.collect())
    };
    let around: Vec<Point> = (0..=case.classes.len()).map(|k| at(means.row(k % case.classes.len()))).collect();
    let mut series: Vec<Series> = (0..case.classes.len()).map(of_class).collect();
    series.push(Series::line(Style::new(DARK, Marker::None), around));
    let mean = |class: usize| Series::marks(Style::of_class_alone(class), vec![at(means.row(class))]);
    series.extend((0..case.classes.len()).map(mean));
    let reach = texts.iter().chain(means).fold(f64::MIN_POSITIVE, |reach, value| reach.max(value.abs())) * ROOM;
    let axis = |component| Axis {
        range: Some((-reach, reach)),
        ..Axis::new(format!("component {component} of the means"), Scale::Linear)
    };
    let title = format!("{name}: {:.0} % of the means' variance", 100.0 * share);
    Panel::new(title, axis(1), axis(2), series)
}

fn coordinate(case: &Case, name: &str, circle: &Circle) -> Panel {
    let classes = case.classes.len();
    let of_class = |class: usize| {
        let angles = circle.angles.iter().zip(&case.labels).filter(move |(_, label)| **label == class);
        let points = angles.map(|(angle, _)| Point::new(class as f64, angle / TAU, None));
        Series::marks(Style::of_class_alone(class), points.map(|point| Point { hollow: true, ..point }).collect())
    };
    // Of a name its first letters: twelve have to stand side by side.
    let short = |name: &String| name.chars().take(3).collect::<String>();
    let marks = case.classes.iter().enumerate().map(|(class, name)| (class as f64, short(name))).collect();
    let across = Axis { range: Some((-0.5, classes as f64 - 0.5)), ..Axis::new("class", Scale::Linear).marks(marks) };
    let up = Axis { range: Some((-0.03, 1.03)), ..Axis::new("coordinate of the longest loop, turns", Scale::Linear) };
    Panel::new(format!("{name}: the longest loop"), across, up, (0..classes).map(of_class).collect())
}
