//! Axes: scales, ranges and marks.

use super::{Interval, Panel, Rule, Spread};

/// How an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By ratios; what is not positive has no place on it.
    Log,
}

impl Scale {
    /// Where a value lies, in the scale's own units.
    pub fn of(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear => Some(value),
            Self::Log => (value > 0.0).then(|| value.log10()),
        }
        .filter(|v| v.is_finite())
    }
}

/// An axis as a figure asks for it.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows.
    pub label: String,
    /// How it counts.
    pub scale: Scale,
    /// Where it has its marks and what they say; round numbers if not given.
    pub marks: Option<Vec<(f64, String)>>,
    /// Its ends, in the scale's units; room for all points if not given.
    pub range: Option<(f64, f64)>,
    /// Without labels, because a neighbour has them.
    pub bare: bool,
    /// Its marks are names, and lines run between them.
    pub names: bool,
}

impl Axis {
    /// Of that scale.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale, marks: None, range: None, bare: false, names: false }
    }

    /// With marks at these values.
    #[must_use]
    pub fn marks(mut self, marks: Vec<(f64, String)>) -> Self {
        self.marks = Some(marks);
        self
    }

    /// A row a name, the first on top: row i is at y = −i.
    pub fn names(names: impl IntoIterator<Item = String>) -> Self {
        let marks: Vec<(f64, String)> = names.into_iter().enumerate().map(|(i, name)| (-(i as f64), name)).collect();
        let range = Some((0.5 - marks.len().max(1) as f64, 0.5));
        Self { label: String::new(), scale: Scale::Linear, marks: Some(marks), range, bare: false, names: true }
    }
}

/// An axis with its ends and marks settled; places are in the scale's units.
pub struct Settled {
    scale: Scale,
    /// Its ends.
    pub range: (f64, f64),
    /// Its marks.
    pub marks: Vec<(f64, String)>,
}

impl Settled {
    fn new(axis: &Axis, range: (f64, f64), wanted: f64) -> Self {
        let marks = match (&axis.marks, axis.scale) {
            (Some(marks), scale) => {
                marks.iter().filter_map(|(at, text)| Some((scale.of(*at)?, text.clone()))).collect()
            }
            (None, Scale::Linear) => linear_marks(range.0, range.1, wanted),
            (None, Scale::Log) => log_marks(range.0, range.1, wanted),
        };
        Self { scale: axis.scale, range, marks }
    }

    /// Which share of the axis lies before a value; what is infinite, or below a logarithmic axis, is at its end.
    pub fn share(&self, value: f64) -> Option<f64> {
        match self.scale.of(value) {
            Some(at) => Some(self.share_at(at).clamp(0.0, 1.0)),
            None if value.is_nan() => None,
            None => Some(f64::from(u8::from(value > 0.0))),
        }
    }

    /// The same of a place.
    pub fn share_at(&self, at: f64) -> f64 {
        (at - self.range.0) / (self.range.1 - self.range.0)
    }

    /// Whether a value has a place on the axis.
    pub fn has(&self, value: f64) -> bool {
        self.scale.of(value).is_some()
    }
}

impl Panel {
    /// Both axes settled for a panel of that size.
    pub(super) fn settled(&self, (width, height): (u32, u32)) -> (Settled, Settled) {
        // Labels are wider than high.
        let (across, up) = (f64::from(width) / 62.0, f64::from(height) / 48.0);
        (Settled::new(&self.x, self.x_range(), across), Settled::new(&self.y, self.y_range(), up))
    }

    /// The range of the horizontal axis, in its scale's units.
    pub(super) fn x_range(&self) -> (f64, f64) {
        let rules = self.rules.iter().filter_map(|r| if let Rule::Upright(x) = r { Some(*x) } else { None });
        let marks = self.x.marks.iter().flatten().map(|(at, _)| *at);
        let values = self.points().map(|p| p.x).chain(self.ends(Spread::Across)).chain(rules).chain(marks);
        range(&self.x, values)
    }

    /// The range of the vertical axis, in its scale's units.
    pub(super) fn y_range(&self) -> (f64, f64) {
        let rules = self.rules.iter().filter_map(|r| if let Rule::Level(y) = r { Some(*y) } else { None });
        range(
            &self.y,
            self.points().map(|p| p.y).chain(self.ends(Spread::Band)).chain(self.ends(Spread::Bars)).chain(rules),
        )
    }

    /// Ends of the intervals that are drawn so.
    fn ends(&self, spread: Spread) -> impl Iterator<Item = f64> {
        let intervals = self.series.iter().filter(move |s| s.spread == spread).flat_map(|s| &s.points);
        intervals.filter_map(|p| p.interval).flat_map(|i: Interval| [i.low, i.high])
    }
}

fn range(axis: &Axis, values: impl Iterator<Item = f64>) -> (f64, f64) {
    axis.range.unwrap_or_else(|| padded(values.filter_map(|v| axis.scale.of(v)), 0.06))
}

