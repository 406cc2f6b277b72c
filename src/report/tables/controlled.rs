//! SAEs beside the controls that their sweep made of them.

use super::{budget, percent, scored, signed};
use crate::analysis::{Analysis, Cell, JUDGED, controlled, outcomes};
use crate::markdown::{NONE, Table, score};

/// Each SAE, and below it each of its controls with how much the SAE has more.
pub fn against_controls(analysis: &Analysis<'_>) -> Table {
    let head = ["model", "depth", "k", "tokens", "seeds", "control", "alive %"].map(str::to_owned);
    let scores = JUDGED.iter().flat_map(|judged| {
        let difference = judged.higher.map(|_| format!("SAE − control, {}", judged.name));
        std::iter::once(judged.name.to_owned()).chain(difference)
    });
    let mut table = Table::new(head.into_iter().chain(scores));
    let row = |control: &str, cell: &Cell| {
        vec![
            cell.model.clone(),
            analysis.site(cell),
            analysis.setting(cell),
            budget(cell.budget),
            cell.runs.len().to_string(),
            control.to_owned(),
            percent(analysis.column(cell, "alive_frac")),
        ]
    };
    let mut last: Option<&Cell> = None;
    for found in controlled(analysis) {
        if !last.is_some_and(|last| std::ptr::eq(last, found.saes)) {
            let mut own = row("none: the SAE", found.saes);
            for judged in &JUDGED {
                own.push(scored(analysis.score(found.saes, judged.quantity())));
                own.extend(judged.higher.map(|_| NONE.to_owned()));
            }
            table.row(own);
        }
        last = Some(found.saes);
        let mut cells = row(found.control, &found.of);
        for judged in &JUDGED {
            cells.push(scored(analysis.score(&found.of, judged.quantity())));
            cells.extend(judged.higher.map(|_| signed(found.difference(analysis, judged.quantity()))));
        }
        table.row(cells);
    }
    table
}

/// Each control and score: what the SAEs have, what the control has, and in how many conditions which of the two is better.
pub fn what_controls_have(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new(["control", "score", "SAEs", "control's", "SAE better", "control better", "undecided"]);
    for outcome in outcomes(analysis) {
        let [saes, control] = outcome.medians.map(score);
        let counts = outcome.better.map_or_else(
            || [NONE; 3].map(str::to_owned),
            |[sae, other, all]| [sae, other, all - sae - other].map(|count| format!("{count} of {all}")),
        );
        table.row([outcome.control.to_owned(), outcome.score.name.to_owned(), saes, control].into_iter().chain(counts));
    }
    table
}
