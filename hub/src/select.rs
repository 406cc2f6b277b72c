//! Which files of a repository are needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use glob::Pattern;

use crate::Want;
use crate::tree::{Entry, Tree};

/// The files to fetch, and the place to hand on.
pub(crate) struct Selection<'a> {
    pub(crate) files: Vec<&'a Entry>,
    pub(crate) root: Root,
    /// The configuration of a model, which is looked at before its weights are fetched.
    pub(crate) config: Option<&'a Entry>,
}

/// What in a snapshot stands for the selection.
pub(crate) enum Root {
    /// A directory or file; the snapshot itself if empty.
    Path(String),
    /// Files by pattern.
    Glob(String),
}

impl Root {
    pub(crate) fn within(&self, snapshot: &Path) -> PathBuf {
        match self {
            Self::Path(path) if path.is_empty() => snapshot.to_owned(),
            Self::Path(path) => snapshot.join(path),
            // A directory of the user's may hold letters that mean something in a pattern.
            Self::Glob(pattern) => Path::new(&Pattern::escape(&snapshot.to_string_lossy())).join(pattern),
        }
    }
}

/// The names of files that describe an SAE, besides those in YAML.
const SETTINGS: [&str; 5] = ["cfg.json", "config.json", "hyperparams.json", "lm_config.json", "activation_scaler.json"];

/// Names of files that only an SAE's directory has.
const SAES: [&str; 4] = ["cfg.json", "hyperparams.json", "params.npz", "params.safetensors"];

/// The files that are needed, in the order of their paths.
///
/// # Errors
/// If the commit doesn't have them; the text says what it has instead.
pub(crate) fn select<'a>(want: Want, tree: &'a Tree, path: Option<&str>) -> Result<Selection<'a>, String> {
    if want == Want::Dataset {
        return dataset(tree, path);
    }
    if let Some(file) = path.filter(|path| is_gguf(path) && want != Want::Sae) {
        return gguf(tree, file);
    }
    if let Some(file) = tree.files.iter().find(|file| Some(file.path.as_str()) == path && want != Want::Model) {
        return sae_file(tree, file);
    }
    let dir = Dir { tree, path: path.unwrap_or_default() };
    let config = dir.file("config.json");
    let (files, is_model) = match want {
        Want::Model => (dir.model()?, true),
        Want::Sae => (dir.sae()?, false),
        _ if dir.file("cfg.json").is_some() || config.is_none() && dir.sae().is_ok() => (dir.sae()?, false),
        _ if config.is_some() => match dir.model() {
            Ok(files) => (files, true),
            Err(why) => (dir.sae().map_err(|_| why)?, false),
        },
        _ => {
            let markers = [["config.json"].as_slice(), &SAES].concat();
            let lacks = || dir.lacks("config.json or cfg.json", "models and SAEs", &markers);
            return Err(dir.only_gguf("config.json or cfg.json").unwrap_or_else(lacks));
        }
    };
    Ok(Selection { files, root: Root::Path(dir.path.to_owned()), config: config.filter(|_| is_model) })
}

/// A model in one file, which holds its configuration and its tokenizer too.
fn gguf<'a>(tree: &'a Tree, path: &str) -> Result<Selection<'a>, String> {
    let Some(file) = tree.files.iter().find(|file| file.path == path) else {
        let there = listed(tree.files.iter().map(|f| f.path.as_str()).filter(|path| is_gguf(path)).collect());
        let there = if there.is_empty() { "no file in GGUF".to_owned() } else { format!("these: {there}") };
        return Err(format!("it has no file {path}, but {there}"));
    };
    Ok(Selection { files: vec![file], root: Root::Path(file.path.clone()), config: None })
}

