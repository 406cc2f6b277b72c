//! The strongest findings of a grid, chosen by a rule that is fixed in advance.
//!
//! **Questions.** Each is asked under every condition of the largest token budget that it applies to, and each effect is one difference
//! in one unit:
//!
//! | question | effect | decided against |
//! | --- | --- | --- |
//! | [`Answer::Models`] | ΔR² and ΔCE_rec (pooled) of the last model against the first, at equal k | 0, both of them, and [`LEAST`] |
//! | [`Answer::EqualR2`] | ΔCE_rec (pooled) of the same at equal R² | 0 |
//! | [`Answer::Classes`] | ΔR² and ΔCE_rec (pooled) of a class against each earlier one of the spec, at equal L0 | 0, both of them, and [`LEAST`] |
//! | [`Answer::Kept`] | R² minus the loss score under mean ablation, which have the same 0 and 1 ([`crate::verdict`]) | ±[`DIFFER`](crate::verdict::DIFFER), or within ±[`AGREE`](crate::verdict::AGREE) |
//! | [`Answer::FewTokens`] | R² minus R² without outliers, or without position 0 | ±[`GAP`] |
//! | [`Answer::Proxy`] | Pearson's correlation of a proxy with CE_rec within fixed site and setting, minus that of R² | 0, and the swap test by Holm |
//! | [`Answer::Training`] | what the last increase of the budget changed of ΔCE_rec between the models | 0 |
//!
//! **Strength.** The distance of an effect from what it is decided against, in half widths of its 95 % interval. It has no unit, and 1 is
//! where the interval just touches. Where two effects are needed, the weaker counts. An effect is decided where its whole interval lies
//! on one side (and, of differences between SAEs, by more than twice the Monte-Carlo error of its end).
//!
//! **Size.** That R² and behaviour name the same SAE or different ones is said only where both differences are at least [`LEAST`]: many
//! sequences decide a difference of 0.0001 that nobody would choose an SAE by. Where the whole interval of R² lies within ±LEAST, and behaviour
//! differs by more, R² does not see the difference, which is no contradiction and speaks against it too; where that of behaviour lies within,
//! the two are alike.
//!
//! **Choice.** A question is shown at its strongest decided condition and is as strong as that; one without a decided condition is no
//! finding. Where some conditions contradict R² (opposite signs, scores that differ, a better proxy) and others don't, the strongest of
//! those that do is shown: they answer whether R² can be relied on. Findings are sorted by strength, ties by the order of the table. The
//! strongest of many conditions flatters, so every finding counts its conditions.

mod compared;
mod kept;

use assay_probes::metrics::Subset;
use assay_probes::stats::hypotheses::ALPHA;
use assay_probes::stats::{Estimate, Interval, holm};

use super::{
    Analysis, BEHAVIOURS, Cell, Contrast, Gap, Given, ProxyRank, Score, Trend, behaviour, contrasts, gaps, leaderboard,
    models_at_equal, on_all, trends,
};
use crate::verdict::GAP;
use compared::Compared;
pub use compared::LEAST;

/// How conditions of a question came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Decided in one way.
    pub above: usize,
    /// Decided in the other way.
    pub below: usize,
    /// Decided to be neither, where there is such a decision.
    pub equal: usize,
    /// Of these, differences that behaviour has and R² has not: it calls the two about the same.
    pub unseen: usize,
    /// All that the question applies to.
    pub of: usize,
}

