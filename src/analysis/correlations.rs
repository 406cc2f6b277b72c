//! Does a proxy say which SAE keeps more behaviour? Correlations over the rows of a grid.

use assay_probes::stats::{Estimate, Resamples, demean_by, gather, partial, pearson, ranks_by, spearman};

use super::Analysis;
use crate::frames::Run;

/// A number that is cheaper than behaviour and may stand for it: higher is meant to be better.
pub struct Proxy {
    /// Its name in tables.
    pub name: &'static str,
    /// Of a run.
    pub value: fn(&Run) -> Option<f64>,
}

/// The proxies of the reference's leaderboard and, after them, ours.
pub const PROXIES: [Proxy; 10] = [
    Proxy { name: "r2", value: |r| r.value("r2") },
    Proxy { name: "cosine", value: |r| r.value("cosine") },
    Proxy { name: "1/nmse", value: |r| inverse(r, "nmse") },
    Proxy { name: "1/swd", value: |r| inverse(r, "swd") },
    Proxy { name: "1/abs_gdelta", value: |r| inverse(r, "abs_gdelta") },
    Proxy { name: "1/fwd", value: |r| inverse(r, "fwd") },
    Proxy { name: "1/kl_pred", value: |r| inverse(r, "kl_pred") },
    Proxy { name: "1/rel_err", value: |r| inverse(r, "rel_err") },
    Proxy { name: "r2_deflated_1", value: |r| r.value("r2_deflated_1") },
    Proxy { name: "r2 no_outlier", value: |r| r.value("no_outlier.r2") },
];

fn inverse(run: &Run, column: &str) -> Option<f64> {
    run.value(column).map(|v| 1.0 / v).filter(|v| v.is_finite())
}

/// The proxy of that name.
fn proxy(name: &str) -> &'static Proxy {
    PROXIES.iter().find(|p| p.name == name).expect("a proxy's name")
}

/// The runs whose proxies are compared: of one budget, and of one depth or of all.
struct Rows<'a> {
    runs: Vec<&'a Run>,
    ce_rec: Vec<f64>,
    /// What "within fixed k" keeps fixed: depth and k.
    groups: Vec<(String, u64)>,
    /// Rows of one model, depth and k, a row a seed. These are drawn, and all of their seeds with them: seeds of one SAE are no
    /// independent witnesses.
    clusters: Vec<Vec<u32>>,
    resamples: Resamples,
    level: f64,
}

