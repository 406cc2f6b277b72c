//! The `assay` program: parse, run, exit code.

use std::process::ExitCode;

use anyhow::Error;
use assay::cli::Cli;
use assay::interrupt::{self, Interrupted};
use assay::output::{self, ReaderGone};

fn main() -> ExitCode {
    let outcome = match Cli::of_process() {
        Ok(cli) => cli.run(),
        // Help and version are results; clap would ignore that they can't be written.
        Err(request) if !request.use_stderr() => output::result(request.render()),
        Err(mistake) => mistake.exit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    if error.is::<ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    if error.is::<Interrupted>() {
        output::message(error);
        return ExitCode::from(interrupt::exit_code());
    }
    output::message(format_args!("error: {error:#}"));
    ExitCode::FAILURE
}
