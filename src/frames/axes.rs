//! What tells runs apart beside model, budget and seed: where they read the model, and how sparse they are.

use super::grid::RunResult;

/// Where SAEs read and write activations, as it is compared across models: the name of a depth instead of a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Name of the depth.
    pub depth: String,
    /// Kind of the hook, by its short name: `resid_post`, `mlp_out`, `z`.
    pub kind: String,
    /// Whether activations are centred over d_model.
    pub centered: bool,
}

impl Site {
    /// The residual stream after the block at a depth, as it is.
    pub fn resid_post(depth: &str) -> Self {
        Self { depth: depth.to_owned(), kind: RESID_POST.to_owned(), centered: false }
    }

    /// At a hook point's full name, `blocks.3.hook_resid_post`.
    pub fn of_hook(depth: &str, hook: &str, centered: bool) -> Self {
        Self { depth: depth.to_owned(), kind: kind_of(hook).to_owned(), centered }
    }
}

/// The kind of a hook point, by its full name: what follows `hook_`, but for what an MLP reads.
pub fn kind_of(hook: &str) -> &str {
    match hook.split_once("hook_") {
        Some((_, "in")) => "mlp_in",
        Some((_, "normalized")) => "mlp_normalized",
        Some((_, kind)) => kind,
        None => hook,
    }
}

/// The residual stream after a block: the kind of hook of the reference texts, and of sweeps that name none.
pub const RESID_POST: &str = "resid_post";

/// The architecture of the reference texts, and of results that name none.
pub const TOPK: &str = "topk";

/// The objective of results that name none.
pub const MSE: &str = "mse";

/// The column of what runs are controls by: null of those that are none, and not there where none is.
pub const CONTROL: &str = "control";

/// Objectives that ask no model.
pub const RECONSTRUCTION: [&str; 2] = [MSE, "fvu"];

/// What SAEs are compared as beside their sparsity: how they choose latents, and what they were trained for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// `topk`, `groupmax`, …
    pub architecture: String,
    /// `mse`, `fvu`, `kl`, `kl+mse`, …
    pub objective: String,
}

/// How an SAE chooses its latents, and how many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// `topk`, `groupmax`, …
    pub architecture: String,
    /// What it was trained for.
    pub objective: String,
    /// Active latents per token; `None` where the architecture fixes no whole number.
    pub k: Option<u64>,
    /// What sets the sparsity where that is no `k`: `l1_coefficient 0.8`. `None` where it is, or is not known.
    pub knob: Option<String>,
}

impl Setting {
    /// TopK, trained for the squared error.
    pub fn topk(k: u64) -> Self {
        Self { architecture: TOPK.to_owned(), objective: MSE.to_owned(), k: Some(k), knob: None }
    }

    /// How many latents were to be active per token: k, or the L0 that training steered to; `None` where a coefficient sets the sparsity.
    pub fn wanted_l0(&self) -> Option<f64> {
        let of_knob = || match self.knob.as_deref()?.split_once(' ')? {
            ("k" | "target_l0", value) => value.parse().ok(),
            _ => None,
        };
        self.k.map(|k| k as f64).or_else(of_knob)
    }

    /// What it is compared as.
    pub fn class(&self) -> Class {
        Class { architecture: self.architecture.clone(), objective: self.objective.clone() }
    }

    /// Whether that is this.
    pub fn is_of(&self, class: &Class) -> bool {
        self.architecture == class.architecture && self.objective == class.objective
    }
}

/// How sites and settings are called where they are shown. What all runs of a grid have in common goes without saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    kinds: bool,
    centering: bool,
    architectures: bool,
    objectives: bool,
}

