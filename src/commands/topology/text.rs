//! What `assay topology` prints.

use std::fmt::Write as _;

use anyhow::Result;
use assay_probes::topology::{AgainstNull, Band, Bar, BarStatistics, Growth, PiOfParts, Statistic, universal_p};
use serde_json::{Value, json};

use crate::markdown::Table;
use crate::topology::{Audited, MOST_IN_DIMENSION_2};

/// One object, or a list of them if there are several metrics.
pub(super) fn json(found: &[Audited]) -> Result<String> {
    let bars = |bars: &[Bar]| bars.iter().map(|bar| json!([bar.birth, bar.death])).collect::<Vec<Value>>();
    let object = |found: &Audited| -> Result<Value> {
        let mut object = serde_json::Map::new();
        let Value::Object(all) = serde_json::to_value(found)? else { unreachable!("a struct is an object") };
        for (key, value) in all {
            if key != "audit" {
                object.insert(key, value);
            }
        }
        let audit = &found.audit;
        object.insert("diameter".to_owned(), json!(audit.diameter));
        object.insert("enclosing_radius".to_owned(), json!(audit.enclosing_radius));
        object.insert("p_universal".to_owned(), json!(universal_p(&audit.diagram.finite(1))));
        object.insert("statistics".to_owned(), serde_json::to_value(&audit.statistics)?);
        if let Some(voids) = &audit.voids {
            object.insert("voids".to_owned(), serde_json::to_value(voids)?);
            let explained = audit.is_explained_by_a_void(found.alpha);
            object.insert("is_explained_by_a_void".to_owned(), json!(explained));
        }
        object.insert("nulls".to_owned(), serde_json::to_value(&audit.nulls)?);
        object.insert("exceeds_every_null".to_owned(), json!(audit.exceeds(Statistic::Pi, found.alpha)));
        for (dimension, of) in audit.diagram.bars.iter().enumerate() {
            object.insert(format!("h{dimension}"), json!(bars(of)));
        }
        Ok(Value::Object(object))
    };
    let objects = found.iter().map(object).collect::<Result<Vec<_>>>()?;
    Ok(match &objects[..] {
        [only] => serde_json::to_string_pretty(only)?,
        _ => serde_json::to_string_pretty(&objects)?,
    })
}

/// A heading, a sentence and tables for each metric.
pub(super) fn tables(cloud: &str, found: &[Audited]) -> String {
    let mut text = String::new();
    for (at, found) in found.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        let _ = write!(text, "{gap}{}", one(cloud, found));
    }
    let together: Vec<String> =
        found.iter().filter_map(|f| Some(format!("{} {}", f.metric, number(f.p_over_metrics?)))).collect();
    if together.len() > 1 {
        let _ = writeln!(
            text,
            "\nEach metric is judged by itself above. Over all {} together (Westfall and Young's min-P, of the same draws), p of pi is at most: {}.",
            together.len(),
            together.join(", ")
        );
    }
    text.trim_end().to_owned()
}

fn one(cloud: &str, found: &Audited) -> String {
    let audit = &found.audit;
    let statistics = &audit.statistics;
    let mut text = format!("# {cloud}, {}\n\n{}\n\n", found.metric, verdict(found));
    let kept = found.components.map_or(String::new(), |k| format!(", {k} principal components of them"));
    let of = if found.points < found.rows { format!(" of {}", found.rows) } else { String::new() };
    let _ = writeln!(
        text,
        "{}{of} points in {} dimensions{kept}; filtration {}; diameter {}; bars in H1: {}.",
        found.points,
        found.dimensions,
        found.filtration,
        number(audit.diameter),
        statistics.count
    );
    let longest: Vec<String> = statistics.longest.iter().map(|&length| number(length)).collect();
    if !longest.is_empty() {
        let _ = writeln!(text, "Longest: {}. Largest death/birth (pi): {}.", longest.join(", "), shown(statistics.pi));
    }
    if let Some(p) = universal_p(&audit.diagram.finite(1)) {
        let _ = writeln!(
            text,
            "A screen without draws: p of pi is {} by the law that bars of noise are conjectured to follow (Bobrowski and Skraba 2023), times the \
             number of bars.",
            number(p)
        );
    }
    if audit.nulls.is_empty() {
        return text;
    }
    let mut table =
        Table::new(["null", "draws", "statistic", "cloud", "null: 5 %, median, 95 %", "p", "p, all statistics"]);
    for null in &audit.nulls {
        for test in &null.tests {
            table.row([
                null.null.to_string(),
                null.draws.to_string(),
                test.statistic.name().to_owned(),
                shown(test.observed),
                test.null.map(number).join(", "),
                number(test.p),
                number(test.p_adjusted),
            ]);
        }
    }
    let _ = write!(text, "\n{table}");
    if let Some(growth) = &found.growth {
        text.push_str(&parts(found, growth));
    }
    if let Some(Band { c, above, .. }) = &found.band {
        let _ = writeln!(
            text,
            "\nConfidence band (Fasy et al. 2014, {} %): {above} of {} bars are longer than 4c = {} and so no noise of so many points. c is about as long as \
             the distance of neighbours, so that in more than a few dimensions none is. No verdict follows it.",
            100.0 * (1.0 - found.alpha),
            statistics.count,
            number(4.0 * c)
        );
    }
    if let Some(author) = &found.author {
        let _ = writeln!(
            text,
            "\nratio_author {} (mean longest bar of {} halves over the largest 95th percentile of those of shuffled columns and a Gaussian), fraction {}: an earlier rule, \
             for comparison. Only p-values can be compared between metrics and numbers of points.",
            shown(author.ratio),
            author.maxima.len(),
            shown(author.fraction)
        );
    }
    text.push_str(
        "\nNot claimed: that there is a loop (a sphere, a Swiss roll in space and gaps between clusters can pass, too), how many there are, \
         or that a loop stands for a cyclic concept.\n",
    );
    text
}

