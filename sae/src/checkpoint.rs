//! SAEs on disk: SAELens v6 directories, and the state from which training resumes exactly.
//!
//! ```text
//! cfg.json                     settings, and where the SAE belongs
//! sae_weights.safetensors      W_enc [d_in, d_sae], W_dec [d_sae, d_in], b_enc [d_sae], b_dec [d_in]
//! sparsity.safetensors         log10 of each latent's firing rate in training
//! trainer_state.safetensors    ours: parameters before folding, Adam's moments, counters
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, View, serialize};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::coder::Sae;
use crate::config::TrainConfig;
use crate::error::{Result, SaeError};
use crate::trainer::{Params, Trainer, host, host_int};

/// The version of SAELens whose format is written.
const SAE_LENS_VERSION: &str = "6.54.12";
/// TransformerLens' name for subtracting the mean over d_model from the residual stream.
const CENTER: &str = "center_writing_weights";
const WEIGHTS: &str = "sae_weights.safetensors";
const STATE: &str = "trainer_state.safetensors";

/// Where an SAE belongs; written to and read from the `metadata` of `cfg.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The model's name.
    pub model_name: Option<String>,
    /// The hook point, in TransformerLens' spelling.
    pub hook_name: Option<String>,
    /// What text it was trained on.
    pub dataset_path: Option<String>,
    /// Tokens a context.
    pub context_size: Option<usize>,
    /// Whether each context starts with an extra token.
    pub prepend_bos: Option<bool>,
    /// Whether it was trained on activations without their mean over d_model: on a model that TransformerLens
    /// processed with `center_writing_weights`, the one processing that an evaluation can repeat.
    #[serde(skip)]
    pub center_residual: bool,
}

/// Writes an SAE as a SAELens directory, replacing an older one only when all of it is on disk.
///
/// `firing_rates` are those of `sparsity.safetensors`, where there are any.
///
/// # Errors
/// If a file can't be written.
pub fn save(dir: &Path, sae: &Sae, metadata: &Metadata, firing_rates: Option<&[f64]>) -> Result<()> {
    let staging = staging_dir(dir)?;
    write_sae(&staging, sae, metadata, firing_rates)?;
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(|e| SaeError::write(dir, e))?;
    }
    std::fs::rename(&staging, dir).map_err(|e| SaeError::write(dir, e))
}

/// An empty directory beside `dir`, with a name that says it is not finished.
fn staging_dir(dir: &Path) -> Result<PathBuf> {
    let name = dir.file_name().map_or_else(|| "sae".into(), |n| n.to_string_lossy().into_owned());
    let staging = dir.with_file_name(format!(".{name}.{}.part", std::process::id()));
    if staging.exists() {
        std::fs::remove_dir_all(&staging).map_err(|e| SaeError::write(&staging, e))?;
    }
    std::fs::create_dir_all(&staging).map_err(|e| SaeError::write(&staging, e))?;
    Ok(staging)
}

fn write_sae(dir: &Path, sae: &Sae, metadata: &Metadata, firing_rates: Option<&[f64]>) -> Result<()> {
    let cfg = json!({
        "architecture": "topk",
        "d_in": sae.d_model(),
        "d_sae": sae.d_sae(),
        "k": sae.k(),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": false,
        "metadata": {
            "sae_lens_version": SAE_LENS_VERSION,
            "sae_lens_training_version": SAE_LENS_VERSION,
            "model_name": metadata.model_name,
            "hook_name": metadata.hook_name,
            "dataset_path": metadata.dataset_path,
            "context_size": metadata.context_size,
            "prepend_bos": metadata.prepend_bos.unwrap_or(false),
            "model_from_pretrained_kwargs": { CENTER: metadata.center_residual },
            "trained_with": concat!("assay ", env!("CARGO_PKG_VERSION")),
        },
    });
    let path = dir.join("cfg.json");
    let text = serde_json::to_string_pretty(&cfg).expect("a JSON value serialises");
    std::fs::write(&path, text + "\n").map_err(|e| SaeError::write(&path, e))?;
    let (d_model, d_sae) = (sae.d_model(), sae.d_sae());
    let tensors = [
        ("W_enc", Array::floats(host(sae.w_enc.clone().transpose()), &[d_model, d_sae])),
        ("W_dec", Array::floats(host(sae.w_dec.clone()), &[d_sae, d_model])),
        ("b_enc", Array::floats(host(sae.b_enc.clone()), &[d_sae])),
        ("b_dec", Array::floats(host(sae.b_dec.clone()), &[d_model])),
    ];
    write_tensors(&dir.join(WEIGHTS), tensors, None)?;
    if let Some(rates) = firing_rates {
        // SAELens adds 1e-10 before the logarithm.
        let logs = rates.iter().map(|r| (r + 1e-10).log10() as f32).collect();
        write_tensors(&dir.join("sparsity.safetensors"), [("sparsity", Array::floats(logs, &[d_sae]))], None)?;
    }
    Ok(())
}

