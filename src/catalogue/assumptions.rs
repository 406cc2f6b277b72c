//! What the files of published SAEs don't say: one table, by repository, with a source for each row.
//!
//! An SAE that was fetched from a repository of the table is used as the row says, and a note says so. What its files say is never
//! replaced, and every assumption can be overridden.

use std::path::Path;

use assay_models::hub::repository_of;
use assay_sae::{LoadedSae, Normalization};

use super::at;

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

/// Completes an SAE by what is known of its repository, and notes it. `dir` is where the SAE was read from: a place in the hub's cache says
/// the repository, and of any other place nothing is assumed, but where the SAE's metadata names the `repository` that it was converted
/// from.
pub fn complete(loaded: &mut LoadedSae) -> Assumed {
    let Some((repository, path)) = origin(loaded) else { return Assumed::default() };
    let mut said = Vec::new();
    let row = Row::of(&repository).unwrap_or(&NOTHING);
    let entry = at(&repository, &path);
    let metadata = &mut loaded.metadata;
    if let Some(hook) = entry.and_then(|entry| entry.sae.hook).filter(|_| metadata.hook_name.is_none()) {
        metadata.hook_name = Some(hook.to_owned());
        metadata.hook_name_out = entry.and_then(|entry| entry.sae.hook_out).map(str::to_owned);
        loaded.notes.push(format!(
            "the files of {repository} name no hook, and it is assumed: {hook}. Source: the catalogue (`assay saes`)"
        ));
    }
    if row.centred && !metadata.center_residual {
        metadata.center_residual = true;
        said.push("it was trained on activations without their mean over d_model".to_owned());
    }
    if row.without_value_bias {
        said.push("it was trained on attn.hook_z without the values' bias b_V".to_owned());
    }
    if let Some(normalization) = row.normalization.filter(|_| loaded.sae.normalization() == Normalization::None) {
        loaded.sae = loaded.sae.clone().normalizing(normalization);
        said.push(format!("its inputs are normalised by {}", normalization.name()));
    }
    if let Some(size) = row.context_size.filter(|_| metadata.context_size.is_none()) {
        metadata.context_size = Some(size);
        said.push(format!("it was trained on contexts of {size} tokens"));
    }
    if let Some(bos) = row.prepend_bos.filter(|_| metadata.prepend_bos.is_none()) {
        metadata.prepend_bos = Some(bos);
        said.push(format!("contexts {} with BOS", if bos { "began" } else { "did not begin" }));
    }
    if !said.is_empty() {
        let said = said.join(", ");
        loaded
            .notes
            .push(format!("the files of {repository} don't say it, and it is assumed: {said}. Source: {}", row.source));
    }
    if let Some(factor) =
        at(&repository, &path).and_then(|entry| entry.sae.input_scale).filter(|_| loaded.lacks_input_scale())
    {
        loaded.scale_input(factor);
        loaded.notes.push(format!(
            "the files of {repository} don't have the factor of the inputs, and it is assumed: {factor}. Source: SAELens' registry \
             (pretrained_saes.yaml, norm_scaling_factor)"
        ));
    }
    Assumed { without_value_bias: row.without_value_bias }
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
