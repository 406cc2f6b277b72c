//! Clouds of points: a matrix from a file of any kind that holds one, a row a point, in f64.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use assay_models::open_regular;
use assay_sae::NpyHeader;
use burn::tensor::Tensor;
use half::{bf16, f16};
use ndarray::Array2;
use polars::prelude::{DataType, ParquetReader, SerReader as _, Series};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};
use zip::ZipArchive;

use crate::frames::guarded;

/// Reads the matrix of a file: numpy's `.npy` and `.npz`, safetensors, or Parquet. `key` says which of several arrays or columns. What has more
/// than two dimensions is taken row by row.
///
/// # Errors
/// If the file is none of these, holds no matrix of numbers, or several and no key.
pub fn read(path: &Path, key: Option<&str>) -> Result<Array2<f64>> {
    let mut begin = Vec::new();
    open_regular(path)?.take(8).read_to_end(&mut begin).with_context(|| format!("cannot read {}", path.display()))?;
    let found = if NpyHeader::is(&begin) {
        ensure!(key.is_none(), "it is one array without a name; leave out the key `{}`", key.unwrap_or_default());
        array(&mut BufReader::new(File::open(path)?), std::fs::metadata(path)?.len())
    } else if begin.starts_with(b"PK\x03\x04") {
        archive(path, key)
    } else if begin.starts_with(b"PAR1") {
        parquet(path, key)
    } else {
        tensors(path, key)
    };
    found.with_context(|| format!("cannot read a cloud of points from {}", path.display()))
}

/// Reads the labels of a cloud's points, `[n, labels]`: zeros and ones in a file as [`read`] reads it, a column each; one label may be a row.
///
/// # Errors
/// As [`read`], or if the file has not a row for each point of `cloud`, which was read from `path_of_cloud`, or other values.
pub fn read_labels(path: &Path, key: Option<&str>, cloud: &Array2<f64>, path_of_cloud: &Path) -> Result<Array2<bool>> {
    let mut labels = read(path, key)?;
    if labels.nrows() == 1 && labels.ncols() == cloud.nrows() {
        labels = labels.reversed_axes();
    }
    check_rows(path, &labels, cloud, path_of_cloud)?;
    ensure!(
        labels.iter().all(|&value| value == 0.0 || value == 1.0),
        "{}: labels are 0 or 1, a column each",
        path.display()
    );
    Ok(labels.mapv(|value| value > 0.5))
}

/// Checks that a file has columns, and a row for each point of a cloud.
///
/// # Errors
/// If not.
pub fn check_rows(path: &Path, matrix: &Array2<f64>, cloud: &Array2<f64>, path_of_cloud: &Path) -> Result<()> {
    ensure!(matrix.ncols() > 0, "{} has no columns", path.display());
    ensure!(
        matrix.nrows() == cloud.nrows(),
        "{} has {} rows, and {} has {}: a row is a point in both",
        path.display(),
        matrix.nrows(),
        path_of_cloud.display(),
        cloud.nrows()
    );
    Ok(())
}

/// Places of at most `most` tokens of a context, ascending, chosen at random by a seed and the number of the context among those from `from` up to
/// `to`.
pub fn places(seed: u64, context: usize, [from, to]: [usize; 2], most: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(context as u64);
    let mut chosen = sample(&mut rng, to - from, most.min(to - from)).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|place| from + place).collect()
}

/// A matrix of a device, `[n, d]`, in f64.
///
/// # Errors
/// If it can't be read there.
pub fn as_f64(matrix: Tensor<2>) -> Result<Array2<f64>> {
    let shape = matrix.dims();
    let values = matrix.into_data().convert::<f32>().try_into_vec::<f32>().map_err(|e| anyhow!("{e:?}"))?;
    Ok(Array2::from_shape_vec(shape, values.into_iter().map(f64::from).collect())?)
}

/// A matrix of all that comes after the leading dimensions.
fn matrix(values: Vec<f64>, shape: &[usize]) -> Result<Array2<f64>> {
    let Some((&width, rows)) = shape.split_last().filter(|(_, rows)| !rows.is_empty()) else {
        bail!(
            "its array has shape {shape:?}; points are [n, d], and labels [n, labels]: reshape a single one to (n, 1)"
        );
    };
    Ok(Array2::from_shape_vec((rows.iter().product(), width), values)?)
}

/// An array of numpy of `len` bytes.
fn array(from: &mut impl Read, len: u64) -> Result<Array2<f64>> {
    let header = NpyHeader::read(from).map_err(anyhow::Error::msg)?;
    let size = size(&header.descr)?;
    let bytes = header.count().and_then(|count| count.checked_mul(size)).and_then(|bytes| u64::try_from(bytes).ok());
    ensure!(
        bytes.and_then(|bytes| bytes.checked_add(header.len)) == Some(len),
        "its {len} bytes are not the array of shape {:?} that its header names",
        header.shape
    );
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 + header.len == len, "it ends too early");
    let values: Vec<f64> = bytes.chunks_exact(size).map(|bytes| number(&header.descr, bytes)).collect();
    if !header.fortran_order {
        return matrix(values, &header.shape);
    }
    // In Fortran's order the transposed array is what is stored.
    let [rows, width] = header.shape[..] else {
        bail!("its array has shape {:?} in Fortran's order, which is supported for matrices only", header.shape);
    };
    Ok(Array2::from_shape_vec((width, rows), values)?.reversed_axes())
}

