//! The rotary embeddings that a GGUF file describes.

use super::config::Keys;
use crate::config::{Family, Rope, RopeScaling};
use crate::error::{ModelError, Result};

/// Divisors of the frequencies, in which the scaling of Llama 3 is stored.
const DIVISORS: &str = "rope_freqs.weight";

/// What they are read from.
pub(super) struct Ropes<'a> {
    pub keys: &'a Keys<'a>,
    pub family: Family,
    pub d_head: usize,
}

impl Ropes<'_> {
    /// The embeddings that layers choose from: in Gemma 3 that of all tokens, then that of windows.
    pub(super) fn read(&self) -> Result<Vec<Rope>> {
        if self.family == Family::Gpt2 {
            return Ok(Vec::new());
        }
        let dims = self.dims()?;
        let theta = self.keys.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let mut ropes = vec![Rope { dims, theta, scaling: self.scaling(dims)? }];
        if self.family == Family::Gemma3 {
            let theta = self.keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
            ropes.push(Rope { dims, theta, scaling: RopeScaling::Default });
        }
        Ok(ropes)
    }

    fn dims(&self) -> Result<usize> {
        const KEY: &str = "rope.dimension_count";
        let d_head = self.d_head;
        let dims = self.keys.size(KEY)?.unwrap_or(d_head);
        // Only GPT-NeoX rotates a part; in Llama's files the order of all rows depends on it.
        let is_supported = if self.family == Family::Neox { dims <= d_head } else { dims == d_head };
        if is_supported && dims.is_multiple_of(2) {
            return Ok(dims);
        }
        let why = format!("is {dims}, and heads have {d_head} dimensions; that is not supported for this architecture");
        Err(self.keys.bad(KEY, why))
    }

    fn scaling(&self, dims: usize) -> Result<RopeScaling> {
        let by_keys = self.by_keys()?;
        let Some(tensor) = self.keys.file.tensors.get(DIVISORS) else { return Ok(by_keys) };
        let bad = |why: String| ModelError::data(self.keys.file.path(), format!("tensor `{DIVISORS}` {why}"));
        if by_keys != RopeScaling::Default {
            return Err(bad(
                "scales rotary frequencies, and so does rope.scaling.type; both at once are not supported".to_owned(),
            ));
        }
        if tensor.shape != [dims / 2] {
            return Err(bad(format!("has shape {:?}, where [{}] is expected", tensor.shape, dims / 2)));
        }
        let divisors = tensor.kind.widen(self.keys.file.bytes(tensor));
        match divisors.iter().find(|divisor| !(divisor.is_finite() && **divisor >= 1.0)) {
            Some(other) => Err(bad(format!("holds {other}; divisors of frequencies are 1 or more"))),
            None => Ok(RopeScaling::Divisors(divisors)),
        }
    }

    fn by_keys(&self) -> Result<RopeScaling> {
        let keys = self.keys;
        let factor = match keys.positive("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // Until 2023.
            None => keys.positive("rope.scale_linear")?,
        };
        let kind = keys.file.text(&keys.key("rope.scaling.type"))?;
        match (kind, factor) {
            (Some("none"), _) | (None | Some("linear"), None) => Ok(RopeScaling::Default),
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some("yarn"), Some(factor)) => self.yarn(factor),
            (Some("yarn"), None) => Err(keys.bad("rope.scaling.type", "is `yarn`, and rope.scaling.factor is missing")),
            (Some(other), _) => Err(keys
                .bad("rope.scaling.type", format!("is `{other}`, which is not supported; none, linear and yarn are"))),
        }
    }

    /// As `config.json` of the same model has it, with the defaults of transformers.
    fn yarn(&self, factor: f64) -> Result<RopeScaling> {
        const ORIGINAL: &str = "rope.scaling.original_context_length";
        let keys = self.keys;
        // transformers and llama.cpp take them for different things.
        for key in ["yarn_ext_factor", "yarn_attn_factor", "yarn_log_multiplier"] {
            keys.refuse(&format!("rope.scaling.{key}"), "a variant of YaRN")?;
        }
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            original: keys.size(ORIGINAL)?.ok_or_else(|| keys.bad("rope.scaling.type", format!("needs {ORIGINAL}")))?,
            truncate: true,
            attention_factor: if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 },
        })
    }
}
