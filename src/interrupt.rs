//! Stopping on request: SIGINT (Ctrl-C) and SIGTERM (what a cluster sends before it kills).
//!
//! The first signal asks: work in progress looks at [`requested`] between its steps, saves what it has and ends with
//! [`Interrupted`]. A second one, a second later or more, ends the process at once; every file is written whole or not at all, so nothing
//! finished is lost. What comes within the second is the same request: `timeout` and some schedulers signal the process and then its group,
//! of which it is a member. Work of one long piece that has nothing to save is left behind: [`unless_requested`].

use std::fmt::{self, Display};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use anyhow::{Context as _, Result};
use assay_probes::ProbeError;

/// SIGINT on every system; its exit code is that of an interrupt without a signal, too.
const SIGINT: usize = 2;

/// Signals that come within so long of the first are one request.
#[cfg(unix)]
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// How often [`unless_requested`] looks whether somebody asked to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The work was stopped on request.
#[derive(Clone, Debug)]
pub struct Interrupted {
    /// What was saved, and how to continue.
    pub saved: String,
}

impl Interrupted {
    /// Of a command that writes at its end alone.
    pub fn with_nothing_written() -> Self {
        Self { saved: "nothing is written; the same command starts from the beginning".to_owned() }
    }
}

impl Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted; {}", self.saved)
    }
}

impl std::error::Error for Interrupted {}

fn flag() -> &'static Arc<AtomicBool> {
    static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    REQUESTED.get_or_init(Arc::default)
}

/// The signal that came last; 0 before any.
fn signal() -> &'static Arc<AtomicUsize> {
    static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
    SIGNAL.get_or_init(Arc::default)
}

/// The program's exit code after an interrupt, as a shell reports it: 128 and the number of the signal, 130 after SIGINT and 143 after
/// SIGTERM.
pub fn exit_code() -> u8 {
    let signal = match signal().load(Ordering::Relaxed) {
        0 => SIGINT,
        signal => signal,
    };
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Asks to stop, as a signal does.
pub fn request() {
    flag().store(true, Ordering::Relaxed);
}

/// From now on the first signal only asks. Before this is called a signal ends the process, as is usual.
///
/// # Errors
/// If the system refuses a handler, or the thread that waits for a second signal.
pub fn listen() -> Result<()> {
    #[cfg(unix)]
    {
        use std::io::Read;
        use std::os::unix::net::UnixStream;

        // A byte for each signal: a handler may not do more than write one, and only a thread can tell what is a second request.
        let (mut signals, handler) = UnixStream::pair()?;
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_usize(signal, Arc::clone(self::signal()), signal as usize)?;
            signal_hook::flag::register(signal, Arc::clone(flag()))?;
            signal_hook::low_level::pipe::register(signal, handler.try_clone()?)?;
        }
        thread::Builder::new().name("signals".into()).spawn(move || {
            let mut first = None;
            while signals.read_exact(&mut [0]).is_ok() {
                if first.get_or_insert_with(Instant::now).elapsed() >= SAME_REQUEST {
                    signal_hook::low_level::exit(exit_code().into());
                }
            }
        })?;
    }
    Ok(())
}

/// What `work` returns, or `None` as soon as somebody asks to stop: then it is left behind on its thread, which ends with the process. It is for
/// work that leaves nothing half done and is made of pieces that take minutes, within which nothing can be asked. Of what it sends `tick`
/// is told, on this thread; where it can't be sent any more, nobody waits for the rest.
///
/// # Errors
/// If there is no thread to be had.
///
/// # Panics
/// If `work` does.
pub fn unless_requested<T: Send + 'static, P: Send + 'static>(
    work: impl FnOnce(&Sender<P>) -> T + Send + 'static,
    mut tick: impl FnMut(P),
) -> Result<Option<T>> {
    let (said, heard) = channel();
    let started = thread::Builder::new().name("work".into()).spawn(move || work(&said));
    let working = started.context("no thread to work on")?;
    loop {
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(progress) => tick(progress),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Some(working.join().unwrap_or_else(|panic| resume_unwind(panic))));
            }
        }
        if requested() {
            return Ok(None);
        }
    }
}

/// Whether somebody asked to stop.
pub fn requested() -> bool {
    flag().load(Ordering::Relaxed)
}

/// `None` where work stopped because [`flow`] asked it to.
///
/// # Errors
/// Those of the work.
pub fn unless_stopped<T>(found: Result<T, ProbeError>) -> Result<Option<T>, ProbeError> {
    match found {
        Err(ProbeError::Stopped) => Ok(None),
        found => found.map(Some),
    }
}

/// The same as [`requested`], for work that reports its progress to a callback.
pub fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent arrives in order, and the result is that of the work; a panic of the work is one here.
    #[test]
    fn work_on_a_thread_of_its_own_is_as_if_it_were_here() {
        let mut heard = Vec::new();
        let work = |said: &Sender<u32>| (0..5).map(|at| said.send(at).map(|()| at).unwrap()).sum::<u32>();
        assert_eq!(unless_requested(work, |at| heard.push(at)).unwrap(), Some(10));
        assert_eq!(heard, [0, 1, 2, 3, 4]);
        let panics = std::panic::catch_unwind(|| unless_requested(|_: &Sender<()>| panic!("in the work"), |()| {}));
        assert!(panics.is_err());
    }
}
