//! Shared by the integration tests.

pub mod browser;
pub mod hub_server;
pub mod synthetic;

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use assay_sae::Sae;
use assert_cmd::Command;
use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn golden(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

pub fn bundled(name: &str) -> PathBuf {
    root().join("models/bundled").join(name)
}

/// A real language model's file, where `scripts/fetch-models.sh` puts it. Without it a test is skipped, and says so.
pub fn real_model(file: &str) -> Option<PathBuf> {
    let cache = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/assay/models"));
    let dir = std::env::var_os("ASSAY_REAL_MODELS").map(PathBuf::from).or_else(cache);
    let found = dir.map(|dir| dir.join(file)).filter(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("{file} is not there; scripts/fetch-models.sh fetches it"));
    }
    found
}

/// The text of the GPL, version 3, as Debian ships it.
pub fn gpl() -> Option<String> {
    let found = std::fs::read_to_string("/usr/share/common-licenses/GPL-3").ok().filter(|text| text.len() == 35_149);
    if found.is_none() {
        skipped("this system has no /usr/share/common-licenses/GPL-3 of 35,149 bytes");
    }
    found
}

/// Says that a test is skipped, and why; also in the file that `ASSAY_SKIPPED` names, since what a test that passes says is not shown.
#[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {test}: {why}");
    if let Some(list) = std::env::var_os("ASSAY_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        std::io::Write::write_all(&mut list, format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}

pub fn cpu() -> Device {
    Device::flex()
}

/// The device that parity is tested on: the CPU, or the one that ASSAY_TEST_DEVICE names.
pub fn device() -> Device {
    let name = std::env::var("ASSAY_TEST_DEVICE");
    assay::device::open(name.as_deref().unwrap_or("cpu")).unwrap().device
}

/// A safetensors file of reference values.
pub struct Reference(Vec<u8>);

impl Reference {
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    pub fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(str::to_owned).collect()
    }

    pub fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (values, tensor.shape().to_vec())
    }

    pub fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (values, shape) = self.floats(name);
        let shape: [usize; D] = shape.try_into().unwrap_or_else(|s| panic!("{name} has shape {s:?}"));
        Tensor::from_data(TensorData::new(values, shape), &device())
    }

    pub fn integers(&self, name: &str) -> Vec<i64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).unwrap().data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn tokens(&self, name: &str) -> Array2<u32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let values: Vec<u32> =
            tensor.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect();
        Array2::from_shape_vec((tensor.shape()[0], tensor.shape()[1]), values).unwrap()
    }
}

pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().unwrap()
}

/// An SAE's latents for `x`, dense `[batch, d_sae]`.
pub fn dense(sae: &Sae, x: Tensor<2>) -> Vec<f32> {
    let mut out = vec![0.0; x.dims()[0] * sae.d_sae()];
    sae.encode(x).for_each_active(|token, latent, value| out[token * sae.d_sae() + latent] = value);
    out
}

/// ‖a − b‖ / ‖b‖ in f64.
pub fn rel_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |it: &mut dyn Iterator<Item = f64>| it.map(|v| v * v).sum::<f64>().sqrt();
    let diff = norm(&mut a.iter().zip(b).map(|(&x, &y)| f64::from(x) - f64::from(y)));
    diff / norm(&mut b.iter().map(|&y| f64::from(y)))
}

#[track_caller]
pub fn assert_close(what: &str, ours: &[f32], reference: &[f32], tolerance: f64) {
    let error = rel_error(ours, reference);
    assert!(error <= tolerance, "{what}: relative error {error:.3e} exceeds {tolerance:e}");
}

/// `assay`, without progress.
pub fn assay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    // Help is as wide as the terminal, if somebody's environment says how wide that is.
    // On the CPU, where results are the same bit for bit, also in a build that would choose another device.
    command.env_remove("COLUMNS").args(["--quiet", "--device", "cpu"]);
    command
}

