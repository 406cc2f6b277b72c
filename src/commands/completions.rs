//! `assay completions`: the command line, for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Print a script that completes commands and options in a shell.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay completions bash > ~/.local/share/bash-completion/completions/assay\n  assay completions zsh > ~/.zfunc/_assay\n  assay completions fish > ~/.config/fish/completions/assay.fish"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    /// Runs the command.
    pub fn run(&self) {
        clap_complete::generate(self.shell, &mut Cli::command(), "assay", &mut std::io::stdout());
    }
}
