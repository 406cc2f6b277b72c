//! Of two SAEs of one model at equal L0, does a cheap number name the one that behaves better?

use rayon::prelude::*;

use super::classes::{at_equal_l0, opposed};
use super::{Analysis, PROXIES, Proxy, behaviour};

/// What a proxy's choices are judged by. At one model and site the loss scores and ΔL order SAEs as the pooled CE_rec does: they are
/// monotone in the same loss.
pub const JUDGES: [&str; 2] = ["ce_rec_pooled", "kl"];

/// Of the comparisons that behaviour decides, how many a proxy names alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The interval of the proxy's difference excludes 0, on the side of behaviour.
    pub right: usize,
    /// It excludes 0 on the other side.
    pub wrong: usize,
    /// It contains 0.
    pub open: usize,
}

impl Named {
    /// Comparisons that behaviour decides.
    pub fn decided(self) -> usize {
        self.right + self.wrong + self.open
    }
}

/// A proxy's choices.
pub struct Choices {
    /// Which.
    pub proxy: &'static Proxy,
    /// By each of [`JUDGES`].
    pub by: [Named; JUDGES.len()],
}

/// Every proxy that was measured, over all comparisons of a cell of one token budget with an earlier class of the spec at equal model, site, budget and L0
/// ([`super::contrasts`]) in which the judge's interval excludes 0; most right ones first, by the first judge. Empty with one class. Also the
/// number of comparisons, decided or not.
pub fn choices(analysis: &Analysis<'_>, budget: u64) -> (Vec<Choices>, usize) {
    let judges = JUDGES.map(behaviour);
    let of_budget: Vec<_> = opposed(analysis).filter(|(cell, _)| cell.budget == budget).collect();
    let compared: Vec<_> = of_budget
        .into_par_iter()
        .filter_map(|(cell, against)| {
            let behaves = judges.map(|judge| at_equal_l0(analysis, cell, &against, judge.turned()));
            behaves[0]?;
            Some((cell, against, behaves.map(|difference| difference?.certain_sign())))
        })
        .collect();
    if compared.is_empty() {
        return (Vec::new(), 0);
    }
    let measured = |proxy: &&Proxy| analysis.cells.iter().all(|c| analysis.value(c, proxy.quantity()).is_some());
    let mut found: Vec<Choices> = PROXIES
        .par_iter()
        .filter(measured)
        .map(|proxy| {
            let mut by = [Named::default(); JUDGES.len()];
            for (cell, against, behaves) in &compared {
                let turned = (proxy.quantity(), proxy.sign);
                let names = at_equal_l0(analysis, cell, against, turned).and_then(|found| found.certain_sign());
                for (named, judge) in by.iter_mut().zip(behaves).filter_map(|(n, j)| Some((n, (*j)?))) {
                    match names {
                        Some(sign) if sign == judge => named.right += 1,
                        Some(_) => named.wrong += 1,
                        None => named.open += 1,
                    }
                }
            }
            Choices { proxy, by }
        })
        .collect();
    found.sort_by_key(|choices| (std::cmp::Reverse(choices.by[0].right), choices.by[0].wrong));
    (found, compared.len())
}
