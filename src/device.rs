//! Which device a command runs on.

use anyhow::{Result, bail};
use burn::tensor::Device;

/// A device by its name on the command line.
///
/// # Errors
/// If the name is unknown or this build does not have the backend; the message says what there is.
pub fn open(name: &str) -> Result<Device> {
    match name {
        "auto" | "cpu" => Ok(Device::flex()),
        other => bail!("--device {other}: this build has only `cpu` (and `auto`, which is `cpu` here)"),
    }
}

/// The part of a device that changes numbers: results of one class are comparable bit for bit, results of two are not.
pub const CLASS: &str = "cpu";
