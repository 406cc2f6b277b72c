//! Which cheap number goes with behaviour best?

use assay_probes::metrics::{Subset, metric};
use assay_probes::stats::{Estimate, gather, partial, ranks};
use rayon::prelude::*;

use super::correlations::{PEARSON, PEARSON_WITHIN, Rows, SPEARMAN, SPEARMAN_WITHIN};
use super::{Analysis, Behaviour, Quantity, behaviour};
use crate::frames::{RunResult, Site};

/// A number that is cheaper than behaviour and may stand for it, turned so that higher is meant to be better.
///
/// A distortion x is turned as −x: R² is straight in its squared error, too. Pearson's correlation depends on this, ranks don't.
pub struct Proxy {
    /// Its name in tables.
    pub name: &'static str,
    column: &'static str,
    /// −1 where the number itself is better when lower.
    pub sign: f64,
}

/// The proxies.
pub const PROXIES: [Proxy; 10] = [
    Proxy { name: "R²", column: "r2", sign: 1.0 },
    Proxy { name: "cosine", column: "cosine", sign: 1.0 },
    Proxy { name: "−NMSE", column: "nmse", sign: -1.0 },
    Proxy { name: "−SWD", column: "swd", sign: -1.0 },
    Proxy { name: "−|gᵀδ|", column: "abs_gdelta", sign: -1.0 },
    Proxy { name: "−FWD", column: "fwd", sign: -1.0 },
    Proxy { name: "−predicted KL", column: "kl_pred", sign: -1.0 },
    Proxy { name: "−relative error", column: "rel_err", sign: -1.0 },
    Proxy { name: "R² without top direction", column: "r2_deflated_1", sign: 1.0 },
    Proxy { name: "R² without ‖a‖ outliers", column: "no_outlier.r2", sign: 1.0 },
];

impl Proxy {
    /// The metric, not turned.
    pub fn quantity(&self) -> Quantity {
        let (subset, name) = match self.column.split_once('.') {
            Some((subset, name)) => (Subset::ALL.into_iter().find(|s| s.name() == subset), name),
            None => (Some(Subset::All), self.column),
        };
        subset.and_then(|subset| Some((metric(name)?, subset))).expect("a proxy's column")
    }

    /// Its name, and what it is where that takes more than a name.
    pub fn explained(&self) -> String {
        match self.column {
            "swd" | "abs_gdelta" | "fwd" | "kl_pred" => {
                format!("{} (the error weighted by gradients of the model's loss)", self.name)
            }
            _ => self.name.to_owned(),
        }
    }

    fn of(&self, run: &RunResult) -> Option<f64> {
        run.value(self.column).map(|v| self.sign * v)
    }

    /// Of every row; `None` if it is undefined for one.
    fn values(&self, rows: &Rows<'_>) -> Option<Vec<f64>> {
        rows.runs.iter().map(|r| self.of(r)).collect()
    }
}

/// The proxy of that column.
fn proxy(column: &str) -> &'static Proxy {
    PROXIES.iter().find(|p| p.column == column).expect("a proxy's column")
}

/// A proxy's place on the leaderboard.
pub struct ProxyRank {
    /// Which.
    pub proxy: &'static Proxy,
    /// Pearson with behaviour, pooled.
    pub pearson: Estimate,
    /// Spearman, pooled.
    pub spearman: Estimate,
    /// Pearson within fixed site and setting.
    pub pearson_within: Estimate,
    /// Spearman within fixed site and setting; `None` below three models, where ranks within k are only signs.
    pub spearman_within: Option<Estimate>,
    /// Pearson within fixed site and setting minus that of R², over the same resampled rows; `None` for R² itself.
    pub advantage: Option<Estimate>,
    /// The swap test's p-value for that, not adjusted for the number of proxies; `None` for R² itself.
    pub p: Option<f64>,
}

/// All proxies at a site (or at all together) against a behaviour metric, best Pearson within fixed setting first: signed, since higher is meant to be
/// better; empty where there are too few rows. Also the number of cells (model, site, setting).
pub fn leaderboard(
    analysis: &Analysis<'_>,
    site: Option<&Site>,
    budget: u64,
    behaviour: &Behaviour,
) -> (Vec<ProxyRank>, usize) {
    let Some(rows) = Rows::new(analysis, site, budget, behaviour) else { return (Vec::new(), 0) };
    let Some(r2) = proxy("r2").values(&rows) else { return (Vec::new(), rows.cells) };
    let ranked = analysis.grid.models().len() > 2;
    let mut ranks: Vec<ProxyRank> = PROXIES
        .par_iter()
        .filter_map(|proxy| {
            let x = proxy.values(&rows)?;
            let compared = proxy.column != "r2";
            Some(ProxyRank {
                proxy,
                pearson: rows.correlation(&x, PEARSON),
                spearman: rows.correlation(&x, SPEARMAN),
                pearson_within: rows.correlation(&x, PEARSON_WITHIN),
                spearman_within: ranked.then(|| rows.correlation(&x, SPEARMAN_WITHIN)),
                advantage: compared.then(|| rows.advantage(&x, &r2, PEARSON_WITHIN)),
                p: if compared { rows.swap_p(&x, &r2) } else { None },
            })
        })
        .collect();
    let place = |r: &ProxyRank| r.pearson_within.value.unwrap_or(f64::NEG_INFINITY);
    ranks.sort_by(|a, b| place(b).total_cmp(&place(a)));
    (ranks, rows.cells)
}

