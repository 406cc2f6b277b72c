//! The report's sections: each question of the sweep that can be answered, with its tables, plots and caveats.

use assay_probes::stats::hypotheses::HYPOTHESES;

use super::document::{Block, Drawn, Part, Shown};
use super::questions::{ALWAYS, LINKED, SECTIONS, Section, TRAINING};
use super::summary::undecidable;
use super::tables::Named;
use crate::analysis::{Analysis, CloudLoops, cloud_loops, gaps, kinds_of_clouds};
use crate::markdown::{Table, counted};

/// A longer table is shown in part.
pub(super) const ROWS: usize = 20;

/// All sections that have something to show.
pub fn blocks<'a>(analysis: &Analysis<'_>, tables: &'a [Named], figures: &'a [Drawn]) -> Vec<Block<'a>> {
    let mut out = Vec::new();
    for section in &SECTIONS {
        let found: Vec<&Named> =
            section.tables.iter().filter_map(|name| tables.iter().find(|(n, _)| n == name)).collect();
        if found.is_empty() {
            continue;
        }
        out.push(Block::Heading(question(analysis, section)));
        if section.tables.contains(&"hypotheses") {
            if let Some(text) = undecidable(analysis) {
                out.push(Block::Text(text));
                continue;
            }
            let rules = HYPOTHESES.map(|h| format!("- **{}**: {} *{}*", h.name, h.claim, h.rule));
            out.push(Block::Text(rules.join("\n")));
        }
        out.extend(section.figures.iter().filter_map(|f| figures.iter().find(|d| d.stem == *f)).map(Block::Figure));
        // Links come last and together.
        let mut parts: Vec<Shown<'a>> = found.into_iter().map(|(name, table)| shown(analysis, name, table)).collect();
        parts.sort_by_key(|shown| matches!(shown.part, Part::Link));
        out.extend(parts.into_iter().map(Block::Table));
        if section.tables.contains(&"loops") {
            out.push(Block::Text(loops_found(analysis)));
        }
        if section.tables.contains(&"delta-by-k") {
            out.extend(monte_carlo(analysis).map(Block::Text));
        }
        let there = |name: &str| name == ALWAYS || tables.iter().any(|(table, _)| *table == name);
        let caveats: Vec<&str> =
            section.caveats.iter().filter(|(name, _)| there(name)).map(|(_, caveat)| *caveat).collect();
        out.push(Block::Text(caveats.join(" ")));
    }
    out
}

/// What a section asks: of training only what the sweep varied.
fn question(analysis: &Analysis<'_>, section: &Section) -> &'static str {
    let grid = analysis.grid;
    match (section.question == TRAINING, grid.budgets().len() > 1, grid.seeds().len() > 1) {
        (true, true, false) => "What does longer training change?",
        (true, false, true) => "What do other seeds change?",
        _ => section.question,
    }
}

/// As much of a table as the report shows: all rows, or those that carry the point, or none.
fn shown<'a>(analysis: &Analysis<'_>, name: &'static str, table: &'a Table) -> Shown<'a> {
    let part = if LINKED.contains(&name) { Part::Link } else { part(analysis, table) };
    Shown { name, table, part }
}

/// Of a long table the rows of all depths together, or else of the anchor depth; if they are still too many, those of them at the largest
/// budget; if still, those against the first class.
fn part(analysis: &Analysis<'_>, table: &Table) -> Part {
    let mut rows: Vec<usize> = (0..table.rows().len()).collect();
    if rows.len() <= ROWS {
        return Part::Whole;
    }
    let together = analysis.names.scope(None);
    let anchors: Vec<String> = analysis.anchor_sites().iter().map(|site| analysis.names.site(site)).collect();
    let budget = super::tables::budget(analysis.largest_budget());
    let classes = analysis.grid.classes();
    let first = classes.first().map(|class| analysis.names.class(class));
    let filters = [
        ("depth", vec![together.clone()]),
        ("depth", anchors),
        ("tokens", vec![budget.clone()]),
        ("train tokens", vec![budget]),
        ("against", first.into_iter().collect()),
    ];
    let mut what: Vec<String> = Vec::new();
    for (name, wanted) in filters {
        let Some(column) = table.head().iter().position(|head| head == name) else { continue };
        let kept: Vec<usize> =
            rows.iter().copied().filter(|&row| wanted.contains(&table.rows()[row][column])).collect();
        if rows.len() > ROWS && !kept.is_empty() && kept.len() < rows.len() {
            rows = kept;
            what.push(match name {
                "depth" if wanted[0] == together => together.clone(),
                "depth" => format!("depth {}", wanted.join(" and ")),
                "against" => format!("differences from {}", wanted.join(", ")),
                _ => format!("{} training tokens", wanted.join(", ")),
            });
        }
    }
    if rows.len() > ROWS || what.is_empty() { Part::Link } else { Part::Rows(rows, what.join(", ")) }
}

/// What was found of loops, in a sentence for each kind of cloud.
fn loops_found(analysis: &Analysis<'_>) -> String {
    let found = cloud_loops(analysis);
    let of_kind = |(kind, mut of): (&str, Vec<&CloudLoops<'_>>)| {
        of.retain(|cloud| cloud.p.is_some());
        let points = match kind {
            "decoder" => "decoder rows",
            "encoder" => "encoder columns",
            _ => "activations",
        };
        let standing: Vec<&str> =
            of.iter().filter(|cloud| cloud.stands() == Some(true)).map(|cloud| cloud.of.cloud.as_str()).collect();
        let clouds = counted(of.len(), "cloud");
        let shown = if standing.len() <= 5 { format!(": {}", standing.join(", ")) } else { String::new() };
        match standing.len() {
            _ if of.is_empty() => format!("No cloud of {points} had enough points to be tested."),
            0 => format!("No cloud of {points} has more of a loop than every null ({} tested).", of.len()),
            1 => format!("One of {clouds} of {points} has more of a loop than every null{shown}."),
            n => format!("{n} of {clouds} of {points} have more of a loop than every null{shown}."),
        }
    };
    kinds_of_clouds(&found).into_iter().map(of_kind).collect::<Vec<_>>().join(" ")
}

/// How far another seed of the bootstrap would move the ends of these intervals.
fn monte_carlo(analysis: &Analysis<'_>) -> Option<String> {
    let errors = gaps(analysis).into_iter().filter_map(|gap| gap.behaviours[0].difference.end_errors).flatten();
    let largest = errors.fold(0.0, f64::max);
    (largest > 0.0).then(|| {
        format!(
            "Another seed of the bootstrap would move the ends of the intervals of ΔCE_rec (pooled) by about {largest:.4} at most (Monte-Carlo standard error); \
             an end within two of its errors of 0 makes a label `unsure`."
        )
    })
}
