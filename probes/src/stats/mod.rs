//! Statistics over host arrays. Everything random takes a seed, or the index matrix itself.

mod bootstrap;
mod quantile;

pub use bootstrap::{Interval, Resamples};
pub use quantile::{median, quantile};
