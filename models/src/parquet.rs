//! Parquet shards, read block by block: a block is a row group, or a part of a large one.

mod floats;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::io::parquet::metadata::FileMetadata;
use polars::io::parquet::read::_internal::to_deserializer;
use polars::polars_compute::cast::cast_unchecked;
use polars::prelude::{
    ArrowDataType, ArrowField, ParallelStrategy, ParquetReader, PlSmallStr, PolarsError, SerReader, Series,
};

use crate::corpus::padding;
use crate::error::{ModelError, Result};
use crate::files::{guarded, is_lfs_pointer, lfs_pointer, open_regular};
use crate::reading::{Column, Contents, Field, Reading};

pub use self::floats::FloatLists;

/// Token ids, or bytes of text, that are decoded at a time, about: what is in memory.
const BLOCK: usize = 1 << 24;

/// A parquet file with a column of tokens or text.
pub(crate) struct Shard {
    path: PathBuf,
    column: Column,
    columns: Vec<String>,
    /// Of lists of integers of 8 or 16 bits, the field with those of 32 that are stored.
    widened: Vec<ArrowField>,
    groups: Vec<Group>,
}

/// Why a row is not read.
#[derive(Clone, Debug)]
pub(crate) enum BadRow {
    /// It is null.
    Null,
    /// What is wrong with the column that says which tokens count.
    Mask(String),
}

struct Group {
    rows: Range<usize>,
    /// Rows a block; the last of the group has those left over as well.
    block: usize,
}

impl Group {
    fn blocks(&self) -> usize {
        (self.rows.len() / self.block).max(1)
    }

    fn nth_block(&self, at: usize) -> Range<usize> {
        let start = |at: usize| self.rows.start + at * self.block;
        start(at)..if at + 1 == self.blocks() { self.rows.end } else { start(at + 1) }
    }
}

/// Shards that are all read for the same.
pub(crate) fn open_all(paths: &[PathBuf], reading: &Reading) -> Result<(Vec<Shard>, Contents)> {
    let shards = paths.iter().map(|path| Shard::open(path, reading)).collect::<Result<Vec<_>>>()?;
    let first = shards.iter().find(|shard| shard.rows() > 0).unwrap_or(&shards[0]);
    let contents = first.column.contents;
    match shards.iter().find(|s| s.column.contents != contents && s.rows() > 0) {
        None => Ok((shards, contents)),
        Some(other) => {
            let why = format!(
                "it has `{}` where {} has `{}`; name files of one kind",
                other.column.name,
                first.path.display(),
                first.column.name
            );
            Err(ModelError::data(&other.path, why))
        }
    }
}

impl Shard {
    /// Reads the footer.
    pub(crate) fn open(path: &Path, reading: &Reading) -> Result<Self> {
        let (file, metadata) = metadata(path)?;
        let mut reader = ParquetReader::new(file);
        reader.set_metadata(Arc::new(metadata.clone()));
        let schema = guarded(path, || reader.schema().map_err(bad(path)))?;
        let fields: Vec<Field> = schema.iter_values().map(field).collect();
        let columns: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
        let mut column = match reading.choose(&fields, "column") {
            Ok(column) => column,
            // Columns without rows may have any type.
            Err(_) if metadata.num_rows == 0 => {
                Column { name: String::new(), contents: reading.wanted.unwrap_or(Contents::Text), mask: None }
            }
            Err(why) => return Err(ModelError::data(path, why)),
        };
        column.mask = column.mask.filter(|mask| !is_all_ones(&metadata, &column.name, mask));
        let mut groups = Vec::with_capacity(metadata.row_groups.len());
        let mut first = 0;
        for group in metadata.row_groups.iter().filter(|g| g.num_rows() > 0) {
            let rows = group.num_rows();
            let size: usize = group
                .columns_under_root_iter(&column.name)
                .into_iter()
                .flatten()
                .map(|chunk| match column.contents {
                    Contents::Tokens => usize::try_from(chunk.num_values()).unwrap_or(0),
                    Contents::Text => usize::try_from(chunk.uncompressed_size()).unwrap_or(0),
                })
                .sum();
            groups.push(Group { rows: first..first + rows, block: (BLOCK / (size / rows).max(1)).max(2) });
            first += rows;
        }
        let read = [Some(column.name.as_str()), column.mask.as_deref()];
        let widened = read.into_iter().flatten().filter_map(|name| widened(schema.get(name)?)).collect();
        Ok(Self { path: path.to_owned(), column, columns, widened, groups })
    }

    /// What is read of it.
    pub(crate) fn column(&self) -> &Column {
        &self.column
    }

