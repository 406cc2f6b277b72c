//! ΔR² and ΔCE_rec: against k, and against the token budget.

use super::{Context, Plot, in_rows, point};
use crate::analysis::{Gap, Score, on_all};
use crate::frames::{Class, Setting, Site};
use crate::markdown::tokens_text;
use crate::report::figure::{
    Axis, DARK, Figure, Key, Marker, PURPLE, Panel, Rule, Scale, Series, Spread, Style, share_y,
};

/// What both differences look like, in every figure: not like a model.
pub const R2: Style = Style::new(DARK, Marker::Circle);
/// Likewise.
pub const CE_REC: Style = Style::dashed(PURPLE, Marker::Diamond);

fn keys() -> Vec<Key> {
    vec![Key::line("ΔR²", R2), Key::line("ΔCE_rec (pooled)", CE_REC)]
}

/// A difference of a gap.
type DifferenceOf = fn(&Gap<'_>) -> Score;

/// Both differences, each with its look: they have units of their own, so each has an axis of its own.
const DIFFERENCES: [(&str, Style, DifferenceOf); 2] =
    [("ΔR²", R2, |g| g.r2), ("ΔCE_rec", CE_REC, |g| g.behaviours[0].difference)];

/// A difference of some gaps, each at its x, as a line.
fn line(look: Style, of: DifferenceOf, gaps: &[(f64, &Gap<'_>)]) -> Series {
    let points = gaps.iter().filter_map(|(x, gap)| point(*x, of(gap))).collect();
    Series { look, points, joined: true, spread: Spread::Band }
}

/// One difference, of which 0 is none.
fn panel(title: String, label: &str, x: Axis, lines: Vec<Series>) -> Panel {
    Panel::new(title, x, Axis::new(label, Scale::Linear), lines).rule(Rule::Level(0.0))
}

/// Against k, a column per depth, a row per difference (and kind of hook), a line per architecture and objective.
pub fn plot(context: &Context<'_>) -> Plot {
    let names = &context.analysis.names;
    let mut rows = Vec::new();
    for (label, look, of) in DIFFERENCES {
        for sites in &context.sites {
            let of_site = |site: &Site| {
                let of_class = |(at, settings): (usize, &[Setting])| {
                    let gap = |setting| {
                        let gap = context.gap(site, context.budget, setting)?;
                        Some((context.analysis.sparsity(gap.to)?, gap))
                    };
                    let gaps: Vec<_> = settings.iter().filter_map(gap).collect();
                    line(look.of_class(at), of, &gaps)
                };
                let lines = context.settings_by_class().enumerate().map(of_class).collect();
                panel(format!("{label}, {}", names.site(site)), label, context.k_axis(), lines)
            };
            let mut row: Vec<Panel> = sites.iter().map(of_site).collect();
            share_y(&mut row);
            rows.push(row);
        }
    }
    let (columns, panels) = in_rows(rows);
    let classes = context.analysis.grid.classes();
    let of_classes = |key: Key| {
        let named = |(at, class): (usize, &Class)| Key::line(names.series(&key.label, class), key.look.of_class(at));
        classes.iter().enumerate().map(named).collect::<Vec<Key>>()
    };
    Plot {
        figure: Figure {
            title: format!("ΔR² and ΔCE_rec at equal k: {}", context.difference()),
            subtitle: context.subtitle(),
            legend: keys().into_iter().flat_map(of_classes).collect(),
            columns,
            panel: (330, 190),
            panels,
        },
        caption: format!(
            "ΔR² above ΔCE_rec (pooled), {} at equal k and budget ({}, {}); {}. Where one lies above zero and the other below, R² and CE_rec \
             name different SAEs as the better one. The rows have different units, so their heights can't be compared.",
            context.difference(),
            context.seeds(),
            context.trained(),
            context.intervals("bands"),
        ),
    }
}

/// Against the token budget, a column per setting, at the anchor depth: the differences above where there are several models, CE_rec of every model below.
/// Empty where no setting was trained at two budgets.
pub fn by_budget(context: &Context<'_>) -> Plot {
    let budgets = context.analysis.grid.budgets();
    let text = |b: &u64| tokens_text(*b).replace(" tokens", "");
    let axis =
        || Axis::new("training tokens", Scale::Log).marks(budgets.iter().map(|b| (*b as f64, text(b))).collect());
    let several_models = context.models.len() > 1;
    let mut rows: Vec<Vec<Panel>> = Vec::new();
    for site in context.analysis.anchor_sites() {
        let cell = |model: &str, b: u64, setting: &Setting| context.analysis.cell(model, &site, b, setting);
        let trained_twice = |setting: &&Setting| {
            let any = |b: &&u64| context.models.iter().any(|m| cell(m, **b, setting).is_some());
            budgets.iter().filter(any).count() >= 2
        };
        for settings in context.settings_by_class() {
            let settings: Vec<&Setting> = settings.iter().filter(trained_twice).collect();
            for (label, look, of) in DIFFERENCES.into_iter().filter(|_| several_models) {
                let of_setting = |setting: &&Setting| {
                    let at = |&b: &u64| Some((b as f64, context.gap(&site, b, setting)?));
                    let gaps: Vec<_> = budgets.iter().filter_map(at).collect();
                    let title = format!("{label}, {}", context.panel_title(&site, setting));
                    panel(title, label, axis(), vec![line(look, of, &gaps)])
                };
                rows.push(settings.iter().map(of_setting).collect());
            }
            let of_setting = |setting: &&Setting| {
                let series = context.models.iter().enumerate().map(|(i, model)| {
                    let at = |&b: &u64| {
                        point(b as f64, context.analysis.score(cell(model, b, setting)?, on_all("ce_rec_pooled")))
                    };
                    let points = budgets.iter().filter_map(at).collect();
                    Series { look: Style::of_model(i), points, joined: true, spread: Spread::Band }
                });
                let title = format!("CE_rec, {}", context.panel_title(&site, setting));
                Panel::new(title, axis(), Axis::new("CE_rec", Scale::Linear), series.collect())
            };
            rows.push(settings.iter().map(of_setting).collect());
        }
    }
    rows.iter_mut().for_each(|row| share_y(row));
    let (columns, panels) = in_rows(rows);
    let (seeds, bands, anchor) = (context.seeds(), context.intervals("bands"), &context.anchor);
    let schedule =
        "A learning-rate schedule that ends with the budget makes each point a run of its own, not a moment of one.";
    let (title, legend, caption) = if several_models {
        let caption = format!(
            "ΔR² and ΔCE_rec ({}) against training tokens at depth {anchor}, a column per k; below, CE_rec of each model ({seeds}); {bands}. CE_rec is pooled. \
             Budgets are equal in tokens, so that an SAE with more latents is the less trained one. {schedule}",
            context.difference(),
        );
        ("ΔR² and ΔCE_rec", [keys(), context.model_keys()].concat(), caption)
    } else {
        let caption = format!(
            "CE_rec (pooled) against training tokens at depth {anchor}, a column per k, a row per class where there are several ({seeds}); {bands}. {schedule}"
        );
        ("CE_rec", context.model_keys(), caption)
    };
    Plot {
        figure: Figure {
            title: format!("{title} against training tokens, {anchor}"),
            subtitle: context.subtitle_of(&budgets),
            legend,
            columns,
            panel: if columns > 4 { (220, 200) } else { (300, 210) },
            panels,
        },
        caption,
    }
}
