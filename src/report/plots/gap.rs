//! ΔR² and ΔCE_rec: against k, and against the token budget.

use super::{Context, Plot, point};
use crate::analysis::{Gap, Score, on_all};
use crate::markdown::tokens_text;
use crate::report::figure::{
    Axis, DARK, Figure, Key, Look, Marker, PURPLE, Panel, Rule, Scale, Series, Spread, share_y,
};

/// What both differences look like, in every figure: not like a model.
pub const R2: Look = Look::new(DARK, Marker::Circle);
/// Likewise.
pub const CE_REC: Look = Look::dashed(PURPLE, Marker::Diamond);

fn keys() -> Vec<Key> {
    vec![Key::line("ΔR²", R2), Key::line("ΔCE_rec (pooled)", CE_REC)]
}

/// A difference of a gap.
type Of = fn(&Gap<'_>) -> Score;

/// Both differences, each with its look: they have units of their own, so each has an axis of its own.
const DIFFERENCES: [(&str, Look, Of); 2] = [("ΔR²", R2, |g| g.r2), ("ΔCE_rec", CE_REC, |g| g.behaviours[0].difference)];

/// One difference at the x that each gap has.
fn panel(title: String, label: &str, (look, of): (Look, Of), x: Axis, gaps: &[(f64, &Gap<'_>)]) -> Panel {
    let points = gaps.iter().filter_map(|(x, gap)| point(*x, of(gap))).collect();
    let series = Series { look, points, joined: true, spread: Spread::Band };
    Panel::new(title, x, Axis::new(label, Scale::Linear), vec![series]).rule(Rule::Level(0.0))
}

/// Against k, a column per depth, a row per difference.
pub fn plot(context: &Context<'_>) -> Plot {
    let mut panels = Vec::new();
    for (label, look, of) in DIFFERENCES {
        for depth in &context.depths {
            let at = |&k: &u64| Some((k as f64, context.gap(depth, context.budget, k)?));
            let gaps: Vec<_> = context.ks.iter().filter_map(at).collect();
            panels.push(panel(format!("{label}, {depth}"), label, (look, of), context.k_axis(), &gaps));
        }
    }
    let columns = context.depths.len().max(1);
    panels.chunks_mut(columns).for_each(share_y);
    Plot {
        figure: Figure {
            title: format!("ΔR² and ΔCE_rec at equal k: {}", context.difference()),
            subtitle: context.subtitle(),
            legend: keys(),
            columns,
            panel: (330, 190),
            panels,
        },
        caption: format!(
            "ΔR² above ΔCE_rec (pooled), {} at equal k and budget ({}, {}); {}. Where one lies above zero and the other below, R² names the \
             wrong SAE by this metric. The rows have different units: their heights can't be compared.",
            context.difference(),
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}

/// Against the token budget, a column per k: the differences above, CE_rec of every model below; at the anchor depth.
pub fn by_budget(context: &Context<'_>) -> Plot {
    let grid = context.analysis.grid;
    let budgets = grid.budgets();
    let trained_twice = |&&k: &&u64| {
        let cell =
            |b: &&u64| context.models.iter().any(|m| context.analysis.cell(m, &context.anchor, **b, k).is_some());
        budgets.iter().filter(cell).count() >= 2
    };
    let ks: Vec<u64> = context.ks.iter().filter(trained_twice).copied().collect();
    let text = |b: &u64| tokens_text(*b).replace(" tokens", "");
    let axis =
        || Axis::new("training tokens", Scale::Log).marks(budgets.iter().map(|b| (*b as f64, text(b))).collect());
    let several_models = context.models.len() > 1;
    let mut panels = Vec::new();
    for (label, look, of) in DIFFERENCES.into_iter().filter(|_| several_models) {
        for k in &ks {
            let at = |&b: &u64| Some((b as f64, context.gap(&context.anchor, b, *k)?));
            let gaps: Vec<_> = budgets.iter().filter_map(at).collect();
            panels.push(panel(format!("{label}, k = {k}"), label, (look, of), axis(), &gaps));
        }
    }
    for k in &ks {
        let series = context.models.iter().enumerate().map(|(i, model)| {
            let at = |&b: &u64| {
                let cell = context.analysis.cell(model, &context.anchor, b, *k)?;
                point(b as f64, context.analysis.score(cell, on_all("ce_rec_pooled")))
            };
            let points = budgets.iter().filter_map(at).collect();
            Series { look: Look::of_model(i), points, joined: true, spread: Spread::Band }
        });
        let y = Axis::new("CE_rec", Scale::Linear);
        panels.push(Panel::new(format!("CE_rec, k = {k}"), axis(), y, series.collect()));
    }
    let columns = ks.len().max(1);
    panels.chunks_mut(columns).for_each(share_y);
    Plot {
        figure: Figure {
            title: format!("ΔR² and ΔCE_rec against training tokens, {}", context.anchor),
            subtitle: context.subtitle_of(&budgets),
            legend: if several_models { [keys(), context.model_keys()].concat() } else { context.model_keys() },
            columns,
            panel: if columns > 4 { (220, 200) } else { (300, 210) },
            panels,
        },
        caption: format!(
            "ΔR² and ΔCE_rec ({}) against training tokens at depth {}, a column per k; below, CE_rec of each model ({}); {}. CE_rec is pooled. \
             Budgets are equal in tokens, so that a larger model's SAE, having more latents, is the less trained of the two, and a \
             learning-rate schedule that ends with the budget makes each point a run of its own, not a moment of one.",
            context.difference(),
            context.anchor,
            context.seeds(),
            context.intervals("bands"),
        ),
    }
}
