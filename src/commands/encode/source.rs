//! Activations of a file of any kind that is read, or of a directory of shards.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use assay_models::{FloatLists, first_not_finite, open_regular};
use assay_sae::Rows;

use crate::shards::{INDEX, captured_at, finished};

/// What tensors and columns of activations are usually called: the first is what assay writes.
const USUAL: [&str; 2] = ["activations", "x"];

/// Activations, read in order.
pub(super) enum Source {
    /// Tensors, one after another.
    Tensors(Tensors),
    /// A column of lists.
    Lists(Lists),
}

impl Source {
    /// Opens `FILE`, `FILE:TENSOR` or a directory.
    ///
    /// # Errors
    /// If there is no such file, or it has no activations.
    pub(super) fn open(text: &Path) -> Result<Self> {
        if text.is_dir() {
            return Ok(Self::Tensors(Tensors::shards(text)?));
        }
        let (path, name) = split(text);
        let mut begin = [0; 4];
        let read = open_regular(&path)?.read(&mut begin);
        read.with_context(|| format!("cannot read {}", path.display()))?;
        if begin != *b"PAR1" {
            let open = Rows::open(&path, name.as_deref(), &USUAL)?;
            let (rows, width) = (open.rows(), open.width());
            return Ok(Self::Tensors(Tensors { rows, width, open, waiting: Vec::new(), hook: captured_at(&path) }));
        }
        let lists = FloatLists::open(&path, name.as_deref(), &USUAL)?;
        ensure!(lists.rows() > 0, "{} has no rows", path.display());
        Ok(Self::Lists(Lists { path, lists, group: 0, group_values: Vec::new(), at: 0 }))
    }

    /// The hook of activations that `assay capture` wrote, as it names it.
    pub(super) fn hook(&self) -> Option<&str> {
        match self {
            Self::Tensors(tensors) => tensors.hook.as_deref(),
            Self::Lists(_) => None,
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Tensors(tensors) => tensors.rows,
            Self::Lists(lists) => lists.lists.rows(),
        }
    }

    pub(super) fn width(&self) -> usize {
        match self {
            Self::Tensors(tensors) => tensors.width,
            Self::Lists(lists) => lists.lists.width(),
        }
    }

    /// The next rows, `most` at most; none at the end.
    pub(super) fn next(&mut self, most: usize) -> Result<Vec<f32>> {
        match self {
            Self::Tensors(tensors) => tensors.next(most),
            Self::Lists(lists) => lists.next(most),
        }
    }
}

/// One tensor, or those of several files.
pub(super) struct Tensors {
    rows: usize,
    width: usize,
    open: Rows,
    /// Those to be opened after it, the next one last.
    waiting: Vec<PathBuf>,
    /// Where they were captured, if it is known.
    hook: Option<String>,
}

impl Tensors {
    fn shards(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let Some((contents, shards)) = finished(dir)? else {
            bail!("{shown} is a directory without {INDEX}; name a file of activations in it");
        };
        let [rows, width] = contents.shape;
        let mut waiting: Vec<PathBuf> = shards.into_iter().rev().map(|shard| dir.join(shard.file)).collect();
        let first = waiting.pop().with_context(|| format!("{shown} has no activations"))?;
        let open = Rows::open(&first, None, &USUAL)?;
        let this = Self { rows, width, open, waiting, hook: Some(contents.hook) };
        this.check(&first)?;
        Ok(this)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let (width, found) = (self.width, self.open.width());
        ensure!(found == width, "the activations in {} are {found} wide, those of its {INDEX} {width}", path.display());
        Ok(())
    }

    fn next(&mut self, most: usize) -> Result<Vec<f32>> {
        loop {
            let rows = self.open.read(most)?;
            if !rows.is_empty() {
                return Ok(rows);
            }
            let Some(path) = self.waiting.pop() else { return Ok(rows) };
            self.open = Rows::open(&path, None, &USUAL)?;
            self.check(&path)?;
        }
    }
}

/// A column of lists, of which a row group is in memory.
pub(super) struct Lists {
    path: PathBuf,
    lists: FloatLists,
    /// The row group to be read next.
    group: usize,
    /// The one before it, and where what was not given out begins.
    group_values: Vec<f32>,
    at: usize,
}

impl Lists {
    fn next(&mut self, most: usize) -> Result<Vec<f32>> {
        let width = self.lists.width();
        if self.at == self.group_values.len() && self.group < self.lists.groups() {
            self.group_values = self.lists.group(self.group)?;
            self.at = 0;
            if let Some(bad) = first_not_finite(&self.group_values) {
                bail!(
                    "{}: `{}` holds {} in row {} of row group {}, column {}; activations are finite numbers",
                    self.path.display(),
                    self.lists.column(),
                    self.group_values[bad],
                    bad / width,
                    self.group,
                    bad % width
                );
            }
            self.group += 1;
        }
        let end = self.group_values.len().min(self.at + most * width);
        let rows = self.group_values[self.at..end].to_vec();
        self.at = end;
        Ok(rows)
    }
}

/// A path, and the name behind the colon that ends it, unless the whole is there. Either may have colons of its own: the longest path that is
/// there is meant.
fn split(text: &Path) -> (PathBuf, Option<String>) {
    let shown = text.to_string_lossy();
    let parts = shown.rmatch_indices(':').map(|(at, _)| (&shown[..at], &shown[at + 1..]));
    let mut named = parts.filter(|(path, _)| Path::new(path).exists() && !Path::new(path).is_dir());
    match named.next() {
        Some((path, name)) if !text.exists() => (path.into(), Some(name.to_owned())),
        _ => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensors_name_and_a_files_may_have_colons() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a:b.safetensors");
        std::fs::write(&file, "").unwrap();
        let of = |rest: &str| split(Path::new(&format!("{}{rest}", file.display())));
        assert_eq!(of(""), (file.clone(), None));
        assert_eq!(of(":x"), (file.clone(), Some("x".to_owned())));
        assert_eq!(of(":layer:3:x"), (file.clone(), Some("layer:3:x".to_owned())));
        let gone = dir.path().join("gone:x");
        assert_eq!(split(&gone), (gone, None));
    }
}
