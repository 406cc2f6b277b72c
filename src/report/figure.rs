//! Figures as data, and how they become SVG and PNG. What a report's figures show is the business of `plots`.

mod axis;
mod canvas;
mod draw;
mod layout;
mod look;
mod png;

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use assay_probes::stats::Interval;
use plotters::prelude::{BitMapBackend, IntoDrawingArea, SVGBackend};

use crate::files::write_atomic;

pub use axis::{Axis, Scale};
pub use look::{DARK, Marker, PURPLE, Style, model_color, shade};

/// A mark of a series.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Where, as the axes count.
    pub x: f64,
    /// Where, as the axes count.
    pub y: f64,
    /// What [`Spread`] draws; its ends may be infinite.
    pub interval: Option<Interval>,
    /// Instead of the series' own.
    pub marker: Option<Marker>,
    /// Only its outline is drawn.
    pub hollow: bool,
}

impl Point {
    /// A point with an interval or without.
    pub fn new(x: f64, y: f64, interval: Option<Interval>) -> Self {
        Self { x, y, interval, marker: None, hollow: false }
    }
}

/// How the intervals of a series are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// A shaded band between points; a bar where a point has no neighbour.
    Band,
    /// A vertical bar at each point.
    Bars,
    /// A horizontal bar at each point: the interval is one of x.
    Across,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its colour, marker and dash.
    pub look: Style,
    /// Its points, in the order in which a line joins them.
    pub points: Vec<Point>,
    /// Whether a line joins them.
    pub joined: bool,
    /// How its intervals are drawn.
    pub spread: Spread,
}

impl Series {
    /// Points alone.
    pub fn marks(look: Style, points: Vec<Point>) -> Self {
        Self { look, points, joined: false, spread: Spread::Band }
    }

    /// Points that a line joins, their intervals as a band about it.
    pub fn line(look: Style, points: Vec<Point>) -> Self {
        Self { joined: true, ..Self::marks(look, points) }
    }

    /// The same with a bar at each point, for lines that may turn back, about which there is no band.
    pub fn path(look: Style, points: Vec<Point>) -> Self {
        Self { spread: Spread::Bars, ..Self::line(look, points) }
    }
}

/// A reference line.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// At this y.
    Level(f64),
    /// At this x.
    Upright(f64),
}

/// A pair of axes and what is drawn between them.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Reference lines, which both axes make room for.
    pub rules: Vec<Rule>,
    /// What is drawn.
    pub series: Vec<Series>,
}

impl Panel {
    /// A panel without reference lines.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { title: title.into(), x, y, rules: Vec::new(), series }
    }

    /// A place that stays empty.
    pub fn blank() -> Self {
        let axis = || Axis { bare: true, ..Axis::new("", Scale::Linear) };
        Self::new("", axis(), axis(), Vec::new())
    }

    fn is_blank(&self) -> bool {
        self.title.is_empty() && self.series.is_empty() && self.rules.is_empty()
    }

    /// With a reference line.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|s| &s.points)
    }
}

/// An entry of the legend.
#[derive(Clone, Debug)]
pub struct Key {
    /// What it says.
    pub label: String,
    /// What it looks like.
    pub look: Style,
    /// Whether it is a line, too.
    pub joined: bool,
    /// Whether its marker is an outline.
    pub hollow: bool,
}

impl Key {
    /// Of a series with a line.
    pub fn line(label: impl Into<String>, look: Style) -> Self {
        Self { label: label.into(), look, joined: true, hollow: false }
    }

    /// Of points alone.
    pub fn mark(label: impl Into<String>, look: Style) -> Self {
        Self { joined: false, ..Self::line(label, look) }
    }
}

/// Panels under one title and legend.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Above all.
    pub title: String,
    /// Below the title, smaller; none if empty.
    pub subtitle: String,
    /// The legend: above the panels, where it covers no data.
    pub legend: Vec<Key>,
    /// Panels in a row.
    pub columns: usize,
    /// Width and height between the axes of a panel, in pixels.
    pub panel: (u32, u32),
    /// Row by row.
    pub panels: Vec<Panel>,
}

impl Figure {
    /// Panels side by side, with a legend.
    pub fn new(title: impl Into<String>, legend: Vec<Key>, panels: Vec<Panel>) -> Self {
        Self {
            title: title.into(),
            subtitle: String::new(),
            legend,
            columns: panels.len().max(1),
            panel: (330, 230),
            panels,
        }
    }

    /// Whether there is nothing to see: no panel has two points, or one beside a reference line.
    pub fn is_empty(&self) -> bool {
        let shows = |panel: &Panel| {
            let points = panel.points().count();
            points > 1 || points == 1 && !panel.rules.is_empty()
        };
        !self.panels.iter().any(shows)
    }

    /// The figure as SVG.
    ///
    /// # Errors
    /// If it can't be drawn.
    pub fn svg(&self) -> Result<String> {
        canvas::register_font();
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, layout::Layout::of(self).size).into_drawing_area();
        draw::draw(&area, self).with_context(|| format!("cannot draw {}", self.title))?;
        drop(area);
        Ok(text)
    }

    /// Writes `{stem}.svg` and `{stem}.png`, and returns the former's text.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn save(&self, dir: &Path, stem: &str) -> Result<String> {
        canvas::register_font();
        let size = layout::Layout::of(self).size;
        let at = |extension: &str| dir.join(format!("{stem}.{extension}"));
        let write = |extension: &str, bytes: &[u8]| {
            write_atomic(&at(extension), bytes).with_context(|| format!("cannot write {stem}.{extension}"))
        };
        let svg = self.svg()?;
        write("svg", svg.as_bytes())?;
        let mut pixels = vec![0; 3 * size.0 as usize * size.1 as usize];
        draw::draw(&BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area(), self)
            .with_context(|| format!("cannot draw {stem}"))?;
        let image = png::encode(&pixels, size).map_err(|e| anyhow!("cannot encode {stem}.png: {e}"))?;
        write("png", &image)?;
        Ok(svg)
    }
}

/// Gives panels that are to be compared the same vertical axis, and all but the first of them no labels on it.
pub fn share_y(panels: &mut [Panel]) {
    let range = axis::union(panels.iter().map(Panel::y_range));
    for (at, panel) in panels.iter_mut().enumerate() {
        panel.y.range = Some(range);
        panel.y.bare = at > 0;
    }
}

/// Gives panels that are to be compared the same horizontal axis.
pub fn share_x(panels: &mut [Panel]) {
    align_x(panels.iter_mut());
}

/// The same for panels that do not lie side by side.
pub fn align_x<'a>(panels: impl IntoIterator<Item = &'a mut Panel>) {
    let panels: Vec<&mut Panel> = panels.into_iter().collect();
    let range = axis::union(panels.iter().filter(|p| p.points().next().is_some()).map(|p| p.x_range()));
    panels.into_iter().for_each(|panel| panel.x.range = Some(range));
}

/// Gives panels the same vertical axis, each with its labels; they must have the same scale.
pub fn align_y<'a>(panels: impl IntoIterator<Item = &'a mut Panel>) {
    let panels: Vec<&mut Panel> = panels.into_iter().collect();
    let range = axis::union(panels.iter().filter(|p| p.points().next().is_some()).map(|p| p.y_range()));
    panels.into_iter().for_each(|panel| panel.y.range = Some(range));
}
