//! How many active latents a target of CE_rec takes.

use assay_probes::stats::{Between, Interval, KStar};

use super::{Context, Plot, dodge, in_rows};
use crate::analysis::{TARGETS, Threshold, thresholds};
use crate::frames::Site;
use crate::report::figure::{Axis, DARK, Figure, Key, Marker, Panel, Point, Series, Spread, Style};

/// One panel per depth, one row per target, one point per model.
pub fn plot(context: &Context<'_>) -> Plot {
    let (first, last) = context.sparsities();
    // A place beyond the largest k for what is never reached.
    let never = last * (last / first).powf(0.22).max(1.3);
    let thresholds = thresholds(context.analysis, Between::Log);
    // Targets that some model reaches somewhere.
    let reached = |t: &&Threshold| t.budget == context.budget && t.k_star != Some(KStar::Never);
    let targets: Vec<f64> =
        TARGETS.into_iter().filter(|target| thresholds.iter().filter(reached).any(|t| t.target == *target)).collect();
    let lines = context.lines.len();
    let step = if lines > 3 { 0.72 / lines as f64 } else { 0.24 };
    let panel = |(column, site): (usize, &Site)| {
        let series = context.lines.iter().enumerate().map(|(i, line)| {
            let points = targets.iter().enumerate().filter_map(|(row, target)| {
                let of = |t: &&Threshold| {
                    (&t.model, &t.class, &t.site) == (&line.model, &line.class, site)
                        && t.budget == context.budget
                        && t.target == *target
                };
                let y = -(row as f64) - dodge(i, lines, step);
                point(thresholds.iter().find(of)?, y, first, never)
            });
            let points = points.collect();
            Series { look: line.look, points, joined: false, spread: Spread::Across }
        });
        let mut marks = context.k_marks();
        marks.push((never, "never".to_owned()));
        let mut y = Axis::names(targets.iter().map(|t| format!("{t:.2}")));
        y.label = "target CE_rec".to_owned();
        y.bare = column > 0;
        Panel::new(context.analysis.names.site(site), context.k_axis().marks(marks), y, series.collect())
    };
    let row = |sites: &Vec<Site>| sites.iter().enumerate().map(panel).collect::<Vec<Panel>>();
    let (columns, panels) = in_rows(context.sites.iter().map(row).collect());
    let mut legend: Vec<Key> = context.line_keys();
    legend.iter_mut().for_each(|key| key.joined = false);
    let marks = [("≤ the smallest k", Marker::Left), ("never on this grid", Marker::Right)];
    legend.extend(marks.map(|(label, marker)| Key::mark(label, Style::new(DARK, marker))));
    Plot {
        figure: Figure {
            title: "k*: active latents that a target of CE_rec takes".to_owned(),
            subtitle: context.subtitle(),
            legend,
            columns,
            panel: (330, (targets.len().max(1) * (16 + 12 * lines.max(1))) as u32),
            panels,
        },
        caption: format!(
            "k\\*(t), the smallest k at which the pooled CE_rec reaches t, linear in ln k between the grid's k, by {}, a panel per depth ({}, {}); {}. \
             A mark that points left is an upper bound, one that points right means that no k of the grid reaches t, and an interval that reaches “never” has no \
             upper end.",
            context.per_line(),
            context.seeds(),
            context.trained(),
            context.intervals("bars"),
        ),
    }
}

/// Where a threshold is shown; what lies outside of the grid has a place at its edges.
fn point(threshold: &Threshold, y: f64, first: f64, never: f64) -> Option<Point> {
    let shown = |k: f64| k.clamp(first, never);
    let (x, marker) = match threshold.k_star? {
        KStar::AtMost(k) => (shown(k), Some(Marker::Left)),
        KStar::At(k) => (shown(k), None),
        KStar::Never => (never, Some(Marker::Right)),
    };
    let interval = threshold.score.interval.map(|i| Interval { low: shown(i.low), high: shown(i.high) });
    Some(Point { marker, ..Point::new(x, y, interval.filter(|i| i.low < i.high)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Score;
    use crate::frames::Setting;

    #[test]
    fn what_is_never_reached_has_a_place() {
        let threshold = |k: f64, low: f64, high: f64| Threshold {
            model: String::new(),
            site: Site::resid_post("mid"),
            class: Setting::topk(8).class(),
            budget: 0,
            target: 0.9,
            smallest: 8.0,
            k_star: Some(KStar::from_f64(k, 8.0)),
            score: Score { value: Some(k), interval: Some(Interval { low, high }), ..Score::default() },
        };
        let shown = |t: &Threshold| point(t, 0.0, 8.0, 100.0).map(|p| (p.x, p.marker, p.interval)).unwrap();
        let until = |low, high| Some(Interval { low, high });
        let infinity = f64::INFINITY;
        assert_eq!(shown(&threshold(infinity, 20.0, infinity)), (100.0, Some(Marker::Right), until(20.0, 100.0)));
        assert_eq!(shown(&threshold(infinity, infinity, infinity)), (100.0, Some(Marker::Right), None));
        assert_eq!(shown(&threshold(8.0, 8.0, 12.0)), (8.0, Some(Marker::Left), until(8.0, 12.0)));
        assert_eq!(shown(&threshold(20.0, 10.0, infinity)), (20.0, None, until(10.0, 100.0)));
    }
}
