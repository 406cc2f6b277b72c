//! What stands between an encoder's product and the code, and what is done to the input first.

use burn::tensor::Tensor;

/// The rule that turns pre-activations, `pre = x·W_enc + b_enc`, into latents. `V` is a vector `[d_sae]`: a tensor, or host values.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation<V = Tensor<1>> {
    /// ReLU of the k largest, ties to the lowest index (Gao et al. 2024, arXiv:2406.04093).
    TopK {
        /// Latents chosen per token.
        k: usize,
        /// Whether latents are chosen by, and measured in, `pre` times the norm of their decoder row, as SAELens does with
        /// `rescale_acts_by_decoder_norm`.
        by_decoder_norm: bool,
    },
    /// The k of largest magnitude with their signs, without a ReLU, ties to the positive ones, among those to the lowest index (AbsTopK,
    /// arXiv:2510.00404).
    AbsTopK {
        /// Latents chosen per token.
        k: usize,
        /// As for [`Self::TopK`].
        by_decoder_norm: bool,
    },
    /// ReLU of the largest in each of k groups of d_sae/k neighbours (sparsify's `groupmax`).
    GroupMax {
        /// Groups, and so latents chosen per token.
        k: usize,
    },
    /// `ReLU(pre)`.
    Relu,
    /// `ReLU(pre)·[pre > threshold]` (Rajamanoharan et al. 2024, arXiv:2407.14435). BatchTopK and Matryoshka SAEs are this when
    /// they are not trained, with one threshold for all latents.
    JumpRelu {
        /// `[d_sae]`
        threshold: V,
    },
    /// `[pre > 0]·ReLU(exp(r_mag)·x·W_enc + b_mag)`, b_enc being the gate's bias (Rajamanoharan et al. 2024, arXiv:2404.16014).
    Gated {
        /// Logarithm of the scale of magnitudes, `[d_sae]`.
        r_mag: V,
        /// Bias of magnitudes, `[d_sae]`.
        b_mag: V,
    },
    /// Matching pursuit with the decoder's rows (Mallat and Zhang 1993), which are the encoder's too; see [`Pursuit`].
    MatchingPursuit(Pursuit),
}

/// How long a matching pursuit goes on, as SAELens says it.
///
/// The residual r starts as the input. In each iteration i = argmax W_dec·r and v = ReLU(W_dec\[i\]·r): v is added to latent i, and
/// v·W_dec\[i\] is taken from r.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pursuit {
    /// A token is done when ‖r‖ is below it; 0: never for that reason.
    pub residual_threshold: f64,
    /// Iterations at most; `None`: d_in.
    pub max_iterations: Option<usize>,
    /// Whether a token is done too when an iteration makes no other latent active.
    pub stop_on_duplicate_support: bool,
}

impl<V> Activation<V> {
    /// The architecture's name, as SAELens calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TopK { .. } => "topk",
            Self::AbsTopK { .. } => "abstopk",
            Self::GroupMax { .. } => "groupmax",
            Self::Relu => "standard",
            Self::JumpRelu { .. } => "jumprelu",
            Self::Gated { .. } => "gated",
            Self::MatchingPursuit(_) => "matching_pursuit",
        }
    }

    /// Latents chosen per token, where that is one number.
    pub fn k(&self) -> Option<usize> {
        match *self {
            Self::TopK { k, .. } | Self::AbsTopK { k, .. } | Self::GroupMax { k } => Some(k),
            Self::Relu | Self::JumpRelu { .. } | Self::Gated { .. } | Self::MatchingPursuit(_) => None,
        }
    }

    /// Whether latents are chosen by, and measured in, `pre` times the norm of their decoder row.
    pub fn by_decoder_norm(&self) -> bool {
        matches!(self, Self::TopK { by_decoder_norm: true, .. } | Self::AbsTopK { by_decoder_norm: true, .. })
    }

    /// Whether the encoder is the decoder, so that there are no weights of its own.
    pub fn is_tied(&self) -> bool {
        matches!(self, Self::MatchingPursuit(_))
    }

    /// The same rule with its vectors held otherwise.
    pub fn map<W>(&self, mut vector: impl FnMut(&V) -> W) -> Activation<W> {
        match self {
            Self::TopK { k, by_decoder_norm } => Activation::TopK { k: *k, by_decoder_norm: *by_decoder_norm },
            Self::AbsTopK { k, by_decoder_norm } => Activation::AbsTopK { k: *k, by_decoder_norm: *by_decoder_norm },
            Self::GroupMax { k } => Activation::GroupMax { k: *k },
            Self::Relu => Activation::Relu,
            Self::JumpRelu { threshold } => Activation::JumpRelu { threshold: vector(threshold) },
            Self::Gated { r_mag, b_mag } => Activation::Gated { r_mag: vector(r_mag), b_mag: vector(b_mag) },
            Self::MatchingPursuit(pursuit) => Activation::MatchingPursuit(*pursuit),
        }
    }
}

/// What is done to every activation before it is encoded, and undone in its reconstruction; SAELens' `normalize_activations`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalization {
    /// Nothing.
    #[default]
    None,
    /// Mean 0 and standard deviation 1 over d_model: (x − μ)/(σ + 1e-5), σ² divided by d_model − 1.
    LayerNorm,
    /// Norm √d_model; zeros, which have no direction, stay zeros (SAELens divides 0 by 0).
    ConstantNorm,
}

/// SAELens' ε of layer_norm; it is not undone in the reconstruction.
const EPS: f64 = 1e-5;

/// How to undo a [`Normalization`]: `x̂·scale + shift`, `[batch, 1]` each.
pub(crate) struct Undo {
    scale: Tensor<2>,
    shift: Option<Tensor<2>>,
}

impl Normalization {
    /// The name in SAELens' configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LayerNorm => "layer_norm",
            Self::ConstantNorm => "constant_norm_rescale",
        }
    }

    pub(crate) fn apply(self, x: Tensor<2>) -> (Tensor<2>, Option<Undo>) {
        let [_, d_model] = x.dims();
        let squares = |x: Tensor<2>| (x.clone() * x).sum_dim(1);
        match self {
            Self::None => (x, None),
            Self::LayerNorm => {
                let mean = x.clone().mean_dim(1);
                let x = x - mean.clone();
                let deviation = (squares(x.clone()) / (d_model as f64 - 1.0)).sqrt();
                (x / (deviation.clone() + EPS), Some(Undo { scale: deviation, shift: Some(mean) }))
            }
            Self::ConstantNorm => {
                let scale = squares(x.clone()).sqrt() / (d_model as f64).sqrt();
                let divisor = scale.clone().mask_fill(scale.clone().equal_elem(0.0), 1.0);
                (x / divisor, Some(Undo { scale, shift: None }))
            }
        }
    }
}

impl Undo {
    pub(crate) fn apply(self, reconstruction: Tensor<2>) -> Tensor<2> {
        let scaled = reconstruction * self.scale;
        match self.shift {
            Some(shift) => scaled + shift,
            None => scaled,
        }
    }
}
