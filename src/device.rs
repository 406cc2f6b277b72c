//! Which device a command runs on.

use std::any::Any;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use assay_models::runs_on_cpu;
use assay_sae::Precision;
use burn::tensor::Device;
#[cfg(feature = "gpu")]
use burn::tensor::{DeviceType, FloatDType, Tensor};

/// A device that is open and works.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// The device itself.
    pub device: Device,
    /// The part of it that changes numbers: results of one class are comparable, and are not mixed with those of another.
    pub class: String,
    /// `cpu (AMD EPYC 9R14)`, `cuda:0 (NVIDIA H100 80GB HBM3)`.
    pub name: String,
    /// Seconds that opening it took.
    pub seconds: f64,
}

/// What runs kernels beside the CPU, in the order in which `auto` prefers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Cuda,
    Metal,
    Vulkan,
    Wgpu,
}

const BACKENDS: [Backend; 4] = [Backend::Cuda, Backend::Metal, Backend::Vulkan, Backend::Wgpu];

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Auto,
    Cpu,
    Gpu(Backend, usize),
}

/// Opens a device by its name on the command line: `auto`, `cpu`, or a backend with the number of its device, `cuda:0`.
///
/// # Errors
/// If the name means nothing, this build lacks the backend, the device is not there, or it does not work; the message says what
/// there is and what to do.
pub fn open(text: &str) -> Result<OpenDevice> {
    let started = Instant::now();
    let request = parse(text).with_context(|| format!("--device {text}"))?;
    let mut opened = match request {
        Request::Cpu => cpu(),
        Request::Auto => match first_card() {
            Some((backend, index, device)) => {
                open_gpu(backend, index, device).with_context(|| format!("--device {text}"))?
            }
            None => cpu(),
        },
        Request::Gpu(backend, index) => {
            let device = find(backend, index).with_context(|| format!("--device {text}"))?;
            open_gpu(backend, index, device).with_context(|| format!("--device {text}"))?
        }
    };
    opened.seconds = started.elapsed().as_secs_f64();
    Ok(opened)
}

/// Checks that a name means a device, without opening it.
///
/// # Errors
/// If it does not.
pub fn check_name(text: &str) -> Result<()> {
    parse(text).map(|_| ())
}

/// The same, and that this build has the kind of device.
///
/// # Errors
/// If one of both is not so.
pub fn check_built(text: &str) -> Result<()> {
    match parse(text)? {
        Request::Gpu(backend, _) => backend.check_built(),
        Request::Auto | Request::Cpu => Ok(()),
    }
}

/// The names of all GPUs that this build can use, of the kind that `auto` prefers.
///
/// # Errors
/// If there is none.
pub fn all_cards() -> Result<Vec<String>> {
    let (backend, ..) =
        first_card().with_context(|| format!("there is no GPU that this build can use; {}", those_there_are()))?;
    Ok((0..backend.devices().len()).map(|index| format!("{}:{index}", backend.name())).collect())
}

fn cpu() -> OpenDevice {
    OpenDevice { device: Device::flex(), class: "cpu".to_owned(), name: cpu_name(), seconds: 0.0 }
}

/// `cpu (AMD EPYC 9R14)`: the model decides which instructions a matrix product takes, and with them the last digits of results.
fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == "model name");
    model.map_or_else(|| "cpu".to_owned(), |(_, name)| format!("cpu ({})", name.trim()))
}

/// The sets of vector instructions of this processor that matrix products choose by, the widest last: as for the model of the processor, the
/// last digits of results go with them.
pub fn cpu_features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        found.extend(known.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name));
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.push("neon");
    }
    found
}

impl OpenDevice {
    /// Checks that the device computes in a number format.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, precision: Precision) -> Result<()> {
        if precision == Precision::F32 {
            return Ok(());
        }
        ensure!(
            !runs_on_cpu(&self.device),
            "precision = \"{precision}\" needs a GPU (--device cuda); on the CPU use --set precision=f32"
        );
        #[cfg(feature = "gpu")]
        ensure!(
            self.device.supports_dtype(FloatDType::BF16),
            "precision = \"{precision}\": {} does not compute in it; use --set precision=f32",
            self.name
        );
        Ok(())
    }

    /// Waits until all that was asked of the device is done.
    ///
    /// # Errors
    /// If some of it failed.
    pub fn sync(&self) -> Result<()> {
        self.device.sync().with_context(|| self.name.clone())
    }
}

