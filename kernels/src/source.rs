//! Kernels written in CUDA C++: CubeCL compiles the text with NVRTC and queues the kernel among its own, on the same stream and
//! the same buffers, so that no synchronisation is needed on either side.

use burn_cubecl::tensor::CubeTensor;
use cubecl::PrecompiledSource;
use cubecl::client::Client;
use cubecl::ir::metadata::Info;
use cubecl::ir::{ElemType, Scope, UIntKind};
use cubecl::prelude::*;
use cubecl::server::{KernelArguments, MetadataBindingInfo};

/// A kernel's text: definitions, then the file.
#[derive(Clone, Debug)]
pub struct CudaSource {
    /// Name of the kernel in the text.
    pub entry: &'static str,
    /// The file.
    pub text: &'static str,
    /// `#define`s in front of it.
    pub defines: Vec<(&'static str, String)>,
    /// Threads of a block.
    pub threads: u32,
}

impl CudaSource {
    /// Queues the kernel. It receives the tensors' addresses in order, then `info` as a struct of 64-bit integers by value.
    pub fn launch(self, client: &Client, blocks: (u32, u32, u32), tensors: &[&CubeTensor], info: &[u64]) {
        let mut arguments = KernelArguments::new();
        for tensor in tensors {
            arguments = arguments.with_buffer(tensor.handle.clone().binding());
        }
        // Everything is static: it rides in the launch's parameters, not in a buffer of its own.
        arguments.info = MetadataBindingInfo::new(info.to_vec(), info.len());
        client.launch(Box::new(self), CubeCount::Static(blocks.0, blocks.1, blocks.2), arguments);
    }
}

impl KernelMetadata for CudaSource {
    fn id(&self) -> KernelId {
        // Covers the text: the file's name is its entry, and files do not change while the program runs.
        KernelId::new::<Self>().info((self.entry, self.defines.clone(), self.threads))
    }

    fn address_type(&self) -> ElemType {
        ElemType::UInt(UIntKind::U64)
    }
}

impl CubeKernel for CudaSource {
    fn define(&self) -> KernelDefinition {
        let threads = CubeDim::new_1d(self.threads).into();
        let settings = KernelSettings::new(threads, ExecutionMode::Unchecked, AddressType::U64);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        let mut source = String::new();
        for (name, value) in &self.defines {
            source += &format!("#define {name} {value}\n");
        }
        source += self.text;
        Some(PrecompiledSource { source, entrypoint_name: self.entry.to_owned(), lang: "cuda" })
    }
}

/// What the names of all devices begin with that CUDA drives.
pub const CUDA: &str = "ptx_sm";

/// What kernels are compiled for on a device that has the instructions that those in CUDA C++ are written in (compute capability 9.0).
pub const HOPPER: &str = "ptx_sm90";
