//! Several SAEs beside each other: a row for each, and each against the first on the same sequences; and as frames.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use assay_models::DecoderConfig;
use assay_probes::Subset;
use assay_probes::metrics::{Metric, metric};
use assay_probes::stats::Interval;
use serde_json::{Map, Value, json};

use super::measured::{EvaluatedOn, Measured, of_file};
use super::named::shortened;
use crate::files::staging_beside;
use crate::frames::{Bootstrap, Published, PublishedSaes, write_published};
use crate::markdown::{self, Table};
use crate::replicates::{LEVEL, paired_interval};
use crate::transcode::{Transcode, class_name};
use crate::verdict::Outcome;

/// What SAEs are compared by, and what it is called here.
const COMPARED: [(&str, &str); 4] =
    [("r2", "R²"), ("ce_loss_score_mean", "loss score"), ("ce_rec_pooled", "CE_rec"), ("kl", "KL")];

/// The metrics of [`COMPARED`] with their names.
pub(super) fn compared() -> impl Iterator<Item = (&'static Metric, &'static str)> {
    COMPARED.into_iter().filter_map(|(name, called)| Some((metric(name)?, called)))
}

impl Measured<'_> {
    /// Its class, and whether it is a transcoder, as tables call both.
    fn class(&self) -> String {
        let sae = &self.loaded.sae;
        let transcode = Transcode { reads: self.place.reads.hook.kind, skip: sae.skip().is_some() };
        class_name(&sae.activation().name(), sae.is_transcoder().then_some(transcode))
    }

    pub(super) fn value(&self, metric: &Metric) -> Option<f64> {
        (metric.value)(&self.found.total(Subset::All))
    }

    /// This SAE's value minus another's, with the interval of the difference over sequences, which both have in common.
    fn minus(&self, other: &Self, metric: &Metric) -> (Option<f64>, Option<Interval>) {
        let value = self.value(metric).zip(other.value(metric)).map(|(own, others)| own - others);
        let [own, others] = [self, other].map(|sae| sae.replicates.values(metric, Subset::All));
        (value, paired_interval(own, others, LEVEL))
    }
}

/// A verdict in two words.
fn in_short(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Agree => "R² agrees",
        Outcome::Overstates => "R² overstates",
        Outcome::Understates => "R² understates",
        Outcome::Undecided => "undecided",
        Outcome::Useless => "of no use",
        Outcome::ForeignTokens => "not its text",
    }
}

