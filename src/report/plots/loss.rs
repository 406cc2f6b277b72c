//! Loss while training.

use super::{Context, Plot};
use crate::report::figure::{
    Axis, DARK, Figure, Key, Look, Marker, Panel, Point, Scale, Series, Spread, model_color, shade,
};

/// Points in all lines together: a committed figure stays small.
const POINTS: usize = 5400;

/// A row a depth, a column per model, a line a k; the first seed of the largest budget.
pub fn plot(context: &Context<'_>) -> Plot {
    let seed = context.analysis.grid.seeds().first().copied().unwrap_or_default();
    let lines = context.depths.len() * context.models.len() * context.ks.len();
    let look = |color, k: usize| Look {
        width: 1,
        ..Look::new(shade(color, (k + 1) as f64 / context.ks.len() as f64), Marker::None)
    };
    let mut panels = Vec::new();
    for depth in &context.depths {
        for (at, cells) in context.along_k(depth) {
            let series = cells.iter().filter_map(|cell| {
                let run = context.analysis.runs(cell).find(|r| r.seed == seed)?;
                let rank = context.ks.iter().position(|k| *k == cell.k)?;
                let points = thinned(&run.curve, (POINTS / lines.max(1)).max(20));
                let look = look(model_color(at), rank);
                (!points.is_empty()).then_some(Series { look, points, joined: true, spread: Spread::Band })
            });
            let x = Axis::new("step", Scale::Linear);
            let title = format!("{}, {depth}", context.models[at]);
            panels.push(Panel::new(title, x, Axis::new("loss", Scale::Log), series.collect()));
        }
    }
    let key = |(at, k): (usize, &u64)| Key::line(format!("k = {k}"), Look { width: 3, ..look(DARK, at) });
    Plot {
        figure: Figure {
            title: "Reconstruction loss while training".to_owned(),
            subtitle: context.subtitle(),
            legend: context.ks.iter().enumerate().map(key).collect(),
            columns: context.models.len().max(1),
            panel: (330, 190),
            panels,
        },
        caption: format!(
            "Reconstruction loss of single training batches by step, thinned, a column per model, a row per depth, darker for larger k \
             (seed {seed}, {}). Losses are in each model's own units: compare where lines flatten, not their heights; a line that \
             still falls at the end belongs to an undertrained SAE.",
            context.trained(),
        ),
    }
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
