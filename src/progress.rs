//! Progress on standard error: bars on a terminal, plain lines elsewhere, nothing when quiet.

mod workers;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::output;

pub use workers::WorkersDisplay;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bars that redraw themselves.
    Bars,
    /// A line now and then.
    Lines,
    /// [`Report`]s as JSON lines on standard output, for the process that started this one and shows them.
    Reported,
    /// Nothing.
    Quiet,
}

/// What a process tells of its progress to the one that started it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// A message.
    Said(String),
    /// Something that is to be known also where progress is not shown.
    Warned(String),
    /// How far a stage is.
    Stage {
        /// What is done.
        label: String,
        /// How much of it.
        done: u64,
        /// Of how much.
        total: u64,
        /// What is known of the state.
        note: String,
    },
    /// A stage has ended, in words.
    Finished(String),
}

impl Report {
    fn tell(&self) {
        // Whoever started this process may be gone; it notices elsewhere.
        let _unread = serde_json::to_string(self).map(output::result_line);
    }
}

/// One stretch of work of known length.
pub struct Stage {
    label: String,
    total: u64,
    done: u64,
    started: Instant,
    /// When the first units were done, and how many were then. The pace is reckoned from there: the first may hold what comes once, such as
    /// a buffer that is filled.
    first: Option<(Instant, u64)>,
    last_line: Instant,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Lines,
    Reported,
    Quiet,
}

/// Time between two plain lines of one stage.
pub(crate) const LINE_EVERY: Duration = Duration::from_secs(10);
/// Time between two reports, or two notes beside a bar.
const NOTE_EVERY: Duration = Duration::from_millis(500);

impl Progress {
    /// Bars if standard error is a terminal, else lines; nothing if `quiet`.
    pub fn detect(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }

    /// A message of its own.
    pub fn say(self, text: &str) {
        match self {
            Self::Bars | Self::Lines => output::message(text),
            Self::Reported => Report::Said(text.to_owned()).tell(),
            Self::Quiet => {}
        }
    }

    /// A warning. It is no progress, which `Quiet` would hide.
    pub fn warn(self, text: &str) {
        match self {
            Self::Reported => Report::Warned(text.to_owned()).tell(),
            Self::Bars | Self::Lines | Self::Quiet => output::message(format_args!("warning: {text}")),
        }
    }

    /// Starts a stage of `total` units.
    pub fn stage(self, label: impl Into<String>, total: u64, unit: &str) -> Stage {
        let label = label.into();
        let display = match self {
            Self::Quiet => Display::Quiet,
            Self::Lines => Display::Lines,
            Self::Reported => Display::Reported,
            Self::Bars => {
                let template = format!(
                    "{{prefix:32}} {{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left {{msg}}"
                );
                let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
                Display::Bar(ProgressBar::new(total).with_style(style).with_prefix(label.clone()))
            }
        };
        let now = Instant::now();
        Stage { label, total, done: 0, started: now, first: None, last_line: now, display }
    }
}

impl Stage {
    /// Begins with `done` units that an earlier process did: no time is reckoned for them.
    pub fn resume(&mut self, done: u64) {
        self.done = done;
        if let Display::Bar(bar) = &self.display {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// How long the rest will take at the pace so far; empty where nobody can say.
    fn left(&self) -> String {
        let Some((since, before)) = self.first else { return String::new() };
        let done = self.done.saturating_sub(before) as f64;
        let left = self.total.saturating_sub(self.done) as f64;
        if done == 0.0 || left == 0.0 {
            return String::new();
        }
        format!(", about {} left", duration(since.elapsed().as_secs_f64() * left / done))
    }

    /// Adds `n` units; `note` says something about the state, and is only asked for when it is shown.
    pub fn advance(&mut self, n: u64, note: impl FnOnce() -> String) {
        self.done += n;
        self.first.get_or_insert_with(|| (Instant::now(), self.done));
        match &self.display {
            Display::Bar(bar) => {
                bar.inc(n);
                if self.last_line.elapsed() > NOTE_EVERY {
                    self.last_line = Instant::now();
                    bar.set_message(note());
                }
            }
            Display::Lines if self.last_line.elapsed() > LINE_EVERY => {
                self.last_line = Instant::now();
                let percent = 100 * self.done / self.total.max(1);
                let line = format!("{}: {percent} %{}  {}", self.label, self.left(), note());
                output::message(line.trim_end());
            }
            Display::Reported if self.last_line.elapsed() > NOTE_EVERY => {
                self.last_line = Instant::now();
                let (label, done, total) = (self.label.clone(), self.done, self.total);
                Report::Stage { label, done, total, note: note() }.tell();
            }
            Display::Lines | Display::Reported | Display::Quiet => {}
        }
    }

    /// Ends the stage and gives the seconds that it took.
    pub fn finish(self, note: &str) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        let text = format!("{}: done in {seconds:.1} s  {note}", self.label);
        let text = text.trim_end();
        match self.display {
            Display::Bar(bar) => {
                bar.finish_and_clear();
                output::message(text);
            }
            Display::Lines => output::message(text),
            Display::Reported => Report::Finished(text.to_owned()).tell(),
            Display::Quiet => {}
        }
        seconds
    }
}

/// A time in words: `40 s`, `12 min`, `3.5 h`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_reckoned_from_what_this_process_did() {
        let mut stage = Progress::Quiet.stage("a stage", 100, "steps");
        assert_eq!(stage.left(), "", "nothing is known yet");
        stage.resume(30);
        assert_eq!(stage.left(), "");
        stage.advance(10, String::new);
        assert_eq!(stage.left(), "", "the first may have taken any time");
        let (since, done) = stage.first.unwrap();
        stage.first = Some((since.checked_sub(Duration::from_secs(60)).unwrap(), done));
        stage.advance(20, String::new);
        // 20 steps took a minute; 40 are left.
        assert_eq!(stage.left(), ", about 2 min left");
        stage.advance(40, String::new);
        assert_eq!(stage.left(), "", "all is done");
    }
}
