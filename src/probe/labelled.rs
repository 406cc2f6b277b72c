//! Texts with labels, from a file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use assay_models::{objects, open_regular, whole_text};
use polars::prelude::{AnyValue, DataFrame, ParquetReader, SerReader};
use serde_json::Value;

use crate::csv::{self, Damage, Row};
use crate::frames::guarded;

/// Texts, each of one class.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// What the texts are called.
    pub name: String,
    /// The texts.
    pub texts: Vec<String>,
    /// The class of each.
    pub labels: Vec<usize>,
    /// Names of the classes, in order: numbers by their size, other names by their letters.
    pub classes: Vec<String>,
    /// The document of each, by number: no document is fitted on and tested.
    pub documents: Vec<usize>,
}

/// Columns, or fields, of a file.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The text.
    pub text: String,
    /// The label.
    pub label: String,
    /// What tells documents apart; without it each text is one, and equal texts are the same.
    pub document: Option<String>,
}

/// More classes than this are no classes.
const MOST_CLASSES: usize = 50;
/// Files of CSV are read whole.
const MOST_CSV: u64 = 1 << 30;

/// A row as it is read.
struct Raw {
    text: String,
    label: String,
    document: Option<String>,
}

impl Labelled {
    /// Reads a file: Parquet by its first bytes, CSV by its name (`.csv`, also `.gz` or `.zst`), else JSON.
    ///
    /// # Errors
    /// If it can't be read, a column is missing, there are not two classes, or more than fifty.
    pub fn read(path: &Path, columns: &Columns) -> Result<Self> {
        use std::io::Read as _;
        ensure!(path.exists(), crate::spelling::missing(path));
        let mut begin = [0; 4];
        let read = open_regular(path)?.read(&mut begin);
        read.with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let rows = if begin == *b"PAR1" {
            of_parquet(path, columns)?
        } else if name.split('.').skip(1).any(|part| part.eq_ignore_ascii_case("csv")) {
            of_csv(path, columns)?
        } else {
            of_json(path, columns)?
        };
        // Of `news.jsonl.zst`, what it is about.
        let name = name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("data").to_owned();
        Self::of(name, rows).with_context(|| path.display().to_string())
    }

    /// Of texts, labels and documents by their names.
    ///
    /// # Errors
    /// If there are not two classes.
    pub fn new(name: &str, rows: impl IntoIterator<Item = (String, String, Option<String>)>) -> Result<Self> {
        let raw = |(text, label, document)| Raw { text, label, document };
        Self::of(name.to_owned(), rows.into_iter().map(raw).collect())
    }

    fn of(name: String, rows: Vec<Raw>) -> Result<Self> {
        let mut classes: Vec<String> = rows.iter().map(|row| row.label.clone()).collect();
        classes.sort_unstable();
        classes.dedup();
        ensure!(!rows.is_empty(), "it holds no text with a label");
        ensure!(classes.len() >= 2, "all texts have the label {}; a probe tells two or more apart", classes[0]);
        ensure!(
            classes.len() <= MOST_CLASSES,
            "there are {} labels, {}, {} and others; a label with more than {MOST_CLASSES} values is no class: name another column \
             (--label-column)",
            classes.len(),
            classes[0],
            classes[1]
        );
        let number = |name: &String| name.parse::<f64>().ok().filter(|number| number.is_finite());
        if classes.iter().all(|name| number(name).is_some()) {
            classes.sort_by(|a, b| number(a).unwrap_or_default().total_cmp(&number(b).unwrap_or_default()));
        }
        let place: BTreeMap<&str, usize> = classes.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let labels = rows.iter().map(|row| place[row.label.as_str()]).collect();
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let documents = rows.iter().map(|row| {
            let next = known.len();
            *known.entry(row.document.as_deref().unwrap_or(&row.text)).or_insert(next)
        });
        let documents = documents.collect();
        let texts = rows.iter().map(|row| row.text.clone()).collect();
        Ok(Self { name, texts, labels, documents, classes: classes.clone() })
    }