/// An SAE that is a file among others: circuit-tracer's, whose settings lie beside it.
fn sae_file<'a>(tree: &'a Tree, file: &'a Entry) -> Result<Selection<'a>, String> {
    let (path, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let dir = Dir { tree, path };
    if !name.ends_with(".safetensors") {
        return Err(format!(
            "{} is no file of weights in safetensors; name the directory of an SAE, or such a file",
            file.path
        ));
    }
    // The decoder of a cross-layer transcoder is a file of its own.
    let decoder = name.strip_prefix("W_enc").and_then(|rest| dir.file(&format!("W_dec{rest}")));
    let mut files: Vec<_> = dir.settings().chain([file]).chain(decoder).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Selection { files, root: Root::Path(file.path.clone()), config: None })
}

fn is_gguf(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".gguf")
}

/// A directory of a repository.
struct Dir<'a, 'p> {
    tree: &'a Tree,
    path: &'p str,
}

impl<'a> Dir<'a, '_> {
    /// Its files with their names, not those below it.
    fn files(&self) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.tree.files.iter().filter_map(|entry| {
            let (dir, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            (dir == self.path).then_some((name, entry))
        })
    }

    fn file(&self, name: &str) -> Option<&'a Entry> {
        self.files().find(|(n, _)| *n == name).map(|(_, entry)| entry)
    }

    fn place(&self) -> String {
        if self.path.is_empty() { "it".to_owned() } else { format!("its directory {}", self.path) }
    }

    fn model(&self) -> Result<Vec<&'a Entry>, String> {
        let lacks =
            || self.only_gguf("config.json").unwrap_or_else(|| self.lacks("config.json", "models", &["config.json"]));
        let config = self.file("config.json").ok_or_else(lacks)?;
        let mut files = vec![config];
        if let Some(single) = self.file("model.safetensors") {
            files.push(single);
        } else {
            let index = self.file("model.safetensors.index.json");
            files.push(index.ok_or_else(|| self.lacks_weights("model.safetensors"))?);
            files.extend(self.shards()?);
        }
        files.extend(self.file("tokenizer.json"));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// `model-00001-of-00003.safetensors` and so on, all of them.
    fn shards(&self) -> Result<Vec<&'a Entry>, String> {
        let number = |name: &str| -> Option<(usize, usize)> {
            let (at, of) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
            Some((at.parse().ok()?, of.parse().ok()?))
        };
        let shards: Vec<_> = self.files().filter_map(|(name, entry)| Some((number(name)?, entry))).collect();
        let total = shards.first().map_or(1, |((_, of), _)| *of);
        let present: BTreeSet<usize> = shards.iter().map(|((at, _), _)| *at).collect();
        match (1..=total).find(|at| !present.contains(at)) {
            Some(at) => Err(format!("{} lacks shard {at} of {total} of the weights", self.place())),
            None => Ok(shards.into_iter().map(|(_, entry)| entry).collect()),
        }
    }

    /// Its files that describe an SAE: of SAELens, sparsify, dictionary_learning, OpenMOSS, circuit-tracer and others.
    fn settings(&self) -> impl Iterator<Item = &'a Entry> {
        let wanted = |name: &str| SETTINGS.contains(&name) || name.ends_with(".yaml");
        self.files().filter(move |(name, _)| wanted(name)).map(|(_, entry)| entry)
    }

    /// The files of an SAE, and nothing else that lies there: Gemma Scope's directories have no settings, Llama Scope's have the weights in
    /// a directory of their own, sparsify's have those of the run above them.
    fn sae(&self) -> Result<Vec<&'a Entry>, String> {
        let mut files: Vec<_> = self.settings().collect();
        let named = |name: &str| files.iter().any(|entry| entry.path.rsplit('/').next() == Some(name));
        let alone = ["params.npz", "params.safetensors"].into_iter().find_map(|name| self.file(name));
        if alone.is_none() && !["cfg.json", "config.json", "hyperparams.json", "conf.yaml"].into_iter().any(named) {
            return Err(self.lacks("cfg.json or config.json", "SAEs", &SAES));
        }
        let within = |path: &str| if self.path.is_empty() { path.to_owned() } else { format!("{}/{path}", self.path) };
        let at = |path: &str| self.tree.files.iter().find(|entry| entry.path == path);
        let mut weights: Vec<_> =
            self.files().filter(|(name, _)| name.ends_with(".safetensors")).map(|(_, e)| e).collect();
        if weights.is_empty() {
            weights.extend(alone.or_else(|| at(&within("checkpoints/final.safetensors"))));
        }
        if weights.is_empty() {
            return Err(self.lacks_weights(".safetensors file"));
        }
        if weights.iter().any(|entry| entry.path == within("sae.safetensors"))
            && let Some((run, _)) = self.path.rsplit_once('/').or((!self.path.is_empty()).then_some(("", "")))
        {
            files.extend(at(format!("{run}/config.json").trim_start_matches('/')));
        }
        files.extend(weights);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// The message for a directory without such a file, but with models in GGUF.
    fn only_gguf(&self, what: &str) -> Option<String> {
        let files: Vec<&str> = self.files().filter(|(name, _)| is_gguf(name)).map(|(_, e)| e.path.as_str()).collect();
        let them = listed(files.clone());
        (!files.is_empty()).then(|| {
            format!("{} has no {what}, but models in GGUF; name one of them after a `:`: {them}", self.place())
        })
    }

    /// No such file: which directories have one?
    fn lacks(&self, what: &str, kind: &str, markers: &[&str]) -> String {
        let with = |entry: &'a Entry| {
            entry.path.rsplit_once('/').filter(|(_, name)| markers.contains(name)).map(|(dir, _)| dir)
        };
        let dirs: Vec<&str> = self.tree.files.iter().filter_map(with).collect();
        let there = match dirs.len() {
            0 => {
                "; the files there are: ".to_owned()
                    + &listed(self.tree.files.iter().map(|f| f.path.as_str()).collect())
            }
            _ => format!("; {kind} in the repository, to be named after a `:`, are: {}", listed(dirs)),
        };
        format!("{} has no {what}{there}", self.place())
    }

    fn lacks_weights(&self, what: &str) -> String {
        if let Some(why) = self.only_gguf(what) {
            return why;
        }
        let pickled = |name: &str| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end));
        match self.files().find(|(name, _)| pickled(name)) {
            Some((name, _)) => format!(
                "{} has no {what}, only {name}, which could run code and is never read; another revision may have \
                 safetensors (refs/pr/…, see the hub's pull requests), or convert it and give the local path",
                self.place()
            ),
            None => format!("{} has no {what}", self.place()),
        }
    }
}

