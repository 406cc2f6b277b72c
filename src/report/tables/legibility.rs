//! What latents mean, as scores, and whether these tell SAEs apart.

use super::{NONE, Table};
use crate::analysis::{ASKED, Analysis, BEYOND, legible};
use crate::markdown::{p_value, score, signed_with_interval, with_interval};

/// A row a score.
pub fn legibility(analysis: &Analysis<'_>) -> Table {
    let controls = analysis.grid.control_names();
    let has_beyond = controls.contains(&BEYOND);
    let mut head = ["score", "SAEs", "another latent's"].map(str::to_owned).to_vec();
    head.extend(controls.iter().map(|name| format!("SAEs − {name}")));
    head.extend(["ICC", "p (Holm)"].map(str::to_owned));
    head.extend(has_beyond.then(|| format!("ICC beyond {BEYOND}")));
    head.extend(ASKED.iter().map(|(_, name)| format!("r with {name}")));
    let mut table = Table::new(head);
    for found in legible(analysis) {
        let mut row = vec![found.name, with_interval(found.saes.value, found.saes.interval), score(found.other)];
        row.extend(found.less.iter().map(|less| signed_with_interval(less.value, less.interval)));
        row.push(score(found.ranks.map(|ranks| ranks.icc)));
        row.push(found.p.map_or_else(|| NONE.to_owned(), p_value));
        row.extend(has_beyond.then(|| score(found.beyond.map(|beyond| beyond.icc))));
        row.extend(found.with.into_iter().map(|(r, interval)| signed_with_interval(r, interval)));
        table.row(row);
    }
    table
}
