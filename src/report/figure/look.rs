//! Colours, markers and dashes.

use plotters::style::RGBColor;

/// Okabe and Ito's colours, which colour-blind readers can tell apart; models have these.
const MODELS: [RGBColor; 5] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(230, 159, 0), RGBColor(86, 180, 233)];
/// More of them, for classes: wine, olive, indigo and grey of Paul Tol's muted scheme, which colour-blind readers can tell apart too.
const MORE: [RGBColor; 4] =
    [RGBColor(136, 34, 85), RGBColor(153, 153, 51), RGBColor(51, 34, 136), RGBColor(136, 136, 136)];
/// For what belongs to no model.
pub const DARK: RGBColor = RGBColor(40, 40, 40);
/// The same, beside it: the one of Okabe and Ito's that no model has, a little darker.
pub const PURPLE: RGBColor = RGBColor(180, 80, 140);

/// The shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// ●
    Circle,
    /// ■
    Square,
    /// ▲
    Up,
    /// ◆
    Diamond,
    /// ▼
    Down,
    /// ◀: the value may be smaller.
    Left,
    /// ▶: the value is larger than the axis shows.
    Right,
    /// A line alone.
    None,
}

impl Marker {
    const OF_MODELS: [Self; 5] = [Self::Circle, Self::Square, Self::Up, Self::Diamond, Self::Down];

    /// Corners about its middle, in pixels; `None` where it has none.
    pub fn corners(self) -> Option<Vec<(i32, i32)>> {
        match self {
            Self::Circle | Self::None => None,
            Self::Square => Some(vec![(-3, -3), (3, -3), (3, 3), (-3, 3)]),
            Self::Up => Some(vec![(0, -5), (4, 3), (-4, 3)]),
            Self::Down => Some(vec![(0, 5), (4, -3), (-4, -3)]),
            Self::Diamond => Some(vec![(0, -5), (5, 0), (0, 5), (-5, 0)]),
            Self::Left => Some(vec![(-6, 0), (3, -5), (3, 5)]),
            Self::Right => Some(vec![(6, 0), (-3, -5), (-3, 5)]),
        }
    }
}

/// How a series looks: its colour says what it is, its marker and dash say it again without colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// Of line, marker and band.
    pub color: RGBColor,
    /// At each point.
    pub marker: Marker,
    /// Whether its line is dashed.
    pub dashed: bool,
    /// Pixels of its line.
    pub width: u32,
}

impl Style {
    /// A full line.
    pub const fn new(color: RGBColor, marker: Marker) -> Self {
        Self { color, marker, dashed: false, width: 2 }
    }

    /// A dashed one.
    pub const fn dashed(color: RGBColor, marker: Marker) -> Self {
        Self { color, marker, dashed: true, width: 2 }
    }

    /// That of a model, in every figure.
    pub fn of_model(at: usize) -> Self {
        Self::new(model_color(at), Marker::OF_MODELS[at % Marker::OF_MODELS.len()])
    }

    /// That of a class where there is one model: classes have the colours that models would, then others, and dashes once those are used up.
    pub fn of_class_alone(at: usize) -> Self {
        let colors = [&MODELS[..], &MORE].concat();
        let look = Self { color: colors[at % colors.len()], ..Self::of_model(at) };
        look.of_class(at / colors.len())
    }

    /// The same for the SAEs of a class, which are told apart by dash, marker and width: that of the first is this.
    #[must_use]
    pub fn of_class(self, at: usize) -> Self {
        let markers = Marker::OF_MODELS;
        let marker = markers.iter().position(|m| *m == self.marker).map(|own| markers[(own + 2 * at) % markers.len()]);
        Self {
            dashed: self.dashed ^ (at % 2 == 1),
            marker: marker.unwrap_or(self.marker),
            width: if at < 2 { self.width } else { 1 },
            ..self
        }
    }
}

/// The colour of a model, in every figure.
pub fn model_color(at: usize) -> RGBColor {
    MODELS[at % MODELS.len()]
}

/// A colour between a pale tint of this one (0) and itself (1).
pub fn shade(color: RGBColor, strength: f64) -> RGBColor {
    let share = 0.35 + 0.65 * strength.clamp(0.0, 1.0);
    let mix = |c: u8| (255.0 - (255.0 - f64::from(c)) * share).round() as u8;
    RGBColor(mix(color.0), mix(color.1), mix(color.2))
}
