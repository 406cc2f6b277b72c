//! Results in a Jupyter notebook with the evcxr kernel: frames as tables, figures inline.
//!
//! With the feature `notebook` alone it compiles without Burn. A cell shows its last expression if that has a method
//! `evcxr_display`; frames, tables and figures get it from [`show`].
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use assay::notebook::{Results, show};
//! let results = Results::open("results/example")?;
//! show(&results.frame("runs")?);
//! # Ok(())
//! # }
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use polars::prelude::{AnyValue, DataFrame};

pub use crate::analysis::{self, Analysis};
pub use crate::frames::{Grid, Setting, Site};
pub use crate::report::figure;
pub use polars;

use crate::frames;
use crate::markdown::{self, NONE, Table};
use crate::output;
use figure::Figure;

/// Rows of a frame that are shown; the number of all of them stands below.
pub const ROWS: usize = 30;

/// A results directory, opened for reading.
pub struct Results {
    dir: PathBuf,
    grid: &'static Grid,
}

impl Results {
    /// Opens the results of a sweep. What it holds stays in memory until the kernel ends: a variable of a cell can't borrow.
    ///
    /// # Errors
    /// If a file is missing or damaged; the message says which.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref().to_owned();
        let grid = frames::read(&dir)
            .with_context(|| format!("{} (a relative path counts from the notebook's directory)", dir.display()))?;
        Ok(Self { dir, grid: Box::leak(Box::new(grid)) })
    }

    /// A Parquet file of the directory as it is: `runs`, `sequences`, `geometry`, `curves`, `norms`, `models`, …
    ///
    /// # Errors
    /// If there is none of that name, or it is damaged.
    pub fn frame(&self, name: &str) -> Result<DataFrame> {
        frames::open(&self.file("", name, "parquet")?)
    }

    /// The runs with their sums, as reports read them.
    pub fn grid(&self) -> &'static Grid {
        self.grid
    }

    /// Differences, correlations and verdicts with their intervals, by the functions of [`analysis`] that reports use.
    pub fn analysis(&self) -> Analysis<'static> {
        Analysis::new(self.grid)
    }

    /// A table of the report: `grid`, `delta-by-k`, `leaderboard`, …
    ///
    /// # Errors
    /// If the report has none of that name.
    pub fn table(&self, name: &str) -> Result<Shown> {
        let text = self.read("tables", name, "md")?;
        Ok(Shown(vec![("text/markdown", text.clone()), ("text/plain", text)]))
    }

    /// A figure of the report: `curves`, `gap`, `leaderboard`, …
    ///
    /// # Errors
    /// If the report has none of that name.
    pub fn plot(&self, name: &str) -> Result<Shown> {
        Ok(Shown::svg(self.read("plots", name, "svg")?, name))
    }

    fn read(&self, part: &str, name: &str, extension: &str) -> Result<String> {
        let path = self.file(part, name, extension)?;
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A file of the directory, or an error that lists those there are.
    fn file(&self, part: &str, name: &str, extension: &str) -> Result<PathBuf> {
        let dir = self.dir.join(part);
        let path = dir.join(format!("{name}.{extension}"));
        if path.is_file() {
            return Ok(path);
        }
        let entries = std::fs::read_dir(&dir).with_context(|| {
            format!("cannot read {}; `assay report {}` writes it", dir.display(), self.dir.display())
        })?;
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == extension))
            .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        bail!("{} has no `{name}`; there are {}", dir.display(), names.join(", "))
    }
}

/// What a cell shows: the same content in one or more MIME types.
pub struct Shown(Vec<(&'static str, String)>);

impl Shown {
    fn svg(content: String, title: &str) -> Self {
        Self(vec![("image/svg+xml", content), ("text/plain", title.to_owned())])
    }

    /// Prints the content between the marks by which the kernel knows it. The kernel calls this.
    pub fn evcxr_display(&self) {
        for (mime, content) in &self.0 {
            // A kernel that is gone has no cell to show it in.
            let _unread = output::result_line(format_args!("EVCXR_BEGIN_CONTENT {mime}\n{content}\nEVCXR_END_CONTENT"));
        }
    }

    /// The content of a MIME type.
    pub fn content(&self, mime: &str) -> Option<&str> {
        self.0.iter().find(|(m, _)| *m == mime).map(|(_, content)| content.as_str())
    }
}

/// What a cell can show.
pub trait Show {
    /// As the kernel wants it.
    fn show(&self) -> Shown;
}

/// Shows a frame, a table or a figure, as the last expression of a cell.
pub fn show(what: &impl Show) -> Shown {
    what.show()
}

impl Show for DataFrame {
    /// Its first [`ROWS`] rows; numbers in four digits, null as a dash.
    fn show(&self) -> Shown {
        let names: Vec<String> = self.columns().iter().map(|c| c.name().to_string()).collect();
        let mut table = Table::new(names);
        for row in 0..self.height().min(ROWS) {
            table.row(self.columns().iter().map(|c| c.get(row).map_or_else(|e| e.to_string(), |v| cell(&v))));
        }
        let note = match self.height() {
            height if height > ROWS => format!("{ROWS} of {height} rows, {} columns", self.width()),
            height => format!("{height} rows, {} columns", self.width()),
        };
        let html = format!("{}<p>{note}</p>", html(&table));
        Shown(vec![("text/html", html), ("text/plain", format!("{table}{note}"))])
    }
}

impl Show for Table {
    fn show(&self) -> Shown {
        Shown(vec![("text/html", html(self)), ("text/plain", self.to_string())])
    }
}

impl Show for Figure {
    fn show(&self) -> Shown {
        match self.svg() {
            Ok(svg) => Shown::svg(svg, &self.title),
            Err(error) => Shown(vec![("text/plain", format!("{error:#}"))]),
        }
    }
}

fn cell(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::Null => NONE.to_owned(),
        AnyValue::Float32(v) => markdown::number(Some(f64::from(*v))),
        AnyValue::Float64(v) => markdown::number(Some(*v)),
        AnyValue::String(text) => (*text).to_owned(),
        AnyValue::StringOwned(text) => text.to_string(),
        other => other.to_string(),
    }
}

fn html(table: &Table) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let line = |tag: &str, cells: &[String]| {
        let mut out = String::from("<tr>");
        for cell in cells {
            let _ = write!(out, "<{tag}>{}</{tag}>", escaped(cell));
        }
        out + "</tr>\n"
    };
    let rows: String = table.rows().iter().map(|row| line("td", row)).collect();
    format!("<table>\n<thead>\n{}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n", line("th", table.head()))
}
