//! Do scores of what latents mean tell SAEs apart, and do R² and the model's behaviour say what they will be?

use assay_probes::stats::{Interval, Reliability, correlation_within, demean_by, holm, mean, reliability, t_interval};

use super::{Analysis, Cell, Controlled, controlled, on_all};
use crate::frames::{LEGIBILITY, OTHER, RunResult, Site, distinct};

/// The control whose scores are taken off before SAEs are told apart once more.
pub const BEYOND: &str = "random-model";
/// What a score is correlated with: the metrics, and what tables call them.
pub const ASKED: [(&str, &str); 2] = [("r2", "R²"), ("ce_rec_pooled", "CE_rec (pooled)")];

/// A mean over all conditions of a sweep, with Student's interval over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverSeeds {
    /// The mean.
    pub value: Option<f64>,
    /// Its interval; `None` of a single seed.
    pub interval: Option<Interval>,
}

/// One score of all SAEs.
#[derive(Clone, Debug, PartialEq)]
pub struct Legible {
    /// What it is called.
    pub name: String,
    /// Of the SAEs.
    pub saes: OverSeeds,
    /// Where another latent's explanation took the place of its own, of scores of explanations.
    pub other: Option<f64>,
    /// The SAEs' less the control's, for each control in the grid's order; paired by condition and seed.
    pub less: Vec<OverSeeds>,
    /// How well it tells kinds of SAEs (class, objective and budget) apart that have one model, site and k, where those of one kind
    /// differ in their seed alone.
    pub ranks: Option<Reliability>,
    /// The probability of that where it tells nothing, adjusted for the number of scores (Holm 1979).
    pub p: Option<f64>,
    /// The same of what [`BEYOND`] has less.
    pub beyond: Option<Reliability>,
    /// Pearson's correlation with each of [`ASKED`] over those kinds, means over seeds, within one model, site and k, and with the logarithm of
    /// the measured L0 held fixed where kinds of one k differ in it.
    pub with: [(Option<f64>, Option<Interval>); 2],
}

/// Conditions of one model, site and k: SAEs that can be set against each other.
fn block(cell: &Cell) -> Option<(&str, &Site, u64)> {
    Some((cell.model.as_str(), &cell.site, cell.setting.k?))
}

/// Every score that the runs have; empty where a sweep asked for none.
pub fn legible(analysis: &Analysis<'_>) -> Vec<Legible> {
    let columns = analysis.grid.runs.iter().flat_map(|run| run.values.keys());
    let scores = columns.filter_map(|column| column.strip_prefix(LEGIBILITY));
    let names = distinct(scores.filter(|name| !["_low", "_high", OTHER].iter().any(|end| name.ends_with(end))));
    let all = controlled(analysis);
    let mut found: Vec<Legible> = names.into_iter().map(|name| of(analysis, &all, name)).collect();
    let p: Vec<f64> = found.iter().filter_map(|of| of.p).collect();
    let mut adjusted = holm(&p).into_iter();
    for of in &mut found {
        of.p = of.p.and_then(|_| adjusted.next());
    }
    found
}

fn of(analysis: &Analysis<'_>, all: &[Controlled<'_>], name: &str) -> Legible {
    let column = format!("{LEGIBILITY}{name}");
    let value = |run: &RunResult| run.value(&column);
    let own: Vec<(&Cell, &RunResult, f64)> = analysis
        .cells
        .iter()
        .flat_map(|cell| analysis.runs(cell).filter_map(move |run| Some((cell, run, value(run)?))))
        .collect();
    let less = |control: &str| -> Vec<(&Cell, &RunResult, f64)> {
        let of_control = all.iter().filter(|found| found.control == control);
        let pairs = of_control.flat_map(|found| {
            analysis.runs(found.saes).filter_map(|run| {
                let other = analysis.runs(&found.of).find(|other| other.seed == run.seed)?;
                Some((found.saes, run, value(run)? - value(other)?))
            })
        });
        pairs.collect()
    };
    let less = analysis.grid.control_names().into_iter().map(|control| (control, less(control))).collect::<Vec<_>>();
    let beyond = less.iter().find(|(control, _)| *control == BEYOND).and_then(|(_, less)| told_apart(less));
    let others: Vec<f64> = analysis.grid.runs.iter().filter_map(|run| run.value(&format!("{column}{OTHER}"))).collect();
    let ranks = told_apart(&own);
    Legible {
        name: name.to_owned(),
        saes: over_seeds(analysis, &own),
        other: mean(&others),
        less: less.iter().map(|(_, less)| over_seeds(analysis, less)).collect(),
        ranks,
        p: ranks.map(|ranks| ranks.p),
        beyond,
        with: ASKED.map(|(metric, _)| with(analysis, &column, metric)),
    }
}

