//! One latent as text for a terminal, and as a JSON object.

use std::fmt::Write as _;

use assay_models::vocabulary::Vocabulary;
use assay_probes::features::{PickReason, STRATA};
use serde_json::{Value, json};

use super::Feature;
use super::windows::{Shown, Window};
use crate::markdown::{NONE, number, percent};

/// Text of a model's or corpus' tokens as one line that can't change a terminal: line ends are shown, and what is not seen (controls, marks of
/// direction, what has no width) is named.
pub fn readable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let is_unseen = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        match c {
            '\n' => line.push('⏎'),
            '\t' => line.push('⇥'),
            c if c.is_control() || is_unseen => write!(line, "[U+{:04X}]", c as u32).expect("a string takes all"),
            c => line.push(c),
        }
    }
    line
}

/// A token by itself, with what stands for the space before it.
pub fn token(text: &str) -> String {
    match text.strip_prefix(' ') {
        Some(rest) => format!("␣{}", readable(rest)),
        None => readable(text),
    }
}

/// Windows of a kind that are shown here; the page has all.
const SHOWN: usize = 5;

/// All that is known of a latent, in words.
pub fn text(feature: &Feature, shown: Option<&Shown>, vocabulary: &Vocabulary, tokens: u64) -> String {
    let scores = &feature.scores;
    let word = |id: u32| token(&vocabulary.text(id));
    let mut out = format!("Latent {} on {tokens} tokens\n\n", feature.latent);
    let interval = scores
        .density_interval
        .map_or(String::new(), |i| format!(" [{}, {}]", percent(Some(i.low)), percent(Some(i.high))));
    let mut line = |label: &str, value: String| writeln!(out, "  {label:24}{value}").expect("a string takes all");
    line("density", format!("{}{interval}, {} firings", percent(scores.density), scores.firings));
    line("largest, mean", format!("{}, {}", number(scores.max), number(scores.mean)));
    line("token entropy, purity", format!("{} bits, {}", number(scores.token_entropy), number(scores.purity)));
    for ((name, share), (_, adjusted)) in scores.explained.named().into_iter().zip(feature.adjusted.named()) {
        line(&format!("η² {name}"), format!("{} (less chance, ε²: {})", number(share), number(adjusted)));
    }
    line("input, output score", format!("{}, {}", number(feature.input_score), number(feature.output_score)));
    line("ΔCE, ΔKL per firing", format!("{}, {} nats", number(feature.delta_ce()), number(feature.delta_kl())));
    let list = |items: Vec<String>| if items.is_empty() { NONE.to_owned() } else { items.join("  ") };
    line("fires on", list(scores.top.iter().map(|t| format!("{} {}", word(t.id), percent(Some(t.share)))).collect()));
    let written = feature.written.iter().take(super::table::TOKENS);
    line("writes", list(written.map(|(id, logit)| format!("{} {logit:.2}", word(*id))).collect()));
    line("nearest decoder rows", list(feature.nearest.iter().map(|(l, c)| format!("{l} ({c:.2})")).collect()));
    for described in &feature.described {
        let label = format!("explained by {}", described.method.name());
        let (own, other) = (number(described.own.auroc), number(described.other.auroc));
        let text = described.explanation.text(word);
        writeln!(out, "  {label:24}AUROC {own}, another latent's {other}: {text}").expect("a string takes all");
    }
    let Some(shown) = shown else { return out };
    for kind in 0..STRATA + 3 {
        let (title, kind) = match kind {
            0 => ("Largest activations, one per document".to_owned(), PickReason::Largest),
            at if at <= STRATA => {
                let stratum = &shown.strata[at - 1];
                let of = format!("{} firings from {} up", stratum.events, number(Some(f64::from(stratum.low))));
                (format!("Stratum {at} of {STRATA}: {of}, {} of the activation", percent(Some(stratum.mass))), {
                    PickReason::Stratum(at as u8 - 1)
                })
            }
            at if at == STRATA + 1 => ("Near misses, the least activations".to_owned(), PickReason::Least),
            _ => ("Silent, where its top token stands".to_owned(), PickReason::Silent),
        };
        let mut windows = shown.windows.iter().filter(|window| window.kind == kind).take(SHOWN).peekable();
        if windows.peek().is_some() {
            write!(out, "\n{title}\n\n").expect("a string takes all");
        }
        for window in windows {
            let value = number(Some(f64::from(window.values[window.focus])));
            writeln!(out, "  {value:>8}  {}", marked(window, vocabulary)).expect("a string takes all");
        }
    }
    out
}

