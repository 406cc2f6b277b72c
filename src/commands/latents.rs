//! `assay latents`: a prompt through an SAE, in the terminal.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::contexts::whole;
use super::eval::named::model_of;
use crate::features::terminal::{readable, token};
use crate::inside::{Active, ModelWithSae, Prompt, Scored};
use crate::markdown::{Table, counted, number, percent};
use crate::progress::Progress;
use crate::{device, fetch, output};

/// Which latents fire on a prompt, what each writes, and what the model predicts without one.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay latents --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --prompt \"The museum was opened in\"\n  assay latents --model models/bundled/small --sae tests/golden/eval-small/L3_k8 \\\n    --prompt \"The museum was opened in\" --ablate 3 --json"
)]
pub struct LatentsArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf] [default: that of
    /// a published SAE]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: Option<PathBuf>,
    /// SAE: a directory or file of any format that assay reads, its name on the hub, org/name[@revision][:path], or a name that
    /// `assay saes` lists, release/id
    #[arg(long, value_name = "DIR|NAME")]
    sae: PathBuf,
    /// The text
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Latents shown per token, the strongest first, and tokens per list
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole(1, 1000, "at least one is shown"))]
    top: u64,
    /// Also print what the model predicts with this latent patched out
    #[arg(long, value_name = "LATENT", value_parser = latent)]
    ablate: Option<usize>,
    /// Print what every latent of the table writes, not only ten
    #[arg(long)]
    all: bool,
    /// Print one JSON object, of all of them
    #[arg(long, conflicts_with = "all")]
    json: bool,
}

/// A latent by its number.
fn latent(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a latent is known by its number, from 0".to_owned())
}

impl LatentsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model or the SAE can't be read or don't belong together, or the prompt is empty or too long.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        ensure!(!self.prompt.is_empty(), "--prompt: it is empty");
        let model = model_of(self.model.as_deref(), std::slice::from_ref(&self.sae))?;
        let device = device::open(device_name)?.device;
        let sae = fetch::sae(&self.sae, progress)?;
        let inside = ModelWithSae::open(fetch::model(&model, progress)?, sae, &device)?;
        inside.doubts().iter().for_each(|doubt| progress.warn(doubt));
        let d_sae = inside.latents();
        if let Some(latent) = self.ablate {
            ensure!(latent < d_sae, "--ablate {latent}: the SAE has {d_sae} latents, from 0");
        }
        let prompt = inside.read(&self.prompt)?;
        let most = if self.all || self.json { usize::MAX } else { WRITERS };
        let found = PromptReport::new(&inside, &prompt, self.top as usize, self.ablate, most)?;
        if self.json {
            return output::result_line(serde_json::to_string_pretty(&found.json())?);
        }
        output::result(found.text())
    }
}

/// What the model says next, and the loss of each token, without a latent.
struct Without {
    latent: usize,
    next: Vec<Scored>,
    /// Of each token but the first: with it, and without.
    losses: Vec<[f32; 2]>,
}

struct PromptReport<'a> {
    hook: String,
    prompt: &'a Prompt,
    top: usize,
    /// What each latent that is shown writes; empty where that is not in the residual stream.
    writes: BTreeMap<usize, Vec<Scored>>,
    /// Latents among those shown of some token of which it is not said what they write.
    left_out: usize,
    next: Vec<Scored>,
    without: Option<Without>,
}

/// Latents of which it is said what they write, unless all are asked for.
const WRITERS: usize = 10;

/// At most `most` of the `top` strongest latents of each token: the strongest of the last token, which decides what comes next, then of the one
/// before it, and so on, then the second of each. By their values alone they might all be of the first token, whose activation is the
/// largest in many models.
fn writers(prompt: &Prompt, top: usize, most: usize) -> (Vec<usize>, usize) {
    let mut all: Vec<usize> = Vec::new();
    for rank in 0..top {
        for active in prompt.active.iter().rev().filter_map(|active| active.get(rank)) {
            if !all.contains(&active.latent) {
                all.push(active.latent);
            }
        }
    }
    let left_out = all.len().saturating_sub(most);
    all.truncate(most);
    (all, left_out)
}

