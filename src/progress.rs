//! Progress on standard error: bars on a terminal, plain lines elsewhere, nothing when quiet.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bars that redraw themselves.
    Bars,
    /// A line now and then.
    Lines,
    /// Nothing.
    Quiet,
}

/// One stretch of work of known length.
pub struct Stage {
    label: String,
    total: u64,
    done: u64,
    started: Instant,
    last_line: Instant,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Lines,
    Quiet,
}

/// Seconds between two plain lines of one stage.
const LINE_EVERY: Duration = Duration::from_secs(10);

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
        if self != Self::Quiet {
            output::message(text);
        }
    }

    /// Starts a stage of `total` units.
    pub fn stage(self, label: impl Into<String>, total: u64, unit: &str) -> Stage {
        let label = label.into();
        let display = match self {
            Self::Quiet => Display::Quiet,
            Self::Lines => Display::Lines,
            Self::Bars => {
                let template = format!(
                    "{{prefix:32}} {{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left {{msg}}"
                );
                let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
                Display::Bar(ProgressBar::new(total).with_style(style).with_prefix(label.clone()))
            }
        };
        let now = Instant::now();
        Stage { label, total, done: 0, started: now, last_line: now, display }
    }
}

impl Stage {
    /// Adds `n` units; `note` says something about the state, and is only asked for when it is shown.
    pub fn advance(&mut self, n: u64, note: impl FnOnce() -> String) {
        self.done += n;
        match &self.display {
            Display::Bar(bar) => {
                bar.inc(n);
                if self.last_line.elapsed() > Duration::from_millis(500) {
                    self.last_line = Instant::now();
                    bar.set_message(note());
                }
            }
            Display::Lines if self.last_line.elapsed() > LINE_EVERY => {
                self.last_line = Instant::now();
                let percent = 100 * self.done / self.total.max(1);
                output::message(format_args!("{}: {percent} %  {}", self.label, note()));
            }
            Display::Lines | Display::Quiet => {}
        }
    }

    /// Ends the stage and gives the seconds that it took.
    pub fn finish(self, note: &str) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        let text = format!("{}: done in {seconds:.1} s  {note}", self.label);
        match self.display {
            Display::Bar(bar) => {
                bar.finish_and_clear();
                output::message(text);
            }
            Display::Lines => output::message(text),
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
