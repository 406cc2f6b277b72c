//! `assay new`: a commented spec for a model and a text.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::draft::DraftArgs;
use super::sweep::quoted;
use crate::files::write_atomic;
use crate::output;
use crate::progress::Progress;
use crate::spec::SpecDocument;
use crate::spec::draft::{Coders, Layers};

/// Write a sweep for your model and text: NAME.toml, with a comment on each choice.
///
/// It looks at both first: how many layers there are, how long contexts may be, how many tokens the text has, and how many are left for
/// the evaluation. A model or dataset on the hub is fetched for that. Paths stay as they are given, relative to the current directory,
/// where the file is written. An existing file is never replaced.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay new first --model models/bundled/small --text models/bundled/train.parquet\n  assay sweep first.toml --dry-run"
)]
pub struct NewArgs {
    /// The sweep's name: letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    draft: DraftArgs,
}

/// Active latents per token of the SAEs that are proposed.
const K: [u64; 3] = [16, 32, 64];
/// Seeds that are proposed: the fewest of which a spread says something.
const SEEDS: [u64; 3] = [0, 1, 2];

impl NewArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model or the text can't be used, the name can't be that of a sweep, or the file is there.
    pub fn run(&self, progress: Progress) -> Result<()> {
        // Whoever names the file means the same.
        let name = self.name.strip_suffix(".toml").unwrap_or(&self.name);
        ensure!(
            !name.contains(['/', '\\']),
            "{name}: the spec is written to the current directory, as its paths are relative to where it lies; give a name without a `/`"
        );
        let path = PathBuf::from(format!("{name}.toml"));
        ensure!(
            path.symlink_metadata().is_err(),
            "{} is there already; remove it, or give another name",
            path.display()
        );
        let found = self.draft.look(progress)?;
        let coders = Coders { architecture: "topk".to_owned(), l0: K.to_vec() };
        let text = self.draft.draft(&found, name, Layers::Depths, coders, SEEDS.to_vec())?.text();
        SpecDocument::of(&path, &text, &[])?.spec()?;
        write_atomic(&path, text.as_bytes())?;
        progress.say(&format!("next: assay sweep {} --dry-run", quoted(&path.to_string_lossy())));
        output::result_line(path.display())
    }
}
