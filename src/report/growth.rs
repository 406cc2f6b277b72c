//! How the ratio of a cloud's bars grows with its points, beside nulls.

use assay_probes::stats::Interval;

use super::figure::{Axis, DARK, Figure, Key, Marker, Panel, Point, Scale, Series, Style};

/// π of parts of a cloud in one metric, of the whole, and the same of draws of nulls.
pub struct GrowthPanel {
    /// Of what.
    pub title: String,
    /// The cloud's.
    pub cloud: Line,
    /// Of each null; the same nulls in all panels of a figure.
    pub nulls: Vec<(String, Line)>,
}

/// π by points, from few to many.
pub type Line = Vec<(usize, Interval, f64)>;

/// Pixels of a panel's sides.
const PANEL: (u32, u32) = (420, 300);
/// Panels beside each other.
const COLUMNS: usize = 3;
const CLOUD: Style = Style::new(DARK, Marker::Circle);

/// A line for the cloud and one for each null, a panel a metric.
pub fn figure(title: String, panels: &[GrowthPanel]) -> Figure {
    let nulls = panels.first().map_or(&[][..], |panel| &panel.nulls);
    let mut legend = vec![Key::line("the cloud", CLOUD)];
    legend.extend(nulls.iter().enumerate().map(|(at, (name, _))| Key::line(name, Style::of_model(at))));
    let subtitle = "mean, least and largest of random quarters and halves; of all points the cloud's own, and of draws the median and 5 % to 95 %";
    let columns = panels.len().clamp(1, COLUMNS);
    let panels = panels.iter().map(panel).collect();
    Figure { subtitle: subtitle.to_owned(), panel: PANEL, columns, ..Figure::new(title, legend, panels) }
}

fn panel(GrowthPanel { title, cloud, nulls }: &GrowthPanel) -> Panel {
    let series = |look: Style, line: &Line| {
        let points = line.iter().map(|&(points, interval, pi)| Point::new(points as f64, pi, Some(interval)));
        Series::path(look, points.collect())
    };
    let mut all: Vec<Series> =
        nulls.iter().enumerate().map(|(at, (_, line))| series(Style::of_model(at), line)).collect();
    all.push(series(CLOUD, cloud));
    let marks = cloud.iter().map(|&(points, ..)| (points as f64, points.to_string())).collect();
    let x = Axis::new("points", Scale::Linear).marks(marks);
    Panel::new(title, x, Axis::new("pi, the largest death/birth", Scale::Linear), all)
}
