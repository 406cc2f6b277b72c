//! Several devices of one machine: a worker process for each, to which groups are dealt, the largest first. A group that is more than a
//! device's share of the work is divided by its sites: the parts' captures are their own, and their numbers the same.
//!
//! A process of its own has a device of its own, an address space of its own, and can die alone: its group then goes to another. Groups
//! share nothing but the results directory, as they do with `--group`, so that the files are those of one process.

mod dealt;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};

use self::dealt::{dealt, left};
use super::process::{Event, Worker};
use super::worker::{Message, Order};
use crate::device;
use crate::interrupt::{self, Interrupted};
use crate::plan::{GroupOutline, Outline, PLAN, group_and_sites};
use crate::progress::{Progress, WorkersDisplay};
use crate::runner::{Passes, REMEDY, has_state};

/// Workers that may die of a group before it is given up.
const ATTEMPTS: usize = 2;
/// How often an interrupt is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After how long a group is asked for again that another process works on: twice as long each time, since the states of all groups are read
/// for it.
const ASK_FIRST: Duration = Duration::from_secs(1);
const ASK_AT_LEAST: Duration = Duration::from_secs(16);

/// The devices that `--devices` names, a worker each.
///
/// # Errors
/// If a name means nothing or a kind of device that this build lacks, or `all` finds no GPU.
pub(super) fn named(text: &str) -> Result<Vec<String>> {
    let found = if text == "all" {
        device::all_cards().context("--devices all; `--devices cpu,cpu` has two worker processes on the CPU")?
    } else {
        text.split(',').map(|name| name.trim().to_owned()).collect()
    };
    for name in &found {
        device::check_built(name).with_context(|| format!("--devices {text}: `{name}`"))?;
    }
    Ok(found)
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
    deal_until(devices, command, results, progress, &interrupt::requested)
}

/// The same, until `stop` says that somebody interrupts.
fn deal_until(
    devices: &[String],
    command: impl Fn(&str) -> Command,
    results: &Path,
    progress: Progress,
    stop: &dyn Fn() -> bool,
) -> Result<()> {
    let (sender, events) = channel();
    let labels = labels(devices);
    let start = |at: usize| Worker::start(command(&devices[at]), labels[at].clone(), at, &sender);
    let workers = (0..devices.len()).map(start).collect::<Result<Vec<_>>>()?;
    let mut deal = Deal {
        results,
        start: &start,
        workers,
        display: progress.together(&labels),
        groups: Vec::new(),
        todo: None,
        held: Vec::new(),
        dealt: 0,
        asked: Instant::now(),
        patience: ASK_FIRST,
        said: BTreeSet::new(),
        class: None,
        deaths: BTreeMap::new(),
        failures: Vec::new(),
        died: Vec::new(),
    };
    deal.run(&events, stop)
}

/// Groups on their way to workers.
struct Deal<'a> {
    results: &'a Path,
    /// Starts a worker, by its number.
    start: &'a dyn Fn(usize) -> Result<Worker>,
    workers: Vec<Worker>,
    display: WorkersDisplay,
    /// Those of the sweep.
    groups: Vec<GroupOutline>,
    /// Groups and parts of groups that nobody works on, the largest last; not known until a worker has written the plan.
    todo: Option<Vec<Order>>,
    /// Those that a process works on that is none of the workers.
    held: Vec<Order>,
    /// How many there are in all, done or not.
    dealt: usize,
    /// When one of those that are held was asked for last.
    asked: Instant,
    /// After how long one is asked for again.
    patience: Duration,
    /// Those of which that was said, and warnings.
    said: BTreeSet<String>,
    /// That of all devices, and the first worker that named it.
    class: Option<(String, String)>,
    /// How many workers died of a group.
    deaths: BTreeMap<String, usize>,
    failures: Vec<String>,
    /// What is said of workers that died.
    died: Vec<String>,
}