impl<'a> Rows<'a> {
    fn new(analysis: &Analysis<'a>, depth: Option<&str>, budget: u64) -> Option<Self> {
        let cells = analysis.cells.iter().filter(|c| c.budget == budget && depth.is_none_or(|d| d == c.depth));
        let (mut runs, mut clusters): (Vec<&Run>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
        for cell in cells {
            clusters.push((runs.len() as u32..(runs.len() + cell.runs.len()) as u32).collect());
            runs.extend(cell.runs.iter().map(|&at| &analysis.grid.runs[at]));
        }
        let ce_rec: Vec<f64> = runs.iter().map(|r| r.value("ce_rec")).collect::<Option<_>>()?;
        let groups = runs.iter().map(|r| (r.depth.clone(), r.k)).collect();
        let bootstrap = analysis.grid.bootstrap;
        let resamples = Resamples::draw(clusters.len(), bootstrap.resamples, bootstrap.seed);
        let level = bootstrap.level;
        (runs.len() >= 3).then_some(Self { runs, ce_rec, groups, clusters, resamples, level })
    }

    /// A proxy's values; `None` if it is undefined for a row.
    fn values(&self, proxy: &Proxy) -> Option<Vec<f64>> {
        self.runs.iter().map(|r| (proxy.value)(r)).collect()
    }

    /// A statistic of the rows of the clusters drawn.
    fn estimate(&self, statistic: impl Fn(&[u32]) -> Option<f64> + Sync) -> Estimate {
        Estimate::over_rows(&self.resamples, self.level, |drawn| {
            let rows: Vec<u32> = drawn.iter().flat_map(|&at| self.clusters[at as usize].iter().copied()).collect();
            statistic(&rows)
        })
    }

    /// What is left of values within each group: without its mean over all rows, or as centred ranks. These residuals are what is
    /// resampled: means over the rows drawn would leave nothing of a group of which one row is drawn.
    fn residuals(&self, values: &[f64], kind: Kind) -> Option<Vec<f64>> {
        match kind {
            Kind { within: false, .. } => Some(values.to_vec()),
            Kind { ranked: false, .. } => demean_by(values, &self.groups),
            Kind { ranked: true, .. } => ranks_by(values, &self.groups),
        }
    }

    /// The correlation with CE_rec.
    fn correlation(&self, x: &[f64], kind: Kind) -> Estimate {
        let both = self.residuals(x, kind).zip(self.residuals(&self.ce_rec, kind));
        self.estimate(|rows| {
            let (x, y) = both.as_ref()?;
            kind.of(&gather(x, rows), &gather(y, rows))
        })
    }

    /// Spearman of x with CE_rec minus that of a rival, over the same rows.
    fn advantage(&self, x: &[f64], rival: &[f64], within: bool) -> Estimate {
        let kind = Kind { ranked: true, within };
        let residuals = |values: &[f64]| self.residuals(values, kind);
        let all = residuals(x).zip(residuals(rival)).zip(residuals(&self.ce_rec));
        self.estimate(|rows| {
            let ((x, rival), y) = all.as_ref()?;
            let y = gather(y, rows);
            Some(kind.of(&gather(x, rows), &y)? - kind.of(&gather(rival, rows), &y)?)
        })
    }
}

/// Pearson's correlation or Spearman's, of all rows together or within depth and k.
#[derive(Clone, Copy)]
struct Kind {
    ranked: bool,
    within: bool,
}

const PEARSON: Kind = Kind { ranked: false, within: false };
const PEARSON_WITHIN: Kind = Kind { ranked: false, within: true };
const SPEARMAN: Kind = Kind { ranked: true, within: false };
const SPEARMAN_WITHIN: Kind = Kind { ranked: true, within: true };

impl Kind {
    fn of(self, x: &[f64], y: &[f64]) -> Option<f64> {
        // Within groups the values are ranks already.
        if self.ranked && !self.within { spearman(x, y) } else { pearson(x, y) }
    }
}

/// How R² and CE_rec go together at one depth.
pub struct Agreement {
    /// Name of the depth.
    pub depth: String,
    /// Token budget.
    pub budget: u64,
    /// Rows of the grid.
    pub rows: usize,
    /// Pearson, k and models pooled.
    pub pooled: Estimate,
    /// Pearson within fixed k.
    pub within_k: Estimate,
    /// Spearman, pooled.
    pub pooled_ranks: Estimate,
    /// Spearman within fixed k.
    pub within_k_ranks: Estimate,
}

/// The correlation of R² and CE_rec at every depth and budget.
pub fn agreements(analysis: &Analysis<'_>) -> Vec<Agreement> {
    let mut out = Vec::new();
    for depth in analysis.grid.depths() {
        out.extend(analysis.grid.budgets().into_iter().filter_map(|budget| agreement(analysis, &depth, budget)));
    }
    out
}

/// The correlation of R² and CE_rec at one depth and budget; `None` where there are too few rows.
pub fn agreement(analysis: &Analysis<'_>, depth: &str, budget: u64) -> Option<Agreement> {
    let rows = Rows::new(analysis, Some(depth), budget)?;
    let r2 = rows.values(proxy("r2"))?;
    Some(Agreement {
        depth: depth.to_owned(),
        budget,
        rows: rows.runs.len(),
        pooled: rows.correlation(&r2, PEARSON),
        within_k: rows.correlation(&r2, PEARSON_WITHIN),
        pooled_ranks: rows.correlation(&r2, SPEARMAN),
        within_k_ranks: rows.correlation(&r2, SPEARMAN_WITHIN),
    })
}

/// A proxy's place on the leaderboard.
pub struct ProxyRank {
    /// Its name.
    pub name: &'static str,
    /// Pearson with CE_rec, pooled.
    pub pearson: Estimate,
    /// Spearman, pooled.
    pub spearman: Estimate,
    /// Pearson within fixed depth and k.
    pub pearson_within: Estimate,
    /// Spearman within fixed depth and k.
    pub spearman_within: Estimate,
    /// Spearman minus that of R², over the same resampled rows; `None` for R² itself.
    pub advantage: Option<Estimate>,
    /// The same within fixed depth and k.
    pub advantage_within: Option<Estimate>,
}

/// All proxies at a depth (or at all together), best Spearman first: signed, since higher is meant to be better; empty where there are too few rows.
pub fn leaderboard(analysis: &Analysis<'_>, depth: Option<&str>, budget: u64) -> Vec<ProxyRank> {
    let Some(rows) = Rows::new(analysis, depth, budget) else { return Vec::new() };
    let Some(r2) = rows.values(proxy("r2")) else { return Vec::new() };
    let mut ranks: Vec<ProxyRank> = PROXIES
        .iter()
        .filter_map(|proxy| {
            let x = rows.values(proxy)?;
            let compared = proxy.name != "r2";
            Some(ProxyRank {
                name: proxy.name,
                pearson: rows.correlation(&x, PEARSON),
                spearman: rows.correlation(&x, SPEARMAN),
                pearson_within: rows.correlation(&x, PEARSON_WITHIN),
                spearman_within: rows.correlation(&x, SPEARMAN_WITHIN),
                advantage: compared.then(|| rows.advantage(&x, &r2, false)),
                advantage_within: compared.then(|| rows.advantage(&x, &r2, true)),
            })
        })
        .collect();
    let place = |r: &ProxyRank| r.spearman.value.unwrap_or(f64::NEG_INFINITY);
    ranks.sort_by(|a, b| place(b).total_cmp(&place(a)));
    ranks
}

/// Partial correlations with CE_rec of proxies given others: does the second say what the first does not?
///
/// Rows of `(proxy, given, estimate)`; Spearman's kind, that is, on ranks.
pub fn beyond_swd(
    analysis: &Analysis<'_>,
    depth: Option<&str>,
    budget: u64,
) -> Vec<(&'static str, &'static str, Estimate)> {
    let Some(rows) = Rows::new(analysis, depth, budget) else { return Vec::new() };
    let deviation = Proxy { name: "fisher_euclidean", value: |r| inverse(r, "fisher_euclidean") };
    let questions = [
        (proxy("1/swd"), proxy("r2")),
        (proxy("1/fwd"), proxy("r2")),
        (proxy("1/fwd"), proxy("1/swd")),
        (&deviation, proxy("1/swd")),
    ];
    let estimate = |x: &Proxy, given: &Proxy| {
        let (x, given) = (rows.values(x)?, rows.values(given)?);
        let ranks = |values: &[f64], drawn: &[u32]| assay_probes::stats::ranks(&gather(values, drawn));
        Some(rows.estimate(|drawn| {
            let controls = ranks(&given, drawn)?;
            partial(&ranks(&x, drawn)?, &ranks(&rows.ce_rec, drawn)?, &[&controls])
        }))
    };
    let named = |(x, given): (&Proxy, &Proxy)| {
        let name = if x.name == "fisher_euclidean" { "1/fisher_euclidean" } else { x.name };
        Some((name, given.name, estimate(x, given)?))
    };
    questions.into_iter().filter_map(named).collect()
}
