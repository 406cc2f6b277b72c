//! Models, SAEs and datasets by their name, from a hub on loopback.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use tempfile::TempDir;

use crate::common::hub_server::{Access, Fault, Files, HubServer, Request, files_of, hash};
use crate::common::{assay, bundled, golden, refused, root, stdout_of, write_spec};

const WEIGHTS: &str = "model.safetensors";

/// A hub, and a home with an empty cache.
pub struct World {
    pub hub: HubServer,
    pub home: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self { hub: HubServer::start(), home: tempfile::tempdir().unwrap() }
    }

    /// A hub that has the small model as `org/small`, and that commit.
    fn with_small() -> (Self, String) {
        let world = Self::new();
        let commit = world.hub.serve("models", "org/small", "main", files_of(&bundled("small")), Access::All);
        (world, commit)
    }

    /// `assay` with this hub and home, and nothing else from the environment of whoever runs the tests.
    pub fn assay(&self) -> Command {
        let mut command = assay();
        command.envs(self.variables());
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
    }

    pub fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [("HF_HOME", self.home.path().to_owned()), ("HF_ENDPOINT", self.hub.endpoint().into())]
    }

    fn inspect(&self, name: &str) -> Command {
        let mut command = self.assay();
        command.args(["inspect", name]);
        command
    }

    /// A repository's directory in the cache.
    pub fn repo(&self, folder: &str) -> PathBuf {
        self.home.path().join("hub").join(folder)
    }

    fn small(&self) -> PathBuf {
        self.repo("models--org--small")
    }

    fn blob(&self, name: &str) -> PathBuf {
        let weights = std::fs::read(bundled("small").join(name)).unwrap();
        self.small().join("blobs").join(hash(&weights, 64))
    }

    fn part(&self, name: &str) -> PathBuf {
        self.blob(name).with_extension("part")
    }

    #[track_caller]
    fn assert_whole(&self, commit: &str) {
        for (name, bytes) in files_of(&bundled("small")) {
            let found = std::fs::read(self.small().join("snapshots").join(commit).join(&name)).unwrap();
            assert!(found == bytes, "{name} differs");
        }
        let left: Vec<_> = std::fs::read_dir(self.small().join("blobs")).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(!left.iter().any(|path| path.extension().is_some()), "{left:?}");
    }
}

/// What else could lead requests somewhere else, or say who asks.
pub const FOREIGN: [&str; 12] = [
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "all_proxy",
];

/// The requests for a file's bytes on the other host: (range, bytes sent).
fn of_weights(requests: &[Request]) -> Vec<(Option<&str>, usize)> {
    let of = requests.iter().filter(|r| r.elsewhere && r.target.contains(WEIGHTS));
    of.map(|r| (r.range.as_deref(), r.sent)).collect()
}

fn weights_size() -> usize {
    std::fs::metadata(bundled("small").join(WEIGHTS)).unwrap().len() as usize
}

#[test]
fn a_model_is_downloaded_once() {
    let (world, commit) = World::with_small();
    let local = stdout_of(assay().arg("inspect").arg(bundled("small")));
    assert_eq!(stdout_of(&mut world.inspect("org/small")), local);
    world.assert_whole(&commit);
    let requests = world.hub.requests();
    let targets: Vec<&str> = requests.iter().filter(|r| !r.elsewhere).map(|r| r.target.as_str()).collect();
    let file = |name: &str| format!("/org/small/resolve/{commit}/{name}");
    let expected = [
        "/api/models/org/small/revision/main?blobs=true".to_owned(),
        file("config.json"),
        file(WEIGHTS),
        file("tokenizer.json"),
    ];
    assert_eq!(targets, expected);
    assert_eq!(of_weights(&requests), [(None, weights_size())]);

    // A branch is looked up, a commit is not, and offline nothing is.
    assert_eq!(stdout_of(&mut world.inspect("org/small")), local);
    assert_eq!(world.hub.requests().len(), 1);
    assert_eq!(stdout_of(&mut world.inspect(&format!("org/small@{commit}"))), local);
    assert_eq!(stdout_of(world.inspect("org/small").env("HF_HUB_OFFLINE", "1")), local);
    assert!(world.hub.requests().is_empty());

    // Without a network the cache's commit is used, and said.
    world.hub.stop();
    let output = world.inspect("org/small").output().unwrap();
    let warning = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), local);
    assert!(warning.contains("cannot reach http://127.0.0.1") && warning.contains(&commit), "{warning}");
    let output = world.inspect(&format!("org/small@{commit}")).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}

