//! Several devices of one machine: a worker process for each, to which groups are dealt, the largest first.
//!
//! A process of its own has a device of its own, an address space of its own, and can die alone: its group then goes to another. Groups
//! share nothing but the results directory, as they do with `--group`, so that the files are those of one process.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::worker::Message;
use crate::device;
use crate::interrupt::{self, Interrupted};
use crate::plan::{GroupOutline, Outline, PLAN};
use crate::progress::{Progress, Together};
use crate::record::Record;

/// Workers that may die of a group before it is given up.
const ATTEMPTS: usize = 2;
/// Lines of a dead worker's last words.
const LAST_WORDS: usize = 12;
/// How often an interrupt is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The devices that `--devices` names, a worker each.
///
/// # Errors
/// If a name means nothing, or `all` finds no GPU.
pub(super) fn named(text: &str) -> Result<Vec<String>> {
    let found = if text == "all" {
        device::all_cards().context("--devices all; `--devices cpu,cpu` has two worker processes on the CPU")?
    } else {
        text.split(',').map(|name| name.trim().to_owned()).collect()
    };
    for name in &found {
        device::check_name(name).with_context(|| format!("--devices {text}: `{name}`"))?;
    }
    Ok(found)
}

/// What came of a worker.
enum Event {
    Said(Message),
    /// Its output ended: it is gone, or about to be.
    Gone,
}

struct Worker {
    /// What it is called: the device, with a number where several workers have it.
    label: String,
    child: Child,
    /// Groups go in here; where this ends, it saves and ends.
    input: Option<ChildStdin>,
    /// The end of what it wrote to standard error, once it is gone.
    last_words: Option<std::thread::JoinHandle<String>>,
    /// What it works on.
    group: Option<String>,
    is_ready: bool,
    is_gone: bool,
}

impl Worker {
    fn start(mut command: Command, label: String, at: usize, events: &Sender<(usize, Event)>) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for this process alone, which then closes their inputs.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| format!("cannot start a worker for {label}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output is piped")?;
        let errors = child.stderr.take().context("its errors are piped")?;
        let events = events.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // What is no message came from a library; it is not for us.
                if let Ok(message) = serde_json::from_str(&line)
                    && events.send((at, Event::Said(message))).is_err()
                {
                    return;
                }
            }
            let _nobody_waits = events.send((at, Event::Gone));
        });
        let last_words = Some(std::thread::spawn(move || last_lines(errors)));
        Ok(Self { label, child, input, last_words, group: None, is_ready: false, is_gone: false })
    }

    /// Gives it a group; a worker that can't take it is about to be gone, and is heard of as such.
    fn give(&mut self, group: &str) {
        self.group = Some(group.to_owned());
        if let Some(input) = &mut self.input {
            let _gone = writeln!(input, "{group}").and_then(|()| input.flush());
        }
    }

    /// Waits for its end, and gives how it ended and its last words.
    fn bury(&mut self) -> Result<(ExitStatus, String)> {
        self.is_gone = true;
        self.input = None;
        let status = self.child.wait().with_context(|| format!("cannot wait for the worker of {}", self.label))?;
        let words = self.last_words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        Ok((status, words))
    }
}

impl Drop for Worker {
    /// Only after an error of this process, or of all of them: else it has been waited for.
    fn drop(&mut self) {
        if !self.is_gone {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
    }
}

/// The last lines of what is read to its end.
fn last_lines(errors: impl Read) -> String {
    let mut last: Vec<String> = Vec::new();
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        if last.len() == LAST_WORDS {
            last.remove(0);
        }
        last.push(line);
    }
    last.join("\n")
}

/// How much work a group has left, in multiplications of an SAE's step: tokens × width × latents, summed over the runs without a record.
fn left(results: &Path, group: &GroupOutline) -> u128 {
    let missing = group.runs.iter().filter(|run| !Record::path(results, &run.key.id()).exists());
    let cost = |d_model: usize, d_sae: usize, tokens: u64| u128::from(tokens) * d_model as u128 * d_sae as u128;
    missing.map(|run| cost(run.key.train.d_model, run.key.train.d_sae, run.key.training_tokens)).sum()
}