/// What `assay` prints when it succeeds.
#[track_caller]
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The message of an `assay` that fails as it should: exit code 1, nothing on standard output, and every one of `parts` in it.
#[track_caller]
pub fn refused(command: &mut Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: ") && output.stdout.is_empty(), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// Copies a directory and all below it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// All files below a directory, by their path in it.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Tensors of a file by name: dtype, shape, bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub fn write_tensors(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Writes arrays of numbers, each by name.
pub fn write_floats<S: AsRef<[usize]>>(path: &Path, arrays: &[(&str, Vec<f32>, S)]) {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = |(name, values, shape): &(&str, Vec<f32>, S)| {
        ((*name).to_owned(), (Dtype::F32, shape.as_ref().to_vec(), bytes(values)))
    };
    write_tensors(path, &arrays.iter().map(tensor).collect());
}

/// An array as numpy writes it to a file, in version 1.0 of its format; `shape` is Python's tuple.
pub fn npy_bytes(values: &[f32], shape: &str) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// Changes the tensors of a safetensors file.
pub fn edit_tensors(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    write_tensors(path, &tensors);
}

pub fn write_tokens(path: &Path, tokens: &Array2<i64>) {
    let bytes = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    write_tensors(path, &BTreeMap::from([("tokens".to_owned(), (Dtype::I64, tokens.shape().to_vec(), bytes))]));
}

/// Writes a sweep of two small SAEs into `dir`, with some of its text changed.
#[track_caller]
pub fn write_spec(dir: &Path, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = format!(
        r#"name = "tiny"
k = [2, 4]
training_tokens = [20480]

[[models]]
name = "small"
path = '{}'
layers = {{ mid = 3 }}

[tokens]
train = '{}'
eval = '{}'
rows = "split"
context_size = 64

[train]
expansion = 2
batch_size = 128
buffer_tokens = 2048
checkpoint_tokens = 2048
lr = 3e-3

[eval]
sequences = 4
context_size = 32
resamples = 200
"#,
        bundled("small").display(),
        bundled("train.parquet").display(),
        bundled("eval.parquet").display(),
    );
    for (from, to) in changes {
        assert!(text.contains(from), "the spec has no `{from}`");
        text = text.replacen(from, to, 1);
    }
    let path = dir.join("tiny.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// `assay sweep SPEC --out OUT`.
pub fn sweep(spec: &Path, out: &Path) -> Command {
    let mut command = assay();
    command.arg("sweep").arg(spec).arg("--out").arg(out);
    command
}

/// Starts a sweep and kills it as soon as it has saved a state.
#[track_caller]
pub fn kill_when_saved(spec: &Path, out: &Path, more: &[&str]) {
    kill_when(spec, out, more, |_| true);
}

/// Starts a sweep and kills it as soon as it has saved a state of which `reached` holds, the text of its `group.json`.
#[track_caller]
pub fn kill_when(spec: &Path, out: &Path, more: &[&str], reached: impl Fn(&str) -> bool) {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_assay"))
        .arg("sweep")
        .args([spec, Path::new("--out"), out])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let saved = || {
        let groups = std::fs::read_dir(out.join(".state")).into_iter().flatten();
        let text = |group: DirEntry| std::fs::read_to_string(group.path().join("group.json")).ok();
        groups.flatten().filter_map(text).any(|text| reached(&text))
    };
    while !saved() {
        assert!(
            started.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(),
            "no state was saved"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(saved(), "it was killed too late");
}

/// The results of a sweep on one thread, in a directory of that name that outlives the tests; `spec` writes its spec into it.
pub fn reference_sweep(name: &str, spec: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let out = dir.join("tiny");
    stdout_of(sweep(&spec(&dir), &out).args(["--threads", "1"]));
    out
}

/// A small sweep over these coders, whose SAEs are kept.
pub fn spec_of(coders: &str, dir: &Path) -> PathBuf {
    let saved = "checkpoint_tokens = 1024\nsave_saes = true";
    write_spec(dir, &[("k = [2, 4]", coders), ("[20480]", "[5120]"), ("checkpoint_tokens = 2048", saved)])
}

/// The results of a sweep that was killed and resumed, which are those of [`reference_sweep`], and the directory that they are in.
#[track_caller]
pub fn killed_and_resumed(reference: &str, spec: impl Fn(&Path) -> PathBuf) -> (tempfile::TempDir, PathBuf) {
    let whole = reference_sweep(reference, &spec);
    let dir = tempfile::tempdir().unwrap();
    let (spec, out) = (spec(dir.path()), dir.path().join("out/tiny"));
    kill_when_saved(&spec, &out, &[]);
    stdout_of(&mut sweep(&spec, &out));
    assert_same_frames(&out, &whole);
    (dir, out)
}

/// Runs a program that can write files of 4 kB at most, as on a full disk.
#[cfg(unix)]
pub fn on_a_full_disk(command: &Command) -> Command {
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    limited
}

/// That two results directories hold the same frames, tables, plots and report.
#[track_caller]
pub fn assert_same_results(out: &Path, reference: &Path) {
    assert_same_frames(out, reference);
    let (ours, reference) = (files(out), files(reference));
    let reported =
        |path: &&PathBuf| path.starts_with("tables") || path.starts_with("plots") || path.ends_with("report.md");
    for path in reference.keys().filter(reported) {
        assert!(ours[path] == reference[path], "{} differs", path.display());
    }
}

/// That two results directories hold the same frames, but for the timings: nothing else may depend on how a sweep was run.
#[track_caller]
pub fn assert_same_frames(out: &Path, reference: &Path) {
    for name in assay::frames::FILES.into_iter().filter(|name| *name != "timings.parquet") {
        assert!(
            std::fs::read(out.join(name)).unwrap() == std::fs::read(reference.join(name)).unwrap(),
            "{name} differs"
        );
    }
}