#[test]
fn the_cache_is_laid_out_as_the_hubs_tools_read_it() {
    let (world, commit) = World::with_small();
    stdout_of(&mut world.inspect("org/small"));
    assert_eq!(std::fs::read_to_string(world.small().join("refs/main")).unwrap(), commit);
    let link = |name: &str| std::fs::read_link(world.small().join("snapshots").join(&commit).join(name)).unwrap();
    let weights = hash(&std::fs::read(bundled("small").join(WEIGHTS)).unwrap(), 64);
    assert_eq!(link(WEIGHTS), Path::new("../../blobs").join(weights.as_str()));
    // Small files are named by 40 digits.
    assert_eq!(link("config.json").file_name().unwrap().len(), 40);
    let list = std::fs::read_to_string(world.small().join(format!("trees/{commit}.json"))).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["format_version"], 1);
    assert_eq!(list["files"][WEIGHTS]["lfs_sha256"], weights.as_str());
    assert_eq!(list["files"][WEIGHTS]["size"], weights_size());
    assert!(list["files"]["config.json"].get("lfs_sha256").is_none());
    assert!(world.home.path().join(format!("hub/.locks/models--org--small/{weights}.lock")).is_file());

    // As older tools leave it: without the list. A checkpoint says itself that it is complete.
    std::fs::remove_dir_all(world.small().join("trees")).unwrap();
    world.hub.requests();
    stdout_of(&mut world.inspect(&format!("org/small@{commit}")));
    stdout_of(world.inspect("org/small").env("HF_HUB_OFFLINE", "yes"));
    assert!(world.hub.requests().is_empty());
    // HF_HUB_CACHE goes before HF_HOME.
    let moved = world.home.path().join("elsewhere");
    std::fs::rename(world.home.path().join("hub"), &moved).unwrap();
    stdout_of(world.inspect("org/small").env("HF_HUB_CACHE", &moved).env("HF_HUB_OFFLINE", "ON"));
}

#[test]
fn every_file_is_of_one_commit() {
    let (world, first) = World::with_small();
    let mut changed = files_of(&bundled("small"));
    changed.insert("README.md".to_owned(), b"new".to_vec());
    world.hub.serve("models", "org/small", "v1.0", files_of(&bundled("small")), Access::All);
    let second = world.hub.serve("models", "org/small", "refs/pr/7", changed, Access::All);
    stdout_of(&mut world.inspect("org/small@refs/pr/7"));
    let requests = world.hub.requests();
    assert_eq!(requests[0].target, "/api/models/org/small/revision/refs%2Fpr%2F7?blobs=true");
    assert!(requests.iter().skip(1).filter(|r| !r.elsewhere).all(|r| r.target.contains(&second)));
    assert_eq!(std::fs::read_to_string(world.small().join("refs/refs/pr/7")).unwrap(), second);
    // Of another commit, the files that didn't change are there already.
    stdout_of(&mut world.inspect("org/small@v1.0"));
    assert_eq!(world.hub.requests().len(), 1);
    world.assert_whole(&first);
}

#[test]
fn a_cut_connection_is_resumed() {
    let (world, commit) = World::with_small();
    let cut = weights_size() / 2;
    world.hub.fail(WEIGHTS, &[Fault::Cut(cut), Fault::Busy, Fault::Cut(1000)]);
    stdout_of(&mut world.inspect("org/small"));
    let requests = world.hub.requests();
    let expected = [
        (None, cut),
        (Some(format!("bytes={cut}-")), 0),
        (Some(format!("bytes={cut}-")), 1000),
        (Some(format!("bytes={}-", cut + 1000)), weights_size() - cut - 1000),
    ];
    let expected: Vec<_> = expected.iter().map(|(range, sent)| (range.as_deref(), *sent)).collect();
    assert_eq!(of_weights(&requests), expected);
    world.assert_whole(&commit);
}

