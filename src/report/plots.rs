//! The plots of a report, each as SVG and PNG.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use assay_probes::stats::Interval;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::FontStyle;

use super::tables::Cells;
use crate::frames::Grid;

/// A point with its interval.
struct Point {
    x: f64,
    y: f64,
    interval: Option<Interval>,
}

struct Line {
    label: String,
    color: RGBColor,
    dashed: bool,
    points: Vec<Point>,
}

struct Panel {
    title: String,
    x_label: String,
    y_label: String,
    /// Where the x axis has its marks, and what they say.
    x_marks: Vec<(f64, String)>,
    /// The y axis shows 10^y.
    log_y: bool,
    /// A horizontal line at zero.
    zero_line: bool,
    lines: Vec<Line>,
}

struct Figure {
    title: String,
    columns: usize,
    panels: Vec<Panel>,
}

/// Okabe and Ito's colours, which colour-blind readers can tell apart.
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const PANEL: (u32, u32) = (430, 330);
const HEAD_HEIGHT: u32 = 68;
const LEGEND_Y: i32 = 52;
const FONT: &str = "sans-serif";

/// Draws what the grid has data for and says what it drew.
///
/// # Errors
/// If a file can't be written.
pub fn write(cells: &Cells<'_>, dir: &Path) -> Result<Vec<String>> {
    register_font();
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut drawn = Vec::new();
    for (name, figure) in [("curves", curves(cells.grid)), ("gap", gap(cells)), ("geometry", geometry(cells.grid))] {
        if figure.panels.iter().all(|p| p.lines.is_empty()) {
            continue;
        }
        let rows = figure.panels.len().div_ceil(figure.columns) as u32;
        let size = (PANEL.0 * figure.columns as u32, PANEL.1 * rows + HEAD_HEIGHT);
        let failed = |e: String| anyhow!("cannot draw {name}: {e}");
        let svg = dir.join(format!("{name}.svg"));
        draw(&SVGBackend::new(&svg, size).into_drawing_area(), &figure).map_err(failed)?;
        let png = dir.join(format!("{name}.png"));
        draw(&BitMapBackend::new(&png, size).into_drawing_area(), &figure).map_err(failed)?;
        drawn.push(name.to_owned());
    }
    Ok(drawn)
}

/// The bitmap backend draws with a font that is in the binary: DejaVu Sans, cut to the characters that plots need.
fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An unusable font would show in every plot; it is ours and tested.
        let _ = plotters::style::register_font(FONT, FontStyle::Normal, include_bytes!("font/DejaVuSans.ttf"));
    });
}

/// The point at k of what several seeds found: their mean; the interval only of a single one.
fn over_seeds(k: u64, found: Vec<(Option<f64>, Option<Interval>)>) -> Option<Point> {
    let values: Vec<f64> = found.iter().filter_map(|(value, _)| *value).collect();
    let interval = if let [(_, interval)] = found[..] { interval } else { None };
    let y = values.iter().sum::<f64>() / values.len() as f64;
    (!values.is_empty()).then_some(Point { x: (k as f64).log2(), y, interval })
}

fn k_marks(grid: &Grid) -> Vec<(f64, String)> {
    grid.ks().iter().map(|&k| ((k as f64).log2(), k.to_string())).collect()
}

/// R² above CE_rec, a column a depth, a line a model, the mean over seeds; intervals where there is one seed.
fn curves(grid: &Grid) -> Figure {
    let budget = grid.budgets().last().copied().unwrap_or_default();
    let mut panels = Vec::new();
    for (name, label) in [("r2", "R²"), ("ce_rec", "CE_rec")] {
        for depth in grid.depths() {
            let mut lines = Vec::new();
            for (i, model) in grid.models().iter().enumerate() {
                let mut points = Vec::new();
                for k in grid.ks() {
                    let runs = grid.seeds().into_iter().filter_map(|s| grid.position(model, &depth, k, s, budget));
                    let found = runs.map(|at| (grid.runs[at].value(name), grid.runs[at].interval(name))).collect();
                    points.extend(over_seeds(k, found));
                }
                if !points.is_empty() {
                    lines.push(Line { label: model.clone(), color: COLORS[i % COLORS.len()], dashed: false, points });
                }
            }
            panels.push(Panel {
                title: format!("{label}, {depth}"),
                x_label: "k (active latents a token)".to_owned(),
                y_label: label.to_owned(),
                x_marks: k_marks(grid),
                log_y: false,
                zero_line: false,
                lines,
            });
        }
    }
    Figure {
        title: "Reconstruction (R²) and behaviour (CE_rec)".to_owned(),
        columns: grid.depths().len().max(1),
        panels,
    }
}

