//! Participation ratio by depth.

use assay_probes::geometry::LayerGeometry;

use super::{Context, Plot};
use crate::report::figure::{Axis, Figure, Panel, Point, Scale, Series, Spread, Style, share_y};

type Ratio = fn(&LayerGeometry) -> Option<f64>;

const RATIOS: [(&str, Ratio); 2] = [("raw", |g| g.pr), ("without top 1", |g| g.pr_deflated_1)];

/// One panel per deflation, one line per model, against relative depth.
pub fn plot(context: &Context<'_>) -> Plot {
    let geometry = &context.analysis.grid.geometry;
    let depths = [(0.0, "0"), (0.5, "0.5"), (1.0, "1")].map(|(at, text)| (at, text.to_owned()));
    let panel = |(title, ratio): (&str, Ratio)| {
        let series = geometry.iter().enumerate().map(|(i, (model, layers))| {
            let point = |g: &LayerGeometry| {
                let depth = (g.layer + 1) as f64 / layers.len() as f64;
                Some(Point::new(depth, ratio(g).filter(|pr| *pr > 0.0)?, None))
            };
            let at = context.models.iter().position(|m| m == model).unwrap_or(i);
            let points = layers.iter().filter_map(point).collect();
            Series { look: Style::of_model(at), points, joined: true, spread: Spread::Band }
        });
        let x = Axis::new("relative depth", Scale::Linear).marks(depths.to_vec());
        Panel::new(title, x, Axis::new("participation ratio", Scale::Log), series.collect())
    };
    let mut panels: Vec<Panel> = RATIOS.into_iter().map(panel).collect();
    share_y(&mut panels);
    Plot {
        figure: Figure {
            title: "Participation ratio of the residual stream after each block".to_owned(),
            subtitle: String::new(),
            legend: context.model_keys(),
            columns: panels.len(),
            panel: (330, 240),
            panels,
        },
        caption: "Participation ratio of hook_resid_post's covariance on the evaluation tokens by relative depth, (layer + 1)/layers, \
                  as it is and without its top eigenvalue, by model; one measurement per model, without seeds or \
                  intervals. Near 1 a single direction holds nearly all variance, and R² says little about anything else; where a dip vanishes \
                  with the first eigenvalue, it came from that one direction."
            .to_owned(),
    }
}