#[test]
fn a_killed_download_is_resumed() {
    let (world, commit) = World::with_small();
    let stall = weights_size() / 3;
    world.hub.fail(WEIGHTS, &[Fault::Stall(stall)]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args(["--quiet", "inspect", "org/small"]).envs(world.variables());
    for name in FOREIGN {
        command.env_remove(name);
    }
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    while world.part(WEIGHTS).metadata().map_or(0, |found| found.len()) < stall as u64 {
        assert!(started.elapsed() < Duration::from_secs(60), "the download doesn't start");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    world.hub.requests();
    stdout_of(&mut world.inspect("org/small"));
    let range = format!("bytes={stall}-");
    assert_eq!(of_weights(&world.hub.requests()), [(Some(range.as_str()), weights_size() - stall)]);
    world.assert_whole(&commit);
}

#[test]
fn what_an_earlier_try_left_is_used_as_far_as_it_can_be() {
    let weights = std::fs::read(bundled("small").join(WEIGHTS)).unwrap();
    let with_part = |bytes: &[u8], faults: &[Fault]| {
        let (world, commit) = World::with_small();
        std::fs::create_dir_all(world.small().join("blobs")).unwrap();
        std::fs::write(world.part(WEIGHTS), bytes).unwrap();
        world.hub.fail(WEIGHTS, faults);
        stdout_of(&mut world.inspect("org/small"));
        world.assert_whole(&commit);
        of_weights(&world.hub.requests()).iter().map(|(_, sent)| sent).sum::<usize>()
    };
    // Killed after the last byte, before it was renamed: a request for no bytes would be refused.
    assert_eq!(with_part(&weights, &[]), 0);
    // More than all can be no beginning.
    assert_eq!(with_part(&[weights.as_slice(), b"x"].concat(), &[]), weights.len());
    // A server that ignores ranges sends what is there again.
    assert_eq!(with_part(&weights[..5000], &[Fault::Whole]), weights.len());
}

#[test]
fn two_processes_download_a_file_once() {
    let (world, commit) = World::with_small();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| stdout_of(&mut world.inspect("org/small")));
        }
    });
    world.assert_whole(&commit);
    assert_eq!(of_weights(&world.hub.requests()), [(None, weights_size())]);
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let world = World::new();
    world.hub.serve("models", "org/gated", "main", files_of(&bundled("small")), Access::Gated("secret"));
    let page = format!("accept its terms at {}/org/gated", world.hub.endpoint());
    refused(&mut world.inspect("org/gated"), &["refuses access to org/gated@main (401)", &page, "set HF_TOKEN"]);
    let wrong = ["refuses access to org/gated@main (403)", &page, "whether your token (HF_TOKEN) is valid"];
    refused(world.inspect("org/gated").env("HF_TOKEN", "wrong"), &wrong);
    world.hub.requests();
    std::fs::write(world.home.path().join("token"), "secret\n").unwrap();
    stdout_of(&mut world.inspect("org/gated"));
    let requests = world.hub.requests();
    assert!(requests.iter().any(|r| r.elsewhere));
    for request in requests {
        let expected = (!request.elsewhere).then_some("Bearer secret");
        assert_eq!(request.token.as_deref(), expected, "{}", request.target);
    }
}

#[test]
fn a_renamed_repository_is_found() {
    let (world, commit) = World::with_small();
    world.hub.rename("former/name", "org/small");
    stdout_of(world.inspect("former/name").env("HF_TOKEN", "mine"));
    assert!(world.hub.requests().iter().filter(|r| !r.elsewhere).all(|r| r.token.as_deref() == Some("Bearer mine")));
    assert!(world.repo("models--former--name").join("snapshots").join(commit).join(WEIGHTS).is_file());
}