/// ΔR² and ΔCE_rec, a panel a depth, of the last model against the first.
fn gap(cells: &Cells<'_>) -> Figure {
    let grid = cells.grid;
    let models = grid.models();
    let (first, last) = (models.first().cloned().unwrap_or_default(), models.last().cloned().unwrap_or_default());
    let budget = grid.budgets().last().copied().unwrap_or_default();
    let mut panels = Vec::new();
    for depth in grid.depths() {
        let of_depth: Vec<_> = cells
            .gaps
            .iter()
            .filter(|g| {
                g.from.model == first && g.to.model == last && g.to.depth == depth && g.to.training_tokens == budget
            })
            .collect();
        let mut lines = Vec::new();
        for (i, label) in ["ΔR²", "ΔCE_rec"].into_iter().enumerate() {
            let mut points = Vec::new();
            for k in grid.ks() {
                let of_k = of_depth.iter().filter(|g| g.to.k == k);
                points.extend(over_seeds(k, of_k.map(|g| if i == 0 { g.r2 } else { g.ce_rec }).collect()));
            }
            if !points.is_empty() {
                lines.push(Line { label: label.to_owned(), color: COLORS[i], dashed: i == 1, points });
            }
        }
        panels.push(Panel {
            title: depth,
            x_label: "k (active latents a token)".to_owned(),
            y_label: format!("{last} minus {first}"),
            x_marks: k_marks(grid),
            log_y: false,
            zero_line: true,
            lines,
        });
    }
    Figure { title: format!("The proxy gap: {last} against {first} at equal k"), columns: panels.len().max(1), panels }
}

/// Participation ratio by relative depth: raw, and without the top 1 and 4 eigenvalues.
fn geometry(grid: &Grid) -> Figure {
    let mut panels = Vec::new();
    for (title, of) in [
        ("raw", (|g| g.pr) as fn(&assay_probes::geometry::LayerGeometry) -> Option<f64>),
        ("without the top eigenvalue", |g| g.pr_deflated_1),
        ("without the top 4 eigenvalues", |g| g.pr_deflated_4),
    ] {
        let mut lines = Vec::new();
        for (i, (model, layers)) in grid.geometry.iter().enumerate() {
            let points: Vec<Point> = layers
                .iter()
                .filter_map(|g| {
                    let y = of(g).filter(|v| *v > 0.0)?.log10();
                    Some(Point { x: (g.layer + 1) as f64 / layers.len() as f64, y, interval: None })
                })
                .collect();
            if !points.is_empty() {
                lines.push(Line { label: model.clone(), color: COLORS[i % COLORS.len()], dashed: false, points });
            }
        }
        panels.push(Panel {
            title: title.to_owned(),
            x_label: "relative depth, (layer + 1) / layers".to_owned(),
            y_label: "participation ratio".to_owned(),
            x_marks: [0.0, 0.25, 0.5, 0.75, 1.0].map(|x| (x, x.to_string())).to_vec(),
            log_y: true,
            zero_line: false,
            lines,
        });
    }
    Figure { title: "Participation ratio of hook_resid_post".to_owned(), columns: 3, panels }
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, figure: &Figure) -> std::result::Result<(), String> {
    let text = |e: DrawingAreaErrorKind<B::ErrorType>| e.to_string();
    area.fill(&WHITE).map_err(text)?;
    let (head, body) = area.split_vertically(HEAD_HEIGHT);
    draw_head(&head, figure).map_err(text)?;
    let rows = figure.panels.len().div_ceil(figure.columns);
    for (panel, area) in figure.panels.iter().zip(body.split_evenly((rows, figure.columns))) {
        draw_panel(&area, panel).map_err(text)?;
    }
    area.present().map_err(text)
}

