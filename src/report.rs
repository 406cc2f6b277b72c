//! Tables, plots and a report from the parquet files of a sweep.

mod document;
pub mod figure;
mod glossary;
pub mod growth;
mod html;
pub mod loops;
mod plots;
mod questions;
mod sections;
mod summary;
mod tables;

use std::path::Path;

use anyhow::Result;

use crate::analysis::Analysis;
use crate::files::write_atomic;
use crate::frames;
use document::{Block, Document, Drawn};
use tables::Named;

/// Rebuilds `tables/`, `plots/`, `report.md` and `report.html` of a results directory.
///
/// # Errors
/// If the parquet files are missing or damaged, or a file can't be written.
pub fn write(results: &Path) -> Result<()> {
    let grid = frames::read(results)?;
    let analysis = Analysis::new(&grid);
    let (tables, figures) = rayon::join(|| tables::all(&analysis), || plots::write(&analysis, &results.join("plots")));
    for (name, table) in &tables {
        write_atomic(&results.join("tables").join(format!("{name}.md")), table.to_string().as_bytes())?;
    }
    let figures = figures?;
    let name = results.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let document = document(&analysis, &name, &tables, &figures);
    write_atomic(&results.join("report.html"), html::page(&document).as_bytes())?;
    write_atomic(&results.join("report.md"), document.markdown().as_bytes())
}

/// The summary, the sections and the glossary.
fn document<'a>(analysis: &Analysis<'_>, name: &str, tables: &'a [Named], figures: &'a [Drawn]) -> Document<'a> {
    let mut blocks = summary::blocks(analysis, tables, figures);
    blocks.extend(sections::blocks(analysis, tables, figures));
    let terms: Vec<String> =
        glossary::terms().into_iter().map(|(term, definition)| format!("- {term}: {definition}")).collect();
    blocks.extend([Block::Heading("Glossary"), Block::Text(terms.join("\n"))]);
    Document { title: format!("{name}: reconstruction and behaviour"), blocks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::made::{Made, Whole, grid_of, noise};
    use crate::frames::{Grid, Setting, Site};

    const EVIL: &str = "<script>alert(1)</script>|`*";

    /// Two models at three depths; the second's R² is higher and its CE_rec lower.
    fn made(models: &[&str], budgets: &[u64], seeds: u64) -> Grid {
        let sites = ["early", "mid", "late"].map(Site::resid_post);
        let settings = [4, 8, 16].map(Setting::topk);
        let first = models[0].to_owned();
        grid_of(
            models,
            &sites,
            &settings,
            budgets,
            (seeds, 12),
            move |(model, site, setting, budget, seed): Whole<'_>, at| {
                let ln = (setting.k.unwrap() as f64).ln();
                let later = f64::from(u8::from(model != first));
                let wobble = |what| {
                    0.01 * noise(&[later as u64, site.depth.len() as u64, ln.to_bits(), budget, seed, at as u64, what])
                };
                Made::new(0.1 * ln + 0.05 * later + wobble(0), 0.15 * ln - 0.05 * later + wobble(1))
            },
        )
    }

    /// Both pages of a grid.
    fn pages(grid: &Grid) -> [String; 2] {
        let analysis = Analysis::new(grid);
        let tables = tables::all(&analysis);
        let dir = tempfile::tempdir().unwrap();
        let figures = plots::write(&analysis, dir.path()).unwrap();
        let document = document(&analysis, "made", &tables, &figures);
        [document.markdown(), html::page(&document)]
    }

    #[test]
    fn a_report_begins_with_what_a_reader_wants_first() {
        let [text, page] = pages(&made(&["small", "large"], &[1000], 1));
        let first = &text[..text.find("\n## ").unwrap()];
        let at = |part: &str| first.find(part).unwrap_or_else(|| panic!("{part} in {first}"));
        let parts =
            ["**What was run.**", "**The strongest findings.**", "![paths]", "**Undecided.**", "**Caveats.**"].map(at);
        assert!(parts.is_sorted(), "{first}");
        assert!(first.contains("R² and CE_rec name different models in all 9 conditions"), "{first}");
        assert!(first.contains("One training seed per SAE"), "{first}");
        assert_eq!(first.matches("\n|").count(), 2 + 6, "a table, of two models at three depths: {first}");
        assert!(text.contains("This sweep cannot decide the hypotheses H0 to H3") && !text.contains("hypotheses.md"));
        // The same headings in both, and no table that the page lacks.
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert!(
            headings.len() > 10 && headings.iter().all(|heading| page.contains(&format!(">{heading}</h2>"))),
            "{headings:?}"
        );
        let linked: Vec<&str> = text.split("](tables/").skip(1).filter_map(|rest| rest.split(".md)").next()).collect();
        assert!(
            linked.len() > 10 && linked.iter().all(|name| page.contains(&format!("<details id=\"table-{name}\""))),
            "{linked:?}"
        );
        assert!(page.matches("<svg").count() == text.matches("![").count());
    }

    #[test]
    fn long_tables_are_shown_in_part_and_hypotheses_where_they_can_be_decided() {
        let [text, page] = pages(&made(&["small", "large"], &[1000, 2000], 3));
        assert!(text.contains("[`tables/hypotheses.md`](tables/hypotheses.md)") && text.contains("- **H0**: "));
        assert!(text.contains("rows in all): all depths"), "of the leaderboard");
        let longest = text.split("\n\n").filter(|part| part.starts_with('|')).map(|table| table.lines().count()).max();
        // The head and the line below it.
        assert!(longest.is_some_and(|lines| lines <= 22), "{longest:?}");
        assert!(page.contains(": all depths"));
    }

    #[test]
    fn one_model_has_a_summary_and_no_section_about_models() {
        let [text, _] = pages(&made(&["alone"], &[1000], 1));
        assert!(!text.contains("## Do the behaviour metrics agree?") && !text.contains("## Hypothesis tests"));
        assert!(!text.contains("## Is it the normalisation by variance?"));
        assert!(text.contains("**Undecided.** One training seed per SAE"), "{text}");
    }

    #[test]
    fn the_name_of_a_model_is_no_markup() {
        let [text, page] = pages(&made(&["small", EVIL], &[1000], 1));
        let body = page.replace(include_str!("report/page.js"), "");
        assert_eq!(body.to_lowercase().matches("<script").count(), 1, "the page's own");
        assert!(body.contains("&lt;script&gt;alert(1)"));
        // In Markdown it stands in code, or cannot open a tag.
        let bare =
            |line: &str| line.split('`').step_by(2).any(|outside| outside.replace("\\<", "").contains("<script"));
        assert!(!text.lines().any(bare), "{:?}", text.lines().find(|line| bare(line)));
    }

    #[test]
    fn the_same_grid_gives_the_same_bytes() {
        let grid = made(&["small", "large"], &[1000], 1);
        assert!(pages(&grid) == pages(&grid));
    }
}
