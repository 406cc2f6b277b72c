//! The data sets that the Python package sae-probes ships, where it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::labelled::{Columns, Labelled};

/// Where they are in the package.
pub const DATA: &str = "data/cleaned_data";

/// The directory of the data of the package that `python3` finds. Nothing of it is imported.
///
/// # Errors
/// If there is no Python, or it has no such package.
pub fn installed() -> Result<PathBuf> {
    const REMEDY: &str =
        "`pip install sae-probes==0.4.2`, or unpack its wheel and give --tasks-dir WHEEL/sae_probes/data/cleaned_data";
    let code = "import importlib.util as u; s = u.find_spec('sae_probes'); print(s.submodule_search_locations[0] if s else '')";
    let found = Command::new("python3").args(["-c", code]).output();
    let found =
        found.with_context(|| format!("python3, which would say where sae-probes is, can't be run; {REMEDY}"))?;
    let place = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    ensure!(found.status.success() && !place.is_empty(), "python3 has no package sae_probes; {REMEDY}");
    Ok(Path::new(&place).join(DATA))
}

/// The data sets of a directory, `N_name.csv.zst` in the order of their numbers, or those whose names are given; those with one class, or
/// with more than are classes (the package's regressions), are left out and named by `say`.
///
/// # Errors
/// If there are none, or one that is asked for is not there or no data set.
pub fn in_directory(dir: &Path, names: &[String], mut say: impl FnMut(&str)) -> Result<Vec<Labelled>> {
    let shown = dir.display();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {shown}"))? {
        let file = entry.with_context(|| format!("cannot read {shown}"))?.path();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(name) = name.strip_suffix(".csv.zst").or_else(|| name.strip_suffix(".csv")) {
            let number = name.split('_').next().and_then(|number| number.parse::<u32>().ok());
            files.push((number.unwrap_or(u32::MAX), name.to_owned(), file));
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{shown} holds no .csv.zst; --tasks-dir is the package's {DATA}");
    let columns = Columns { text: "prompt".to_owned(), label: "target".to_owned(), document: None };
    if names.is_empty() {
        let mut sets = Vec::new();
        for (_, name, file) in files {
            match Labelled::read(&file, &columns) {
                Ok(set) => sets.push(set),
                Err(error) => say(&format!("{name} is left out: {error:#}")),
            }
        }
        ensure!(!sets.is_empty(), "no file of {shown} holds classes");
        return Ok(sets);
    }
    let of_name = |name: &String| {
        let Some((_, _, file)) = files.iter().find(|(_, known, _)| known == name) else {
            let some: Vec<&str> = files.iter().take(5).map(|(_, name, _)| name.as_str()).collect();
            bail!("{shown} has no data set {name}; there are {} and others", some.join(", "));
        };
        Labelled::read(file, &columns)
    };
    names.iter().map(of_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_found_by_name_and_regressions_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("10_b.csv", "prompt,prompt_len,target\nx,1,0\ny,1,1\n");
        write("9_a.csv", "prompt,prompt_len,target\nx,1,no\ny,1,yes\n");
        let numbers: String = (0..60).map(|at| format!("t{at},1,{at}.5\n")).collect();
        write("11_c.csv", &format!("prompt,prompt_len,target\n{numbers}"));
        let mut said = Vec::new();
        let found = in_directory(dir.path(), &[], |text| said.push(text.to_owned())).unwrap();
        assert_eq!(found.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(), ["9_a", "10_b"]);
        assert!(said.len() == 1 && said[0].contains("11_c"), "{said:?}");
        let one = in_directory(dir.path(), &["10_b".to_owned()], |_| ()).unwrap();
        assert_eq!(one[0].classes, ["0", "1"]);
        let error = in_directory(dir.path(), &["7_x".to_owned()], |_| ()).unwrap_err().to_string();
        assert!(error.contains("7_x") && error.contains("9_a"), "{error}");
    }
}