    /// Whether a column says which tokens count, and it is not known that all do.
    pub(crate) fn is_padded(&self) -> bool {
        self.column.mask.is_some()
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all its columns.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Rows in it.
    pub(crate) fn rows(&self) -> usize {
        self.groups.last().map_or(0, |g| g.rows.end)
    }

    /// Its rows, block by block.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        self.groups.iter().flat_map(|g| (0..g.blocks()).map(|at| g.nth_block(at)))
    }

    /// The rows of the block that holds a row.
    pub(crate) fn block_of(&self, row: usize) -> Range<usize> {
        let group = &self.groups[self.groups.partition_point(|g| g.rows.end <= row)];
        group.nth_block(((row - group.rows.start) / group.block).min(group.blocks() - 1))
    }

    /// The values of a column in a block, or in a part of one. Only the row group that holds it is looked at.
    ///
    /// Polars reads a slice of a list column by decoding its whole row group, so a caller that goes on from there keeps the block.
    fn load(&self, name: &str, rows: Range<usize>) -> Result<Series> {
        let bad = bad(&self.path);
        let (file, mut metadata) = metadata(&self.path)?;
        let at = self.groups.partition_point(|g| g.rows.end <= rows.start);
        let mut groups = metadata.row_groups.into_iter().filter(|g| g.num_rows() > 0);
        let group = groups.nth(at).ok_or_else(|| ModelError::data(&self.path, "it has changed since it was opened"))?;
        // Polars looks at the value of a column of one row, and can't where its integers are narrow.
        if let (1, Some(field)) = (group.num_rows(), self.widened.iter().find(|field| field.name == name)) {
            let mut chunks = Vec::new();
            for chunk in group.columns_under_root_iter(name).into_iter().flatten() {
                let range = chunk.byte_range();
                let mut bytes = vec![0; (range.end - range.start) as usize];
                (&file).seek(SeekFrom::Start(range.start)).map_err(|e| ModelError::read(&self.path, e))?;
                (&file).read_exact(&mut bytes).map_err(|e| ModelError::read(&self.path, e))?;
                chunks.push((chunk, bytes.into()));
            }
            return guarded(&self.path, || {
                let (lists, _) = to_deserializer(chunks, field.clone(), None).map_err(&bad)?;
                Series::try_from((PlSmallStr::EMPTY, lists)).map_err(&bad)
            });
        }
        metadata.num_rows = group.num_rows();
        metadata.row_groups = vec![group];
        let first = rows.start - self.groups[at].rows.start;
        // On this thread: a caller may hold a lock, and a pool that waits runs other tasks, which may want the lock too.
        let mut reader = ParquetReader::new(file)
            .read_parallel(ParallelStrategy::None)
            .with_columns(Some(vec![name.to_owned()]))
            .with_slice(Some((first, rows.len())));
        reader.set_metadata(Arc::new(metadata));
        let frame = guarded(&self.path, || reader.finish().map_err(&bad))?;
        let series = frame.column(name).map_err(&bad)?.as_materialized_series().clone();
        if series.len() == rows.len() {
            Ok(series)
        } else {
            Err(ModelError::data(&self.path, "it has fewer rows than its footer says; copy it again"))
        }
    }

    /// The documents of a block.
    pub(crate) fn texts(&self, rows: Range<usize>) -> Result<Vec<String>> {
        let series = self.load(&self.column.name, rows.clone())?;
        let texts = series.str().map_err(bad(&self.path))?;
        let text_of =
            |(at, text): (usize, Option<&str>)| text.map(str::to_owned).ok_or_else(|| self.null_row(rows.start + at));
        texts.iter().enumerate().map(text_of).collect()
    }

    /// Gives `each` the ids that count of every row of a block, with the row's number; a null among them is −1.
    pub(crate) fn lists(&self, rows: Range<usize>, mut each: impl FnMut(usize, Result<&[i64], BadRow>)) -> Result<()> {
        let first = rows.start;
        let mut masks = Vec::new();
        if let Some(mask) = &self.column.mask {
            self.each_list(mask, rows.clone(), |_, mask| masks.push(mask.map(<[i64]>::to_vec)))?;
        }
        self.each_list(&self.column.name, rows, |row, ids| {
            let Some(ids) = ids else { return each(row, Err(BadRow::Null)) };
            let counted = match (&self.column.mask, masks.get(row - first)) {
                (None, _) => Ok(0..ids.len()),
                (Some(_), Some(Some(mask))) => padding::counted(ids.len(), mask),
                (Some(_), _) => Err("is null".to_owned()),
            };
            each(row, counted.map(|range| &ids[range]).map_err(BadRow::Mask));
        })
    }

