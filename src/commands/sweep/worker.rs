//! A worker: a process that `assay sweep --devices` starts for a device, and what the two say to each other.
//!
//! [`Order`]s come on standard input, [`Message`]s go to standard output, each a line of JSON. Where the input ends, be it that there is
//! nothing left to do, that somebody interrupted or that the other process is gone, the worker saves and ends.

use std::cell::OnceCell;
use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::interrupt::{self, Interrupted};
use crate::output;
use crate::plan::Plan;
use crate::progress::Report;
use crate::results_dir::ResultsDir;
use crate::runner::{MemoryFull, ModelAtWork, Sweep};

/// What a worker is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The name of the group to work on.
    pub group: String,
    /// How often its passes are halved.
    pub halved: u32,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Its device is open.
    Opened {
        /// Devices of one class give the same results.
        class: String,
    },
    /// The plan is in the results directory, and it waits for a group.
    Ready,
    /// A group is finished.
    Done(String),
    /// Another process works on the group.
    Held(String),
    /// A group can't be finished.
    Failed {
        /// Its name.
        group: String,
        /// Why.
        error: String,
    },
    /// A group does not fit into the device's memory. The worker ends: what the device holds now is not known.
    MemoryFull {
        /// Its name.
        group: String,
        /// What was full, and of what.
        error: String,
    },
    /// It stopped on request, and what it saved.
    Stopped(String),
    /// Of its progress.
    #[serde(untagged)]
    Progress(Report),
}

impl Message {
    /// Says it.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn send(&self) -> Result<()> {
        output::result_line(serde_json::to_string(self).context("a message serialises")?)
    }
}

/// Lines of standard input from now on.
pub(super) fn listen() -> Receiver<String> {
    let (sender, names) = channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        let _nobody_waits = lines.map(|name| sender.send(name)).find(Result::is_err);
        // What is in progress stops; if nothing is, nobody asks.
        interrupt::request();
    });
    names
}

/// Works on groups until there are no more.
///
/// # Errors
/// If nobody listens any more, or somebody interrupts.
pub(super) fn work(sweep: &Sweep<'_>, plan: &Plan, claimed: &ResultsDir, names: &Receiver<String>) -> Result<()> {
    Message::Ready.send()?;
    let next = || -> Result<Option<_>> {
        let Ok(line) = names.recv() else { return Ok(None) };
        let order: Order = serde_json::from_str(&line).with_context(|| format!("no order: {line}"))?;
        let (model, group) = plan.group(&order.group)?;
        Ok(Some((model, group, order.halved)))
    };
    let mut given = next()?;
    while let Some((model, ..)) = given {
        let decoder = OnceCell::new();
        let at_work = ModelAtWork::new(sweep, model, &decoder);
        // The weights of a model stay in memory for as long as its groups follow one another.
        while let Some((_, group, halved)) = given.take_if(|(of, ..)| std::ptr::eq(*of, model)) {
            let name = group.name();
            let held = claimed.hold(&name);
            match held.and_then(|held| held.map(|_held| at_work.attempt(&group, halved)).transpose()) {
                Ok(Some(())) => Message::Done(name).send()?,
                Ok(None) => Message::Held(name).send()?,
                Err(error) if error.is::<MemoryFull>() => {
                    return Message::MemoryFull { group: name, error: format!("{error:#}") }.send();
                }
                Err(error) => match error.downcast::<Interrupted>() {
                    Ok(interrupted) => {
                        Message::Stopped(interrupted.saved.clone()).send()?;
                        return Err(interrupted.into());
                    }
                    Err(error) => Message::Failed { group: name, error: format!("{error:#}") }.send()?,
                },
            }
            given = next()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_said() {
        let report = Report::Stage { label: "small train".to_owned(), done: 3, total: 7, note: "loss 0.1".to_owned() };
        for message in [
            Message::Opened { class: "cpu".to_owned() },
            Message::Ready,
            Message::Done("small-1tokens".to_owned()),
            Message::Held("g".to_owned()),
            Message::Failed { group: "g".to_owned(), error: "line\nline".to_owned() },
            Message::MemoryFull { group: "g".to_owned(), error: "full".to_owned() },
            Message::Stopped("saved".to_owned()),
            Message::Progress(report),
            Message::Progress(Report::Said("a note".to_owned())),
            Message::Progress(Report::Warned("a warning".to_owned())),
            Message::Progress(Report::Finished("done in 1 s".to_owned())),
        ] {
            let text = serde_json::to_string(&message).unwrap();
            assert!(!text.contains('\n'));
            assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
        }
    }
}
