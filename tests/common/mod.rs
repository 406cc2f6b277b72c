//! Shared by the integration tests.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;
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

pub fn cpu() -> Device {
    Device::flex()
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
        Tensor::from_data(TensorData::new(values, shape), &cpu())
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