/// How the ratio grows with the points, and whether its bar is there again.
fn parts(found: &Audited, growth: &Growth) -> String {
    let mut text = String::new();
    if !growth.sizes.is_empty() {
        let nulls = found.audit.nulls.iter();
        let heads = ["points".to_owned(), "pi of the cloud".to_owned()];
        let mut table = Table::new(heads.into_iter().chain(nulls.map(|null| null.null.to_string())));
        let cell = |pi: PiOfParts| format!("{} [{}, {}]", number(pi.mean), number(pi.least), number(pi.most));
        for size in &growth.sizes {
            table.row(
                [size.points.to_string(), cell(size.cloud)].into_iter().chain(size.nulls.iter().map(|&pi| cell(pi))),
            );
        }
        let of_null = |null: &AgainstNull| {
            let test = null.tests.iter().find(|test| test.statistic == Statistic::Pi);
            test.map_or_else(String::new, |test| {
                let [low, median, high] = test.null.map(number);
                format!("{median} [{low}, {high}]")
            })
        };
        let whole = [found.points.to_string(), shown(found.audit.statistics.pi)];
        table.row(whole.into_iter().chain(found.audit.nulls.iter().map(of_null)));
        let _ = write!(
            text,
            "\nPi of random quarters and halves, sixteen each: the mean, and the least and the largest; of draws of all points the median, and 5 % to 95 %.\n\n\
             {table}"
        );
    }
    if let Some(of) = &growth.recurrence {
        let sds = match (of.birth_sd, of.death_sd) {
            (Some(birth), Some(death)) => {
                format!("; births have a standard deviation of {} there, deaths of {}", number(birth), number(death))
            }
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "\nThe bar of pi is from {} to {}. A bar like it is in {} of {} halves (both ends nearer than a quarter of its length){sds}. Where bars are many and \
             alike, as in many dimensions, nearly every half has one, whatever the cloud is.",
            number(of.birth),
            number(of.death),
            of.found,
            of.parts
        );
    }
    text
}

/// What can be said.
fn verdict(found: &Audited) -> String {
    let Some(p) = found.audit.largest_p(Statistic::Pi) else {
        return "Bars alone: nothing was drawn to compare them with.".to_owned();
    };
    let count = found.audit.nulls.len();
    let nulls = if count == 1 { "the null".to_owned() } else { format!("each of {count} nulls") };
    if p <= found.alpha {
        format!("There is more of a loop than in {nulls}: p of pi is at most {}.{}", number(p), by_a_void(found))
    } else {
        format!(
            "No more of a loop than in {nulls} can be shown: p of pi is up to {}, and {} is asked of every null.",
            number(p),
            found.alpha
        )
    }
}

/// Whether a void explains it.
fn by_a_void(found: &Audited) -> String {
    let longest = |bars: Option<&BarStatistics>| shown(bars.and_then(|bars| bars.max));
    let [void, loops] = [longest(found.audit.voids.as_ref()), longest(Some(&found.audit.statistics))];
    let p = shown(found.audit.largest_p(Statistic::Void));
    match found.audit.is_explained_by_a_void(found.alpha) {
        Some(true) => format!(
            " But a bar of dimension 2 explains it: it is {void} long, longer than any of dimension 1 ({loops}), and there is more of a void than in \
             the nulls, too (p {p}). A closed surface such as a sphere is so, and has no loop."
        ),
        Some(false) => format!(
            " No void explains it: the longest bar of dimension 2 is {void} long, that of dimension 1 {loops}, and p of a void is {p}."
        ),
        None if found.points <= MOST_IN_DIMENSION_2 => {
            " A closed surface such as a sphere is so, too; --max-dim 2 tells whether a void explains it.".to_owned()
        }
        None => String::new(),
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

/// Four digits.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    format!("{value:.digits$}")
}