/// Whether all SAEs are of one activation, so that their R² are shares of the same variance.
fn at_one_place(saes: &[Measured<'_>]) -> bool {
    saes.windows(2).all(|pair| pair[0].place.site == pair[1].place.site)
}

/// The tables, verdicts and notes.
pub(super) fn text(saes: &[Measured<'_>], on: &EvaluatedOn<'_>) -> String {
    let names: Vec<PathBuf> = saes.iter().map(|sae| sae.name.to_owned()).collect();
    let (common, names) = shortened(&names);
    let of = common.map(|common| format!(" of {}", common.display())).unwrap_or_default();
    let own = metric("ce_orig").and_then(|metric| saes[0].value(metric));
    let head = format!(
        "{} SAEs{of} on {}, {}\nThe model's own loss is {} nats per token; a uniform guess among {} tokens has {}.",
        saes.len(),
        on.model.display(),
        on.shown(),
        markdown::number(own),
        on.vocab_size,
        markdown::number(Some((on.vocab_size as f64).ln())),
    );
    let places = if at_one_place(saes) {
        String::new()
    } else {
        "\nThe SAEs are of different activations: each R² is a share of the variance of its own.\n".to_owned()
    };
    let verdicts: Vec<String> = saes
        .iter()
        .zip(&names)
        .map(|(sae, name)| {
            // The sentence, and the numbers that decide.
            let said: Vec<&str> = sae.verdict.text.lines().take(2).map(|line| line.trim_start_matches("- ")).collect();
            format!("- {name}: {}", said.join(" "))
        })
        .collect();
    format!(
        "{head}\n\n{}\nThe verdict is whether R² tells what the SAE keeps of the model. The loss score is that under mean ablation, CE_rec \
         is pooled, KL in nats per token; intervals are at 95 %, over sequences.\n{places}\nEach minus {}, on the same sequences:\n\n{}\n\
         Verdicts (all of one: give that SAE alone, or --json):\n\n{}\n{}",
        scores(saes, &names),
        names[0],
        differences(saes, &names),
        verdicts.join("\n"),
        markdown::notes(&notes(saes, &names)),
    )
}

fn scores(saes: &[Measured<'_>], names: &[String]) -> Table {
    let called = compared().map(|(_, called)| called);
    let mut table = Table::new(["SAE", "hook", "L0"].into_iter().chain(called).chain(["verdict"]));
    for (sae, name) in saes.iter().zip(names) {
        let l0 = metric("l0").and_then(|metric| sae.value(metric));
        let scores = compared().map(|(metric, _)| {
            markdown::with_interval(sae.value(metric), sae.replicates.interval(metric, Subset::All, LEVEL))
        });
        let head = [name.clone(), sae.place.site.hook.to_string(), markdown::number(l0)];
        table.row(head.into_iter().chain(scores).chain([in_short(sae.verdict.outcome).to_owned()]));
    }
    table
}

fn differences(saes: &[Measured<'_>], names: &[String]) -> Table {
    let called = compared().map(|(_, called)| format!("Δ{called}"));
    let mut table = Table::new(std::iter::once("SAE".to_owned()).chain(called));
    for (sae, name) in saes.iter().zip(names).skip(1) {
        let cells = compared().map(|(metric, _)| {
            let (value, interval) = sae.minus(&saes[0], metric);
            markdown::signed_with_interval(value, interval)
        });
        table.row(std::iter::once(name.clone()).chain(cells));
    }
    table
}

/// Every SAE's notes; what holds for all is said once.
fn notes(saes: &[Measured<'_>], names: &[String]) -> Vec<String> {
    let of_all = |note: &String| saes.iter().all(|sae| sae.loaded.notes.contains(note));
    let mut all: Vec<String> = saes[0].loaded.notes.iter().filter(|note| of_all(note)).cloned().collect();
    for (sae, name) in saes.iter().zip(names) {
        let own = sae.loaded.notes.iter().filter(|note| !of_all(note));
        all.extend(own.map(|note| format!("{name}: {note}")));
    }
    all
}

/// One object: `saes` as [`Measured::json`] has each, and `differences`, each minus the first.
pub(super) fn json(saes: &[Measured<'_>], on: &EvaluatedOn<'_>) -> Result<Value> {
    let differences: Vec<Value> = saes[1..]
        .iter()
        .map(|sae| {
            let mut object = Map::new();
            object.insert("sae".to_owned(), json!(sae.full_name()));
            object.insert("minus".to_owned(), json!(saes[0].full_name()));
            for (metric, _) in compared() {
                let (value, interval) = sae.minus(&saes[0], metric);
                let interval = interval.map(|interval| [interval.low, interval.high]);
                object.insert(metric.name.to_owned(), json!({ "difference": value, "interval_95": interval }));
            }
            Value::Object(object)
        })
        .collect();
    Ok(json!({
        "model": of_file(on.model),
        "saes": saes.iter().map(|sae| sae.json(on)).collect::<Result<Vec<Value>>>()?,
        "differences": differences,
    }))
}

/// Writes the frames into a new directory, whole or not at all.
pub(super) fn write(
    out: &Path,
    saes: &[Measured<'_>],
    on: &EvaluatedOn<'_>,
    config: &DecoderConfig,
    bootstrap: Bootstrap,
) -> Result<()> {
    let names: Vec<PathBuf> = saes.iter().map(|sae| sae.name.to_owned()).collect();
    let (_, names) = shortened(&names);
    let published = PublishedSaes {
        model: of_file(on.model).unwrap_or_else(|| on.model.display().to_string()),
        config,
        context_size: on.tokens.1,
        bootstrap,
        saes: saes
            .iter()
            .zip(names)
            .map(|(sae, name)| Published {
                name,
                architecture: sae.class(),
                site: sae.place.site,
                d_sae: sae.loaded.sae.d_sae(),
                found: sae.found,
                replicates: &sae.replicates,
            })
            .collect(),
    };
    // Without a slash at its end.
    let out: PathBuf = out.components().collect();
    let staged = staging_beside(&out)?;
    write_published(staged.path(), &published).with_context(|| format!("cannot write {}", out.display()))?;
    // An empty directory may be in the place.
    std::fs::rename(staged.path(), &out).with_context(|| format!("cannot write {}", out.display()))?;
    // It is not there any more.
    _ = staged.keep();
    Ok(())
}