/// From the lowest to the highest of some ranges.
pub fn union(ranges: impl IntoIterator<Item = (f64, f64)>) -> (f64, f64) {
    let (low, high) =
        ranges.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (low, high)| (l.min(low), h.max(high)));
    if low < high { (low, high) } else { (0.0, 1.0) }
}

/// The range of some finite values with a margin on both sides.
fn padded(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    // Values that are all alike lie in the middle of a range in which their digits can be read.
    let pad = if high > low { (high - low) * margin } else { (0.1 * high.abs()).max(1e-6) };
    (low - pad, high + pad)
}

/// About as many round numbers as wanted between two ends, with as many decimals as tell them apart.
fn linear_marks(low: f64, high: f64, wanted: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / wanted;
    let power = 10_f64.powf(rough.log10().floor());
    let off = |step: &f64| (step / rough).ln().abs();
    let steps = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
    let step = steps.into_iter().min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(power);
    // 1e-9: the logarithm of a tenth need not be −1 to the last bit.
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| (i as f64 * step, format!("{:.decimals$}", i as f64 * step))).collect()
}

/// Powers of ten between two ends, with their double and fivefold where there are few, or evenly spaced numbers where even those
/// are; places are logarithms.
fn log_marks(low: f64, high: f64, wanted: f64) -> Vec<(f64, String)> {
    let powers = low.floor() as i32..=high.ceil() as i32;
    let marks = |mantissas: &[u8], every: i32| -> Vec<(f64, String)> {
        let kept = powers.clone().filter(|power| power.rem_euclid(every) == 0);
        kept.flat_map(|power| {
            mantissas.iter().map(move |&m| (f64::from(power) + f64::from(m).log10(), power_text(m, power)))
        })
        .filter(|(at, _)| (low..=high).contains(at))
        .collect()
    };
    let decades = high - low;
    if decades >= wanted {
        return marks(&[1], (decades / wanted).ceil() as i32);
    }
    let found = marks(if decades >= 3.0 { &[1] } else { &[1, 2, 5] }, 1);
    if found.len() >= 3 {
        return found;
    }
    let even = linear_marks(10_f64.powf(low), 10_f64.powf(high), 1.4 * wanted);
    even.into_iter().filter(|(v, _)| *v > 0.0).map(|(v, text)| (v.log10(), text)).collect()
}

/// `0.02`, `500`, `2·10⁻⁵`.
fn power_text(mantissa: u8, power: i32) -> String {
    match power {
        0..=4 => format!("{mantissa}{}", "0".repeat(power as usize)),
        -3..=-1 => format!("0.{}{mantissa}", "0".repeat((-power - 1) as usize)),
        _ => {
            let raised: String = power.to_string().chars().map(raised).collect();
            if mantissa == 1 { format!("10{raised}") } else { format!("{mantissa}·10{raised}") }
        }
    }
}

fn raised(digit: char) -> char {
    match digit {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        _ => '⁹',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{DARK, Marker, Point, Series, Style};

    fn texts(marks: Vec<(f64, String)>) -> Vec<String> {
        marks.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn marks_are_round_and_told_apart() {
        assert_eq!(texts(linear_marks(-0.05, 0.31, 5.0)), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(texts(linear_marks(0.9712, 0.9838, 5.0)), ["0.972", "0.974", "0.976", "0.978", "0.980", "0.982"]);
        assert_eq!(texts(log_marks(0.0, 2.1, 5.0)), ["1", "2", "5", "10", "20", "50", "100"]);
        assert_eq!(texts(log_marks(-6.2, -1.9, 6.0)), ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001", "0.01"]);
        assert_eq!(texts(log_marks(-9.0, 3.0, 4.0)), ["10⁻⁹", "10⁻⁶", "0.001", "1", "1000"]);
        assert_eq!(texts(log_marks(2.27, 2.35, 4.0)), ["190", "195", "200", "205", "210", "215", "220"]);
    }

    #[test]
    fn what_has_no_place_lies_at_an_end() {
        let series = Series {
            look: Style::new(DARK, Marker::Circle),
            points: vec![
                Point::new(1.0, 1.0, Some(Interval { low: -2.0, high: f64::INFINITY })),
                Point::new(2.0, 100.0, None),
            ],
            joined: true,
            spread: Spread::Band,
        };
        let panel = Panel::new("", Axis::new("", Scale::Linear), Axis::new("", Scale::Log), vec![series]);
        let (_, y) = panel.settled((300, 200));
        assert!(y.range.0 > -0.2 && y.range.1 < 2.2, "intervals without a place don't stretch the axis");
        assert_eq!((y.share(-2.0), y.share(f64::INFINITY), y.share(f64::NAN)), (Some(0.0), Some(1.0), None));
        assert!(!y.has(-2.0));
    }

    #[test]
    fn a_panel_without_points_has_a_range() {
        let panel = Panel::new("", Axis::new("", Scale::Log), Axis::new("", Scale::Linear), Vec::new());
        let (x, y) = panel.settled((300, 200));
        assert_eq!((x.range, y.range), ((0.0, 1.0), (0.0, 1.0)));
        assert_eq!(union([]), (0.0, 1.0));
    }
}
