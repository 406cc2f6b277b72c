//! Tokens that a mask calls padding are in no context.

use super::*;
use crate::tokens::{read_sequences, read_token_file};

/// The rows of `mask-padded.parquet` without their padding.
const ROWS: [&[u32]; 4] = [&[5, 6, 7], &[8, 9, 10, 11], &[1, 2, 3, 4, 5, 6], &[7]];

fn fixture(name: &str) -> PathBuf {
    root("tests/fixtures/datasets").join(name)
}

/// The same rows in every container.
fn containers(dir: &Path) -> Vec<PathBuf> {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    let padded = [[5, 6, 7, 0, 0, 0], [0, 0, 8, 9, 10, 11], [1, 2, 3, 4, 5, 6], [7, 0, 0, 0, 0, 0]];
    let mask = [[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1], [1; 6], [1, 0, 0, 0, 0, 0]];
    let lines: String = padded
        .iter()
        .zip(mask)
        .map(|(ids, mask)| serde_json::json!({ "input_ids": ids, "attention_mask": mask }).to_string() + "\n")
        .collect();
    let json = dir.join("padded.jsonl");
    std::fs::write(&json, lines).unwrap();
    let ids: Vec<u8> = padded.concat().iter().flat_map(|&id: &i32| i64::from(id).to_le_bytes()).collect();
    let flags: Vec<u8> = mask.concat().iter().map(|&m| m as u8).collect();
    let mut paths = vec![fixture("mask-padded.parquet"), fixture("mask-padded-bool.parquet"), json];
    for (name, dtype) in [("u8", Dtype::U8), ("bool", Dtype::BOOL)] {
        let view = |dtype, bytes| TensorView::new(dtype, vec![4, 6], bytes).unwrap();
        let tensors = [("input_ids", view(Dtype::I64, &ids)), ("attention_mask", view(dtype, &flags))];
        let path = dir.join(format!("{name}.safetensors"));
        std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        paths.push(path);
    }
    paths
}

#[test]
fn padding_is_in_no_context() {
    let dir = tempfile::tempdir().unwrap();
    for path in containers(dir.path()) {
        for (rows, context, expected) in [
            (RowUse::First, 3, vec![5, 6, 7, 8, 9, 10, 1, 2, 3]),
            (RowUse::Split, 3, vec![5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6]),
            (RowUse::Split, 2, vec![5, 6, 8, 9, 10, 11, 1, 2, 3, 4, 5, 6]),
            (RowUse::Split, 6, vec![1, 2, 3, 4, 5, 6]),
            (RowUse::First, 4, vec![8, 9, 10, 11, 1, 2, 3, 4]),
        ] {
            let source = open(&path, context, rows).unwrap();
            let found = source.read(0, source.contexts().unwrap()).unwrap();
            assert_eq!(found.into_raw_vec_and_offset().0, expected, "{} {rows:?} {context}", path.display());
            let short = ROWS.iter().filter(|row| row.len() < context).count();
            assert!(source.notes()[0].starts_with(&format!("{short} row")), "{:?}", source.notes());
        }
        let counted = facts(&path).into_iter().find(|(what, _)| *what == "tokens that count").unwrap();
        assert_eq!(counted.1, "14", "{}", path.display());
    }
}

#[test]
fn padded_sequences_are_refused_unless_all_have_the_tokens_that_are_used() {
    let dir = tempfile::tempdir().unwrap();
    for path in containers(dir.path()) {
        let error = read_token_file(&path).unwrap_err().to_string();
        for part in ["`attention_mask`", "1 (", "to 6 tokens"] {
            assert!(error.contains(part), "{error}");
        }
        let read = |most, context| read_sequences(&path, &Reading::tokens(), most, context).map(|(tokens, _)| tokens);
        let error = read(Some(3), None).unwrap_err().to_string();
        assert!(error.contains("--context-size 3"), "{error}");
        assert_eq!(read(Some(3), Some(3)).unwrap(), ndarray::array![[5, 6, 7], [8, 9, 10], [1, 2, 3]]);
        assert!(read(None, Some(3)).is_err());
    }
}

#[test]
fn a_mask_that_is_none_is_refused_where_it_is() {
    let refused = |path: &Path, parts: &[&str]| {
        let contexts = open(path, 2, RowUse::Split).and_then(|s| s.contexts()).unwrap_err().to_string();
        let whole = read_token_file(path).unwrap_err().to_string();
        for message in [contexts, whole] {
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    };
    refused(&fixture("mask-hole.parquet"), &["mask-hole.parquet", "row 1", "`attention_mask`", "position 1"]);
    let dir = tempfile::tempdir().unwrap();
    for (name, line, parts) in [
        ("hole", r#"{"tokens": [1, 2, 3], "attention_mask": [1, 0, 1]}"#, ["line 2", "position 1"]),
        ("length", r#"{"tokens": [1, 2, 3], "attention_mask": [1, 1]}"#, ["line 2", "2 entries"]),
        ("missing", r#"{"tokens": [1, 2, 3]}"#, ["line 2", "missing field `attention_mask`"]),
        ("packed", r#"{"tokens": [1, 2, 3], "attention_mask": [1, 1, 2]}"#, ["line 2", "holds 2"]),
    ] {
        let path = dir.path().join(format!("{name}.jsonl"));
        std::fs::write(&path, format!("{{\"tokens\": [1, 2, 3], \"attention_mask\": [1, 1, 1]}}\n{line}\n")).unwrap();
        refused(&path, &parts);
    }
}

#[test]
fn a_mask_of_ones_changes_nothing() {
    let path = fixture("mask-ones.parquet");
    assert_eq!(read_token_file(&path).unwrap().dim(), (4, 6));
    let source = open(&path, 3, RowUse::Split).unwrap();
    assert_eq!(source.contexts().unwrap(), 8);
    assert_eq!(source.notes(), Vec::<String>::new());
    // Where the footer says so, rows are read in any order as without one.
    assert!(!open(&fixture("hf-tokens.parquet"), 3, RowUse::Split).unwrap().is_made_on_the_way());
}
