//! How much of the gap is a few directions or a few tokens?

use super::gap::{CE_REC, R2};
use super::{Context, Plot, point};
use crate::analysis::{CONTROLS, Gap, explained};
use crate::report::figure::{Axis, Figure, Key, Look, Panel, Point, Rule, Scale, Series, Spread, share_x};

/// ΔR² as it is and with something taken away, above ΔCE_rec, which nothing is taken from; a panel a k, at the anchor depth.
pub fn plot(context: &Context<'_>) -> Plot {
    let gaps: Vec<&Gap<'_>> =
        context.ks.iter().filter_map(|&k| context.gap(&context.anchor, context.budget, k)).collect();
    // Rows of at most four, as full as they can be.
    let columns = gaps.len().div_ceil(gaps.len().div_ceil(4).max(1)).max(1);
    let plain = |look: Look| Look { dashed: false, ..look };
    let panel = |(at, gap): (usize, &&Gap<'_>)| {
        let row = |(row, score)| -> Option<Point> {
            let point: Point = point(-(row as f64), score)?;
            Some(Point { x: point.y, y: point.x, ..point })
        };
        let controls = explained(context.analysis, gap.from, gap.to).into_iter().enumerate().filter_map(row).collect();
        let behaviour = row((CONTROLS.len(), gap.ce_rec)).into_iter().collect();
        let series = |look, points| Series { look: plain(look), points, joined: false, spread: Spread::Across };
        let names = CONTROLS
            .iter()
            .map(|c| c.name.replacen("R²", "ΔR²", 1).replace("‖a‖", "norm"))
            .chain(["ΔCE_rec".to_owned()]);
        let mut y = Axis::names(names);
        y.bare = !at.is_multiple_of(columns);
        let x = Axis::new(context.difference(), Scale::Linear);
        let panel =
            Panel::new(format!("k = {}", gap.to.k), x, y, vec![series(R2, controls), series(CE_REC, behaviour)]);
        Panel { stripe: gap.ce_rec.interval.map(|i| (i, CE_REC)), ..panel.rule(Rule::Upright(0.0)) }
    };
    let mut panels: Vec<Panel> = gaps.iter().enumerate().map(panel).collect();
    share_x(&mut panels);
    Plot {
        figure: Figure {
            title: format!("What is left of ΔR² without a few directions or tokens, {}", context.anchor),
            legend: vec![Key::mark("ΔR² under a control", plain(R2)), Key::mark("ΔCE_rec", plain(CE_REC))],
            columns,
            panel: (230, 225),
            panels,
        },
        caption: format!(
            "ΔR² ({}) at depth {} as it is and with something taken away, beside ΔCE_rec, whose interval is shaded; a panel a k ({}, \
             {}); {}. A control that brings ΔR² to the shade makes the two look alike at that k, which explains nothing by itself: their units differ.",
            context.difference(),
            context.anchor,
            context.seeds(),
            context.trained(),
            context.intervals("bars"),
        ),
    }
}
