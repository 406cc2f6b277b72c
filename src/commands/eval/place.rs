//! Where an SAE is evaluated: as asked for on the command line, else as its files say.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use assay_models::{DecoderConfig, HookPoint, ModelError, Site};
use assay_probes::Subject;
use assay_sae::{LoadedSae, Metadata, Sae, formats};
use burn::tensor::Device;

use super::super::given::GivenArgs;
use crate::belonging::Used;
use crate::catalogue::assumptions::complete;

/// Where SAEs are evaluated, if not where their files say.
#[derive(clap::Args, Debug)]
pub(in crate::commands) struct PlaceArgs {
    /// Hook point that is read, if not the one that the SAE names: blocks.L.KIND, KIND one of hook_resid_pre, attn.hook_z, hook_attn_out,
    /// hook_resid_mid, ln2.hook_normalized, mlp.hook_in, hook_mlp_out and hook_resid_post. TransformerLens' hook_mlp_in is before the
    /// MLP's norm, which is hook_resid_mid here, and hook_resid_pre where attention and MLP are parallel
    #[arg(long, value_name = "NAME")]
    hook: Option<HookPoint>,
    /// Hook point whose activation a transcoder predicts, if not the one that it names; its predictions are patched in there, and all
    /// metrics are of that activation
    #[arg(long, value_name = "NAME")]
    hook_out: Option<HookPoint>,
}

/// Where an SAE reads the model, and where it is patched in.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) struct Place {
    pub reads: Site,
    pub site: Site,
}

impl Place {
    /// The SAE there.
    pub fn subject(self, sae: &Sae) -> Subject<'_> {
        Subject::new(self.site, sae).reading(self.reads)
    }

    /// Where an SAE names another model or hook than it is used with here ([`Used::doubts`]).
    pub fn doubts(self, model: &Path, checkpoint: &Path, metadata: &Metadata) -> Vec<String> {
        let (hook, hook_out) = (self.reads.hook, self.hook_out());
        Used { model, checkpoint, hook, hook_out }.doubts(metadata)
    }

    /// The hook that a transcoder predicts; `None` of an SAE.
    pub fn hook_out(self) -> Option<HookPoint> {
        (self.reads != self.site).then_some(self.site.hook)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hook_out() {
            None => write!(f, "at {}", self.site),
            Some(_) => write!(f, "from {} to {}", self.reads, self.site),
        }
    }
}

/// One of an SAE's hooks: the flag and the key that say it.
struct Named<'a> {
    sae: &'a Path,
    flag: &'static str,
    given: Option<HookPoint>,
    key: &'static str,
    name: Option<&'a str>,
    hint: &'static str,
}

impl Named<'_> {
    /// The hook, and who names it.
    fn hook(&self) -> Result<(HookPoint, String)> {
        let Self { flag, given, key, hint, .. } = self;
        let sae = self.sae.display();
        let Some(name) = self.name.filter(|_| given.is_none()) else {
            let given = given.with_context(|| format!("{sae} names no {key}; {hint}"))?;
            return Ok((given, format!("{flag} {given}")));
        };
        match name.parse() {
            Ok(hook) => Ok((hook, format!("{sae}: {key} is {hook}"))),
            Err(ModelError::HookName { meant, .. }) => {
                bail!("{sae} names the hook `{name}`{meant}, which is none of this model's ({key}); {hint}")
            }
            Err(error) => Err(error).context(sae.to_string()),
        }
    }
}

impl PlaceArgs {
    /// What another command is given to use an SAE at the same place, as on a command line, each behind a space.
    pub fn as_arguments(&self) -> String {
        let hooks = [("--hook", self.hook), ("--hook-out", self.hook_out)];
        hooks.into_iter().filter_map(|(name, hook)| Some(format!(" {name} {}", hook?))).collect()
    }

    /// Opens an SAE with what is known of how it was trained, and says where it is evaluated.
    ///
    /// # Errors
    /// If its files are unusable, or as [`Self::place`].
    pub fn open(
        &self,
        name: &Path,
        dir: &Path,
        config: &DecoderConfig,
        given: &GivenArgs,
        device: &Device,
    ) -> Result<(LoadedSae, Place)> {
        let mut loaded = formats::load(dir, device)?;
        let assumed = complete(&mut loaded, &given.given())?;
        let place = self.place(name, &loaded, config, assumed.without_value_bias)?;
        Ok((loaded, place))
    }

    /// Where an SAE of these files is evaluated on a model. `without_value_bias` is whether it is one of z without the values' biases.
    ///
    /// # Errors
    /// If nobody says where, the model has no such place, an SAE is to be patched in elsewhere than it reads, a transcoder predicts the
    /// residual stream, or the SAE has another width than the activations there.
    pub fn place(
        &self,
        sae: &Path,
        loaded: &LoadedSae,
        config: &DecoderConfig,
        without_value_bias: bool,
    ) -> Result<Place> {
        let metadata = &loaded.metadata;
        let transcodes = loaded.sae.is_transcoder();
        let reads = Named {
            sae,
            flag: "--hook",
            given: self.hook,
            key: "hook_name",
            name: metadata.hook_name.as_deref(),
            hint: if transcodes {
                "give --hook blocks.L.mlp.hook_in if it reads what the MLP of layer L does, blocks.L.ln2.hook_normalized if that is without \
                 the norm's gain, else another of the hooks in `assay help eval`"
            } else {
                "give --hook blocks.L.hook_resid_post if it was trained on the residual stream after layer L, else another of the hooks in \
                 `assay help eval`"
            },
        };
        let (reads, who_reads) = reads.hook()?;
        let center = metadata.center_residual;
        let place = if transcodes {
            let writes = Named {
                sae,
                flag: "--hook-out",
                given: self.hook_out,
                key: "hook_name_out",
                name: metadata.hook_name_out.as_deref(),
                hint: "it is a transcoder: give --hook-out blocks.L.hook_mlp_out if it predicts what the MLP of layer L adds",
            };
            let (writes, who_writes) = writes.hook()?;
            ensure!(
                !writes.kind.is_residual(),
                "{who_writes}: a transcoder predicts what a part of the model adds to the residual stream, not the stream itself; give \
                 --hook-out blocks.{}.hook_mlp_out if that is the MLP",
                writes.layer
            );
            let site = Site { center, without_value_bias, ..writes.into() };
            site.check(config).context(who_writes)?;
            // What the MLP's matrices read is never centred.
            let reads = Site { center: center && reads.kind.is_residual(), ..reads.into() };
            Place { reads, site }
        } else {
            if let Some(out) = self.hook_out {
                bail!(
                    "--hook-out {out}: {} is no transcoder, and is patched in where it reads; give --hook alone",
                    sae.display()
                );
            }
            let site = Site { center, without_value_bias, ..reads.into() };
            Place { reads: site, site }
        };
        let of_model = metadata.model_name.as_ref().map(|model| format!(" (of the model {model})")).unwrap_or_default();
        place.reads.check(config).with_context(|| format!("{who_reads}{of_model}"))?;
        place.subject(&loaded.sae).check(config).with_context(|| format!("{}{of_model}", sae.display()))?;
        Ok(place)
    }
}
