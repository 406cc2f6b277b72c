//! From text and token files to contexts.

use std::path::Path;

use assay_models::tokens::{Texts, read_token_file};
use assay_models::{RowUse, TokenSource};
use ndarray::{Array2, s};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use crate::common::{bundled, root, write_tokens};

fn fixture(name: &str) -> std::path::PathBuf {
    root().join("tests/fixtures").join(name)
}

/// Token ids of each document, from Hugging Face's tokenizers in Python.
fn expected() -> Vec<Vec<u32>> {
    serde_json::from_str(&std::fs::read_to_string(fixture("sample-tokens.json")).unwrap()).unwrap()
}

/// All documents in one stream, each preceded by the end-of-text token 0.
fn packed(documents: &[Vec<u32>]) -> Vec<u32> {
    documents.iter().flat_map(|d| std::iter::once(0).chain(d.iter().copied())).collect()
}

fn write_parquet(path: &Path, column: &str, rows: &[Vec<i32>], row_group: usize) {
    let rows: Vec<Series> = rows.iter().map(|row| Series::new("".into(), row)).collect();
    let mut frame = DataFrame::new_infer_height(vec![Column::from(Series::new(column.into(), rows))]).unwrap();
    let file = std::fs::File::create(path).unwrap();
    ParquetWriter::new(file).with_row_group_size(Some(row_group)).finish(&mut frame).unwrap();
}

fn open(path: &Path, context_size: usize, rows: RowUse) -> TokenSource {
    TokenSource::open(path, context_size, rows, None).unwrap()
}

fn open_text(path: &Path, context_size: usize) -> TokenSource {
    let texts = Texts { model: &bundled("small"), begin: None, bos: None, eos: Some(0) };
    TokenSource::open(path, context_size, RowUse::First, Some(texts)).unwrap()
}

#[track_caller]
fn all(source: &TokenSource) -> Array2<u32> {
    source.read(0, source.contexts().unwrap()).unwrap()
}

/// Whether a text gives these documents, in whole contexts of a length that leaves no token out.
#[track_caller]
fn assert_text(path: &Path, documents: &[Vec<u32>]) {
    let packed = packed(documents);
    assert_eq!(all(&open_text(path, packed.len())).as_slice().unwrap(), packed);
}

#[test]
fn jsonl_is_tokenised_document_by_document() {
    assert_text(&fixture("sample.jsonl"), &expected());
    assert_text(&fixture("sample.jsonl.zst"), &expected());
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
    assert_text(&fixture("sample.txt"), &[whole]);

    let lines = std::fs::read_to_string(fixture("sample.jsonl")).unwrap();
    let documents = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let texts: Vec<String> = documents.map(|d| d["text"].as_str().unwrap().to_owned()).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("several.txt");
    std::fs::write(&path, texts.join("\0")).unwrap();
    assert_text(&path, &expected());
}

#[test]
fn text_is_packed_into_whole_contexts() {
    let source = open_text(&fixture("sample.jsonl"), 100);
    let packed = packed(&expected());
    // Read before all of it was asked for.
    let early = source.read(3, 2).unwrap();
    assert_eq!(source.contexts().unwrap(), packed.len() / 100);
    let all = all(&source);
    assert_eq!(all.as_slice().unwrap(), &packed[..all.nrows() * 100]);
    assert_eq!(early, all.slice(s![3..5, ..]));
    assert!(source.read(all.nrows(), 1).is_err());
    let mut made = 0;
    open_text(&fixture("sample.jsonl"), 100).check_range_with(0, 5, |tokens| made += tokens).unwrap();
    assert!((500..=packed.len() as u64).contains(&made));
}

#[test]
fn parquet_rows_give_their_first_context_or_all() {
    let path = bundled("train.parquet");
    let rows = read_token_file(&path).unwrap();
    let (count, len) = rows.dim();
    let first = open(&path, 100, RowUse::First);
    assert_eq!(first.contexts().unwrap(), count);
    assert_eq!(first.read(0, count).unwrap(), rows.slice(s![.., ..100]));
    let split = open(&path, 100, RowUse::Split);
    assert_eq!(split.contexts().unwrap(), count * (len / 100));
    let used = rows.slice(s![.., ..len / 100 * 100]).to_owned();
    let expected = Array2::from_shape_vec((count * (len / 100), 100), used.iter().copied().collect()).unwrap();
    assert_eq!(all(&split), expected);
}

