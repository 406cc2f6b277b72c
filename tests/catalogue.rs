//! Published SAEs: listed, fetched by the names of the catalogue from a hub on loopback, and used as is known of their repositories.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assay::catalogue::assumptions::{self, Assumed, Given};
use assay_sae::{LoadedSae, Normalization, formats};
use assert_cmd::Command;
use burn::tensor::Tensor;
use serde_json::Value;

use crate::common::hub_server::{Access, Fault, Files, Request, files_of};
use crate::common::{
    Reference, assay, assert_close, bundled, copy_dir, cpu, edit_tensors, golden, refused, stdout_of, values,
};
use crate::hub::{FOREIGN, World};

fn saes(args: &[&str]) -> String {
    stdout_of(assay().arg("saes").args(args))
}

#[test]
fn saes_are_listed() {
    insta::assert_snapshot!("saes_of_gpt2", saes(&["--model", "gpt2", "--hook", "resid_pre", "--layer", "8"]));
    insta::assert_snapshot!(
        "saes_of_a_layer",
        saes(&["--model", "google/gemma-2-2b", "--layer", "12", "--hook", "mlp_out"])
    );
    insta::assert_snapshot!("releases_of_gemma_3_1b", saes(&["--model", "gemma-3-1b-pt"]));
    insta::assert_snapshot!("saes_that_are_pickled", saes(&["goodfire"]));
    let all = saes(&[]);
    assert_eq!(all.lines().filter(|line| line.starts_with("| ")).count(), 170 + 7 + 4, "{all}");
    assert!(all.contains("13857 SAEs in 170 releases"), "{all}");
    // Where there are many, they are listed one by one only when that is asked for.
    let count = |args: &[&str]| saes(args).lines().filter(|line| line.contains("average_l0_")).count();
    assert_eq!((count(&["gemma-scope-2b-pt-res"]), count(&["gemma-scope-2b-pt-res", "--ids"])), (0, 316));
    assert_eq!(count(&["gemma-scope-2b-pt-res/layer_12/*", "--ids"]), count(&["gemma-scope-2b-pt-res/layer_12/"]));
}

#[test]
fn programs_read_the_list_as_json() {
    let found: Value = serde_json::from_str(&saes(&["gpt2-small-hook-z-kk", "--layer", "3", "--json"])).unwrap();
    let [release] = found["releases"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&release["model"], &release["pickled"]), (&"openai-community/gpt2".into(), &true.into()));
    let [sae] = release["saes"].as_array().unwrap().as_slice() else { panic!("{release}") };
    assert_eq!(sae["name"], "gpt2-small-hook-z-kk/blocks.3.hook_z");
    assert_eq!((&sae["hook"], &sae["hook_out"]), (&"blocks.3.attn.hook_z".into(), &Value::Null));
    assert!(found["source"].as_str().unwrap().contains("sae-lens 6.54.12"));
}

#[test]
fn what_is_not_in_the_list_gets_what_is_close() {
    let of = |args: &[&str], parts: &[&str]| refused(assay().arg("saes").args(args), parts);
    of(&["--model", "gema-2-2b"], &["--model gema-2-2b: no SAE of such a model is known; did you mean gemma-2-2b?"]);
    of(&["--hook", "resid_past"], &["--hook resid_past: no SAE reads it", "hook_resid_post"]);
    of(&["gpt2-small-res-jbb"], &["no SAE has `gpt2-small-res-jbb` in its name", "did you mean gpt2-small-res-jb"]);
    of(
        &["--model", "gemma-2-2b", "--layer", "99"],
        &["--layer 99: the known SAEs of gemma-2-2b are of layers 0 to 25"],
    );
    of(&["--model", "gpt2", "--hook", "hook_embed"], &["no SAE fits --model gpt2, --hook hook_embed together"]);
}

/// As without anything on the command line.
fn complete(loaded: &mut LoadedSae) -> Assumed {
    assumptions::complete(loaded, &Given::default()).unwrap()
}

const JB: &str = "jbloom/GPT2-Small-SAEs-Reformatted";

