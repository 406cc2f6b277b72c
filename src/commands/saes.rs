//! `assay saes`: which SAEs have been published, and how they are named.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::catalogue::{Entry, Release, catalogue};
use crate::spelling::closest;
use crate::{markdown, output};

/// List published SAEs, by release or one by one, with the names that --sae takes.
///
/// The table is part of the program; nothing is downloaded. L0 is what the authors report. A pickled SAE has to be converted before it
/// can be read; giving its name to --sae says how.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay saes                                        # every release\n  assay saes gpt2                                   # those whose names have it\n  assay saes --model gemma-2-2b --hook resid_post --layer 12\n  assay saes 'gemma-scope-2b-pt-res/layer_12/*' --ids\n  assay eval --sae gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82 --text book.txt"
)]
pub struct SaesArgs {
    /// Only SAEs whose name (release/id), repository or Neuronpedia page contains this text; with * or ? it is a pattern for the whole
    /// name
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    /// Only SAEs of this model: its name on the hub, with or without the organisation
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only SAEs that read this hook, such as blocks.12.hook_resid_post, hook_resid_post or resid_post
    #[arg(long, value_name = "NAME")]
    hook: Option<String>,
    /// Only SAEs of this layer
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// List every SAE, also where there are many [default: up to 40]
    #[arg(long)]
    ids: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// More are listed by release.
const MOST: usize = 40;

impl SaesArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If nothing matches.
    pub fn run(&self) -> Result<()> {
        let wanted = Wanted::new(self)?;
        let found: Vec<Entry> = catalogue().entries().filter(|entry| wanted.fits(*entry)).collect();
        let unlisted: Vec<&Release> = catalogue()
            .releases
            .iter()
            .filter(|release| release.saes.is_empty() && wanted.fits_release(release))
            .collect();
        if found.is_empty() && unlisted.is_empty() {
            return wanted.nothing();
        }
        if self.json {
            return output::result_line(serde_json::to_string_pretty(&object(&found, &unlisted))?);
        }
        let count = match found.len() {
            1 => "1 SAE".to_owned(),
            count => format!("{count} SAEs"),
        };
        let mut text = String::new();
        if self.ids || found.len() <= MOST {
            if !found.is_empty() {
                text += &format!("{}\n{count}. Give a name to --sae as it is.\n", by_id(&found));
            }
        } else {
            let table = by_release(&found);
            let rows = table.rows().len();
            text +=
                &format!("{table}\n{count} in {rows} releases. `assay saes --ids RELEASE` lists the SAEs of one.\n");
        }
        if !unlisted.is_empty() {
            let mut table = markdown::Table::new(["repository", "model", "for example"]);
            for release in unlisted {
                let example = format!("{}:{}", release.repository, release.example.unwrap_or_default());
                table.row([release.repository.to_owned(), release.model.to_owned(), example]);
            }
            text +=
                &format!("\nRepositories whose SAEs are not listed here; they are named REPOSITORY:PATH.\n\n{table}");
        }
        output::result(text)
    }
}

/// What is asked for.
struct Wanted<'a> {
    pattern: Option<Pattern<'a>>,
    model: Option<String>,
    hook: Option<&'a str>,
    layer: Option<usize>,
}

/// A text to be found in a name, or a pattern of all of it.
enum Pattern<'a> {
    Part(&'a str, String),
    Whole(glob::Pattern),
}

impl<'a> Wanted<'a> {
    fn new(args: &'a SaesArgs) -> Result<Self> {
        let pattern = match &args.pattern {
            Some(text) if text.contains(['*', '?']) => match glob::Pattern::new(text) {
                Ok(pattern) => Some(Pattern::Whole(pattern)),
                Err(why) => bail!("`{text}` is no pattern: {why}"),
            },
            text => text.as_deref().map(|text| Pattern::Part(text, text.to_lowercase())),
        };
        Ok(Self {
            pattern,
            model: args.model.as_ref().map(|model| model.to_lowercase()),
            hook: args.hook.as_deref(),
            layer: args.layer,
        })
    }

    fn fits(&self, entry: Entry) -> bool {
        let Entry { release, sae } = entry;
        self.of_model(release)
            && self.hook.is_none_or(|wanted| sae.hook.is_some_and(|hook| is_hook(hook, wanted)))
            && self.layer.is_none_or(|layer| sae.hook.and_then(layer_of) == Some(layer))
            && match &self.pattern {
                None => true,
                Some(Pattern::Whole(pattern)) => pattern.matches(&entry.name()) || pattern.matches(release.name),
                Some(Pattern::Part(_, part)) => {
                    entry.name().to_lowercase().contains(part)
                        || release.repository.to_lowercase().contains(part)
                        || sae.neuronpedia.is_some_and(|page| page.contains(part))
                }
            }
    }

