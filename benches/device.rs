//! The device that a bench runs on, by its name on the command line. Shared by the benches of all crates.

use burn::tensor::{Device, DeviceType};

/// The CPU, or the first device of a kind.
///
/// # Panics
/// If this build or this machine has none of the kind.
pub fn open(name: &str) -> Device {
    let of = |kind: DeviceType| {
        Device::enumerate(kind).into_iter().next().unwrap_or_else(|| panic!("no {name} device on this machine"))
    };
    match name {
        "cpu" => of(DeviceType::Flex),
        #[cfg(feature = "cuda")]
        "cuda" => of(DeviceType::Cuda),
        #[cfg(feature = "metal")]
        "metal" => of(DeviceType::Metal),
        #[cfg(feature = "vulkan")]
        "vulkan" => of(DeviceType::Vulkan),
        #[cfg(feature = "wgpu")]
        "wgpu" => of(DeviceType::Wgpu),
        other => panic!("--device {other}: not in this build; add `--features {other}`"),
    }
}
