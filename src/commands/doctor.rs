//! `assay doctor`: what this machine has of what Assay needs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use assay_hub::Settings;
use assay_models::memory;
use burn::tensor::Device;
use serde::Serialize;

use crate::files::{free_space, try_out};
use crate::{device, markdown, output};

/// Check the environment: devices, the processor, memory, CUDA libraries, caches and their size, the hub's settings, disk.
///
/// Nothing is changed, and nothing is fetched.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  assay doctor --json")]
pub struct DoctorArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    /// Backends of this build beside the CPU.
    backends: Vec<&'static str>,
    devices: Vec<String>,
    threads: usize,
    /// The sets of vector instructions that the CPU's matrix products can use here.
    cpu_features: Vec<&'static str>,
    /// Bytes of memory that are free; null where nobody says.
    memory_bytes: Option<u64>,
    /// Where each of CUDA's parts is; null where it was not found.
    cuda: Cuda,
    hub: Hub,
    /// What is written to, if it is, and the room there.
    disk: Vec<Disk>,
}

/// What a build with `cuda` loads or compiles against at run time.
#[derive(Serialize)]
struct Cuda {
    driver: Option<PathBuf>,
    nvrtc: Option<PathBuf>,
    headers: Option<PathBuf>,
    /// Where compiled kernels are kept; null where they are not.
    kernel_cache: Option<PathBuf>,
    kernel_cache_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Hub {
    cache: PathBuf,
    /// Bytes of the files in it; null if it does not exist.
    cache_bytes: Option<u64>,
    endpoint: String,
    offline: bool,
    /// Whether there is a token; what it is, is nobody's business.
    token: bool,
}

/// A directory that commands write to.
#[derive(Serialize)]
struct Disk {
    what: &'static str,
    directory: PathBuf,
    free_bytes: Option<u64>,
    /// Why nothing can be written there; null where something can.
    refused: Option<String>,
}

impl Disk {
    fn look(what: &'static str, directory: PathBuf) -> Self {
        let refused = try_out(&directory).err().map(|error| format!("{error:#}"));
        Self { what, free_bytes: free_space(&directory), directory, refused }
    }
}

impl DoctorArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the findings can't be written as JSON.
    pub fn run(&self) -> Result<()> {
        let found = Findings::look();
        if self.json {
            return output::result_line(serde_json::to_string_pretty(&found)?);
        }
        output::result(found.table())
    }
}

/// Bytes of what is in a directory, if it is there.
fn size_of(dir: &Path) -> Option<u64> {
    dir.is_dir().then(|| size(dir))
}

impl Findings {
    fn look() -> Self {
        let settings = Settings::from_env();
        let cache = settings.cache().to_owned();
        let here = std::env::current_dir().unwrap_or_default();
        let cuda = Cuda::look();
        let mut disk = vec![
            Disk::look("results", here.join("results")),
            Disk::look("hub cache", cache.clone()),
            Disk::look("scratch", std::env::temp_dir()),
        ];
        disk.extend(cuda.kernel_cache.clone().map(|cache| Disk::look("kernel cache", cache)));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            backends: device::backends(),
            devices: device::names(),
            threads: rayon::current_num_threads(),
            cpu_features: device::cpu_features(),
            memory_bytes: memory::free(&Device::flex()),
            cuda,
            hub: Hub {
                cache_bytes: size_of(&cache),
                cache,
                endpoint: settings.endpoint().to_owned(),
                offline: settings.offline(),
                token: settings.has_token(),
            },
            disk,
        }
    }

    fn table(&self) -> markdown::Table {
        let mut table = markdown::Table::new(["what", "found", "remark"]);
        let or_none = |found: String| if found.is_empty() { markdown::NONE.to_owned() } else { found };
        let gpu = "a GPU needs a build with it: cargo install --path . --features cuda";
        let remark = if self.backends.is_empty() { gpu } else { "" };
        table.row(["version", self.version, ""]);
        table.row(["backends of this build", &or_none(self.backends.join(", ")), remark]);
        table.row(["devices", &self.devices.join(", "), ""]);
        table.row(["threads", &self.threads.to_string(), ""]);
        let slow = if self.cpu_features.is_empty() { "without them, matrix products on the CPU are slow" } else { "" };
        table.row(["vector instructions", &or_none(self.cpu_features.join(", ")), slow]);
        table.row([
            "memory",
            &self.memory_bytes.map_or_else(|| markdown::NONE.to_owned(), |b| bytes_text(b) + " free"),
            "",
        ]);
        for (what, found, remedy) in [
            ("CUDA driver", &self.cuda.driver, "libcuda.so comes with NVIDIA's driver"),
            ("NVRTC", &self.cuda.nvrtc, "libnvrtc.so compiles kernels at run time: CUDA toolkit, or LD_LIBRARY_PATH"),
            ("CUDA headers", &self.cuda.headers, "kernels include cuda_fp16.h: CUDA toolkit, or CUDA_PATH"),
        ] {
            let shown = found.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            table.row([what, &or_none(shown), if found.is_none() { remedy } else { "" }]);
        }
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "not there yet".to_owned(), bytes_text);
        let (kernels, remark) = match &self.cuda.kernel_cache {
            Some(dir) => (dir.display().to_string(), size(self.cuda.kernel_cache_bytes)),
            None if cfg!(feature = "cuda") => (
                markdown::NONE.to_owned(),
                "ASSAY_KERNEL_CACHE is off: each start compiles CUDA's kernels anew".to_owned(),
            ),
            None => (markdown::NONE.to_owned(), "a build with CUDA keeps its compiled kernels".to_owned()),
        };
        table.row(["kernel cache", &kernels, &remark]);
        let Hub { cache, cache_bytes, endpoint, offline, token } = &self.hub;
        table.row(["hub cache", &cache.display().to_string(), &size(*cache_bytes)]);
        table.row(["hub endpoint", endpoint, ""]);
        let state = if *offline { "yes" } else { "no" };
        table.row(["offline", state, if *offline { "HF_HUB_OFFLINE: only what is in the cache is used" } else { "" }]);
        let remark = "gated or private repositories need one: HF_TOKEN";
        table.row(["hub token", if *token { "yes" } else { markdown::NONE }, if *token { "" } else { remark }]);
        for Disk { what, directory, free_bytes, refused } in &self.disk {
            let free = free_bytes.map_or_else(|| markdown::NONE.to_owned(), |b| bytes_text(b) + " free");
            let remark = match refused {
                Some(why) => format!("can't be written: {why}"),
                None => format!("{free}, writable"),
            };
            table.row([format!("disk, {what}"), directory.display().to_string(), remark]);
        }
        table
    }
}

