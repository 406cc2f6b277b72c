//! What the files of published SAEs don't say: one table, by repository, with a source for each row.
//!
//! An SAE that was fetched from a repository of the table is used as the row says, and a note says so. What its files say is never
//! replaced by it. A user can say otherwise of everything ([`Given`]), which a note says too.

mod given;

use std::path::Path;

use anyhow::{Result, ensure};
use assay_hub::repository_of;
use assay_sae::{LoadedSae, Normalization};

use super::at;
use given::{Account, Choice};

pub use given::Given;

/// What is assumed of the SAEs of a repository.
#[derive(Debug)]
struct Row {
    /// `org/name`; a `*` at the end stands for anything.
    repository: &'static str,
    /// Trained on the residual stream, or what is added to it, without its mean over d_model.
    centred: bool,
    /// Trained on `attn.hook_z` without the values' bias b_V, whose share in z is b_V itself, as attention's weights sum to 1.
    without_value_bias: bool,
    normalization: Option<Normalization>,
    context_size: Option<usize>,
    prepend_bos: Option<bool>,
    source: &'static str,
}

const NOTHING: Row = Row {
    repository: "",
    centred: false,
    without_value_bias: false,
    normalization: None,
    context_size: None,
    prepend_bos: None,
    source: "",
};

const CENTRED: Row = Row {
    centred: true,
    source: "SAELens' registry loads their model with center_writing_weights (pretrained_saes.yaml, config_overrides)",
    ..NOTHING
};

const CONTEXTS: Row = Row {
    context_size: Some(1024),
    prepend_bos: Some(true),
    source: "SAELens' loader of these files (pretrained_sae_loaders.py)",
    ..NOTHING
};

static ROWS: [Row; 10] = [
    Row { repository: "jbloom/GPT2-Small-SAEs-Reformatted", ..CENTRED },
    Row { repository: "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8", ..CENTRED },
    Row { repository: "tommmcgrath/gpt2-small-mlp-out-saes", ..CENTRED },
    Row {
        repository: "neuronpedia/gpt2-small__res_*",
        source: "they were trained with e2e_sae, which loads the model with TransformerLens' default processing (ApolloResearch/e2e_sae, \
                 loader.py)",
        ..CENTRED
    },
    Row {
        repository: "ckkissane/attn-saes-gpt2-small-all-layers",
        without_value_bias: true,
        context_size: Some(128),
        prepend_bos: Some(true),
        source: "its train.py loads the model with TransformerLens' defaults, which fold the values' bias into b_O; contexts by SAELens' \
                 loader (pretrained_sae_loaders.py)",
        ..NOTHING
    },
    Row {
        repository: "JoshEngels/Mistral-7B-Residual-Stream-SAEs",
        normalization: Some(Normalization::ConstantNorm),
        source: "SAELens' registry overrides normalize_activations (pretrained_saes.yaml, config_overrides)",
        ..NOTHING
    },
    Row { repository: "google/gemma-scope-*", ..CONTEXTS },
    Row { repository: "fnlp/Llama*", ..CONTEXTS },
    Row { repository: "Qwen/SAE-Res-*", ..CONTEXTS },
    Row { repository: "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19", ..CONTEXTS },
];

impl Row {
    fn of(repository: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| match row.repository.strip_suffix('*') {
            Some(start) => repository.starts_with(start),
            None => repository == row.repository,
        })
    }
}

/// What was assumed that no metadata has a place for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assumed {
    /// The SAE reads `attn.hook_z` without b_V.
    pub without_value_bias: bool,
}

