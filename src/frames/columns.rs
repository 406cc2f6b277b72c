//! Columns, frames of them, and parquet written.

use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series, StatisticsOptions};
use serde::Serialize;

use super::seal::{seal, unsealed};
use crate::files::write_atomic;

pub fn text(name: &str, values: impl Iterator<Item = String>) -> Column {
    Column::from(Series::new(name.into(), values.collect::<Vec<String>>()))
}

pub fn whole(name: &str, values: impl Iterator<Item = u64>) -> Column {
    Column::from(Series::new(name.into(), values.collect::<Vec<u64>>()))
}

pub fn numbers(name: &str, values: impl Iterator<Item = Option<f64>>) -> Column {
    Column::from(Series::new(name.into(), values.collect::<Vec<Option<f64>>>()))
}

pub fn frame(columns: Vec<Column>) -> Result<DataFrame> {
    DataFrame::new_infer_height(columns).context("columns of one length")
}

/// Writes parquet with nothing in it that depends on when or where, on one thread: the same frame gives the same bytes. A hash of them is in it.
pub fn write_frame(path: &Path, mut frame: DataFrame) -> Result<()> {
    // By way of memory: the writer's own words for a full disk are «Invalid thrift: transport error».
    let mut bytes = Vec::new();
    // Frames are small, wide and committed: statistics of each column would take more room than most columns.
    ParquetWriter::new(&mut bytes)
        .set_parallel(false)
        .with_statistics(StatisticsOptions::empty())
        .with_key_value_metadata(Some(unsealed()))
        .finish(&mut frame)
        .with_context(|| format!("{} can't be made", path.display()))?;
    seal(&mut bytes)?;
    write_atomic(path, &bytes)
}

/// A column for each field of some rows, all of whose fields are numbers or null: the type is the one list of its columns.
pub fn fields<'a, T: Serialize + 'a>(rows: impl Iterator<Item = &'a T>) -> Result<Vec<Column>> {
    let mut columns: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for row in rows {
        let value = serde_json::to_value(row).context("a row serialises")?;
        for (at, (name, value)) in value.as_object().into_iter().flatten().enumerate() {
            if columns.len() == at {
                columns.push((name.clone(), Vec::new()));
            }
            columns[at].1.push(value.as_f64());
        }
    }
    Ok(columns.into_iter().map(|(name, values)| numbers(&name, values.into_iter())).collect())
}