/// Bytes of a number that numpy describes so.
fn size(descr: &str) -> Result<usize> {
    let kind = descr.get(1..).filter(|_| descr.starts_with(['<', '>', '|', '=']));
    match kind {
        Some("b1" | "i1" | "u1") => Ok(1),
        Some("f2" | "i2" | "u2") => Ok(2),
        Some("f4" | "i4" | "u4") => Ok(4),
        Some("f8" | "i8" | "u8") => Ok(8),
        _ => {
            bail!("its numbers are '{descr}'; floats (f2, f4, f8), whole numbers (i1 to i8, u1 to u8) and b1 are read")
        }
    }
}

/// A number of [`size`] bytes.
fn number(descr: &str, bytes: &[u8]) -> f64 {
    let mut little = [0; 8];
    little[..bytes.len()].copy_from_slice(bytes);
    if descr.starts_with('>') {
        little[..bytes.len()].reverse();
    }
    let whole = u64::from_le_bytes(little);
    match &descr[1..] {
        "f2" => f16::from_bits(whole as u16).to_f64(),
        "f4" => f64::from(f32::from_bits(whole as u32)),
        "f8" => f64::from_bits(whole),
        "i1" => f64::from(whole as i8),
        "i2" => f64::from(whole as i16),
        "i4" => f64::from(whole as i32),
        "i8" => whole as i64 as f64,
        _ => whole as f64,
    }
}

/// An array of an archive of numpy.
fn archive(path: &Path, key: Option<&str>) -> Result<Array2<f64>> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(path)?))?;
    let mut names: Vec<String> =
        archive.file_names().filter_map(|name| name.strip_suffix(".npy")).map(str::to_owned).collect();
    names.sort();
    let name = one_of(&names, key)?;
    let mut member = archive.by_name(&format!("{name}.npy"))?;
    let len = member.size();
    array(&mut member, len).with_context(|| format!("array `{name}`"))
}

/// The only name, or the one that is asked for.
fn one_of<'a>(names: &'a [String], key: Option<&'a str>) -> Result<&'a str> {
    match (key, names) {
        (Some(key), _) if names.iter().any(|name| name == key) => Ok(key),
        (None, [only]) => Ok(only),
        (_, []) => bail!("it holds no array"),
        (Some(key), _) => bail!("it has no `{key}`; there are {}", names.join(", ")),
        (None, _) => bail!("it holds several arrays; say which with --key: {}", names.join(", ")),
    }
}

/// A tensor of a file of safetensors.
fn tensors(path: &Path, key: Option<&str>) -> Result<Array2<f64>> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| anyhow!("it is no file of numpy, Parquet or safetensors ({e})"))?;
    let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
    names.sort();
    let tensor = file.tensor(one_of(&names, key)?)?;
    let values = |size: usize, of: fn(&[u8]) -> f64| tensor.data().chunks_exact(size).map(of).collect();
    let values: Vec<f64> = match tensor.dtype() {
        Dtype::F16 => values(2, |b| number("<f2", b)),
        Dtype::BF16 => values(2, |b| bf16::from_le_bytes([b[0], b[1]]).to_f64()),
        Dtype::F32 => values(4, |b| number("<f4", b)),
        Dtype::F64 => values(8, |b| number("<f8", b)),
        other => bail!("its numbers are {other:?}; F16, BF16, F32 and F64 are read"),
    };
    matrix(values, tensor.shape())
}

/// A column of lists, or all columns of numbers.
fn parquet(path: &Path, key: Option<&str>) -> Result<Array2<f64>> {
    let reader = ParquetReader::new(File::open(path)?);
    let frame = guarded(|| reader.finish())?;
    let is_list = |dtype: &DataType| matches!(dtype, DataType::List(_));
    let lists: Vec<String> =
        frame.columns().iter().filter(|c| is_list(c.dtype())).map(|c| c.name().to_string()).collect();
    if key.is_some() || !lists.is_empty() {
        let name = one_of(&lists, key)?;
        let column = frame.column(name)?;
        // Labels are whole numbers, too; ids of tokens are neither labels nor places.
        let is_whole = matches!(column.dtype(), DataType::List(of) if of.is_integer());
        ensure!(
            !(is_whole && ["input_ids", "tokens", "token_ids"].contains(&name)),
            "`{name}` holds ids of tokens, which are no points; `assay capture` writes activations"
        );
        return lists_of(column.as_materialized_series()).with_context(|| format!("column `{name}`"));
    }
    let numeric: Vec<_> =
        frame.columns().iter().filter(|c| c.dtype().is_primitive_numeric() || c.dtype().is_bool()).collect();
    ensure!(!numeric.is_empty(), "it has no column of numbers or of lists of numbers");
    let mut cloud = Array2::zeros((frame.height(), numeric.len()));
    for (at, column) in numeric.into_iter().enumerate() {
        let values =
            as_numbers(column.as_materialized_series()).with_context(|| format!("column `{}`", column.name()))?;
        cloud.column_mut(at).assign(&ndarray::Array1::from(values));
    }
    Ok(cloud)
}

/// Lists of one length.
fn lists_of(lists: &Series) -> Result<Array2<f64>> {
    let lists = lists.list()?;
    let rows = lists.len();
    let mut values = Vec::new();
    let mut width = None;
    for row in 0..rows {
        let list = lists.get_as_series(row).with_context(|| format!("row {row} is null"))?;
        let width = *width.get_or_insert(list.len());
        ensure!(list.len() == width, "row {row} has {} numbers, and the first {width}", list.len());
        values.extend(as_numbers(&list).with_context(|| format!("row {row}"))?);
    }
    Ok(Array2::from_shape_vec((rows, width.unwrap_or(0)), values)?)
}

/// Numbers of any kind, none of them null.
fn as_numbers(series: &Series) -> Result<Vec<f64>> {
    let cast = series.cast(&DataType::Float64)?;
    cast.f64()?.iter().enumerate().map(|(at, v)| v.with_context(|| format!("value {at} is null"))).collect()
}