#[test]
fn any_range_of_a_parquet_file_is_a_slice_of_it() {
    let path = bundled("train.parquet");
    for (rows, context) in [(RowUse::First, 64), (RowUse::Split, 64), (RowUse::Split, 300), (RowUse::Split, 512)] {
        let source = open(&path, context, rows);
        let all = all(&source);
        let n = all.nrows();
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
    write_parquet(&dir.path().join("b.parquet"), "input_ids", &[row(20), row(30), row(40)], 2);
    write_parquet(&dir.path().join("a.parquet"), "input_ids", &[row(0), row(10)], 2);
    std::fs::write(dir.path().join("README.md"), "not a shard").unwrap();
    let source = open(dir.path(), 3, RowUse::Split);
    assert_eq!(source.contexts().unwrap(), 10);
    let starts: Vec<u32> = source.read(0, 10).unwrap().column(0).to_vec();
    assert_eq!(starts, [0, 3, 10, 13, 20, 23, 30, 33, 40, 43]);
    assert_eq!(source.read(3, 3).unwrap().row(0).to_vec(), [13, 14, 15]);
    assert_eq!(open(dir.path(), 3, RowUse::First).read(1, 2).unwrap().column(0).to_vec(), [10, 20]);
}

#[test]
fn a_short_row_is_refused_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ragged.parquet");
    write_parquet(&path, "tokens", &[vec![1, 2, 3, 4], vec![5, 6, 7]], 2);
    let source = open(&path, 4, RowUse::First);
    assert_eq!(source.read(0, 1).unwrap().row(0).to_vec(), [1, 2, 3, 4]);
    let error = source.read(1, 1).unwrap_err().to_string();
    assert!(error.contains("ragged.parquet: row 1 has 3 tokens among rows of 4"), "{error}");
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
    assert_eq!(first.contexts().unwrap(), 5);
    assert_eq!(first.read(1, 3).unwrap(), tokens.slice(s![1..4, ..4]));
    let split = open(&path, 4, RowUse::Split);
    assert_eq!(split.contexts().unwrap(), 10);
    assert_eq!(split.read(3, 2).unwrap().column(0).to_vec(), [14, 20]);
    assert!(TokenSource::open(&path, 11, RowUse::Split, None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the shards and their row groups, any range is a slice of the whole, in any order of reading.
    #[test]
    fn any_range_is_a_slice_of_the_whole(
        shards in prop::collection::vec(0_usize..12, 1..5),
        row_group in 1_usize..7,
        split in any::<bool>(),
        ranges in prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut rows: Vec<Vec<i32>> = Vec::new();
        for (at, &len) in shards.iter().enumerate() {
            let shard: Vec<Vec<i32>> = (rows.len()..rows.len() + len).map(|r| (0..7).map(|c| (10 * r + c) as i32).collect()).collect();
            write_parquet(&dir.path().join(format!("{at}.parquet")), "tokens", &shard, row_group);
            rows.extend(shard);
        }
        if rows.is_empty() {
            let refused = TokenSource::open(dir.path(), 3, RowUse::First, None);
            assert!(refused.is_err());
            return Ok(());
        }
        let used = if split { 6 } else { 3 };
        let tokens: Vec<u32> = rows.iter().flat_map(|row| row[..used].iter().map(|&t| t as u32)).collect();
        let source = open(dir.path(), 3, if split { RowUse::Split } else { RowUse::First });
        let contexts = tokens.len() / 3;
        assert_eq!(source.contexts().unwrap(), contexts);
        for (from, share) in ranges {
            let first = (from * contexts as f64) as usize;
            let count = (share * (contexts - first + 1) as f64) as usize;
            let read = source.read(first, count).unwrap();
            assert_eq!(read.as_slice().unwrap(), &tokens[3 * first..3 * (first + count)]);
        }
    }

    /// The same of text, which is tokenised as far as it was asked for.
    #[test]
    fn any_range_of_a_text_is_a_slice_of_it(ranges in prop::collection::vec((0_usize..90, 0_usize..10), 1..6)) {
        let packed = packed(&expected());
        let source = open_text(&fixture("sample.jsonl.zst"), 64);
        for (first, count) in ranges {
            let read = source.read(first, count).unwrap();
            assert_eq!(read.as_slice().unwrap(), &packed[64 * first..64 * (first + count)]);
        }
    }
}
