//! Does a cloud of points have more of a loop than clouds that have none?
//!
//! [`audit()`] computes a cloud's persistent homology and that of draws of nulls, each through the whole [`Pipeline`], and gives p-values. What it
//! can say is that there is more of a loop than in these nulls; never that there is a loop, and never that a loop means a cyclic concept.
//!
//! - [`Metric`], [`Distances`], [`Filtration`]: how far points are apart, and what scales are.
//! - [`persistence`], [`Diagram`], [`Bar`]: bars; [`BarStatistics`], [`Statistic`]: what is said of them in a number.
//! - [`Null`], [`Cloud`], [`Drawable`]: what is drawn; [`Axes`], [`principal_scores`], [`ledoit_wolf`], [`k_means`]: what nulls are made of.
//! - [`subsample`], [`landmarks()`], [`without_outliers`]: a few points for many.
//! - [`Growth`], [`Recurrence`], [`Band`]: what parts of a cloud say of it.
//! - [`author_rule`]: an earlier rule, for comparison; [`universal_p`]: a screen that needs no draws.
//! - [`bottleneck`], [`wasserstein_1`], [`wasserstein_2`]: how far diagrams are apart.
//! - [`neighbourhood`], [`Surroundings`], [`utility()`], [`ridge()`]: features of each point's surroundings, and whether topology adds to geometry;
//!   [`random_projection`], [`principal_scores`]: others of as many dimensions.
//! - [`linked`], [`spectral`], [`planes()`], [`order_test`], [`among_orders`], [`circular_coordinate`], [`Turning`]: is a feature a circle?

mod audit;
mod author;
mod band;
mod circular;
mod clusters;
mod distances;
mod error;
mod filtration;
mod growth;
mod landmarks;
mod local;
mod matching;
mod metric;
mod nulls;
mod order;
mod planes;
mod ridge;
mod rips;
mod similar;
mod spectrum;
mod statistics;
mod together;
mod turning;
mod universal;
mod utility;

pub use audit::{AgainstNull, Audit, Draws, Landmarks, Pipeline, Test, audit, over_metrics};
pub use author::{AuthorRule, author_rule};
pub use band::Band;
pub use circular::{CircularCoordinate, circular_coordinate, circular_correlation};
pub use clusters::k_means;
pub use distances::Distances;
pub use error::TopologyError;
pub use filtration::Filtration;
pub use growth::{Growth, PiOfParts, Recurrence, SizeOfPart};
pub use landmarks::{landmarks, subsample, without_outliers};
pub use local::{Neighbourhood, neighbourhood};
pub use matching::{bottleneck, wasserstein_1, wasserstein_2};
pub use metric::Metric;
pub use nulls::{Cloud, Drawable, Null};
pub use order::{AmongOrders, OrderTest, among_orders, class_means, order_test};
pub use planes::{EPSILON, Plane, mixture, planes, separability};
pub use ridge::{Fit, ridge};
pub use rips::{Bar, Diagram, persistence};
pub use similar::{linked, spectral};
pub use spectrum::{Axes, ledoit_wolf, principal_scores};
pub use statistics::{BarStatistics, Statistic};
pub use turning::Turning;
pub use universal::universal_p;
pub use utility::{Splits, Surroundings, Target, Undefined, Utility, folds, random_projection, utility};

#[cfg(test)]
mod answers_tests;
#[cfg(test)]
mod circles_tests;
#[cfg(test)]
mod known_clouds;
#[cfg(test)]
mod rates_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod utility_tests;
