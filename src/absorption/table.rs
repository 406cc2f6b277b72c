//! What is printed of first letters.

use std::fmt::Write as _;

use assay_probes::absorption::LEARNED;
use assay_probes::stats::Interval;
use serde_json::{Value, json};

use super::{Bootstrap, ENOUGH, LetterReport, Quantity, SaeReport, Spelling, Summary, name};
use crate::markdown::{NONE, Table, counted, listed, notes as noted, score};

fn with_interval(value: Option<f64>, interval: Option<Interval>) -> String {
    let interval = interval.map(|of| format!(" [{}, {}]", score(Some(of.low)), score(Some(of.high))));
    score(value) + &interval.unwrap_or_default()
}

fn summary(of: &Summary) -> String {
    with_interval(of.value, of.interval)
}

/// What the probes tell.
fn verdict(spelling: &Spelling<'_>) -> String {
    let learned: Vec<String> = spelling.learned().map(|probe| name(probe.letter).to_string()).collect();
    let tells = format!("Probes on the activations tell {} with F1 above {LEARNED}", counted(learned.len(), "letter"));
    if spelling.can_spell() {
        return format!("{tells}: the model can spell.\n");
    }
    let these = if learned.is_empty() { String::new() } else { format!(" ({})", listed(&learned)) };
    format!(
        "{tells}{these}; {ENOUGH} are needed. At this place the model does not know first letters well enough, so there is no result on absorption. Try another layer, \
         more --words or a larger model.\n"
    )
}

/// The text that is printed; `head` says of what it is.
pub fn text(
    head: &str,
    spelling: &Spelling<'_>,
    bootstrap: &Bootstrap,
    saes: &[SaeReport],
    notes: &[String],
) -> String {
    let mut out = format!("{head}\n\n{}", verdict(spelling));
    if !spelling.can_spell() {
        let mut table = Table::new(["letter", "words to fit on", "to test", "F1 of the probe"]);
        for probe in &spelling.probes {
            let [train, test] = spelling.words.count(probe.letter);
            table.row([name(probe.letter).to_string(), train.to_string(), test.to_string(), score(Some(probe.f1))]);
        }
        let _ = write!(out, "\n{table}{}", noted(notes));
        return out;
    }
    let columns =
        ["", "L0", "latents a letter", "F1 of the first", "F1 of all", "absorption fraction", "full absorption"];
    let mut table = Table::new(columns);
    let mut without_bias = Table::new(["without the decoder's bias", "absorption fraction", "full absorption"]);
    for sae in saes {
        let cell = |quantity| summary(sae.mean(quantity));
        table.row([
            sae.name.clone(),
            format!("{:.1}", sae.l0),
            cell(Quantity::Latents),
            score(sae.mean(Quantity::FirstF1).value),
            score(sae.mean(Quantity::F1).value),
            cell(Quantity::Fraction),
            cell(Quantity::Full),
        ]);
        without_bias.row([sae.name.clone(), cell(Quantity::FractionWithoutBias), cell(Quantity::FullWithoutBias)]);
    }
    let _ = write!(out, "Means over letters, with 95 % intervals over letters and words:\n\n{table}\n{without_bias}");
    let first = &saes[0];
    let _ = write!(out, "\n{}", told(first));
    let mut table = Table::new([
        "letter",
        "F1 of the probe",
        "words found",
        "latents",
        "F1 of all",
        "absorption fraction",
        "full absorption",
    ]);
    for (at, (probe, letter)) in spelling.learned().zip(&first.letters).enumerate() {
        let cell = |quantity| {
            let value = letter.value(quantity, |_| 1.0);
            with_interval(value, value.and(bootstrap.interval(at, letter, quantity)))
        };
        table.row([
            name(probe.letter).to_string(),
            score(Some(probe.f1)),
            letter.words.len().to_string(),
            latents(letter),
            score(letter.value(Quantity::F1, |_| 1.0)),
            cell(Quantity::Fraction),
            cell(Quantity::Full),
        ]);
    }
    let _ = write!(out, "\n{}, by letter:\n\n{table}{}", first.name, noted(notes));
    out
}

/// Which letters an SAE's latents tell, and what is absorbed of those.
fn told(sae: &SaeReport) -> String {
    let letters: Vec<String> = sae.told().map(|letter| name(letter.letter).to_string()).collect();
    let of_told = if letters.is_empty() {
        "none".to_owned()
    } else {
        let fraction = score(sae.mean_of_told(Quantity::Fraction));
        format!("{} ({}), of which the absorption fraction is {fraction}", letters.len(), listed(&letters))
    };
    format!(
        "Latents of {} tell {of_told}, with F1 above {LEARNED}. Of a letter that no latent tells, others write all there is, and that is not absorption.\n",
        sae.name
    )
}

fn latents(letter: &LetterReport) -> String {
    let latents: Vec<String> = letter.main.latents.iter().map(ToString::to_string).collect();
    if latents.is_empty() { NONE.to_owned() } else { latents.join(", ") }
}

fn interval(of: Option<Interval>) -> Value {
    of.map_or(Value::Null, |of| json!([of.low, of.high]))
}

/// Everything as JSON: what the probes tell, and each SAE with its means and letters; no SAE where the model can't spell.
pub fn json(spelling: &Spelling<'_>, bootstrap: &Bootstrap, saes: &[SaeReport]) -> Value {
    let probes = spelling.probes.iter().map(|probe| {
        let [train, test] = spelling.words.count(probe.letter);
        json!({
            "letter": name(probe.letter), "words": {"train": train, "test": test}, "f1": probe.f1,
            "is_learned": probe.is_learned(), "found": probe.found(spelling.words).len(), "has_converged": probe.has_converged,
        })
    });
    let one = |sae: &SaeReport| {
        let letters = sae.letters.iter().enumerate().map(|(at, letter)| {
            let mut values = serde_json::Map::new();
            for quantity in Quantity::ALL {
                let value = letter.value(quantity, |_| 1.0);
                let low_high = interval(value.and(bootstrap.interval(at, letter, quantity)));
                let is_of_words = !matches!(quantity, Quantity::FirstF1 | Quantity::F1 | Quantity::Latents);
                values.insert(quantity.name().to_owned(), if is_of_words { json!({"value": value, "interval": low_high}) } else { json!(value) });
            }
            json!({"letter": name(letter.letter), "latents": letter.main.latents, "f1_by_latents": letter.main.f1, "values": values})
        });
        let mut means = serde_json::Map::new();
        for (quantity, mean) in Quantity::ALL.into_iter().zip(&sae.means) {
            let (difference, paired) = mean.minus(saes[0].mean(quantity));
            means.insert(
                quantity.name().to_owned(),
                json!({
                    "value": mean.value, "interval": interval(mean.interval), "sd_over_letters": mean.sd,
                    "minus_first": {"value": difference, "interval": interval(paired)},
                }),
            );
        }
        json!({
            "letters_told": sae.told().count(), "absorption_fraction_of_told": sae.mean_of_told(Quantity::Fraction),
            "name": sae.name, "is_control": sae.is_control, "l0": sae.l0, "letters_without_latents": sae.without_latents(),
            "means": means, "letters": letters.collect::<Vec<_>>(),
        })
    };
    json!({
        "can_spell": spelling.can_spell(), "letters_learned": spelling.learned().count(),
        "probes": probes.collect::<Vec<_>>(), "saes": saes.iter().map(one).collect::<Vec<_>>(),
    })
}
