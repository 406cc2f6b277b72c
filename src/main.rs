//! The `assay` program: parse, run, exit code.

use std::process::ExitCode;

use assay::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    stop_quietly_when_nobody_reads();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `assay … | head`: the reader has seen enough, which is no failure. The standard library has no other place to learn of it than the
/// panic of `println!`.
fn stop_quietly_when_nobody_reads() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            std::process::exit(0);
        }
        default(info);
    }));
}
