//! Draws a figure on an area, whatever that is made of.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::{BLACK, DrawingArea, DrawingBackend, RGBColor};

use super::axis::Settled;
use super::canvas::{Anchor, Canvas, Pixel, text_width};
use super::layout::{Frame, KEY, LABEL, Layout, MARK, PANEL_TITLE, SUBTITLE, TITLE};
use super::{Figure, Interval, Panel, Rule, Series, Spread, Style};

const GRID: RGBColor = RGBColor(228, 228, 228);
const AXIS: RGBColor = RGBColor(110, 110, 110);
const BAND: f64 = 0.16;

/// Draws all of it.
pub fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, figure: &Figure) -> Result<()> {
    let canvas = Canvas(area);
    let layout = Layout::of(figure);
    canvas.clear()?;
    canvas.text(&figure.title, (layout.size.0 as i32 / 2, 24), TITLE, Anchor::Middle)?;
    if !figure.subtitle.is_empty() {
        canvas.text(&figure.subtitle, (layout.size.0 as i32 / 2, 47), SUBTITLE, Anchor::Middle)?;
    }
    for (key, &(x, y)) in figure.legend.iter().zip(&layout.keys) {
        if key.joined {
            canvas.line(vec![(x, y), (x + 28, y)], key.look)?;
        }
        canvas.marker((x + 14, y), key.look.marker, key.look.color, key.hollow)?;
        // Letters have more above their middle than below.
        canvas.text(&key.label, (x + KEY as i32, y + 1), LABEL, Anchor::Start)?;
    }
    for (panel, &frame) in figure.panels.iter().zip(&layout.frames).filter(|(panel, _)| !panel.is_blank()) {
        let (x, y) = panel.settled(figure.panel);
        Plot { canvas: &canvas, frame, x, y, panel }.draw()?;
    }
    canvas.present()
}

/// A panel on its way to the canvas.
struct Plot<'a, B: DrawingBackend> {
    canvas: &'a Canvas<'a, B>,
    frame: Frame,
    x: Settled,
    y: Settled,
    panel: &'a Panel,
}

