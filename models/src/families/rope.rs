//! The rotary settings of a `config.json`, in the three ways in which transformers has spelled them: `rope_theta` beside
//! `rope_scaling`, one `rope_parameters`, or a `rope_parameters` for each kind of layer.

use super::agreed;
use crate::config::{Rope, RopeScaling};
use crate::keys::Keys;

/// What the keys leave open.
pub(super) struct Defaults {
    /// The base, where no key says it.
    pub theta: f64,
    /// The part of a head that is rotated where no key says it; `None` for a family that rotates all of it whatever the keys say.
    pub fraction: Option<f64>,
    /// Dimensions of a head.
    pub d_head: usize,
    /// `max_position_embeddings`
    pub max_positions: usize,
}

/// The rotary embedding of all layers.
pub(super) fn rope(keys: &Keys, defaults: &Defaults) -> Result<Rope, String> {
    let objects = [keys.object("rope_parameters")?, keys.object("rope_scaling")?];
    let objects: Vec<&Keys> = objects.iter().flatten().collect();
    for kind in ["full_attention", "sliding_attention"] {
        if objects.iter().any(|object| object.has(kind)) {
            return Err(format!(
                "rope_parameters has `{kind}`: in this family all layers have the same rotary embedding"
            ));
        }
    }
    let original = keys.count("original_max_position_embeddings")?;
    read(keys, &objects, &["rope_theta", "rotary_emb_base"], original, defaults)
}

/// The rotary embedding of the layers of one kind. `rope_parameters` may have an object for them; else their base is in `theta_key`,
/// and `scaling` are the objects that hold for them too.
pub(super) fn rope_of(
    keys: &Keys,
    kind: &str,
    theta_key: &'static str,
    is_scaled: bool,
    defaults: &Defaults,
) -> Result<Rope, String> {
    let parameters = keys.object("rope_parameters")?;
    let of_kind = parameters.as_ref().map(|p| p.object(kind)).transpose()?.flatten();
    let nested = parameters.as_ref().is_some_and(|p| p.has("full_attention") || p.has("sliding_attention"));
    // `rope_scaling` holds for layers without a window, however the rest is spelled.
    let objects =
        [of_kind, parameters.filter(|_| !nested && is_scaled), keys.object("rope_scaling")?.filter(|_| is_scaled)];
    let objects: Vec<&Keys> = objects.iter().flatten().collect();
    // What stands inside goes before the key outside.
    let theta = objects.iter().find_map(|object| object.number("rope_theta").transpose()).transpose()?;
    let theta_keys: &[&str] = if theta.is_some() { &[] } else { &[theta_key] };
    read(keys, &objects, theta_keys, None, defaults)
}

fn read(
    keys: &Keys,
    objects: &[&Keys],
    theta_keys: &[&str],
    original: Option<usize>,
    defaults: &Defaults,
) -> Result<Rope, String> {
    let numbers = |key: &'static str| objects.iter().map(move |object| object.number(key));
    let thetas = numbers("rope_theta").chain(theta_keys.iter().map(|key| keys.number(key)));
    let theta = agreed(thetas, "rope_theta")?.unwrap_or(defaults.theta);
    if theta <= 0.0 {
        return Err(format!("rope_theta is {theta}; a number above 0 is needed"));
    }
    let fractions =
        numbers("partial_rotary_factor").chain(["rotary_pct", "partial_rotary_factor"].map(|key| keys.number(key)));
    let fraction = agreed(fractions, "partial_rotary_factor (rotary_pct)")?;
    let dims = match (defaults.fraction, fraction) {
        (None, Some(fraction)) if fraction != 1.0 => {
            return Err(format!("partial_rotary_factor {fraction} is not supported in this family, only 1"));
        }
        (None, _) => defaults.d_head,
        (Some(default), fraction) => (defaults.d_head as f64 * fraction.unwrap_or(default)) as usize,
    };
    if !dims.is_multiple_of(2) || dims > defaults.d_head {
        let d_head = defaults.d_head;
        return Err(format!(
            "{dims} of the {d_head} dimensions of a head would be rotated; an even number up to {d_head} is needed"
        ));
    }
    let kinds = ["rope_type", "type"].iter().flat_map(|key| objects.iter().map(|object| object.text(key)));
    let kind = agreed(kinds, "rope_type")?.unwrap_or_else(|| "default".to_owned());
    // transformers gives the key beside the one object precedence.
    let original = match original {
        None => whole(objects, "original_max_position_embeddings")?.unwrap_or(defaults.max_positions),
        Some(original) => original,
    };
    let scaling = Scaling { objects, kind: &kind, dims, original, max_positions: defaults.max_positions };
    Ok(Rope { dims, theta, scaling: scaling.read()? })
}