/// Names of devices, with numbers where one is there twice.
fn labels(devices: &[String]) -> Vec<String> {
    let count = |name: &String, of: &[String]| of.iter().filter(|other| *other == name).count();
    let label = |(at, name): (usize, &String)| match count(name, devices) {
        1 => name.clone(),
        _ => format!("{name} #{}", count(name, &devices[..=at])),
    };
    devices.iter().enumerate().map(label).collect()
}

/// Starts a worker for each device, deals the groups of a sweep to them, and waits for all to end. `command` is a worker's, but for where
/// it runs; results are in `results`.
///
/// # Errors
/// If no worker begins, their devices are of different classes, groups can't be finished, or somebody interrupts.
pub(super) fn deal(
    devices: &[String],
    command: impl Fn(&str) -> Command,
    results: &Path,
    progress: Progress,
) -> Result<()> {
    interrupt::listen()?;
    let (sender, events) = channel();
    let labels = labels(devices);
    let workers = labels.iter().zip(devices).enumerate();
    let workers = workers.map(|(at, (label, device))| Worker::start(command(device), label.clone(), at, &sender));
    let workers = workers.collect::<Result<Vec<_>>>()?;
    drop(sender);
    let display = progress.together(&labels);
    let mut deal = Deal {
        results,
        workers,
        display,
        todo: None,
        total: 0,
        class: None,
        deaths: BTreeMap::new(),
        failures: Vec::new(),
        died: Vec::new(),
    };
    deal.run(&events)
}

/// Groups on their way to workers.
struct Deal<'a> {
    results: &'a Path,
    workers: Vec<Worker>,
    display: Together,
    /// Groups that nobody works on, the largest last; not known until a worker has written the plan.
    todo: Option<Vec<String>>,
    total: usize,
    /// That of all devices, and the first worker that named it.
    class: Option<(String, String)>,
    /// How many workers died of a group.
    deaths: BTreeMap<String, usize>,
    failures: Vec<String>,
    /// What is said of workers that died.
    died: Vec<String>,
}