/// A hub with a model and an SAE of it under the names of the catalogue.
fn world() -> World {
    let world = World::new();
    world.hub.serve("models", "openai-community/gpt2", "main", files_of(&bundled("small")), Access::All);
    let mut files = Files::from([("README.md".to_owned(), b"#".to_vec())]);
    for id in ["blocks.3.hook_resid_pre", "blocks.4.hook_resid_pre"] {
        let sae = files_of(&golden("eval-small/L3_k8")).into_iter();
        files.extend(sae.map(|(path, bytes)| (format!("{id}/{path}"), bytes)));
    }
    world.hub.serve("models", JB, "main", files, Access::All);
    world
}

/// The files that were fetched of a repository.
fn fetched(requests: &[Request], repository: &str) -> Vec<String> {
    let start = format!("/{repository}/resolve/");
    let paths = requests.iter().filter_map(|request| request.target.strip_prefix(&start)?.split_once('/'));
    paths.map(|(_, path)| path.to_owned()).collect()
}

fn evaluate(command: &mut Command, args: &[&str]) -> Value {
    command.args(["eval", "--json", "--sequences", "2", "--resamples", "100", "--fisher-samples", "0", "--tokens"]);
    command.arg(golden("eval-small/tokens.safetensors")).args(args);
    serde_json::from_str(&stdout_of(command)).unwrap()
}

#[test]
fn a_published_sae_needs_no_model_and_is_used_as_is_known() {
    let world = world();
    let name = "gpt2-small-res-jb/blocks.3.hook_resid_pre";
    let found = evaluate(&mut world.assay(), &["--sae", name]);
    let requests = world.hub.requests();
    let expected = ["cfg.json", "sae_weights.safetensors"].map(|file| format!("blocks.3.hook_resid_pre/{file}"));
    assert_eq!(fetched(&requests, JB), expected);

    // Its repository's SAEs read a stream without its mean, which the files don't say: the same as if that is asked for.
    let (sae, model) = (golden("eval-small/L3_k8"), bundled("small"));
    let local = ["--sae", sae.to_str().unwrap(), "--model", model.to_str().unwrap()];
    let numbers = |value: &Value| -> Value {
        let mut value = value.clone();
        for key in ["sae", "name", "model", "notes"] {
            value.as_object_mut().unwrap().remove(key);
        }
        value
    };
    assert_eq!((&found["sae"], &found["model"]), (&name.into(), &"gpt2".into()));
    let centred = evaluate(&mut assay(), &[&local[..], &["--center-residual"]].concat());
    assert_eq!(numbers(&found), numbers(&centred));
    let notes = found["notes"].to_string();
    let note =
        format!("the files of {JB} don't say it, and it is assumed: it was trained on activations without their mean");
    assert!(notes.contains(&note) && notes.contains("pretrained_saes.yaml"), "{notes}");
    assert!(!centred["notes"].to_string().contains("assumed"));

    // And it can be overridden, as the model can.
    let plain = evaluate(&mut world.assay(), &["--sae", name, "--center-residual=false"]);
    assert_eq!(numbers(&plain), numbers(&evaluate(&mut assay(), &local)));
    assert_ne!(numbers(&plain), numbers(&found));
    let bare = evaluate(&mut world.assay(), &["--sae", name, "--no-assumptions"]);
    assert_eq!(numbers(&bare), numbers(&plain));
    assert!(!bare["notes"].to_string().contains("assumed"));
    world.hub.requests();
    let overridden = evaluate(&mut world.assay(), &["--sae", name, "--model", model.to_str().unwrap()]);
    assert_eq!(numbers(&overridden), numbers(&found));
    assert!(fetched(&world.hub.requests(), "openai-community/gpt2").is_empty());

    // It is looked at as it is used.
    let mut inspect = world.assay();
    let shown: Value = serde_json::from_str(&stdout_of(inspect.args(["inspect", "--json", name]))).unwrap();
    assert_eq!(shown["residual_stream_centred"], true);

    // By its place on the hub it is the same SAE.
    let placed = evaluate(&mut world.assay(), &["--sae", &format!("{JB}:blocks.3.hook_resid_pre")]);
    assert_eq!(numbers(&placed), numbers(&found));
}

#[test]
fn a_local_directory_of_that_name_comes_first() {
    let world = world();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("gpt2-small-res-jb/blocks.3.hook_resid_pre");
    std::fs::create_dir_all(&place).unwrap();
    for (path, bytes) in files_of(&golden("eval-small/L4_k32")) {
        std::fs::write(place.join(path), bytes).unwrap();
    }
    let mut command = world.assay();
    command.current_dir(dir.path()).args(["inspect", "gpt2-small-res-jb/blocks.3.hook_resid_pre"]);
    assert!(stdout_of(&mut command).contains("32"));
    assert!(world.hub.requests().is_empty());
}

