//! Markdown tables, and numbers as they appear in them.

use std::fmt;

use assay_probes::stats::Interval;

/// A table whose cells are text already.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Names of its columns.
    pub fn head(&self) -> &[String] {
        &self.head
    }

    /// Its rows.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The same with another name for a column.
    #[must_use]
    pub fn renamed(mut self, column: &str, name: &str) -> Self {
        self.head.iter_mut().filter(|head| *head == column).for_each(|head| name.clone_into(head));
        self
    }

    /// Those of its rows at these places, in this order.
    #[must_use]
    pub fn part(&self, rows: &[usize]) -> Self {
        Self { head: self.head.clone(), rows: rows.iter().filter_map(|&at| self.rows.get(at).cloned()).collect() }
    }
}

/// A cell's text; a bar in it, as in |ΔCE_rec|, would end the cell, and the end of a line the table.
fn escaped(cell: &str) -> String {
    no_tags(cell).replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// Markdown whose `<` begins no tag of HTML, since names come from files of others.
pub fn no_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let opens = c == '<' && rest.peek().is_some_and(|next| next.is_ascii_alphabetic() || "/!?".contains(*next));
        out.extend(opens.then_some('\\').into_iter().chain([c]));
    }
    out
}

/// A name as code, in which nothing is Markdown.
pub fn code(name: &str) -> String {
    format!("`{}`", name.replace('`', "'").replace(char::is_control, " "))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<Vec<String>> = std::iter::once(&self.head)
            .chain(&self.rows)
            .map(|line| line.iter().map(|cell| escaped(cell)).collect())
            .collect();
        // The line below the head has three dashes or more.
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|row| row.get(column));
            cells.map(|c| c.chars().count()).fold(3, usize::max)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            for (cell, &width) in cells.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")
        };
        line(f, &lines[0])?;
        for &width in &widths {
            write!(f, "| {} ", "-".repeat(width))?;
        }
        writeln!(f, "|")?;
        lines[1..].iter().try_for_each(|row| line(f, row))
    }
}

/// `1 run`, `24 runs`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {}", plural(count, what))
}

/// `run`, or `runs` where there is not one of them.
pub fn plural(count: usize, what: &str) -> String {
    if count == 1 { what.to_owned() } else { format!("{what}s") }
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

/// What stands where a value is undefined.
pub const NONE: &str = "—";

/// A number in four significant digits, or a dash.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => NONE.to_owned(),
        Some(v) if !v.is_finite() => v.to_string(),
        Some(v) if v == v.trunc() && v.abs() < 1e6 => format!("{v}"),
        Some(v) if v.abs() >= 1e5 || v.abs() < 1e-4 => format!("{v:.3e}"),
        Some(v) => {
            let decimals = (3 - v.abs().log10().floor() as i32).clamp(0, 7) as usize;
            format!("{v:.decimals$}")
        }
    }
}

/// A share or score in three decimals, or a dash.
pub fn score(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |v| format!("{v:.3}"))
}

/// Notes under a table, each in a paragraph of its own.
pub fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("\nNote: {note}\n")).collect()
}

/// A p-value in three decimals; smaller ones as a bound.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// A share in per cent, or a dash.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), |s| format!("{:.1} %", 100.0 * s))
}

/// A difference with its sign, in three decimals.
pub fn signed(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |v| format!("{v:+.3}"))
}

/// `[low, high]` in four significant digits.
pub fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(|| NONE.to_owned(), |i| format!("[{}, {}]", number(Some(i.low)), number(Some(i.high))))
}

/// Decimals that show an interval: three, or up to six where its half width is less than one of the last.
fn decimals(interval: Interval) -> usize {
    let half = (interval.high - interval.low) / 2.0;
    (3..6).find(|&decimals| !(half > 0.0 && half < 0.1_f64.powi(decimals))).unwrap_or(6) as usize
}

/// `0.340 [0.169, 0.469]`, `0.99951 [0.99949, 0.99954]`.
pub fn with_interval(value: Option<f64>, interval: Option<Interval>) -> String {
    match (value, interval) {
        (Some(v), Some(i)) => {
            let d = decimals(i);
            format!("{v:.d$} [{:.d$}, {:.d$}]", i.low, i.high)
        }
        _ => score(value),
    }
}

/// `+0.154 [+0.120, +0.190]`.
pub fn signed_with_interval(value: Option<f64>, interval: Option<Interval>) -> String {
    match (value, interval) {
        (Some(v), Some(i)) => {
            let d = decimals(i);
            format!("{v:+.d$} [{:+.d$}, {:+.d$}]", i.low, i.high)
        }
        _ => signed(value),
    }
}

/// `61k tokens`, `10M tokens`; 0 stands for what nobody knows.
pub fn tokens_text(tokens: u64) -> String {
    match tokens {
        0 => "unknown tokens".to_owned(),
        t if t >= 1_000_000 => format!("{}M tokens", (t as f64 / 1e5).round() / 10.0),
        t if t >= 10_000 => format!("{}k tokens", (t as f64 / 1e3).round()),
        t => format!("{t} tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_intervals_have_more_decimals() {
        let interval = |low, high| Some(Interval { low, high });
        assert_eq!(with_interval(Some(0.34), interval(0.169, 0.469)), "0.340 [0.169, 0.469]");
        assert_eq!(with_interval(Some(0.99951), interval(0.99947, 0.99954)), "0.99951 [0.99947, 0.99954]");
        assert_eq!(signed_with_interval(Some(-0.0003), interval(-0.0005, -0.0001)), "-0.0003 [-0.0005, -0.0001]");
        assert_eq!(with_interval(Some(32.0), interval(32.0, 32.0)), "32.000 [32.000, 32.000]");
        assert_eq!(with_interval(None, interval(0.0, 1.0)), NONE);
    }

    #[test]
    fn a_bar_ends_no_cell() {
        let mut table = Table::new(["|Δ|"]);
        table.row(["a | b"]);
        assert_eq!(table.to_string(), "| \\|Δ\\|  |\n| ------ |\n| a \\| b |\n");
    }

    #[test]
    fn a_name_is_no_markup() {
        assert_eq!(no_tags("p < 0.001 <b>a</b>"), "p < 0.001 \\<b>a\\</b>");
        assert_eq!(code("a`b\n"), "`a'b `");
        let mut table = Table::new(["a"]);
        table.row(["b\nc"]);
        assert!(table.to_string().ends_with("| b c |\n"));
        assert_eq!(table.part(&[0, 0, 7]).rows().len(), 2);
    }

    #[test]
    fn numbers_keep_four_digits() {
        let shown: Vec<String> = [0.12345, 12.345, 4131.06, 1e-9, 3072.0, -0.5, 0.0].map(|v| number(Some(v))).to_vec();
        assert_eq!(shown, ["0.1235", "12.35", "4131", "1.000e-9", "3072", "-0.5000", "0"]);
        assert_eq!(number(None), "—");
    }
}
