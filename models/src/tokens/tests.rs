//! The same documents in every container give the same contexts, and what is broken is named.

mod kinds;
mod padding;
mod types;
mod walk;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::Array2;
use polars::prelude::{Column, DataFrame, NamedFrom as _, ParquetWriter, Series};

use super::{Reading, RowUse, Texts, TokenSource, describe};
use crate::reading::LeftOut;

const CONTEXT: usize = 50;

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn open(path: &Path, context_size: usize, rows: RowUse) -> crate::error::Result<TokenSource> {
    open_as(path, context_size, rows, &Reading::default())
}

fn open_as(path: &Path, context_size: usize, rows: RowUse, reading: &Reading) -> crate::error::Result<TokenSource> {
    let texts = Texts { model: &root("models/bundled/small"), begin: None, bos: None, eos: Some(0) };
    TokenSource::open_as(path, context_size, rows, Some(texts), reading)
}

#[track_caller]
fn all(path: &Path) -> Array2<u32> {
    let source = open(path, CONTEXT, RowUse::First).unwrap();
    source.read(0, source.contexts().unwrap()).unwrap()
}

/// The message of a source that can't be opened, or not read to its end.
#[track_caller]
fn refused(path: &Path, parts: &[&str]) {
    let message = open(path, 4, RowUse::First).and_then(|s| s.contexts()).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

fn facts(path: &Path) -> Vec<(&'static str, String)> {
    describe(path, &Reading::default()).unwrap().facts
}

fn documents() -> Vec<String> {
    let lines = std::fs::read_to_string(root("tests/fixtures/sample.jsonl")).unwrap();
    let text = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    lines.lines().map(text).collect()
}

fn jsonl(documents: &[String]) -> Vec<u8> {
    documents.iter().flat_map(|d| format!("{}\n", serde_json::json!({ "text": d, "n": 1 })).into_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

fn write_parquet(path: &Path, documents: &[String], row_group: usize) {
    let column = Column::from(Series::new("text".into(), documents));
    let mut frame = DataFrame::new_infer_height(vec![column]).unwrap();
    let file = std::fs::File::create(path).unwrap();
    ParquetWriter::new(file).with_row_group_size(Some(row_group)).finish(&mut frame).unwrap();
}

#[test]
fn every_container_of_the_same_documents_gives_the_same_contexts() {
    let docs = documents();
    let expected = all(&root("tests/fixtures/sample.jsonl"));
    assert!(expected.nrows() > 100);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (first, last) = (jsonl(&docs[..5]), jsonl(&docs[5..]));
    let text = docs.join("\0").into_bytes();
    let single = [
        write("all.jsonl", &jsonl(&docs)),
        write("all.jsonl.gz", &gzip(&jsonl(&docs))),
        write("members.jsonl.gz", &[gzip(&first), gzip(&[]), gzip(&last)].concat()),
        write("all.jsonl.zst", &zstd(&jsonl(&docs))),
        write("frames.jsonl.zst", &[zstd(&first), zstd(&last)].concat()),
        write("all.txt", &text),
        write("all.txt.gz", &gzip(&text)),
        write("all.txt.zst", &zstd(&text)),
        write("all", &text),
    ];
    for path in single {
        assert_eq!(all(&path), expected, "{}", path.display());
    }
    for row_group in [1, 5, 100] {
        let path = dir.path().join("all.parquet");
        write_parquet(&path, &docs, row_group);
        assert_eq!(all(&path), expected, "row groups of {row_group}");
    }

    // In several files, compressed differently, some in a directory below; blank documents count for nothing.
    write("jsonl/1.jsonl.zst", &zstd(&first));
    write("jsonl/2/a.jsonl", &last);
    write("jsonl/0.jsonl", &jsonl(&["  \n".to_owned(), String::new()]));
    write("jsonl/README.md", b"not of the data set");
    for (at, document) in docs.iter().enumerate() {
        write(&format!("texts/{at:02}.txt"), document.as_bytes());
    }
    write("texts/other.text", b"not matched");
    std::fs::create_dir(dir.path().join("shards")).unwrap();
    write_parquet(&dir.path().join("shards/1.parquet"), &docs[5..], 2);
    write_parquet(&dir.path().join("shards/0.parquet"), &docs[..5], 3);
    for path in ["jsonl", "jsonl/**/*.jsonl*", "texts", "texts/*.txt", "texts/??.txt", "shards", "shards/[01].parquet"]
    {
        assert_eq!(all(&dir.path().join(path)), expected, "{path}");
    }
}

#[test]
fn a_long_text_is_tokenised_in_pieces_as_it_would_be_whole() {
    let dir = tempfile::tempdir().unwrap();
    // Long enough for several pieces; lines of JSON are never cut.
    let text = std::fs::read_to_string(root("tests/fixtures/sample.txt")).unwrap().repeat(150);
    assert!(text.len() > 1 << 20);
    let (plain, line) = (dir.path().join("long.txt"), dir.path().join("long.jsonl"));
    std::fs::write(&plain, &text).unwrap();
    std::fs::write(&line, jsonl(&[text.clone(), "and another".to_owned()])).unwrap();
    let contexts = all(&plain);
    assert_eq!(contexts, all(&line).slice(ndarray::s![..contexts.nrows(), ..]));
    assert_eq!(facts(&plain)[..2], [("kind", "text".to_owned()), ("documents", "1".to_owned())]);
}

#[test]
fn rows_of_json_lines_are_used_as_those_of_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl.gz");
    std::fs::write(&path, gzip(b"{\"tokens\": [1, 2, 3, 4, 5]}\n\n{\"tokens\": [6, 7, 8, 9, 10, 11]}\n")).unwrap();
    let read = |rows| {
        let source = open(&path, 2, rows).unwrap();
        source.read(0, source.contexts().unwrap()).unwrap().into_raw_vec_and_offset().0
    };
    assert_eq!(read(RowUse::First), [1, 2, 6, 7]);
    assert_eq!(read(RowUse::Split), [1, 2, 3, 4, 6, 7, 8, 9]);
    let facts = facts(&path);
    assert!(facts.contains(&("tokens per sequence", "5 to 6".to_owned())), "{facts:?}");
    assert!(facts.contains(&("largest id", "11".to_owned())), "{facts:?}");
}

#[test]
fn what_is_broken_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let good = jsonl(&documents());
    let bad_utf8 = [b"{\"text\": \"a\"}\n{\"text\": \"".as_slice(), &[0xff], b"\"}\n"].concat();
    for (name, bytes, parts) in [
        ("json.jsonl", b"{\"text\": \"a\"}\n\n{\"text\": \"b\"\n".to_vec(), ["line 3", "a string `text`"]),
        ("type.jsonl", b"{\"text\": \"a\"}\n{\"text\": null}\n".to_vec(), ["line 2", "expected a string"]),
        (
            "fields.jsonl",
            b"{\"content\": \"a\", \"id\": 1}\n".to_vec(),
            ["line 1", "`content` (a string), `id` (a number)"],
        ),
        ("both.jsonl", b"{\"text\": \"a\"}\n{\"tokens\": [1]}\n".to_vec(), ["line 2", "missing field `text`"]),
        ("rows.jsonl", b"{\"tokens\": [1, 2, 3, 4]}\n{\"tokens\": [5, 6]}\n".to_vec(), ["line 2 has 2", "rows of 4"]),
        ("sign.jsonl", b"{\"tokens\": [1, 2, 3, 4]}\n{\"tokens\": [5, -6, 7, 8]}\n".to_vec(), ["line 2", "-6"]),
        ("short.jsonl", b"{\"tokens\": [1, 2, 3]}\n".to_vec(), ["rows of 3 tokens", "context_size 4"]),
        ("utf8.jsonl", bad_utf8, ["line 2", "not UTF-8 at byte 11"]),
        ("utf8.txt", [b"one\ntwo ".as_slice(), &[0xe4], b" three"].concat(), ["line 2", "not UTF-8 at byte 5"]),
        ("empty.jsonl", b"\n  \n".to_vec(), ["no documents", "empty.jsonl"]),
        ("empty.txt", b" \0\n\0".to_vec(), ["no documents", "empty.txt"]),
        ("cut.jsonl.gz", gzip(&good)[..2000].to_vec(), ["line ", "not complete"]),
        ("cut.jsonl.zst", zstd(&good)[..2000].to_vec(), ["line ", "not complete"]),
        ("bits.txt.gz", [&gzip(&good)[..1000], &[0xff; 200]].concat(), ["line ", "damaged"]),
    ] {
        let path = file(name, &bytes);
        refused(&path, &[&[name][..], &parts].concat());
    }
    refused(&dir.path().join("*.parquet"), &["*.parquet", "no file matches"]);
    refused(&dir.path().join("a[.txt"), &["a[.txt", "not a glob"]);
    refused(&dir.path().join("missing.txt"), &["missing.txt", "cannot read"]);
    refused(dir.path(), &["several kinds", "(JSON)", "(plain text)", ".txt"]);
    let empty = dir.path().join("nothing");
    std::fs::create_dir(&empty).unwrap();
    refused(&empty, &["nothing", ".jsonl"]);
    refused(&file("rows.parquet.gz", b""), &["rows.parquet.gz", "decompress"]);
    refused(&file("rows2.parquet.gz", &gzip(b"PAR1")), &["rows2.parquet.gz", "decompress"]);
}

#[test]
fn broken_parquet_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.parquet");
    write_parquet(&path, &documents(), 3);
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 3, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        refused(&path, &["text.parquet"]);
    }
    let datasets = root("tests/fixtures/datasets");
    refused(&datasets.join("null-text.parquet"), &["null-text.parquet", "row 3 of column `text` is null"]);
    let mixed = dir.path().join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    for name in ["dictionary-text.parquet", "hf-tokens.parquet"] {
        std::fs::copy(datasets.join(name), mixed.join(name)).unwrap();
    }
    refused(&mixed, &["hf-tokens.parquet", "files of one kind"]);

    let other = |name: &str, column: Series| {
        let path = dir.path().join(name);
        let mut frame = DataFrame::new_infer_height(vec![Column::from(column)]).unwrap();
        ParquetWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut frame).unwrap();
        path
    };
    let path = other("no-column.parquet", Series::new("content".into(), ["a", "b"]));
    refused(&path, &["no-column.parquet", "`tokens` or `input_ids`", "`content`"]);
    let path = other("numbers.parquet", Series::new("text".into(), [1, 2]));
    refused(&path, &["numbers.parquet", "column `text` is i32, not strings"]);
    let path = other("flat.parquet", Series::new("tokens".into(), [1, 2]));
    refused(&path, &["flat.parquet", "column `tokens` is i32, not lists of integers"]);
    let path = other("none.parquet", Series::new("text".into(), Vec::<String>::new()));
    refused(&path, &["none.parquet", "no documents"]);
}

