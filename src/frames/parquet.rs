//! Parquet read, with errors that name the file and the column.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use polars::prelude::{DataFrame, ParquetReader, PolarsResult, SerReader, Series};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::seal::{KEY, is_whole};

/// What Polars makes of a parquet file. Its reader ends in a panic where a file is damaged in a way that it did not think of; that is an
/// error like any other.
///
/// # Errors
/// Those of `read`, and where it panics one that says so.
pub fn guarded<T>(read: impl FnOnce() -> PolarsResult<T>) -> Result<T> {
    let found = catch_unwind(AssertUnwindSafe(read)).map_err(|_| anyhow!("its parser gave up"))?;
    Ok(found?)
}

/// A parquet file as a frame. If it holds the hash of its bytes, as those do that this program writes, it is checked.
///
/// # Errors
/// If it is missing or damaged.
pub fn open(path: &Path) -> Result<DataFrame> {
    let shown = path.display();
    let dir = path.parent().unwrap_or(Path::new("")).display();
    let bytes = std::fs::read(path).with_context(|| {
        format!("cannot read {shown}; `assay sweep` writes it, and `assay gather '{dir}'` where its groups were worked on one by one")
    })?;
    ensure!(
        is_whole(&bytes) != Some(false),
        "{shown} is damaged: it is not what was written. Copy it again, or make it anew by `assay gather '{dir}'`, where the records of its runs \
         are; if it was changed on purpose, leave the key {KEY} out of its metadata"
    );
    guarded(|| ParquetReader::new(Cursor::new(bytes)).finish()).with_context(|| {
        format!("{shown} is no parquet file or damaged; copy it again, or run the command again that wrote it")
    })
}

/// A parquet file, with errors that name it and the column.
pub struct Frame {
    name: String,
    frame: DataFrame,
}

impl Frame {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { name: path.display().to_string(), frame: open(path)? })
    }

    fn column(&self, name: &str) -> Result<&Series> {
        let column = self.frame.column(name).with_context(|| format!("{}: no column {name}", self.name))?;
        Ok(column.as_materialized_series())
    }

    pub fn text(&self, name: &str) -> Result<Vec<String>> {
        let series = self.column(name)?;
        let values = series.str().with_context(|| format!("{}: column {name} is not text", self.name))?;
        Ok(values.iter().map(|v| v.unwrap_or_default().to_owned()).collect())
    }

    /// The same, or `None` where there is no such column.
    pub fn text_if_any(&self, name: &str) -> Result<Option<Vec<String>>> {
        self.frame.column(name).is_ok().then(|| self.text(name)).transpose()
    }

    /// The same with its nulls, which are all there is where there is no such column.
    pub fn text_or_null(&self, name: &str) -> Result<Vec<Option<String>>> {
        if self.frame.column(name).is_err() {
            return Ok(vec![None; self.height()]);
        }
        let column = self.column(name)?.str().with_context(|| format!("{}: column {name} is no text", self.name))?;
        Ok(column.iter().map(|value| value.map(str::to_owned)).collect())
    }

    pub fn numbers(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let cast = self.column(name)?.cast(&polars::prelude::DataType::Float64);
        let cast = cast.with_context(|| format!("{}: column {name} is not numeric", self.name))?;
        Ok(cast.f64().with_context(|| format!("{}: column {name}", self.name))?.iter().collect())
    }

    /// The same, or `None` where there is no such column.
    pub fn numbers_if_any(&self, name: &str) -> Result<Option<Vec<Option<f64>>>> {
        self.frame.column(name).is_ok().then(|| self.numbers(name)).transpose()
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.frame.height()
    }

    /// Whole numbers, of which f64 would lose digits.
    pub fn whole(&self, name: &str) -> Result<Vec<u64>> {
        let values = self.whole_or_null(name)?.into_iter();
        values.map(|v| v.with_context(|| format!("{}: column {name} holds a null", self.name))).collect()
    }

    /// The same where a number may be missing.
    pub fn whole_or_null(&self, name: &str) -> Result<Vec<Option<u64>>> {
        let cast = self.column(name)?.cast(&polars::prelude::DataType::UInt64);
        let cast = cast.with_context(|| format!("{}: column {name} is not whole numbers", self.name))?;
        Ok(cast.u64().with_context(|| format!("{}: column {name}", self.name))?.iter().collect())
    }

    /// The rows as values of a type whose fields are numeric columns; see [`fields`].
    pub fn fields<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let columns = self.numeric_columns()?;
        let rows = 0..self.frame.height();
        let row = |at: usize| {
            let fields = columns.iter().map(|(name, values)| {
                // A whole number is one in JSON too: some fields are counts.
                let whole = values[at].filter(|v| *v == v.trunc() && v.abs() < 1e15);
                (name.clone(), whole.map_or_else(|| json!(values[at]), |v| json!(v as i64)))
            });
            serde_json::from_value(fields.collect()).with_context(|| format!("{}: row {at}", self.name))
        };
        rows.map(row).collect()
    }

    pub fn flags(&self, name: &str) -> Result<Vec<bool>> {
        let values = self.column(name)?.bool().with_context(|| format!("{}: column {name}", self.name))?;
        Ok(values.iter().map(Option::unwrap_or_default).collect())
    }

    pub fn numeric_columns(&self) -> Result<Vec<(String, Vec<Option<f64>>)>> {
        let names =
            self.frame.columns().iter().filter(|c| c.dtype().is_primitive_numeric()).map(|c| c.name().to_string());
        names.map(|name| Ok((name.clone(), self.numbers(&name)?))).collect()
    }
}
