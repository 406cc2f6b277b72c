//! What activations of texts with ordered classes say.

use std::f64::consts::TAU;

use anyhow::Result;
use assay_probes::topology::{
    Audit, Distances, Draws, Landmarks, Metric, Null, OrderTest, Pipeline, Plane, TopologyError, audit,
    circular_coordinate, circular_correlation, class_means, order_test, planes,
};
use ndarray::ArrayView2;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Draws of each null, of orders of many classes, and of shuffled labels.
    pub draws: usize,
    /// Everything random follows from it.
    pub seed: u64,
}

/// How the circular coordinate of the longest loop goes with the order of the classes.
#[derive(Clone, Debug, Serialize)]
pub struct Circle {
    /// The bar of the loop.
    pub bar: (f64, f64),
    /// |ρ_T| of the coordinate with the angle of the class (Fisher and Lee 1983).
    pub correlation: Option<f64>,
    /// (1 + shuffles of the labels with as large a one)/(1 + shuffles).
    pub p: Option<f64>,
}

/// What is said of activations, a row a text.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The order of the classes' means.
    pub order: OrderTest,
    /// Planes of neighbouring principal components.
    pub planes: Vec<Plane>,
    /// Loops of the texts' activations, not of the means.
    pub audit: Audit,
    /// The longest loop's coordinate; `None` where there is no loop.
    pub circle: Option<Circle>,
}

/// Principal components that loops are looked for in.
const COMPONENTS: usize = 50;
/// Points that a coordinate is computed of, at most; of more, landmarks.
const MOST_POINTS: usize = 400;

impl Measured {
    /// Of activations `[texts, width]` and the class of each text. `tick` is called as by [`audit`].
    ///
    /// # Errors
    /// If a class has no text, there are fewer than four, or an activation is not finite; or `tick`'s.
    pub fn of(
        activations: ArrayView2<'_, f64>,
        labels: &[usize],
        classes: usize,
        settings: &Settings,
        tick: impl FnMut(usize) -> Result<()>,
    ) -> Result<Self> {
        let Settings { draws, seed } = *settings;
        let means = class_means(activations, labels, classes)?;
        let few = (activations.nrows() > MOST_POINTS).then_some(Landmarks { count: MOST_POINTS, trimmed: 0.0 });
        let pipeline = Pipeline { components: Some(COMPONENTS), landmarks: few, ..Pipeline::plain(Metric::Euclidean) };
        let nulls = [Null::Gaussian, Null::Axes];
        let of_nulls = Draws { count: draws, seed, ..Draws::default() };
        let audit = audit(activations, &pipeline, &nulls, &of_nulls, tick)?;
        let circle =
            if few.is_none() { circle(&pipeline.distances(activations)?, labels, classes, settings)? } else { None };
        Ok(Self { order: order_test(means.view(), draws, seed)?, planes: planes(activations, 0.0)?, audit, circle })
    }
}

/// The coordinate of the longest loop beside the classes' angles.
fn circle(
    distances: &Distances,
    labels: &[usize],
    classes: usize,
    settings: &Settings,
) -> Result<Option<Circle>, TopologyError> {
    let Some(found) = circular_coordinate(distances)? else { return Ok(None) };
    let correlation = |labels: &[usize]| {
        let angles: Vec<f64> = labels.iter().map(|&label| TAU * label as f64 / classes as f64).collect();
        circular_correlation(&found.angles, &angles).map(f64::abs)
    };
    let observed = correlation(labels);
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut shuffled = labels.to_vec();
    let mut reaches = || {
        shuffled.shuffle(&mut rng);
        correlation(&shuffled) >= observed
    };
    let reached = (0..settings.draws).filter(|_| reaches()).count();
    let p = observed.map(|_| (1 + reached) as f64 / (settings.draws + 1) as f64);
    Ok(Some(Circle { bar: found.bar, correlation: observed, p }))
}