fn listed(names: Vec<&str>) -> String {
    const MOST: usize = 8;
    let more = names.len().saturating_sub(MOST);
    let head = names[..names.len().min(MOST)].join(", ");
    if more > 0 { format!("{head} and {more} more") } else { head }
}

/// Kinds of token and text files, in the order in which a repository's are looked for. JSON that is not lines comes after them, as most
/// repositories have some that describes the others.
const KINDS: [&[&str]; 4] = [
    &[".parquet"],
    &[".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"],
    &[".json", ".json.gz", ".json.zst"],
    &[".txt", ".txt.gz", ".txt.zst"],
];

/// Files of JSON that describe a dataset.
const DESCRIPTIONS: [&str; 4] = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

/// Whether a file is one of data: none that is hidden, or describes others.
fn is_data(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    !DESCRIPTIONS.contains(&name) && !path.split('/').any(|part| part.starts_with(['.', '_']))
}

/// What the hub's libraries take for the name of a split.
const SPLITS: [&str; 7] = ["train", "validation", "valid", "val", "dev", "test", "eval"];

fn dataset<'a>(tree: &'a Tree, path: Option<&str>) -> Result<Selection<'a>, String> {
    let path = path.unwrap_or_default();
    let pattern = path.contains(['*', '?', '[']).then(|| Pattern::new(path)).transpose();
    let pattern = pattern.map_err(|e| format!("`{path}` is no pattern: {e}"))?;
    let below = |file: &str| file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let chosen = |file: &str| match &pattern {
        Some(pattern) => pattern.matches_with(file, options),
        None => path.is_empty() || below(file),
    };
    let of = |kind: &[&str]| -> Vec<&'a Entry> {
        let fits = |entry: &&Entry| {
            // A file that is named is wanted, whatever it is called.
            let data = is_data(&entry.path) || entry.path == path;
            let name = entry.path.to_ascii_lowercase();
            data && chosen(&entry.path) && kind.iter().any(|end| name.ends_with(end))
        };
        tree.files.iter().filter(fits).collect()
    };
    let Some(files) = KINDS.iter().map(|kind| of(kind)).find(|files| !files.is_empty()) else {
        let place = if path.is_empty() { "it".to_owned() } else { format!("`{path}`") };
        let there = listed(tree.files.iter().map(|file| file.path.as_str()).collect());
        return Err(format!(
            "{place} has no .parquet, .jsonl[.gz|.zst], .json[.gz|.zst] or .txt[.gz|.zst] files; the files there are: {there}"
        ));
    };
    // Training on the test split would go unnoticed.
    let splits: BTreeSet<&str> = files.iter().filter_map(|file| split(&file.path)).collect();
    if splits.len() > 1 {
        let names: Vec<&str> = splits.into_iter().collect();
        let example = files.iter().find(|file| split(&file.path) == Some("train")).unwrap_or(&files[0]);
        return Err(format!(
            "it has several splits ({}); say which after a `:`, as a directory, file or pattern like {}",
            names.join(", "),
            split_of(&example.path)
        ));
    }
    let root = match (&pattern, files.as_slice()) {
        (_, [single]) => Root::Path(single.path.clone()),
        (Some(_), _) => Root::Glob(path.to_owned()),
        (None, _) => Root::Path(path.to_owned()),
    };
    Ok(Selection { files, root, config: None })
}

