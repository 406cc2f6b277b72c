//! The tables of a report: those of the reference texts first, with their columns and then ours, and after them our own.
//!
//! Every number comes from [`crate::analysis`]; here it is only set.

mod architectures;
mod behaviour;
mod behaviours;
mod budgets;
mod controlled;
mod controls;
mod geometry;
mod glance;
mod grid;
mod hypotheses;
mod information;
mod legibility;
mod loops;
mod proxies;
mod scale;
mod uncertainty;

use assay_probes::stats::{Estimate, Excludes, clopper_pearson};
use rayon::prelude::*;

use crate::analysis::{Analysis, Cell, Score};
use crate::markdown::tokens_text;
use crate::markdown::{self, NONE, Table};

/// A table and the name of its file.
pub type Named = (&'static str, Table);

/// Makes a table; an empty one where the grid has no data for it.
type Maker = fn(&Analysis<'_>) -> Table;

/// All tables that the grid has data for.
pub fn all(analysis: &Analysis<'_>) -> Vec<Named> {
    let makers: [(&'static str, Maker); 46] = [
        ("glance", glance::glance),
        ("headline", scale::headline),
        ("setup", scale::setup),
        ("failed", |analysis| grid::failed(analysis.grid)),
        ("delta-by-k", scale::delta_by_k),
        ("behaviours", behaviours::behaviours),
        ("behaviour-signs", behaviours::signs),
        ("equal-r2", behaviours::equal),
        ("equal-training", behaviours::equal_training),
        ("architectures", architectures::architectures),
        ("three-model", scale::three_model),
        ("monotone", scale::monotone),
        ("correlations", proxies::correlations),
        ("choices", proxies::choices),
        ("leaderboard", proxies::leaderboard),
        ("leaderboard-by-behaviour", proxies::leaderboard_by_behaviour),
        ("leaderboard-reference", proxies::leaderboard_reference),
        ("beyond-swd", proxies::beyond_swd),
        ("fisher", proxies::fisher),
        ("rate-distortion", proxies::rate_distortion),
        ("sst-inflation", controls::sst_inflation),
        ("three-model-proxies", controls::three_model_proxies),
        ("controls", controls::controls),
        ("subsets", controls::subsets),
        ("what-controls-have", controlled::what_controls_have),
        ("against-controls", controlled::against_controls),
        ("legibility", legibility::legibility),
        ("k-star", behaviour::k_star),
        ("k-star-reference", behaviour::k_star_reference),
        ("overlap", behaviour::overlap),
        ("spread", behaviour::spread),
        ("alive", behaviour::alive),
        ("budgets", budgets::budgets),
        ("phase2", budgets::phase2),
        ("trend", uncertainty::trend),
        ("seeds", budgets::seeds),
        ("sequences-needed", uncertainty::sequences_needed),
        ("power", uncertainty::power),
        ("influence", uncertainty::influence),
        ("geometry", |analysis| geometry::geometry(analysis.grid)),
        ("information", information::information),
        ("loops", loops::loops),
        ("loops-by-cloud", loops::clouds),
        ("hypotheses", hypotheses::hypotheses),
        ("grid", grid::grid),
        ("everything", grid::everything),
    ];
    // What tells SAEs apart is more than a k where there are several architectures or objectives.
    let has_classes = analysis.names.classes().is_some();
    let named = |table: Table| if has_classes { table.renamed("k", "SAE") } else { table };
    let tables = makers.into_par_iter().map(|(name, table)| (name, table(analysis)));
    tables.filter(|(_, table)| !table.is_empty()).map(|(name, table)| (name, named(table))).collect()
}

/// `0.340 [0.169, 0.469]`.
fn scored(score: Score) -> String {
    markdown::with_interval(score.value, score.interval)
}

/// `+0.154 [+0.120, +0.190]`.
fn signed(score: Score) -> String {
    markdown::signed_with_interval(score.value, score.interval)
}

/// `+0.907 [+0.801, +0.950]`.
fn correlation(estimate: Estimate) -> String {
    markdown::signed_with_interval(estimate.value, estimate.interval)
}

/// `2 of 4 [0.07, 0.93]`: with its exact interval where there are several trials.
fn share((hits, trials): (usize, usize)) -> String {
    match clopper_pearson(hits, trials, 0.95) {
        Some(interval) if trials > 1 => format!("{hits} of {trials} [{:.2}, {:.2}]", interval.low, interval.high),
        Some(_) => if hits == 1 { "yes" } else { "no" }.to_owned(),
        None => NONE.to_owned(),
    }
}

/// `medium − small`.
fn pair(from: &Cell, to: &Cell) -> String {
    format!("{} − {}", to.model, from.model)
}

/// Sorts rows by the site, setting and budget of a cell of each.
fn sort_by_axes<T>(analysis: &Analysis<'_>, rows: &mut [T], cell: impl Fn(&T) -> &Cell) {
    let (sites, settings) = (analysis.grid.sites(), analysis.grid.settings());
    rows.sort_by_key(|row| {
        let cell = cell(row);
        let setting = settings.iter().position(|s| *s == cell.setting);
        (sites.iter().position(|s| *s == cell.site), setting, cell.budget)
    });
}

/// `61.7%`.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), |s| format!("{:.1}%", 100.0 * s))
}

fn yes_no(value: Option<bool>) -> String {
    value.map_or(NONE, |v| if v { "yes" } else { "no" }).to_owned()
}

fn excludes(value: Option<Excludes>) -> String {
    let text = value.map_or(NONE, |v| match v {
        Excludes::Yes => "yes",
        Excludes::No => "no",
        Excludes::Unsure => "unsure",
    });
    text.to_owned()
}

/// `10M`.
pub fn budget(tokens: u64) -> String {
    tokens_text(tokens).replace(" tokens", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::made::{MODELS, Made, Place, Whole, grid, grid_of, noise};
    use crate::analysis::{findings, gaps};
    use crate::frames::{Setting, Site};

    fn made((_, k, ..): Place<'_>, at: usize) -> Made {
        Made::new(0.1 * (k as f64).log2(), 0.1 * (k as f64).log2() + 0.01 * noise(&[at as u64]))
    }

    #[test]
    fn one_model_has_no_pairs_and_no_hypotheses() {
        let grid = grid(&["little"], &[4, 8], &[1000, 2000], 2, 12, made);
        let analysis = Analysis::new(&grid);
        assert!(findings(&analysis).is_empty() && gaps(&analysis).is_empty());
        let tables = all(&analysis);
        let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
        let pairwise = "hypotheses delta-by-k behaviours behaviour-signs equal-r2 equal-training correlations \
                        choices beyond-swd controls architectures trend sequences-needed power influence overlap phase2";
        for name in pairwise.split_whitespace() {
            assert!(!names.contains(&name), "{name}: {names:?}");
        }
        for name in ["headline", "setup", "budgets", "seeds", "everything"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        let text: String = tables.iter().map(|(_, table)| table.to_string()).collect();
        assert!(!text.contains("0 training seeds") && !text.contains("-2.000"));
    }

    /// Two kinds of hook at three depths, two architectures at the same k.
    #[test]
    fn every_site_and_setting_has_rows_of_its_own() {
        let site = |kind: &str, depth| Site { kind: kind.to_owned(), ..Site::resid_post(depth) };
        let at = |kind| ["early", "mid", "late"].map(|depth| site(kind, depth));
        let sites = [at("resid_post"), at("mlp_out")].concat();
        let setting = |name: &str, k| Setting { architecture: name.to_owned(), ..Setting::topk(k) };
        let settings = ["topk", "groupmax"].map(|name| [4, 8, 16].map(|k| setting(name, k))).concat();
        let made = |(_, _, setting, ..): Whole<'_>, at: usize| {
            let k = setting.k.unwrap_or_default();
            let behaves = 0.3 * (k as f64).log2() + 0.01 * noise(&[at as u64]);
            Made { l0: k as f64, ..Made::new(0.1 * (k as f64).log2(), behaves) }
        };
        let grid = grid_of(&MODELS, &sites, &settings, &[1000], (1, 12), made);
        let tables = all(&Analysis::new(&grid));
        let table = |name: &str| &tables.iter().find(|(n, _)| *n == name).unwrap().1;
        for (name, rows, key) in [
            ("delta-by-k", 36, vec!["SAE", "depth"]),
            ("alive", 36, vec!["depth", "SAE"]),
            ("grid", 72, vec!["depth", "model", "SAE"]),
            ("subsets", 72, vec!["model", "depth", "SAE"]),
            ("headline", 8, vec!["model", "depth", "SAE"]),
            ("three-model", 24, vec!["model", "depth", "SAE"]),
            ("k-star", 72, vec!["depth", "architecture", "target t"]),
            ("architectures", 36, vec!["model", "depth", "SAE"]),
            ("correlations", 6, vec!["depth"]),
        ] {
            let table = table(name);
            let column = |name: &&str| table.head().iter().position(|h| h == name).unwrap();
            let columns: Vec<usize> = key.iter().map(column).collect();
            let mut keys: Vec<Vec<&String>> =
                table.rows().iter().map(|row| columns.iter().map(|&c| &row[c]).collect()).collect();
            assert_eq!(keys.len(), rows, "{name}\n{table}");
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), rows, "{name}: two rows are called the same\n{table}");
        }
        let text = table("delta-by-k").to_string();
        assert!(text.contains("| mid mlp_out ") && text.contains("| groupmax 8 "), "{text}");
        assert!(table("leaderboard").to_string().contains("| all sites "));
    }

    #[test]
    fn shares_carry_their_exact_interval() {
        assert_eq!(share((0, 4)), "0 of 4 [0.00, 0.60]");
        assert_eq!(share((1, 1)), "yes");
        assert_eq!(share((0, 0)), NONE);
        let grid = grid(&MODELS, &[4, 8], &[1000], 4, 12, made);
        let analysis = Analysis::new(&grid);
        let table = all(&analysis).into_iter().find(|(name, _)| *name == "delta-by-k").unwrap().1;
        assert!(table.to_string().contains("0 of 4 [0.00, 0.60]"), "{table}");
    }
}
