//! The hypotheses and what the rules say of them.

use crate::analysis::{Analysis, findings};
use crate::markdown::Table;

/// A row a rule and condition.
pub fn hypotheses(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new(["hypothesis", "condition", "numbers", "verdict"]);
    for found in findings(analysis) {
        table.row([found.hypothesis.name.to_owned(), found.condition, found.numbers, found.verdict.to_string()]);
    }
    table
}