    /// Gives `each` the integers of every row of a block of a column of lists: of a null row `None`, of a null among them −1.
    fn each_list(&self, name: &str, rows: Range<usize>, mut each: impl FnMut(usize, Option<&[i64]>)) -> Result<()> {
        let bad = bad(&self.path);
        let series = self.load(name, rows.clone())?;
        let mut row = rows.start;
        for lists in series.list().map_err(&bad)?.downcast_iter() {
            let ids = cast_unchecked(lists.values().as_ref(), &ArrowDataType::Int64).map_err(&bad)?;
            let ids = Series::try_from((PlSmallStr::EMPTY, ids)).map_err(&bad)?;
            let ids = ids.i64().map_err(&bad)?;
            let with_nulls: Vec<i64>;
            let values = match ids.cont_slice() {
                Ok(values) => values,
                Err(_) => {
                    with_nulls = ids.iter().map(|id| id.unwrap_or(-1)).collect();
                    &with_nulls
                }
            };
            for at in 0..lists.len() {
                let (from, to) = lists.offsets().start_end(at);
                let is_null = lists.validity().is_some_and(|valid| !valid.get_bit(at));
                each(row, (!is_null).then(|| &values[from..to]));
                row += 1;
            }
        }
        Ok(())
    }

    /// The error of a row that is not read.
    pub(crate) fn bad_row(&self, row: usize, why: BadRow) -> ModelError {
        match why {
            BadRow::Null => self.null_row(row),
            BadRow::Mask(why) => {
                let mask = self.column.mask.as_deref().unwrap_or_default();
                ModelError::data(&self.path, format!("row {row}: `{mask}` {why}"))
            }
        }
    }

    /// The error of a value that is no token id.
    pub(crate) fn no_token(&self, row: usize, id: i64) -> ModelError {
        ModelError::data(&self.path, format!("row {row}: {id} is not a token id"))
    }

    fn null_row(&self, row: usize) -> ModelError {
        ModelError::data(&self.path, format!("row {row} of column `{}` is null", self.column.name))
    }
}

/// A column's name, and what it may be read as.
fn field(field: &ArrowField) -> Field {
    use ArrowDataType as T;
    let element = match &field.dtype {
        T::LargeList(inner) | T::List(inner) | T::FixedSizeList(inner, _) => Some(&inner.dtype),
        _ => None,
    };
    let integers = matches!(
        element,
        Some(T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64)
    );
    let fits = match &field.dtype {
        T::Utf8View | T::Utf8 | T::LargeUtf8 => Some(Contents::Text),
        _ => integers.then_some(Contents::Tokens),
    };
    let is_mask = integers || matches!(element, Some(T::Boolean));
    Field { name: field.name.to_string(), fits, is_mask, kind: words(&field.dtype) }
}