#[test]
fn an_sae_is_a_place_in_a_repository() {
    let (world, _) = World::with_small();
    let mut saes = Files::new();
    for name in ["L3_k8", "L4_k32"] {
        for (path, bytes) in files_of(&golden("eval-small").join(name)) {
            saes.insert(format!("{name}/{path}"), bytes);
        }
    }
    world.hub.serve("models", "org/saes", "v2", saes, Access::All);
    let eval = |command: &mut Command, model: &str, sae: &str| {
        let tokens = golden("eval-small/tokens.safetensors");
        command.args(["eval", "--json", "--sequences", "2", "--resamples", "100", "--fisher-samples", "0"]);
        command.args(["--model", model, "--sae", sae, "--tokens"]).arg(tokens);
        stdout_of(command)
    };
    let path = golden("eval-small/L3_k8");
    let local = eval(&mut assay(), bundled("small").to_str().unwrap(), path.to_str().unwrap());
    let fetched = eval(&mut world.assay(), "org/small", "org/saes@v2:L3_k8");
    let as_if_local = fetched.replace("org/saes@v2:L3_k8", path.to_str().unwrap()).replace("saes@v2:L3_k8", "L3_k8");
    assert_eq!(as_if_local, local);
    assert!(!world.repo("models--org--saes").join("snapshots").join("L4_k32").exists());
    // The last request was of one SAE only.
    assert!(!world.hub.requests().iter().any(|r| r.target.contains("L4_k32")));
    assert!(stdout_of(&mut world.inspect("org/saes@v2:L4_k32")).contains("SAE, topk"));
    refused(
        &mut world.inspect("org/saes@v2"),
        &["org/saes@v2 (commit ", "models and SAEs in the repository, to be named after a `:`, are: L3_k8, L4_k32"],
    );
    let mut command = world.assay();
    command.args(["eval", "--model", "org/small", "--sae", "org/saes@v2", "--tokens", "x"]);
    refused(&mut command, &["SAEs in the repository, to be named after a `:`, are: L3_k8, L4_k32"]);
}

#[test]
fn what_is_not_there_is_named() {
    let (world, commit) = World::with_small();
    let page = format!("check the spelling at {}/org/smal", world.hub.endpoint());
    refused(&mut world.inspect("org/smal"), &["the hub has no model org/smal", "set HF_TOKEN", &page]);
    let known =
        ["org/smal is no file or directory here", "the hub has no model org/smal that your token (HF_TOKEN) may see"];
    refused(world.inspect("org/smal").env("HF_TOKEN", "mine"), &known);
    refused(&mut world.inspect("org/small@v9"), &["org/small has no revision `v9`", "/org/small/tree/main"]);
    refused(&mut world.inspect("org/small:deep"), &[&commit, "its directory deep has no config.json"]);
    world.hub.serve(
        "models",
        "org/pickled",
        "main",
        Files::from([("config.json".to_owned(), b"{}".to_vec()), ("pytorch_model.bin".to_owned(), b"x".to_vec())]),
        Access::All,
    );
    refused(&mut world.inspect("org/pickled"), &["only pytorch_model.bin, which could run code and is never read"]);
    // Neither a path nor a name.
    refused(
        &mut world.inspect("models/bundled/smal"),
        &["no such file or directory", "did you mean models/bundled/small?"],
    );
}

