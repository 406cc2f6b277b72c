//! A report as one HTML page that needs nothing beside it: figures as SVG in their places, whole tables that sort and filter.
//!
//! Names of models, sites and classes come from files of others. All text is escaped; sentences are Markdown, of which HTML and links to
//! anything but `https:` and the page's own places are left as text. A content security policy allows the page's own script by its hash
//! and no request at all.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

use super::document::{Block, Document, Drawn, Part, Shown};
use crate::markdown::Table;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// SHA-256 of [`SCRIPT`], in base64.
const SCRIPT_HASH: &str = "pQSKUoP8u7rMXZ+OGkKuuRBiJ7u3itzRPU/URuy15IM=";

/// The page.
pub fn page(document: &Document<'_>) -> String {
    let title = escaped(&document.title);
    let (mut contents, mut body) = (String::new(), String::new());
    let tables: BTreeSet<&str> = document.blocks.iter().filter_map(table_name).collect();
    for (at, block) in document.blocks.iter().enumerate() {
        _ = match block {
            Block::Heading(text) => {
                let text = escaped(text);
                _ = writeln!(contents, "<li><a href=\"#part-{at}\">{text}</a></li>");
                writeln!(body, "<h2 id=\"part-{at}\">{text}</h2>")
            }
            Block::Text(text) => write!(body, "{}", sentences(text, &tables)),
            Block::Figure(Drawn { stem, caption, svg }) => write!(
                body,
                "<figure id=\"figure-{stem}\" role=\"group\" aria-label=\"{stem}\">\n<div class=\"wide\">{}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
                svg.trim_end(),
                sentences(caption, &tables)
            ),
            Block::Table(shown) => write!(body, "{}", whole(shown)),
        };
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src \
         'none'; style-src 'unsafe-inline'; script-src 'sha256-{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<nav aria-label=\"Contents\">\n<h2>Contents</h2>\n<ol>\n{contents}</ol>\n</nav>\n<main>\n\
         <h1>{title}</h1>\n{body}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

fn table_name<'a>(block: &Block<'a>) -> Option<&'a str> {
    match block {
        Block::Table(shown) => Some(shown.name),
        _ => None,
    }
}

/// A table with all of its rows. One of which a page of Markdown shows a part or a link is folded.
fn whole(shown: &Shown<'_>) -> String {
    let name = shown.name;
    let (open, part) = match &shown.part {
        Part::Whole => (" open", String::new()),
        Part::Rows(rows, what) => {
            let shown = rows_of(&shown.table.part(rows));
            ("", format!("<p>Rows of <a href=\"#table-{name}\">{name}</a>: {}</p>\n{shown}", escaped(what)))
        }
        Part::Link => ("", String::new()),
    };
    format!(
        "{part}<details id=\"table-{name}\"{open}>\n<summary>Table <code>{name}</code> ({})</summary>\n{}</details>\n",
        shown.size(),
        rows_of(shown.table)
    )
}

fn rows_of(table: &Table) -> String {
    let cells = |cells: &[String], tag: &str| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{}>", escaped(cell), &tag[..2])).collect()
    };
    let rows: String = table.rows().iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
        cells(table.head(), "th scope=\"col\"")
    )
}

/// Markdown as HTML, of which the text's own HTML, images and links out of the page are left as text. A link to the file of a table leads to the
/// table in the page.
fn sentences(text: &str, tables: &BTreeSet<&str>) -> String {
    let mut in_links = Vec::new();
    let events = Parser::new_ext(text, Options::empty()).filter_map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::Start(Tag::HtmlBlock) => Some(Event::Start(Tag::Paragraph)),
        Event::End(TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let target = target(&dest_url, tables);
            in_links.push(target.is_some());
            let dest_url = CowStr::from(target?);
            Some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
        }
        Event::End(TagEnd::Link) => in_links.pop().unwrap_or(false).then_some(Event::End(TagEnd::Link)),
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        other => Some(other),
    });
    let mut out = String::new();
    pulldown_cmark::html::push_html(&mut out, events);
    out
}

/// Where a link leads from the page; `None` if it must not.
fn target(link: &str, tables: &BTreeSet<&str>) -> Option<String> {
    let table = link.strip_prefix("tables/").and_then(|file| file.strip_suffix(".md"));
    if let Some(name) = table.filter(|name| tables.contains(name)) {
        return Some(format!("#table-{name}"));
    }
    (link.starts_with('#') || link.starts_with("https://")).then(|| link.to_owned())
}

/// Text between tags or in a quoted attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use ring::digest::{SHA256, digest};

    use super::*;

    const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";

    /// Every tag that a page has.
    fn tags(page: &str) -> BTreeSet<String> {
        let names = page.split('<').skip(1).map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect());
        names.collect()
    }

    #[test]
    fn the_policy_allows_the_page_s_own_script_alone() {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let hash = digest(&SHA256, SCRIPT.as_bytes());
        let mut base64 = String::new();
        for three in hash.as_ref().chunks(3) {
            let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
            let digit = |at: usize| ALPHABET[(bits >> (18 - 6 * at)) as usize & 63] as char;
            base64.extend((0..4).map(|at| if at <= three.len() { digit(at) } else { '=' }));
        }
        assert_eq!(base64, SCRIPT_HASH);
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("</"));
    }

    #[test]
    fn names_stay_text() {
        let mut table = Table::new([EVIL]);
        table.row([EVIL]);
        let figure = Drawn { stem: "paths", caption: format!("Of {EVIL}."), svg: "<svg></svg>".to_owned() };
        let shown = |part| Block::Table(Shown { name: "grid", table: &table, part });
        let text = format!(
            "Of `{EVIL}` and {EVIL}, [a](javascript:alert(3)), ![b](https://c.d/e.png), [f](tables/grid.md), [g](https://h.i).\n\n{EVIL}"
        );
        let blocks = vec![
            Block::Heading("A & B"),
            Block::Text(text),
            Block::Figure(&figure),
            shown(Part::Whole),
            shown(Part::Rows(vec![0], EVIL.to_owned())),
            shown(Part::Link),
        ];
        let page = page(&Document { title: EVIL.to_owned(), blocks });
        let body = &page[page.find("<body>").unwrap()..page.rfind("<script>").unwrap()];
        let found = tags(body);
        assert!(!found.contains("script") && !found.contains("img"), "{body}");
        assert!(!body.contains("javascript:") && !body.contains("e.png"), "{body}");
        assert!(body.contains("href=\"#table-grid\"") && body.contains("href=\"https://h.i\""), "{body}");
        assert_eq!(page.matches("<script>").count(), 1);
        assert!(body.contains("A &amp; B") && body.contains("<svg></svg>"));
        assert!(page.contains("<title>&lt;script&gt;"));
    }
}
