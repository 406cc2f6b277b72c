//! Which token budgets of models answer to each other.

use super::{Analysis, Cell};

/// Budgets count as equally many tokens per latent within this share.
pub const SAME_TRAINING: f64 = 0.01;

impl Analysis<'_> {
    /// The largest token budget of a model, which may have budgets of its own.
    pub fn largest_budget_of(&self, model: &str) -> u64 {
        self.cells.iter().filter(|cell| cell.model == model).map(|cell| cell.budget).max().unwrap_or_default()
    }

    /// Whether a cell is of the largest budget of its model.
    pub fn is_of_largest_budget(&self, cell: &Cell) -> bool {
        cell.budget == self.largest_budget_of(&cell.model)
    }

    /// Whether fewer than half of the latents fire on the evaluation text, by the mean over the seeds: such an SAE is smaller than its width
    /// says, perhaps because it was trained too briefly.
    pub fn is_mostly_idle(&self, cell: &Cell) -> bool {
        self.column(cell, "alive_frac").is_some_and(|alive| alive < 0.5)
    }

    /// Training tokens per latent; `None` where the number of latents is not known.
    pub fn tokens_per_latent(&self, cell: &Cell) -> Option<f64> {
        Some(cell.budget as f64 / self.column(cell, "d_sae")?)
    }

    /// Another model's budget that answers to a cell's: the same one, or where the other has no such budget, one with
    /// [as many tokens per latent](SAME_TRAINING).
    pub fn budget_like(&self, cell: &Cell, model: &str) -> u64 {
        let others =
            || self.cells.iter().filter(|c| c.model == model && c.site == cell.site && c.setting == cell.setting);
        if others().any(|other| other.budget == cell.budget) {
            return cell.budget;
        }
        let is_alike = |other: &&Cell| {
            let ratio = self.tokens_per_latent(other).zip(self.tokens_per_latent(cell)).map(|(other, own)| other / own);
            ratio.is_some_and(|ratio| (ratio - 1.0).abs() <= SAME_TRAINING)
        };
        others().find(is_alike).map_or(cell.budget, |other| other.budget)
    }
}