/// The mean over conditions of each seed, and over seeds.
fn over_seeds(analysis: &Analysis<'_>, values: &[(&Cell, &RunResult, f64)]) -> OverSeeds {
    let of_seed = |seed: u64| {
        let of: Vec<f64> = values.iter().filter(|(_, run, _)| run.seed == seed).map(|(.., value)| *value).collect();
        mean(&of)
    };
    let means: Vec<f64> = analysis.grid.seeds().into_iter().filter_map(of_seed).collect();
    OverSeeds { value: mean(&means), interval: t_interval(&means, analysis.grid.bootstrap.level) }
}

fn told_apart(values: &[(&Cell, &RunResult, f64)]) -> Option<Reliability> {
    let kind = |cell: &Cell| (cell.setting.class(), cell.budget);
    let rows = values.iter().filter_map(|(cell, _, value)| Some((block(cell)?, kind(cell), *value)));
    reliability(&rows.collect::<Vec<_>>())
}

/// The correlation of a score with a metric over kinds.
fn with(analysis: &Analysis<'_>, column: &str, metric: &str) -> (Option<f64>, Option<Interval>) {
    let (mut blocks, mut x, mut y, mut l0) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for cell in &analysis.cells {
        let of = block(cell).zip(analysis.column(cell, column)).zip(analysis.value(cell, on_all(metric)));
        let Some((((block, score), metric), of_l0)) = of.zip(analysis.column(cell, "l0")) else { continue };
        l0.push(of_l0.ln());
        blocks.push(block);
        x.push(score);
        y.push(metric);
    }
    // TopK has as many active latents as its k, but for those that are not positive.
    let differ = demean_by(&l0, &blocks).is_some_and(|left| left.iter().any(|left| left.abs() > 1e-3));
    let held: &[&[f64]] = if differ { &[&l0] } else { &[] };
    correlation_within(&x, &y, &blocks, held, analysis.grid.bootstrap.level)
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, grid_of, noise};
    use super::*;
    use crate::frames::{ControlRun, Setting};

    /// Two classes at two k, three seeds; the score of one class is higher by 1, that of the control is the same for both, and R² goes with it.
    #[test]
    fn a_score_that_differs_by_class_tells_them_apart() {
        let setting = |name: &str, k| Setting { architecture: name.to_owned(), ..Setting::topk(k) };
        let settings = [("a", 4), ("a", 8), ("b", 4), ("b", 8)].map(|(name, k)| setting(name, k));
        let is_b = |setting: &Setting| f64::from(u8::from(setting.architecture == "b"));
        let site = Site::resid_post("mid");
        let mut grid =
            grid_of(&["m"], &[site], &settings, &[1000, 2000], (3, 12), |(_, _, setting, budget, seed), at| {
                let wobble = 1e-3 * noise(&[seed, at as u64, budget]);
                Made::new(0.5 + 0.1 * is_b(setting) + 0.01 * setting.k.unwrap() as f64 + wobble, 0.9 + wobble)
            });
        assert!(legible(&Analysis::new(&grid)).is_empty(), "no score, no row");
        let plain = grid.runs.clone();
        let score = |run: &RunResult, by_class: f64| {
            let jitter = noise(&[run.seed, run.training_tokens, run.setting.k.unwrap(), is_b(&run.setting) as u64]);
            10.0 * run.setting.k.unwrap() as f64 + by_class * is_b(&run.setting) + 0.01 * jitter
        };
        let scored = |mut run: RunResult, by_class: f64| {
            let value = score(&run, by_class);
            run.values.insert("legibility.purity".to_owned(), Some(value));
            run.values.insert("legibility.purity_low".to_owned(), Some(value - 1.0));
            run.values.insert("legibility.purity_other".to_owned(), Some(3.0));
            run
        };
        grid.runs = plain.iter().cloned().map(|run| scored(run, 1.0)).collect();
        grid.controls =
            plain.into_iter().map(|run| ControlRun { control: BEYOND.to_owned(), run: scored(run, 0.0) }).collect();
        let found = legible(&Analysis::new(&grid));
        assert_eq!(found.len(), 1);
        let Legible { name, saes, other, less, ranks, p, beyond, with } = &found[0];
        assert_eq!((name.as_str(), *other), ("purity", Some(3.0)));
        // Half of the SAEs have 1 more than 10 k.
        assert!((saes.value.unwrap() - 60.5).abs() < 0.02 && saes.interval.unwrap().contains(saes.value.unwrap()));
        assert!((less[0].value.unwrap() - 0.5).abs() < 1e-9, "the same jitter");
        // Four kinds at each of two k, three seeds each.
        assert_eq!(ranks.unwrap().freedom, [6, 16]);
        assert!(ranks.unwrap().icc > 0.9 && p.unwrap() < 1e-6 && beyond.unwrap().icc > 0.999);
        let [with_r2, with_ce] = with;
        assert!(with_r2.0.unwrap() > 0.99 && with_r2.1.unwrap().low > 0.9, "{with_r2:?}");
        assert!(with_ce.0.unwrap().abs() < 0.9);
    }
}
