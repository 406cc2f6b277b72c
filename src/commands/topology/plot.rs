//! The diagram of `assay topology --plot`: bars of dimension 1 beside the nulls' envelopes.

use std::path::Path;

use assay_probes::topology::{AgainstNull, Statistic};

use super::TopologyReport;
use crate::report::figure::{Axis, DARK, Figure, Key, Marker, Panel, Point, Scale, Series, Style};

/// Room below the earliest birth and above the latest death, as a share of what lies between.
const ROOM: f64 = 0.08;
/// Pixels of a panel's side, and steps of a line, which so ends at the panel's edge.
const SIDE: u32 = 360;

/// A panel a metric: each bar at its birth and death. Of each null two lines that 95 % of its draws stay below with every bar: a full one for
/// death/birth (pi), a dashed one for death − birth (max).
pub(super) fn figure(cloud: &Path, found: &[TopologyReport]) -> Figure {
    let name = cloud.file_name().unwrap_or(cloud.as_os_str()).to_string_lossy();
    let mut legend = vec![Key::mark("bar of the cloud", BAR)];
    for (at, null) in found.iter().flat_map(|found| &found.audit.nulls).take(nulls(found)).enumerate() {
        legend.push(Key::line(format!("{}, death/birth", null.null), envelope(at, Statistic::Pi)));
        legend.push(Key::line(format!("{}, death − birth", null.null), envelope(at, Statistic::Max)));
    }
    let subtitle = if nulls(found) == 0 {
        String::new()
    } else {
        "of 95 % of a null's draws no bar lies above the null's line".to_owned()
    };
    let panels = found.iter().map(panel).collect();
    Figure {
        subtitle,
        panel: (SIDE, SIDE),
        ..Figure::new(format!("Loops of {name}: bars of dimension 1"), legend, panels)
    }
}

const BAR: Style = Style::new(DARK, Marker::Circle);

/// Every metric has the same nulls.
fn nulls(found: &[TopologyReport]) -> usize {
    found.first().map_or(0, |found| found.audit.nulls.len())
}

fn envelope(null: usize, statistic: Statistic) -> Style {
    let look = Style { marker: Marker::None, ..Style::of_model(null) };
    Style { dashed: statistic == Statistic::Max, ..look }
}

fn panel(found: &TopologyReport) -> Panel {
    let bars = found.audit.diagram.finite(1);
    let births = bars.iter().map(|(birth, _)| *birth);
    let (low, high) = (births.fold(f64::INFINITY, f64::min), bars.iter().map(|(_, death)| *death).fold(0.0, f64::max));
    let axis = |label: &str, range| Axis { range: Some(range), ..Axis::new(label, Scale::Linear) };
    let never = found.audit.diagram.bars.get(1).into_iter().flatten().filter(|bar| bar.death.is_none()).count();
    let title = match never {
        0 => format!("{}: {} bars", found.metric, bars.len()),
        _ => format!("{}: {} bars, {never} that live on", found.metric, bars.len()),
    };
    if bars.is_empty() {
        return Panel::new(title, axis("birth", (0.0, 1.0)), axis("death", (0.0, 1.0)), Vec::new());
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
    for (at, null) in found.audit.nulls.iter().enumerate() {
        if let Some(pi) = upper(null, Statistic::Pi) {
            series.push(line(envelope(at, Statistic::Pi), &|birth| birth * pi));
        }
        if let Some(max) = upper(null, Statistic::Max) {
            series.push(line(envelope(at, Statistic::Max), &|birth| birth + max));
        }
    }
    series.push(Series::marks(BAR, bars.iter().map(|&(birth, death)| Point::new(birth, death, None)).collect()));
    Panel::new(title, axis("birth", (low, high)), axis("death", (low, high)), series)
}

/// The 95th percentile of a statistic of a null's draws.
fn upper(null: &AgainstNull, statistic: Statistic) -> Option<f64> {
    null.tests.iter().find(|test| test.statistic == statistic).map(|test| test.null[2])
}
