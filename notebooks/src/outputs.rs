//! What the cells of a notebook show, beside the outputs that are committed with it.
//!
//! With `ASSAY_WRITE_NOTEBOOKS` set, the outputs are written into the notebooks.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::{Map, Value, json};

/// Before the number of each cell, on a line of its own.
const MARK: &str = "\u{1}cell ";
const END: &str = "\u{1}end";
/// The marks of the kernel around a content.
const BEGIN: &str = "EVCXR_BEGIN_CONTENT ";
const DONE: &str = "EVCXR_END_CONTENT";

/// Says that what follows is of that cell.
pub fn cell(number: usize) {
    println!("\n{MARK}{number}");
}

/// Says that the last cell is done.
pub fn end() {
    println!("\n{END}");
}

/// Those that read files. What the third computes with a model hangs in its last digits on the machine.
#[test]
fn outputs_are_what_the_cells_show() {
    let is_written = env::var_os("ASSAY_WRITE_NOTEBOOKS").is_some();
    let compared = ["01-read-results", "02-proxy-gap"];
    let all = ["01-read-results", "02-proxy-gap", "03-look-inside"];
    for name in if is_written { &all[..] } else { &compared[..] } {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.ipynb"));
        let mut notebook: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (number, shown) in run(name) {
            let cell = &mut notebook["cells"][number];
            let outputs = outputs(&shown, &cell["execution_count"]);
            if is_written {
                cell["outputs"] = outputs;
            } else {
                assert!(
                    cell["outputs"] == outputs,
                    "{name}.ipynb, cell {number}: its outputs are not what it shows; ASSAY_WRITE_NOTEBOOKS=1 cargo test --release -p assay-notebooks outputs writes them"
                );
            }
        }
        if is_written {
            write(&path, &notebook);
        }
    }
}

/// What each cell with code of a notebook prints.
fn run(name: &str) -> Vec<(usize, String)> {
    let test = format!("cells::notebook_{}", name.replace('-', "_"));
    let output = Command::new(env::current_exe().unwrap()).args([&test, "--exact", "--nocapture"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (text, _) = text.split_once(END).expect("the last cell is done");
    let of_cell = |part: &str| {
        let (number, shown) = part.split_once('\n')?;
        // The line that ends it is of the next mark.
        Some((number.parse().ok()?, shown.strip_suffix('\n').unwrap_or(shown).to_owned()))
    };
    let cells: Vec<(usize, String)> = text.split(MARK).skip(1).filter_map(of_cell).collect();
    assert!(cells.len() > 3, "{name}: {cells:?}");
    cells
}

/// The outputs of a cell as a notebook has them: what it printed, and what it shows.
fn outputs(text: &str, count: &Value) -> Value {
    let (mut printed, mut data) = (String::new(), Map::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        printed += before;
        let (mime, after) = after.split_once('\n').expect("a MIME type");
        let (content, after) = after.split_once(&format!("\n{DONE}\n")).expect("an end");
        data.insert(mime.to_owned(), lines(content));
        rest = after;
    }
    printed += rest;
    let mut outputs = Vec::new();
    if !printed.trim().is_empty() {
        outputs.push(json!({ "name": "stdout", "output_type": "stream", "text": lines(&printed) }));
    }
    if !data.is_empty() {
        outputs.push(json!({
            "data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result",
        }));
    }
    Value::Array(outputs)
}

/// A text as notebooks have it: its lines, each with its end.
fn lines(text: &str) -> Value {
    text.split_inclusive('\n').collect()
}

/// As nbformat writes it.
fn write(path: &Path, notebook: &Value) {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(notebook, &mut serializer).unwrap();
    bytes.push(b'\n');
    fs::File::create(path).unwrap().write_all(&bytes).unwrap();
}
