//! The state from which training resumes exactly: `trainer_state.safetensors`, with parameters before folding, Adam's moments,
//! and counters.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::coder::Params;
use crate::config::TrainConfig;
use crate::dead::Firing;
use crate::error::{Result, SaeError};
use crate::kernels::Counters;
use crate::readback::{host, host_int};
use crate::running::RunningThreshold;
use crate::skip::Skip;
use crate::steering::{self, Steering};
use crate::tensors::{Array, TensorFile, write_tensors};
use crate::trainer::Trainer;

/// The file of a training's state.
pub const STATE_FILE: &str = "trainer_state.safetensors";

impl Trainer {
    /// Writes all that the training of this SAE depends on into `dir`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save_state(&self, dir: &Path) -> Result<()> {
        let (n, d) = (self.config.d_sae, self.config.d_model);
        let vectors = self.config.architecture.coder().vectors();
        let mut tensors = Vec::new();
        let average = self.average.as_ref().map(|average| ("mean", &average.params));
        for (group, p) in
            [("param", &self.params), ("first", &self.first), ("second", &self.second)].into_iter().chain(average)
        {
            tensors.push((format!("{group}.w_enc"), Array::floats(&host(p.w_enc.clone()), &[n, d])));
            tensors.push((format!("{group}.b_enc"), Array::floats(&host(p.b_enc.clone()), &[n])));
            tensors.push((format!("{group}.w_dec"), Array::floats(&host(p.w_dec.clone()), &[n, d])));
            tensors.push((format!("{group}.b_dec"), Array::floats(&host(p.b_dec.clone()), &[d])));
            for ((name, _), vector) in vectors.iter().zip(&p.vectors) {
                tensors.push((format!("{group}.{name}"), Array::floats(&host(vector.clone()), &[n])));
            }
        }
        if let Some(Skip { weights, first, second }) = &self.skip {
            let average = self.average.as_ref().and_then(|average| Some(("mean", average.skip.as_ref()?)));
            for (group, matrix) in [("param", weights), ("first", first), ("second", second)].into_iter().chain(average)
            {
                tensors.push((format!("{group}.w_skip"), Array::floats(&host(matrix.clone()), &[d, d])));
            }
        }
        tensors
            .push(("since_fired".to_owned(), Array::ints(&host_int(self.firing.counters.since_fired.clone()), &[n])));
        tensors.push(("fires".to_owned(), Array::ints(&host_int(self.firing.counters.fires.clone()), &[n])));
        let state = State {
            config: self.config.clone(),
            step: self.step,
            input_scale: self.input_scale,
            threshold: self.threshold(),
            steering: self.steering.as_ref().map(Steering::state),
        };
        let text = serde_json::to_string(&state).expect("the state serialises");
        std::fs::create_dir_all(dir).map_err(|e| SaeError::write(dir, e))?;
        let path = dir.join(STATE_FILE);
        write_tensors(&path, tensors, Some(HashMap::from([("state".to_owned(), text)])))?;
        // Whoever points to this state next relies on its being on the disk.
        for written in [path.as_path(), dir] {
            File::open(written).and_then(|file| file.sync_all()).map_err(|e| SaeError::write(written, e))?;
        }
        Ok(())
    }

    /// Resumes from a state that [`Self::save_state`] wrote.
    ///
    /// # Errors
    /// If the file is missing or damaged, or was written by a run with other settings than `config`.
    pub fn load_state(dir: &Path, config: &TrainConfig, device: &Device) -> Result<Self> {
        let path = dir.join(STATE_FILE);
        let file = TensorFile::open(&path, "its configuration")?;
        let state: State = file
            .metadata("state")
            .and_then(|text| serde_json::from_str(&text).ok())
            .ok_or_else(|| SaeError::config(&path, "no readable training state in it"))?;
        if state.config != *config {
            return Err(SaeError::config(
                &path,
                "it was written by a run with other settings; remove it to start over",
            ));
        }
        let (n, d) = (config.d_sae, config.d_model);
        let named = config.architecture.coder().vectors();
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
                vectors: named.iter().map(|(part, _)| vector(part, n)).collect::<Result<_>>()?,
            })
        };
        let counter =
            |name: &str| -> Result<Tensor<1, Int>> { Ok(Tensor::from_data(file.ints(name, n)?.as_slice(), device)) };
        let mut trainer = Self::with_params(state.config, group("param")?, device);
        trainer.first = group("first")?;
        trainer.second = group("second")?;
        let counters = Counters { since_fired: counter("since_fired")?, fires: counter("fires")? };
        trainer.firing = Firing::resumed(counters);
        trainer.step = state.step;
        trainer.input_scale = state.input_scale;
        trainer.threshold = RunningThreshold::of(state.threshold.unwrap_or_default());
        let map = |group: &str| -> Result<Tensor<2>> {
            let values = file.floats(&format!("{group}.w_skip"), &[d, d])?;
            Ok(Tensor::from_data(TensorData::new(values, [d, d]), device))
        };
        if let Some(skip) = &mut trainer.skip {
            *skip = Skip { weights: map("param")?, first: map("first")?, second: map("second")? };
        }
        if let Some(average) = &mut trainer.average {
            average.params = group("mean")?;
            if let Some(skip) = &mut average.skip {
                *skip = map("mean")?;
            }
        }
        if let Some((steering, state)) = trainer.steering.as_mut().zip(state.steering) {
            steering.resume(state);
        }
        Ok(trainer)
    }
}

#[derive(Serialize, Deserialize)]
struct State {
    config: TrainConfig,
    step: u64,
    input_scale: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steering: Option<steering::State>,
}
