//! The command line.

mod tips;

use clap::{Parser, Subcommand};

use crate::commands::absorption::AbsorptionArgs;
use crate::commands::capture::CaptureArgs;
use crate::commands::circles::CirclesArgs;
use crate::commands::cloud::CloudArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::convert::ConvertArgs;
use crate::commands::demo::DemoArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::encode::EncodeArgs;
use crate::commands::eval::EvalArgs;
use crate::commands::features::FeaturesArgs;
use crate::commands::gather::GatherArgs;
use crate::commands::geometry::GeometryArgs;
use crate::commands::groups::GroupsArgs;
use crate::commands::inspect::InspectArgs;
use crate::commands::latents::LatentsArgs;
use crate::commands::new::NewArgs;
use crate::commands::probe::ProbeArgs;
use crate::commands::report::ReportArgs;
use crate::commands::saes::SaesArgs;
use crate::commands::sweep::SweepArgs;
use crate::commands::topology::TopologyArgs;
use crate::commands::train::TrainArgs;
use crate::commands::utility::UtilityArgs;
use crate::progress::Progress;

/// A workbench for sparse autoencoders on language-model activations: does the SAE preserve what the model does, or only what
/// its activations look like?
///
/// Results go to standard output, progress to standard error. Exit codes: 0 done, 1 an error (its message says what, where and what to
/// do), 2 a mistake on the command line, 130 interrupted after saving, 143 the same after SIGTERM.
#[derive(Parser, Debug)]
#[command(name = "assay", version, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  assay demo\n  assay help eval",
    after_long_help = "Examples:\n  assay demo\n  assay eval --model EleutherAI/pythia-70m --sae org/saes:blocks.3.hook_resid_post --text book.txt\n  assay help eval\n\n\
Names:\n  A model, an SAE or a dataset is a path, or org/name[@revision][:path] on the Hugging Face hub.\n  An SAE may also be a name that `assay saes` lists, release/id[@revision].\n  Existing local paths take precedence.\n\n\
Environment:\n  HF_HOME, HF_HUB_CACHE   where the hub's cache is [~/.cache/huggingface/hub]\n  HF_TOKEN, HF_TOKEN_PATH the token for gated and private repositories, or the file that holds it\n  HF_ENDPOINT             alternative Hub endpoint to https://huggingface.co\n  HF_HUB_OFFLINE          1: use only what is in the cache\n  CUDA_PATH               CUDA's headers and libraries [/usr/local/cuda]\n  ASSAY_KERNEL_CACHE      where compiled CUDA kernels are kept, or off [~/.cache/assay/kernels]\n  TMPDIR                  scratch space for tokenised text, 4 bytes per token"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Device: auto (a GPU if there is one), cpu, cuda[:N], vulkan[:N], metal[:N] or wgpu[:N]
    #[arg(long, global = true, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// No progress on standard error
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(DemoArgs),
    Train(TrainArgs),
    New(NewArgs),
    Sweep(SweepArgs),
    Gather(GatherArgs),
    Eval(EvalArgs),
    Features(FeaturesArgs),
    Latents(LatentsArgs),
    Saes(SaesArgs),
    Capture(CaptureArgs),
    Encode(EncodeArgs),
    Convert(ConvertArgs),
    Probe(ProbeArgs),
    Absorption(AbsorptionArgs),
    Geometry(GeometryArgs),
    Topology(TopologyArgs),
    Utility(UtilityArgs),
    Circles(CirclesArgs),
    Groups(GroupsArgs),
    Cloud(CloudArgs),
    Report(ReportArgs),
    Compare(CompareArgs),
    Inspect(InspectArgs),
    Doctor(DoctorArgs),
    Completions(CompletionsArgs),
}

impl Cli {
    /// The command line of this process, or what is wrong with it and what may have been meant.
    ///
    /// # Errors
    /// If it is none of the program's, or asks for help or the version.
    pub fn of_process() -> Result<Self, clap::Error> {
        let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        Self::try_parse().map_err(|mistake| tips::with_tip(mistake, &words))
    }

    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// As the command says.
    pub fn run(&self) -> anyhow::Result<()> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        let progress = Progress::detect(self.quiet);
        match &self.command {
            Command::Demo(args) => args.run(&self.device, progress),
            Command::Train(args) => args.run(&self.device, progress),
            Command::New(args) => args.run(progress),
            Command::Sweep(args) => args.run(&self.device, progress),
            Command::Gather(args) => args.run(progress),
            Command::Eval(args) => args.run(&self.device, progress),
            Command::Features(args) => args.run(&self.device, progress),
            Command::Latents(args) => args.run(&self.device, progress),
            Command::Saes(args) => args.run(),
            Command::Capture(args) => args.run(&self.device, progress),
            Command::Encode(args) => args.run(&self.device, progress),
            Command::Convert(args) => args.run(progress),
            Command::Probe(args) => args.run(&self.device, progress),
            Command::Absorption(args) => args.run(&self.device, progress),
            Command::Geometry(args) => args.run(&self.device, progress),
            Command::Topology(args) => args.run(progress),
            Command::Utility(args) => args.run(progress),
            Command::Cloud(args) => args.run(&self.device, progress),
            Command::Circles(args) => args.run(&self.device, progress),
            Command::Groups(args) => args.run(&self.device, progress),
            Command::Report(args) => args.run(),
            Command::Compare(args) => args.run(),
            Command::Inspect(args) => args.run(progress),
            Command::Doctor(args) => args.run(),
            Command::Completions(args) => args.run(),
        }
    }
}
