//! `assay latents`: a prompt through an SAE, in the terminal.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::contexts::whole;
use super::eval::named::model_of;
use crate::features::terminal::{readable, token};
use crate::inside::{ModelWithSae, Prompt, Scored};
use crate::markdown::{Table, number, percent};
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
    #[arg(long, value_name = "LATENT")]
    ablate: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
        let d_sae = inside.latents();
        if let Some(latent) = self.ablate {
            ensure!(latent < d_sae, "--ablate {latent}: the SAE has {d_sae} latents, from 0");
        }
        let prompt = inside.read(&self.prompt)?;
        let found = PromptReport::new(&inside, &prompt, self.top as usize, self.ablate)?;
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
    next: Vec<Scored>,
    without: Option<Without>,
}

impl<'a> PromptReport<'a> {
    fn new(inside: &ModelWithSae, prompt: &'a Prompt, top: usize, ablate: Option<usize>) -> Result<Self> {
        let mut writes = BTreeMap::new();
        let strongest = prompt.active.iter().flat_map(|active| active.iter().take(top));
        for latent in strongest.map(|active| active.latent).chain(ablate) {
            if inside.has_lens() && !writes.contains_key(&latent) {
                writes.insert(latent, inside.writes(latent, top)?);
            }
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
            next: inside.says(prompt, top),
            without: ablate.map(without).transpose()?,
        })
    }

    fn text(&self) -> String {
        let mut fires = Table::new(["token", "latents that fire, and how much"]);
        for (text, active) in self.prompt.texts.iter().zip(&self.prompt.active) {
            let shown = active.iter().take(self.top);
            let shown: Vec<String> =
                shown.map(|a| format!("{} ({})", a.latent, number(Some(f64::from(a.value))))).collect();
            let more = active.len().saturating_sub(self.top);
            let more = if more > 0 { format!(", {more} more") } else { String::new() };
            fires.row([token(text), format!("{}{more}", shown.join(", "))]);
        }
        let mut writes = Table::new(["latent", "writes (logit lens)"]);
        for (latent, tokens) in &self.writes {
            let tokens: Vec<String> = tokens.iter().map(|t| format!("{} {:.2}", token(&t.text), t.value)).collect();
            writes.row([latent.to_string(), tokens.join("  ")]);
        }
        let writes = if self.writes.is_empty() { String::new() } else { format!("\n{writes}") };
        let said = |next: &[Scored]| -> String {
            let words = next.iter().map(|t| format!("{} {}", token(&t.text), percent(Some(f64::from(t.value)))));
            words.collect::<Vec<_>>().join("  ")
        };
        let mut text = format!("At {}\n\n{fires}{writes}\nNext token: {}\n", self.hook, said(&self.next));
        if let Some(without) = &self.without {
            let mut losses = Table::new(["token", "loss, nats", "without", "difference"]);
            for (token, [with, alone]) in self.prompt.texts[1..].iter().zip(&without.losses) {
                let shown = [*with, *alone].map(|loss| number(Some(f64::from(loss))));
                let [with_text, alone_text] = shown;
                losses.row([readable(token), with_text, alone_text, format!("{:+.3}", alone - with)]);
            }
            let fires = self.prompt.active.iter().map(|active| active.iter().any(|a| a.latent == without.latent));
            let fires: Vec<bool> = fires.collect();
            // A token's loss is of what is predicted before it.
            let note = match fires.split_last() {
                Some((true, before)) if !before.contains(&true) => {
                    "\nIt fires on the last token alone, so that only what comes next can change.\n"
                }
                Some((false, before)) if !before.contains(&true) => {
                    "\nIt fires on no token of this prompt, so that nothing changes.\n"
                }
                _ => "",
            };
            text.push_str(&format!("Without latent {}: {}\n{note}\n{losses}", without.latent, said(&without.next)));
        }
        text
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
