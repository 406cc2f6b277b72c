//! The state of a group's training: written at steps, so that a training that was stopped resumes at the next one.
//!
//! The SAEs' states lie under a name of their own; `group.json` points to them, and is renamed into place before those of the state
//! before are removed. So one whole state is there at every moment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Error, Result, ensure};
use assay_sae::{STATE_FILE, Trainer};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::job::{Losses, TrainingJob};
use crate::events::hash_file;
use crate::files::{of_json, read, sync_dir, write_atomic};
use crate::plan::{Group, Run};
use crate::results_dir::{GROUP, state_dir, states};

/// How far a group's training has come, and how long it took in all processes that worked on it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Trained {
    /// Rounds of the buffer that are trained on whole.
    pub rounds: u64,
    /// Tokens of the next round that are trained on as well.
    #[serde(default)]
    pub into_round: u64,
    /// Tokens in all.
    pub tokens: u64,
    /// Seconds of training, capturing not included.
    #[serde(default)]
    pub train_seconds: f64,
    /// Seconds of capturing.
    #[serde(default)]
    pub capture_seconds: f64,
}

#[derive(Clone, Serialize, Deserialize)]
struct GroupState {
    #[serde(flatten)]
    trained: Trained,
    /// The sites of the part of a group that it is of; none of a whole one, which may be a part by now, of a sweep with more sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sites: Vec<String>,
    /// Of each SAE, by its first run.
    losses: BTreeMap<String, Losses>,
    /// BLAKE3 of the file of each SAE's state, likewise: a bit that flips on a disk would change numbers without a word.
    #[serde(default)]
    blake3: BTreeMap<String, String>,
    /// BLAKE3 of this as JSON with an empty seal; empty in states that older versions saved.
    #[serde(default)]
    seal: String,
}

impl GroupState {
    /// Reads that of a directory; `None` if there is none.
    fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(GROUP);
        // At once: another process may be writing the next one.
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let mut group: Self = of_json(&bytes, &path, &remedy(dir))?;
        let seal = std::mem::take(&mut group.seal);
        // Not one byte is another's spelling: what is there must be what would be written.
        let is_written = |group: &Self| Ok::<_, Error>(group.text()?.as_bytes() == bytes);
        let is_whole = match seal.is_empty() {
            true => group.blake3.is_empty(),
            false => group.hash()? == seal && is_written(&Self { seal, ..group.clone() })?,
        };
        ensure!(is_whole, "{} is damaged; {}", path.display(), remedy(dir));
        Ok(Some(group))
    }

    fn text(&self) -> Result<String> {
        serde_json::to_string(self).context("a state serialises")
    }

    fn hash(&self) -> Result<String> {
        Ok(blake3::hash(self.text()?.as_bytes()).to_hex().to_string())
    }

    /// An SAE as it was saved.
    fn trainer(&self, dir: &Path, run: &Run, device: &Device) -> Result<Trainer> {
        let load = || {
            let dir = dir.join(name_of(&self.trained)).join(&run.id);
            let path = dir.join(STATE_FILE);
            if let Some(hash) = self.blake3.get(&run.id) {
                ensure!(hash_file(&path)? == *hash, "{} is damaged", path.display());
            }
            Ok(Trainer::load_state(&dir, &run.key.train, device)?)
        };
        load().with_context(|| remedy(dir))
    }
}

/// What to do about a damaged state.
fn remedy(dir: &Path) -> String {
    format!("remove {} to train from the start", dir.display())
}

/// Where the SAEs' states lie.
fn name_of(trained: &Trained) -> String {
    format!("round-{}-{}", trained.rounds, trained.into_round)
}

