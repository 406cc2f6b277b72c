//! Where code comes from, and where it is unsafe.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{root, skipped};

#[test]
fn every_dependency_is_of_the_registry_and_pinned_by_its_hash() {
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        match package.get("source").map(|source| source.as_str().unwrap()) {
            Some(source) => {
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
                assert!(package["checksum"].as_str().is_some_and(|hash| hash.len() == 64), "{name}");
            }
            None => assert!(name.starts_with("assay-") || name.starts_with("cubecl-"), "{name} is of no registry"),
        }
    }
}

/// Whether an SPDX expression can be met with the licences that are allowed. Cargo has `/` for OR as well.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression}");
    met
}

fn any(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let first = words[*at];
    *at += 1;
    if first == "(" {
        let met = any(words, at, allowed);
        assert_eq!(words.get(*at), Some(&")"));
        *at += 1;
        return met;
    }
    let mut name = first.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words[*at + 1]);
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn expressions_of_licences_are_read() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"].map(str::to_owned));
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception AND ISC", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
        ("GPL-3.0 OR MIT AND ISC", true),
    ] {
        assert_eq!(is_met(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn the_licence_of_every_dependency_is_one_that_is_allowed() {
    let rules: toml::Table = std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let allowed = rules["licenses"]["allow"].as_array().unwrap();
    let allowed = allowed.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--all-features", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    if !metadata.status.success() {
        let why = String::from_utf8_lossy(&metadata.stderr).into_owned();
        return skipped(&format!("licences can't be read where not all crates can be fetched: {}", why.trim()));
    }
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 500, "{}", packages.len());
    let mut refused = Vec::new();
    for package in packages {
        let licence = package["license"].as_str();
        // The file of the first is the Apache licence; the second is the empty crate in `vendor/`.
        let by_file = ["cfg_block", "cubecl-llvm"].contains(&package["name"].as_str().unwrap());
        if !by_file && !licence.is_some_and(|licence| is_met(licence, &allowed)) {
            refused.push(format!("{} {}: {licence:?}", package["name"], package["version"]));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The Rust files below a directory.
fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Unsafe code is where kernels are launched, where a checkpoint is mapped into memory and where the CPU's matrix product takes pointers;
/// each block says on the spot why it is sound.
#[test]
fn unsafe_code_is_where_it_is_said_to_be_and_says_why() {
    let mut files = Vec::new();
    for part in ["src", "hub/src", "sae/src", "models/src", "probes/src", "kernels/src", "notebooks/src"] {
        sources(&root().join(part), &mut files);
    }
    let mut blocks = 0;
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !(code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")) {
                continue;
            }
            blocks += 1;
            let place =
                shown.contains("kernels") || shown == "models/src/files.rs" || shown.starts_with("models/src/said");
            assert!(place, "{shown}:{}: unsafe code outside the kernels", at + 1);
            let before = lines[at.saturating_sub(12)..at].join("\n");
            assert!(before.contains("SAFETY"), "{shown}:{}: nothing says why this is sound", at + 1);
        }
    }
    assert!(blocks > 10, "{blocks}");
}