impl Deal<'_> {
    fn run(&mut self, events: &Receiver<(usize, Event)>) -> Result<()> {
        let mut stopped = false;
        while self.workers.iter().any(|worker| !worker.is_gone) {
            if interrupt::requested() && !stopped {
                stopped = true;
                self.display.say("interrupted; the workers save what they have");
                self.workers.iter_mut().for_each(|worker| worker.input = None);
            }
            match events.recv_timeout(LOOK_EVERY) {
                Ok((at, Event::Said(message))) => self.hear(at, message)?,
                Ok((at, Event::Gone)) => self.gone(at, stopped)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !stopped {
                self.hand_out();
            }
        }
        self.display.finish();
        if stopped {
            let saved = format!(
                "what is finished and the state of what is not are in {}; the same command resumes",
                self.results.display()
            );
            return Err(Interrupted { saved }.into());
        }
        let left = self.todo.as_ref().map_or(0, Vec::len);
        if left > 0 {
            self.failures.push(format!("no worker is left for {left} groups"));
            self.failures.append(&mut self.died);
        }
        ensure!(
            self.failures.is_empty(),
            "not all groups are finished; the same command goes on with them: {}",
            self.failures.join("; ")
        );
        Ok(())
    }

    fn hear(&mut self, at: usize, message: Message) -> Result<()> {
        match message {
            Message::Opened { class } => self.compare(at, class)?,
            Message::Ready => {
                self.workers[at].is_ready = true;
                if self.todo.is_none() {
                    self.plan()?;
                }
            }
            Message::Done(_) => {
                self.workers[at].group = None;
                self.display.done(at);
            }
            Message::Failed { group, error } => {
                self.workers[at].group = None;
                self.display.say(&format!("{}: {group} failed: {error}", self.workers[at].label));
                self.failures.push(format!("{group}: {error}"));
            }
            Message::Stopped(saved) => self.display.say(&format!("{}: {saved}", self.workers[at].label)),
            Message::Progress(report) => self.display.show(at, report, self.todo.is_some()),
        }
        Ok(())
    }

    /// Results of different classes of devices are never one sweep's.
    fn compare(&mut self, at: usize, class: String) -> Result<()> {
        let label = &self.workers[at].label;
        let (first, of) = self.class.get_or_insert_with(|| (class.clone(), label.clone()));
        ensure!(
            *first == class,
            "--devices: {of} is of the class {first}, {label} of {class}; the runs of a sweep are of one class of devices: name one alone"
        );
        Ok(())
    }

    /// Reads what there is to do, of which the workers are sure by now.
    fn plan(&mut self) -> Result<()> {
        let outline = Outline::read(self.results)?;
        let outline = outline.with_context(|| format!("{} has no {PLAN}", self.results.display()))?;
        super::warn_of_missing(&outline.missing);
        let mut groups: Vec<(u128, String)> =
            outline.groups.iter().map(|group| (left(self.results, group), group.name.clone())).collect();
        // The first of equals comes first; the last is taken first.
        groups.reverse();
        groups.sort_by_key(|(left, _)| *left);
        self.total = groups.len();
        self.display.groups(self.total);
        self.todo = Some(groups.into_iter().map(|(_, name)| name).collect());
        Ok(())
    }

    /// Gives every idle worker a group; where none is left and none may come back, it may go.
    fn hand_out(&mut self) {
        let Some(todo) = &mut self.todo else { return };
        for worker in self.workers.iter_mut().filter(|w| w.is_ready && !w.is_gone && w.group.is_none()) {
            if let Some(group) = todo.pop() {
                worker.give(&group);
            }
        }
        // A worker without work stays for as long as another may die.
        if todo.is_empty() && self.workers.iter().all(|worker| worker.group.is_none()) {
            self.workers.iter_mut().for_each(|worker| worker.input = None);
        }
    }

    fn gone(&mut self, at: usize, stopped: bool) -> Result<()> {
        let (status, words) = self.workers[at].bury()?;
        let Worker { label, group, is_ready, .. } = &mut self.workers[at];
        let (label, group, is_ready) = (label.clone(), group.take(), *is_ready);
        self.display.idle(at);
        if stopped || (status.success() && group.is_none()) {
            return Ok(());
        }
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        if !is_ready {
            self.display.say(&format!("{label}: the worker ended before it began{words}"));
            if self.workers.iter().all(|worker| worker.is_gone) {
                bail!("no worker could begin; {label}{words}");
            }
            return Ok(());
        }
        let Some(group) = group else {
            self.died.push(format!("{label}: the worker died ({status}){words}"));
            self.display.say(self.died.last().expect("it was pushed"));
            return Ok(());
        };
        let deaths = self.deaths.entry(group.clone()).or_default();
        *deaths += 1;
        let what = format!("{label}: the worker died ({status}) while it worked on {group}");
        if *deaths == ATTEMPTS {
            self.failures.push(format!("{what}, as {} before{words}", ATTEMPTS - 1));
            self.display.say(self.failures.last().expect("it was pushed"));
        } else {
            self.display.say(&format!("{what}, which goes to another{words}"));
            self.died.push(format!("{what}{words}"));
            self.todo.get_or_insert_default().push(group);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_names_and_are_told_apart() {
        assert_eq!(named("cpu").unwrap(), ["cpu"]);
        assert_eq!(named("cuda:0, cuda:1").unwrap(), ["cuda:0", "cuda:1"]);
        for text in ["", "cpu,", "cpu,tpu", "cuda:x"] {
            let error = format!("{:#}", named(text).unwrap_err());
            assert!(error.contains("--devices"), "{error}");
        }
        let names = ["cpu", "cuda:0", "cpu"].map(str::to_owned);
        assert_eq!(labels(&names), ["cpu #1", "cuda:0", "cpu #2"]);
    }

    #[test]
    fn the_last_words_are_the_last_lines() {
        let text: String = (0..40).map(|line| format!("{line}\n")).collect();
        assert_eq!(
            last_lines(text.as_bytes()).lines().collect::<Vec<_>>(),
            (28..40).map(|n| n.to_string()).collect::<Vec<_>>()
        );
    }
}