/// Completes an SAE by what a user says of it, and by what is known of its repository, and notes both. Where the SAE was read from says the
/// repository if it is a place in the hub's cache, or else its metadata, if they name the `repository` that it was converted from; of any
/// other SAE nothing is assumed.
///
/// # Errors
/// If a factor of the inputs is given for an SAE that can't have one: a transcoder, one that normalises its inputs, or one whose encoder is
/// its decoder.
pub fn complete(loaded: &mut LoadedSae, given: &Given) -> Result<Assumed> {
    let (repository, path) = origin(loaded).unwrap_or_default();
    let row = Row::of(&repository).unwrap_or(&NOTHING);
    let entry = at(&repository, &path);
    let mut account = Account::new(given.no_assumptions);
    let hook = entry.and_then(|entry| entry.sae.hook).filter(|_| loaded.metadata.hook_name.is_none());
    if let Some(hook) = hook.filter(|_| !given.no_assumptions) {
        loaded.metadata.hook_name = Some(hook.to_owned());
        loaded.metadata.hook_name_out = entry.and_then(|entry| entry.sae.hook_out).map(str::to_owned);
        loaded.notes.push(format!(
            "the files of {repository} name no hook, and it is assumed: {hook}. Source: the catalogue (`assay saes`)"
        ));
    }
    let metadata = &mut loaded.metadata;
    let centred = Choice {
        given: given.center_residual,
        files: metadata.center_residual.then_some(true),
        assumed: row.centred.then_some(true),
    };
    if let Some(centred) = account.decide(centred, |&centred| match centred {
        true => "it was trained on activations without their mean over d_model".to_owned(),
        false => "it was trained on activations with their mean over d_model".to_owned(),
    }) {
        metadata.center_residual = centred;
    }
    let without_value_bias =
        Choice { given: given.without_value_bias, files: None, assumed: row.without_value_bias.then_some(true) };
    let without_value_bias = account.decide(without_value_bias, |&without| {
        let with = if without { "without" } else { "with" };
        format!("it was trained on attn.hook_z {with} the values' bias b_V")
    });
    let normalization = Choice {
        given: given.normalization,
        files: Some(loaded.sae.normalization()).filter(|&n| n != Normalization::None),
        assumed: row.normalization,
    };
    if let Some(normalization) = account.decide(normalization, |&normalization| match normalization {
        Normalization::None => "its inputs are not normalised".to_owned(),
        other => format!("its inputs are normalised by {}", other.name()),
    }) {
        loaded.sae = loaded.sae.clone().normalizing(normalization);
    }
    let context_size = Choice { given: given.context_size, files: metadata.context_size, assumed: row.context_size };
    if let Some(size) = account.decide(context_size, |size| format!("it was trained on contexts of {size} tokens")) {
        metadata.context_size = Some(size);
    }
    let prepend_bos = Choice { given: given.prepend_bos, files: metadata.prepend_bos, assumed: row.prepend_bos };
    if let Some(bos) =
        account.decide(prepend_bos, |&bos| format!("contexts {} with BOS", if bos { "began" } else { "did not begin" }))
    {
        metadata.prepend_bos = Some(bos);
    }
    loaded.notes.extend(account.assumed_of(&repository, row.source));
    // Of a factor the table has another source.
    let scale = Choice {
        given: given.input_scale,
        files: None,
        assumed: entry.and_then(|entry| entry.sae.input_scale).filter(|_| loaded.lacks_input_scale()),
    };
    if given.input_scale.is_some() {
        check_scalable(loaded)?;
    }
    if let Some(factor) = account.decide(scale, |factor| format!("its inputs were multiplied by {factor}")) {
        loaded.scale_input(factor);
        if given.input_scale.is_none() {
            loaded.notes.push(format!(
                "the files of {repository} don't have the factor of the inputs, and it is assumed: {factor}. Source: SAELens' registry \
                 (pretrained_saes.yaml, norm_scaling_factor)"
            ));
        }
    }
    loaded.notes.extend(account.given());
    loaded.notes.extend(account.left_out(&repository));
    Ok(Assumed { without_value_bias: without_value_bias.unwrap_or(false) })
}

/// Refuses SAEs of which a factor of the inputs means nothing, or another thing than of the others.
fn check_scalable(loaded: &LoadedSae) -> Result<()> {
    let (sae, dir) = (&loaded.sae, loaded.dir.display());
    ensure!(
        !sae.is_transcoder(),
        "--input-scale: {dir} is a transcoder, whose predictions would need a factor of their own"
    );
    ensure!(
        sae.normalization() == Normalization::None,
        "--input-scale: the inputs of {dir} are normalised by {}, which undoes a factor; give --normalization none with it, or leave it out",
        sae.normalization().name()
    );
    ensure!(
        !sae.activation().is_tied(),
        "--input-scale: the encoder of {dir} is its decoder ({}), so that a factor can't be put into them",
        sae.activation().name()
    );
    Ok(())
}

/// The repository of an SAE, and the place in it, as far as they are known.
fn origin(loaded: &LoadedSae) -> Option<(String, String)> {
    let text = |key: &str| loaded.metadata.other.get(key)?.as_str().map(str::to_owned);
    let of_cache = |dir: &Path| repository_of(dir).or_else(|| repository_of(&dir.canonicalize().ok()?));
    of_cache(&loaded.dir).or_else(|| Some((text("repository")?, text("repository_path").unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::catalogue;

    /// A row of a repository that no SAE comes from would never be looked at.
    #[test]
    fn every_row_is_of_a_repository_of_the_catalogue_and_has_a_source() {
        for row in &ROWS {
            let of_row = |repository: &str| Row::of(repository).is_some_and(|found| std::ptr::eq(found, row));
            assert!(catalogue().releases.iter().any(|release| of_row(release.repository)), "{row:?}");
            assert!(row.source.contains(".py") || row.source.contains(".yaml"), "{row:?}");
        }
        assert!(Row::of("google/gemma-2-2b").is_none() && Row::of("ckkissane/attn-saes").is_none());
    }
}
