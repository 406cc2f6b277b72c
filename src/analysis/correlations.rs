//! Does a number say which SAE keeps more behaviour? Correlations over the rows of a grid.

use std::collections::BTreeMap;

use assay_probes::stats::hypotheses::MIN_CELLS;
use assay_probes::stats::{Estimate, Resamples, demean_by, gather, pearson, ranks_by, spearman, swap_test};

use super::{Analysis, Behaviour, behaviour};
use crate::frames::{RunResult, Setting, Site};

/// The runs that are compared: of one budget, and of one site or of all.
pub(super) struct Rows<'a> {
    pub runs: Vec<&'a RunResult>,
    /// Cells (model, site, setting) that they are of; seeds of one SAE are no independent witnesses.
    pub cells: usize,
    behaviour: Vec<f64>,
    /// What "within fixed k" keeps fixed: site and setting.
    groups: Vec<(Site, Setting)>,
    /// Rows of each site and setting: all models and seeds there. These blocks are drawn, and swapped, whole.
    blocks: Vec<Vec<u32>>,
    resamples: Resamples,
    level: f64,
    seed: u64,
}

impl<'a> Rows<'a> {
    pub fn new(analysis: &Analysis<'a>, site: Option<&Site>, budget: u64, behaviour: &Behaviour) -> Option<Self> {
        let cells = analysis.cells.iter().filter(|c| c.budget == budget && site.is_none_or(|s| *s == c.site));
        let cells: Vec<_> = cells.collect();
        let mut runs: Vec<&RunResult> = Vec::new();
        for cell in &cells {
            runs.extend(cell.runs.iter().map(|&at| &analysis.grid.runs[at]));
        }
        let values: Vec<f64> = runs.iter().map(|r| behaviour.of(r)).collect::<Option<_>>()?;
        let groups: Vec<(Site, Setting)> = runs.iter().map(|r| (r.site.clone(), r.setting.clone())).collect();
        let mut blocks: BTreeMap<&(Site, Setting), Vec<u32>> = BTreeMap::new();
        for (row, group) in groups.iter().enumerate() {
            blocks.entry(group).or_default().push(row as u32);
        }
        let blocks: Vec<Vec<u32>> = blocks.into_values().collect();
        let bootstrap = analysis.grid.bootstrap;
        let resamples = Resamples::draw(blocks.len(), bootstrap.resamples, bootstrap.seed);
        (runs.len() >= 3).then_some(Self {
            runs,
            cells: cells.len(),
            behaviour: values,
            groups,
            blocks,
            resamples,
            level: bootstrap.level,
            seed: bootstrap.seed,
        })
    }

    /// A statistic of the rows of the blocks drawn; below [`MIN_CELLS`] without an interval.
    pub fn estimate(&self, statistic: impl Fn(&[u32]) -> Option<f64> + Sync) -> Estimate {
        if self.cells < MIN_CELLS {
            let value = statistic(&(0..self.runs.len() as u32).collect::<Vec<_>>());
            return Estimate { value, interval: None, degenerate: 0 };
        }
        Estimate::over_rows(&self.resamples, self.level, |drawn| {
            let rows: Vec<u32> = drawn.iter().flat_map(|&at| self.blocks[at as usize].iter().copied()).collect();
            statistic(&rows)
        })
    }

    /// The behaviour that values are compared with.
    pub fn behaviour(&self) -> &[f64] {
        &self.behaviour
    }

    /// What is left of values within each group: without its mean over all rows, or as centred ranks. These residuals are what is
    /// resampled: means over the rows drawn would leave nothing of a group of which one row is drawn.
    fn residuals(&self, values: &[f64], kind: Coefficient) -> Option<Vec<f64>> {
        match kind {
            Coefficient { within: false, .. } => Some(values.to_vec()),
            Coefficient { ranked: false, .. } => demean_by(values, &self.groups),
            Coefficient { ranked: true, .. } => ranks_by(values, &self.groups),
        }
    }

    /// The correlation with behaviour.
    pub fn correlation(&self, x: &[f64], kind: Coefficient) -> Estimate {
        let both = self.residuals(x, kind).zip(self.residuals(&self.behaviour, kind));
        self.estimate(|rows| {
            let (x, y) = both.as_ref()?;
            kind.of(&gather(x, rows), &gather(y, rows))
        })
    }

