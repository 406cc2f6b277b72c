//! Whether an SAE belongs to the model and the tokens that it is used with, by what its metadata says.

use std::path::Path;

use anyhow::Result;
use assay_hub::HubName;
use assay_models::loss::{scored_log_probs, token_cross_entropy};
use assay_models::place::own_names;
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, DecoderConfig, HookPoint};
use assay_sae::Metadata;
use ndarray::{ArrayView2, s};

/// What an SAE is used with.
pub struct Used<'a> {
    /// The model as the user named it: a directory or GGUF file, or a name on the hub.
    pub model: &'a Path,
    /// The directory or file that this means.
    pub checkpoint: &'a Path,
    /// Where it reads.
    pub hook: HookPoint,
    /// Where a transcoder's predictions are put.
    pub hook_out: Option<HookPoint>,
}

impl Used<'_> {
    /// Where the SAE's metadata names another model or another hook than it is used with, a sentence for each: its scores may be those of a
    /// mistake.
    pub fn doubts(&self, metadata: &Metadata) -> Vec<String> {
        let mut notes = Vec::new();
        let used = self.model.display();
        if let Some(model) = &metadata.model_name
            && !self.names().contains(&last_part(model))
        {
            notes.push(format!(
                "the SAE names the model {model}, and is used on {used}; if these are not the same weights, the numbers are not \
                 those of the SAE"
            ));
        }
        if let Some(hook) = metadata.hook_name.as_ref().filter(|hook| **hook != self.hook.to_string()) {
            notes.push(format!("the SAE names the hook {hook}, and is used at {}", self.hook));
        }
        if let Some((hook, out)) = metadata.hook_name_out.as_ref().zip(self.hook_out)
            && *hook != out.to_string()
        {
            notes.push(format!("the transcoder names the hook {hook} as what it predicts, and is used at {out}"));
        }
        notes
    }

    /// [`Self::doubts`], and where the metadata names another revision, length of contexts or beginning than it is used with. `starts` are the
    /// tokens that contexts may all begin with.
    pub fn notes(&self, metadata: &Metadata, tokens: ArrayView2<'_, u32>, starts: &[u32]) -> Vec<String> {
        let mut notes = self.doubts(metadata);
        let used = self.model.display();
        if let Some(revision) = metadata.revision() {
            let name = self.model.to_string_lossy().parse::<HubName>().ok().filter(|_| !self.model.exists());
            match name {
                Some(name) if name.revision() == revision => {}
                Some(name) => notes.push(format!(
                    "the SAE names the model's revision {revision}, and is evaluated on revision {}",
                    name.revision()
                )),
                None => notes.push(format!(
                    "the SAE names the model's revision {revision}; whether {used} is that one is not known"
                )),
            }
        }
        if let Some(trained) = metadata.context_size.filter(|size| *size != tokens.ncols()) {
            notes.push(format!(
                "the SAE was trained on contexts of {trained} tokens, and is evaluated on contexts of {}",
                tokens.ncols()
            ));
        }
        match (metadata.prepend_bos, begins_with(tokens, starts)) {
            (Some(true), Some(false)) => notes.push(
                "the SAE was trained on contexts that begin with an extra token (prepend_bos), and is evaluated on contexts that don't"
                    .to_owned(),
            ),
            (Some(false), Some(true)) => notes.push(
                "the SAE was trained on contexts without an extra token before them (prepend_bos is false), and is evaluated on contexts \
                 that all begin with the model's begin-of-text or end-of-text token"
                    .to_owned(),
            ),
            _ => {}
        }
        notes
    }

    /// What the model may be called: by its path, by the repository that it was fetched from, and by its own configuration.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let Ok(name) = self.model.to_string_lossy().parse::<HubName>() {
            names.push(last_part(name.repo()));
        }
        let whole = self.checkpoint.canonicalize().unwrap_or_else(|_| self.checkpoint.to_owned());
        for part in [self.model, self.checkpoint, whole.as_path()].into_iter().flat_map(Path::iter) {
            // The hub's cache has a directory `models--org--name` above a snapshot.
            let part = part.to_string_lossy();
            names.extend(part.strip_prefix("models--").and_then(|id| id.rsplit("--").next()).map(last_part));
        }
        names.extend(
            [self.model, whole.as_path()]
                .iter()
                .filter_map(|path| Some(last_part(&path.file_name()?.to_string_lossy()))),
        );
        names.extend(own_names(self.checkpoint).iter().map(|name| last_part(name)));
        // A GGUF file is called after the model, the number format of its weights, and itself: what is left without them is a name too.
        names.extend(names.iter().map(|name| plain(name).to_owned()).collect::<Vec<_>>());
        names
    }
}