/// Writes the state of all SAEs of a group under a new name, points to it, and then removes the one before.
pub(super) fn save_state(results: &Path, group: &Group, jobs: &[TrainingJob<'_>], trained: &Trained) -> Result<()> {
    let dir = &state_dir(results, &group.id());
    let name = name_of(trained);
    // What is pointed to is never written over: a kill would leave it damaged. It is the same, as no step lies between.
    let there = GroupState::read(dir)?;
    if there.is_some_and(|there| {
        name_of(&there.trained) == name && jobs.iter().all(|job| there.losses.contains_key(&job.run().id))
    }) {
        return Ok(());
    }
    let mut blake3 = BTreeMap::new();
    for job in jobs {
        let dir = dir.join(&name).join(&job.run().id);
        job.trainer.save_state(&dir)?;
        blake3.insert(job.run().id.clone(), hash_file(&dir.join(STATE_FILE))?);
    }
    for dir in [dir.join(&name), dir.to_owned()] {
        sync_dir(&dir).with_context(|| format!("cannot write {}", dir.display()))?;
    }
    let losses = jobs.iter().map(|p| (p.run().id.clone(), p.losses.clone())).collect();
    let sites = group.sites_of_part().to_vec();
    let mut state = GroupState { trained: trained.clone(), sites, losses, blake3, seal: String::new() };
    state.seal = state.hash()?;
    write_atomic(&dir.join(GROUP), state.text()?.as_bytes())?;
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.flatten() {
        let old = entry.file_name().to_string_lossy().starts_with("round-") && entry.file_name() != name.as_str();
        if old {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Whether a state of a group is there, by the id of the group.
pub fn has_state(results: &Path, group: &str) -> bool {
    state_dir(results, group).join(GROUP).exists()
}

/// The sites of those parts of a group of which there is a state that is further than one of the whole group, the part that was trained most
/// first, each site once. `id_of` is what the
/// part at some of the group's `sites` is known by; `damaged` hears of states that can't be read, which may be of this group.
pub fn parts_begun(
    results: &Path,
    sites: &[String],
    id_of: impl Fn(&[String]) -> String,
    damaged: impl Fn(&Error),
) -> Vec<Vec<String>> {
    let state = |dir: &Path| GroupState::read(dir).inspect_err(&damaged).ok().flatten();
    let of_whole = state(&state_dir(results, &id_of(sites))).map(|state| state.trained.tokens);
    let mut begun: Vec<(u64, Vec<String>)> = states(results)
        .filter_map(|dir| {
            let GroupState { trained, sites: of, .. } = state(&dir)?;
            let is_of = |of: &[String]| dir == state_dir(results, &id_of(of));
            let of = match of.is_empty() {
                true => vec![sites.iter().find(|site| is_of(std::slice::from_ref(site)))?.clone()],
                false => of,
            };
            (of.iter().all(|site| sites.contains(site)) && is_of(&of)).then_some((trained.tokens, of))
        })
        .filter(|(tokens, _)| of_whole.is_none_or(|of_whole| *tokens > of_whole))
        .collect();
    begun.sort_by_key(|(tokens, sites)| (std::cmp::Reverse(*tokens), sites.clone()));
    let mut parts: Vec<Vec<String>> = Vec::new();
    for (_, sites) in begun {
        if !parts.iter().flatten().any(|site| sites.contains(site)) {
            parts.push(sites);
        }
    }
    parts
}

/// Removes the states of a group that is finished, and of parts of it: of those that overlap, another one may have been gone on with.
///
/// # Errors
/// If one can't be removed.
pub fn remove_states(results: &Path, sites: &[String], id_of: impl Fn(&[String]) -> String) -> Result<()> {
    remove_state(&state_dir(results, &id_of(sites)))?;
    while let Some(part) = parts_begun(results, sites, &id_of, |_| ()).first() {
        remove_state(&state_dir(results, &id_of(part)))?;
    }
    Ok(())
}

/// An SAE as it was saved last, if it was.
pub(super) fn saved_trainer(dir: &Path, job: &TrainingJob<'_>, device: &Device) -> Result<Option<Trainer>> {
    let run = job.run();
    let group = GroupState::read(dir)?.filter(|group| group.losses.contains_key(&run.id));
    group.map(|group| group.trainer(dir, run, device)).transpose()
}

/// Removes the state of a group, if there is one.
pub(super) fn remove_state(dir: &Path) -> Result<()> {
    let gone = |removed: std::io::Result<()>| match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    };
    // The pointer first: no kill may leave it above files that are gone.
    gone(std::fs::remove_file(dir.join(GROUP)))?;
    gone(std::fs::remove_dir_all(dir))
}

/// Brings SAEs to the state that was saved, if one was, and says how far that had come.
pub(super) fn load_state(dir: &Path, jobs: &mut [TrainingJob<'_>], device: &Device) -> Result<Option<Trained>> {
    let Some(mut group) = GroupState::read(dir)? else { return Ok(None) };
    // A run that was finished then and is missing now has no state: all start over.
    if jobs.iter().any(|p| !group.losses.contains_key(&p.run().id)) {
        remove_state(dir)?;
        return Ok(None);
    }
    for job in jobs {
        job.losses = group.losses.remove(&job.run().id).expect("checked above");
        job.trainer = group.trainer(dir, job.run(), device)?;
    }
    Ok(Some(group.trained))
}

#[cfg(test)]
mod tests {
    use super::super::made::MadeSweep;
    use super::*;

    #[test]
    fn what_was_trained_most_is_gone_on_with() {
        let made = MadeSweep::new(&["hooks=['resid_pre', 'mlp_out']"]);
        let (results, group) = (made.results("results"), made.group("a-128tokens"));
        let sites = group.sites();
        let begun = || {
            let found = parts_begun(&results, &sites, |sites| group.part(sites).id(), |why| panic!("{why:#}"));
            found.into_iter().map(|of| of.iter().map(|site| sites.iter().position(|s| s == site).unwrap()).collect())
        };
        let further = |state: &Path, tokens: u64| {
            let file = state.join(GROUP);
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace("\"tokens\":32", &format!("\"tokens\":{tokens}"))).unwrap();
        };
        let begin = |places: &[usize]| made.begin("a-128tokens", places, &results);
        assert_eq!(begun().count(), 0);
        // Each site once; of parts that overlap, the one that has come further.
        for places in [&[0][..], &[1], &[0, 2], &[3]] {
            further(&begin(places), 32 + places.len() as u64);
        }
        assert_eq!(begun().collect::<Vec<Vec<usize>>>(), [vec![0, 2], vec![1], vec![3]]);
        // Of another group; of the whole, which has come as far as some and further than others.
        made.begin("b-128tokens", &[1], &results);
        further(&begin(&[]), 33);
        assert_eq!(begun().collect::<Vec<Vec<usize>>>(), [vec![0, 2]]);
        // One that says nothing of sites, as of a sweep that had this one alone.
        let alone = begin(&[1]).join(GROUP);
        let text = std::fs::read_to_string(&alone).unwrap().replace(&format!("[\"{}\"]", sites[1]), "[]");
        std::fs::write(&alone, text.replace("\"tokens\":32", "\"tokens\":35")).unwrap();
        assert_eq!(begun().collect::<Vec<Vec<usize>>>(), [vec![1], vec![0, 2]]);
        remove_states(&results, &sites, |sites| group.part(sites).id()).unwrap();
        assert_eq!((begun().count(), states(&results).count()), (0, 1));
    }
}
