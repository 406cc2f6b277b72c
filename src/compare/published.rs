//! Published numbers: `results/reference/proxy-gap.csv`, or a file with the same columns.

use std::path::Path;

use anyhow::{Context, Result, bail};
use assay_probes::stats::Interval;

use crate::csv::{self, Damage, Row};

/// The columns; `results/reference/README.md` says what they hold.
pub const COLUMNS: [&str; 15] = [
    "experiment",
    "table",
    "row",
    "column",
    "model",
    "depth",
    "layer",
    "k",
    "tokens",
    "seeds",
    "quantity",
    "end",
    "value",
    "text",
    "source",
];

/// The file as it was when this program was built.
const REFERENCE: &str = include_str!("../../results/reference/proxy-gap.csv");

/// How far a budget may be from the published one: texts round them, and a training is whole steps.
const BUDGET_TOLERANCE: f64 = 0.01;

/// Which models a number speaks of.
#[derive(Clone, Debug, PartialEq)]
pub enum Models {
    /// All of the sweep.
    All,
    /// One.
    One(String),
    /// A difference `to − from` or a ratio `to / from`.
    Pair {
        /// What is subtracted, or divided by.
        from: String,
        /// What it is subtracted from.
        to: String,
    },
}

/// What of an interval a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The value itself.
    Value,
    /// The lower end.
    Low,
    /// The upper end.
    High,
}

impl End {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Low => "low",
            Self::High => "high",
        }
    }
}

/// One published number: a row of the file. `results/reference/README.md` says more of its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The sweep that it comes from.
    pub experiment: String,
    /// The table that it stands in; `prose` for a claim in running text.
    pub table: String,
    /// The table's row, in its own words.
    pub row: String,
    /// The table's column, likewise.
    pub column: String,
    /// The models as the file names them.
    pub model: String,
    /// The same, taken apart.
    pub models: Models,
    /// Name of the depth.
    pub depth: Option<String>,
    /// Layer of the hook.
    pub layer: Option<u64>,
    /// Active latents per token; `None` for what is over several k.
    pub k: Option<u64>,
    /// Token budget as the text rounds it.
    pub tokens: Option<u64>,
    /// Training seeds.
    pub seeds: Option<u64>,
    /// What was measured.
    pub quantity: String,
    /// The value or an end of its interval.
    pub end: End,
    /// The number; a percentage as a fraction.
    pub value: f64,
    /// The number as printed, or the claim's words.
    pub text: String,
    /// Part and heading.
    pub source: String,
}

/// How a number is printed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Printed {
    /// Digits after the point.
    pub decimals: usize,
    /// In percent.
    pub percent: bool,
    /// With its sign, also where that is a plus.
    pub signed: bool,
}

impl Printed {
    /// Half of the last digit's unit: a value this close is printed alike.
    pub fn half_unit(self) -> f64 {
        let unit = 10.0_f64.powi(-(self.decimals as i32));
        0.5 * if self.percent { unit / 100.0 } else { unit }
    }
}

impl Published {
    /// How the text prints the number; `None` for a claim in words, which is 1, 0 or −1 exactly.
    pub fn printed(&self) -> Option<Printed> {
        let bare = self.text.trim_start_matches(['+', '-', '−']);
        let number = bare.trim_end_matches(['%', 'x']);
        let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        number.parse::<f64>().ok()?;
        Some(Printed { decimals, percent: bare.ends_with('%'), signed: bare.len() < self.text.len() })
    }

    /// Whether it is no measured number but a bound that the text claims.
    pub fn is_bound(&self) -> bool {
        self.quantity == "abs_delta_ce_rec" && self.end == End::High
    }

    /// Its interval, if the same row of the same table has one.
    pub fn interval(&self, among: &[Self]) -> Option<Interval> {
        let place = |p: &Self| [&p.experiment, &p.table, &p.row, &p.quantity, &p.model].map(String::clone);
        let condition = |p: &Self| (p.depth.clone(), p.layer, p.k, p.tokens);
        let end = |end: End| {
            let of = |p: &&Self| p.end == end && condition(p) == condition(self) && place(p) == place(self);
            among.iter().find(of).map(|p| p.value)
        };
        let ends = || Some(Interval { low: end(End::Low)?, high: end(End::High)? });
        if self.end == End::Value { ends() } else { None }
    }

    /// The cell, as a reader finds it: `fast2 headline, 70M, R²`.
    pub fn cell(&self) -> String {
        format!("{} {}, {}, {}", self.experiment, self.table, self.row, self.named_column())
    }

    /// The column, with the end of the interval where it is one.
    pub fn named_column(&self) -> String {
        match self.end {
            End::Value => self.column.clone(),
            _ if self.is_bound() => format!("{} (bound)", self.column),
            end => format!("{} ({})", self.column, end.name()),
        }
    }
}

/// Whether a budget is the published one but for its rounding.
pub fn is_budget(published: u64, ours: u64) -> bool {
    published.abs_diff(ours) as f64 <= BUDGET_TOLERANCE * published as f64
}