    /// How many texts a class has.
    pub fn rows_of(&self, class: usize) -> usize {
        self.labels.iter().filter(|&&label| label == class).count()
    }
}

/// A label or document as text; `None` of what is neither text, number nor boolean.
fn named(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn missing(what: &str, flag: &str, there: impl Iterator<Item = String>) -> String {
    let there: Vec<String> = there.take(16).map(|name| format!("`{name}`")).collect();
    format!("no column `{what}`; there are {}; name it by {flag}", there.join(", "))
}

fn of_json(path: &Path, columns: &Columns) -> Result<Vec<Raw>> {
    let mut rows = Vec::new();
    for object in objects(path)? {
        let (line, object) = object?;
        let field = |name: &str, flag: &str| -> Result<&Value> {
            let at = || format!("{}: line {line}: {}", path.display(), missing(name, flag, object.keys().cloned()));
            object.get(name).with_context(at)
        };
        let text = field(&columns.text, "--text-column")?.as_str();
        let text = text.with_context(|| format!("{}: line {line}: `{}` is no string", path.display(), columns.text))?;
        let short = |name: &str, flag: &str| -> Result<String> {
            let why = || format!("{}: line {line}: `{name}` is neither a string nor a number", path.display());
            named(field(name, flag)?).with_context(why)
        };
        let label = short(&columns.label, "--label-column")?;
        let document = columns.document.as_deref().map(|name| short(name, "--document-column")).transpose()?;
        rows.push(Raw { text: text.to_owned(), label, document });
    }
    Ok(rows)
}

fn of_parquet(path: &Path, columns: &Columns) -> Result<Vec<Raw>> {
    let shown = path.display();
    let damaged = || format!("{shown} is no Parquet file, or damaged; copy it again");
    let wanted: Vec<(&str, &str)> = [(columns.text.as_str(), "--text-column"), (&columns.label, "--label-column")]
        .into_iter()
        .chain(columns.document.as_deref().map(|name| (name, "--document-column")))
        .collect();
    let mut reader = ParquetReader::new(open_regular(path)?);
    let schema = guarded(|| reader.schema()).with_context(damaged)?;
    let there = || schema.iter_names().map(ToString::to_string);
    for (name, flag) in &wanted {
        ensure!(schema.get(name).is_some(), "{shown}: {}", missing(name, flag, there()));
    }
    let names = wanted.iter().map(|(name, _)| (*name).to_owned()).collect();
    let reader = ParquetReader::new(open_regular(path)?).with_columns(Some(names));
    let frame = guarded(|| reader.finish()).with_context(damaged)?;
    let column = |name: &str| -> Result<Vec<String>> { of_column(&frame, name).with_context(|| shown.to_string()) };
    let texts = frame.column(&columns.text)?.as_materialized_series();
    ensure!(
        texts.str().is_ok(),
        "{shown}: column `{}` is {}, not text; name it by --text-column",
        columns.text,
        texts.dtype()
    );
    let (texts, labels) = (column(&columns.text)?, column(&columns.label)?);
    let documents = columns.document.as_deref().map(column).transpose()?;
    let row = |(at, (text, label)): (usize, (String, String))| {
        let document = documents.as_ref().map(|of| of[at].clone());
        Raw { text, label, document }
    };
    Ok(texts.into_iter().zip(labels).enumerate().map(row).collect())
}

fn of_column(frame: &DataFrame, name: &str) -> Result<Vec<String>> {
    let series = frame.column(name)?.as_materialized_series();
    let value = |(row, value): (usize, AnyValue<'_>)| match value {
        AnyValue::String(text) => Ok(text.to_owned()),
        AnyValue::StringOwned(text) => Ok(text.to_string()),
        AnyValue::Null => bail!("row {row} of column `{name}` is null"),
        value if value.is_primitive_numeric() || value.is_boolean() => Ok(value.to_string()),
        value => bail!("row {row} of column `{name}` is {}; labels are texts, numbers or booleans", value.dtype()),
    };
    series.rechunk().iter().enumerate().map(value).collect()
}

fn of_csv(path: &Path, columns: &Columns) -> Result<Vec<Raw>> {
    let text = whole_text(path, MOST_CSV)?;
    let mut rows = csv::rows(&text);
    let shown = path.display();
    let Row { cells: head, .. } =
        rows.next().with_context(|| format!("{shown} is empty"))?.with_context(|| shown.to_string())?;
    let place = |name: &str, flag: &str| {
        let at = head.iter().position(|column| column == name);
        at.with_context(|| format!("{shown}: {}", missing(name, flag, head.iter().cloned())))
    };
    let (text, label) = (place(&columns.text, "--text-column")?, place(&columns.label, "--label-column")?);
    let document = columns.document.as_deref().map(|name| place(name, "--document-column")).transpose()?;
    let row = |row: Result<Row, Damage>| {
        let Row { line, mut cells } = row.with_context(|| shown.to_string())?;
        let found = cells.len();
        ensure!(found == head.len(), "{shown}: line {line} has {found} cells, and the first {}", head.len());
        let document = document.map(|at| cells[at].clone());
        let label = cells[label].clone();
        Ok(Raw { text: std::mem::take(&mut cells[text]), label, document })
    };
    rows.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns { text: "text".to_owned(), label: "label".to_owned(), document: None }
    }

    #[test]
    fn the_same_rows_are_read_of_every_kind_of_file() {
        use polars::prelude::{Column, NamedFrom as _, ParquetWriter, Series};
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let json = write(
            "a.jsonl",
            "{\"text\": \"x, \\\"y\\\"\", \"label\": 10}\n{\"text\": \"b\", \"label\": 9}\n{\"text\": \"b\", \"label\": 9}\n",
        );
        let csv = write("a.csv", "label,text,more\n10,\"x, \"\"y\"\"\",1\n9,b,2\n9,b,\"3\n4\"\n");
        let parquet = dir.path().join("a.parquet");
        let series = [
            Column::from(Series::new("text".into(), vec!["x, \"y\"", "b", "b"])),
            Column::from(Series::new("label".into(), vec![10i64, 9, 9])),
        ];
        let mut frame = DataFrame::new_infer_height(series.to_vec()).unwrap();
        ParquetWriter::new(std::fs::File::create(&parquet).unwrap()).finish(&mut frame).unwrap();
        for path in [json, csv, parquet] {
            let found = Labelled::read(&path, &columns()).unwrap();
            assert_eq!((found.name.as_str(), found.classes.join(" ")), ("a", "9 10".to_owned()), "{}", path.display());
            assert_eq!(found.texts, ["x, \"y\"", "b", "b"]);
            assert_eq!((found.labels, found.documents), (vec![1, 0, 0], vec![0, 1, 1]));
        }
    }

    #[test]
    fn what_is_no_labelled_text_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let refuse = |name: &str, text: &str, parts: &[&str]| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Labelled::read(&path, &columns()).unwrap_err());
            assert!(error.contains(name), "{error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        };
        refuse("one.jsonl", "{\"text\": \"a\", \"label\": 1}\n", &["all texts have the label 1"]);
        refuse("none.jsonl", "{\"body\": \"a\", \"label\": 1}\n", &["line 1", "`text`", "`body`", "--text-column"]);
        refuse("list.jsonl", "{\"text\": \"a\", \"label\": [1]}\n", &["line 1", "`label`", "neither"]);
        refuse("cells.csv", "text,label\na,1\nb\n", &["line 3", "1 cells"]);
        refuse("open.csv", "text,label\n\"a,1\n", &["line 2", "quotation mark"]);
        refuse("head.csv", "a,b\n1,2\n", &["`text`", "`a`", "--text-column"]);
        let many: String = (0..60).map(|at| format!("{{\"text\": \"a\", \"label\": {at}}}\n")).collect();
        refuse("many.jsonl", &many, &["60 labels", "--label-column"]);
        std::fs::write(dir.path().join("bad.parquet"), b"PAR1 and no more").unwrap();
        let error = format!("{:#}", Labelled::read(&dir.path().join("bad.parquet"), &columns()).unwrap_err());
        assert!(error.contains("damaged"), "{error}");
    }
}
