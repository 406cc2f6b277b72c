//! SAEs that others have published: which there are, and where, of what model and at what hook.
//!
//! The table is `catalogue/saes.tsv.gz`, which `scripts/catalogue.py` makes of the registry of SAELens; the script describes it. Every SAE
//! in it has a name, `release/id`, that can be given wherever an SAE is asked for.

pub mod assumptions;

use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Result, bail};
use assay_hub::{HubName, repository_of};
use flate2::read::GzDecoder;

use crate::spelling::closest;

/// SAEs that were published together.
#[derive(Debug)]
pub struct Release {
    /// Its name, as SAELens has it; of what SAELens doesn't have, that of the repository.
    pub name: &'static str,
    /// The repository on the hub.
    pub repository: &'static str,
    /// The model's repository on the hub.
    pub model: &'static str,
    /// The format of its files.
    pub format: &'static str,
    /// Whether its weights are pickled, and so are never read before they were converted.
    pub pickled: bool,
    /// A path in the repository, where the SAEs are not listed: they are named `repository:path`.
    pub example: Option<&'static str>,
    /// The SAEs, by layer and width.
    pub saes: Vec<Listed>,
}

/// A published SAE. What neither the registry nor a name says is `None`.
#[derive(Debug)]
pub struct Listed {
    /// Its name in its release.
    pub id: &'static str,
    /// Where it lies in the repository: a directory, or the file of its weights.
    pub path: &'static str,
    /// The hook that it reads.
    pub hook: Option<&'static str>,
    /// The hook that it predicts, of a transcoder.
    pub hook_out: Option<&'static str>,
    /// Its class, in SAELens' words.
    pub architecture: Option<&'static str>,
    /// Latents.
    pub width: Option<u64>,
    /// Active latents per token, as its authors say.
    pub l0: Option<f64>,
    /// Bytes of the weights, as far as shapes and number format are known.
    pub bytes: Option<u64>,
    /// What inputs were multiplied by in training, where that is not in its files.
    pub input_scale: Option<f64>,
    /// Its page on Neuronpedia.
    pub neuronpedia: Option<&'static str>,
}

/// An SAE of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it was published with.
    pub release: &'static Release,
    /// The SAE.
    pub sae: &'static Listed,
}

/// The whole table.
pub struct Catalogue {
    /// Where it is from.
    pub source: &'static str,
    /// All releases, by name; those whose SAEs are not listed come last.
    pub releases: Vec<Release>,
}

/// The table, read when it is first asked for. Its text stays in memory.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
        let mut text = String::new();
        let table: &[u8] = include_bytes!("catalogue/saes.tsv.gz");
        GzDecoder::new(table).read_to_string(&mut text).expect("the bundled table can be read");
        parse(text.leak())
    });
    &CATALOGUE
}

fn parse(text: &'static str) -> Catalogue {
    let mut lines = text.lines();
    let source = lines.next().and_then(|head| head.split('\t').nth(1)).unwrap_or_default();
    let mut releases: Vec<Release> = Vec::new();
    for line in lines {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().filter(|cell| !cell.is_empty());
        let first = cell().unwrap_or_default();
        if let Some(name) = first.strip_prefix('@') {
            let mut text = || cell().unwrap_or_default();
            let [repository, model, format] = [text(), text(), text()];
            let pickled = cell() == Some("1");
            releases.push(Release { name, repository, model, format, pickled, example: cell(), saes: Vec::new() });
        } else if let Some(release) = releases.last_mut() {
            release.saes.push(Listed {
                id: first,
                path: cell().unwrap_or(first),
                hook: cell(),
                hook_out: cell(),
                architecture: cell(),
                width: cell().and_then(|n| n.parse().ok()),
                l0: cell().and_then(|n| n.parse().ok()),
                bytes: cell().and_then(|n| n.parse().ok()),
                input_scale: cell().and_then(|n| n.parse().ok()),
                neuronpedia: cell(),
            });
        }
    }
    Catalogue { source, releases }
}

impl Catalogue {
    /// A release by its name.
    pub fn release(&self, name: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.name == name)
    }

    /// Every SAE.
    pub fn entries(&'static self) -> impl Iterator<Item = Entry> {
        self.releases.iter().flat_map(|release| release.saes.iter().map(move |sae| Entry { release, sae }))
    }
}