#[test]
fn a_name_that_leads_nowhere_says_what_is_close() {
    let world = world();
    let eval = |sae: &str| {
        let mut command = world.assay();
        command.args(["eval", "--tokens", "x", "--sae", sae]);
        command
    };
    refused(
        &mut eval("gpt2-small-res-jb/blocks.3.hook_resid_per"),
        &["did you mean gpt2-small-res-jb/blocks.3.hook_resid_pre"],
    );
    refused(&mut eval("gpt2-small-res-jb"), &["a release of 13 SAEs; name one, such as gpt2-small-res-jb/blocks.0"]);
    refused(&mut eval("gpt2-small-res-jbb/blocks.3.hook_resid_pre"), &["did you mean the release gpt2-small-res-jb?"]);
    refused(&mut eval("org/saes:a"), &["org/saes:a is not in the catalogue (`assay saes`)", "give --model"]);
    let mut inspect = world.assay();
    inspect.args(["inspect", "gemma-scope-2b-pt-ras/layer_12/width_16k/average_l0_82"]);
    refused(&mut inspect, &["did you mean the release gemma-scope-2b-pt-res?"]);
    // Nothing is downloaded of what would not be read.
    world.hub.requests();
    let kk = "gpt2-small-hook-z-kk/blocks.0.hook_z";
    let command = "hf download ckkissane/attn-saes-gpt2-small-all-layers 'gpt2-small_L0_Hcat_z";
    refused(
        &mut eval(kk),
        &[kk, "a pickle may run code", command, "_v9_cfg.json' --local-dir pickled", "scripts/convert/hook_z_kk.py"],
    );
    assert!(world.hub.requests().is_empty());
}

/// From the hub by the name of the catalogue, in every layout: only the files of that SAE are fetched, and they compute what they should.
#[test]
fn every_layout_is_fetched_by_name_and_encodes() {
    let llama = "Llama3_1-8B-Base-L3M-8x";
    for (name, sample, from, repository, path, others) in [
        (
            "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82",
            "gemma-scope",
            "layer_5/width_16k/average_l0_11",
            SCOPE,
            PLACE,
            "layer_13/width_16k/average_l0_82",
        ),
        (
            "gemma-scope-2-270m-pt-transcoders-all/layer_5_width_16k_l0_small_affine",
            "gemma-scope-2-affine-transcoder",
            "transcoder/layer_5_width_16k_l0_small_affine",
            "google/gemma-scope-2-270m-pt",
            "transcoder_all/layer_5_width_16k_l0_small_affine",
            "transcoder_all/layer_5_width_16k_l0_small",
        ),
        (
            "llama_scope_lxm_8x/l3m_8x",
            "llama-scope",
            llama,
            "fnlp/Llama3_1-8B-Base-LXM-8x",
            llama,
            "Llama3_1-8B-Base-L4M-8x",
        ),
        (
            "llama_scope_r1_distill/l3r_400m_slimpajama_400m_openr1_math",
            "llama-scope-r1",
            "400M-Slimpajama-400M-OpenR1-Math-220k/L3R",
            "fnlp/Llama-Scope-R1-Distill",
            "400M-Slimpajama-400M-OpenR1-Math-220k/L3R",
            "400M-Slimpajama-400M-OpenR1-Math-220k/L4R",
        ),
        (
            "mwhanna-qwen3-4b-transcoders/layer_4",
            "circuit-tracer-skip",
            "set",
            "mwhanna/qwen3-4b-transcoders",
            "",
            "other",
        ),
    ] {
        let world = World::new();
        let sae = files_of(&golden("formats-2").join(sample).join(from));
        let within = |dir: &str, file: &str| if dir.is_empty() { file.to_owned() } else { format!("{dir}/{file}") };
        let mut files =
            Files::from([("README.md".to_owned(), b"#".to_vec()), ("layer_5.safetensors".to_owned(), b"#".to_vec())]);
        files.extend(sae.iter().flat_map(|(file, bytes)| [path, others].map(|dir| (within(dir, file), bytes.clone()))));
        world.hub.serve("models", repository, "main", files, Access::All);
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("latents.safetensors");
        let io = golden("formats-2").join(sample).join("io.safetensors");
        let mut encode = world.assay();
        encode.args(["encode", "--dense", "--sae", name, "--out"]).arg(&out);
        stdout_of(encode.arg("--activations").arg(format!("{}:x", io.display())));
        let mut fetched = fetched(&world.hub.requests(), repository);
        fetched.sort();
        let wanted: Vec<String> = sae.keys().map(|file| within(path, file)).collect();
        assert_eq!(fetched, wanted, "{name}");
        let (found, expected) = (Reference::open(&out), Reference::open(&io));
        for (ours, reference) in [("latents", "latents"), ("reconstruction", "recon")] {
            assert_close(&format!("{name} {ours}"), &found.floats(ours).0, &expected.floats(reference).0, 1e-5);
        }
        // What the catalogue says of hooks is what the files say.
        let listed: Value = serde_json::from_str(&saes(&["--json", "--ids", &name[..name.len() - 1]])).unwrap();
        let listed =
            listed["releases"].as_array().unwrap().iter().flat_map(|of| of["saes"].as_array().unwrap().clone());
        let listed = listed.into_iter().find(|sae| sae["name"] == name).unwrap();
        let shown = stdout_of(world.assay().args(["inspect", "--json", name]));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["hook"], listed["hook"], "{name}");
    }
}