/// Each proxy's Pearson correlation with a behaviour metric within fixed site and setting, in the order of [`PROXIES`].
pub fn within_fixed_k(
    analysis: &Analysis<'_>,
    site: Option<&Site>,
    budget: u64,
    behaviour: &Behaviour,
) -> Vec<Option<Estimate>> {
    let rows = Rows::new(analysis, site, budget, behaviour);
    let of = |proxy: &Proxy| {
        let rows = rows.as_ref()?;
        Some(rows.correlation(&proxy.values(rows)?, PEARSON_WITHIN))
    };
    PROXIES.iter().map(of).collect()
}

/// A proxy of the reference texts' own leaderboard, distortions as 1/x.
pub struct Reciprocal {
    /// Its name.
    pub name: &'static str,
    /// Pearson with CE_rec per sequence, pooled.
    pub pearson: Estimate,
    /// Spearman, pooled.
    pub spearman: Estimate,
    /// Pearson within fixed site and setting.
    pub pearson_within: Estimate,
}

/// The leaderboard that the reference text announces: R², cosine, 1/NMSE, 1/SWD and 1/|gᵀδ|, and 1/FWD, with CE_rec per sequence.
pub fn reciprocals(analysis: &Analysis<'_>, site: Option<&Site>, budget: u64) -> Vec<Reciprocal> {
    let Some(rows) = Rows::new(analysis, site, budget, behaviour("ce_rec")) else { return Vec::new() };
    let theirs = [
        ("R²", "r2"),
        ("cosine", "cosine"),
        ("1/NMSE", "nmse"),
        ("1/SWD", "swd"),
        ("1/|gᵀδ|", "abs_gdelta"),
        ("1/FWD", "fwd"),
    ];
    let of = |(name, column): (&'static str, &str)| {
        let value = |run: &&RunResult| {
            let value = run.value(column)?;
            if name.starts_with("1/") { Some(1.0 / value).filter(|v| v.is_finite()) } else { Some(value) }
        };
        let x: Vec<f64> = rows.runs.iter().map(value).collect::<Option<_>>()?;
        Some(Reciprocal {
            name,
            pearson: rows.correlation(&x, PEARSON),
            spearman: rows.correlation(&x, SPEARMAN),
            pearson_within: rows.correlation(&x, PEARSON_WITHIN),
        })
    };
    theirs.into_iter().filter_map(of).collect()
}

/// Partial correlations with behaviour of proxies given others: does the second say what the first does not?
///
/// Rows of `(proxy, given, estimate)`; Spearman's kind, that is, on ranks.
pub fn beyond_swd(
    analysis: &Analysis<'_>,
    site: Option<&Site>,
    budget: u64,
    behaviour: &Behaviour,
) -> Vec<(&'static str, &'static str, Estimate)> {
    let Some(rows) = Rows::new(analysis, site, budget, behaviour) else { return Vec::new() };
    const DEVIATION: Proxy = Proxy { name: "−Fisher–Euclidean deviation", column: "fisher_euclidean", sign: -1.0 };
    let questions = [
        (proxy("swd"), proxy("r2")),
        (proxy("fwd"), proxy("r2")),
        (proxy("fwd"), proxy("swd")),
        (&DEVIATION, proxy("swd")),
    ];
    let estimate = |x: &Proxy, given: &Proxy| {
        let (x, given) = (x.values(&rows)?, given.values(&rows)?);
        let ranks = |values: &[f64], drawn: &[u32]| ranks(&gather(values, drawn));
        Some(rows.estimate(|drawn| {
            let controls = ranks(&given, drawn)?;
            partial(&ranks(&x, drawn)?, &ranks(rows.behaviour(), drawn)?, &[&controls])
        }))
    };
    questions.into_iter().filter_map(|(x, given)| Some((x.name, given.name, estimate(x, given)?))).collect()
}