impl<B: DrawingBackend> Plot<'_, B> {
    fn draw(&self) -> Result<()> {
        self.grid()?;
        for rule in &self.panel.rules {
            let Frame { left, top, right, bottom } = self.frame;
            let ends = match *rule {
                Rule::Level(y) => self.row(y).map(|y| vec![(left, y), (right, y)]),
                Rule::Upright(x) => self.column(x).map(|x| vec![(x, top), (x, bottom)]),
            };
            ends.map_or(Ok(()), |ends| self.canvas.stroke(ends, BLACK, 1))?;
        }
        // Bands first: no series' band lies over another's line.
        self.panel.series.iter().try_for_each(|s| self.intervals(s))?;
        self.panel.series.iter().try_for_each(|s| self.points(s))
    }

    fn column(&self, x: f64) -> Option<i32> {
        let room = f64::from(self.frame.right - self.frame.left);
        Some(self.frame.left + (self.x.share(x)? * room).round() as i32)
    }

    fn row(&self, y: f64) -> Option<i32> {
        let room = f64::from(self.frame.bottom - self.frame.top);
        Some(self.frame.bottom - (self.y.share(y)? * room).round() as i32)
    }

    fn place(&self, x: f64, y: f64) -> Option<Pixel> {
        (self.x.has(x) && self.y.has(y)).then_some(())?;
        self.column(x).zip(self.row(y))
    }

    fn grid(&self) -> Result<()> {
        let Frame { left, top, right, bottom } = self.frame;
        let middle = i32::midpoint(left, right);
        let inside = |share: &f64| (0.0..=1.0).contains(share);
        let mut free = i32::MIN;
        for (at, text) in &self.x.marks {
            let share = self.x.share_at(*at);
            if !inside(&share) {
                continue;
            }
            let x = left + (share * f64::from(right - left)).round() as i32;
            self.canvas.stroke(vec![(x, top), (x, bottom)], GRID, 1)?;
            let half = text_width(text, MARK) as i32 / 2;
            // A label that would touch the one before it is left out; its line stays.
            if x - half > free {
                self.canvas.text(text, (x, bottom + 13), MARK, Anchor::Middle)?;
                free = x + half + 4;
            }
        }
        for (at, text) in &self.y.marks {
            let share = self.y.share_at(*at);
            if !inside(&share) {
                continue;
            }
            let y = bottom - (share * f64::from(bottom - top)).round() as i32;
            let line = if self.panel.y.names {
                bottom - (self.y.share_at(at - 0.5).max(0.0) * f64::from(bottom - top)).round() as i32
            } else {
                y
            };
            self.canvas.stroke(vec![(left, line), (right, line)], GRID, 1)?;
            if !self.panel.y.bare {
                self.canvas.text(text, (left - 6, y), MARK, Anchor::End)?;
            }
        }
        self.canvas.stroke(vec![(left, top), (left, bottom), (right, bottom)], AXIS, 1)?;
        self.canvas.text(&self.panel.title, (middle, top - 14), PANEL_TITLE, Anchor::Middle)?;
        self.canvas.text(&self.panel.x.label, (middle, bottom + 35), LABEL, Anchor::Middle)?;
        if self.panel.y.bare || self.panel.y.label.is_empty() {
            return Ok(());
        }
        let widest = self.y.marks.iter().map(|(_, text)| text_width(text, MARK)).max().unwrap_or(0);
        let x = left - widest as i32 - 10 - LABEL as i32 / 2;
        self.canvas.text(&self.panel.y.label, (x, i32::midpoint(top, bottom)), LABEL, Anchor::Upward)
    }

    fn intervals(&self, series: &Series) -> Result<()> {
        let color = series.look.color;
        if series.spread == Spread::Across {
            let bars = series.points.iter().filter_map(|p| {
                let interval = p.interval?;
                Some((self.column(interval.low)?, self.column(interval.high)?, self.row(p.y)?))
            });
            for (low, high, y) in bars {
                self.canvas.stroke(vec![(low, y), (high, y)], color, 2)?;
                for end in [low, high] {
                    self.canvas.stroke(vec![(end, y - 3), (end, y + 3)], color, 1)?;
                }
            }
            return Ok(());
        }
        let ends = |p: &super::Point| -> Option<(i32, i32, i32)> {
            let Interval { low, high } = p.interval?;
            self.place(p.x, p.y)?;
            Some((self.column(p.x)?, self.row(low)?, self.row(high)?))
        };
        let ends: Vec<Option<(i32, i32, i32)>> = series.points.iter().map(ends).collect();
        let bar = |&(x, low, high): &(i32, i32, i32)| {
            self.canvas.stroke(vec![(x, low), (x, high)], color, 1)?;
            [low, high].into_iter().try_for_each(|end| self.canvas.stroke(vec![(x - 3, end), (x + 3, end)], color, 1))
        };
        if series.spread == Spread::Bars {
            return ends.iter().flatten().try_for_each(bar);
        }
        for stretch in ends.split(Option::is_none) {
            let stretch: Vec<(i32, i32, i32)> = stretch.iter().filter_map(|e| *e).collect();
            if let [alone] = &stretch[..] {
                bar(alone)?;
            } else if !stretch.is_empty() {
                let upper = stretch.iter().map(|&(x, _, high)| (x, high));
                let lower = stretch.iter().rev().map(|&(x, low, _)| (x, low));
                self.canvas.fill(upper.chain(lower).collect(), color, BAND)?;
            }
        }
        Ok(())
    }

    fn points(&self, series: &Series) -> Result<()> {
        let Style { color, marker, .. } = series.look;
        let places: Vec<Option<Pixel>> = series.points.iter().map(|p| self.place(p.x, p.y)).collect();
        for stretch in places.split(Option::is_none).filter(|s| series.joined && s.len() > 1) {
            self.canvas.line(stretch.iter().filter_map(|p| *p).collect(), series.look)?;
        }
        for (point, place) in series.points.iter().zip(&places) {
            if let Some(place) = *place {
                self.canvas.marker(place, point.marker.unwrap_or(marker), color, point.hollow)?;
            }
        }
        Ok(())
    }
}