/// The answer to a question, with its strongest condition.
pub enum Answer<'a> {
    /// Do R² and behaviour name the same model's SAE at equal k? Above: R² and CE_rec have the same sign; below: opposite signs; equal: one of
    /// them is surely smaller than [`LEAST`].
    Models {
        /// The strongest condition.
        gap: Gap<'a>,
        /// By the pooled CE_rec.
        tally: Tally,
        /// Every metric of behaviour with conditions of the opposite sign to ΔR², and how many of those are decided.
        contrary: Vec<Contrary<'a>>,
    },
    /// Does the last model keep more than the first at equal R²?
    EqualR2 {
        /// The later model's SAE.
        cell: &'a Cell,
        /// The earlier model.
        earlier: String,
        /// Of the pooled CE_rec.
        difference: Score,
        /// Above: the later model's is higher.
        tally: Tally,
    },
    /// Do R² and behaviour name the same class at equal L0? As for [`Self::Models`].
    Classes {
        /// The strongest condition.
        contrast: Box<Contrast<'a>>,
        /// By the pooled CE_rec.
        tally: Tally,
    },
    /// Does R² tell what an SAE keeps? Above: it overstates; below: it understates; equal: they agree.
    Kept {
        /// The strongest condition.
        cell: &'a Cell,
        /// Its R².
        r2: Score,
        /// Its loss score under mean ablation.
        kept: Score,
        /// The former minus the latter.
        difference: Score,
        /// By the verdict's rule.
        tally: Tally,
        /// Of the conditions that came out as the strongest did, those in which most latents are idle ([`Analysis::is_mostly_idle`]).
        idle: usize,
    },
    /// Do a few tokens make R²? Above: they raise it; below: they lower it.
    FewTokens {
        /// The strongest condition.
        cell: &'a Cell,
        /// Without which tokens.
        subset: Subset,
        /// R² and pooled CE_rec on all tokens.
        all: [Score; 2],
        /// The same without them.
        without: [Score; 2],
        /// Without outliers, and without position 0.
        tallies: [(Subset, Tally); 2],
    },
    /// Does a proxy rank SAEs as CE_rec does better than R²? Above: it does; below: it does worse.
    Proxy {
        /// The proxy of the strongest condition.
        rank: ProxyRank,
        /// R²'s own correlation.
        r2: Estimate,
        /// Of proxies.
        tally: Tally,
    },
    /// Does training longer change the difference between the models? Above: it became larger or less negative.
    Training {
        /// The strongest condition.
        trend: Trend<'a>,
        /// Of conditions.
        tally: Tally,
    },
}

/// A metric of behaviour whose difference between models has the opposite sign to that of R².
pub struct Contrary<'a> {
    /// Its name.
    pub name: &'static str,
    /// Conditions of opposite sign.
    pub opposite: usize,
    /// Those of them in which both intervals exclude 0.
    pub decided: usize,
    /// The strongest of these: the later model's cell, ΔR², and the metric's difference.
    pub example: Option<(&'a Cell, Score, Score)>,
}

/// An answer and the strength by which it is sorted.
pub struct Strong<'a> {
    /// In half widths of a 95 % interval.
    pub strength: f64,
    /// What was found.
    pub answer: Answer<'a>,
}

/// All decided answers, the strongest first.
pub fn strongest<'a>(analysis: &'a Analysis<'_>) -> Vec<Strong<'a>> {
    let asked = [
        models(analysis),
        equal_r2(analysis),
        classes(analysis),
        kept::kept(analysis),
        few_tokens(analysis),
        proxies(analysis),
        training(analysis),
    ];
    let mut found: Vec<Strong<'a>> = asked.into_iter().flatten().collect();
    // A stable sort: ties keep the order of the table.
    found.sort_by(|a, b| b.strength.total_cmp(&a.strength));
    found
}

/// How far a value lies from a threshold, in half widths of its interval; `None` without an interval of finite width.
fn strength(value: f64, interval: Interval, threshold: f64) -> Option<f64> {
    let half = (interval.high - interval.low) / 2.0;
    (half > 0.0 && half.is_finite()).then(|| (value - threshold).abs() / half)
}

/// The sign and strength of a difference whose interval surely excludes 0.
fn apart(score: &Score) -> Option<(f64, f64)> {
    let (value, interval) = (score.value?, score.interval?);
    Some((score.certain_sign()?, strength(value, interval, 0.0)?))
}

/// Whether two decided differences have the same sign, and the weaker's strength.
fn both_apart(a: &Score, b: &Score) -> Option<(bool, f64)> {
    let ((sign_a, of_a), (sign_b, of_b)) = (apart(a)?, apart(b)?);
    Some((sign_a == sign_b, of_a.min(of_b)))
}

/// Keeps the strongest of some decided conditions; the first of equals.
struct Best<T>(Option<(f64, T)>);

impl<T> Best<T> {
    fn offer(&mut self, strength: f64, what: T) {
        if self.0.as_ref().is_none_or(|(best, _)| strength > *best) {
            self.0 = Some((strength, what));
        }
    }
}

