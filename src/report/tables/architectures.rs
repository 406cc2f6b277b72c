//! Architectures and objectives beside each other, at equal L0 and at equal k.

use super::{budget, scored, signed};
use crate::analysis::{Analysis, Score, contrasts};
use crate::markdown::{NONE, Table};

/// Each SAE of one architecture and objective against those of another.
pub fn architectures(analysis: &Analysis<'_>) -> Table {
    let mut table = Table::new([
        "model",
        "depth",
        "k",
        "tokens",
        "seeds",
        "L0",
        "against",
        "ΔR² at equal L0",
        "ΔCE_rec (pooled) at equal L0",
        "ΔKL at equal L0",
        "ΔR² at equal k",
        "ΔCE_rec (pooled) at equal k",
        "ΔKL at equal k",
    ]);
    for found in contrasts(analysis) {
        let shown = |score: Option<Score>| score.map_or_else(|| NONE.to_owned(), signed);
        let cell = found.cell;
        table.row([
            cell.model.clone(),
            analysis.site(cell),
            analysis.setting(cell),
            budget(cell.budget),
            cell.runs.len().to_string(),
            scored(found.l0),
            analysis.names.class(&found.against),
            shown(found.r2.at_l0),
            shown(found.ce_rec.at_l0),
            shown(found.kl.at_l0),
            shown(found.r2.at_k),
            shown(found.ce_rec.at_k),
            shown(found.kl.at_k),
        ]);
    }
    table
}