const SCOPE: &str = "google/gemma-scope-2b-pt-res";
const PLACE: &str = "layer_12/width_16k/average_l0_82";

/// The largest files have tens of gigabytes: they are never whole in memory, and what was fetched is not fetched again.
#[test]
#[cfg(target_os = "linux")]
fn a_large_file_is_streamed_and_resumed() {
    const SIZE: usize = 160 << 20;
    let world = World::new();
    let large: Vec<u8> = (0..SIZE).map(|at| (at / 4096) as u8).collect();
    let other = |name: &str| (format!("layer_12/width_16k/{name}/params.npz"), b"other".to_vec());
    let files = Files::from([other("average_l0_22"), other("average_l0_821"), (format!("{PLACE}/params.npz"), large)]);
    world.hub.serve("models", SCOPE, "main", files, Access::All);
    let stall = SIZE - 1000;
    world.hub.fail(&format!("{PLACE}/params.npz"), &[Fault::Stall(stall)]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_assay"));
    command.args(["--quiet", "inspect", &format!("gemma-scope-2b-pt-res/{PLACE}")]).envs(world.variables());
    for name in FOREIGN {
        command.env_remove(name);
    }
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let part = || -> u64 {
        let blobs = std::fs::read_dir(world.repo("models--google--gemma-scope-2b-pt-res").join("blobs"));
        blobs.into_iter().flatten().flatten().map(|entry| entry.metadata().unwrap().len()).max().unwrap_or(0)
    };
    let started = Instant::now();
    while part() < stall as u64 {
        assert!(started.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(), "{}", part());
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak << 10 < SIZE / 2, "{peak} kB of memory for a file of {} kB", SIZE >> 10);

    // It can't be read, being no archive, but it is there, and the rest of it was fetched alone.
    let _ = world.hub.requests();
    let output = world.assay().args(["inspect", &format!("gemma-scope-2b-pt-res/{PLACE}")]).output().unwrap();
    let requests = world.hub.requests();
    assert_eq!(fetched(&requests, SCOPE), [format!("{PLACE}/params.npz")], "{output:?}");
    let ranges: Vec<_> = requests.iter().filter(|r| r.elsewhere).map(|r| (r.range.clone(), r.sent)).collect();
    assert_eq!(ranges, [(Some(format!("bytes={stall}-")), 1000)]);
    assert_eq!(part(), SIZE as u64);
}

/// An SAE as if it had been read from a place in the hub's cache.
fn cached(repository: &str, path: &str, sae: &Path) -> LoadedSae {
    let folder = format!("models--{}", repository.replace('/', "--"));
    let snapshot = PathBuf::from("/cache").join(folder).join("snapshots/0123456789abcdef0123456789abcdef01234567");
    LoadedSae { dir: snapshot.join(path), ..formats::load(sae, &cpu()).unwrap() }
}

#[test]
fn what_files_do_not_say_is_completed_and_said() {
    let sae = golden("eval-small/L3_k8");
    // Of a place that is not in the cache nothing is assumed.
    let mut local = formats::load(&sae, &cpu()).unwrap();
    let (notes, metadata) = (local.notes.clone(), local.metadata.clone());
    assert_eq!(complete(&mut local), Assumed::default());
    assert_eq!((local.notes, local.metadata), (notes, metadata));

    let mut mistral = cached("JoshEngels/Mistral-7B-Residual-Stream-SAEs", "mistral_7b_layer_8", &sae);
    complete(&mut mistral);
    assert_eq!(mistral.sae.normalization(), Normalization::ConstantNorm);
    assert!(mistral.notes.last().unwrap().contains("normalised by constant_norm_rescale"), "{:?}", mistral.notes);

    let mut z = cached("ckkissane/attn-saes-gpt2-small-all-layers", "", &sae);
    assert!(complete(&mut z).without_value_bias && z.metadata.context_size == Some(128) && !z.metadata.center_residual);
    // Converted from a pickle it lies elsewhere, and says from where.
    let mut converted = formats::load(&sae, &cpu()).unwrap();
    converted.metadata.other.insert("repository".to_owned(), "ckkissane/attn-saes-gpt2-small-all-layers".into());
    assert!(complete(&mut converted).without_value_bias);

    let mut scope = cached(SCOPE, PLACE, &sae);
    // What files say stays.
    scope.metadata.context_size = Some(7);
    complete(&mut scope);
    assert_eq!((scope.metadata.context_size, scope.metadata.prepend_bos), (Some(7), Some(true)));
    let mut ajt = cached("neuronpedia/gpt2-small__res_slefr-ajt", "2-res_slefr-ajt", &sae);
    ajt.metadata.hook_name = None;
    complete(&mut ajt);
    assert!(ajt.metadata.center_residual && ajt.metadata.hook_name.as_deref() == Some("blocks.2.hook_resid_pre"));
}

/// The factor of `expected_average_only_in`, where only the registry has it: s·x is encoded, and the reconstruction divided by s.
#[test]
fn inputs_are_scaled_by_the_registrys_factor() {
    let (repository, path) = ("tommmcgrath/gpt2-small-mlp-out-saes", "sae_group_gpt2_blocks.1.hook_mlp_out_24576:v0");
    let factor = 2.369_398_400_510_428_3;
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files_of(&golden("eval-small/L3_k8")) {
        let text = String::from_utf8_lossy(&bytes);
        let old = "\"normalize_activations\": \"none\"";
        let scaled =
            text.contains(old).then(|| text.replace(old, "\"normalize_activations\": \"expected_average_only_in\""));
        std::fs::write(dir.path().join(name), scaled.map_or(bytes, String::into_bytes)).unwrap();
    }
    let mut scaled = cached(repository, path, dir.path());
    assert!(scaled.lacks_input_scale() && scaled.notes.iter().any(|note| note.contains("nothing is scaled")));
    complete(&mut scaled);
    assert!(!scaled.lacks_input_scale() && scaled.metadata.center_residual);
    let note = scaled.notes.last().unwrap();
    assert!(note.contains("2.3693984005104283") && note.contains("norm_scaling_factor"), "{note}");

    let plain = formats::load(&golden("eval-small/L3_k8"), &cpu()).unwrap().sae;
    let x: Vec<f32> = (0..4 * 128).map(|at| ((at * 37 % 101) as f32 - 50.0) / 40.0).collect();
    let x = Tensor::<1>::from_floats(x.as_slice(), &cpu()).reshape([4, 128]);
    let expected = plain.reconstruct(x.clone() * factor).0 / factor;
    assert_close("reconstruction", &values(scaled.sae.reconstruct(x).0), &values(expected), 1e-6);
    // Where the factor is in the weights already, it is not applied again.
    let mut folded = cached(repository, path, &golden("eval-small/L3_k8"));
    complete(&mut folded);
    assert!(!folded.notes.iter().any(|note| note.contains("factor")), "{:?}", folded.notes);
}

/// Norms that are in the weights are used; where they are not, the registry's factor √d/norm gives the same SAE.
#[test]
fn llama_scope_r1s_norms_are_those_of_its_files_or_else_the_registrys() {
    let (repository, path) = ("fnlp/Llama-Scope-R1-Distill", "800M-Slimpajama-0-OpenR1-Math-220k/L0R");
    let factor = 53.529_954_019_974_36_f64;
    let dir = tempfile::tempdir().unwrap();
    let norm = "dataset_average_activation_norm.blocks.3.hook_resid_post";
    let copy = |name: &str, norm_of: Option<f32>| {
        let to = dir.path().join(name);
        copy_dir(&golden("formats-2/llama-scope-r1/400M-Slimpajama-400M-OpenR1-Math-220k/L3R"), &to);
        edit_tensors(&to.join("sae_weights.safetensors"), |tensors| match norm_of {
            Some(value) => tensors.get_mut(norm).unwrap().2 = value.to_le_bytes().to_vec(),
            None => _ = tensors.remove(norm).unwrap(),
        });
        let mut loaded = cached(repository, path, &to);
        assert_eq!(loaded.lacks_input_scale(), norm_of.is_none());
        complete(&mut loaded);
        loaded
    };
    let [stored, known] = [copy("stored", Some((20_f64.sqrt() / factor) as f32)), copy("known", None)];
    assert!(stored.notes.iter().all(|note| !note.contains("factor of the inputs")), "{:?}", stored.notes);
    assert!(known.notes.last().unwrap().contains("53.52995401997436"), "{:?}", known.notes);
    let x: Vec<f32> = (0..4 * 20).map(|at| ((at * 37 % 101) as f32 - 50.0) / 3000.0).collect();
    let x = Tensor::<1>::from_floats(x.as_slice(), &cpu()).reshape([4, 20]);
    let [(stored, latents), (known, others)] = [stored, known].map(|loaded| {
        let (reconstruction, code) = loaded.sae.reconstruct(x.clone());
        let mut active = Vec::new();
        code.for_each_active(|token, latent, _| active.push((token, latent)));
        (values(reconstruction), active)
    });
    assert_close("reconstruction", &stored, &known, 1e-5);
    assert!(latents == others && !latents.is_empty());
}

/// Whatever the table assumes, a user can say otherwise, and the notes say what was assumed, what was given, and in whose place.
#[test]
fn every_assumption_can_be_overridden() {
    let sae = golden("eval-small/L3_k8");
    let note = |loaded: &LoadedSae, begins: &str| -> String {
        let found = loaded.notes.iter().find(|note| note.starts_with(begins));
        found.unwrap_or_else(|| panic!("{:?}", loaded.notes)).clone()
    };
    let (given, assumed) = ("given on the command line: ", "the files of");
    let says =
        |note: &str, parts: &[&str]| parts.iter().for_each(|part| assert!(note.contains(part), "{part}: {note}"));

    let mistral = || cached("JoshEngels/Mistral-7B-Residual-Stream-SAEs", "mistral_7b_layer_8", &sae);
    let mut found = mistral();
    assumptions::complete(&mut found, &Given { normalization: Some(Normalization::None), ..Given::default() }).unwrap();
    assert_eq!(found.sae.normalization(), Normalization::None);
    says(
        &note(&found, given),
        &["not normalised (assumed otherwise: its inputs are normalised by constant_norm_rescale)"],
    );
    assert!(found.notes.iter().all(|note| !note.starts_with(assumed)));
    let mut left = mistral();
    assumptions::complete(&mut left, &Given { no_assumptions: true, ..Given::default() }).unwrap();
    assert_eq!(left.sae.normalization(), Normalization::None);
    says(&note(&left, "--no-assumptions leaves out"), &["JoshEngels", "constant_norm_rescale"]);

    let mut z = cached("ckkissane/attn-saes-gpt2-small-all-layers", "", &sae);
    z.metadata.prepend_bos = Some(true);
    let said = Given {
        without_value_bias: Some(false),
        context_size: Some(64),
        prepend_bos: Some(false),
        center_residual: Some(true),
        ..Given::default()
    };
    assert!(!assumptions::complete(&mut z, &said).unwrap().without_value_bias);
    let metadata = &z.metadata;
    assert_eq!((metadata.context_size, metadata.prepend_bos, metadata.center_residual), (Some(64), Some(false), true));
    let parts = [
        "with the values' bias b_V (assumed otherwise",
        "contexts of 64 tokens (",
        "did not begin with BOS (its files say: contexts began with BOS)",
        "without their mean over d_model",
    ];
    says(&note(&z, given), &parts);

    // One is overridden, the others are still assumed.
    let mut scope = cached(SCOPE, PLACE, &sae);
    scope.metadata.context_size = None;
    assumptions::complete(&mut scope, &Given { context_size: Some(7), ..Given::default() }).unwrap();
    says(&note(&scope, assumed), &["contexts began with BOS. Source"]);
    assert_eq!(scope.metadata.context_size, Some(7));

    // A factor is that of the inputs; for what can't have one it is refused.
    let scaled = Given { input_scale: Some(2.0), ..Given::default() };
    let mut local = formats::load(&sae, &cpu()).unwrap();
    let plain = local.sae.clone();
    assumptions::complete(&mut local, &scaled).unwrap();
    says(&note(&local, given), &["its inputs were multiplied by 2"]);
    let x = Tensor::<2>::ones([2, plain.d_in()], &cpu()) * 0.3;
    let expected = plain.reconstruct(x.clone() * 2.0).0 / 2.0;
    assert_close("reconstruction", &values(local.sae.reconstruct(x).0), &values(expected), 1e-6);
    for (sample, part) in
        [("saelens-transcoder/sae", "is a transcoder"), ("saelens-matching-pursuit/sae", "encoder of")]
    {
        let mut loaded = formats::load(&golden("formats-2").join(sample), &cpu()).unwrap();
        let error = assumptions::complete(&mut loaded, &scaled).unwrap_err().to_string();
        assert!(error.starts_with("--input-scale: ") && error.contains(part), "{error}");
    }
    let both = Given { normalization: Some(Normalization::LayerNorm), ..scaled };
    let error = assumptions::complete(&mut mistral(), &both).unwrap_err().to_string();
    assert!(error.contains("layer_norm") && error.contains("--normalization none"), "{error}");
}

#[test]
fn what_is_given_reaches_every_command_that_uses_an_sae() {
    let (sae, dir) = (golden("eval-small/L3_k8"), tempfile::tempdir().unwrap());
    let x = golden("formats-2/gemma-scope/io.safetensors");
    for (option, value, parts) in [
        ("--input-scale", "0", ["--input-scale", "give a positive number"]),
        ("--input-scale", "nan", ["--input-scale", "give a positive number"]),
        ("--normalization", "l2", ["--normalization", "constant_norm_rescale"]),
        ("--trained-context-size", "0", ["--trained-context-size", "give 1 or more"]),
        ("--trained-bos", "maybe", ["--trained-bos", "yes"]),
    ] {
        let mut encode = assay();
        encode.args(["encode", "--out", "x", "--activations", "y", option, value, "--sae"]).arg(&sae);
        let output = encode.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        // Nothing is read before.
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let mut eval = assay();
    let args = [
        "eval",
        "--json",
        "--resamples",
        "100",
        "--fisher-samples",
        "0",
        "--sequences",
        "2",
        "--text",
        "LICENSE-APACHE",
    ];
    eval.args(args).args(["--trained-context-size", "64", "--trained-bos", "yes", "--context-size", "64", "--model"]);
    let found: Value = serde_json::from_str(&stdout_of(eval.arg(bundled("small")).arg("--sae").arg(&sae))).unwrap();
    let notes = found["notes"].to_string();
    assert!(notes.contains("given on the command line: it was trained on contexts of 64 tokens"), "{notes}");
    assert!(!notes.contains("is evaluated on contexts of 64"), "{notes}");

    let out = dir.path().join("scaled");
    let mut convert = assay();
    convert.arg("convert").arg(&sae).arg(&out).args(["--to", "saelens", "--input-scale", "2"]);
    assert!(stdout_of(&mut convert).contains("its inputs were multiplied by 2"));
    let (written, plain) = (formats::load(&out, &cpu()).unwrap().sae, formats::load(&sae, &cpu()).unwrap().sae);
    let ([found, _], [expected, _]) = (written.weights(), plain.weights());
    assert_eq!(values(found), values(expected * 2.0));

    let mut encode = assay();
    encode.args(["encode", "--normalization", "layer_norm", "--json", "--activations"]);
    encode.arg(format!("{}:x", x.display())).arg("--out").arg(dir.path().join("latents.safetensors"));
    let gemma = golden("formats-2/gemma-scope/layer_5/width_16k/average_l0_11");
    let report = stdout_of(encode.arg("--sae").arg(gemma));
    assert!(report.contains("given on the command line: its inputs are normalised by layer_norm"), "{report}");
}
