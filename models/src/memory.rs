//! What a model's weights take of a device's memory, and what is left of it.

use burn::tensor::Device;

use crate::device::runs_on_cpu;
use crate::error::{ModelError, Result};
use crate::model_files::ModelFiles;

impl ModelFiles {
    /// Bytes of memory that the weights take on a device, for passes in f32: on the CPU four a weight; on a GPU two, where the files have
    /// them in bf16 or f16. Passes in bf16 take two more a weight of the layers.
    pub fn memory(&self, device: &Device) -> u64 {
        self.memory_of(!runs_on_cpu(device))
    }

    /// The same of the CPU or of any GPU.
    pub(crate) fn memory_of(&self, gpu: bool) -> u64 {
        self.checkpoint.memory(gpu, |name| self.inventory.ignores(name))
    }

    /// Checks that the weights fit into what is free, as far as that is known.
    ///
    /// # Errors
    /// Says how much is missing and what would help.
    pub fn check_memory(&self, device: &Device) -> Result<()> {
        let needed = self.memory(device);
        match free(device) {
            Some(free) if needed > free => {
                let remedy = if !runs_on_cpu(device) {
                    "free the card of other programs, take one with more memory, or a smaller model"
                } else if self.memory_of(true) < needed {
                    "a GPU holds the same weights in half of that (--device cuda); or take a machine with more memory, or a smaller model"
                } else {
                    "take a machine or a GPU with more memory, or a smaller model"
                };
                Err(ModelError::Memory { dir: self.path().to_owned(), needed, free, remedy })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes of a device's memory that are free; `None` where nobody says.
pub fn free(device: &Device) -> Option<u64> {
    if runs_on_cpu(device) {
        let machine = available(&std::fs::read_to_string("/proc/meminfo").ok()?);
        return [machine, cgroup()].into_iter().flatten().min();
    }
    #[cfg(feature = "cuda")]
    if let burn::backend::DispatchDevice::Cube(burn_cubecl::CubeDevice::Cuda(card)) = device.as_dispatch() {
        return assay_kernels::memory::free_bytes(card.index);
    }
    None
}

/// `MemAvailable` of Linux' `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What a container may still take, by its control group (version 2).
fn cgroup() -> Option<u64> {
    let number =
        |file: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24576000 kB\nMemFree:          500000 kB\nMemAvailable:   12000000 kB\n";
        assert_eq!(available(text), Some(12_000_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }
}