/// Reads a TopK SAE from a SAELens v6 directory.
///
/// # Errors
/// If a file is missing or truncated, a weight is missing, misshapen or not finite, or `cfg.json` has a
/// setting that changes what the SAE computes and that is not supported.
pub fn load(dir: &Path, device: &Device) -> Result<(Sae, Metadata)> {
    let path = dir.join("cfg.json");
    let text = std::fs::read_to_string(&path).map_err(|e| SaeError::read(&path, e))?;
    let cfg: Cfg = serde_json::from_str(&text).map_err(|e| SaeError::config(&path, e.to_string()))?;
    let metadata = cfg.check(&path)?;
    let file = TensorFile::open(&dir.join(WEIGHTS))?;
    let (d_model, d_sae) = (cfg.d_in, cfg.d_sae);
    let matrix = |values: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), device);
    let vector = |values: Vec<f32>| Tensor::<1>::from_data(values.as_slice(), device);
    let w_enc = matrix(transposed(&file.floats("W_enc", &[d_model, d_sae])?, d_model, d_sae), [d_sae, d_model]);
    let w_dec = matrix(file.floats("W_dec", &[d_sae, d_model])?, [d_sae, d_model]);
    let b_enc = vector(file.floats("b_enc", &[d_sae])?);
    let b_dec = vector(file.floats("b_dec", &[d_model])?);
    let sae = Sae::new(
        [w_enc, w_dec],
        [b_enc, b_dec],
        cfg.k.unwrap_or_default(),
        cfg.apply_b_dec_to_input,
        cfg.rescale_acts_by_decoder_norm,
    );
    Ok((sae, metadata))
}

/// The keys of `cfg.json` that decide what an SAE computes; others are ignored.
#[derive(Deserialize)]
struct Cfg {
    architecture: String,
    d_in: usize,
    d_sae: usize,
    k: Option<usize>,
    #[serde(default = "yes")]
    apply_b_dec_to_input: bool,
    #[serde(default = "none")]
    normalize_activations: String,
    #[serde(default = "none")]
    reshape_activations: String,
    #[serde(default)]
    rescale_acts_by_decoder_norm: bool,
    #[serde(default)]
    model_from_pretrained_kwargs: Value,
    #[serde(default)]
    metadata: Value,
}

fn yes() -> bool {
    true
}

fn none() -> String {
    "none".to_owned()
}

impl Cfg {
    fn check(&self, path: &Path) -> Result<Metadata> {
        let refuse = |why: String| Err(SaeError::config(path, why));
        if self.architecture != "topk" {
            return refuse(format!("architecture `{}` is not supported; only `topk` is", self.architecture));
        }
        match self.k {
            None => return refuse("`k` is missing; a topk SAE has one".to_owned()),
            Some(k) if k == 0 || k > self.d_sae => {
                return refuse(format!("k is {k}; it must lie between 1 and d_sae = {}", self.d_sae));
            }
            Some(_) => {}
        }
        for (key, value) in
            [("normalize_activations", &self.normalize_activations), ("reshape_activations", &self.reshape_activations)]
        {
            if value != "none" {
                return refuse(format!("{key} = `{value}` changes what the SAE computes and is not supported"));
            }
        }
        let mut metadata: Metadata = match &self.metadata {
            Value::Null => Metadata::default(),
            value => Metadata::deserialize(value).map_err(|e| SaeError::config(path, format!("metadata: {e}")))?,
        };
        // SAELens 6 keeps them in the metadata, older versions beside it.
        let kwargs = [&self.model_from_pretrained_kwargs, &self.metadata["model_from_pretrained_kwargs"]];
        for (key, value) in kwargs.into_iter().filter_map(Value::as_object).flatten() {
            match (key.as_str(), value) {
                (_, Value::Null | Value::Bool(false)) => {}
                (CENTER, Value::Bool(true)) => metadata.center_residual = true,
                _ => {
                    return refuse(format!(
                        "model_from_pretrained_kwargs has {key} = {value}: the SAE was trained on a processed model, which is not supported"
                    ));
                }
            }
        }
        Ok(metadata)
    }
}