/// Token ids in every form that pyarrow and `datasets` give them (`tests/fixtures/datasets/make.py`).
#[test]
fn files_of_pyarrow_and_datasets_are_read() {
    let datasets = root("tests/fixtures/datasets");
    let tokens = Array2::from_shape_fn((24, 6), |(row, column)| (10 * row + column) as u32);
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(datasets.join("texts.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("texts.jsonl");
    std::fs::write(&lines, jsonl(&texts)).unwrap();
    let expected = open(&lines, 7, RowUse::First).unwrap();
    let expected = expected.read(0, expected.contexts().unwrap()).unwrap();
    let mut seen = (0, 0);
    for entry in std::fs::read_dir(&datasets).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains("text.parquet") && !name.contains("null") {
            let source = open(&path, 7, RowUse::First).unwrap();
            assert_eq!(source.read(0, source.contexts().unwrap()).unwrap(), expected, "{name}");
            seen.0 += 1;
        } else if name.ends_with("tokens.parquet") || name.contains("int") && !name.contains("int96") {
            for (rows, per_row) in [(RowUse::First, 1), (RowUse::Split, 3)] {
                let source = open(&path, 2, rows).unwrap();
                assert_eq!(source.contexts().unwrap(), 24 * per_row, "{name}");
                let used = tokens.slice(ndarray::s![.., ..2 * per_row]);
                let found = source.read(0, 24 * per_row).unwrap();
                assert!(found.iter().eq(used.iter()), "{name}: {found}");
            }
            assert_eq!(super::read_token_file(&path).unwrap(), tokens, "{name}");
            seen.1 += 1;
        }
    }
    assert_eq!(seen, (3, 7));
}

#[test]
fn a_repeating_source_starts_over() {
    let packed = |repeats| TokenSource {
        path: PathBuf::from("t"),
        context_size: 2,
        repeats,
        data: super::Data::Packed(vec![0, 1, 2, 3, 4, 5, 6]),
        bos: None,
        left_out: LeftOut::default(),
    };
    assert_eq!(packed(true).read(2, 5).unwrap().into_raw_vec_and_offset().0, [4, 5, 0, 1, 2, 3, 4, 5, 0, 1]);
    assert!(packed(false).read(2, 2).is_err());
}

#[test]
fn what_is_made_on_the_way_starts_over_at_its_end() {
    let made = Box::new((0..7_u32).map(|t| Ok(vec![t])));
    let source = TokenSource {
        path: PathBuf::from("t"),
        context_size: 2,
        repeats: true,
        data: super::Data::Made(super::Spool::new(Path::new("t"), made)),
        bos: None,
        left_out: LeftOut::default(),
    };
    assert_eq!(source.read(2, 5).unwrap().into_raw_vec_and_offset().0, [4, 5, 0, 1, 2, 3, 4, 5, 0, 1]);
    assert_eq!(source.contexts().unwrap(), 3);
}
