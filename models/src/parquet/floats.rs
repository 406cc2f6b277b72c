//! Activations in a parquet file: a column of lists of floats, all of one length, read a row group at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::io::parquet::metadata::FileMetadata;
use polars::polars_compute::cast::cast_unchecked;
use polars::prelude::{ArrowDataType, ParallelStrategy, ParquetReader, PlSmallStr, SerReader, Series};

use super::{bad, metadata, words};
use crate::error::{ModelError, Result};
use crate::files::guarded;

/// A column of activations.
pub struct FloatLists {
    path: PathBuf,
    column: String,
    width: usize,
    /// Rows of each row group that has any.
    groups: Vec<usize>,
}

impl FloatLists {
    /// Reads the footer, and the first row group, whose first row says how wide the activations are. Without a name it is the only column
    /// of lists of floats, or the one that `usual` names first.
    ///
    /// # Errors
    /// If the file can't be read, or no column or several could be meant.
    pub fn open(path: &Path, column: Option<&str>, usual: &[&str]) -> Result<Self> {
        let (file, footer) = metadata(path)?;
        let mut reader = ParquetReader::new(file);
        reader.set_metadata(Arc::new(footer.clone()));
        let schema = guarded(path, || reader.schema().map_err(bad(path)))?;
        let fits = |dtype: &ArrowDataType| match dtype {
            ArrowDataType::LargeList(inner) | ArrowDataType::List(inner) | ArrowDataType::FixedSizeList(inner, _) => {
                matches!(inner.dtype, ArrowDataType::Float32 | ArrowDataType::Float64)
            }
            _ => false,
        };
        let fitting: Vec<&str> =
            schema.iter_values().filter(|field| fits(&field.dtype)).map(|field| field.name.as_str()).collect();
        let chosen = match (column, &fitting[..]) {
            (Some(name), _) => fitting.iter().find(|fitting| **fitting == name).copied(),
            (None, &[only]) => Some(only),
            (None, _) => usual.iter().find(|name| fitting.contains(name)).copied(),
        };
        let Some(chosen) = chosen else {
            let there: Vec<String> =
                schema.iter_values().map(|field| format!("`{}` ({})", field.name, words(&field.dtype))).collect();
            let wanted = match column {
                Some(name) => format!("`{name}` is no column of lists of f32 or f64"),
                None if fitting.is_empty() => {
                    "it has no column of activations, which are lists of f32 or f64".to_owned()
                }
                None => "say after a `:` which of its columns has the activations, lists of f32 or f64".to_owned(),
            };
            return Err(ModelError::data(path, format!("{wanted}; there are {}", there.join(", "))));
        };
        let rows = |group: usize| footer.row_groups[group].num_rows();
        let groups = (0..footer.row_groups.len()).map(rows).filter(|rows| *rows > 0).collect();
        let mut this = Self { path: path.to_owned(), column: chosen.to_owned(), width: 0, groups };
        if !this.groups.is_empty() {
            this.width = this.lists(0, footer)?.0;
        }
        Ok(this)
    }

    /// The column's name.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.groups.iter().sum()
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many row groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The rows of a row group one after another.
    ///
    /// # Errors
    /// If it can't be read, or a row has another length than the first, is null or has nulls in it.
    pub fn group(&self, at: usize) -> Result<Vec<f32>> {
        let (width, values) = self.lists(at, metadata(&self.path)?.1)?;
        if width == self.width {
            return Ok(values);
        }
        Err(self.uneven(self.groups[..at].iter().sum(), width, self.width))
    }

    /// The length of a row group's rows, and all of them.
    fn lists(&self, at: usize, mut footer: FileMetadata) -> Result<(usize, Vec<f32>)> {
        let bad = bad(&self.path);
        let (file, _) = metadata(&self.path)?;
        let mut groups = footer.row_groups.into_iter().filter(|group| group.num_rows() > 0);
        let group = groups.nth(at).ok_or_else(|| ModelError::data(&self.path, "it has changed since it was opened"))?;
        footer.num_rows = group.num_rows();
        footer.row_groups = vec![group];
        let mut reader = ParquetReader::new(file)
            .read_parallel(ParallelStrategy::None)
            .with_columns(Some(vec![self.column.clone()]));
        reader.set_metadata(Arc::new(footer));
        let frame = guarded(&self.path, || reader.finish().map_err(&bad))?;
        let series = frame.column(&self.column).map_err(&bad)?.as_materialized_series();
        let first: usize = self.groups[..at].iter().sum();
        let (mut width, mut all) = (None, Vec::new());
        let mut row = first;
        for lists in series.list().map_err(&bad)?.downcast_iter() {
            let values = cast_unchecked(lists.values().as_ref(), &ArrowDataType::Float32).map_err(&bad)?;
            let values = Series::try_from((PlSmallStr::EMPTY, values)).map_err(&bad)?;
            let values = values.f32().map_err(&bad)?;
            let values = values.cont_slice().map_err(|_| {
                ModelError::data(&self.path, format!("column `{}` has nulls in its lists", self.column))
            })?;
            for at in 0..lists.len() {
                if lists.validity().is_some_and(|valid| !valid.get_bit(at)) {
                    return Err(ModelError::data(&self.path, format!("row {row} of column `{}` is null", self.column)));
                }
                let (from, to) = lists.offsets().start_end(at);
                let expected = *width.get_or_insert(to - from);
                if to - from != expected {
                    return Err(self.uneven(row, to - from, expected));
                }
                all.extend_from_slice(&values[from..to]);
                row += 1;
            }
        }
        Ok((width.unwrap_or(0), all))
    }

    fn uneven(&self, row: usize, found: usize, expected: usize) -> ModelError {
        let column = &self.column;
        ModelError::data(
            &self.path,
            format!("row {row} of column `{column}` has {found} numbers, the first {expected}"),
        )
    }
}