    /// Whether a release whose SAEs are not listed may have some.
    fn fits_release(&self, release: &Release) -> bool {
        self.of_model(release)
            && self.hook.is_none()
            && self.layer.is_none()
            && match &self.pattern {
                None => true,
                Some(Pattern::Whole(pattern)) => pattern.matches(release.name),
                Some(Pattern::Part(_, part)) => release.name.to_lowercase().contains(part),
            }
    }

    fn of_model(&self, release: &Release) -> bool {
        let Some(wanted) = &self.model else { return true };
        let model = release.model.to_lowercase();
        model == *wanted || model.rsplit('/').next() == Some(wanted)
    }

    /// The first and the last layer that SAEs of the model read, if a layer is known of any.
    fn layers(&self) -> Option<(usize, usize)> {
        let of_model = catalogue().entries().filter(|entry| self.of_model(entry.release));
        let layers: BTreeSet<usize> = of_model.filter_map(|entry| layer_of(entry.sae.hook?)).collect();
        layers.first().copied().zip(layers.last().copied())
    }

    /// What is asked for, as the user wrote it.
    fn asked(&self) -> Vec<String> {
        let pattern = self.pattern.as_ref().map(|pattern| match pattern {
            Pattern::Part(text, _) => format!("`{text}`"),
            Pattern::Whole(pattern) => format!("`{pattern}`"),
        });
        let [model, hook] = [("--model", self.model.as_deref()), ("--hook", self.hook)]
            .map(|(flag, of)| of.map(|of| format!("{flag} {of}")));
        let layer = self.layer.map(|layer| format!("--layer {layer}"));
        [pattern, model, hook, layer].into_iter().flatten().collect()
    }

    /// The error where nothing fits: what there is that is called something like it.
    fn nothing(&self) -> Result<()> {
        let releases = &catalogue().releases;
        if let Some(wanted) = self.model.as_ref().filter(|_| !releases.iter().any(|release| self.of_model(release))) {
            let models: BTreeSet<&str> = releases.iter().map(|release| release.model).collect();
            let short = |model: &'static str| model.rsplit('/').next().unwrap_or(model);
            let close = closest(wanted, models.iter().flat_map(|model| [*model, short(model)]), 1);
            let hint = match close.first() {
                Some(model) => format!("did you mean {model}?"),
                None => format!("there are some of {}", models.into_iter().collect::<Vec<_>>().join(", ")),
            };
            bail!("--model {wanted}: no SAE of such a model is known; {hint}");
        }
        if let Some(wanted) = self.hook {
            let kinds: BTreeSet<&str> = catalogue().entries().filter_map(|entry| kind_of(entry.sae.hook?)).collect();
            let known: Vec<&str> = kinds.into_iter().collect();
            if !catalogue().entries().any(|entry| entry.sae.hook.is_some_and(|hook| is_hook(hook, wanted))) {
                bail!("--hook {wanted}: no SAE reads it; there are some of {}", known.join(", "));
            }
        }
        if let Some((layer, (first, last))) = self.layer.zip(self.layers()).filter(|(layer, (_, last))| layer > last) {
            let of = self.model.as_deref().unwrap_or("all models");
            bail!("--layer {layer}: the known SAEs of {of} are of layers {first} to {last}");
        }
        let name = match &self.pattern {
            Some(Pattern::Part(text, _)) => *text,
            _ => bail!("no SAE fits {} together; leave one of them out", self.asked().join(", ")),
        };
        let head = name.split_once('/').map_or(name, |(head, _)| head);
        let close = closest(head, releases.iter().map(|release| release.name), 3);
        match close.as_slice() {
            [] => bail!(
                "no SAE has `{name}` in its name and fits all of what is asked for; `assay saes` lists every release"
            ),
            close => bail!(
                "no SAE has `{name}` in its name and fits all of what is asked for; did you mean {}?",
                close.join(" or ")
            ),
        }
    }
}

/// `hook_resid_post` of `blocks.12.hook_resid_post`.
fn kind_of(hook: &str) -> Option<&str> {
    Some(hook.strip_prefix("blocks.").map_or(hook, |rest| rest.split_once('.').map_or(rest, |(_, kind)| kind)))
}

fn layer_of(hook: &str) -> Option<usize> {
    hook.strip_prefix("blocks.")?.split('.').next()?.parse().ok()
}

/// Whether a hook is meant by its name, its kind's, or that without `hook_`.
fn is_hook(hook: &str, wanted: &str) -> bool {
    let kind = kind_of(hook).unwrap_or(hook);
    hook == wanted || kind == wanted || kind.rsplit_once("hook_").is_some_and(|(_, short)| short == wanted)
}