/// The split that a file belongs to, by its name or that of a directory.
fn split(path: &str) -> Option<&'static str> {
    let word = |part: &str| {
        let head = part.split(['-', '_', '.']).next().unwrap_or_default();
        SPLITS.into_iter().find(|split| *split == head)
    };
    path.rsplit('/').find_map(word)
}

/// What to write after the `:` for the split of the given file: its directory, or a pattern.
fn split_of(path: &str) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(head) = split(name) else {
        let parts: Vec<&str> = dir.split('/').collect();
        let depth = parts.iter().rposition(|part| split(part).is_some()).map_or(parts.len(), |at| at + 1);
        return parts[..depth].join("/");
    };
    let end = KINDS.iter().flat_map(|kind| kind.iter()).find(|end| name.ends_with(**end)).unwrap_or(&"");
    let slash = if dir.is_empty() { "" } else { "/" };
    format!("{dir}{slash}{head}*{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        let files: Vec<String> =
            paths.iter().map(|p| format!(r#"{{"rfilename": "{p}", "size": 1, "blobId": "aa"}}"#)).collect();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        Tree::from_answer(format!(r#"{{"sha": "{commit}", "siblings": [{}]}}"#, files.join(",")).as_bytes()).unwrap()
    }

    /// The chosen files, and where they lie below `/s`.
    fn chosen(want: Want, paths: &[&str], path: Option<&str>) -> (Vec<String>, String) {
        let tree = tree(paths);
        let Selection { files, root, .. } = select(want, &tree, path).unwrap();
        (files.iter().map(|f| f.path.clone()).collect(), root.within(Path::new("/s")).display().to_string())
    }

    #[track_caller]
    fn refused(want: Want, paths: &[&str], path: Option<&str>, part: &str) {
        let why = select(want, &tree(paths), path).err().expect("the files are not there");
        assert!(why.contains(part), "`{part}` is not in: {why}");
    }

    #[test]
    fn a_model_is_its_configuration_and_safetensors() {
        let files =
            ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json", "x/config.json"];
        let (found, root) = chosen(Want::Model, &files, None);
        assert_eq!(
            (found, root.as_str()),
            (vec!["config.json".into(), "model.safetensors".into(), "tokenizer.json".into()], "/s")
        );
        let sharded = [
            "m/config.json",
            "m/model.safetensors.index.json",
            "m/model-00001-of-00002.safetensors",
            "m/model-00002-of-00002.safetensors",
            "m/model.fp16-00001-of-00001.safetensors",
        ];
        let (found, root) = chosen(Want::Model, &sharded, Some("m"));
        assert_eq!((found.len(), root.as_str()), (4, "/s/m"));
        assert!(!found.iter().any(|file| file.contains("fp16")));
        refused(Want::Model, &sharded[..3], Some("m"), "lacks shard 2 of 2");
        refused(Want::Model, &sharded, None, "are: m");
        refused(
            Want::Model,
            &["config.json", "pytorch_model.bin"],
            None,
            "only pytorch_model.bin, which could run code",
        );
    }

    #[test]
    fn a_model_in_gguf_is_the_file_that_is_named() {
        let files = ["README.md", "config.json", "m.Q4_K_M.gguf", "m.Q8_0.GGUF", "deep/m.F16.gguf"];
        for want in [Want::Model, Want::ModelOrSae] {
            for file in &files[2..] {
                assert_eq!(chosen(want, &files, Some(file)), (vec![(*file).to_owned()], format!("/s/{file}")));
            }
        }
        let they = "name one of them after a `:`: m.Q4_K_M.gguf, m.Q8_0.GGUF";
        refused(Want::Model, &files, None, they);
        refused(Want::Model, &files[2..], None, &format!("no config.json, but models in GGUF; {they}"));
        refused(Want::ModelOrSae, &files[2..], None, they);
        refused(Want::Model, &files, Some("deep"), "`:`: deep/m.F16.gguf");
        refused(
            Want::Model,
            &files,
            Some("m.Q2_K.gguf"),
            "no file m.Q2_K.gguf, but these: deep/m.F16.gguf, m.Q4_K_M.gguf",
        );
        refused(Want::Model, &files[..2], Some("m.Q2_K.gguf"), "but no file in GGUF");
    }

    #[test]
    fn an_sae_is_a_directory_of_a_repository() {
        let files = [
            "README.md",
            "a.b/cfg.json",
            "a.b/sae_weights.safetensors",
            "a.b/deep/x.safetensors",
            "c/cfg.json",
            "c/ae.pt",
        ];
        let (found, root) = chosen(Want::Sae, &files, Some("a.b"));
        assert_eq!(
            (found, root.as_str()),
            (vec!["a.b/cfg.json".into(), "a.b/sae_weights.safetensors".into()], "/s/a.b")
        );
        refused(Want::Sae, &files, None, "are: a.b, c");
        refused(Want::Sae, &files, Some("c"), "only ae.pt");
        assert_eq!(chosen(Want::ModelOrSae, &files, Some("a.b")).0.len(), 2);
        assert_eq!(chosen(Want::ModelOrSae, &["config.json", "model.safetensors"], None).0.len(), 2);
        assert_eq!(chosen(Want::ModelOrSae, &["config.json", "ae.safetensors"], None).0.len(), 2);
    }

    /// The layouts of repositories, and of what lies in them the files of one SAE.
    #[test]
    fn of_a_published_sae_only_its_own_files_are_fetched() {
        let gemma =
            ["README.md", "layer_1/width_16k/average_l0_9/params.npz", "layer_1/width_16k/average_l0_90/params.npz"];
        let (found, root) = chosen(Want::Sae, &gemma, Some("layer_1/width_16k/average_l0_9"));
        assert_eq!((found, root.as_str()), (vec![gemma[1].to_owned()], "/s/layer_1/width_16k/average_l0_9"));
        refused(Want::Sae, &gemma, Some("layer_1/width_16k"), "are: layer_1/width_16k/average_l0_9, layer_1");
        let gemma = ["mlp_out/a/params.safetensors", "mlp_out/b/config.json", "mlp_out/b/params.safetensors"];
        for want in [Want::Sae, Want::ModelOrSae] {
            assert_eq!(chosen(want, &gemma, Some("mlp_out/a")).0, &gemma[..1]);
            assert_eq!(chosen(want, &gemma, Some("mlp_out/b")).0, &gemma[1..]);
        }
        let llama = [
            "L0R-8x/checkpoints/final.safetensors",
            "L0R-8x/checkpoints/pruned.safetensors",
            "L0R-8x/hyperparams.json",
            "L0R-8x/lm_config.json",
            "L1R-8x/hyperparams.json",
        ];
        let expected = [llama[0], llama[2], llama[3]].map(str::to_owned);
        assert_eq!(chosen(Want::Sae, &llama, Some("L0R-8x")), (expected.to_vec(), "/s/L0R-8x".to_owned()));
        refused(Want::Sae, &llama, Some("L1R-8x"), "has no .safetensors file");
        let sparsify = ["config.json", "layers.1/cfg.json", "layers.1/sae.safetensors", "layers.2/cfg.json"];
        assert_eq!(chosen(Want::Sae, &sparsify, Some("layers.1")).0, &sparsify[..3]);
        let deep = sparsify.map(|file| format!("run/{file}"));
        let deep: Vec<&str> = deep.iter().map(String::as_str).collect();
        assert_eq!(chosen(Want::Sae, &deep, Some("run/layers.1")).0, &deep[..3]);
        // An SAE may be a file among those of other layers.
        let tracer =
            ["W_dec_1.safetensors", "W_enc_1.safetensors", "config.yaml", "layer_1.safetensors", "layer_2.safetensors"];
        let (found, root) = chosen(Want::Sae, &tracer, Some("layer_1.safetensors"));
        assert_eq!(
            (found.as_slice(), root.as_str()),
            (&[tracer[2].to_owned(), tracer[3].to_owned()][..], "/s/layer_1.safetensors")
        );
        assert_eq!(chosen(Want::Sae, &tracer, Some("W_enc_1.safetensors")).0, &tracer[..3]);
        refused(Want::Sae, &tracer, Some("config.yaml"), "config.yaml is no file of weights");
        // A name may have a colon, as Weights & Biases' versions do.
        #[cfg(not(windows))]
        assert_eq!(
            chosen(Want::Sae, &["a_24576:v1/cfg.json", "a_24576:v1/sae.safetensors"], Some("a_24576:v1")).0.len(),
            2
        );
    }

    #[test]
    fn a_dataset_is_all_shards_of_one_kind() {
        let files =
            ["README.txt", "data/train-1.parquet", "data/train-0.parquet", "other/x.jsonl", "other/y.jsonl.zst"];
        let (found, root) = chosen(Want::Dataset, &files, None);
        assert_eq!((found, root.as_str()), (vec!["data/train-0.parquet".into(), "data/train-1.parquet".into()], "/s"));
        assert_eq!(chosen(Want::Dataset, &files, Some("other")).1, "/s/other");
        assert_eq!(
            chosen(Want::Dataset, &files, Some("other/x.jsonl")),
            (vec!["other/x.jsonl".into()], "/s/other/x.jsonl".into())
        );
        assert_eq!(chosen(Want::Dataset, &files, Some("data/*-1.parquet")).1, "/s/data/train-1.parquet");
        assert_eq!(chosen(Want::Dataset, &files, Some("data/train-*.parquet")).1, "/s/data/train-*.parquet");
        refused(Want::Dataset, &files, Some("dat"), "`dat` has no .parquet");
        refused(Want::Dataset, &["a.csv"], None, "are: a.csv");
        assert_eq!(
            chosen(Want::Dataset, &["en/a.JSON.gz", "dataset_infos.json", ".cache/b.json"], None).0,
            ["en/a.JSON.gz"]
        );
    }

    #[test]
    fn splits_are_not_mixed() {
        let files = ["data/test-0.parquet", "data/train-0.parquet", "data/train-1.parquet"];
        refused(
            Want::Dataset,
            &files,
            None,
            "several splits (test, train); say which after a `:`, as a directory, file or pattern like data/train*.parquet",
        );
        assert_eq!(chosen(Want::Dataset, &files, Some("data/train*.parquet")).0.len(), 2);
        refused(Want::Dataset, &["test.jsonl", "train.jsonl"], None, "train*.jsonl");
        refused(Want::Dataset, &["test/0.parquet", "train/0.parquet"], None, "like train");
    }
}