impl Names {
    /// For some runs.
    pub fn of(runs: &[RunResult]) -> Self {
        fn differ<T: PartialEq>(runs: &[RunResult], of: impl Fn(&RunResult) -> T) -> bool {
            runs.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]))
        }
        Self {
            kinds: differ(runs, |r| r.site.kind.clone()),
            centering: differ(runs, |r| r.site.centered),
            architectures: differ(runs, |r| r.setting.architecture.clone()),
            objectives: differ(runs, |r| r.setting.objective.clone()),
        }
    }

    /// Whether a site's name says more than its depth.
    pub fn has_kinds(&self) -> bool {
        self.kinds || self.centering
    }

    /// Whether a setting's name says more than its k: what that is called, `architecture`, `objective` or both.
    pub fn classes(&self) -> Option<&'static str> {
        match (self.architectures, self.objectives) {
            (false, false) => None,
            (true, false) => Some("architecture"),
            (false, true) => Some("objective"),
            (true, true) => Some("architecture, objective"),
        }
    }

    /// Whether there are several architectures.
    pub fn has_architectures(&self) -> bool {
        self.architectures
    }

    /// Whether there are several objectives.
    pub fn has_objectives(&self) -> bool {
        self.objectives
    }

    /// `groupmax`, `kl`, `groupmax kl` beside others; the architecture where nothing else would be said.
    pub fn class(&self, class: &Class) -> String {
        match (self.architectures, self.objectives) {
            (_, false) => class.architecture.clone(),
            (false, true) => class.objective.clone(),
            (true, true) => format!("{} {}", class.architecture, class.objective),
        }
    }

    /// `mid`; `mid mlp_out` beside other kinds of hook.
    pub fn site(&self, site: &Site) -> String {
        let kind = self.kinds.then_some(site.kind.as_str());
        let centered = (self.centering && site.centered).then_some("centred");
        [Some(site.depth.as_str()), kind, centered].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The same of one site or of all together, which are `all depths`, with several kinds of hook `all sites`.
    pub fn scope(&self, site: Option<&Site>) -> String {
        let all = if self.has_kinds() { "all sites" } else { "all depths" };
        site.map_or_else(|| all.to_owned(), |site| self.site(site))
    }

    /// `8`; `groupmax 8` beside other architectures, `kl 8` beside other objectives.
    pub fn setting(&self, setting: &Setting) -> String {
        self.setting_with("", setting)
    }

    /// The same with something before the number: `k = 8`, `groupmax k = 8`. Without a number the architecture and what sets its sparsity.
    pub fn setting_with(&self, before: &str, setting: &Setting) -> String {
        let class = self.classes().map(|_| self.class(&setting.class()));
        let objective = self.objectives.then_some(setting.objective.as_str());
        let sparsity = match (setting.k, &setting.knob) {
            (Some(k), _) => {
                return [class, Some(format!("{before}{k}"))].into_iter().flatten().collect::<Vec<_>>().join(" ");
            }
            (None, knob) => knob.as_deref(),
        };
        let said = [Some(setting.architecture.as_str()), objective, sparsity];
        said.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// `small`; `small groupmax` beside other architectures, `small kl` beside other objectives.
    pub fn series(&self, model: &str, class: &Class) -> String {
        if self.classes().is_some() { format!("{model} {}", self.class(class)) } else { model.to_owned() }
    }

    /// What a condition consists of, beside models and tokens: `depth, k`.
    pub fn condition(&self) -> String {
        let hook = self.has_kinds().then_some("hook");
        [Some("depth"), hook, self.classes(), Some("k")].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_what_follows_hook() {
        for (hook, kind) in [
            ("blocks.3.hook_resid_post", "resid_post"),
            ("blocks.11.hook_mlp_out", "mlp_out"),
            ("blocks.0.attn.hook_z", "z"),
            ("elsewhere", "elsewhere"),
        ] {
            assert_eq!(kind_of(hook), kind);
        }
        #[cfg(feature = "workbench")]
        for kind in assay_models::HookKind::ALL {
            assert_eq!(kind_of(&assay_models::HookPoint { layer: 7, kind }.to_string()), kind.short_name());
        }
        assert_eq!(Site::of_hook("mid", "blocks.3.hook_resid_post", false), Site::resid_post("mid"));
    }

    #[test]
    fn only_what_differs_is_named() {
        let site = Site { centered: true, ..Site::of_hook("mid", "blocks.3.hook_mlp_out", false) };
        let eight = Setting::topk(8);
        let free = Setting { architecture: "jumprelu".to_owned(), k: None, ..Setting::topk(0) };
        let plain = Names { kinds: false, centering: false, architectures: false, objectives: false };
        assert_eq!((plain.site(&site), plain.setting(&eight)), ("mid".to_owned(), "8".to_owned()));
        assert_eq!(
            (plain.setting_with("k = ", &eight), plain.condition()),
            ("k = 8".to_owned(), "depth, k".to_owned())
        );
        let class = eight.class();
        assert_eq!((plain.setting(&free), plain.series("small", &class)), ("jumprelu".to_owned(), "small".to_owned()));
        let all = Names { kinds: true, centering: true, architectures: true, objectives: false };
        assert_eq!((all.site(&site), all.setting(&eight)), ("mid mlp_out centred".to_owned(), "topk 8".to_owned()));
        assert_eq!(
            (all.setting_with("k = ", &eight), all.setting(&free)),
            ("topk k = 8".to_owned(), "jumprelu".to_owned())
        );
        assert_eq!(all.series("small", &class), "small topk");
        assert_eq!(all.condition(), "depth, hook, architecture, k");
        let kl = Setting { objective: "kl".to_owned(), ..eight };
        let objectives = Names { objectives: true, ..plain };
        assert_eq!(
            (objectives.setting(&kl), objectives.series("small", &kl.class())),
            ("kl 8".into(), "small kl".into())
        );
        assert_eq!(
            (objectives.setting(&free), objectives.condition()),
            ("jumprelu mse".into(), "depth, objective, k".into())
        );
        let both = Names { objectives: true, ..all };
        assert_eq!(
            (both.setting_with("k = ", &kl), both.series("small", &kl.class())),
            ("topk kl k = 8".into(), "small topk kl".into())
        );
        let knob = Setting { knob: Some("l0_coefficient 1".to_owned()), ..free };
        assert_eq!(
            (all.setting(&knob), both.setting(&knob)),
            ("jumprelu l0_coefficient 1".into(), "jumprelu mse l0_coefficient 1".into())
        );
    }
}
