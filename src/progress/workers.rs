//! One display of what several processes report.

use std::collections::BTreeSet;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{LINE_EVERY, Progress, Report};
use crate::output;

/// Several processes, each with a line of its own on a terminal, and how many groups they have finished together.
pub struct WorkersDisplay {
    progress: Progress,
    labels: Vec<String>,
    /// What each is at.
    at: Vec<Option<String>>,
    done: usize,
    total: usize,
    /// What was said while all planned the same.
    said: BTreeSet<String>,
    last_line: Instant,
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
}

impl Progress {
    /// The display of processes with these labels.
    pub fn together(self, labels: &[String]) -> WorkersDisplay {
        let bars = (self == Self::Bars).then(|| {
            let all = MultiProgress::new();
            let style = ProgressStyle::with_template("{prefix:10} {bar:20} {percent:>3} %  {wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar =
                |label: &str| all.add(ProgressBar::new(1).with_style(style.clone()).with_prefix(label.to_owned()));
            let bars = labels.iter().map(String::as_str).chain(["groups"]).map(bar).collect();
            (all, bars)
        });
        WorkersDisplay {
            progress: self,
            labels: labels.to_vec(),
            at: vec![None; labels.len()],
            done: 0,
            total: 0,
            said: BTreeSet::new(),
            last_line: Instant::now(),
            bars,
        }
    }
}

impl WorkersDisplay {
    /// A message, above the bars.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some((all, _)) => all.suspend(|| output::message(text)),
            None => self.progress.say(text),
        }
    }

    /// A warning, above the bars.
    pub fn warn(&self, text: &str) {
        match &self.bars {
            Some((all, _)) => all.suspend(|| self.progress.warn(text)),
            None => self.progress.warn(text),
        }
    }

    /// How many groups there are.
    pub fn groups(&mut self, total: usize) {
        self.total = total;
        self.show_groups();
    }

    /// One of the processes has finished a group.
    pub fn done(&mut self, at: usize) {
        self.done += 1;
        self.idle(at);
        self.show_groups();
    }

    /// One of the processes has nothing to do.
    pub fn idle(&mut self, at: usize) {
        self.at[at] = None;
        if let Some((_, bars)) = &self.bars {
            bars[at].set_position(0);
            bars[at].set_message("");
        }
    }

    fn show_groups(&self) {
        if let Some((_, bars)) = &self.bars {
            let bar = &bars[self.labels.len()];
            bar.set_length(self.total as u64);
            bar.set_position(self.done as u64);
            bar.set_message(format!("{} of {} groups", self.done, self.total));
        }
    }

    /// Shows what a process reports. While they plan, before they are `planned`, all do and say the same, which is shown once.
    pub fn show(&mut self, at: usize, report: Report, planned: bool) {
        let label = &self.labels[at];
        match report {
            Report::Said(text) if planned => self.say(&format!("{label}: {text}")),
            Report::Said(text) => {
                if self.said.insert(text.clone()) {
                    self.say(&text);
                }
            }
            Report::Warned(text) if planned => self.warn(&format!("{label}: {text}")),
            Report::Warned(text) => {
                if self.said.insert(text.clone()) {
                    self.warn(&text);
                }
            }
            Report::Finished(text) if planned => self.say(&format!("{label}: {text}")),
            Report::Finished(text) => {
                if at == 0 {
                    self.say(&text);
                }
            }
            Report::Stage { label, done, total, note } => self.stage(at, &label, [done, total], &note),
        }
    }

    fn stage(&mut self, at: usize, label: &str, [done, total]: [u64; 2], note: &str) {
        let note = if note.is_empty() { String::new() } else { format!("  {note}") };
        self.at[at] = Some(format!("{label} {} %{note}", 100 * done / total.max(1)));
        if let Some((_, bars)) = &self.bars {
            bars[at].set_length(total);
            bars[at].set_position(done);
            bars[at].set_message(format!("{label}{note}"));
        } else if self.last_line.elapsed() > LINE_EVERY {
            self.last_line = Instant::now();
            let each =
                self.labels.iter().zip(&self.at).filter_map(|(label, at)| Some(format!("{label}: {}", at.as_ref()?)));
            let each: Vec<String> = each.collect();
            self.say(&format!("{} of {} groups done; {}", self.done, self.total, each.join("; ")));
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        if let Some((all, bars)) = &self.bars {
            bars.iter().for_each(ProgressBar::finish_and_clear);
            let _cleared = all.clear();
        }
    }
}
