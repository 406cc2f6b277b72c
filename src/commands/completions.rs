//! `assay completions`: the command line, for a shell.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output;

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
    ///
    /// # Errors
    /// If standard output can't be written.
    pub fn run(&self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "assay", &mut script);
        output::result(String::from_utf8_lossy(&script))
    }
}
