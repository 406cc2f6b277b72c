//! A worker's process, as the one that started it sees it: what it says, how it ends, and its last words.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};

use super::worker::{Message, Order};
use crate::device;

/// Lines of a dead worker's last words.
const LAST_WORDS: usize = 12;

/// What came of a worker.
pub(super) enum Event {
    Said(Message),
    /// Its output ended: it is gone, or about to be.
    Gone,
}

/// A process that works on groups.
pub(super) struct Worker {
    /// What it is called: the device, with a number where several workers have it.
    pub label: String,
    child: Child,
    /// Orders go in here; where this ends, it saves and ends.
    input: Option<ChildStdin>,
    /// The end of what it wrote to standard error, once it is gone.
    last_words: Option<std::thread::JoinHandle<String>>,
    /// What it works on.
    pub order: Option<Order>,
    /// Whether it has planned, and takes orders.
    pub is_ready: bool,
    /// Whether its end was waited for.
    pub is_gone: bool,
}

impl Worker {
    /// Starts it. What comes of it is sent to `events` under the number `at`.
    ///
    /// # Errors
    /// If the system refuses a process.
    pub fn start(mut command: Command, label: String, at: usize, events: &Sender<(usize, Event)>) -> Result<Self> {
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
        Ok(Self { label, child, input, last_words, order: None, is_ready: false, is_gone: false })
    }

    /// Gives it an order; a worker that can't take it is about to be gone, and is heard of as such.
    ///
    /// # Errors
    /// If the order does not serialise; a name and a number do.
    pub fn give(&mut self, order: Order) -> Result<()> {
        let line = serde_json::to_string(&order).context("an order serialises")?;
        self.order = Some(order);
        if let Some(input) = &mut self.input {
            let _gone = writeln!(input, "{line}").and_then(|()| input.flush());
        }
        Ok(())
    }

    /// Whether it could take an order, now or when it has planned.
    pub fn is_free(&self) -> bool {
        !self.is_gone && self.order.is_none()
    }

    /// Tells it that there is nothing more to do: it saves what it has, and ends.
    pub fn dismiss(&mut self) {
        self.input = None;
    }

    /// Ends it where it has nothing to save: while it plans, which nothing else interrupts.
    pub fn stop(&mut self) {
        self.dismiss();
        if !self.is_ready && !self.is_gone {
            let _gone = self.child.kill();
        }
    }

    /// Waits for its end, and gives how it ended and its last words.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn bury(&mut self) -> Result<(ExitStatus, String)> {
        self.is_gone = true;
        self.dismiss();
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

/// The last lines of what is read to its end, and before them the line that says that a memory was full, if one does: a backtrace of any
/// length may follow it.
fn last_lines(errors: impl Read) -> String {
    let mut last: VecDeque<String> = VecDeque::new();
    let mut full = None;
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        last.push_back(line);
        if last.len() > LAST_WORDS {
            full = last.pop_front().filter(|line| device::is_out_of_memory(line)).or(full);
        }
    }
    full.into_iter().chain(last).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_lines() {
        let text: String = (0..40).map(|line| format!("{line}\n")).collect();
        assert_eq!(
            last_lines(text.as_bytes()).lines().collect::<Vec<_>>(),
            (28..40).map(|n| n.to_string()).collect::<Vec<_>>()
        );
        let full = "memory allocation of 8 bytes failed";
        assert!(last_lines(format!("{full}\n{text}").as_bytes()).starts_with(&format!("{full}\n28\n")));
    }
}
