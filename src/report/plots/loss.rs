//! Loss while training.

use plotters::style::RGBColor;

use super::{Context, Plot};
use crate::frames::{Setting, Site};
use crate::report::figure::{
    Axis, DARK, Figure, Key, Marker, Panel, Point, Scale, Series, Spread, Style, model_color, shade,
};

/// Points in all lines together: a committed figure stays small.
const POINTS: usize = 5400;

/// One row per site, one column per model, one line per setting; the first seed of the largest budget.
pub fn plot(context: &Context<'_>) -> Plot {
    let analysis = context.analysis;
    let seed = analysis.grid.seeds().first().copied().unwrap_or_default();
    let sites: Vec<&Site> = context.sites.iter().flatten().collect();
    let lines = sites.len() * context.models.len() * context.settings.len();
    let mut panels = Vec::new();
    for site in sites {
        for (at, model) in context.models.iter().enumerate() {
            let looks = looks(context, model_color(at));
            let series = context.settings.iter().zip(looks).filter_map(|(setting, look)| {
                let cell = analysis.cell(model, site, analysis.largest_budget_of(model), setting)?;
                let run = analysis.runs(cell).find(|r| r.seed == seed)?;
                let points = thinned(&run.curve, (POINTS / lines.max(1)).max(20));
                (!points.is_empty()).then_some(Series { look, points, joined: true, spread: Spread::Band })
            });
            let x = Axis::new("step", Scale::Linear);
            let title = format!("{model}, {}", analysis.names.site(site));
            panels.push(Panel::new(title, x, Axis::new("loss", Scale::Log), series.collect()));
        }
    }
    let key = |(setting, look): (&Setting, Style)| {
        Key::line(analysis.names.setting_with("k = ", setting), Style { width: 3, ..look })
    };
    Plot {
        figure: Figure {
            title: "Reconstruction loss while training".to_owned(),
            subtitle: context.subtitle(),
            legend: context.settings.iter().zip(looks(context, DARK)).map(key).collect(),
            columns: context.models.len().max(1),
            panel: (330, 190),
            panels,
        },
        caption: format!(
            "Reconstruction loss of single training batches by step, thinned, a column per model, a row per depth, darker for larger k \
             (seed {seed}, {}). Losses are in each model's own units: compare where lines flatten, not their heights; a line that \
             still falls at the end is of an SAE that was not trained to the end.",
            context.trained(),
        ),
    }
}

/// Of each setting, in a colour: its shade, darker for larger k, and its class's dash.
fn looks(context: &Context<'_>, color: RGBColor) -> Vec<Style> {
    let of_class = |(at, settings): (usize, &[Setting])| {
        let shade = |rank: usize| shade(color, (rank + 1) as f64 / settings.len() as f64);
        let look = |rank| Style { width: 1, ..Style::new(shade(rank), Marker::None).of_class(at) };
        (0..settings.len()).map(look).collect::<Vec<Style>>()
    };
    context.settings_by_class().enumerate().flat_map(of_class).collect()
}

/// At most about so many points, the last among them.
fn thinned(curve: &[(u64, f64)], most: usize) -> Vec<Point> {
    let every = curve.len().div_ceil(most).max(1);
    let kept = curve.iter().enumerate().filter(|(at, _)| at % every == 0 || at + 1 == curve.len());
    kept.map(|(_, &(step, loss))| Point::new(step as f64, loss, None)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_both_ends() {
        let curve: Vec<(u64, f64)> = (0..1000).map(|i| (i, 1.0)).collect();
        let points = thinned(&curve, 70);
        assert!(points.len() <= 71);
        assert_eq!((points[0].x, points.last().unwrap().x), (0.0, 999.0));
        assert!(thinned(&[], 70).is_empty());
    }
}