impl<'a> PromptReport<'a> {
    fn new(inside: &ModelWithSae, prompt: &'a Prompt, top: usize, ablate: Option<usize>, most: usize) -> Result<Self> {
        let mut writes = BTreeMap::new();
        let (shown, left_out) = if inside.has_lens() { writers(prompt, top, most) } else { (Vec::new(), 0) };
        for latent in shown.into_iter().chain(ablate.filter(|_| inside.has_lens())) {
            writes.insert(latent, inside.writes(latent, top)?);
        }
        let without = |latent| -> Result<Without> {
            let next = inside.says_without(prompt, latent, top)?;
            Ok(Without { latent, next, losses: inside.losses(prompt, latent)? })
        };
        Ok(Self {
            hook: inside.hook().to_string(),
            prompt,
            top,
            writes,
            left_out,
            next: inside.says(prompt, top),
            without: ablate.map(without).transpose()?,
        })
    }

    /// What comes next, with the latent and without, before what fires and what that writes.
    fn text(&self) -> String {
        let mut text = format!("At {}\n\nNext token: {}\n", self.hook, said(&self.next));
        if let Some(without) = &self.without {
            text.push_str(&self.ablated(without));
        }
        let mut fires = Table::new(["token", "latents that fire, and how much"]);
        for (text, active) in self.prompt.texts.iter().zip(&self.prompt.active) {
            let shown = active.iter().take(self.top);
            let shown: Vec<String> =
                shown.map(|a| format!("{} ({})", a.latent, number(Some(f64::from(a.value))))).collect();
            let more = active.len().saturating_sub(self.top);
            let more = if more > 0 { format!(", {more} more") } else { String::new() };
            fires.row([token(text), format!("{}{more}", shown.join(", "))]);
        }
        text.push_str(&format!("\n{fires}"));
        if !self.writes.is_empty() {
            let mut writes = Table::new(["latent", "writes (logit lens)"]);
            for (latent, tokens) in &self.writes {
                let tokens: Vec<String> = tokens.iter().map(|t| format!("{} {:.2}", token(&t.text), t.value)).collect();
                writes.row([latent.to_string(), tokens.join("  ")]);
            }
            text.push_str(&format!("\n{writes}"));
        }
        if self.left_out > 0 {
            text.push_str(&format!("\n--all shows what the other {} write.\n", counted(self.left_out, "latent")));
        }
        text
    }

    /// What the model says without a latent, or why that can be nothing else.
    fn ablated(&self, without: &Without) -> String {
        let mut text = format!("Without latent {}: {}\n", without.latent, said(&without.next));
        let fires = |active: &Vec<Active>| active.iter().any(|a| a.latent == without.latent);
        let Some((last, before)) = self.prompt.active.split_last() else { return text };
        // A token's loss is of what is predicted before it.
        if !before.iter().any(fires) {
            text.push_str(if fires(last) {
                "It fires on the last token alone, so that only what comes next can change.\n"
            } else {
                "It fires on no token of this prompt, so that nothing changes.\n"
            });
            return text;
        }
        let mut losses = Table::new(["token", "loss, nats", "without", "difference"]);
        for (token, [with, alone]) in self.prompt.texts[1..].iter().zip(&without.losses) {
            let [with_text, alone_text] = [*with, *alone].map(|loss| number(Some(f64::from(loss))));
            losses.row([readable(token), with_text, alone_text, format!("{:+.3}", alone - with)]);
        }
        text + &format!("\n{losses}")
    }

    fn json(&self) -> Value {
        let scored = |all: &[Scored], value: &str| -> Vec<Value> {
            all.iter().map(|t| json!({ "text": t.text, value: t.value })).collect()
        };
        let token = |at: usize| {
            let active = self.prompt.active[at].iter().take(self.top);
            let active: Vec<Value> = active.map(|a| json!({ "latent": a.latent, "value": a.value })).collect();
            json!({ "id": self.prompt.tokens[at], "text": self.prompt.texts[at], "active": active,
                "l0": self.prompt.active[at].len() })
        };
        let writes =
            self.writes.iter().map(|(latent, all)| (latent.to_string(), json!(scored(all, "logit")))).collect();
        json!({
            "hook": self.hook,
            "tokens": (0..self.prompt.tokens.len()).map(token).collect::<Vec<_>>(),
            "writes": Value::Object(writes),
            "next": scored(&self.next, "probability"),
            "without": self.without.as_ref().map(|without| json!({
                "latent": without.latent, "next": scored(&without.next, "probability"), "losses": without.losses,
            })),
        })
    }
}

/// Tokens with their probabilities.
fn said(next: &[Scored]) -> String {
    let words = next.iter().map(|t| format!("{} {}", token(&t.text), percent(Some(f64::from(t.value)))));
    words.collect::<Vec<_>>().join("  ")
}