/// Cells of the last model's SAEs against the first's at the largest budget.
fn of_ends(analysis: &Analysis<'_>, from: &Cell, to: &Cell) -> bool {
    let models = analysis.grid.models();
    let are_ends = Some(&from.model) == models.first() && Some(&to.model) == models.last();
    are_ends && analysis.is_of_largest_budget(to)
}

fn models<'a>(analysis: &'a Analysis<'_>) -> Option<Strong<'a>> {
    let found: Vec<Gap<'a>> = gaps(analysis).into_iter().filter(|g| of_ends(analysis, g.from, g.to)).collect();
    let (mut tally, mut compared) = (Tally { of: found.len(), ..Tally::default() }, Compared::new());
    for (at, gap) in found.iter().enumerate() {
        compared.add(&mut tally, &gap.r2, &gap.behaviours[0].difference, at);
    }
    let contrary = (0..BEHAVIOURS.len()).map(|at| contrary(&found, at)).filter(|c| c.opposite > 0).collect();
    let (strength, at) = compared.shown()?;
    let gap = found.into_iter().nth(at)?;
    Some(Strong { strength, answer: Answer::Models { gap, tally, contrary } })
}

fn contrary<'a>(gaps: &[Gap<'a>], at: usize) -> Contrary<'a> {
    let (mut opposite, mut decided, mut best) = (0, 0, Best(None));
    for gap in gaps {
        let difference = gap.behaviours[at].difference;
        if gap.r2.value.zip(difference.value).is_some_and(|(a, b)| a * b < 0.0) {
            opposite += 1;
            if let Some((false, strength)) = both_apart(&gap.r2, &difference) {
                decided += 1;
                best.offer(strength, (gap.to, gap.r2, difference));
            }
        }
    }
    Contrary { name: BEHAVIOURS[at].name, opposite, decided, example: best.0.map(|(_, example)| example) }
}

fn equal_r2<'a>(analysis: &'a Analysis<'_>) -> Option<Strong<'a>> {
    let (mut tally, mut best) = (Tally::default(), Best(None));
    let metric = behaviour("ce_rec_pooled").turned();
    for (from, to) in super::pairs(analysis).into_iter().filter(|(from, to)| of_ends(analysis, from, to)) {
        let Some(difference) = models_at_equal(analysis, &from.model, to, metric, Given::R2) else { continue };
        tally.of += 1;
        if let Some((sign, strength)) = apart(&difference) {
            *if sign > 0.0 { &mut tally.above } else { &mut tally.below } += 1;
            best.offer(strength, (to, from.model.clone(), difference));
        }
    }
    let (strength, (cell, earlier, difference)) = best.0?;
    Some(Strong { strength, answer: Answer::EqualR2 { cell, earlier, difference, tally } })
}

impl Tally {
    /// How the classes' comparisons came out, also where none is decided.
    pub fn of_classes(analysis: &Analysis<'_>) -> Self {
        compared_classes(analysis).0
    }

    /// How the conditions came out in which R² is to tell what SAEs keep, also where none is decided.
    pub fn of_kept(analysis: &Analysis<'_>) -> Self {
        kept::judged(analysis).0
    }

    /// Conditions that are undecided.
    pub fn open(&self) -> usize {
        self.of - self.above - self.below - self.equal
    }
}

/// Of the same comparisons as [`super::choices`] at the largest budget.
fn compared_classes<'a>(analysis: &'a Analysis<'_>) -> (Tally, Compared<Contrast<'a>>) {
    let (mut tally, mut compared) = (Tally::default(), Compared::new());
    for contrast in contrasts(analysis) {
        let at_l0 = contrast.r2.at_l0.zip(contrast.ce_rec.at_l0);
        let Some((r2, ce_rec)) = at_l0.filter(|_| analysis.is_of_largest_budget(contrast.cell)) else { continue };
        tally.of += 1;
        compared.add(&mut tally, &r2, &ce_rec, contrast);
    }
    (tally, compared)
}

fn classes<'a>(analysis: &'a Analysis<'_>) -> Option<Strong<'a>> {
    let (tally, compared) = compared_classes(analysis);
    let (strength, contrast) = compared.shown()?;
    Some(Strong { strength, answer: Answer::Classes { contrast: Box::new(contrast), tally } })
}