/// The numbers of an experiment of the file that this program has in it, of `all`, or of a file with the same columns.
///
/// # Errors
/// If there is neither such an experiment nor such a file, or the file is damaged.
pub fn selected(name: &str) -> Result<Vec<Published>> {
    let mut numbers = read(REFERENCE, "results/reference/proxy-gap.csv")?;
    if name == "all" {
        return Ok(numbers);
    }
    let mut experiments: Vec<String> = numbers.iter().map(|n| n.experiment.clone()).collect();
    if experiments.iter().any(|e| e == name) {
        numbers.retain(|n| n.experiment == name);
        return Ok(numbers);
    }
    if Path::new(name).is_file() {
        return read_file(Path::new(name));
    }
    experiments.sort();
    experiments.dedup();
    bail!(
        "--reference {name}: no published experiment and no file; give all, {}, or a CSV file",
        experiments.join(", ")
    )
}

/// Reads a file of published numbers.
///
/// # Errors
/// If it can't be read or is damaged; the message names line and column.
pub fn read_file(path: &Path) -> Result<Vec<Published>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(&text, &path.display().to_string())
}

/// Reads published numbers; `name` is the file's, for errors.
///
/// # Errors
/// If the text is damaged; the message names line and column.
pub fn read(text: &str, name: &str) -> Result<Vec<Published>> {
    let damaged = |Damage { line, cell, what }| anyhow::anyhow!("{name}: {}: {what}", place(line, cell));
    let rows = csv::rows(text).collect::<Result<Vec<Row>, Damage>>().map_err(damaged)?;
    let Some((head, rows)) = rows.split_first() else {
        bail!("{name} is empty; its first line is {}", COLUMNS.join(","));
    };
    for (at, column) in COLUMNS.into_iter().enumerate() {
        let found = head.cells.get(at).map_or("nothing", String::as_str);
        if found != column {
            bail!("{name}: {}: the header has {found}; its columns are {}", place(head.line, at), COLUMNS.join(","));
        }
    }
    rows.iter().map(|of| row(of, name)).collect()
}

/// `line 7, column 12 (end)`.
fn place(line: usize, cell: usize) -> String {
    let column = COLUMNS.get(cell).map_or_else(String::new, |c| format!(" ({c})"));
    format!("line {line}, column {}{column}", cell + 1)
}

fn row(row: &Row, name: &str) -> Result<Published> {
    let cells = &row.cells;
    if cells.len() != COLUMNS.len() {
        let at = cells.len().min(COLUMNS.len());
        bail!(
            "{name}: {}: the line has {} fields, the header {}; a field with a comma is to be in quotation marks",
            place(row.line, at),
            cells.len(),
            COLUMNS.len()
        );
    }
    let at = |column: &str| COLUMNS.iter().position(|c| *c == column).expect("a column of the file");
    let text = |column: &str| cells[at(column)].as_str();
    let refused =
        |column: &str, what: &str| format!("{name}: {}: {:?} is {what}", place(row.line, at(column)), text(column));
    let whole = |column: &str| -> Result<Option<u64>> {
        let value = Some(text(column)).filter(|t| !t.is_empty()).map(str::parse).transpose();
        value.ok().with_context(|| refused(column, "no whole number"))
    };
    let value = text("value").parse().ok().filter(|v: &f64| v.is_finite());
    let end = [End::Value, End::Low, End::High].into_iter().find(|e| e.name() == text("end"));
    let model = text("model");
    Ok(Published {
        experiment: text("experiment").to_owned(),
        table: text("table").to_owned(),
        row: text("row").to_owned(),
        column: text("column").to_owned(),
        model: model.to_owned(),
        models: match model.split_once(" − ").or_else(|| model.split_once(" / ")) {
            Some((to, from)) => Models::Pair { from: from.to_owned(), to: to.to_owned() },
            None if model.is_empty() => Models::All,
            None => Models::One(model.to_owned()),
        },
        depth: Some(text("depth").to_owned()).filter(|d| !d.is_empty()),
        layer: whole("layer")?,
        k: whole("k")?,
        tokens: whole("tokens")?,
        seeds: whole("seeds")?,
        quantity: text("quantity").to_owned(),
        end: end.with_context(|| refused("end", "neither value, low nor high"))?,
        value: value.with_context(|| refused("value", "no finite number"))?,
        text: text("text").to_owned(),
        source: text("source").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> Option<(usize, bool, bool)> {
        let mut number = selected("fast2").unwrap().remove(0);
        number.text = text.to_owned();
        number.printed().map(|p| (p.decimals, p.percent, p.signed))
    }

    #[test]
    fn decimals_give_the_rounding() {
        assert_eq!(printed("+0.154"), Some((3, false, true)));
        assert_eq!(printed("61.7%"), Some((1, true, false)));
        assert_eq!(printed("18x"), Some((0, false, false)));
        assert_eq!(printed("the CIs overlap at k=8"), None);
        let half = |text: &str| {
            Published { text: text.to_owned(), ..selected("all").unwrap().remove(0) }.printed().unwrap().half_unit()
        };
        assert!((half("61.7%") - 0.0005).abs() < 1e-15 && (half("40.6") - 0.05).abs() < 1e-15);
    }

    #[test]
    fn budgets_are_whole_steps() {
        assert!(is_budget(10_000_000, 9_998_336) && is_budget(10_000_000, 10_100_000));
        assert!(!is_budget(10_000_000, 10_100_001) && !is_budget(10_000_000, 1_000_000));
    }

    #[test]
    fn an_unknown_experiment_is_refused_with_those_there_are() {
        let error = selected("fast4").unwrap_err().to_string();
        assert!(error.contains("fast4") && error.contains("budget-k32-100m, budget-k8-50m, fast2, fast3"), "{error}");
    }
}
