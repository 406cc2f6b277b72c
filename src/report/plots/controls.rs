//! How much of the gap is a few directions or a few tokens?

use assay_probes::metrics::{Subset, total};

use super::gap::{CE_REC, R2};
use super::{Context, Plot, point};
use crate::analysis::{CONTROLS, Gap, explained};
use crate::frames::RunResult;
use crate::report::figure::{Axis, Figure, Key, Panel, Point, Rule, Scale, Series, Spread, Style, share_x};

/// ΔR² as it is and with something taken away, above ΔCE_rec, which nothing is taken from; a panel per setting, at the
/// anchor depth.
pub fn plot(context: &Context<'_>) -> Plot {
    let sites = context.analysis.anchor_sites();
    let at = |site| context.settings.iter().filter_map(move |s| context.gap(site, context.budget, s));
    let gaps: Vec<&Gap<'_>> = sites.iter().flat_map(at).collect();
    // Rows of at most four, as full as they can be.
    let columns = gaps.len().div_ceil(gaps.len().div_ceil(4).max(1)).max(1);
    // Where no token is an outlier, there is nothing to leave out.
    let outliers = gaps
        .iter()
        .any(|gap| [gap.from, gap.to].into_iter().flat_map(|cell| context.analysis.runs(cell)).any(has_outliers));
    let shown: Vec<usize> =
        (0..CONTROLS.len()).filter(|&at| outliers || CONTROLS[at].quantity().1 != Subset::NoOutlier).collect();
    let plain = |look: Style| Style { dashed: false, ..look };
    let panel = |(at, gap): (usize, &&Gap<'_>)| {
        let row = |(row, score)| -> Option<Point> {
            let point: Point = point(-(row as f64), score)?;
            Some(Point { x: point.y, y: point.x, ..point })
        };
        let scores = explained(context.analysis, gap.from, gap.to);
        let controls = shown.iter().map(|&at| scores[at]).enumerate().filter_map(row).collect();
        let behaviour = row((shown.len(), gap.behaviours[0].difference)).into_iter().collect();
        let series = |look, points| Series { look: plain(look), points, joined: false, spread: Spread::Across };
        let names = shown
            .iter()
            .map(|&at| CONTROLS[at].name.replacen("R²", "ΔR²", 1).replace("‖a‖", "norm"))
            .chain(["ΔCE_rec".to_owned()]);
        let mut y = Axis::names(names);
        y.bare = !at.is_multiple_of(columns);
        let x = Axis::new(context.difference(), Scale::Linear);
        Panel::new(
            context.panel_title(&gap.to.site, &gap.to.setting),
            x,
            y,
            vec![series(R2, controls), series(CE_REC, behaviour)],
        )
        .rule(Rule::Upright(0.0))
    };
    let mut panels: Vec<Panel> = gaps.iter().enumerate().map(panel).collect();
    share_x(&mut panels);
    Plot {
        figure: Figure {
            title: format!("What is left of ΔR² without a few directions or tokens, {}", context.anchor),
            subtitle: context.subtitle(),
            legend: vec![Key::mark("ΔR² under a control", plain(R2)), Key::mark("ΔCE_rec", plain(CE_REC))],
            columns,
            panel: (230, 225),
            panels,
        },
        caption: format!(
            "ΔR² ({}) at depth {} as it is and without some directions or tokens, and the pooled ΔCE_rec below; a panel per k ({}, {}); {}. Compare signs: the \
             units of ΔR² and ΔCE_rec differ.",
            context.difference(),
            context.anchor,
            context.seeds(),
            context.trained(),
            context.intervals("bars"),
        ),
    }
}

/// Whether a token of the evaluation has a norm beyond the outliers' limit.
fn has_outliers(run: &RunResult) -> bool {
    let tokens = total(&run.sequences).map(|sums| sums.tokens);
    tokens[Subset::NoOutlier.index()] < tokens[Subset::All.index()]
}
