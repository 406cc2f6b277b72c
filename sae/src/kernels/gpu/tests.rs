//! Every GPU kernel against the CPU's code for the same operation, and the training step on both. Exists only in builds with a GPU
//! feature, and fails where no such device is found.
//!
//! Where something is selected, inputs are small integers: products and sums are exact in f32 and bf16 alike, ties are many, and
//! the selections must be equal, not close.

mod scores;
mod select;
mod sparse;
mod training;

use burn::tensor::{Device, DeviceType, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kernels::{self, AdamStep};

fn cpu() -> Device {
    Device::flex()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().unwrap()
}

fn gpu() -> Device {
    let mut found = Vec::new();
    #[cfg(feature = "cuda")]
    found.extend(Device::enumerate(DeviceType::Cuda));
    #[cfg(feature = "vulkan")]
    found.extend(Device::enumerate(DeviceType::Vulkan));
    #[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
    found.extend(Device::enumerate(DeviceType::Wgpu));
    found.into_iter().next().expect("a build with a GPU feature is tested on a machine with that GPU")
}

fn matrix(data: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(data.to_vec(), shape), device)
}

fn vector(data: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(data, device)
}

fn ints<const D: usize>(x: Tensor<D, Int>) -> Vec<i32> {
    x.into_data().convert::<i32>().try_into_vec::<i32>().unwrap()
}

fn whole_numbers(rng: &mut ChaCha8Rng, len: usize, most: i32) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-most..=most) as f32).collect()
}

fn floats(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let mut difference = 0.0;
    let mut norm = 0.0;
    for (&f, &e) in found.iter().zip(expected) {
        difference += (f64::from(f) - f64::from(e)).powi(2);
        norm += f64::from(e).powi(2);
    }
    let relative = (difference / norm.max(1e-30)).sqrt();
    assert!(relative <= tolerance, "{what}: relative error {relative:.2e}, at most {tolerance:.0e} wanted");
}

#[test]
fn sums_of_many_kinds() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for [n, d] in [[77, 36], [1, 5], [1100, 16], [33, 2048]] {
        let x = floats(&mut rng, n * d);
        let weights = floats(&mut rng, n);
        let run = |device: &Device| {
            let x = matrix(&x, [n, d], device);
            [
                values(kernels::sum_squares(x.clone())),
                values(kernels::row_norms(x.clone())),
                values(kernels::scale_rows(x.clone(), vector(&weights, device))),
                values(kernels::column_sums(x.clone())),
                values(kernels::weighted_rows(vector(&weights, device), x)),
                values(kernels::clip_factor(vector(&[3.0, 4.0], device), vector(&weights, device), None, 0.3)),
                values(kernels::clip_factor(
                    vector(&[3.0, 4.0], device),
                    vector(&weights[..1], device),
                    Some(vector(&weights, device)),
                    0.3,
                )),
                values(kernels::clip_factor(vector(&[3.0, 4.0], device), vector(&weights, device), None, 1e9)),
            ]
        };
        let names = ["Σx²", "norms", "scaled rows", "sums", "weighted sums", "clip", "no clip"];
        for (what, (f, e)) in names.iter().zip(run(&gpu()).iter().zip(&run(&cpu()))) {
            assert_close(&format!("{n}×{d}: {what}"), f, e, 1e-6);
        }
    }
}

#[test]
fn adam_with_and_without_unit_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for [n, d] in [[50, 48], [3, 7], [9, 1300]] {
        let [p, g, m, v] = [0; 4].map(|_| floats(&mut rng, n * d));
        let v: Vec<f32> = v.iter().map(|v| v.abs()).collect();
        for unit_rows in [false, true] {
            let run = |device: &Device| {
                let of = |x: &[f32]| matrix(x, [n, d], device);
                let step = AdamStep { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 3 };
                let clip = vector(&[0.7], device);
                let (p, (m, v)) = kernels::adam(of(&p), of(&g), (of(&m), of(&v)), clip, step, unit_rows);
                [values(p), values(m), values(v)]
            };
            for (found, expected) in run(&gpu()).iter().zip(run(&cpu())) {
                assert_close(&format!("adam, {n}×{d}, unit rows {unit_rows}"), found, &expected, 1e-6);
            }
        }
    }
}

/// A parameter that somebody else still holds is not written into, at a width whose rows CubeCL lays apart.
#[test]
fn adam_leaves_shared_parameters_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let [p, g, m, v] = [0; 4].map(|_| floats(&mut rng, 50 * 48));
    let v: Vec<f32> = v.iter().map(|v| v.abs()).collect();
    let run = |device: &Device| {
        let of = |x: &[f32]| matrix(x, [50, 48], device);
        let step = AdamStep { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 3 };
        let clip = vector(&[0.7], device);
        let (p1, moments) = kernels::adam(of(&p), of(&g), (of(&m), of(&v)), clip.clone(), step, true);
        let held = p1.clone();
        let (p2, _) = kernels::adam(p1, of(&g), moments, clip, step, true);
        [values(held), values(p2)]
    };
    for (found, expected) in run(&gpu()).iter().zip(run(&cpu())) {
        assert_close("adam with a parameter held", found, &expected, 1e-6);
    }
}
