//! Dead latents: which there are, and the auxiliary loss that revives them (AuxK; Gao et al. 2024, arXiv:2406.04093, section 2.4 and
//! appendix A.2).

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};

use crate::config::TrainConfig;
use crate::kernels::{self, Counters, Dead};
use crate::loss::Weight;
use crate::readback::host_int;

/// Steps between two looks at which latents are dead.
const LOOK_EVERY: u64 = 64;

/// When and how often each latent was active.
pub(crate) struct Firing {
    pub counters: Counters,
    /// No latent has been silent for longer, in tokens: known without asking the device.
    longest_silence: u64,
    /// How many latents can be dead at most, and for how many more tokens that holds.
    most_dead: Option<(usize, u64)>,
}

impl Firing {
    /// Before the first token.
    pub(crate) fn new(d_sae: usize, device: &Device) -> Self {
        let zeros = || Tensor::from_data(vec![0_i32; d_sae].as_slice(), device);
        Self { counters: Counters { since_fired: zeros(), fires: zeros() }, longest_silence: 0, most_dead: None }
    }

    /// With the counters of a training that stopped.
    pub(crate) fn resumed(counters: Counters) -> Self {
        let mut firing = Self { counters, longest_silence: 0, most_dead: None };
        firing.silences();
        firing
    }

    /// What step `step` needs to find dead latents; `None` where no loss asks for them, or no latent can have been silent for longer
    /// than the window: the loss would add nothing. The counters themselves are looked at now and then only, since that waits for the
    /// device.
    pub(crate) fn dead(&mut self, config: &TrainConfig, step: u64) -> Option<Dead> {
        if config.aux_coefficient <= 0.0 && !config.architecture.asks_for_dead() {
            return None;
        }
        if self.longest_silence > config.dead_after && step.is_multiple_of(LOOK_EVERY) {
            // Who is silent for so long now may be dead before the next look.
            let until_then = LOOK_EVERY * config.batch_size as u64;
            let count = self.silences().into_iter().filter(|since| since + until_then > config.dead_after).count();
            self.most_dead = Some((count, until_then));
        }
        // Room for more than there can be would stay empty, and cost the same.
        let most = self.most_dead.map_or(usize::MAX, |(count, _)| count);
        (self.longest_silence > config.dead_after).then(|| Dead {
            since_fired: self.counters.since_fired.clone(),
            after: limit(config),
            k: config.k_aux().min(most),
        })
    }

    /// Asks the device for how long each latent has been silent.
    fn silences(&mut self) -> Vec<u64> {
        let since_fired = host_int(self.counters.since_fired.clone()).into_iter();
        let silences: Vec<u64> = since_fired.map(|since| u64::try_from(since).unwrap_or(0)).collect();
        self.longest_silence = silences.iter().copied().max().unwrap_or(0);
        silences
    }

    /// Takes the counters out, so that a kernel may write into their memory; they come back `tokens` later.
    pub(crate) fn take(&mut self, tokens: usize) -> Counters {
        self.longest_silence = self.longest_silence.saturating_add(tokens as u64);
        let left = |(count, left): (usize, u64)| Some((count, left.checked_sub(tokens as u64)?));
        self.most_dead = self.most_dead.and_then(left);
        let Counters { since_fired, fires } = &mut self.counters;
        Counters { since_fired: take_int(since_fired), fires: take_int(fires) }
    }

    /// Latents that have not been active for more than `dead_after` tokens.
    pub(crate) fn n_dead(&self, config: &TrainConfig) -> usize {
        let limit = limit(config);
        host_int(self.counters.since_fired.clone()).into_iter().filter(|&since| since > limit).count()
    }

    /// The auxiliary loss of what the dead among `latents` decode to, ê: coefficient·min(n_dead / k_aux, 1)·w·Σ‖ê − e‖², where e = x − x̂ is
    /// the detached error, −e the `residual`, and w the reconstruction loss's weight.
    ///
    /// # Shapes
    /// - `dead_output`, `residual`: `[batch, d_model]`
    pub(crate) fn auxiliary(
        &self,
        config: &TrainConfig,
        latents: Range<usize>,
        dead_output: Tensor<2>,
        residual: Tensor<2>,
        weight: &Weight,
    ) -> Auxiliary {
        let since_fired = self.counters.since_fired.clone().narrow(0, latents.start, latents.len());
        let n_dead = since_fired.greater_elem(limit(config)).float().sum();
        // The factor is 0 when nothing is dead, and so is the gradient.
        let factor = weight.times((n_dead / config.k_aux() as f64).clamp_max(1.0)).mul_scalar(config.aux_coefficient);
        let error = dead_output + residual;
        Auxiliary {
            loss: kernels::sum_squares(error.clone()) * factor.clone(),
            output_grad: error * factor.mul_scalar(2.0).unsqueeze(),
        }
    }
}

/// The auxiliary loss of a batch, times its coefficient, and its gradient with respect to what the dead latents decode to.
pub(crate) struct Auxiliary {
    pub loss: Tensor<1>,
    /// `[batch, d_model]`
    pub output_grad: Tensor<2>,
}

/// The window in the width of the counters, which stop at `i32::MAX`: a longer window means never.
fn limit(config: &TrainConfig) -> i32 {
    i32::try_from(config.dead_after).unwrap_or(i32::MAX)
}

fn take_int(place: &mut Tensor<1, Int>) -> Tensor<1, Int> {
    let empty = Tensor::empty([0], &place.device());
    std::mem::replace(place, empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Recipe};

    /// A batch after which latents have been silent for so long.
    fn after(firing: &mut Firing, tokens: usize, silences: &[i32]) {
        let fires = firing.take(tokens).fires;
        firing.counters = Counters { since_fired: Tensor::from_data(silences, &Device::flex()), fires };
    }

    #[test]
    fn there_is_room_for_every_latent_that_may_be_dead_and_for_few_more() {
        let mut config = TrainConfig::from_recipe(Recipe::Assay, 64, 6, Architecture::topk(2), 10, 100_000);
        config.dead_after = 1000;
        let k = |firing: &mut Firing, step| firing.dead(&config, step).map(|dead| dead.k);
        let mut firing = Firing::new(6, &Device::flex());
        assert_eq!(k(&mut firing, 0), None);
        after(&mut firing, 1001, &[1001, 0, 361, 360, 1001, 5]);
        // As long as nobody has looked, all may be dead.
        assert_eq!(k(&mut firing, 1), Some(32));
        // 64 batches of 10 tokens later three may be: 361 + 640 is more than 1,000.
        assert_eq!(k(&mut firing, 64), Some(3));
        for step in 65..128 {
            after(&mut firing, 10, &[2000, 0, 1001, 1000, 0, 0]);
            assert_eq!(k(&mut firing, step), Some(3), "{step}");
        }
        // Batches larger than was said: more may be dead than was looked for.
        after(&mut firing, 11, &[2000, 0, 1001, 1001, 0, 0]);
        assert_eq!(k(&mut firing, 127), Some(32));
        after(&mut firing, 10, &[0, 0, 0, 0, 0, 0]);
        assert_eq!(k(&mut firing, 128), None);
    }
}