impl Trainer {
    /// Writes all that the training of this SAE depends on into `dir`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save_state(&self, dir: &Path) -> Result<()> {
        let (n, d) = (self.config.d_sae, self.config.d_model);
        let mut tensors = Vec::new();
        for (group, p) in [("param", &self.params), ("first", &self.first), ("second", &self.second)] {
            tensors.push((format!("{group}.w_enc"), Array::floats(host(p.w_enc.clone()), &[n, d])));
            tensors.push((format!("{group}.b_enc"), Array::floats(host(p.b_enc.clone()), &[n])));
            tensors.push((format!("{group}.w_dec"), Array::floats(host(p.w_dec.clone()), &[n, d])));
            tensors.push((format!("{group}.b_dec"), Array::floats(host(p.b_dec.clone()), &[d])));
        }
        tensors.push(("since_fired".to_owned(), Array::ints(host_int(self.since_fired.clone()))));
        tensors.push(("fires".to_owned(), Array::ints(host_int(self.fires.clone()))));
        let state = State { config: self.config.clone(), step: self.step, input_scale: self.input_scale };
        let text = serde_json::to_string(&state).expect("the state serialises");
        std::fs::create_dir_all(dir).map_err(|e| SaeError::write(dir, e))?;
        write_tensors(&dir.join(STATE), tensors, Some(HashMap::from([("state".to_owned(), text)])))
    }

    /// Goes on from a state that [`Self::save_state`] wrote.
    ///
    /// # Errors
    /// If the file is missing or damaged, or was written by a run with other settings than `config`.
    pub fn load_state(dir: &Path, config: &TrainConfig, device: &Device) -> Result<Self> {
        let path = dir.join(STATE);
        let file = TensorFile::open(&path)?;
        let state: State = file
            .metadata("state")?
            .and_then(|text| serde_json::from_str(&text).ok())
            .ok_or_else(|| SaeError::config(&path, "no readable training state in it"))?;
        if state.config != *config {
            return Err(SaeError::config(
                &path,
                "it was written by a run with other settings; remove it to start over",
            ));
        }
        let (n, d) = (config.d_sae, config.d_model);
        let group = |name: &str| -> Result<Params> {
            let matrix = |part: &str| -> Result<Tensor<2>> {
                let values = file.floats(&format!("{name}.{part}"), &[n, d])?;
                Ok(Tensor::from_data(TensorData::new(values, [n, d]), device))
            };
            let vector = |part: &str, len: usize| -> Result<Tensor<1>> {
                Ok(Tensor::from_data(file.floats(&format!("{name}.{part}"), &[len])?.as_slice(), device))
            };
            Ok(Params {
                w_enc: matrix("w_enc")?,
                b_enc: vector("b_enc", n)?,
                w_dec: matrix("w_dec")?,
                b_dec: vector("b_dec", d)?,
            })
        };
        let counter =
            |name: &str| -> Result<Tensor<1, Int>> { Ok(Tensor::from_data(file.ints(name, n)?.as_slice(), device)) };
        let mut trainer = Self::with_params(state.config, group("param")?, device);
        trainer.first = group("first")?;
        trainer.second = group("second")?;
        trainer.since_fired = counter("since_fired")?;
        trainer.look_at_silence();
        trainer.fires = counter("fires")?;
        trainer.step = state.step;
        trainer.input_scale = state.input_scale;
        Ok(trainer)
    }
}

#[derive(Serialize, Deserialize)]
struct State {
    config: TrainConfig,
    step: u64,
    input_scale: f64,
}

/// A tensor on its way into a file.
struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    fn floats(values: Vec<f32>, shape: &[usize]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    fn ints(values: Vec<i32>) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: Dtype::I32, shape: vec![values.len()], bytes }
    }
}

impl View for Array {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn write_tensors<N: AsRef<str> + Ord + std::fmt::Display>(
    path: &Path,
    tensors: impl IntoIterator<Item = (N, Array)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let bytes = serialize(tensors, metadata).map_err(|e| SaeError::config(path, e.to_string()))?;
    std::fs::write(path, bytes).map_err(|e| SaeError::write(path, e))
}

/// A safetensors file in memory.
struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl TensorFile {
    fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| SaeError::read(path, e))?;
        let file = Self { path: path.to_owned(), bytes };
        file.tensors()?;
        Ok(file)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|e| SaeError::Corrupt { path: self.path.clone(), why: e.to_string() })
    }

    fn metadata(&self, key: &str) -> Result<Option<String>> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes)
            .map_err(|e| SaeError::Corrupt { path: self.path.clone(), why: e.to_string() })?;
        Ok(header.metadata().as_ref().and_then(|m| m.get(key)).cloned())
    }

    fn raw(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Vec<[u8; 4]>> {
        let tensors = self.tensors()?;
        let tensor = tensors
            .tensor(name)
            .map_err(|_| SaeError::MissingTensor { path: self.path.clone(), name: name.to_owned() })?;
        if tensor.dtype() != dtype || tensor.shape() != shape {
            return Err(SaeError::WrongShape {
                path: self.path.clone(),
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: format!("{:?} {:?}", tensor.dtype(), tensor.shape()).to_lowercase(),
            });
        }
        Ok(tensor.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect())
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values: Vec<f32> = self.raw(name, Dtype::F32, shape)?.into_iter().map(f32::from_le_bytes).collect();
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(index) => {
                Err(SaeError::NotFinite { path: self.path.clone(), name: name.to_owned(), value: values[index], index })
            }
        }
    }

    fn ints(&self, name: &str, len: usize) -> Result<Vec<i32>> {
        Ok(self.raw(name, Dtype::I32, &[len])?.into_iter().map(i32::from_le_bytes).collect())
    }
}

fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (row, line) in values.chunks(cols).enumerate() {
        for (col, &v) in line.iter().enumerate() {
            out[col * rows + row] = v;
        }
    }
    out
}
