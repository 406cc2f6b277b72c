//! What a file holds follows from what is in it, however it is called and wrapped.

use std::path::{Path, PathBuf};

use super::*;

/// A directory to write into.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn expected() -> Array2<u32> {
    all(&root("tests/fixtures/sample.jsonl"))
}

#[test]
fn json_is_read_as_documents_whatever_its_name_and_form() {
    let (docs, expected, dir) = (documents(), expected(), Files::new());
    let lines = jsonl(&docs);
    let values: Vec<serde_json::Value> = docs.iter().map(|d| serde_json::json!({ "id": 1, "text": d })).collect();
    let compact = serde_json::to_vec(&values).unwrap();
    let pretty = serde_json::to_vec_pretty(&values).unwrap();
    let concatenated: Vec<u8> =
        values.iter().flat_map(|v| [serde_json::to_vec_pretty(v).unwrap(), b"\n".to_vec()].concat()).collect();
    let bom = [b"\xef\xbb\xbf".as_slice(), &lines].concat();
    let crlf = String::from_utf8(lines.clone()).unwrap().replace('\n', "\r\n\r\n").into_bytes();
    for (name, bytes) in [
        ("c4-train.00000-of-01024.json.gz", gzip(&lines)),
        ("a.json", lines.clone()),
        ("a.JSONL", lines.clone()),
        ("a.ndjson.zst", zstd(&lines)),
        ("a.JSON.GZ", gzip(&lines)),
        ("array.json", compact.clone()),
        ("array.json.zst", zstd(&pretty)),
        ("pretty.json", pretty),
        ("concatenated.json", concatenated),
        ("bom.jsonl", bom.clone()),
        ("bom.jsonl.gz", gzip(&bom)),
        ("two-boms.jsonl", [bom.clone()].concat()),
        ("crlf.jsonl", crlf),
        // Names that do not settle it, and names that are wrong.
        ("part-00000", lines.clone()),
        ("corpus.data", compact),
        ("lines.txt", lines.clone()),
        ("plain.jsonl.gz", lines.clone()),
        ("packed.jsonl", gzip(&lines)),
        ("swapped.jsonl.zst", gzip(&lines)),
        // As `gzip`, `zstd` and tapes leave them.
        ("zeros.jsonl.gz", [gzip(&lines), vec![0; 1000]].concat()),
        ("tail.jsonl.gz", [gzip(&lines), b"tail".to_vec()].concat()),
        ("skippable.jsonl.zst", [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], zstd(&lines).as_slice()].concat()),
    ] {
        assert_eq!(all(&dir.write(name, &bytes)), expected, "{name}");
    }
    let text = dir.write("bom.txt", &[b"\xef\xbb\xbf".as_slice(), docs.join("\0").as_bytes()].concat());
    assert_eq!(all(&text), expected);
}

#[test]
fn prose_that_begins_with_a_bracket_is_text() {
    let dir = Files::new();
    for (name, text) in
        [("a.txt", "[1] A reference.\n"), ("README.md", "{{ template }}\n"), ("b", "[[Page]] is a link.\n")]
    {
        let path = dir.write(name, text.as_bytes());
        assert_eq!(facts(&path)[..2], [("kind", "text".to_owned()), ("documents", "1".to_owned())], "{name}");
    }
}

#[test]
fn what_is_neither_text_nor_tokens_is_refused_by_what_it_is() {
    let dir = Files::new();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for (name, bytes, parts) in [
        ("a.txt", b"PK\x03\x04abc".to_vec(), ["zip", "JSON lines"]),
        ("data-00000.arrow", b"ARROW1\0\0".to_vec(), ["Arrow", "to_parquet"]),
        ("a.npy", b"\x93NUMPY\x01\0".to_vec(), ["NumPy", "safetensors"]),
        ("a.txt.xz", b"\xfd7zXZ\0\0".to_vec(), ["xz", "convert"]),
        ("b.txt", b"\xff\xfea\0".to_vec(), ["UTF-16", "UTF-8"]),
        ("t.csv", b"text,id\na,1\n".to_vec(), ["separators", "Parquet"]),
        ("p.jsonl", pointer.to_vec(), ["Git LFS pointer", "git lfs pull"]),
        ("p.parquet", pointer.to_vec(), ["Git LFS pointer", "git lfs pull"]),
        ("p.safetensors", pointer.to_vec(), ["Git LFS pointer", "git lfs pull"]),
        ("p.txt", pointer.to_vec(), ["Git LFS pointer", "git lfs pull"]),
        ("config.json", b"{\n \"model_type\": \"llama\"\n}\n".to_vec(), ["line 1", "`model_type` (a string)"]),
        ("columns.json", b"{\"text\": [\"a\", \"b\"]}".to_vec(), ["an array of strings", "not strings"]),
        ("strings.json", b"[\"a\", \"b\"]".to_vec(), ["a string, not an object", "line 1"]),
        ("rows.json", b"[[1, 2, 3, 4, 5], [1, 2]]".to_vec(), ["an array, not an object", "line 1"]),
        ("cut.json", b"[\n{\"text\": \"a\"},\n{\"text\": \"b".to_vec(), ["line 3", "not complete"]),
        ("empty.json", Vec::new(), ["empty.json", "no documents"]),
        ("empty-array.json", b"[]".to_vec(), ["empty-array.json", "no documents"]),
        ("empty.gz", gzip(b""), ["empty.gz", "no documents"]),
        ("empty", Vec::new(), ["empty", "no documents"]),
        ("empty.safetensors", Vec::new(), ["empty.safetensors", "not a complete"]),
    ] {
        refused(&dir.write(name, &bytes), &[&[name][..], &parts].concat());
    }
}

