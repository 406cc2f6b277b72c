//! Labelled texts and settings as they are given on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use assay_probes::probing::Protocol;

use crate::probe::{Columns, Labelled, bundled, in_directory, installed};
use crate::progress::Progress;

/// Where labelled texts come from.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Labelled texts")]
pub(super) struct Labels {
    #[command(flatten)]
    source: Source,
    /// The column, or field, of the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_column: String,
    /// The column, or field, of the label: two or more texts, numbers or booleans, at most fifty
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_column: String,
    /// The column, or field, that tells documents apart: no document is both fitted and tested on [default: each text is one]
    #[arg(long, value_name = "NAME")]
    document_column: Option<String>,
    /// Only these sets of --tasks: source, code, digit, capital, quote and position, or the package's, such as 105_click_bait
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "tasks")]
    task: Vec<String>,
    /// Where the data of sae-probes are, …/sae_probes/data/cleaned_data [default: where python3 finds the package]
    #[arg(long, value_name = "DIR", requires = "tasks")]
    tasks_dir: Option<PathBuf>,
}

/// One of the two.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Source {
    /// Labelled texts: JSON lines, Parquet or CSV; several files are several sets
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Built-in labelled texts
    #[arg(long, value_enum, value_name = "NAME")]
    tasks: Option<Ready>,
}

/// Labelled texts that need no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ready {
    /// Made from the bundled text: its source, the language of code, a digit or a capital in the last word, quotation, position
    Bundled,
    /// Those of the Python package sae-probes, where it is installed
    SaeProbes,
}

impl Labels {
    /// The sets.
    pub(super) fn sets(&self, progress: Progress) -> Result<Vec<Labelled>> {
        ensure!(
            self.tasks_dir.is_none() || self.source.tasks == Some(Ready::SaeProbes),
            "--tasks-dir is of --tasks sae-probes"
        );
        match self.source.tasks {
            Some(Ready::Bundled) => bundled(&self.task),
            Some(Ready::SaeProbes) => {
                let dir = self.tasks_dir.clone().map_or_else(installed, Ok)?;
                in_directory(&dir, &self.task, |text| progress.say(text))
            }
            None => {
                let columns = Columns {
                    text: self.text_column.clone(),
                    label: self.label_column.clone(),
                    document: self.document_column.clone(),
                };
                self.source.data.iter().map(|path| Labelled::read(path, &columns)).collect()
            }
        }
    }
}

/// How many columns a probe reads; `None`: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width(pub Option<usize>);

impl FromStr for Width {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<usize>() {
            _ if text == "all" => Ok(Self(None)),
            Ok(k) if k > 0 => Ok(Self(Some(k))),
            _ => Err("give whole numbers from 1 up, and `all`".to_owned()),
        }
    }
}

pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    [Protocol::SaeBench, Protocol::SaeProbes]
        .into_iter()
        .find(|protocol| protocol.name() == text)
        .ok_or_else(|| "give saebench or sae-probes".to_owned())
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.05..=0.95).contains(&share) => Ok(share),
        _ => Err("give a number from 0.05 to 0.95".to_owned()),
    }
}
