//! Reconstruction losses: the gradient that each gives to a reconstruction, and what is told of a step.

use burn::tensor::{Device, Tensor};

use crate::config::Loss;
use crate::kernels;
use crate::readback::{host, on_host};

/// What the squared error is multiplied by: 1/batch, or 1 over the batch's variance, which is on the device.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    Known(f32),
    Computed(Box<Tensor<1>>),
}

impl Loss {
    /// The weight w of the loss w·Σ‖x̂ − x‖², whose gradient is ∂x̂ = 2w(x̂ − x).
    ///
    /// # Shapes
    /// - `x`: `[batch, d_model]`
    pub(crate) fn weight(self, x: &Tensor<2>) -> Weight {
        match self {
            Self::Mse => Weight::Known(1.0 / x.dims()[0] as f32),
            Self::Fvu => Weight::Computed(Box::new(centred_squares(x).clamp_min(1e-30).recip())),
        }
    }
}

impl Weight {
    /// `x · weight · factor`
    pub(crate) fn scale(&self, x: Tensor<2>, factor: f64) -> Tensor<2> {
        match self {
            Self::Known(weight) => x.mul_scalar(f64::from(*weight) * factor),
            Self::Computed(weight) => x * weight.as_ref().clone().mul_scalar(factor).unsqueeze(),
        }
    }

    /// `x · weight`
    pub(crate) fn times(&self, x: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Known(weight) => x.mul_scalar(*weight),
            Self::Computed(weight) => x * weight.as_ref().clone(),
        }
    }

    /// The weight times `factor`, in one element.
    pub(crate) fn tensor(&self, factor: f64, device: &Device) -> Tensor<1> {
        match self {
            Self::Known(weight) => Tensor::full([1], f64::from(*weight) * factor, device),
            Self::Computed(weight) => weight.as_ref().clone().mul_scalar(factor),
        }
    }

    fn value(&self) -> f32 {
        match self {
            Self::Known(weight) => *weight,
            Self::Computed(weight) => weight.as_ref().clone().into_scalar::<f32>(),
        }
    }

    fn on_device(&mut self) -> Option<&mut Tensor<1>> {
        match self {
            Self::Known(_) => None,
            Self::Computed(weight) => Some(weight.as_mut()),
        }
    }
}

/// The losses of a step, still on the device: reading one waits for the step.
#[derive(Clone, Debug)]
pub struct StepLoss {
    pub(crate) squares: Tensor<1>,
    pub(crate) weight: Weight,
    /// What it counts for in the loss.
    pub(crate) share: f64,
    pub(crate) terms: Vec<Term>,
    pub(crate) watched: Option<Watched>,
    /// KL divergence by token, of a step that a model was asked about.
    pub(crate) kl: Option<Tensor<1>>,
    /// What the step's gradient was multiplied by.
    pub(crate) clip: Tensor<1>,
}

/// Why nothing after a step is worth anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The reconstruction loss is this.
    Loss(f64),
    /// The KL divergence is this.
    Divergence(f64),
    /// The norm of the gradient is infinite or not a number.
    Gradient,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loss(value) => write!(f, "its loss is {value}"),
            Self::Divergence(value) => write!(f, "its KL divergence is {value}"),
            Self::Gradient => f.write_str("its gradient is not finite"),
        }
    }
}

/// A term that a class adds to the reconstruction loss.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub kind: TermKind,
    /// Numbers whose sum, times the weight, is the term with its coefficient.
    pub parts: Tensor<1>,
    pub weight: Weight,
}

impl Term {
    /// The term; reading it waits for the device.
    pub(crate) fn value(&self) -> f64 {
        f64::from(total(&self.parts) as f32 * self.weight.value())
    }

    /// Of its value, in one element.
    pub(crate) fn whole(kind: TermKind, value: Tensor<1>) -> Self {
        Self { kind, parts: value, weight: Weight::Known(1.0) }
    }
}

/// Which term it is. Its name is SAELens'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermKind {
    /// What dead latents reconstruct of the error; of a gated SAE, the reconstruction from the gate.
    Auxiliary,
    /// The penalty on the size of activations.
    L1,
    /// The penalty on their number.
    L0,
    /// That on how far below their thresholds dead latents are.
    PreActivation,
    /// The reconstruction loss of so many of the first latents alone, of a Matryoshka SAE; of so many of the largest, of a hierarchical one.
    Inner(usize),
}

