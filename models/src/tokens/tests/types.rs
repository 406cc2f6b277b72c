//! Every type of Parquet column and of safetensors tensor is read or refused by its name.

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;
use crate::tokens::{Contents, read_token_file};

/// What pyarrow writes (`tests/fixtures/datasets/make.py`).
#[test]
fn no_type_of_column_is_a_panic() {
    let path = root("tests/fixtures/datasets/every-type.parquet");
    let columns = facts(&path).into_iter().find(|(what, _)| *what == "columns").unwrap().1;
    assert!(columns.contains("decimal256") && columns.contains("map<"));
    let named = |name: &str, wanted| Reading { wanted, column: Some(name.to_owned()), ..Reading::default() };
    let (mut read, mut refused) = (Vec::new(), BTreeMap::new());
    let names = crate::parquet::Shard::open(&path, &Reading::default()).unwrap().columns().to_vec();
    assert!(names.len() > 100);
    for name in &names {
        for wanted in [None, Some(Contents::Tokens), Some(Contents::Text)] {
            let found = catch_unwind(|| describe(&path, &named(name, wanted)));
            match found.unwrap_or_else(|_| panic!("column `{name}` is a panic")) {
                Ok(_) => read.push((name.as_str(), wanted)),
                Err(error) => {
                    let error = error.to_string();
                    // Nulls and large numbers are found to be no token ids by their values.
                    let said = error.contains(&format!("column `{name}` is ")) || error.contains("is not a token id");
                    assert!(error.contains("every-type.parquet") && said, "{error}");
                    refused.insert((name.as_str(), wanted.is_none()), error);
                }
            }
        }
    }
    let has = |end: &str, wanted| read.iter().any(|(name, w)| name.ends_with(end) && *w == wanted);
    for integer in ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"] {
        assert!(has(&format!("list<item: {integer}>"), Some(Contents::Tokens)), "{integer}");
        assert!(!has(&format!("list<item: {integer}>"), Some(Contents::Text)), "{integer}");
    }
    for string in [" string", "large_string", "string_view"] {
        assert!(has(string, Some(Contents::Text)) && !has(string, Some(Contents::Tokens)), "{string}");
    }
    let said =
        |end: &str| refused.iter().find(|((name, any), _)| *any && name.ends_with(end)).map(|(_, said)| said.as_str());
    for (column, kind) in [
        ("struct<role: string, content: string>>", "list of struct of `role`, `content`"),
        ("decimal128(20, 2)", "decimal(20, 2)"),
        ("map<string, int32>", "is list of struct of `key`, `value`"),
        ("list<item: string>", "list of str"),
        ("date32[day]", "date"),
        (" bool", "is bool"),
    ] {
        assert!(said(column).is_some_and(|said| said.contains(kind)), "{column}: {:?}", said(column));
    }
    // The other columns do not matter to those that are read.
    let texts: Vec<String> =
        serde_json::from_slice(&std::fs::read(root("tests/fixtures/datasets/texts.json")).unwrap()).unwrap();
    let found = describe(&path, &Reading::text()).unwrap().facts;
    assert_eq!(found[2].1, texts[..3].iter().map(|t| t.chars().count()).sum::<usize>().to_string());
    assert_eq!(
        read_token_file(&path).unwrap(),
        Array2::from_shape_fn((3, 6), |(row, column)| (10 * row + column) as u32)
    );
    describe(&root("tests/fixtures/datasets/int96.parquet"), &Reading::text()).unwrap();
}

#[test]
fn tensors_of_any_integers_are_token_ids() {
    let dir = tempfile::tempdir().unwrap();
    let write = |tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)>| {
        let path = dir.path().join("t.safetensors");
        let views =
            tensors.iter().map(|(name, d, shape, bytes)| (*name, TensorView::new(*d, shape.clone(), bytes).unwrap()));
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    };
    let ids = ndarray::array![[1, 2], [3, 4]];
    let bytes = |size: usize| (1..=4_u64).flat_map(|id| id.to_le_bytes()[..size].to_vec()).collect::<Vec<u8>>();
    for (dtype, size) in [
        (Dtype::U8, 1),
        (Dtype::I8, 1),
        (Dtype::U16, 2),
        (Dtype::I16, 2),
        (Dtype::U32, 4),
        (Dtype::I32, 4),
        (Dtype::U64, 8),
        (Dtype::I64, 8),
    ] {
        for name in ["tokens", "input_ids"] {
            let path = write(vec![(name, dtype, vec![2, 2], bytes(size))]);
            assert_eq!(read_token_file(&path).unwrap(), ids, "{dtype:?} {name}");
        }
    }
    let refused = |tensors, parts: &[&str]| {
        let error = read_token_file(&write(tensors)).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let value = |value: [u8; 8]| vec![("tokens", Dtype::U64, vec![1, 2], [value, [0; 8]].concat())];
    refused(value((1_u64 << 32).to_le_bytes()), &["row 0", "4294967296 is not a token id"]);
    refused(value([0xff; 8]), &["row 0", "not a token id"]);
    refused(vec![("tokens", Dtype::I8, vec![1, 2], vec![1, 0xff])], &["-1 is not a token id"]);
    refused(vec![("tokens", Dtype::F32, vec![1, 2], vec![0; 8])], &["tensor `tokens` is F32 [1, 2]", "integers"]);
    refused(vec![("tokens", Dtype::BOOL, vec![1, 2], vec![0; 2])], &["tensor `tokens` is BOOL"]);
    refused(
        vec![("ids", Dtype::I32, vec![1, 2], vec![0; 8])],
        &["no tensor `tokens` or `input_ids`", "`ids` (I32 [1, 2])", "--column"],
    );
    refused(vec![("tokens", Dtype::I32, vec![2], vec![0; 8])], &["shape [2]", "[sequences, tokens]"]);
    refused(vec![("tokens", Dtype::I32, vec![0, 2], vec![])], &["shape [0, 2]", "at least one"]);
}
