//! Models that stand for published ones, under their own names.

use super::numbers::{Counterpart, Missing, Numbers};
use super::published::{Models, Published};

/// Numbers in which some models stand for published ones.
///
/// A stand-in has other layers, so rows are matched on their depth alone; a token budget is matched only where the numbers are of several, or
/// else it answers to any.
pub struct StandIns<'a> {
    /// Where counterparts are looked for.
    pub numbers: &'a dyn Numbers,
    /// Our model's name and that of the published one.
    pub map: &'a [(String, String)],
    /// Whether the numbers are of one token budget.
    pub one_budget: bool,
}

impl Numbers for StandIns<'_> {
    fn find(&self, wanted: &Published) -> Result<Counterpart, Missing> {
        let ours =
            |theirs: &str| self.map.iter().find(|(_, published)| published == theirs).map(|(ours, _)| ours.clone());
        let models = match &wanted.models {
            Models::One(model) => ours(model).map(Models::One),
            Models::Pair { from, to } => ours(from).zip(ours(to)).map(|(from, to)| Models::Pair { from, to }),
            Models::All => None,
        };
        // What is of no stand-in is matched on everything.
        let Some(models) = models else { return self.numbers.find(wanted) };
        let tokens = wanted.tokens.filter(|_| !self.one_budget);
        self.numbers.find(&Published { models, layer: None, tokens, ..wanted.clone() })
    }
}