/// The SAE that is called `release/id`, perhaps with `@revision` of its repository behind it.
///
/// # Errors
/// If it begins with a release's name, and there is no such SAE in the release; the message has names that are close.
pub fn find(name: &str) -> Result<Option<(Entry, HubName)>> {
    let (name, revision) = name.split_once('@').map_or((name, None), |(name, revision)| (name, Some(revision)));
    // Only repositories whose SAEs are not listed have a slash in their names.
    let (head, id) = name.split_once('/').unwrap_or((name, ""));
    let Some(release) = catalogue().release(head) else { return Ok(None) };
    let Some(sae) = release.saes.iter().find(|sae| sae.id == id) else {
        let close = closest(id, release.saes.iter().map(|sae| sae.id), 3);
        let hint = match close.as_slice() {
            [] => format!("such as {head}/{}", release.saes.first().map_or("", |sae| sae.id)),
            close => {
                let names: Vec<String> = close.iter().map(|id| format!("{head}/{id}")).collect();
                format!("did you mean {}?", names.join(" or "))
            }
        };
        let what = if id.is_empty() { String::new() } else { format!(", none of which is `{id}`") };
        let count = release.saes.len();
        bail!("{head} is a release of {count} SAEs{what}; name one, {hint} (`assay saes --ids {head}` lists them)");
    };
    let name = format!("{}:{}", release.repository, sae.path).parse::<HubName>()?.at(revision)?;
    Ok(Some((Entry { release, sae }, name)))
}

/// The SAE that lies at a path of a repository.
pub fn at(repository: &str, path: &str) -> Option<Entry> {
    catalogue().entries().find(|entry| entry.release.repository == repository && entry.sae.path == path)
}

/// The published SAE that is meant by what was given for one: a name as in [`find`], a place on the hub, or one in the hub's cache.
///
/// # Errors
/// As [`find`].
pub fn published(sae: &Path) -> Result<Option<Entry>> {
    if sae.exists() {
        return Ok(repository_of(sae).and_then(|(repository, path)| at(&repository, &path)));
    }
    let text = sae.to_string_lossy();
    if let Some((entry, _)) = find(&text)? {
        return Ok(Some(entry));
    }
    Ok(text.parse::<HubName>().ok().and_then(|name| at(name.repo(), name.path()?)))
}

/// The release that somebody may have meant who wrote a name of none, in a sentence.
pub fn suggestion(name: &str) -> Option<String> {
    let head = name.split_once('/').map_or(name, |(head, _)| head);
    // Those who own repositories give their names to releases, too: `EleutherAI/pythia-70m` is no slip.
    if catalogue().releases.iter().any(|release| release.repository.split('/').next() == Some(head)) {
        return None;
    }
    let close = closest(head, catalogue().releases.iter().map(|release| release.name), 1);
    close.first().map(|release| format!("did you mean the release {release}? `assay saes` lists those that are known"))
}