impl Deal<'_> {
    fn run(&mut self, events: &Receiver<(usize, Event)>, stop: &dyn Fn() -> bool) -> Result<()> {
        let mut stopped = false;
        while self.workers.iter().any(|worker| !worker.is_gone) {
            if stop() && !stopped {
                stopped = true;
                self.display.say("interrupted; the workers save what they have");
                self.workers.iter_mut().for_each(Worker::stop);
            }
            match events.recv_timeout(LOOK_EVERY) {
                Ok((at, Event::Said(message))) => self.hear(at, message)?,
                Ok((at, Event::Gone)) => self.gone(at, stopped)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !stopped {
                self.hand_out()?;
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
        let left = self.todo.as_ref().map_or(0, Vec::len) + self.held.len();
        if left > 0 {
            self.failures.push(format!("no worker is left for {left} groups"));
            self.failures.append(&mut self.died);
        }
        ensure!(
            self.failures.is_empty(),
            "not all groups are finished; the same command tries them again: {}",
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
                self.workers[at].order = None;
                self.patience = ASK_FIRST;
                self.display.done(at);
            }
            Message::Held(group) => {
                if let Some(order) = self.workers[at].order.take() {
                    self.hold(order, &group);
                }
            }
            Message::Failed { group, error } => {
                self.workers[at].order = None;
                self.display.say(&format!("{}: {group} failed: {error}", self.workers[at].label));
                self.failures.push(format!("{group}: {error}"));
            }
            Message::MemoryFull { error, .. } => {
                if let Some(order) = self.workers[at].order.take() {
                    self.try_smaller(order, &format!("{}: {error}", self.workers[at].label));
                }
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
        self.groups = outline.groups;
        let orders = self.orders(&self.groups.clone());
        self.dealt = orders.len();
        self.display.groups(self.dealt);
        self.todo = Some(orders);
        Ok(())
    }

    /// What is dealt of these groups, the largest last.
    fn orders(&mut self, groups: &[GroupOutline]) -> Vec<Order> {
        let found = RefCell::new(BTreeSet::new());
        let damaged = |why: &Error| _ = found.borrow_mut().insert(format!("{why:#}"));
        let dealt = dealt(self.results, groups, self.workers.len(), &damaged);
        for why in found.into_inner() {
            if self.said.insert(why.clone()) {
                self.display.warn(&why);
            }
        }
        let mut orders: Vec<(u128, String)> =
            dealt.into_iter().map(|group| (left(self.results, &group), group.name)).collect();
        // The first of equals comes first; the last is taken first.
        orders.reverse();
        orders.sort_by_key(|(left, _)| *left);
        orders.into_iter().map(|(_, group)| Order { group, halved: 0 }).collect()
    }

    /// Deals anew what is left of the first group that another process held, whole or in parts: that process may have left a state of another
    /// part than was asked for.
    fn deal_again(&mut self) {
        let name_of = |order: &Order| group_and_sites(&order.group).0.to_owned();
        let Some(name) = self.held.first().map(name_of) else { return };
        let (again, others): (Vec<Order>, Vec<Order>) =
            std::mem::take(&mut self.held).into_iter().partition(|order| name_of(order) == name);
        self.held = others;
        let group = self.groups.iter().find(|group| group.name == name).expect("an order is of a group");
        let is_given =
            self.workers.iter().filter_map(|worker| worker.order.as_ref()).any(|order| name_of(order) == name);
        let is_whole =
            !is_given && has_state(self.results, &group.id()) || again.iter().any(|order| order.group == name);
        let sites: Vec<String> =
            again.iter().flat_map(|order| group_and_sites(&order.group).1).map(str::to_owned).collect();
        let left = if is_whole { group.clone() } else { group.part(&sites) };
        let halved = again.iter().map(|order| order.halved).max().unwrap_or(0);
        let orders: Vec<Order> = self.orders(&[left]).into_iter().map(|order| Order { halved, ..order }).collect();
        self.dealt = self.dealt - again.len() + orders.len();
        self.display.groups(self.dealt);
        self.todo.get_or_insert_default().extend(orders);
    }

    /// Gives every idle worker a group; where none is left and none may come back, it may go.
    fn hand_out(&mut self) -> Result<()> {
        // Only when somebody can begin with it: what lies ready meanwhile would miss a state that is saved later.
        let is_idle = self.workers.iter().any(|worker| worker.is_ready && worker.is_free());
        let is_due = self.asked.elapsed() >= self.patience;
        if self.todo.as_ref().is_some_and(Vec::is_empty) && !self.held.is_empty() && is_idle && is_due {
            self.asked = Instant::now();
            self.patience = (self.patience * 2).min(ASK_AT_LEAST);
            self.deal_again();
        }
        let Some(todo) = &mut self.todo else { return Ok(()) };
        for worker in self.workers.iter_mut().filter(|worker| worker.is_ready && worker.is_free()) {
            if let Some(order) = todo.pop() {
                worker.give(order)?;
            }
        }
        // A worker without work stays for as long as another may die.
        if todo.is_empty() && self.held.is_empty() && self.workers.iter().all(|worker| worker.order.is_none()) {
            self.workers.iter_mut().for_each(Worker::dismiss);
        }
        Ok(())
    }

    /// Puts a group back that another process works on, whole or in part: the others come first, and then what is left of it.
    fn hold(&mut self, order: Order, group: &str) {
        if self.said.insert(group.to_owned()) {
            self.display.say(&format!(
                "{group}: another process is working on it, perhaps one that an earlier sweep left and that saves now; the other groups \
                 come first, then this one is waited for"
            ));
        }
        self.held.push(order);
    }

    /// Tries a group again that did not fit into a memory, in smaller passes for as long as there are any.
    fn try_smaller(&mut self, order: Order, full: &str) {
        let (name, _) = group_and_sites(&order.group);
        let key = self.groups.iter().find(|group| group.name == name).and_then(|group| Some(&group.runs.first()?.key));
        let passes = key.map(|key| Passes::of_key(key).halved_times(order.halved));
        if let Some(smaller) = passes.and_then(Passes::smaller) {
            self.display.warn(&format!("{full}; trying {smaller}, which its records say"));
            let order = Order { halved: smaller.halved(), ..order };
            self.todo.get_or_insert_default().push(order);
        } else {
            self.failures.push(format!("{full}; {REMEDY}"));
            self.display.say(self.failures.last().expect("it was pushed"));
        }
    }

    /// Starts another worker in the place of one that is gone, if there is more to do than the others can take.
    fn replace(&mut self, at: usize) -> Result<()> {
        let left = self.todo.as_ref().map_or(0, Vec::len) + self.held.len();
        if left > self.workers.iter().filter(|worker| worker.is_free()).count() {
            self.display.say(&format!("{}: another worker is started", self.workers[at].label));
            self.workers[at] = (self.start)(at)?;
        }
        Ok(())
    }

    fn gone(&mut self, at: usize, stopped: bool) -> Result<()> {
        let (status, words) = self.workers[at].bury()?;
        let worker = &mut self.workers[at];
        let (label, order, is_ready) = (worker.label.clone(), worker.order.take(), worker.is_ready);
        self.display.idle(at);
        if stopped {
            return Ok(());
        }
        if order.is_none() && status.success() {
            // It was dismissed, or its device's memory was full.
            return self.replace(at);
        }
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        if !is_ready {
            if self.todo.is_none() && self.workers.iter().all(|worker| worker.is_gone) {
                bail!("no worker could begin; {label}{}", words.replacen(": error: ", ": ", 1));
            }
            self.display.say(&format!("{label}: the worker ended before it began{words}"));
            return Ok(());
        }
        let Some(order) = order else {
            self.died.push(format!("{label}: the worker died ({status}){words}"));
            self.display.say(self.died.last().expect("it was pushed"));
            return self.replace(at);
        };
        let what = format!("{label}: the worker died ({status}) while it worked on {}", order.group);
        if device::is_out_of_memory(&words) {
            // On the CPU an allocation that fails ends the process.
            self.try_smaller(order, &format!("{what}{words}"));
            return self.replace(at);
        }
        let deaths = self.deaths.entry(order.group.clone()).or_default();
        *deaths += 1;
        if *deaths == ATTEMPTS {
            self.failures.push(format!("{what}, as {} before{words}", ATTEMPTS - 1));
            self.display.say(self.failures.last().expect("it was pushed"));
        } else {
            self.display.say(&format!("{what}, which goes to another{words}"));
            self.died.push(format!("{what}{words}"));
            self.todo.get_or_insert_default().push(order);
        }
        self.replace(at)
    }
}

#[cfg(all(test, unix))]
mod tests;
