//! Labelled texts: those of the program, or of a file.

use std::path::PathBuf;

use anyhow::Result;

use crate::circles::Case;
use crate::probe::{Columns, Labelled};

/// Where labelled texts come from.
#[derive(clap::Args, Debug)]
pub struct LabelledArgs {
    #[command(flatten)]
    texts: Texts,
    /// The column, or field, of the text
    #[arg(long, value_name = "NAME", default_value = "text", requires = "data")]
    text_column: String,
    /// The column, or field, of the label
    #[arg(long, value_name = "NAME", default_value = "label", requires = "data")]
    label_column: String,
}

/// One of the two.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Texts {
    /// Built-in sentences: weekdays or months
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Labelled texts, each ending with its class: JSON lines, Parquet or CSV
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

impl LabelledArgs {
    /// The case that is named, if texts are not of a file.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn case(&self) -> Result<Option<Case>> {
        self.texts.case.as_deref().map(Case::ready).transpose()
    }

    /// The texts of the file, if one is named.
    ///
    /// # Errors
    /// As [`Labelled::read`].
    pub fn file(&self) -> Result<Option<Labelled>> {
        let columns = Columns { text: self.text_column.clone(), label: self.label_column.clone(), document: None };
        self.texts.data.as_ref().map(|data| Labelled::read(data, &columns)).transpose()
    }
}
