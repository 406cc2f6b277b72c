//! The proxy gap: how R² and behaviour differ between two models at equal site, budget and setting.

use assay_probes::metrics;

use super::{Analysis, BEHAVIOURS, Behaviour, Cell, QuestionKind, Score, on_all};

/// The difference between two models' SAEs.
pub struct Gap<'a> {
    /// The earlier model's cell.
    pub from: &'a Cell,
    /// The later model's.
    pub to: &'a Cell,
    /// ΔR², later minus earlier.
    pub r2: Score,
    /// ΔCE_rec, per sequence as the reference texts have it.
    pub ce_rec: Score,
    /// ΔR²/ΔCE_rec, of different units; the reference texts'.
    pub ratio: Score,
    /// As [`mismatches`] counts them.
    pub mismatches: (usize, usize),
    /// The difference of every behaviour metric, in the order of [`BEHAVIOURS`].
    pub behaviours: Vec<BehaviourGap>,
}

/// The difference of one behaviour metric.
pub struct BehaviourGap {
    /// Which.
    pub behaviour: &'static Behaviour,
    /// Later minus earlier, positive where the later model's SAE is the better one.
    pub difference: Score,
    /// Seeds in which ΔR² has the opposite sign, and seeds.
    pub mismatches: (usize, usize),
}

impl Gap<'_> {
    /// Share of the seeds with opposite signs.
    pub fn mismatch_rate(&self) -> Option<f64> {
        let (opposite, seeds) = self.mismatches;
        (seeds > 0).then(|| opposite as f64 / seeds as f64)
    }
}

/// The cells of every pair of models, earlier and later, at every site, [budget](Analysis::budget_like) and setting that both have.
pub fn pairs<'a>(analysis: &'a Analysis<'_>) -> Vec<(&'a Cell, &'a Cell)> {
    let mut pairs = Vec::new();
    let (sites, settings) = (analysis.grid.sites(), analysis.grid.settings());
    for (from, to) in analysis.model_pairs() {
        for site in &sites {
            for budget in analysis.grid.budgets() {
                for setting in &settings {
                    let Some(to) = analysis.cell(&to, site, budget, setting) else { continue };
                    let from = analysis.cell(&from, site, analysis.budget_like(to, &from), setting);
                    pairs.extend(from.map(|from| (from, to)));
                }
            }
        }
    }
    pairs
}

/// The gap of every pair.
pub fn gaps<'a>(analysis: &'a Analysis<'_>) -> Vec<Gap<'a>> {
    pairs(analysis).into_iter().map(|(from, to)| gap(analysis, from, to)).collect()
}

/// Seeds of which ΔR² and ΔCE_rec (per sequence) have opposite signs, and seeds that both cells have.
pub fn mismatches(analysis: &Analysis<'_>, from: &Cell, to: &Cell) -> (usize, usize) {
    opposite_signs(analysis, from, to, super::behaviour("ce_rec"))
}

/// Seeds of which ΔR² and the difference of a behaviour metric have opposite signs, and seeds that both cells have.
fn opposite_signs(analysis: &Analysis<'_>, from: &Cell, to: &Cell, behaviour: &Behaviour) -> (usize, usize) {
    let (mut opposite, mut seeds) = (0, 0);
    for a in analysis.runs(from) {
        let Some(b) = analysis.runs(to).find(|b| b.seed == a.seed) else { continue };
        let r2 = b.value("r2").zip(a.value("r2")).map(|(b, a)| b - a);
        let behaves = behaviour.of(b).zip(behaviour.of(a)).map(|(b, a)| b - a);
        if let Some((r2, behaves)) = r2.zip(behaves) {
            opposite += usize::from(r2 * behaves < 0.0);
            seeds += 1;
        }
    }
    (opposite, seeds)
}

/// The gap between two cells.
pub fn gap<'a>(analysis: &Analysis<'_>, from: &'a Cell, to: &'a Cell) -> Gap<'a> {
    let (r2, ce_rec) = (on_all("r2"), on_all("ce_rec"));
    let parts = [(from, r2), (to, r2), (from, ce_rec), (to, ce_rec)];
    let ce_rec = analysis.difference(from, to, ce_rec);
    let ratio = analysis.remembered(QuestionKind::RatioOfGaps, [from, to], r2, || {
        analysis.derived(&parts, |v| metrics::ratio(v[1] - v[0], v[3] - v[2]))
    });
    // A quotient has no interval where its denominator may be 0.
    let certain = ce_rec.bootstrap.is_some_and(|i| i.excludes_zero());
    let of_behaviour = |behaviour: &'static Behaviour| BehaviourGap {
        behaviour,
        difference: analysis.improvement(from, to, behaviour),
        mismatches: opposite_signs(analysis, from, to, behaviour),
    };
    Gap {
        from,
        to,
        r2: analysis.difference(from, to, r2),
        ce_rec,
        ratio: if certain { ratio } else { Score::bare(ratio.value) },
        mismatches: mismatches(analysis, from, to),
        behaviours: BEHAVIOURS.iter().map(of_behaviour).collect(),
    }
}