#[test]
fn without_a_network_it_says_what_fills_the_cache() {
    let (world, commit) = World::with_small();
    let remedy = ["`hf download org/small --revision main` where there is a network", "or give a local path"];
    let offline = |name: &str| {
        let mut command = world.inspect(name);
        command.env("HF_HUB_OFFLINE", "TRUE");
        command
    };
    refused(&mut offline("org/small"), &[remedy[0], remedy[1], "HF_HUB_OFFLINE is set (unset it"]);
    assert!(world.hub.requests().is_empty());
    stdout_of(&mut world.inspect("org/small"));
    refused(&mut offline("org/small@v1:a"), &["`hf download org/small --revision v1 --include 'a*'`"]);
    // A file that was cut short later.
    std::fs::OpenOptions::new().write(true).open(world.blob(WEIGHTS)).unwrap().set_len(1000).unwrap();
    let damage = format!("{WEIGHTS} is damaged: 1000 of {} bytes", weights_size());
    refused(&mut offline("org/small"), &[&damage, remedy[0]]);
    world.hub.requests();
    stdout_of(&mut world.inspect("org/small"));
    assert_eq!(of_weights(&world.hub.requests()), [(None, weights_size())]);
    world.assert_whole(&commit);
    // A hub that can't be reached, and nothing in the cache.
    world.hub.stop();
    let unreachable = format!("{} can't be reached", world.hub.endpoint());
    refused(&mut world.inspect("org/other"), &[&unreachable, "`hf download org/other --revision main`"]);
}

#[test]
fn a_file_of_another_size_is_refused() {
    let (world, _) = World::with_small();
    world.hub.fail(WEIGHTS, &[Fault::Short]);
    let short = format!("it has {} bytes, expected {}", weights_size() - 1, weights_size());
    refused(&mut world.inspect("org/small"), &["model.safetensors is not what the hub's list says", &short]);
    assert!(!world.blob(WEIGHTS).exists());
    stdout_of(&mut world.inspect("org/small"));
}

#[test]
fn a_file_that_was_damaged_on_its_way_is_refused() {
    let (world, commit) = World::with_small();
    // In the order in which they are fetched.
    for name in ["config.json", WEIGHTS] {
        world.hub.fail(name, &[Fault::Wrong]);
        let what = format!("{name} is not what the hub's list says");
        refused(&mut world.inspect("org/small"), &[&what, "its hash is", "expected"]);
    }
    assert!(!world.blob(WEIGHTS).exists() && !world.part(WEIGHTS).exists());
    stdout_of(&mut world.inspect("org/small"));
    world.assert_whole(&commit);
}

/// The spec of a small sweep whose model and dataset are on the hub, and what to change to have them here.
fn write_hub_spec(dir: &Path) -> PathBuf {
    let spec = write_spec(dir, &[("rows = \"split\"\ncontext_size = 64", "rows = \"first\"\ncontext_size = 32")]);
    let text = std::fs::read_to_string(&spec).unwrap();
    let text = text
        .replace(&format!("path = '{}'", bundled("small").display()), "hub = 'org/small'")
        .replace(&format!("train = '{}'", bundled("train.parquet").display()), "dataset = 'org/tokens@v1:data'")
        .replace(&format!("eval = '{}'\n", bundled("eval.parquet").display()), "");
    std::fs::write(&spec, text).unwrap();
    spec
}

#[test]
fn a_sweep_takes_model_and_dataset_from_the_hub() {
    let (world, model) = World::with_small();
    let train = std::fs::read(bundled("train.parquet")).unwrap();
    let dataset = Files::from([
        ("README.md".to_owned(), b"tokens".to_vec()),
        ("data/train-00000-of-00001.parquet".to_owned(), train),
        ("data/more/x.txt".to_owned(), b"not tokens".to_vec()),
    ]);
    let dataset = world.hub.serve("datasets", "org/tokens", "v1", dataset, Access::All);
    let dir = tempfile::tempdir().unwrap();
    let spec = write_hub_spec(dir.path());
    let sweep = |out: &str| {
        let mut command = world.assay();
        command.arg("sweep").arg(&spec).args(["--set", "training_tokens=[10240]", "--out"]).arg(dir.path().join(out));
        command
    };
    // What there is to download, without downloading it.
    let plan = stdout_of(sweep("online").arg("--dry-run"));
    assert!(plan.contains(&format!("to download: org/small@main, commit {model}: 3 files, ")), "{plan}");
    assert!(plan.contains(&format!("to download: org/tokens@v1:data, commit {dataset}: 1 files, ")), "{plan}");
    assert!(world.hub.requests().iter().all(|r| r.target.starts_with("/api/")));

    stdout_of(&mut sweep("online"));
    let recorded = std::fs::read_to_string(dir.path().join("online/sweep.toml")).unwrap();
    assert!(recorded.contains(&format!("\"org/small@{model}\"")), "{recorded}");
    assert!(recorded.contains(&format!("\"org/tokens@{dataset}:data\"")), "{recorded}");
    assert!(stdout_of(sweep("online").arg("--dry-run")).contains("2 runs, 0 to do"));

    // The same without a network, and from local files.
    world.hub.requests();
    world.hub.stop();
    stdout_of(sweep("offline").env("HF_HUB_OFFLINE", "1"));
    let text = std::fs::read_to_string(&spec).unwrap();
    let text = text
        .replace("hub = 'org/small'", &format!("path = '{}'", bundled("small").display()))
        .replace("dataset = 'org/tokens@v1:data'", &format!("train = '{}'", bundled("train.parquet").display()));
    std::fs::write(&spec, text).unwrap();
    stdout_of(&mut sweep("local"));
    for name in ["runs.parquet", "sequences.parquet", "tables/everything.md"] {
        let read = |out: &str| std::fs::read(dir.path().join(out).join(name)).unwrap();
        assert!(read("online") == read("offline"), "{name} differs offline");
        assert!(read("online") == read("local"), "{name} differs from that of local files");
    }
}

