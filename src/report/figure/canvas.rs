//! What a figure is made of: strokes, fills and text on a drawing area, in pixels.

use std::sync::Once;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform};

use super::{Marker, Style};

/// The names are the same in an SVG, whose viewer has its own idea of them.
const FONT: &str = "sans-serif";

/// A place in pixels, from the top left.
pub type Pixel = (i32, i32);

/// The bitmap backend draws, and both measure, with a font that is in the binary: DejaVu Sans, cut to the characters that
/// figures need.
pub fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An unusable font would show in every plot; it is ours and tested.
        let _ = plotters::style::register_font(FONT, FontStyle::Normal, include_bytes!("../font/DejaVuSans.ttf"));
    });
}

/// How wide a text is.
pub fn text_width(text: &str, size: u32) -> u32 {
    let guess = text.chars().count() as u32 * size * 3 / 5;
    (FONT, size).into_font().box_size(text).map_or(guess, |(width, _)| width)
}

/// Where a text lies about its place.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// Its middle is there.
    Middle,
    /// It begins there.
    Start,
    /// It ends there.
    End,
    /// Its middle is there, and it reads upward.
    Upward,
}

/// A drawing area on which everything is in pixels.
pub struct Canvas<'a, B: DrawingBackend>(pub &'a DrawingArea<B, Shift>);

impl<B: DrawingBackend> Canvas<'_, B> {
    fn check(result: std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>>) -> Result<()> {
        result.map_err(|e| anyhow!("{e}"))
    }

    /// Makes it white.
    pub fn clear(&self) -> Result<()> {
        Self::check(self.0.fill(&WHITE))
    }

    /// Ends the drawing.
    pub fn present(&self) -> Result<()> {
        Self::check(self.0.present())
    }

    /// A line through some places.
    pub fn stroke(&self, places: Vec<Pixel>, color: RGBColor, width: u32) -> Result<()> {
        Self::check(self.0.draw(&PathElement::new(places, color.stroke_width(width))))
    }

    /// The same as a look has it.
    pub fn line(&self, places: Vec<Pixel>, look: Style) -> Result<()> {
        if !look.dashed {
            return self.stroke(places, look.color, look.width);
        }
        dashes(&places, 7.0, 4.0).into_iter().try_for_each(|dash| self.stroke(dash, look.color, look.width))
    }

    /// A filled polygon.
    pub fn fill(&self, corners: Vec<Pixel>, color: RGBColor, opacity: f64) -> Result<()> {
        Self::check(self.0.draw(&Polygon::new(corners, color.mix(opacity).filled())))
    }

    /// A marker.
    pub fn marker(&self, (x, y): Pixel, marker: Marker, color: RGBColor, hollow: bool) -> Result<()> {
        let Some(corners) = marker.corners() else {
            if marker == Marker::None {
                return Ok(());
            }
            if hollow {
                Self::check(self.0.draw(&Circle::new((x, y), 4, WHITE.filled())))?;
                return Self::check(self.0.draw(&Circle::new((x, y), 4, color.stroke_width(1))));
            }
            return Self::check(self.0.draw(&Circle::new((x, y), 4, color.filled())));
        };
        let corners: Vec<Pixel> = corners.into_iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        if !hollow {
            return self.fill(corners, color, 1.0);
        }
        self.fill(corners.clone(), WHITE, 1.0)?;
        let closed = corners.iter().chain(&corners[..1]).copied().collect();
        self.stroke(closed, color, 1)
    }

    /// Text of that size, its height centred on the place.
    pub fn text(&self, text: &str, place: Pixel, size: u32, anchor: Anchor) -> Result<()> {
        let horizontal = match anchor {
            Anchor::Middle | Anchor::Upward => HPos::Center,
            Anchor::Start => HPos::Left,
            Anchor::End => HPos::Right,
        };
        let font = (FONT, size).into_font();
        let font = if matches!(anchor, Anchor::Upward) { font.transform(FontTransform::Rotate270) } else { font };
        let style = TextStyle::from(font).pos(Pos::new(horizontal, VPos::Center));
        Self::check(self.0.draw(&Text::new(text.to_owned(), place, style)))
    }
}

/// Cuts a line into dashes; a dash may go round a corner.
fn dashes(places: &[Pixel], dash: f64, gap: f64) -> Vec<Vec<Pixel>> {
    let (mut out, mut current) = (Vec::new(), Vec::new());
    let (mut left, mut on) = (dash, true);
    let rounded = |x: f64, y: f64| (x.round() as i32, y.round() as i32);
    for pair in places.windows(2) {
        let (from, to) = ((f64::from(pair[0].0), f64::from(pair[0].1)), (f64::from(pair[1].0), f64::from(pair[1].1)));
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut done = 0.0;
        if on && current.is_empty() {
            current.push(pair[0]);
        }
        while length - done > left {
            done += left;
            let share = done / length;
            let at = rounded(from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
            current.push(at);
            if on {
                out.push(std::mem::take(&mut current));
            }
            on = !on;
            left = if on { dash } else { gap };
            current.truncate(1);
        }
        left -= length - done;
        if on {
            current.push(pair[1]);
        }
    }
    if on && current.len() > 1 {
        out.push(current);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_follow_the_line() {
        let straight = dashes(&[(0, 0), (20, 0)], 7.0, 4.0);
        assert_eq!(straight, [vec![(0, 0), (7, 0)], vec![(11, 0), (18, 0)]]);
        let round_a_corner = dashes(&[(0, 0), (5, 0), (5, 5)], 7.0, 4.0);
        assert_eq!(round_a_corner, [vec![(0, 0), (5, 0), (5, 2)]]);
        assert_eq!(dashes(&[(3, 3)], 7.0, 4.0), Vec::<Vec<Pixel>>::new());
    }
}