impl std::fmt::Display for TermKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auxiliary => f.write_str("auxiliary_reconstruction_loss"),
            Self::L1 => f.write_str("l1_loss"),
            Self::L0 => f.write_str("l0_loss"),
            Self::PreActivation => f.write_str("pre_act_loss"),
            Self::Inner(width) => write!(f, "inner_mse_loss_{width}"),
        }
    }
}

/// What only a watched step counts.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// Σ‖x − x̄‖² over the batch.
    pub centred: Tensor<1>,
    /// Active entries of the batch's codes.
    pub active: Tensor<1>,
    /// Tokens of the batch.
    pub batch: usize,
}

impl StepLoss {
    /// Brings many losses to the host, waiting for the device once. Nothing that is read of them afterwards waits, and no value changes.
    pub fn fetch<'a>(losses: impl Iterator<Item = &'a mut Self>) {
        on_host(losses.flat_map(Self::tensors).collect());
    }

    fn tensors(&mut self) -> impl Iterator<Item = &mut Tensor<1>> {
        let Self { squares, weight, share: _, terms, watched, kl, clip } = self;
        let terms = terms.iter_mut().flat_map(|term| std::iter::once(&mut term.parts).chain(term.weight.on_device()));
        let watched = watched.iter_mut().flat_map(|of| [&mut of.centred, &mut of.active]);
        [squares, clip].into_iter().chain(weight.on_device()).chain(terms).chain(watched).chain(kl)
    }

    /// What is not finite of the step, if anything is: then the weights after it are worth nothing. Reading it waits for the step.
    pub fn fault(&self) -> Option<Fault> {
        let (loss, kl) = (self.reconstruction(), self.kl().filter(|kl| !kl.is_finite()));
        if !loss.is_finite() {
            return Some(Fault::Loss(loss));
        }
        if let Some(kl) = kl {
            return Some(Fault::Divergence(kl));
        }
        // limit/‖g‖ of an infinite norm is 0, and of one that is not a number no number.
        let clip = total(&self.clip);
        (!clip.is_finite() || clip <= 0.0).then_some(Fault::Gradient)
    }

    /// The reconstruction loss: Σ over d_model of the squared error, mean over tokens, or its share of the variance.
    pub fn reconstruction(&self) -> f64 {
        f64::from(total(&self.squares) as f32 * self.weight.value())
    }

    /// The fraction of variance unexplained: the batch's squared error over its variance about its mean, Σ‖x̂ − x‖² / Σ‖x − x̄‖².
    /// `None` if the step was not watched, or the variance is 0.
    pub fn fvu(&self) -> Option<f64> {
        let variance = total(&self.watched.as_ref()?.centred);
        (variance > 0.0).then(|| total(&self.squares) / variance)
    }

    /// KL(p ‖ q) of next-token distributions, without and with the reconstructions patched in: nats per token, mean over the batch. `None`
    /// of a step that asked no model.
    pub fn kl(&self) -> Option<f64> {
        self.kl.as_ref().map(|kl| total(kl) / kl.dims()[0] as f64)
    }

    /// Active latents per token, mean over the batch. `None` if the step was not watched.
    pub fn l0(&self) -> Option<f64> {
        self.watched.as_ref().map(|w| total(&w.active) / w.batch as f64)
    }

    /// The auxiliary loss times its coefficient; 0 where it is off or no latent is dead.
    pub fn auxiliary(&self) -> f64 {
        let auxiliary = self.terms().filter(|(kind, _)| *kind == TermKind::Auxiliary);
        // Not `sum`, which is −0 of nothing.
        auxiliary.fold(0.0, |sum, (_, value)| sum + value)
    }

    /// What the class adds to the reconstruction loss, each with its coefficient. What is not there is 0.
    pub fn terms(&self) -> impl Iterator<Item = (TermKind, f64)> {
        self.terms.iter().map(|term| (term.kind, term.value()))
    }

    /// The reconstruction loss and every term of the class, whatever the objective.
    pub fn total(&self) -> f64 {
        self.terms().fold(self.share * self.reconstruction(), |sum, (_, value)| sum + value)
    }
}

/// Σ‖x − x̄‖² of a batch about its mean x̄: what a fraction of variance is a fraction of.
pub(crate) fn centred_squares(x: &Tensor<2>) -> Tensor<1> {
    let mean = kernels::column_sums(x.clone()).div_scalar(x.dims()[0] as f64);
    kernels::sum_squares(x.clone() - mean.unsqueeze())
}

/// The sum of a tensor's values; reading it waits for the device.
pub(crate) fn total(parts: &Tensor<1>) -> f64 {
    host(parts.clone()).into_iter().map(f64::from).sum()
}
