//! Where code comes from, and where it is unsafe.

use std::path::Path;

use crate::common::root;

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
    for part in ["src", "sae/src", "models/src", "probes/src", "kernels/src", "notebooks/src"] {
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
