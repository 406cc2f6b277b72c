//! Codes of any length, listed before the host knows how long they are.
//!
//! To ask a device how many latents a batch has above their thresholds is to wait for it, and to leave it with nothing to do meanwhile. So
//! room is made for a quarter more than the batch before had, and the residual is queued; by then the number is there. Where codes did not
//! fit, or their length calls for rows of another format, both are made again. So no bit depends on the guess, and none of it needs to
//! be in a checkpoint.

use burn::tensor::Tensor;

use super::frame::Frame;
use crate::code::SparseCode;
use crate::kernels::{Coming, Scores, Split};

/// Room beyond a quarter more than before, in entries.
const SPARE: usize = 1024;

/// The latents of a batch above their thresholds, and those between two where they are asked for.
pub(super) struct Listing {
    split: Split,
    /// How many entries both have; as long as there is a guess, how many those of the batch before had.
    entries: [usize; 2],
    guess: Option<Guess>,
}

/// What it takes to list again.
struct Guess {
    scores: Scores,
    threshold: Tensor<1>,
    low: Option<Tensor<1>>,
    room: [usize; 2],
    /// How many entries there are.
    coming: Coming,
}

impl Listing {
    /// With room for about as many entries as a batch had `before`; without that it waits for their number.
    pub(super) fn new(
        scores: Scores,
        threshold: Tensor<1>,
        low: Option<Tensor<1>>,
        before: Option<[usize; 2]>,
    ) -> Self {
        let Some(entries) = before else { return Self::exact(scores.split(threshold, low, None)) };
        let (room, coming) = (entries.map(|entries| entries + entries / 4 + SPARE), Coming::default());
        let split = scores.split(threshold.clone(), low.clone(), Some((room, coming.clone())));
        Self { split, entries, guess: Some(Guess { scores, threshold, low, room, coming }) }
    }

    fn exact(split: Split) -> Self {
        Self { entries: entries_of(&split), split, guess: None }
    }

    /// What is above.
    pub(super) fn above(&self) -> &SparseCode {
        &self.split.above
    }

    /// What is between, where it was asked for.
    pub(super) fn between(&self) -> Option<&SparseCode> {
        self.split.between.as_ref()
    }

    /// How many entries are above, in one element.
    pub(super) fn active(&self) -> Tensor<1> {
        self.split.active.clone()
    }

    /// How many entries there are above and between, as far as the host knows.
    pub(super) fn entries(&self) -> [usize; 2] {
        self.entries
    }

    /// What [`Frame::residual`] is of the code above. Codes and frame are right from then on.
    pub(super) fn residual(&mut self, frame: &mut Frame, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let residual = self.checked_residual(frame, target);
        self.split.above = self.split.above.clone().marked();
        residual
    }

    fn checked_residual(&mut self, frame: &mut Frame, target: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let Some(Guess { scores, threshold, low, room, coming }) = self.guess.take() else {
            return frame.residual(&self.split.above, target);
        };
        let guessed = frame.residual(&self.split.above, target.clone());
        let counted = coming.wait();
        self.entries = counted.unwrap_or_else(|| entries_of(&self.split));
        // A device that lists at once has made room for all.
        let fits = counted.is_none_or(|entries| entries[0] <= room[0] && entries[1] <= room[1]);
        if !fits {
            *self = Self::exact(scores.split(threshold, low, None));
        }
        if frame.fit(self.entries[0] as f64) || !fits { frame.residual(&self.split.above, target) } else { guessed }
    }
}

/// How many entries codes have that are exactly as long as they must be.
fn entries_of(split: &Split) -> [usize; 2] {
    [split.above.entries(), split.between.as_ref().map_or(0, SparseCode::entries)]
}