/// The title, and under it what each colour is: beside the panels, where it covers no data.
fn draw_head<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    figure: &Figure,
) -> std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let middle = area.dim_in_pixel().0 as i32 / 2;
    let centred = TextStyle::from((FONT, 20).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
    area.draw(&Text::new(figure.title.clone(), (middle, 10), centred))?;
    let Some(panel) = figure.panels.iter().max_by_key(|p| p.lines.len()) else { return Ok(()) };
    // About 8 pixels a character at this size, and room for the stroke before each label.
    let widths: Vec<i32> = panel.lines.iter().map(|l| 52 + 8 * l.label.chars().count() as i32).collect();
    let mut x = middle - widths.iter().sum::<i32>() / 2;
    let style = TextStyle::from((FONT, 14).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    for (line, width) in panel.lines.iter().zip(widths) {
        let strokes = if line.dashed { vec![(0, 8), (14, 22)] } else { vec![(0, 22)] };
        for (from, to) in strokes {
            let ends = vec![(x + from, LEGEND_Y), (x + to, LEGEND_Y)];
            area.draw(&PathElement::new(ends, line.color.stroke_width(3)))?;
        }
        area.draw(&Text::new(line.label.clone(), (x + 30, LEGEND_Y), style.clone()))?;
        x += width;
    }
    Ok(())
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panel: &Panel,
) -> std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (x_low, x_high) = padded(panel.x_marks.iter().map(|(x, _)| *x), 0.08);
    let ends = panel.lines.iter().flat_map(|l| &l.points).flat_map(|p| {
        let (low, high) = p.interval.map_or((p.y, p.y), |i| (i.low, i.high));
        [low, high, p.y]
    });
    let (y_low, y_high) = padded(ends.chain(panel.zero_line.then_some(0.0)), 0.08);
    let y_marks = if panel.log_y { log_marks(y_low, y_high) } else { linear_marks(y_low, y_high) };
    let y_axis = MarkedAxis { low: y_low, high: y_high, marks: y_marks };
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 16))
        .margin(8)
        .margin_right(14)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(MarkedAxis { low: x_low, high: x_high, marks: panel.x_marks.clone() }, y_axis)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc(&panel.x_label)
        .y_desc(&panel.y_label)
        .axis_desc_style((FONT, 14))
        .label_style((FONT, 13))
        .draw()?;
    if panel.zero_line {
        chart
            .draw_series(std::iter::once(PathElement::new(vec![(x_low, 0.0), (x_high, 0.0)], BLACK.stroke_width(1))))?;
    }
    let count = panel.lines.len() as f64;
    for (i, line) in panel.lines.iter().enumerate() {
        // Lines stand a little apart, so that their error bars don't cover each other.
        let shift = (i as f64 - (count - 1.0) / 2.0) * 0.012 * (x_high - x_low);
        let points: Vec<(f64, f64)> = line.points.iter().map(|p| (p.x + shift, p.y)).collect();
        let color = line.color;
        let style = color.stroke_width(2);
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?;
        } else {
            chart.draw_series(LineSeries::new(points.clone(), style))?;
        }
        chart.draw_series(points.iter().map(|&at| Circle::new(at, 3, color.filled())))?;
        let bars = line.points.iter().filter_map(|p| p.interval.map(|i| (p.x + shift, i.low, p.y, i.high)));
        chart.draw_series(bars.map(|(x, low, y, high)| ErrorBar::new_vertical(x, low, y, high, color.filled(), 7)))?;
    }
    Ok(())
}

/// An axis whose marks, and what they say, are given.
struct MarkedAxis {
    low: f64,
    high: f64,
    marks: Vec<(f64, String)>,
}

impl Ranged for MarkedAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.marks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for MarkedAxis {
    fn format_ext(&self, value: &f64) -> String {
        self.marks.iter().find(|(at, _)| at == value).map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

/// About five round numbers between two ends, with as many decimals as tell them apart.
fn linear_marks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(10.0 * power);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| (i as f64 * step, format!("{:.decimals$}", i as f64 * step))).collect()
}

/// 1, 2 and 5 times powers of ten between two ends, or evenly spaced numbers where that gives few; places are logarithms.
fn log_marks(low: f64, high: f64) -> Vec<(f64, String)> {
    let powers = low.floor() as i32..=high.ceil() as i32;
    let values = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|m| m * 10_f64.powi(power)));
    let marks =
        values.map(|v| (v.log10(), crate::markdown::number(Some(v)))).filter(|(at, _)| (low..=high).contains(at));
    let marks: Vec<(f64, String)> = marks.collect();
    if marks.len() >= 3 {
        return marks;
    }
    linear_marks(10_f64.powf(low), 10_f64.powf(high)).into_iter().map(|(v, text)| (v.log10(), text)).collect()
}

/// The range of some values with a margin on both sides.
fn padded(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let pad = if high > low { (high - low) * margin } else { 0.5 };
    (low - pad, high + pad)
}
