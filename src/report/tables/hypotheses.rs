//! The hypotheses and what the rules say of them.

use crate::analysis::{Analysis, Finding, findings};
use crate::markdown::{NONE, Table};

/// One row per rule and condition; one row for a rule that can't decide any of its conditions, and for one reason.
pub fn hypotheses(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new(["hypothesis", "condition", "numbers", "verdict"]);
    let mut found = findings(analysis);
    found.sort_by_key(|finding| finding.hypothesis.name);
    for rows in found.chunk_by(|a, b| a.hypothesis.name == b.hypothesis.name) {
        let first = &rows[0];
        if rows.len() > 1 && lack_the_same(rows) {
            let conditions = format!("{} conditions", rows.len());
            table.row([first.hypothesis.name.to_owned(), conditions, NONE.to_owned(), first.verdict.to_string()]);
            continue;
        }
        for found in rows {
            table.row([
                found.hypothesis.name.to_owned(),
                found.condition.clone(),
                found.numbers.clone(),
                found.verdict.to_string(),
            ]);
        }
    }
    table
}

/// Whether all are undecided for a reason that is none of their numbers'.
fn lack_the_same(rows: &[Finding]) -> bool {
    let first = &rows[0].verdict;
    !first.is_decided() && rows.iter().all(|row| row.verdict == *first)
}