fn few_tokens<'a>(analysis: &'a Analysis<'_>) -> Option<Strong<'a>> {
    let metrics = ["r2", "ce_rec_pooled"].map(on_all);
    let mut tallies = [Subset::NoOutlier, Subset::NoFirst].map(|subset| (subset, Tally::default()));
    let mut best = Best(None);
    for cell in analysis.cells.iter().filter(|c| analysis.is_of_largest_budget(c)) {
        for &mut (subset, ref mut tally) in &mut tallies {
            let [(r2, _), _] = metrics;
            let parts = [(cell, (r2, Subset::All)), (cell, (r2, subset))];
            let difference = analysis.derived(&parts, |v| Some(v[0] - v[1]));
            let Some((value, interval)) = difference.value.zip(difference.interval) else { continue };
            tally.of += 1;
            let count = if interval.low > GAP {
                &mut tally.above
            } else if interval.high < -GAP {
                &mut tally.below
            } else {
                continue;
            };
            *count += 1;
            if let Some(strength) = strength(value, interval, GAP.copysign(value)) {
                best.offer(strength, (cell, subset));
            }
        }
    }
    let (strength, (cell, subset)) = best.0?;
    let of = |subset| metrics.map(|(metric, _)| analysis.score(cell, (metric, subset)));
    Some(Strong {
        strength,
        answer: Answer::FewTokens { cell, subset, all: of(Subset::All), without: of(subset), tallies },
    })
}

fn proxies<'a>(analysis: &'a Analysis<'_>) -> Option<Strong<'a>> {
    let sites = analysis.grid.sites();
    let site = if sites.len() == 1 { sites.first() } else { None };
    let (ranks, _) = leaderboard(analysis, site, analysis.largest_budget(), behaviour("ce_rec_pooled"));
    let r2 = ranks.iter().find(|rank| rank.advantage.is_none())?.pearson_within;
    let compared: Vec<ProxyRank> = ranks.into_iter().filter(|rank| rank.advantage.is_some()).collect();
    let adjusted = holm(&compared.iter().map(|rank| rank.p.unwrap_or(f64::NAN)).collect::<Vec<_>>());
    let (mut tally, mut better, mut worse) = (Tally { of: compared.len(), ..Tally::default() }, Best(None), Best(None));
    for (at, (rank, p)) in compared.iter().zip(adjusted).enumerate() {
        let found = rank.advantage.and_then(|a| a.value.zip(a.interval));
        let Some((value, interval)) = found.filter(|(_, i)| i.excludes_zero() && p <= ALPHA) else { continue };
        let (count, best) = if value > 0.0 { (&mut tally.above, &mut better) } else { (&mut tally.below, &mut worse) };
        *count += 1;
        if let Some(strength) = strength(value, interval, 0.0) {
            best.offer(strength, at);
        }
    }
    let (strength, at) = better.0.or(worse.0)?;
    let rank = compared.into_iter().nth(at)?;
    Some(Strong { strength, answer: Answer::Proxy { rank, r2, tally } })
}

fn training<'a>(analysis: &'a Analysis<'_>) -> Option<Strong<'a>> {
    let found = trends(analysis, behaviour("ce_rec_pooled"));
    let found: Vec<Trend<'a>> = found.into_iter().filter(|t| of_ends(analysis, t.from, t.to)).collect();
    let (mut tally, mut best) = (Tally::default(), Best(None));
    for (at, trend) in found.iter().enumerate() {
        let Some(change) = trend.change else { continue };
        tally.of += 1;
        if let Some((sign, strength)) = apart(&change) {
            *if sign > 0.0 { &mut tally.above } else { &mut tally.below } += 1;
            best.offer(strength, at);
        }
    }
    let (strength, at) = best.0?;
    let trend = found.into_iter().nth(at)?;
    Some(Strong { strength, answer: Answer::Training { trend, tally } })
}

#[cfg(test)]
mod tests {
    use super::super::made::{MODELS, Made, Place, Whole, grid, grid_of, noise, number};
    use super::*;
    use crate::frames::{Setting, Site};
    use crate::verdict::MIN_SEQUENCES;

    const KS: [u64; 6] = [4, 8, 16, 32, 64, 128];

    fn wobble((model, k, budget, seed): Place<'_>, at: usize, what: u64) -> f64 {
        0.01 * noise(&[number(model), k, budget, seed, at as u64, what])
    }