fn whole(objects: &[&Keys], key: &str) -> Result<Option<usize>, String> {
    agreed(objects.iter().map(|object| object.count(key)), key)
}

/// What a scaling is read from.
struct Scaling<'a> {
    objects: &'a [&'a Keys],
    kind: &'a str,
    dims: usize,
    original: usize,
    max_positions: usize,
}

impl Scaling<'_> {
    fn read(&self) -> Result<RopeScaling, String> {
        match self.kind {
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: self.needed("factor")? }),
            // At lengths up to max_position_embeddings, beyond which no context is taken, it is the default.
            "dynamic" => Ok(RopeScaling::Default),
            "llama3" => {
                let factor = self.needed("factor")?;
                let (low, high) = (self.needed("low_freq_factor")?, self.needed("high_freq_factor")?);
                if low >= high {
                    return Err(format!("low_freq_factor {low} is not below high_freq_factor {high}"));
                }
                Ok(RopeScaling::Llama3 { factor, low, high, original: self.original })
            }
            "yarn" => self.yarn(),
            "longrope" | "su" => self.longrope(),
            other => Err(format!(
                "rope_type `{other}` is not supported; default, linear, dynamic, llama3, yarn and longrope are"
            )),
        }
    }

    /// Peng, Quesnelle, Fan and Shippole 2023, arXiv:2309.00071, with the defaults of transformers.
    fn yarn(&self) -> Result<RopeScaling, String> {
        let factor = self.factor()?;
        let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let given = (self.nonzero("mscale")?, self.nonzero("mscale_all_dim")?);
        let attention_factor = match (self.number("attention_factor")?, given) {
            (Some(given), _) => given,
            (None, (Some(scale), Some(all_dim))) => mscale(scale) / mscale(all_dim),
            (None, _) => mscale(1.0),
        };
        let truncate = agreed(self.objects.iter().map(|object| object.flag("truncate")), "truncate")?;
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: self.nonzero("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.nonzero("beta_slow")?.unwrap_or(1.0),
            original: self.original,
            truncate: truncate.unwrap_or(true),
            attention_factor,
        })
    }

    /// Ding et al. 2024, arXiv:2402.13753.
    fn longrope(&self) -> Result<RopeScaling, String> {
        let factor = self.factor()?;
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (self.original as f64).ln()).sqrt() };
        Ok(RopeScaling::LongRope {
            short: self.divisors("short_factor")?,
            long: self.divisors("long_factor")?,
            original: self.original,
            attention_factor: self.number("attention_factor")?.unwrap_or(usual),
        })
    }

    /// `factor`, or by how much the longest context has grown.
    fn factor(&self) -> Result<f64, String> {
        let grown = self.max_positions as f64 / self.original.max(1) as f64;
        match self.number("factor")? {
            Some(_) => self.needed("factor"),
            None => Ok(grown),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        agreed(self.objects.iter().map(|object| object.number(key)), key)
    }

    fn nonzero(&self, key: &str) -> Result<Option<f64>, String> {
        Ok(self.number(key)?.filter(|value| *value != 0.0))
    }

    fn needed(&self, key: &str) -> Result<f64, String> {
        match self.number(key)? {
            Some(value) if value > 0.0 => Ok(value),
            Some(value) => Err(format!("{key} is {value}; rope_type `{}` needs a number above 0", self.kind)),
            None => Err(format!("rope_type `{}` needs {key}", self.kind)),
        }
    }

    fn divisors(&self, key: &str) -> Result<Vec<f64>, String> {
        let found = self.objects.iter().find_map(|object| object.numbers(key).transpose()).transpose()?;
        let found = found.ok_or_else(|| format!("rope_type `{}` needs {key}", self.kind))?;
        let half = self.dims / 2;
        if found.len() != half || found.iter().any(|value| *value <= 0.0) {
            return Err(format!("{key} has {} values; {half} numbers above 0 are needed", found.len()));
        }
        Ok(found)
    }
}