/// A type in words. Not polars' own, which panics at those that its features leave out.
fn words(dtype: &ArrowDataType) -> String {
    use ArrowDataType as T;
    let names = |fields: &[ArrowField]| fields.iter().map(|f| format!("`{}`", f.name)).collect::<Vec<_>>().join(", ");
    match dtype {
        T::Boolean => "bool".to_owned(),
        T::Int8 => "i8".to_owned(),
        T::Int16 => "i16".to_owned(),
        T::Int32 => "i32".to_owned(),
        T::Int64 => "i64".to_owned(),
        T::UInt8 => "u8".to_owned(),
        T::UInt16 => "u16".to_owned(),
        T::UInt32 => "u32".to_owned(),
        T::UInt64 => "u64".to_owned(),
        T::Float16 => "f16".to_owned(),
        T::Float32 => "f32".to_owned(),
        T::Float64 => "f64".to_owned(),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "str".to_owned(),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "binary".to_owned(),
        T::Date32 | T::Date64 => "date".to_owned(),
        T::Time32(_) | T::Time64(_) => "time".to_owned(),
        T::Timestamp(..) => "timestamp".to_owned(),
        T::Decimal(precision, scale) => format!("decimal({precision}, {scale})"),
        T::List(inner) | T::LargeList(inner) | T::FixedSizeList(inner, _) => format!("list of {}", words(&inner.dtype)),
        T::Struct(fields) => format!("struct of {}", names(fields)),
        T::Map(..) => "map".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Whether the footer says that a mask is 1 everywhere, and has as many entries as there are tokens.
fn is_all_ones(metadata: &FileMetadata, tokens: &str, mask: &str) -> bool {
    metadata.row_groups.iter().all(|group| {
        let chunks = |name: &str| group.columns_under_root_iter(name).into_iter().flatten().collect::<Vec<_>>();
        let values = |name: &str| chunks(name).iter().map(|chunk| chunk.num_values()).sum::<i64>();
        values(tokens) == values(mask)
            && chunks(mask).iter().all(|chunk| {
                let Some(Ok(found)) = chunk.statistics(&metadata.footer_buf) else { return false };
                found.null_count() == Some(0)
                    && (found.as_int32().is_some_and(|s| (s.min_value, s.max_value) == (Some(1), Some(1)))
                        || found.as_int64().is_some_and(|s| (s.min_value, s.max_value) == (Some(1), Some(1)))
                        || found.as_boolean().is_some_and(|s| s.min_value == Some(true)))
            })
    })
}

/// Of lists of integers of 8 or 16 bits the field that it would be with 32, which is what parquet stores them in.
fn widened(field: &ArrowField) -> Option<ArrowField> {
    let mut field = field.clone();
    let ArrowDataType::LargeList(inner) = &mut field.dtype else { return None };
    inner.dtype = match inner.dtype {
        ArrowDataType::Int8 | ArrowDataType::Int16 => ArrowDataType::Int32,
        ArrowDataType::UInt8 | ArrowDataType::UInt16 => ArrowDataType::UInt32,
        _ => return None,
    };
    Some(field)
}

/// A file and its footer, without the Arrow types that its writer had in mind: what is stored decides, so that dictionaries and
/// lists of fixed size are strings and lists like any other.
fn metadata(path: &Path) -> Result<(File, FileMetadata)> {
    let file = open_regular(path)?;
    let mut head = Vec::new();
    (&file).take(64).read_to_end(&mut head).map_err(|e| ModelError::read(path, e))?;
    if is_lfs_pointer(&head) {
        return Err(lfs_pointer(path));
    }
    let mut reader = ParquetReader::new(file.try_clone().map_err(|e| ModelError::read(path, e))?);
    let shared = guarded(path, || Ok(reader.get_metadata().map_err(bad(path))?.clone()))?;
    drop(reader);
    let mut metadata = Arc::unwrap_or_clone(shared);
    metadata.key_value_metadata = None;
    Ok((file, metadata))
}

fn bad(path: &Path) -> impl Fn(PolarsError) -> ModelError {
    let path = path.to_owned();
    move |e| ModelError::data(&path, format!("it is damaged or no Parquet file ({e}); copy or download it again"))
}

#[cfg(test)]
mod tests {
    use polars::prelude::{Column, DataFrame, NamedFrom as _, ParquetWriter};

    use super::*;

    #[test]
    fn a_row_is_read_without_a_look_at_other_row_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.parquet");
        let rows: Vec<Series> = (0..80_i32).map(|r| Series::new("".into(), [r, r + 1, r + 2])).collect();
        let column = Column::from(Series::new("tokens".into(), rows));
        let mut frame = DataFrame::new_infer_height(vec![column]).unwrap();
        let writer = ParquetWriter::new(File::create(&path).unwrap()).with_row_group_size(Some(10));
        writer.finish(&mut frame).unwrap();

        let (_, footer) = metadata(&path).unwrap();
        assert_eq!(footer.row_groups.len(), 8);
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, group) in footer.row_groups.iter().enumerate() {
            let range = group.full_byte_range();
            if at != 3 {
                bytes[range.start as usize..range.end as usize].fill(0xff);
            }
        }
        std::fs::write(&path, bytes).unwrap();
        let shard = Shard::open(&path, &Reading::default()).unwrap();
        assert_eq!((shard.rows(), shard.block_of(37)), (80, 30..40));
        let mut found = Vec::new();
        shard.lists(30..40, |row, ids| found.push((row, ids.unwrap().to_vec()))).unwrap();
        assert_eq!(found, (30..40).map(|r| (r as usize, vec![r, r + 1, r + 2])).collect::<Vec<_>>());
        assert!(shard.lists(20..30, |_, _| ()).is_err());
    }

    #[test]
    fn large_row_groups_are_read_in_parts() {
        let group = |rows, block| Group { rows, block };
        let shard = Shard {
            path: PathBuf::new(),
            column: crate::reading::Column { name: "tokens".to_owned(), contents: Contents::Tokens, mask: None },
            columns: Vec::new(),
            widened: Vec::new(),
            groups: vec![group(0..10, 4), group(10..13, 9), group(13..14, 2)],
        };
        assert_eq!(shard.blocks().collect::<Vec<_>>(), [0..4, 4..10, 10..13, 13..14]);
        for rows in shard.blocks() {
            assert!(rows.clone().all(|row| shard.block_of(row) == rows));
        }
    }
}
