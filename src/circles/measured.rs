//! What activations of texts with ordered classes say.

use std::f64::consts::TAU;

use anyhow::Result;
use assay_probes::topology::{
    Audit, Axes, Distances, Draws, Landmarks, Metric, Null, OrderTest, Pipeline, Plane, TopologyError, among_orders,
    audit, circular_coordinate, circular_correlation, class_means, order_test, planes,
};
use ndarray::{Array2, ArrayView2};
use serde::Serialize;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Draws of each null, and of orders of many classes.
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
    /// That of other orders of the classes, the share with as large a one, as in [`OrderTest`]: which texts are of one class is kept, since a
    /// coordinate that tells classes apart in no order at all would be far above shuffled labels.
    pub p: Option<f64>,
    /// The coordinate of each text, in [0, 2π).
    #[serde(skip)]
    pub angles: Vec<f64>,
}

/// The plane of the first two principal components of the classes' means, which knows nothing of their order.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The share of the means' variance that lies in it.
    pub share: f64,
    /// Each text's coordinates about the mean of the means, `[texts, 2]`.
    pub texts: Array2<f64>,
    /// Each class's, `[classes, 2]`.
    pub means: Array2<f64>,
}

/// What is said of activations, one row per text.
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
    /// Where texts and means lie, for a plot.
    #[serde(skip)]
    pub spread: Spread,
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
        Ok(Self {
            order: order_test(means.view(), draws, seed)?,
            planes: planes(activations, 0.0)?,
            audit,
            circle,
            spread: Spread::of(activations, means.view())?,
        })
    }
}

impl Spread {
    fn of(activations: ArrayView2<'_, f64>, means: ArrayView2<'_, f64>) -> Result<Self, TopologyError> {
        let axes = Axes::of(means)?;
        let share = axes.variances.iter().take(2).sum::<f64>() / axes.variances.sum();
        Ok(Self { share, texts: axes.scores(activations, 2), means: axes.scores(means, 2) })
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
    let correlation = |place: &[usize]| {
        let angles: Vec<f64> = labels.iter().map(|&label| TAU * place[label] as f64 / classes as f64).collect();
        circular_correlation(&found.angles, &angles).map(f64::abs)
    };
    // The coordinate has a spread, or has none in any order.
    let among = correlation(&(0..classes).collect::<Vec<_>>())
        .map(|_| among_orders(classes, settings.draws, settings.seed, |place| correlation(place).unwrap_or(0.0)));
    Ok(Some(Circle {
        bar: found.bar,
        correlation: among.map(|among| among.value),
        p: among.map(|among| among.p),
        angles: found.angles,
    }))
}