    /// The correlation of x with behaviour minus that of a rival, over the same rows.
    pub fn advantage(&self, x: &[f64], rival: &[f64], kind: Coefficient) -> Estimate {
        let residuals = |values: &[f64]| self.residuals(values, kind);
        let all = residuals(x).zip(residuals(rival)).zip(residuals(&self.behaviour));
        self.estimate(|rows| {
            let ((x, rival), y) = all.as_ref()?;
            let y = gather(y, rows);
            Some(kind.of(&gather(x, rows), &y)? - kind.of(&gather(rival, rows), &y)?)
        })
    }

    /// The p-value of the swap test that x and its rival are exchangeable, by Pearson's correlation within site and setting; both are first
    /// brought to one scale.
    pub fn swap_p(&self, x: &[f64], rival: &[f64]) -> Option<f64> {
        let scaled = |values: &[f64]| -> Option<Vec<f64>> {
            let left = self.residuals(values, PEARSON_WITHIN)?;
            let size = left.iter().map(|v| v * v).sum::<f64>().sqrt();
            (size > 0.0).then(|| left.iter().map(|v| v / size).collect())
        };
        let (x, rival) = (scaled(x)?, scaled(rival)?);
        let y = self.residuals(&self.behaviour, PEARSON_WITHIN)?;
        swap_test(self.blocks.len(), self.seed, |swapped| {
            let (mut first, mut second) = (x.clone(), rival.clone());
            for (block, _) in self.blocks.iter().zip(swapped).filter(|(_, swapped)| **swapped) {
                block.iter().for_each(|&row| std::mem::swap(&mut first[row as usize], &mut second[row as usize]));
            }
            Some(pearson(&first, &y)? - pearson(&second, &y)?)
        })
    }
}

/// Pearson's correlation or Spearman's, of all rows together or within site and setting.
#[derive(Clone, Copy)]
pub(super) struct Coefficient {
    ranked: bool,
    within: bool,
}

pub(super) const PEARSON: Coefficient = Coefficient { ranked: false, within: false };
pub(super) const PEARSON_WITHIN: Coefficient = Coefficient { ranked: false, within: true };
pub(super) const SPEARMAN: Coefficient = Coefficient { ranked: true, within: false };
pub(super) const SPEARMAN_WITHIN: Coefficient = Coefficient { ranked: true, within: true };

impl Coefficient {
    fn of(self, x: &[f64], y: &[f64]) -> Option<f64> {
        // Within groups the values are ranks already.
        if self.ranked && !self.within { spearman(x, y) } else { pearson(x, y) }
    }
}

/// How R² and CE_rec (per sequence, the reference texts') go together at one site.
pub struct Agreement {
    /// The site.
    pub site: Site,
    /// Token budget.
    pub budget: u64,
    /// Rows of the grid.
    pub rows: usize,
    /// Pearson, settings and models pooled.
    pub pooled: Estimate,
    /// Pearson within fixed setting.
    pub within_k: Estimate,
    /// Spearman, pooled.
    pub pooled_ranks: Estimate,
}

/// The correlation of R² and CE_rec at every site and budget.
pub fn agreements(analysis: &Analysis<'_>) -> Vec<Agreement> {
    let mut out = Vec::new();
    for site in analysis.grid.sites() {
        out.extend(analysis.grid.budgets().into_iter().filter_map(|budget| agreement(analysis, &site, budget)));
    }
    out
}

/// The correlation of R² and CE_rec at one site and budget; `None` where there are too few rows.
pub fn agreement(analysis: &Analysis<'_>, site: &Site, budget: u64) -> Option<Agreement> {
    let rows = Rows::new(analysis, Some(site), budget, behaviour("ce_rec"))?;
    let r2: Vec<f64> = rows.runs.iter().map(|r| r.value("r2")).collect::<Option<_>>()?;
    Some(Agreement {
        site: site.clone(),
        budget,
        rows: rows.runs.len(),
        pooled: rows.correlation(&r2, PEARSON),
        within_k: rows.correlation(&r2, PEARSON_WITHIN),
        pooled_ranks: rows.correlation(&r2, SPEARMAN),
    })
}