    /// R² and CE_rec rise with k; the larger model's differ by these.
    fn differing(r2: f64, ce_rec: f64) -> impl Fn(Place<'_>, usize) -> Made {
        move |place, at| {
            let (larger, ln) = (number(place.0) as f64, (place.1 as f64).ln());
            let wobble = |what| wobble(place, at, what);
            Made::new(0.1 * ln + larger * r2 + wobble(0), 0.15 * ln + larger * ce_rec + wobble(1))
        }
    }

    fn names(found: &[Strong<'_>]) -> Vec<&'static str> {
        let name = |strong: &Strong<'_>| match strong.answer {
            Answer::Models { .. } => "models",
            Answer::EqualR2 { .. } => "equal R²",
            Answer::Classes { .. } => "classes",
            Answer::Kept { .. } => "kept",
            Answer::FewTokens { .. } => "few tokens",
            Answer::Proxy { .. } => "proxy",
            Answer::Training { .. } => "training",
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn noise_has_no_findings() {
        let made = |place: Place<'_>, at: usize| {
            Made::new(0.5 + 20.0 * wobble(place, at, 0), 0.5 + 20.0 * wobble(place, at, 1))
        };
        let grid = grid(&MODELS, &[4, 8], &[1000], 1, 12, made);
        let analysis = Analysis::new(&grid);
        assert_eq!(names(&strongest(&analysis)), [""; 0]);
    }

    #[test]
    fn opposite_signs_are_told_from_equal_ones() {
        for (r2, ce_rec, opposite) in [(0.05, -0.05, true), (-0.05, -0.05, false)] {
            let grid = grid(&MODELS, &[4, 8, 16], &[1000], 1, 12, differing(r2, ce_rec));
            let analysis = Analysis::new(&grid);
            let found = strongest(&analysis);
            let Some(Strong { strength, answer: Answer::Models { gap, tally, contrary } }) =
                found.iter().find(|s| matches!(s.answer, Answer::Models { .. }))
            else {
                panic!("{:?}", names(&found))
            };
            let all = Tally { of: 3, ..Tally::default() };
            assert_eq!(*tally, if opposite { Tally { below: 3, ..all } } else { Tally { above: 3, ..all } });
            let halves = [gap.r2, gap.behaviours[0].difference].map(|score| {
                let interval = score.interval.unwrap();
                score.value.unwrap().abs() / ((interval.high - interval.low) / 2.0)
            });
            assert!((strength - halves[0].min(halves[1])).abs() < 1e-12 && *strength > 1.0, "{strength} {halves:?}");
            // Every metric of behaviour is a map of the same loss here.
            assert_eq!(contrary.len(), if opposite { BEHAVIOURS.len() } else { 0 });
            assert!(contrary.iter().all(|c| (c.opposite, c.decided) == (3, 3) && c.example.is_some()));
        }
    }

    /// However sure it is that a difference is not 0.
    #[test]
    fn a_difference_that_nobody_would_act_on_is_no_contradiction() {
        let three = |equal, unseen, below| Some(Tally { equal, unseen, below, above: 0, of: 3 });
        for (r2, ce_rec, expected) in
            [(0.002, -0.05, three(3, 3, 0)), (0.05, -0.002, None), (0.02, -0.05, three(0, 0, 3))]
        {
            let grid = grid(&MODELS, &[4, 8, 16], &[1000], 1, 40, differing(r2, ce_rec));
            let analysis = Analysis::new(&grid);
            let found = strongest(&analysis).into_iter().find_map(|strong| match strong.answer {
                Answer::Models { tally, .. } => Some(tally),
                _ => None,
            });
            assert_eq!(found, expected, "{r2} {ce_rec}");
        }
    }

    #[test]
    fn findings_are_sorted_by_strength_and_decided() {
        let grid = grid(&MODELS, &KS, &[1000], 1, 40, differing(-0.05, -0.02));
        let analysis = Analysis::new(&grid);
        let found = strongest(&analysis);
        assert!(found.len() >= 3, "{:?}", names(&found));
        assert!(found.is_sorted_by(|a, b| a.strength >= b.strength) && found.iter().all(|s| s.strength > 1.0));
        let again: Vec<f64> = strongest(&Analysis::new(&grid)).iter().map(|s| s.strength).collect();
        assert_eq!(again, found.iter().map(|s| s.strength).collect::<Vec<_>>());
        // At equal R² the larger model's k is the greater by 0.05/0.1 in ln k, of which CE_rec has 0.075, less 0.02.
        let equal = found.iter().find_map(|s| match &s.answer {
            Answer::EqualR2 { difference, tally, earlier, .. } => {
                Some((difference.value.unwrap(), *tally, earlier.as_str()))
            }
            _ => None,
        });
        let (difference, tally, earlier) = equal.unwrap();
        assert!((difference - 0.055).abs() < 0.01, "{difference}");
        assert_eq!((tally.above, tally.below, earlier), (tally.of, 0, "little"));
    }

    #[test]
    fn what_is_kept_is_judged_by_the_verdict_s_thresholds() {
        // The loss score under mean ablation is (2 + 3 CE_rec)/5: 0.8 here.
        for (r2, expected) in [(0.4, [0, 2, 0]), (1.0, [2, 0, 0]), (0.8, [0, 0, 2]), (0.9, [0, 0, 0])] {
            let made = move |place: Place<'_>, at: usize| {
                Made::new(r2 + wobble(place, at, 0), 2.0 / 3.0 + wobble(place, at, 1))
            };
            let grid = grid(&["little"], &[4, 8], &[1000], 1, MIN_SEQUENCES, made);
            let analysis = Analysis::new(&grid);
            let found = strongest(&analysis);
            let tally = found.iter().find_map(|s| match s.answer {
                Answer::Kept { tally, .. } => Some([tally.above, tally.below, tally.equal]),
                _ => None,
            });
            assert_eq!(tally, (expected != [0; 3]).then_some(expected), "{r2}");
            // Without a decided condition there is no finding, and all are open.
            let all = Tally::of_kept(&analysis);
            assert_eq!(([all.above, all.below, all.equal], all.open()), (expected, 2 - expected.iter().sum::<usize>()));
        }
        let few = grid(&["little"], &[4], &[1000], 1, MIN_SEQUENCES - 1, |_, _| Made::new(0.4, 2.0 / 3.0));
        let few = Analysis::new(&few);
        assert_eq!((names(&strongest(&few)), Tally::of_kept(&few).of), (vec![], 0));
        assert!(few.cells.iter().all(|cell| few.has_few_sequences(cell)));
    }

    #[test]
    fn conditions_with_idle_latents_are_counted_among_those_like_the_clearest() {
        // R² overstates at k 4 and 8 and understates at 16.
        let made = |place: Place<'_>, at: usize| {
            let r2 = if place.1 == 16 { 0.5 } else { 1.0 };
            Made::new(r2 + wobble(place, at, 0), 2.0 / 3.0 + wobble(place, at, 1))
        };
        for (alive, expected) in [([0.4, 0.5, 0.4], 1), ([0.4, 0.4, 0.4], 2), ([0.5, 0.5, 0.4], 0)] {
            let mut grid = grid(&["little"], &[4, 8, 16], &[1000], 1, MIN_SEQUENCES, made);
            for (run, alive) in grid.runs.iter_mut().zip(alive) {
                run.values.insert("alive_frac".to_owned(), Some(alive));
            }
            let analysis = Analysis::new(&grid);
            let found = strongest(&analysis);
            let kept = found.iter().find_map(|s| match s.answer {
                Answer::Kept { tally, difference, idle, .. } => {
                    Some((tally.above, tally.below, difference.value? > 0.0, idle))
                }
                _ => None,
            });
            let (above, below, overstates, idle) = kept.unwrap();
            assert_eq!((above, below), (2, 1));
            assert_eq!(idle, if overstates { expected } else { 1 }, "{alive:?}");
        }
    }

