//! Turns the code cells of each notebook into a function. A kernel keeps variables from cell to cell; here all cells of a
//! notebook are one function's body. Lines that begin with `:` speak to the kernel and are left out.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=.");
    let mut notebooks: Vec<PathBuf> = fs::read_dir(&root)?.flatten().map(|entry| entry.path()).collect();
    notebooks.retain(|path| path.extension().is_some_and(|e| e == "ipynb"));
    notebooks.sort();
    let functions: Result<String, _> = notebooks.iter().map(|path| function(path)).collect();
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("cells.rs"), functions?)?;
    Ok(())
}

fn function(path: &Path) -> Result<String, Box<dyn Error>> {
    let notebook: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let cells = notebook["cells"].as_array().ok_or_else(|| format!("{stem}: no cells"))?;
    let mut body = String::new();
    for (number, cell) in cells.iter().enumerate().filter(|(_, cell)| cell["cell_type"] == "code") {
        // A cell's source is a string, or a list of strings that each end in a newline but the last.
        let source = match &cell["source"] {
            Value::String(text) => text.clone(),
            Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
            _ => return Err(format!("{stem}: cell {number} has no source").into()),
        };
        let mut lines: Vec<String> = source.lines().filter(|line| !line.starts_with(':')).map(str::to_owned).collect();
        // The last expression of a cell is what it shows: a line, or a block.
        let block = lines.iter().rposition(|line| line == "{");
        let first = match (lines.last().map(String::as_str), block) {
            (Some("}"), block) => block,
            (Some(last), _) if !last.ends_with([';', '}']) => Some(lines.len() - 1),
            _ => None,
        };
        if let Some(first) = first {
            lines[first].insert_str(0, "let shown = ");
            lines.push("; shown.evcxr_display();".to_owned());
        }
        body += &format!("    crate::outputs::cell({number});\n    {}\n    ;\n", lines.join("\n    "));
    }
    let name = stem.replace('-', "_");
    Ok(format!(
        "/// The cells of `{stem}.ipynb`.\n#[test]\nfn notebook_{name}() -> Result<(), Box<dyn std::error::Error>> {{\n{body}    crate::outputs::end();\n    Ok(())\n}}\n\n"
    ))
}
