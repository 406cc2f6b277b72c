//! How far two points are from each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A distance between points, as `scipy.spatial.distance` has those of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// ‖x − y‖₂
    Euclidean,
    /// 1 − cos(x, y), which is not a metric: it fails the triangle inequality. Its bars are those of [`Self::Angular`] under 1 − cos.
    Cosine,
    /// arccos cos(x, y), in radians: a metric of directions.
    Angular,
    /// Σ |xᵢ − yᵢ|
    CityBlock,
    /// max |xᵢ − yᵢ|
    Chebyshev,
    /// Of sets, written as zeros and ones: the share of what is in either that is not in both; 0 for two empty sets.
    Jaccard,
    /// Of counts: 1 − x·y / (‖x‖² + ‖y‖² − x·y); 0 for two rows of zeros. On zeros and ones it is Jaccard's.
    Tanimoto,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Euclidean, Self::Cosine, Self::Angular, Self::CityBlock, Self::Chebyshev, Self::Jaccard, Self::Tanimoto];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::Cosine => "cosine",
            Self::Angular => "angular",
            Self::CityBlock => "cityblock",
            Self::Chebyshev => "chebyshev",
            Self::Jaccard => "jaccard",
            Self::Tanimoto => "tanimoto",
        }
    }

    /// Whether it is a metric on all that it is of: the triangle inequality holds.
    pub fn is_metric(self) -> bool {
        !matches!(self, Self::Cosine | Self::Tanimoto)
    }

    /// Whether it looks at directions alone.
    pub fn is_angular(self) -> bool {
        matches!(self, Self::Cosine | Self::Angular)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "arccos" {
            return Ok(Self::Angular);
        }
        Self::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.map(Self::name).into();
            format!("`{text}` is no metric; there are {}", names.join(", "))
        })
    }
}