    #[test]
    fn a_few_tokens_are_found_where_r2_is_theirs() {
        for (few, there) in [(0.3, true), (0.05, false)] {
            let made = move |place: Place<'_>, at: usize| Made {
                few: few + wobble(place, at, 2),
                ..Made::new(0.8 + wobble(place, at, 0), 0.7)
            };
            let grid = grid(&["little"], &[4, 8], &[1000], 1, 12, made);
            let analysis = Analysis::new(&grid);
            let found = strongest(&analysis);
            assert_eq!(names(&found), if there { vec!["few tokens"] } else { vec![] });
            if let Some(Answer::FewTokens { subset, all, without, tallies, .. }) = found.first().map(|s| &s.answer) {
                // Of two SAEs: both without outliers, neither without position 0.
                let two = Tally { of: 2, ..Tally::default() };
                assert_eq!(*subset, Subset::NoOutlier);
                assert_eq!(*tallies, [(Subset::NoOutlier, Tally { above: 2, ..two }), (Subset::NoFirst, two)]);
                assert!((all[0].value.unwrap() - without[0].value.unwrap() - 0.3).abs() < 0.02);
            }
        }
    }

    #[test]
    fn a_better_proxy_is_found() {
        // Within fixed k, R² is noise and SWD is 1 − CE_rec.
        let made = |place: Place<'_>, at: usize| {
            let (model, k, ..) = place;
            let of_run = |what| 0.1 * noise(&[number(model), k, what]);
            Made::new(0.5 + of_run(0), 0.5 + of_run(1) + wobble(place, at, 1))
        };
        // Enough blocks for the swap test after Holm's correction.
        let ks: Vec<u64> = (2..14).map(|power| 1 << power).collect();
        let grid = grid(&MODELS, &ks, &[1000], 1, 12, made);
        let analysis = Analysis::new(&grid);
        let found = strongest(&analysis);
        let proxy = found.iter().find_map(|s| match &s.answer {
            Answer::Proxy { rank, tally, .. } => Some((rank.proxy.name, tally.above)),
            _ => None,
        });
        assert!(matches!(proxy, Some(("−SWD", 1..))), "{proxy:?} {:?}", names(&found));
    }

    #[test]
    fn a_difference_that_closes_is_found() {
        let made = |place: Place<'_>, at: usize| {
            let far = if place.2 == 1000 { 0.1 } else { 0.04 };
            differing(0.0, -far)(place, at)
        };
        let grid = grid(&MODELS, &[4, 8], &[1000, 2000], 3, 12, made);
        let analysis = Analysis::new(&grid);
        let found = strongest(&analysis);
        let change = found.iter().find_map(|s| match &s.answer {
            Answer::Training { trend, tally } => Some((trend.change.and_then(|c| c.value).unwrap(), *tally)),
            _ => None,
        });
        let (change, tally) = change.unwrap();
        assert!((change - 0.06).abs() < 0.01, "{change}");
        assert_eq!(tally, Tally { above: 2, of: 2, ..Tally::default() });
    }

    #[test]
    fn classes_that_r2_and_behaviour_order_differently_are_found() {
        let setting = |name: &str, k| Setting { architecture: name.to_owned(), ..Setting::topk(k) };
        let settings = ["topk", "groupmax"].map(|name| [4, 8, 16].map(|k| setting(name, k))).concat();
        let made = |(_, _, setting, ..): Whole<'_>, at: usize| {
            let k = setting.k.unwrap();
            let other = f64::from(u8::from(setting.architecture == "groupmax"));
            let wobble = |what| 0.01 * noise(&[k, other as u64, at as u64, what]);
            let ln = (k as f64).ln();
            Made { l0: k as f64, ..Made::new(0.1 * ln - 0.05 * other + wobble(0), 0.1 * ln + 0.05 * other + wobble(1)) }
        };
        let grid = grid_of(&["little"], &[Site::resid_post("mid")], &settings, &[1000], (1, 12), made);
        let analysis = Analysis::new(&grid);
        let found = strongest(&analysis);
        let Some(Answer::Classes { contrast, tally }) = found.first().map(|s| &s.answer) else {
            panic!("{:?}", names(&found))
        };
        assert_eq!(*tally, Tally { below: 3, of: 3, ..Tally::default() });
        // The table of what each proxy names counts the same.
        let (of_proxies, compared) = super::super::choices(&analysis, 1000);
        let r2 = of_proxies.iter().find(|choices| choices.proxy.name == "R²").unwrap().by[0];
        assert_eq!((r2.right, r2.wrong, compared), (tally.above, tally.below, tally.of));
        assert_eq!(
            (contrast.cell.setting.architecture.as_str(), contrast.against.architecture.as_str()),
            ("groupmax", "topk")
        );
        let differences = [contrast.r2.at_l0, contrast.ce_rec.at_l0].map(|score| score.unwrap().value.unwrap());
        assert!((differences[0] + 0.05).abs() < 0.01 && (differences[1] - 0.05).abs() < 0.01, "{differences:?}");
    }
}