/// A window in which the token that it is shown for is in «», and others on which the latent fires in ‹›.
fn marked(window: &Window, vocabulary: &Vocabulary) -> String {
    let mut line = String::new();
    for (at, (&id, &value)) in window.ids.iter().zip(&window.values).enumerate() {
        let text = readable(&vocabulary.text(id));
        let (before, after) = match (at == window.focus, value != 0.0) {
            (true, _) => ("«", "»"),
            (false, true) => ("‹", "›"),
            (false, false) => ("", ""),
        };
        line.extend([before, &text, after]);
    }
    line
}

/// The same as an object.
pub fn json(feature: &Feature, shown: Option<&Shown>, vocabulary: &Vocabulary, tokens: u64) -> Value {
    let scores = &feature.scores;
    let explained =
        |named: [(&str, Option<f64>); 4]| named.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
    let windows = |shown: &Shown| -> Vec<Value> {
        let window = |window: &Window| {
            let kind = match window.kind {
                PickReason::Largest => "largest".to_owned(),
                PickReason::Stratum(at) => format!("stratum {}", at + 1),
                PickReason::Least => "least".to_owned(),
                PickReason::Silent => "silent".to_owned(),
            };
            let texts: Vec<String> = window.ids.iter().map(|id| vocabulary.text(*id)).collect();
            json!({ "kind": kind, "context": window.context, "first": window.first, "focus": window.focus,
                "ids": window.ids, "tokens": texts, "values": window.values })
        };
        shown.windows.iter().map(window).collect()
    };
    json!({
        "latent": feature.latent, "tokens": tokens, "firings": scores.firings, "density": scores.density,
        "density_95": scores.density_interval.map(|i| [i.low, i.high]), "documents": scores.documents, "max": scores.max,
        "mean": scores.mean, "token_entropy": scores.token_entropy, "purity": scores.purity,
        "eta2": Value::Object(explained(scores.explained.named())),
        "eta2_adjusted": Value::Object(explained(feature.adjusted.named())),
        "input_score": feature.input_score, "output_score": feature.output_score, "delta_ce": feature.delta_ce(), "delta_kl": feature.delta_kl(),
        "tokens_in": scores.top.iter()
            .map(|t| json!({ "id": t.id, "text": vocabulary.text(t.id), "share": t.share })).collect::<Vec<_>>(),
        "tokens_out": feature.written.iter().take(super::table::TOKENS)
            .map(|(id, logit)| json!({ "id": id, "text": vocabulary.text(*id), "logit": logit })).collect::<Vec<_>>(),
        "nearest": feature.nearest.iter().map(|(l, c)| json!({ "latent": l, "cosine": c })).collect::<Vec<_>>(),
        "encoder_decoder_cosine": feature.encoder_decoder,
        "explanations": feature.described.iter().map(|of| json!({
            "method": of.method.name(), "text": of.explanation.text(|id| vocabulary.text(id)), "auroc": of.own.auroc,
            "balanced_accuracy": of.own.balanced_accuracy, "other_auroc": of.other.auroc,
            "other_balanced_accuracy": of.other.balanced_accuracy,
        })).collect::<Vec<_>>(),
        "strata": shown.map(|shown| shown.strata.iter()
            .map(|s| json!({ "events": s.events, "mass": s.mass, "low": (s.events > 0).then_some(s.low) })).collect::<Vec<_>>()),
        "histogram": shown.map(|shown| shown.histogram.to_vec()),
        "windows": shown.map(windows),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_corpus_does_not_reach_the_terminal_as_commands() {
        assert_eq!(readable("a\n\u{1b}[2Jb\u{202e}c\td"), "a⏎[U+001B][2Jb[U+202E]c⇥d");
        assert_eq!((token(" the"), token("the")), ("␣the".to_owned(), "the".to_owned()));
    }
}