/// `gemma-3-270m` of `gemma-3-270m-q4_k_m.gguf` and of the repository `gemma-3-270m-gguf`.
fn plain(name: &str) -> &str {
    let name = name.strip_suffix(".gguf").or_else(|| name.strip_suffix("-gguf")).unwrap_or(name);
    let is_format = |part: &str| {
        let quantised = part.strip_prefix('i').unwrap_or(part).strip_prefix('q');
        ["f32", "f16", "bf16"].contains(&part) || quantised.is_some_and(|q| q.starts_with(|c: char| c.is_ascii_digit()))
    };
    name.rsplit_once(['.', '-']).filter(|(_, last)| is_format(last)).map_or(name, |(rest, _)| rest)
}

/// A model's name without its organisation, in lower case.
fn last_part(name: &str) -> String {
    name.trim_end_matches('/').rsplit('/').next().unwrap_or(name).to_lowercase()
}

/// The tokens that contexts of a model may all begin with: the one that was put there (`bos`), BOS and EOS by its configuration.
pub fn starts(bos: Option<u32>, config: &DecoderConfig) -> Vec<u32> {
    [bos, config.bos, config.eos].into_iter().flatten().collect()
}

/// Whether all contexts begin with one of `starts`, the same; `None` without contexts or such a token.
pub fn begins_with(tokens: ArrayView2<'_, u32>, starts: &[u32]) -> Option<bool> {
    let first = *tokens.first().filter(|_| !starts.is_empty())?;
    Some(starts.contains(&first) && all_begin_with(tokens, first))
}

fn all_begin_with(tokens: ArrayView2<'_, u32>, first: u32) -> bool {
    tokens.column(0).iter().all(|&token| token == first)
}

/// What is to be said of contexts that don't begin with BOS, though the model's tokenizer begins texts with it.
pub fn missing_bos(vocabulary: &Vocabulary, tokens: ArrayView2<'_, u32>) -> Option<String> {
    let bos = vocabulary.bos().filter(|&bos| !tokens.is_empty() && !all_begin_with(tokens, bos))?;
    Some(format!(
        "the model's tokenizer begins texts with token {bos} ({}), and these contexts don't all begin with it; they are used as they are",
        vocabulary.text(bos)
    ))
}