impl Backend {
    /// Its name on the command line, and that of the Cargo feature.
    fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    fn is_built(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }

    fn check_built(self) -> Result<()> {
        ensure!(
            self.is_built(),
            "this build lacks it; `cargo install --path . --features {}` makes one that has it; {}",
            self.name(),
            those_there_are()
        );
        Ok(())
    }

    /// Its devices on this machine; none where this build lacks it or there is no driver.
    fn devices(self) -> Vec<Device> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::enumerate(DeviceType::Cuda).into_iter().collect(),
            #[cfg(feature = "metal")]
            Self::Metal => Device::enumerate(DeviceType::Metal).into_iter().collect(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::enumerate(DeviceType::Vulkan).into_iter().collect(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::enumerate(DeviceType::Wgpu).into_iter().collect(),
            #[allow(unreachable_patterns, reason = "those that are not built")]
            _ => Vec::new(),
        }
    }
}

fn parse(text: &str) -> Result<Request> {
    let (name, index) = match text.split_once(':') {
        Some((name, index)) => (name, Some(index)),
        None => (text, None),
    };
    let request = match (name, BACKENDS.into_iter().find(|b| b.name() == name)) {
        ("auto", _) => Request::Auto,
        ("cpu", _) => Request::Cpu,
        (_, Some(backend)) => {
            let index = index.map_or(Ok(0), str::parse);
            return Ok(Request::Gpu(backend, index.context("a number is expected after the colon, as in `cuda:0`")?));
        }
        _ => bail!("no such kind of device; {}", those_there_are()),
    };
    ensure!(index.is_none(), "`{name}` has no number; {}", those_there_are());
    Ok(request)
}

/// The device that a request names.
fn find(backend: Backend, index: usize) -> Result<Device> {
    backend.check_built()?;
    match backend.devices().into_iter().nth(index) {
        Some(device) => Ok(device),
        None => bail!("no such device, or no driver for it; {}", those_there_are()),
    }
}

/// The device that `auto` means, where it is a GPU: an emulation of one on the CPU is slower than the CPU's own code.
fn first_card() -> Option<(Backend, usize, Device)> {
    let all = BACKENDS.into_iter().flat_map(|b| b.devices().into_iter().enumerate().map(move |(at, d)| (b, at, d)));
    all.into_iter().find(|(backend, _, device)| *backend == Backend::Cuda || identity(device).is_card)
}

/// What a device says of itself.
#[derive(Default)]
struct Identity {
    name: String,
    /// What its kernels are compiled for.
    target: String,
    is_card: bool,
}

/// Opens the device; one that can't be opened has no name.
#[cfg(feature = "gpu")]
fn identity(device: &Device) -> Identity {
    let found = quietly(|| device.identity()).ok().flatten();
    found.map(|i| Identity { name: i.name, target: i.fingerprint, is_card: i.physical.is_some() }).unwrap_or_default()
}

#[cfg(not(feature = "gpu"))]
fn identity(_: &Device) -> Identity {
    Identity::default()
}

fn label(backend: Backend, index: usize, device: &Device) -> String {
    match (backend.name(), identity(device).name) {
        (kind, name) if name.is_empty() => format!("{kind}:{index}"),
        (kind, name) => format!("{kind}:{index} ({name})"),
    }
}

/// `devices here: cpu (AMD EPYC 9R14), cuda:0 (NVIDIA H100 80GB HBM3)`
fn those_there_are() -> String {
    format!("devices here: {}", names().join(", "))
}

/// The devices of this machine that this build can open: `cpu (AMD EPYC 9R14)`, `cuda:0 (NVIDIA H100 80GB HBM3)`.
pub fn names() -> Vec<String> {
    let mut names = vec![cpu_name()];
    for backend in BACKENDS {
        names.extend(backend.devices().iter().enumerate().map(|(index, device)| label(backend, index, device)));
    }
    names
}

/// The backends of this build beside the CPU, by the names of their Cargo features.
pub fn backends() -> Vec<&'static str> {
    BACKENDS.into_iter().filter(|b| b.is_built()).map(Backend::name).collect()
}