#[test]
fn a_spec_with_a_bad_name_is_refused_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let spec = write_hub_spec(dir.path());
    let sweep = |change: &str| {
        let mut command = assay();
        command.arg("sweep").arg(&spec).args(["--dry-run", "--set", change]);
        command
    };
    refused(
        &mut sweep("models.small.hub=small"),
        &["[[models]] small", "`small` is no name on the hub", "org/name[@revision][:path]"],
    );
    refused(&mut sweep("tokens.revision=v2"), &["[tokens] dataset", "its revision is given twice"]);
}

/// The names that `sweeps/fast2.toml` gives, served from the bundled files.
fn pythia() -> World {
    let world = World::new();
    for (repo, name) in [("EleutherAI/pythia-70m", "small"), ("EleutherAI/pythia-410m", "medium")] {
        world.hub.serve("models", repo, "main", files_of(&bundled(name)), Access::All);
    }
    let train = std::fs::read(bundled("train.parquet")).unwrap();
    let dataset = Files::from([("data/train-00000-of-00001.parquet".to_owned(), train)]);
    world.hub.serve("datasets", "NeelNanda/pile-small-tokenized-2b", "main", dataset, Access::All);
    world
}

/// `sweeps/fast2.toml` as it is, in sizes that fit the bundled models; minutes, so only when asked for.
#[test]
#[ignore = "takes minutes; cargo test --release fast2_runs_from_the_hub -- --ignored --nocapture"]
fn fast2_runs_from_the_hub() {
    let world = pythia();
    let dir = tempfile::tempdir().unwrap();
    let sweep = |out: &str| {
        let mut command = world.assay();
        command.arg("sweep").arg(root().join("sweeps/fast2.toml")).arg("--out").arg(dir.path().join(out));
        for change in [
            "k=[8, 32]",
            "training_tokens=[65536]",
            "train.expansion=8",
            "train.batch_size=1024",
            "train.buffer_tokens=16384",
            "eval.sequences=8",
            "eval.resamples=500",
            "information.tokens=16384",
            "information.widths=[4]",
            "information.steps=20",
            "models.pythia-410m.layers={ early = 1, mid = 4, late = 7 }",
        ] {
            command.args(["--set", change]);
        }
        command
    };
    println!("{}", stdout_of(sweep("online").arg("--dry-run")));
    let started = Instant::now();
    stdout_of(&mut sweep("online"));
    println!("online: {:.1} s, {} requests", started.elapsed().as_secs_f64(), world.hub.requests().len());
    world.hub.stop();
    let started = Instant::now();
    stdout_of(sweep("offline").env("HF_HUB_OFFLINE", "1"));
    println!("offline, the server gone: {:.1} s", started.elapsed().as_secs_f64());
    for name in ["runs.parquet", "sequences.parquet", "information.parquet", "tables/everything.md", "sweep.toml"] {
        let read = |out: &str| std::fs::read(dir.path().join(out).join(name)).unwrap();
        assert!(read("online") == read("offline"), "{name} differs");
        println!("{name}: {} bytes, the same", read("online").len());
    }
    for name in ["sweep.toml", "tables/grid.md"] {
        println!("{}", std::fs::read_to_string(dir.path().join("offline").join(name)).unwrap());
    }
}

