//! How long an evaluation will take, told after its first batch.

use std::time::{Duration, Instant};

use crate::progress::duration;

/// The clock of an evaluation.
pub(super) struct Pace {
    sequences: usize,
    context_size: usize,
    /// When the batches began.
    begun: Option<Instant>,
    told: bool,
}

/// Shorter waits are not announced.
const WORTH_TELLING: Duration = Duration::from_secs(10);

impl Pace {
    pub(super) fn new(sequences: usize, context_size: usize) -> Self {
        Self { sequences, context_size, begun: None, told: false }
    }

    /// Told 0 while the tokens are surveyed, then what `evaluate` tells of its progress; gives the estimate once, after the first batch.
    pub(super) fn after(&mut self, batch: usize) -> Option<String> {
        if batch == 0 {
            // Still surveying, or done with it: the batches begin with the last of these.
            self.begun = Some(Instant::now());
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        if batch == 0 || self.told {
            return None;
        }
        self.told = true;
        self.estimate(batch, begun.elapsed())
    }

    fn estimate(&self, batch: usize, took: Duration) -> Option<String> {
        let left = took.mul_f64(self.sequences.saturating_sub(batch) as f64 / batch as f64);
        (left >= WORTH_TELLING).then(|| {
            let time = duration(left.as_secs_f64());
            format!(
                "about {time} for {} sequences of {} tokens; --sequences N, --context-size N or --fisher-samples 0 takes less",
                self.sequences, self.context_size
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_announced_and_a_short_one_is_not() {
        let pace = Pace::new(48, 1024);
        let told = pace.estimate(1, Duration::from_secs(3)).unwrap();
        assert!(told.starts_with("about 2 min for 48 sequences of 1024 tokens; --sequences"), "{told}");
        assert!(pace.estimate(8, Duration::from_secs(3)).unwrap().starts_with("about 15 s for 48"));
        assert_eq!(pace.estimate(8, Duration::from_secs(1)), None);
        assert_eq!(pace.estimate(48, Duration::from_secs(600)), None);
    }

    #[test]
    fn the_estimate_is_given_once_after_the_first_batch() {
        let mut pace = Pace::new(1_000_000_000, 8);
        assert_eq!(pace.after(0), None);
        std::thread::sleep(Duration::from_millis(2));
        assert!(pace.after(1).is_some());
        assert_eq!(pace.after(1), None);
    }
}
