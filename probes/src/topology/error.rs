//! What can be wrong with a cloud.

use thiserror::Error;

/// Why a cloud can't be looked at.
#[derive(Debug, Error)]
pub enum TopologyError {
    /// A value is NaN or infinite.
    #[error("row {row}, column {column} of the cloud is {value}; leave such rows out")]
    NotFinite {
        /// Counted from 0.
        row: usize,
        /// Counted from 0.
        column: usize,
        /// What is there.
        value: f64,
    },
    /// Powers of a value that are needed are beyond the largest number.
    #[error(
        "row {row}, column {column} of the cloud is {value:e}, too large to be squared twice; divide all by the same"
    )]
    TooLarge {
        /// Counted from 0.
        row: usize,
        /// Counted from 0.
        column: usize,
        /// What is there.
        value: f64,
    },
    /// A direction is asked of a point that has none.
    #[error("row {row} of the cloud is zero, and has no angle to others; leave it out, or take the metric euclidean")]
    Zero {
        /// Counted from 0.
        row: usize,
    },
    /// A metric of sets is asked of something else.
    #[error("row {row}, column {column} of the cloud is {value}, and the metric {metric} is of values that are {of}")]
    Unsuitable {
        /// Counted from 0.
        row: usize,
        /// Counted from 0.
        column: usize,
        /// What is there.
        value: f64,
        /// The metric's name.
        metric: &'static str,
        /// What it is of.
        of: &'static str,
    },
    /// A null of zeros and ones is asked of something else.
    #[error(
        "row {row}, column {column} of the cloud is {value}, and the null margins is of zeros and ones; take another null"
    )]
    NoBit {
        /// Counted from 0.
        row: usize,
        /// Counted from 0.
        column: usize,
        /// What is there.
        value: f64,
    },
    /// There are too few points for what is asked.
    #[error("the cloud has {points} points, and {what} needs {needed}")]
    TooFew {
        /// How many there are.
        points: usize,
        /// How many are needed.
        needed: usize,
        /// What for.
        what: &'static str,
    },
    /// An eigendecomposition failed.
    #[error("the covariance of the cloud has no eigenvalues that can be found")]
    Spectrum,
    /// The engine refused.
    #[error("persistent homology of {points} points in dimension {dimension}: {message}")]
    Engine {
        /// How many points.
        points: usize,
        /// The highest dimension.
        dimension: usize,
        /// What it said.
        message: String,
    },
}

/// A result of this module.
pub type Result<T> = std::result::Result<T, TopologyError>;