/// For other tools to be tried on: `tests/interop/README.md`.
#[test]
#[ignore = "serves until it is killed; cargo test --release serves_until_it_is_killed -- --ignored --nocapture"]
fn serves_until_it_is_killed() {
    let world = pythia();
    println!("HF_ENDPOINT={}", world.hub.endpoint());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        for request in world.hub.requests() {
            println!("{request:?}");
        }
    }
}

/// A repository of GGUF files, as there are thousands: one of them is a model, once it is named.
#[test]
fn a_gguf_file_is_fetched_alone() {
    let world = World::new();
    let local = |family: &str| golden("gguf/families").join(family).with_extension("gguf");
    let models = [("tiny.Q8_0.gguf", local("gemma2"), "Gemma 2"), ("deep/tiny.F32.gguf", local("gpt2"), "GPT-2")];
    let mut files = Files::from([("README.md".to_owned(), b"#".to_vec())]);
    files.extend(models.iter().map(|(name, local, _)| ((*name).to_owned(), std::fs::read(local).unwrap())));
    let commit = world.hub.serve("models", "org/tiny-GGUF", "main", files, Access::All);
    for (name, local, family) in &models {
        // All but the notes, which name the file.
        let table = |command: &mut Command| stdout_of(command).split("Note").next().unwrap_or_default().to_owned();
        let shown = table(assay().arg("inspect").arg(local));
        assert!(shown.contains(&format!("model, {family}, in GGUF")), "{shown}");
        world.hub.requests();
        assert_eq!(table(&mut world.inspect(&format!("org/tiny-GGUF:{name}"))), shown);
        let requests = world.hub.requests();
        let fetched: Vec<&Request> =
            requests.iter().filter(|r| r.target.contains("/resolve/") && !r.elsewhere).collect();
        assert!(fetched.len() == 1 && fetched[0].target.ends_with(name), "{requests:?}");
    }
    // From the cache, without a network.
    let mut offline = world.inspect(&format!("org/tiny-GGUF@{commit}:tiny.Q8_0.gguf"));
    stdout_of(offline.env("HF_HUB_OFFLINE", "1"));
    let mut geometry = world.assay();
    geometry.args(["geometry", "--model", "org/tiny-GGUF", "--tokens", "x"]);
    refused(&mut geometry, &["no config.json, but models in GGUF", "after a `:`: tiny.Q8_0.gguf"]);
    refused(
        &mut world.inspect("org/tiny-GGUF:other.gguf"),
        &["no file other.gguf", "deep/tiny.F32.gguf, tiny.Q8_0.gguf"],
    );
}

/// The weights of a model that can't be read are not downloaded to find that out.
#[test]
fn a_model_of_another_family_is_refused_before_its_weights_are_fetched() {
    let world = World::new();
    let mut files = files_of(&bundled("small"));
    files.insert(
        "config.json".into(),
        br#"{"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}"#.to_vec(),
    );
    let commit = world.hub.serve("models", "org/mixtral", "main", files, Access::All);
    refused(&mut world.inspect("org/mixtral"), &["org/mixtral", "`mixtral`", "gpt_neox", "not downloaded"]);
    let requests = world.hub.requests();
    assert!(requests.iter().any(|r| r.target.contains("config.json")) && of_weights(&requests).is_empty());
    // Nor is anybody sent to fetch them, where the configuration is in the cache.
    let mut offline = world.inspect(&format!("org/mixtral@{commit}"));
    refused(offline.env("HF_HUB_OFFLINE", "1"), &["`mixtral`", "not downloaded"]);
}
