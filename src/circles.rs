//! Is a feature a circle? Classes with an order, as the days of a week, in a model's activations (Engels et al. 2024, arXiv:2405.14860).
//!
//! - [`Case`], `case.rs`: texts that end with a class, and the order of the classes.
//! - [`Measured`], `measured.rs`: what activations say: the order's share of the classes' means, the planes, loops, the circular coordinate.
//! - [`figure`], `plot.rs`: the classes in the plane of their means, and along the longest loop.
//! - [`Turned`], `turned.rs`: what the model says when an activation is turned within the plane of the classes.
//!
//! The mathematics is [`assay_probes::topology`]'s.

mod case;
mod measured;
mod plot;
mod turned;

pub use case::Case;
pub use measured::{Circle, Measured, Settings, Spread};
pub use plot::figure;
pub use turned::{Turned, turned};
