//! What an increase of the token budget does to the difference between two models.

use super::{Analysis, Behaviour, Cell, Score, pairs};

/// A difference between two models at one budget, and what it changed since the budget before.
pub struct Trend<'a> {
    /// The earlier model's cell.
    pub from: &'a Cell,
    /// The later model's.
    pub to: &'a Cell,
    /// The difference of behaviour, positive where the later model's SAE is better.
    pub difference: Score,
    /// That difference minus the one at the next smaller budget, paired by seed and sequence; `None` at the smallest.
    pub change: Option<Score>,
}

/// Every pair of models at every site, setting and budget.
pub fn trends<'a>(analysis: &'a Analysis<'_>, behaviour: &Behaviour) -> Vec<Trend<'a>> {
    let budgets = analysis.grid.budgets();
    let of_pair = |(from, to): (&'a Cell, &'a Cell)| {
        let (quantity, sign) = behaviour.turned();
        let of = |v: &[f64]| sign * (v[1] - v[0]);
        let before = |cell: &Cell| {
            let smaller = budgets.iter().rev().filter(|b| **b < cell.budget);
            smaller.filter_map(|&b| analysis.cell(&cell.model, &cell.site, b, &cell.setting)).next()
        };
        let change = before(from).zip(before(to)).filter(|(a, b)| a.budget == b.budget).map(|(first, second)| {
            let parts = [first, second, from, to].map(|cell| (cell, quantity));
            analysis.derived(&parts, |v| Some(of(&v[2..]) - of(&v[..2])))
        });
        Trend { from, to, difference: analysis.improvement(from, to, behaviour), change }
    };
    pairs(analysis).into_iter().map(of_pair).collect()
}