/// Where a build with CUDA keeps compiled kernels.
fn kernel_cache() -> Option<PathBuf> {
    #[cfg(feature = "cuda")]
    return cubecl::cuda::kernel_cache_directory();
    #[cfg(not(feature = "cuda"))]
    None
}

impl Cuda {
    fn look() -> Self {
        let var = |name: &str| std::env::var_os(name).unwrap_or_default();
        let mut roots: Vec<PathBuf> = std::env::split_paths(&var("CUDA_PATH")).collect();
        roots.extend(["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from));
        let mut libraries: Vec<PathBuf> = std::env::split_paths(&var("LD_LIBRARY_PATH")).collect();
        libraries.extend(roots.iter().flat_map(|root| ["lib64", "lib"].map(|part| root.join(part))));
        libraries.extend(
            ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"].map(PathBuf::from),
        );
        let library = |name: &str| libraries.iter().find_map(|dir| starting_with(dir, name));
        let kernel_cache = kernel_cache();
        Self {
            kernel_cache_bytes: kernel_cache.as_deref().and_then(size_of),
            kernel_cache,
            driver: library("libcuda.so"),
            nvrtc: library("libnvrtc.so"),
            headers: roots.iter().map(|root| root.join("include")).find(|dir| dir.join("cuda_fp16.h").is_file()),
        }
    }
}

/// The first file of a directory, by name, that begins so: `libnvrtc.so`, `libnvrtc.so.12`.
fn starting_with(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name))).min()
}

/// Bytes of all files below a directory; links are not followed, so that a blob of the hub's cache counts once.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
        _ => 0,
    };
    entries.map(of).sum()
}

/// `3.2 GB`.
fn bytes_text(bytes: impl std::borrow::Borrow<u64>) -> String {
    indicatif::DecimalBytes(*bytes.borrow()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_add_up_and_links_count_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs")).unwrap();
        std::fs::write(dir.path().join("blobs/a"), [0; 100]).unwrap();
        std::fs::write(dir.path().join("ref"), [0; 7]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path().join("blobs/a"), dir.path().join("link")).unwrap();
        assert_eq!(size(dir.path()), 107);
        assert_eq!(size(&dir.path().join("none")), 0);
    }

    #[test]
    fn a_library_is_found_by_how_its_name_begins() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("libnvrtc.so.12"), []).unwrap();
        assert_eq!(starting_with(dir.path(), "libnvrtc.so"), Some(dir.path().join("libnvrtc.so.12")));
        assert_eq!(starting_with(dir.path(), "libcuda.so"), None);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_the_room_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(free_space(&dir.path().join("a/b")).is_some(), cfg!(unix));
    }
}
