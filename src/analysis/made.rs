//! Grids made up for tests, whose differences are known.

use assay_probes::metrics::{Subset, Sums, total};

use crate::frames::{Bootstrap, Grid, Loops, RunResult, Setting, Site};

/// What one sequence of one run is made of.
#[derive(Clone, Copy)]
pub struct Made {
    pub r2: f64,
    /// Loss of the model itself, nats per token.
    pub ce_orig: f64,
    /// 2 − ce_recon/ce_orig.
    pub ce_rec: f64,
    pub ce_mean: f64,
    pub l0: f64,
    /// How much of R² is gone without outliers.
    pub few: f64,
}

impl Made {
    pub fn new(r2: f64, ce_rec: f64) -> Self {
        Self { r2, ce_orig: 3.0, ce_rec, ce_mean: 8.0, l0: 1.0, few: 0.0 }
    }

    pub fn sums(self) -> [Sums; 3] {
        let ce_recon = (2.0 - self.ce_rec) * self.ce_orig;
        let sums = Sums {
            tokens: 1.0,
            elements: 1.0,
            sse: 1.0 - self.r2,
            sst: 1.0,
            l0: self.l0,
            scored: 1.0,
            ce_orig: self.ce_orig,
            ce_recon,
            ce_zero: 11.0,
            ce_mean: self.ce_mean,
            kl: ce_recon - self.ce_orig,
            sequences: 1.0,
            ce_rec: self.ce_rec,
            // A distortion that is as straight in behaviour as can be.
            swd: 1.0 - self.ce_rec,
            ..Sums::default()
        };
        let mut subsets = [sums; 3];
        subsets[Subset::NoOutlier.index()].sse += self.few;
        subsets
    }
}

/// Of a run: model, k, budget, seed.
pub type Place<'a> = (&'a str, u64, u64, u64);

/// A grid at one site, of one architecture, whose sequences are made by a function of the run's place and the sequence.
pub fn grid(
    models: &[&str],
    ks: &[u64],
    budgets: &[u64],
    seeds: u64,
    sequences: usize,
    make: impl Fn(Place<'_>, usize) -> Made,
) -> Grid {
    let site = Site::resid_post("mid");
    let settings: Vec<Setting> = ks.iter().map(|&k| Setting::topk(k)).collect();
    let k = |setting: &Setting| setting.k.expect("a k");
    grid_of(models, &[site], &settings, budgets, (seeds, sequences), |(model, _, setting, budget, seed), at| {
        make((model, k(setting), budget, seed), at)
    })
}

/// Of a run: model, site, setting, budget, seed.
pub type Whole<'a> = (&'a str, &'a Site, &'a Setting, u64, u64);

/// The same at several sites and settings; seeds and sequences.
pub fn grid_of(
    models: &[&str],
    sites: &[Site],
    settings: &[Setting],
    budgets: &[u64],
    (seeds, sequences): (u64, usize),
    make: impl Fn(Whole<'_>, usize) -> Made,
) -> Grid {
    let mut runs = Vec::new();
    let of_budget = |&budget: &u64| sites.iter().map(move |site| (budget, site));
    for &model in models {
        for (budget, site) in budgets.iter().flat_map(of_budget) {
            for seed in 0..seeds {
                for setting in settings {
                    let place = (model, site, setting, budget, seed);
                    let sequences: Vec<[Sums; 3]> = (0..sequences).map(|at| make(place, at).sums()).collect();
                    let all = total(&sequences)[0];
                    let values = assay_probes::METRICS.iter().map(|m| (m.name.to_owned(), (m.value)(&all))).collect();
                    runs.push(RunResult {
                        id: format!("{place:?}"),
                        model: model.to_owned(),
                        site: site.clone(),
                        hook: format!("blocks.3.hook_{}", site.kind),
                        setting: setting.clone(),
                        seed,
                        training_tokens: budget,
                        values,
                        sequences,
                        curve: Vec::new(),
                        by_norm: Vec::new(),
                    });
                }
            }
        }
    }
    let bootstrap = Bootstrap { resamples: 500, level: 0.95, seed: 0 };
    Grid {
        copies: Vec::new(),
        runs,
        controls: Vec::new(),
        geometry: Vec::new(),
        information: Vec::new(),
        loops: Loops::default(),
        missing: Vec::new(),
        failed: Vec::new(),
        bootstrap,
    }
}

/// A standard normal number that depends on the numbers given alone (SplitMix64; Box and Muller).
pub fn noise(parts: &[u64]) -> f64 {
    let mut state = parts.iter().fold(17, |h: u64, p| mixed(h ^ (p + 1)));
    let mut uniform = || {
        state = mixed(state);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform()).cos()
}

fn mixed(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn number(model: &str) -> u64 {
    u64::from(model == "large")
}

pub const MODELS: [&str; 2] = ["little", "large"];
