//! Of a directory each file is read once, and none that is not data.

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

const A: &str = "{\"text\": \"a\"}\n";
const B: &str = "{\"text\": \"b b\"}\n";

/// Documents that are found, and the notes.
#[track_caller]
fn found(path: &Path) -> (usize, Vec<String>) {
    let found = describe(path, &Reading::default()).unwrap();
    assert_eq!(found.facts[1].0, "documents");
    (found.facts[1].1.parse().unwrap(), found.notes)
}

#[cfg(unix)]
#[test]
fn links_are_followed_once() {
    use std::os::unix::fs::symlink;
    let dir = tree(&[
        ("data/a.jsonl", A),
        ("data/x/b.jsonl", B),
        ("data/y/c.jsonl", "{\"text\": \"c\"}\n"),
        ("other/d.jsonl", A),
    ]);
    let at = |name: &str| dir.path().join(name);
    symlink(".", at("data/latest")).unwrap();
    symlink(".", at("data/again")).unwrap();
    symlink("..", at("data/x/up")).unwrap();
    symlink("../y", at("data/x/to_y")).unwrap();
    symlink("../x", at("data/y/to_x")).unwrap();
    symlink("a.jsonl", at("data/a-link.jsonl")).unwrap();
    std::fs::hard_link(at("data/a.jsonl"), at("data/a-same.jsonl")).unwrap();
    let (documents, notes) = found(&at("data"));
    assert_eq!(documents, 3);
    assert!(
        notes.iter().any(|n| n.starts_with("2 entries left out, the same file") && n.contains("a-link.jsonl")),
        "{notes:?}"
    );
    for (pattern, documents) in [
        ("data/**/*.jsonl", 3),
        ("data/**", 3),
        ("data/*.jsonl", 1),
        ("data/*/*.jsonl", 3),
        ("data/x/to_*/*.jsonl", 1),
        ("data/x/to_y/*.jsonl", 1),
        ("data/**/to_y/c.*", 1),
        ("data/[xy]/?.jsonl", 2),
    ] {
        assert_eq!(found(&at(pattern)).0, documents, "{pattern}");
    }
    // What only a link leads to is read.
    symlink("../other", at("data/elsewhere")).unwrap();
    assert_eq!(found(&at("data")).0, 4);
    // A link that leads nowhere is missing data.
    symlink("nowhere.jsonl", at("data/gone.jsonl")).unwrap();
    let error = describe(&at("data"), &Reading::default()).unwrap_err().to_string();
    assert!(error.contains("gone.jsonl") && error.contains("cannot read"), "{error}");
}

#[test]
fn what_editors_and_systems_leave_is_not_read_unless_it_is_named() {
    let dir = tree(&[
        ("data/train.jsonl", A),
        ("data/.ipynb_checkpoints/train-checkpoint.jsonl", A),
        ("data/._train.jsonl", A),
        ("data/train.jsonl~", A),
        ("data/#train.jsonl#", A),
        ("data/__MACOSX/._train.jsonl", A),
        ("data/_temporary/0/part.jsonl", A),
        ("data/Thumbs.db", "x"),
        ("data/.cache/b.jsonl", B),
        ("data/README.md", "x"),
        ("data/dataset_info.json", "{\n \"features\": {}\n}\n"),
    ]);
    let at = |name: &str| dir.path().join(name);
    let (documents, notes) = found(&at("data"));
    assert_eq!(documents, 1);
    let notes = notes.join("\n");
    for part in [".ipynb_checkpoints", "hidden", "README.md", "no kind", "dataset_info.json", "no data"] {
        assert!(notes.contains(part), "{notes}");
    }
    for (path, documents) in [
        ("data/*", None),
        ("data/*jsonl*", Some(1)),
        ("data/**/*.jsonl", Some(1)),
        ("data/.cache", Some(1)),
        ("data/.cache/*", Some(1)),
        ("data/.c*/*.jsonl", Some(1)),
        ("data/._train.jsonl", Some(1)),
        ("data/._*", Some(1)),
        ("data/train.jsonl~", Some(1)),
        ("data/*~", Some(1)),
        ("data/_temporary/**/*.jsonl", Some(1)),
    ] {
        match documents {
            Some(documents) => assert_eq!(found(&at(path)).0, documents, "{path}"),
            // The README and a description are named by the wildcard.
            None => assert!(describe(&at(path), &Reading::default()).is_err(), "{path}"),
        }
    }
}

#[test]
fn a_directory_with_nothing_to_read_says_what_it_has() {
    for (files, parts) in [
        (vec![("data/.a.jsonl", A)], vec!["no .parquet", "1 entry left out, hidden", ".a.jsonl"]),
        (
            vec![("data/a.arrow", "ARROW1"), ("data/state.json", "{\"a\": 1}")],
            vec!["no .parquet", "a.arrow", "state.json"],
        ),
    ] {
        let dir = tree(&files);
        let error = describe(&dir.path().join("data"), &Reading::default()).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        let error = describe(&dir.path().join("data/*.jsonl"), &Reading::default()).unwrap_err().to_string();
        assert!(error.contains("no file matches"), "{error}");
    }
}

#[test]
fn json_of_several_spellings_is_one_kind() {
    let dir = tree(&[("a.jsonl", A), ("b.json", "[{\"text\": \"b\"}]"), ("c.NDJSON", B)]);
    assert_eq!(found(dir.path()).0, 3);
}
