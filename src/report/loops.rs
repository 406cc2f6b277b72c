//! Diagrams of loops: bars of dimension 1 beside the nulls' envelopes.

use super::figure::{Axis, DARK, Figure, Key, Marker, Panel, Point, Scale, Series, Style};

/// A cloud's bars of dimension 1 in one metric, and how far those of nulls reach.
pub struct LoopPanel {
    /// Of what.
    pub title: String,
    /// The metric, where the title does not say it.
    pub metric: Option<String>,
    /// Birth, and death unless the bar lives on.
    pub bars: Vec<(f64, Option<f64>)>,
    /// Of each null; the same nulls in all panels of a figure.
    pub envelopes: Vec<Envelope>,
}

/// What 95 % of a null's draws stay below with every bar.
pub struct Envelope {
    /// The null.
    pub null: String,
    /// In death/birth.
    pub pi: Option<f64>,
    /// In death − birth.
    pub max: Option<f64>,
}

/// Which of an envelope's lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Pi,
    Max,
}

/// Room below the earliest birth and above the latest death, as a share of what lies between.
const ROOM: f64 = 0.08;
/// Pixels of a panel's side, and steps of a line, which so ends at the panel's edge.
const SIDE: u32 = 360;
/// Panels beside each other.
const COLUMNS: usize = 3;
const BAR: Style = Style::new(DARK, Marker::Circle);

/// Each bar at its birth and death. Of each null two lines that 95 % of its draws stay below with every bar: a full one for death/birth (pi), a
/// dashed one for death − birth (max).
pub fn figure(title: String, panels: &[LoopPanel]) -> Figure {
    let envelopes = panels.first().map_or(&[][..], |panel| &panel.envelopes);
    let mut legend = vec![Key::mark("bar of the cloud", BAR)];
    for (at, envelope) in envelopes.iter().enumerate() {
        legend.push(Key::line(format!("{}, death/birth", envelope.null), look(at, Line::Pi)));
        legend.push(Key::line(format!("{}, death − birth", envelope.null), look(at, Line::Max)));
    }
    let subtitle = if envelopes.is_empty() {
        String::new()
    } else {
        "of 95 % of a null's draws no bar lies above the null's line".to_owned()
    };
    let columns = panels.len().clamp(1, COLUMNS);
    let panels = panels.iter().map(panel).collect();
    Figure { subtitle, panel: (SIDE, SIDE), columns, ..Figure::new(title, legend, panels) }
}

fn look(null: usize, line: Line) -> Style {
    let look = Style { marker: Marker::None, ..Style::of_model(null) };
    Style { dashed: line == Line::Max, ..look }
}

fn panel(LoopPanel { title, metric, bars, envelopes }: &LoopPanel) -> Panel {
    let never = bars.iter().filter(|(_, death)| death.is_none()).count();
    let bars: Vec<(f64, f64)> = bars.iter().filter_map(|&(birth, death)| Some((birth, death?))).collect();
    let births = bars.iter().map(|(birth, _)| *birth);
    let (low, high) = (births.fold(f64::INFINITY, f64::min), bars.iter().map(|(_, death)| *death).fold(0.0, f64::max));
    let axis = |label: &str, range| Axis { range: Some(range), ..Axis::new(label, Scale::Linear) };
    let title = match never {
        0 => format!("{title}: {} bars", bars.len()),
        _ => format!("{title}: {} bars, {never} that live on", bars.len()),
    };
    let birth = metric.as_ref().map_or_else(|| "birth".to_owned(), |metric| format!("birth, {metric}"));
    if bars.is_empty() {
        return Panel::new(title, axis(&birth, (0.0, 1.0)), axis("death", (0.0, 1.0)), Vec::new());
    }
    let room = (high - low) * ROOM;
    let (low, high) = ((low - room).max(0.0), high + room);
    // Along death = of(birth) as far as it lies in the panel.
    let line = |look: Style, of: &dyn Fn(f64) -> f64| {
        let steps = (0..=SIDE).map(|step| low + (high - low) * f64::from(step) / f64::from(SIDE));
        let points = steps.map(|birth| Point::new(birth, of(birth), None));
        Series::line(look, points.filter(|point| point.y <= high).collect())
    };
    let diagonal = Style { width: 1, ..Style::new(DARK, Marker::None) };
    let mut series = vec![line(diagonal, &|birth| birth)];
    for (at, envelope) in envelopes.iter().enumerate() {
        if let Some(pi) = envelope.pi {
            series.push(line(look(at, Line::Pi), &|birth| birth * pi));
        }
        if let Some(max) = envelope.max {
            series.push(line(look(at, Line::Max), &|birth| birth + max));
        }
    }
    series.push(Series::marks(BAR, bars.iter().map(|&(birth, death)| Point::new(birth, death, None)).collect()));
    Panel::new(title, axis(&birth, (low, high)), axis("death", (low, high)), series)
}