fn open_gpu(backend: Backend, index: usize, device: Device) -> Result<OpenDevice> {
    if backend == Backend::Cuda {
        check_headers()?;
    }
    let name = label(backend, index, &device);
    #[cfg(feature = "gpu")]
    try_out(&device).map_err(|reason| {
        let hint =
            if backend == Backend::Cuda { " (is NVRTC installed, and libnvrtc in LD_LIBRARY_PATH?)" } else { "" };
        anyhow::anyhow!("{name} does not work{hint}; --device cpu needs no driver: {reason}")
    })?;
    let class = match backend {
        // `ptx_sm90`: NVIDIA's generations differ in their matrix products.
        Backend::Cuda => format!("cuda-{}", identity(&device).target.trim_start_matches("ptx_")),
        other => other.name().to_owned(),
    };
    Ok(OpenDevice { device, class, name, seconds: 0.0 })
}

/// CUDA kernels are compiled at run time, and most of them include CUDA's headers: without them CubeCL panics at the first.
fn check_headers() -> Result<()> {
    #[cfg(feature = "cuda")]
    {
        let remedy = "kernels are compiled at run time and need CUDA's headers: install the CUDA toolkit, or set CUDA_PATH to a \
            directory whose `include` holds them; --device cpu needs neither";
        let root = cubecl::cuda::install::cuda_path()
            .with_context(|| format!("there is no CUDA in CUDA_PATH, /usr/local/cuda or /opt/cuda; {remedy}"))?;
        let header = root.join("include").join("cuda_fp16.h");
        ensure!(header.is_file(), "{} is missing; {remedy}", header.display());
    }
    Ok(())
}

/// What a panic says.
pub fn panic_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
}

/// Whether a message of a driver, or of CubeCL, is that a device's memory is full.
pub fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase().replace(['_', ' ', '-'], "");
    // CUDA's error and CubeCL's, those of an allocation that can never fit and of Vulkan, and Rust's last words on the CPU.
    ["outofmemory", "buffertoobig", "can'tallocatebuffer", "outofdevicememory", "memoryallocationof"]
        .iter()
        .any(|text| message.contains(text))
}

/// Compiles and runs one small kernel: a device may be listed and not work, for want of NVRTC, of memory or of a driver that is new
/// enough.
#[cfg(feature = "gpu")]
fn try_out(device: &Device) -> Result<(), String> {
    let data = quietly(|| (Tensor::<1>::zeros([2], device) + 1.0).try_into_data())?.map_err(|e| e.to_string())?;
    match data.try_into_vec::<f32>() {
        Ok(values) if values == [1.0, 1.0] => Ok(()),
        other => Err(format!("0 + 1 gives {other:?}")),
    }
}

/// Runs what may panic in a backend, and gives the panic's text as an error instead of printing it.
#[cfg(feature = "gpu")]
fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let found = catch_unwind(AssertUnwindSafe(run));
    set_hook(hook);
    found.map_err(|payload| panic_text(payload.as_ref()).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_devices() {
        for (text, expected) in [
            ("auto", Request::Auto),
            ("cpu", Request::Cpu),
            ("cuda", Request::Gpu(Backend::Cuda, 0)),
            ("cuda:3", Request::Gpu(Backend::Cuda, 3)),
            ("vulkan:1", Request::Gpu(Backend::Vulkan, 1)),
            ("metal", Request::Gpu(Backend::Metal, 0)),
            ("wgpu", Request::Gpu(Backend::Wgpu, 0)),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", "tpu", "cpu:0", "auto:1", "cuda:", "cuda:-1", "cuda:x", "CUDA"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_full_memory_is_known_by_what_is_said_of_it() {
        for text in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY)",
            "An out-of-memory error",
            "BufferTooBig { size: 4 }",
            "OutOfMemory",
            "memory allocation of 536870912 bytes failed",
        ] {
            assert!(is_out_of_memory(text), "{text}");
        }
        assert!(!is_out_of_memory("an illegal memory access was encountered"));
        let panic = std::panic::catch_unwind(|| std::panic::panic_any("out of memory".to_owned())).unwrap_err();
        assert_eq!(panic_text(panic.as_ref()), Some("out of memory"));
    }

    #[test]
    fn the_cpu_is_always_there() {
        let cpu = open("cpu").unwrap();
        // In the ids of all runs that were ever made on it.
        assert_eq!(cpu.class, "cpu");
        assert!(cpu.name.starts_with("cpu"));
        assert!(cpu.check(Precision::F32).is_ok());
        assert!(cpu.check(Precision::Bf16).is_err());
        assert!(those_there_are().starts_with("devices here: cpu"));
    }
}
