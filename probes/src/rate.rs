//! How often latents fire, and what a sparse code costs in bits.

/// Terms of reports that are computed here.
pub const TERMS: &[(&str, &str)] = &[
    ("alive_frac", "fraction of latents that fire at least once on the evaluation set"),
    ("density", "firing rate of each latent"),
    (
        "bits_per_token",
        "L0·H(q) + 8·L0, q the latents' shares of all firings, logarithms to base 2: indices entropy-coded one by one, values in 8 bits (Ohiagwu 2026, 'Your SAE looks solved')",
    ),
    ("bits_bernoulli", "Σ_i H_b(p_i), p_i the firing rates: which latents fire, each coded on its own; no values"),
];

/// Bits that a value of an active latent is counted with.
const VALUE_BITS: f64 = 8.0;

/// On how many tokens each latent was active.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firing {
    /// Active tokens of each latent, `[d_sae]`.
    pub fires: Vec<u64>,
    /// Sequences in which each latent was active, `[d_sae]`; empty where they were not counted.
    pub sequences: Vec<u64>,
    /// Tokens in all.
    pub tokens: u64,
}

impl Firing {
    /// Fraction of latents that were active at least once.
    pub fn alive_frac(&self) -> Option<f64> {
        let alive = self.fires.iter().filter(|&&f| f > 0).count();
        (!self.fires.is_empty()).then(|| alive as f64 / self.fires.len() as f64)
    }

    /// Firing rate of each latent (`density`).
    pub fn density(&self) -> Vec<f64> {
        self.fires.iter().map(|&f| f as f64 / self.tokens.max(1) as f64).collect()
    }

    /// Tokens on which each latent was active, for each sequence in which it was at all (SAEBench's
    /// `consistent_activation_heuristic`): 1 is a latent that never fires twice in a text. `None` for latents that never fired.
    pub fn consistent_activation(&self) -> Vec<Option<f64>> {
        self.fires.iter().zip(&self.sequences).map(|(&f, &s)| (s > 0).then(|| f as f64 / s as f64)).collect()
    }

    /// Share of latents whose firing rate exceeds `rate` (SAEBench's `freq_over_1_percent` with rate 0.01).
    pub fn latents_above(&self, rate: f64) -> Option<f64> {
        let above = self.density().into_iter().filter(|&p| p > rate).count();
        (!self.fires.is_empty()).then(|| above as f64 / self.fires.len() as f64)
    }

    /// Share of all firings that are of latents whose firing rate exceeds `rate` (SAEBench's
    /// `normalized_freq_over_1_percent` with rate 0.01). `None` where nothing fired.
    pub fn firings_above(&self, rate: f64) -> Option<f64> {
        let total: u64 = self.fires.iter().sum();
        let above: u64 = self.fires.iter().zip(self.density()).filter(|&(_, p)| p > rate).map(|(&f, _)| f).sum();
        (total > 0).then(|| above as f64 / total as f64)
    }

    /// L0·H(q) + 8·L0 bits per token, q the latents' shares of all firings: indices entropy-coded one by one,
    /// values in 8 bits. A rate proxy, not a mutual information. `None` where nothing fired.
    pub fn bits_per_token(&self) -> Option<f64> {
        let total: u64 = self.fires.iter().sum();
        if total == 0 || self.tokens == 0 {
            return None;
        }
        let entropy: f64 = self
            .fires
            .iter()
            .filter(|&&f| f > 0)
            .map(|&f| {
                let q = f as f64 / total as f64;
                -q * q.log2()
            })
            .sum();
        let l0 = total as f64 / self.tokens as f64;
        Some(l0 * entropy + VALUE_BITS * l0)
    }

    /// Σ_i H_b(p_i), p_i the firing rate: which latents fire, each coded on its own; no values.
    pub fn bits_bernoulli(&self) -> Option<f64> {
        if self.tokens == 0 {
            return None;
        }
        let bits = self.density().into_iter().filter(|&p| p > 0.0 && p < 1.0);
        Some(bits.map(|p| -p * p.log2() - (1.0 - p) * (1.0 - p).log2()).sum())
    }
}
