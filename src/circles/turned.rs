//! What a model says when an activation is turned within a plane.

use std::f64::consts::TAU;

use anyhow::{Context as _, Result, anyhow, ensure};
use assay_models::{Decoder, Site};
use assay_probes::topology::Turning;
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array1, Array2};
use serde::Serialize;

use super::Case;
use crate::probe::Reading;

/// How often the class that the model names moves as the activation is turned, over all texts and turns by 1 to m − 1 classes.
#[derive(Clone, Debug, Serialize)]
pub struct Turned {
    /// The share of texts behind which the model, as it is, names the next class most of all classes.
    pub named_next: f64,
    /// The share of turns in the plane of the order that move what it names by as many classes.
    pub followed: f64,
    /// The same of turns in a random plane of the classes' means.
    pub followed_random: f64,
    /// What chance gives: 1/m.
    pub chance: f64,
    /// Turns.
    pub turns: usize,
}

/// Turns the activation at the last token of each text about the classes' mean and reads which class the model names at the end of what
/// follows. `planes` are that of the order and a random one. `None` where nothing follows, or two classes begin with one token.
///
/// # Errors
/// If the model refuses the texts, or its logits can't be read.
pub fn turned(
    reading: &Reading<'_>,
    case: &Case,
    site: Site,
    planes: [&Turning; 2],
    mut advance: impl FnMut(u64) -> Result<()>,
) -> Result<Option<Turned>> {
    let Some(then) = &case.then else { return Ok(None) };
    let classes = case.classes.len();
    let first = |class: &String| -> Result<u32> {
        let ids = reading.vocabulary.encode(&format!(" {class}"))?;
        ids.first().copied().with_context(|| format!("the class `{class}` has no token"))
    };
    let names = case.classes.iter().map(first).collect::<Result<Vec<u32>>>()?;
    if (0..classes).any(|at| names[..at].contains(&names[at])) {
        return Ok(None);
    }
    let behind = reading.vocabulary.encode(then)?;
    ensure!(!behind.is_empty(), "what follows the texts is empty");
    let (mut next, mut followed) = (0, [0, 0]);
    for (text, &label) in case.texts.iter().zip(&case.labels) {
        let mut tokens = reading.tokens(text)?;
        let place = tokens.len() - 1;
        tokens.extend(&behind);
        let said = answers(reading.model, &tokens, place, site, planes, &names)?;
        next += usize::from(said[0] == (label + 1) % classes);
        for (plane, followed) in followed.iter_mut().enumerate() {
            let moved = |step: &usize| said[plane * classes + step] == (said[0] + step) % classes;
            *followed += (1..classes).filter(moved).count();
        }
        advance(1)?;
    }
    let texts = case.texts.len();
    let turns = texts * (classes - 1);
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    Ok(Some(Turned {
        named_next: share(next, texts),
        followed: share(followed[0], turns),
        followed_random: share(followed[1], turns),
        chance: 1.0 / classes as f64,
        turns,
    }))
}

/// The class that is named most for each plane and turn by 0 to m − 1 classes, all in one pass from the site on.
fn answers(
    model: &Decoder,
    tokens: &[u32],
    place: usize,
    site: Site,
    planes: [&Turning; 2],
    names: &[u32],
) -> Result<Vec<usize>> {
    let (classes, length) = (names.len(), tokens.len());
    let rows = planes.len() * classes;
    // What comes before the activation is the same in all of them, and is computed once.
    let batch = Array2::from_shape_fn((1, length), |(_, at)| tokens[at]);
    let cut = model.cut(batch.view(), &[site])?.remove(0);
    let value = cut.value();
    let [_, _, width] = value.dims();
    let read = |tensor: Tensor<3>| {
        let values = tensor.into_data().convert::<f32>().try_into_vec::<f32>();
        values.map_err(|e| anyhow!("activations: {e:?}"))
    };
    let at = value.clone().slice([0..1, place..place + 1, 0..width]);
    let point: Array1<f64> = read(at)?.into_iter().map(f64::from).collect();
    let mut turned = Vec::with_capacity(rows * width);
    for plane in planes {
        for step in 0..classes {
            let angle = TAU * step as f64 / classes as f64;
            turned.extend(plane.turned(point.view(), angle).iter().map(|&v| v as f32));
        }
    }
    let turned = Tensor::from_data(TensorData::new(turned, [rows, 1, width]), &value.device());
    let value = value.repeat_dim(0, rows).slice_assign([0..rows, place..place + 1, 0..width], turned);
    let logits = model.forward_from(&cut, value);
    let [_, _, vocabulary] = logits.dims();
    let last = read(logits.slice([0..rows, length - 1..length, 0..vocabulary]))?;
    let most = |row: &[f32]| {
        (0..classes).fold(
            0,
            |best, class| {
                if row[names[class] as usize] > row[names[best] as usize] { class } else { best }
            },
        )
    };
    Ok(last.chunks_exact(vocabulary).map(most).collect())
}