impl Entry {
    /// `release/id`, as it is given to `--sae`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.release.name, self.sae.id)
    }

    /// Why a pickled SAE is not read, and what to do: the commands that download it and make safetensors of it.
    pub fn conversion(&self) -> String {
        let Release { repository, format, .. } = self.release;
        let path = self.sae.path;
        // What is downloaded, with the settings beside it, and how it is converted.
        let (files, script) = match *format {
            "dictionary-learning" => {
                (format!("--include '{path}/*'"), format!("dictionary_learning.py 'pickled/{path}/ae.pt'"))
            }
            "hook-z" => {
                let settings = path.replace(".pt", "_cfg.json");
                (format!("'{path}' '{settings}'"), format!("hook_z_kk.py 'pickled/{path}'"))
            }
            "qwen-scope" => (format!("'{path}'"), format!("qwen_scope.py --repo {repository} 'pickled/{path}'")),
            _ => (format!("'{path}'"), format!("goodfire.py 'pickled/{path}'")),
        };
        format!(
            "it is pickled, and a pickle may run code when it is read, so it is not. Download it and convert it once, then give \
             `converted` as the SAE, and the model {model}:\n  hf download {repository} {files} --local-dir pickled\n  \
             python scripts/convert/{script} converted",
            model = self.release.model,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_sae_of_the_registry() {
        let catalogue = catalogue();
        assert!(catalogue.source.starts_with("sae-lens 6.54.12"), "{}", catalogue.source);
        let (listed, unlisted): (Vec<_>, Vec<_>) = catalogue.releases.iter().partition(|r| !r.saes.is_empty());
        assert_eq!((listed.len(), catalogue.entries().count(), unlisted.len()), (170, 13_857, 7));
        assert!(unlisted.iter().all(|release| release.example.is_some() && release.name == release.repository));
        // Counted in the registry: transcoders with an affine connection, pickled SAEs, those on the residual stream.
        let count = |of: &dyn Fn(&Entry) -> bool| catalogue.entries().filter(|entry| of(entry)).count();
        assert_eq!(count(&|e| e.sae.architecture == Some("jumprelu_skip_transcoder")), 1794);
        assert_eq!(count(&|e| e.release.format == "gemma-scope-2"), 8784);
        assert_eq!(count(&|e| e.release.format == "gemma-scope"), 2859);
        assert_eq!(count(&|e| e.release.pickled), 1397);
    }

    /// What is printed can be given back.
    #[test]
    fn every_name_leads_to_its_file() {
        let mut names = BTreeSet::new();
        for entry in catalogue().entries() {
            let name = entry.name();
            let (found, place) = find(&name).unwrap().unwrap();
            assert!(std::ptr::eq(found.sae, entry.sae), "{name}");
            assert_eq!((place.repo(), place.path()), (entry.release.repository, Some(entry.sae.path)), "{name}");
            assert!(entry.release.model.parse::<HubName>().is_ok(), "{name}");
            assert!(names.insert(name));
        }
    }

    #[test]
    fn what_a_name_says_is_known() {
        let (entry, place) = find("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82").unwrap().unwrap();
        assert_eq!(place.to_string(), "google/gemma-scope-2b-pt-res@main:layer_12/width_16k/average_l0_82");
        assert_eq!((entry.release.model, entry.release.format), ("google/gemma-2-2b", "gemma-scope"));
        let Listed { hook, hook_out, width, l0, bytes, .. } = *entry.sae;
        assert_eq!((hook, hook_out), (Some("blocks.12.hook_resid_post"), None));
        assert_eq!((width, l0), (Some(16_384), Some(82.0)));
        // W_enc, W_dec, b_enc, threshold, b_dec in f32.
        assert_eq!(bytes, Some(4 * (2 * 2304 * 16_384 + 2 * 16_384 + 2304)));

        // A second name of the same file, another hook, a transcoder, and a place whose name has a colon.
        let (entry, place) = find("gemma-scope-9b-pt-res-canonical/layer_20/width_65k/canonical@v1").unwrap().unwrap();
        assert_eq!((place.revision(), place.path()), ("v1", Some("layer_20/width_65k/average_l0_55")));
        assert_eq!((entry.sae.l0, entry.sae.width), (Some(55.0), Some(65_536)));
        let sae = |name: &str| find(name).unwrap().unwrap().0.sae;
        assert_eq!(sae("gpt2-small-hook-z-kk/blocks.3.hook_z").hook, Some("blocks.3.attn.hook_z"));
        let transcoder = sae("gemma-scope-2-270m-pt-transcoders-all/layer_9_width_262k_l0_small_affine");
        assert_eq!(
            (transcoder.hook, transcoder.hook_out),
            (Some("blocks.9.mlp.hook_in"), Some("blocks.9.hook_mlp_out"))
        );
        let scaled = sae("gpt2-small-mlp-tm/blocks.11.hook_mlp_out");
        assert_eq!(scaled.path, "sae_group_gpt2_blocks.11.hook_mlp_out_24576:v2");
        assert_eq!(scaled.input_scale, Some(0.285_154_865_255_007_3));
        let there = at("google/gemma-scope-2b-pt-att", "layer_3/width_16k/average_l0_24").unwrap();
        assert_eq!(there.name(), "gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_24");
    }

    #[test]
    fn every_pickled_format_has_its_conversion() {
        let formats: BTreeSet<&str> =
            catalogue().releases.iter().filter(|release| release.pickled).map(|release| release.format).collect();
        assert_eq!(
            formats.into_iter().collect::<Vec<_>>(),
            ["dictionary-learning", "goodfire", "hook-z", "qresearch", "qwen-scope"]
        );
        let of = |name: &str| find(name).unwrap().unwrap().0.conversion();
        let found = of("qwen-scope-3-8b-base-w64k-l50/layer7");
        assert!(
            found.contains("hf download Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50 'layer7.sae.pt' --local-dir pickled"),
            "{found}"
        );
        assert!(
            found.contains(
                "qwen_scope.py --repo Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50 'pickled/layer7.sae.pt' converted"
            ),
            "{found}"
        );
        let found = of("llama-3.1-8b-instruct-andyrdt/resid_post_layer_3_trainer_1");
        assert!(found.contains("--include 'resid_post_layer_3/trainer_1/*'"), "{found}");
        assert!(
            found.contains("dictionary_learning.py 'pickled/resid_post_layer_3/trainer_1/ae.pt' converted"),
            "{found}"
        );
        assert!(
            of("goodfire-llama-3.1-8b-instruct/layer_19")
                .contains("goodfire.py 'pickled/Llama-3.1-8B-Instruct-SAE-l19.pth'")
        );
    }

    #[test]
    fn a_name_of_none_gets_those_that_are_close() {
        let error = |name: &str| find(name).unwrap_err().to_string();
        let found = error("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_83");
        assert!(found.contains("did you mean gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82"), "{found}");
        let found = error("gpt2-small-res-jb");
        assert!(
            found.contains("a release of 13 SAEs; name one, such as gpt2-small-res-jb/blocks.0.hook_resid_pre"),
            "{found}"
        );
        assert!(find("org/saes").unwrap().is_none() && find("gemma-scope").unwrap().is_none());
        assert!(suggestion("gpt2-smal-res-jb/blocks.8.hook_resid_pre").unwrap().contains("release gpt2-small-res-jb?"));
        assert_eq!(suggestion("org/saes"), None);
    }
}