fn by_id(found: &[Entry]) -> markdown::Table {
    let mut table = markdown::Table::new(["name", "hook", "class", "width", "L0", "size"]);
    let text = |value: Option<&str>| value.unwrap_or(markdown::NONE).to_owned();
    for entry in found {
        let sae = entry.sae;
        let hook = match sae.hook_out.and_then(kind_of) {
            Some(out) => format!("{} → {out}", text(sae.hook)),
            None => text(sae.hook),
        };
        let class = match (sae.architecture, entry.release.pickled) {
            (Some(class), false) => class.to_owned(),
            (class, true) => format!("{}pickled", class.map(|class| format!("{class}, ")).unwrap_or_default()),
            (None, false) => markdown::NONE.to_owned(),
        };
        table.row([
            entry.name(),
            hook,
            class,
            sae.width.map_or_else(|| markdown::NONE.to_owned(), |width| width.to_string()),
            markdown::number(sae.l0),
            sae.bytes.map_or_else(|| markdown::NONE.to_owned(), |bytes| BinaryBytes(bytes).to_string()),
        ]);
    }
    table
}

fn by_release(found: &[Entry]) -> markdown::Table {
    let mut table = markdown::Table::new(["release", "SAEs", "model", "hook", "layers", "widths", "L0", "pickled"]);
    for group in found.chunk_by(|a, b| std::ptr::eq(a.release, b.release)) {
        let release = group[0].release;
        let kinds: BTreeSet<&str> = group.iter().filter_map(|entry| kind_of(entry.sae.hook?)).collect();
        let layers = group.iter().filter_map(|entry| layer_of(entry.sae.hook?).map(|layer| layer as f64));
        let widths = group.iter().filter_map(|entry| entry.sae.width.map(|width| width as f64));
        table.row([
            release.name.to_owned(),
            group.len().to_string(),
            release.model.rsplit('/').next().unwrap_or(release.model).to_owned(),
            kinds.into_iter().collect::<Vec<_>>().join(", "),
            range(layers, |layer| layer.to_string()),
            range(widths, width),
            range(group.iter().filter_map(|entry| entry.sae.l0), |l0| l0.to_string()),
            if release.pickled { "yes" } else { "" }.to_owned(),
        ]);
    }
    table
}

/// `0–25`: the least and the largest.
fn range(values: impl Iterator<Item = f64> + Clone, text: impl Fn(f64) -> String) -> String {
    let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
    match (low, high) {
        (low, high) if low > high => markdown::NONE.to_owned(),
        (low, high) if low == high => text(low),
        (low, high) => format!("{}–{}", text(low), text(high)),
    }
}

/// A width as releases write it: `16k` of 16384, `65k` of 65536, `1M` of 1048576.
fn width(latents: f64) -> String {
    match latents {
        n if n >= 1e6 => format!("{}M", (n / 1e6).floor()),
        n if n >= 1e4 => format!("{}k", (n / 1e3).floor()),
        n => n.to_string(),
    }
}

fn object(found: &[Entry], unlisted: &[&Release]) -> Value {
    let saes = |group: &[Entry]| -> Vec<Value> {
        let of = |entry: &Entry| {
            let sae = entry.sae;
            json!({
                "name": entry.name(), "path": sae.path, "hook": sae.hook, "hook_out": sae.hook_out, "architecture": sae.architecture,
                "width": sae.width, "l0": sae.l0, "bytes": sae.bytes, "input_scale": sae.input_scale, "neuronpedia": sae.neuronpedia,
            })
        };
        group.iter().map(of).collect()
    };
    let release = |release: &Release, saes: Vec<Value>| {
        json!({
            "release": release.name, "repository": release.repository, "model": release.model, "format": release.format,
            "pickled": release.pickled, "example": release.example, "saes": saes,
        })
    };
    let listed =
        found.chunk_by(|a, b| std::ptr::eq(a.release, b.release)).map(|group| release(group[0].release, saes(group)));
    let releases: Vec<Value> = listed.chain(unlisted.iter().map(|of| release(of, Vec::new()))).collect();
    json!({ "source": catalogue().source, "releases": releases })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_has_three_names() {
        for wanted in ["blocks.12.attn.hook_z", "attn.hook_z", "z"] {
            assert!(is_hook("blocks.12.attn.hook_z", wanted), "{wanted}");
        }
        assert!(is_hook("hook_embed", "embed") && !is_hook("blocks.1.hook_resid_post", "resid_pre"));
        assert!(is_hook("blocks.3.mlp.hook_in", "in") && !is_hook("blocks.3.mlp.hook_in", "blocks.30.mlp.hook_in"));
        assert_eq!((layer_of("blocks.12.attn.hook_z"), layer_of("hook_embed")), (Some(12), None));
        let range = |values: &[f64]| range(values.iter().copied(), width);
        assert_eq!([range(&[65_536.0, 768.0]), range(&[1_048_576.0]), range(&[])], ["768–65k", "1M", "—"]);
    }
}
