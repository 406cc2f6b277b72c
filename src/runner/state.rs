//! The state of a group's training: written at steps, so that a training that was stopped resumes at the next one.
//!
//! The SAEs' states lie under a name of their own; `group.json` points to them, and is renamed into place before those of the state
//! before are removed. So one whole state is there at every moment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use assay_sae::Trainer;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::pupil::{Losses, Pupil};
use crate::files::{read_json, sync_dir, write_atomic};

/// The file that points to the state.
const GROUP: &str = "group.json";

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

#[derive(Serialize, Deserialize)]
struct GroupState {
    #[serde(flatten)]
    trained: Trained,
    /// Of each SAE, by its first run.
    losses: BTreeMap<String, Losses>,
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
pub(super) fn save_state(dir: &Path, pupils: &[Pupil<'_>], trained: &Trained) -> Result<()> {
    let name = name_of(trained);
    // What is pointed to is never written over: a kill would leave it damaged. It is the same, as no step lies between.
    let there = read_json::<GroupState>(&dir.join(GROUP), &remedy(dir))?;
    if there.is_some_and(|there| {
        name_of(&there.trained) == name && pupils.iter().all(|pupil| there.losses.contains_key(&pupil.run().id))
    }) {
        return Ok(());
    }
    for pupil in pupils {
        pupil.trainer.save_state(&dir.join(&name).join(&pupil.run().id))?;
    }
    for dir in [dir.join(&name), dir.to_owned()] {
        sync_dir(&dir).with_context(|| format!("cannot write {}", dir.display()))?;
    }
    let losses = pupils.iter().map(|p| (p.run().id.clone(), p.losses.clone())).collect();
    let group = GroupState { trained: trained.clone(), losses };
    write_atomic(&dir.join(GROUP), serde_json::to_string(&group).context("a state serialises")?.as_bytes())?;
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.flatten() {
        let old = entry.file_name().to_string_lossy().starts_with("round-") && entry.file_name() != name.as_str();
        if old {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// An SAE as it was saved last, if it was.
pub(super) fn saved_trainer(dir: &Path, pupil: &Pupil<'_>, device: &Device) -> Result<Option<Trainer>> {
    let run = pupil.run();
    let group = read_json::<GroupState>(&dir.join(GROUP), &remedy(dir))?;
    let Some(group) = group.filter(|group| group.losses.contains_key(&run.id)) else { return Ok(None) };
    let dir = dir.join(name_of(&group.trained)).join(&run.id);
    Ok(Some(Trainer::load_state(&dir, &run.key.train, device).with_context(|| remedy(&dir))?))
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
pub(super) fn load_state(dir: &Path, pupils: &mut [Pupil<'_>], device: &Device) -> Result<Option<Trained>> {
    let path = dir.join(GROUP);
    let Some(mut group) = read_json::<GroupState>(&path, &remedy(dir))? else { return Ok(None) };
    // A run that was finished then and is missing now has no state: all start over.
    if pupils.iter().any(|p| !group.losses.contains_key(&p.run().id)) {
        remove_state(dir)?;
        return Ok(None);
    }
    for pupil in pupils {
        pupil.losses = group.losses.remove(&pupil.run().id).expect("checked above");
        let dir = dir.join(name_of(&group.trained)).join(&pupil.run().id);
        pupil.trainer = Trainer::load_state(&dir, &pupil.run().key.train, device).with_context(|| remedy(&dir))?;
    }
    Ok(Some(group.trained))
}
