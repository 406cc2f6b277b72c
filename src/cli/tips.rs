//! What somebody meant by an option that there is not, where its spelling alone leads elsewhere.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::Cli;
use crate::spelling::closest;

/// Options of other programs, and what a command has in their place, if it has it.
const MEANT: [(&str, &str); 6] = [
    ("output", "--out"),
    ("points", "--rows"),
    ("lr", "--set train.lr=VALUE"),
    ("learning-rate", "--set train.lr=VALUE"),
    ("steps", "--training-tokens"),
    ("dataset", "--text"),
];

/// The mistake with a tip that leads on; `words` are those of the command line after the program's name.
pub fn with_tip(mut mistake: Error, words: &[String]) -> Error {
    if mistake.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(given)) = mistake.get(ContextKind::InvalidArg)
        && let Some(meant) = meant(given, words)
    {
        mistake.insert(ContextKind::SuggestedArg, ContextValue::String(meant.to_owned()));
    }
    mistake
}

/// What a command has in place of an option.
fn meant(given: &str, words: &[String]) -> Option<&'static str> {
    let name = given.strip_prefix("--")?.split('=').next()?;
    let program = Cli::command();
    let command = words.iter().find_map(|word| program.find_subcommand(word))?;
    let has = |option: &str| command.get_arguments().any(|arg| arg.get_long() == Some(option));
    let close = closest(name, MEANT.iter().map(|(other, _)| *other), 1);
    let (_, meant) = MEANT.iter().find(|(other, _)| Some(other) == close.first())?;
    let option = meant.split(' ').next()?.strip_prefix("--")?;
    has(option).then_some(meant)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn an_option_of_another_program_is_led_to_ours() {
        let said = |line: &[&str]| {
            let words: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
            let mistake = Cli::try_parse_from(["assay"].iter().chain(line)).unwrap_err();
            with_tip(mistake, &words).to_string()
        };
        for (line, expected) in [
            (&["topology", "x.npy", "--points", "20"][..], "'--rows'"),
            (&["features", "--outputs", "x"], "'--out'"),
            (&["train", "--lr", "1e-3"], "'--set train.lr=VALUE'"),
            (&["train", "--steps=9"], "'--training-tokens'"),
            (&["eval", "--sequence", "3"], "'--sequences'"),
        ] {
            let said = said(line);
            assert!(said.contains("tip:") && said.contains(expected), "{line:?}: {said}");
        }
        let said = said(&["saes", "--output", "x"]);
        assert!(!said.contains("--out'"), "it has no such option: {said}");
    }
}
