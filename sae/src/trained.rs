//! What is read of an SAE in training: the SAE for inference, its parameters and counters.

use burn::tensor::Tensor;

use crate::config::TrainConfig;
use crate::kernels;
use crate::readback::host_int;
use crate::sae::{Sae, Transcoding};
use crate::trainer::Trainer;

impl Trainer {
    /// The SAE as it is for inference: the input's scale and, where pre-activations are rescaled, the decoder's norms
    /// are folded into the weights. It encodes and decodes raw activations. With [`TrainConfig::ema_decay`] its weights are the running
    /// mean of those that steps left; a threshold that is itself a running mean stays that of the last.
    pub fn sae(&self) -> Sae {
        self.sae_as(&self.config)
    }

    /// The same as settings have it that [train the same](TrainConfig::trains_as): at another k of a hierarchical SAE.
    pub fn sae_as(&self, config: &TrainConfig) -> Sae {
        debug_assert!(self.config.trains_as(config), "another training");
        let average = self.average.as_ref().filter(|_| self.step > 0);
        let p = average.map_or_else(|| self.params.clone(), |average| average.params(&self.config));
        let (mut w_enc, mut b_enc, mut w_dec, mut b_dec) = (p.w_enc, p.b_enc, p.w_dec, p.b_dec);
        if self.config.rescale_acts_by_decoder_norm {
            let norms = kernels::row_norms(w_dec.clone());
            w_enc = kernels::scale_rows(w_enc, norms.clone());
            b_enc = b_enc * norms.clone();
            w_dec = kernels::scale_rows(w_dec, norms.clamp_min(f32::MIN_POSITIVE).recip());
        }
        if self.input_scale != 1.0 {
            w_enc = w_enc.mul_scalar(self.input_scale);
            w_dec = w_dec.div_scalar(self.input_scale);
            b_dec = b_dec.div_scalar(self.input_scale);
        }
        let threshold = Tensor::full([self.config.d_sae], self.threshold.value(), &b_enc.device());
        let activation = config.architecture.coder().activation(&p.vectors, threshold);
        let sae = Sae::new([w_enc, w_dec], [b_enc, b_dec], activation, self.config.apply_b_dec_to_input);
        let skip = average.map_or_else(|| self.skip(), |average| average.skip.clone());
        if self.config.task.is_autoencoder() { sae } else { sae.transcoding(Transcoding { skip }) }
    }

    /// The linear map of a skip transcoder, `[d_out, d_in]`; `None` of what is none.
    pub fn skip(&self) -> Option<Tensor<2>> {
        self.skip.as_ref().map(|skip| skip.weights.clone())
    }

    /// The weights as they are in training, not folded: encoder and decoder, `[d_sae, d_model]` each.
    pub fn weights(&self) -> [Tensor<2>; 2] {
        [self.params.w_enc.clone(), self.params.w_dec.clone()]
    }

    /// The biases in training: `[d_sae]` and `[d_model]`.
    pub fn biases(&self) -> [Tensor<1>; 2] {
        [self.params.b_enc.clone(), self.params.b_dec.clone()]
    }

    /// The vectors `[d_sae]` that its class has beside weights and biases, by name.
    pub fn vectors(&self) -> Vec<(&'static str, Tensor<1>)> {
        let names = self.config.architecture.coder().vectors();
        names.into_iter().map(|(name, _)| name).zip(self.params.vectors.iter().cloned()).collect()
    }

    /// The running mean of the least value by which a latent was chosen, which is the threshold in inference; `None` of a class that has
    /// none.
    pub fn threshold(&self) -> Option<f64> {
        self.config.architecture.coder().threshold_lr().map(|_| self.threshold.value())
    }

    /// The coefficient of the sparsity penalty in the next step; `None` of a class that has none.
    pub fn coefficient(&self) -> Option<f64> {
        let of = self.config.architecture.coefficient()?;
        let steered = self.steering.as_ref().map_or(of.start, |steering| of.start * steering.factor());
        Some(steered * of.warmed_up(self.step))
    }

    /// Tokens on which each latent was active in training, `[d_sae]`.
    pub fn fires(&self) -> Vec<i32> {
        host_int(self.firing.counters.fires.clone())
    }

    /// Latents that have not been active for more than `dead_after` tokens.
    pub fn n_dead(&self) -> usize {
        self.firing.n_dead(&self.config)
    }
}
