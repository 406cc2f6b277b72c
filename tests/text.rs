//! From text and token files to contexts.

use std::path::Path;

use assay_models::tokens::{pack_documents, read_token_file, tokenize};
use assay_models::{RowUse, TokenSource};
use ndarray::{Array2, s};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};

use crate::common::{bundled, root, write_tokens};

fn fixture(name: &str) -> std::path::PathBuf {
    root().join("tests/fixtures").join(name)
}

/// Token ids of each document, from Hugging Face's tokenizers in Python.
fn expected() -> Vec<Vec<u32>> {
    serde_json::from_str(&std::fs::read_to_string(fixture("sample-tokens.json")).unwrap()).unwrap()
}

fn write_parquet(path: &Path, column: &str, rows: &[Vec<i32>]) {
    let rows: Vec<Series> = rows.iter().map(|row| Series::new("".into(), row)).collect();
    let mut frame = DataFrame::new_infer_height(vec![Column::from(Series::new(column.into(), rows))]).unwrap();
    ParquetWriter::new(std::fs::File::create(path).unwrap()).finish(&mut frame).unwrap();
}

fn open(path: &Path, context_size: usize, rows: RowUse) -> TokenSource {
    TokenSource::open(path, context_size, rows, None, None).unwrap()
}

#[test]
fn jsonl_is_tokenised_document_by_document() {
    assert_eq!(tokenize(&fixture("sample.jsonl"), &bundled("small")).unwrap(), expected());
}

/// `sample.txt` is the first three documents with empty lines between them.
#[test]
fn plain_text_is_one_document_and_nul_separates_several() {
    let newline = 199;
    let mut whole = Vec::new();
    for (at, document) in expected()[..3].iter().enumerate() {
        whole.extend(if at > 0 { vec![newline; 2] } else { Vec::new() });
        whole.extend(document);
    }
    whole.push(newline);
    assert_eq!(tokenize(&fixture("sample.txt"), &bundled("small")).unwrap(), [whole]);

    let lines = std::fs::read_to_string(fixture("sample.jsonl")).unwrap();
    let documents = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let texts: Vec<String> = documents.map(|d| d["text"].as_str().unwrap().to_owned()).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("several.txt");
    std::fs::write(&path, texts.join("\0")).unwrap();
    assert_eq!(tokenize(&path, &bundled("small")).unwrap(), expected());
}

#[test]
fn text_is_packed_into_whole_contexts() {
    let small = bundled("small");
    let source = TokenSource::open(&fixture("sample.jsonl"), 100, RowUse::First, Some(&small), Some(0)).unwrap();
    let packed = pack_documents(&expected(), 0);
    assert_eq!(packed.len(), expected().iter().map(Vec::len).sum::<usize>() + 12);
    assert_eq!(source.len(), packed.len() / 100);
    let all = source.read(0, source.len()).unwrap();
    assert_eq!(all.as_slice().unwrap(), &packed[..source.len() * 100]);
    assert_eq!(source.read(3, 2).unwrap(), all.slice(s![3..5, ..]));
    assert!(source.read(source.len(), 1).is_err());
}

#[test]
fn parquet_rows_give_their_first_context_or_all() {
    let path = bundled("train.parquet");
    let rows = read_token_file(&path).unwrap();
    let (count, len) = rows.dim();
    let first = open(&path, 100, RowUse::First);
    assert_eq!(first.len(), count);
    assert_eq!(first.read(0, count).unwrap(), rows.slice(s![.., ..100]));
    let split = open(&path, 100, RowUse::Split);
    assert_eq!(split.len(), count * (len / 100));
    let used = rows.slice(s![.., ..len / 100 * 100]).to_owned();
    let expected = Array2::from_shape_vec((split.len(), 100), used.iter().copied().collect()).unwrap();
    assert_eq!(split.read(0, split.len()).unwrap(), expected);
}

#[test]
fn any_range_of_a_parquet_file_is_a_slice_of_it() {
    let path = bundled("train.parquet");
    for (rows, context) in [(RowUse::First, 64), (RowUse::Split, 64), (RowUse::Split, 300), (RowUse::Split, 512)] {
        let source = open(&path, context, rows);
        let all = source.read(0, source.len()).unwrap();
        let n = source.len();
        // Row groups have 64 rows.
        for (first, count) in [(0, 1), (1, 1), (63, 3), (64, 64), (n / 3, n / 2), (n - 1, 1), (n, 0), (7, 0)] {
            let part = source.read(first, count).unwrap();
            assert_eq!(part, all.slice(s![first..first + count, ..]), "{rows:?} {context}: {first}, {count}");
        }
    }
}

#[test]
fn shards_are_read_one_after_another_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let row = |start: i32| (start..start + 7).collect::<Vec<i32>>();
    // Another column name, and an empty shard between two others.
    write_parquet(&dir.path().join("b.parquet"), "input_ids", &[row(20), row(30), row(40)]);
    write_parquet(&dir.path().join("a.parquet"), "input_ids", &[row(0), row(10)]);
    std::fs::write(dir.path().join("README.md"), "not a shard").unwrap();
    let source = open(dir.path(), 3, RowUse::Split);
    assert_eq!(source.len(), 10);
    let starts: Vec<u32> = source.read(0, 10).unwrap().column(0).to_vec();
    assert_eq!(starts, [0, 3, 10, 13, 20, 23, 30, 33, 40, 43]);
    assert_eq!(source.read(3, 3).unwrap().row(0).to_vec(), [13, 14, 15]);
    assert_eq!(open(dir.path(), 3, RowUse::First).read(1, 2).unwrap().column(0).to_vec(), [10, 20]);
}

#[test]
fn a_short_row_is_refused_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ragged.parquet");
    write_parquet(&path, "tokens", &[vec![1, 2, 3, 4], vec![5, 6, 7]]);
    let source = open(&path, 4, RowUse::First);
    assert_eq!(source.read(0, 1).unwrap().row(0).to_vec(), [1, 2, 3, 4]);
    let error = source.read(1, 1).unwrap_err().to_string();
    assert!(error.contains("ragged.parquet") && error.contains('3'), "{error}");
    assert!(read_token_file(&path).is_err());
}

#[test]
fn safetensors_tokens_are_contexts_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.safetensors");
    let tokens = Array2::from_shape_fn((5, 10), |(i, j)| (10 * i + j) as i64);
    write_tokens(&path, &tokens);
    let tokens = tokens.mapv(|t| t as u32);
    assert_eq!(read_token_file(&path).unwrap(), tokens);
    let first = open(&path, 4, RowUse::First);
    assert_eq!(first.len(), 5);
    assert_eq!(first.read(1, 3).unwrap(), tokens.slice(s![1..4, ..4]));
    let split = open(&path, 4, RowUse::Split);
    assert_eq!(split.len(), 10);
    assert_eq!(split.read(3, 2).unwrap().column(0).to_vec(), [14, 20]);
    assert!(TokenSource::open(&path, 11, RowUse::Split, None, None).is_err());
}
