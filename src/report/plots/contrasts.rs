//! What another architecture or objective changes, against the first of the spec.

use super::{Context, Line, Plot, in_rows, point};
use crate::analysis::{Contrast, Differences, contrasts};
use crate::frames::Site;
use crate::report::figure::{
    Axis, DARK, Figure, Key, Marker, Panel, Point, Rule, Scale, Series, Spread, Style, share_y,
};

/// A difference of a contrast.
type DifferenceOf = fn(&Contrast<'_>) -> Differences;

const DIFFERENCES: [(&str, DifferenceOf); 3] = [("ΔR²", |c| c.r2), ("ΔCE_rec", |c| c.ce_rec), ("ΔKL", |c| c.kl)];

/// Against the measured L0, a column per depth, a row per difference (and kind of hook), a line per model and later class; empty with
/// one class.
pub fn plot(context: &Context<'_>) -> Plot {
    let (analysis, names) = (context.analysis, &context.analysis.names);
    let classes = analysis.grid.classes();
    let of_budget = |c: &Contrast<'_>| c.cell.budget == context.budget && Some(&c.against) == classes.first();
    let found: Vec<Contrast<'_>> = contrasts(analysis).into_iter().filter(of_budget).collect();
    let is_of = |contrast: &Contrast<'_>, line: &Line| {
        contrast.cell.model == line.model && contrast.cell.setting.is_of(&line.class)
    };
    // A class whose L0 lies beyond what was measured of the first at every setting has no line.
    let later = || context.lines.iter().filter(|line| found.iter().any(|contrast| is_of(contrast, line)));
    let mut rows = Vec::new();
    for (label, of) in DIFFERENCES {
        for sites in &context.sites {
            let panel = |site: &Site| {
                let lines = later().map(|line| {
                    let mut points = Vec::new();
                    for contrast in &found {
                        let cell = contrast.cell;
                        if cell.site == *site && is_of(contrast, line) {
                            let Differences { at_l0, at_k } = of(contrast);
                            let shown = at_l0.map(|score| (score, false)).or(at_k.map(|score| (score, true)));
                            let place = contrast.l0.value.zip(shown);
                            points.extend(
                                place.and_then(|(x, (score, hollow))| Some(Point { hollow, ..point(x, score)? })),
                            );
                        }
                    }
                    points.sort_by(|a, b| a.x.total_cmp(&b.x));
                    Series { look: line.look, points, joined: true, spread: Spread::Band }
                });
                let title = format!("{label}, {}", names.site(site));
                let y = Axis::new(label, Scale::Linear);
                Panel::new(title, context.l0_axis(), y, lines.collect()).rule(Rule::Level(0.0))
            };
            let mut row: Vec<Panel> = sites.iter().map(panel).collect();
            share_y(&mut row);
            rows.push(row);
        }
    }
    let (columns, panels) = in_rows(rows);
    let first = classes.first().map_or_else(String::new, |class| names.class(class));
    let what = names.classes().unwrap_or("architecture").replace(", ", " and ");
    let mut legend: Vec<Key> =
        later().map(|line| Key::line(names.series(&line.model, &line.class), line.look)).collect();
    let is_hollow = |c: &Contrast<'_>| DIFFERENCES.iter().any(|(_, of)| of(c).at_l0.is_none() && of(c).at_k.is_some());
    if found.iter().any(is_hollow) {
        let look = Style::new(DARK, Marker::Circle);
        legend.push(Key { hollow: true, ..Key::mark("at equal k", look) });
    }
    let panels = if found.is_empty() { Vec::new() } else { panels };
    Plot {
        figure: Figure {
            title: format!("Differences from {first} at equal L0"),
            subtitle: context.subtitle(),
            legend,
            columns,
            panel: (330, 190),
            panels,
        },
        caption: format!(
            "ΔR², ΔCE_rec (pooled) and ΔKL (nats per token) of each {what}, minus that of {first}, at one model, depth, budget and L0, against that L0 ({}, {}); {}. A \
             hollow point is at equal k instead: its L0 lies beyond what was measured of {first}. What has neither is left out. Where R² falls and KL falls too, the two name different SAEs as the better one. \
             The rows have different units, so their heights can't be compared.",
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}
