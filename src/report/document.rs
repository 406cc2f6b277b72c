//! A report as a list of blocks, which become Markdown here and HTML in `html.rs`: its sentences are written once.

use std::fmt::Write as _;

use crate::markdown::{Table, no_tags};

/// A part of a report. Its sentences are Markdown.
pub enum Block<'a> {
    /// A heading of the second level.
    Heading(&'static str),
    /// Paragraphs or a list.
    Text(String),
    /// A figure of `plots/`.
    Figure(&'a Drawn),
    /// A table of `tables/`.
    Table(Shown<'a>),
}

/// A figure that was drawn.
pub struct Drawn {
    /// What its files are called.
    pub stem: &'static str,
    /// What it shows.
    pub caption: String,
    /// The figure itself.
    pub svg: String,
}

/// A table and as much of it as the page shows; its file holds all.
pub struct Shown<'a> {
    /// What its file is called.
    pub name: &'static str,
    /// The whole of it.
    pub table: &'a Table,
    /// The rows that the page shows.
    pub part: Part,
}

/// How much of a table a page shows.
pub enum Part {
    /// All rows.
    Whole,
    /// These rows, and what they have in common.
    Rows(Vec<usize>, String),
    /// A link.
    Link,
}

impl Shown<'_> {
    /// Its file, from the results directory.
    pub fn path(&self) -> String {
        format!("tables/{}.md", self.name)
    }

    /// `48 rows`.
    pub fn size(&self) -> String {
        match self.table.rows().len() {
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        }
    }
}

/// A report.
pub struct Document<'a> {
    /// Its name.
    pub title: String,
    /// What it consists of.
    pub blocks: Vec<Block<'a>>,
}

impl Document<'_> {
    /// As Markdown, with links to figures and tables beside it.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", no_tags(&self.title));
        let mut blocks = self.blocks.iter().peekable();
        while let Some(block) = blocks.next() {
            _ = match block {
                Block::Heading(text) => write!(out, "## {text}\n\n"),
                Block::Text(text) => write!(out, "{}\n\n", text.trim_end()),
                Block::Figure(Drawn { stem, caption, .. }) => {
                    write!(out, "![{stem}](plots/{stem}.svg)\n\n*{}*\n\n", no_tags(caption))
                }
                Block::Table(shown) => match &shown.part {
                    Part::Whole => write!(out, "[`{0}`]({0})\n\n{1}\n", shown.path(), shown.table),
                    Part::Rows(rows, what) => {
                        let (path, part) = (shown.path(), shown.table.part(rows));
                        write!(
                            out,
                            "Rows of [`{path}`]({path}) ({} in all): {}\n\n{part}\n",
                            shown.size(),
                            no_tags(what)
                        )
                    }
                    // Links that follow each other are one paragraph.
                    Part::Link => {
                        let (path, size) = (shown.path(), shown.size());
                        let more = matches!(blocks.peek(), Some(Block::Table(Shown { part: Part::Link, .. })));
                        write!(out, "Table: [`{path}`]({path}) ({size}){}", if more { "  \n" } else { "\n\n" })
                    }
                },
            };
        }
        format!("{}\n", out.trim_end())
    }
}