/// What is to be said of sequences that a model predicts no better than a uniform guess would, by its loss at the beginning of the first few.
///
/// # Errors
/// If the model refuses the tokens.
pub fn foreign(model: &Decoder, tokens: ArrayView2<'_, u32>) -> Result<Option<String>> {
    let some = tokens.slice(s![..tokens.nrows().min(4), ..tokens.ncols().min(64)]);
    let losses = token_cross_entropy(scored_log_probs(model.forward(some)?), some, model.device());
    let losses: Vec<f64> = losses.into_data().iter::<f64>().collect();
    let vocab_size = model.config().vocab_size;
    let (loss, uniform) = (losses.iter().sum::<f64>() / losses.len() as f64, (vocab_size as f64).ln());
    Ok((loss >= uniform).then(|| {
        format!(
            "on the first held-out sequences its loss is {loss:.2} nats per token, where a uniform guess among {vocab_size} tokens costs {uniform:.2}. \
             Were they made with this model's tokenizer? If not, what is trained and measured on them says nothing of this model"
        )
    }))
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use serde_json::json;

    use super::*;

    fn notes(model: &str, metadata: &Metadata, tokens: &Array2<u32>) -> Vec<String> {
        let used = Used {
            model: Path::new(model),
            checkpoint: Path::new("/hub/models--org--Pythia-70m/snapshots/0123"),
            hook: HookPoint::resid_post(3),
            hook_out: None,
        };
        used.notes(metadata, tokens.view(), &[2, 0])
    }

    fn tokens(first: u32) -> Array2<u32> {
        Array2::from_shape_fn((3, 8), |(_, column)| if column == 0 { first } else { 5 })
    }

    #[test]
    fn contexts_begin_with_one_token_or_not() {
        let mut contexts = tokens(2);
        assert_eq!(begins_with(contexts.view(), &[0, 2]), Some(true));
        assert_eq!(begins_with(contexts.view(), &[0]), Some(false));
        assert_eq!(begins_with(contexts.view(), &[]), None);
        contexts[[1, 0]] = 0;
        assert_eq!(begins_with(contexts.view(), &[0, 2]), Some(false));
        assert_eq!(begins_with(Array2::zeros((0, 8)).view(), &[0]), None);
    }

    #[test]
    fn an_sae_that_belongs_is_not_talked_about() {
        let mut metadata = Metadata {
            model_name: Some("EleutherAI/pythia-70m".to_owned()),
            hook_name: Some("blocks.3.hook_resid_post".to_owned()),
            context_size: Some(8),
            prepend_bos: Some(true),
            ..Metadata::default()
        };
        assert_eq!(notes("org/Pythia-70m", &metadata, &tokens(0)), [""; 0]);
        assert_eq!(notes("org/Pythia-70m", &metadata, &tokens(2)), [""; 0]);
        assert_eq!(notes("/hub/somewhere", &metadata, &tokens(0)), [""; 0]);
        metadata.prepend_bos = Some(false);
        assert_eq!(notes("org/Pythia-70m", &metadata, &tokens(7)), [""; 0]);
        metadata.other.insert("model_from_pretrained_kwargs".to_owned(), json!({"checkpoint_value": 3000}));
        assert_eq!(notes("org/Pythia-70m@step3000", &metadata, &tokens(7)), [""; 0]);
        assert_eq!(notes("org/Pythia-70m", &Metadata::default(), &tokens(7)), [""; 0]);
    }

    #[test]
    fn a_gguf_file_is_known_by_the_models_name() {
        for (model, name) in [
            ("org/gemma-3-270m-GGUF:gemma-3-270m-q4_k_m.gguf", "google/gemma-3-270m"),
            ("/m/SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct"),
            ("/m/Llama-3.2-1B.IQ2_XXS.gguf", "meta-llama/Llama-3.2-1B"),
            ("/m/pythia-70m.bf16.gguf", "pythia-70m"),
            ("/m/qwen2.5-0.5b.gguf", "Qwen/Qwen2.5-0.5B"),
        ] {
            let metadata = Metadata { model_name: Some(name.to_owned()), ..Metadata::default() };
            let tokens = tokens(7);
            assert_eq!(notes(model, &metadata, &tokens), [""; 0], "{model}");
            let other = Metadata { model_name: Some(format!("{name}-it")), ..Metadata::default() };
            assert_eq!(notes(model, &other, &tokens).len(), 1, "{model}");
        }
    }

    #[test]
    fn whatever_it_names_and_is_not_used_with_is_told() {
        let mut metadata = Metadata {
            model_name: Some("pythia-410m".to_owned()),
            hook_name: Some("blocks.2.hook_resid_post".to_owned()),
            context_size: Some(1024),
            prepend_bos: Some(true),
            ..Metadata::default()
        };
        metadata.other.insert("model_from_pretrained_kwargs".to_owned(), json!({"revision": "step512"}));
        let expect = |found: &[String], parts: &[[&str; 2]]| {
            assert_eq!(found.len(), parts.len(), "{found:?}");
            for (note, parts) in found.iter().zip(parts) {
                assert!(parts.iter().all(|part| note.contains(part)), "{parts:?} is not in: {note}");
            }
        };
        let hook = ["blocks.2.hook_resid_post", "blocks.3.hook_resid_post"];
        let (model, context) = (["pythia-410m", "org/pythia-70m@main"], ["1024", "of 8"]);
        let main = ["step512", "main"];
        expect(
            &notes("org/pythia-70m@main", &metadata, &tokens(7)),
            &[model, hook, main, context, ["prepend_bos", "don't"]],
        );
        metadata.prepend_bos = Some(false);
        metadata.model_name = None;
        let found = notes("/hub/somewhere", &metadata, &tokens(0));
        expect(&found, &[hook, ["step512", "not known"], context, ["is false", "end-of-text"]]);
    }
}