#[test]
fn lines_that_python_reads_are_read() {
    let dir = Files::new();
    let cut = b"{\"text\": \"cut emoji \\ud83d here\", \"score\": NaN}\n{\"text\": \"x\", \"text\": \"b\"}\n";
    let whole = "{\"text\": \"cut emoji \u{fffd} here\"}\n{\"text\": \"b\"}\n";
    let expected = describe(&dir.write("whole.jsonl", whole.as_bytes()), &Reading::default()).unwrap().facts;
    assert_eq!(facts(&dir.write("cut.jsonl", cut)), expected);
    let read = |path: &Path| {
        let source = open(path, 2, RowUse::First).unwrap();
        source.read(0, source.contexts().unwrap()).unwrap()
    };
    assert_eq!(read(&dir.0.path().join("cut.jsonl")), read(&dir.0.path().join("whole.jsonl")));
}

#[test]
fn bad_lines_are_left_out_and_counted_if_that_is_asked_for() {
    let dir = Files::new();
    let lines = b"not JSON\n{\"text\": \"a b c d e f g\"}\n{\"text\": null}\n{\"other\": 1}\n{\"text\": \"\xff\"}\n{\"text\": \"h i j k l m\"}\n{\"te";
    let path = dir.write("bad.jsonl", lines);
    refused(&path, &["bad.jsonl", "line 1", "not JSON"]);
    let skipping = Reading { skip_bad_lines: true, ..Reading::default() };
    let found = describe(&path, &skipping).unwrap();
    assert_eq!(found.facts[1], ("documents", "2".to_owned()));
    assert!(found.notes[0].contains("5 bad lines") && found.notes[0].contains("line 1"), "{:?}", found.notes);
    let source = open_as(&path, 4, RowUse::First, &skipping).unwrap();
    source.contexts().unwrap();
    assert!(source.notes()[0].contains("5 bad lines"), "{:?}", source.notes());
    // What is cut off is no bad line: the file is damaged.
    let path = dir.write("cut.jsonl.gz", &gzip(&jsonl(&documents()))[..2000]);
    assert!(describe(&path, &skipping).unwrap_err().to_string().contains("not complete"));
    // Nothing but bad lines is an error, and the first of them is named.
    let path = dir.write("all-bad.jsonl", b"a\nb\n");
    assert!(describe(&path, &skipping).unwrap_err().to_string().contains("line 1"));
}

#[test]
fn tokens_and_text_are_read_as_they_are_asked_for() {
    let dir = Files::new();
    let path = dir.write(
        "both.jsonl",
        b"{\"text\": \"a b c\", \"ids\": [1, 2, 3, 4], \"input_ids\": [5, 6, 7, 8], \"body\": \"d\"}\n",
    );
    let kind = |reading: Reading| describe(&path, &reading).map(|d| d.facts).map_err(|e| e.to_string());
    let fact = |reading| kind(reading).unwrap()[..2].iter().map(|(_, v)| v.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(fact(Reading::text()), "text 1");
    assert_eq!(fact(Reading::tokens()), "tokens 1");
    let named = |name: &str| Reading { column: Some(name.to_owned()), ..Reading::default() };
    assert_eq!(fact(named("ids")), "tokens 1");
    assert_eq!(fact(named("body")), "text 1");
    assert!(kind(named("nothing")).unwrap_err().contains("no field `nothing`"));
    assert!(kind(Reading { column: Some("body".to_owned()), ..Reading::tokens() }).unwrap_err().contains("`--text`"));
    let plain = dir.write("plain.txt", b"text");
    assert!(describe(&plain, &Reading::tokens()).unwrap_err().to_string().contains("`--text`"));
    assert!(describe(&plain, &named("text")).unwrap_err().to_string().contains("no column"));
}
