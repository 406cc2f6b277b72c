//! What is said of a diagram in one number.

use serde::{Deserialize, Serialize};

use crate::stats::quantile;

/// The bars of one dimension that die, summed up. Lengths are death − birth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BarStatistics {
    /// How many there are.
    pub count: usize,
    /// The longest.
    pub max: Option<f64>,
    /// The sum of lengths.
    pub total: f64,
    /// The sum of their squares.
    pub total_squared: f64,
    /// The mean length.
    pub mean: Option<f64>,
    /// The 95th percentile of lengths.
    pub p95: Option<f64>,
    /// −Σ p ln p of lengths as shares of their sum, in nats (Atienza et al. 2019, arXiv:1701.07857).
    pub entropy: Option<f64>,
    /// π: the largest death/birth (Bobrowski, Kahle and Skraba 2017, arXiv:1509.04347). Infinite where a bar is born at 0.
    pub pi: Option<f64>,
    /// The five longest, or all.
    pub longest: Vec<f64>,
}

impl BarStatistics {
    /// Of bars (birth, death).
    pub fn of(bars: &[(f64, f64)]) -> Self {
        let mut lengths: Vec<f64> = bars.iter().map(|(birth, death)| death - birth).collect();
        lengths.sort_by(f64::total_cmp);
        // An empty sum of f64 is -0.
        let total = lengths.iter().rev().sum::<f64>() + 0.0;
        let some = |value: f64| (!lengths.is_empty()).then_some(value);
        let entropy: f64 = lengths.iter().map(|l| -(l / total) * (l / total).ln()).sum();
        Self {
            count: lengths.len(),
            max: lengths.last().copied(),
            total,
            total_squared: lengths.iter().rev().map(|l| l * l).sum(),
            mean: some(total / lengths.len() as f64),
            p95: quantile(&lengths, 0.95),
            entropy: some(entropy),
            pi: bars.iter().map(|(birth, death)| death / birth).max_by(f64::total_cmp),
            longest: lengths.iter().rev().take(5).copied().collect(),
        }
    }
}

/// One number of a diagram, larger where there is more of what a test looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// π, the largest death/birth: the same under any scale, and not moved by the gaps between clusters. The first choice.
    Pi,
    /// The longest bar.
    Max,
    /// The sum of lengths.
    Total,
    /// The second longest bar.
    Second,
    /// The third longest.
    Third,
    /// The fourth longest.
    Fourth,
    /// The fifth longest.
    Fifth,
    /// How many bars are longer than the median of the longest bars of a null's draws, the cloud itself among them: a number of each null's own.
    Above,
    /// π of dimension 2, where that is computed: a void, as a sphere has one. It is no more of a loop, but may be where one comes from.
    Void,
}

impl Statistic {
    /// How many are of dimension 1, which come first, the first choice before all.
    const OF_LOOPS: usize = 8;
    /// All of them.
    const ALL: [Self; 9] = [
        Self::Pi,
        Self::Max,
        Self::Total,
        Self::Second,
        Self::Third,
        Self::Fourth,
        Self::Fifth,
        Self::Above,
        Self::Void,
    ];

    /// Those that bars up to dimension `max_dim` have, in order.
    pub fn up_to(max_dim: usize) -> &'static [Self] {
        if max_dim < 2 { &Self::ALL[..Self::OF_LOOPS] } else { &Self::ALL }
    }

    /// Its place among them.
    pub(super) fn place(self) -> usize {
        self as usize
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pi => "pi",
            Self::Max => "max",
            Self::Total => "total",
            Self::Second => "second",
            Self::Third => "third",
            Self::Fourth => "fourth",
            Self::Fifth => "fifth",
            Self::Above => "above",
            Self::Void => "void",
        }
    }

    /// Of the bars of dimension 1, and of dimension 2 where that was computed; `None` where there are too few, or a null's draws are needed.
    pub fn of(self, loops: &BarStatistics, voids: Option<&BarStatistics>) -> Option<f64> {
        match self {
            Self::Pi => loops.pi,
            Self::Max => loops.max,
            Self::Total => (loops.count > 0).then_some(loops.total),
            Self::Second => loops.longest.get(1).copied(),
            Self::Third => loops.longest.get(2).copied(),
            Self::Fourth => loops.longest.get(3).copied(),
            Self::Fifth => loops.longest.get(4).copied(),
            Self::Above => None,
            Self::Void => voids?.pi,
        }
    }
}
