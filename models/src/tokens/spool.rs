//! Tokens that are made once, in order, and then read in any order from a temporary file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{ModelError, Result};

/// Tokens, some at a time.
pub(super) type Tokens = Box<dyn Iterator<Item = Result<Vec<u32>>> + Send>;

/// The tokens of a source, as far as they have been asked for.
pub(super) struct Spool {
    source: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Where tokens are kept, 4 bytes each, once there are any.
    file: Option<File>,
    /// How many those are.
    made: usize,
    /// Those to come; `None` at the end.
    rest: Option<Tokens>,
}

impl Spool {
    /// `source` is what messages name.
    pub(super) fn new(source: &Path, tokens: Tokens) -> Self {
        Self { source: source.to_owned(), state: Mutex::new(State { file: None, made: 0, rest: Some(tokens) }) }
    }

    /// Makes tokens until there are `wanted` or no more, and gives how many there are; `report` hears how many each part had.
    pub(super) fn make(&self, wanted: usize, report: &mut dyn FnMut(u64)) -> Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.made < wanted {
            let Some(rest) = &mut state.rest else { break };
            match rest.next() {
                Some(Ok(tokens)) => {
                    state.append(&tokens).map_err(|e| self.storing(&e))?;
                    report(tokens.len() as u64);
                }
                Some(Err(error)) => {
                    // Or what is missing would look like the end the next time.
                    let (source, again) = (self.source.clone(), error.to_string());
                    state.rest = Some(Box::new(std::iter::repeat_with(move || Err(ModelError::data(&source, &again)))));
                    return Err(error);
                }
                None => state.rest = None,
            }
        }
        Ok(state.made)
    }

    /// Tokens that have been made.
    pub(super) fn read(&self, first: usize, count: usize) -> Result<Vec<u32>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.read(first, count).map_err(|e| self.storing(&e))
    }

    fn storing(&self, e: &io::Error) -> ModelError {
        let dir = std::env::temp_dir();
        let why = format!(
            "its token ids can't be kept in {} ({e}); they take 4 bytes each: set TMPDIR to a directory with room",
            dir.display()
        );
        ModelError::data(&self.source, why)
    }
}

impl State {
    fn append(&mut self, tokens: &[u32]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            // Without a name: it is gone when it is closed, however the program ends.
            none => none.insert(tempfile::tempfile()?),
        };
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        // Not where the file ends: a write that failed half-way is written over.
        file.seek(SeekFrom::Start(4 * self.made as u64))?;
        file.write_all(&bytes)?;
        self.made += tokens.len();
        Ok(())
    }

    fn read(&mut self, first: usize, count: usize) -> io::Result<Vec<u32>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        let mut bytes = vec![0; 4 * count];
        file.seek(SeekFrom::Start(4 * first as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().expect("4 bytes"))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn tokens_are_made_as_far_as_they_are_asked_for_and_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let tokens = (0..10_u32).map(move |i| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(vec![2 * i, 2 * i + 1])
        });
        let spool = Spool::new(Path::new("t"), Box::new(tokens));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        let mut seen = 0;
        assert_eq!(spool.make(5, &mut |n| seen += n).unwrap(), 6);
        assert_eq!((asked.load(Ordering::Relaxed), seen), (3, 6));
        assert_eq!(spool.read(1, 4).unwrap(), [1, 2, 3, 4]);
        assert_eq!(spool.make(usize::MAX, &mut |_| ()).unwrap(), 20);
        assert_eq!(spool.make(30, &mut |_| ()).unwrap(), 20);
        assert_eq!(asked.load(Ordering::Relaxed), 10);
        assert_eq!(spool.read(0, 20).unwrap(), (0..20).collect::<Vec<u32>>());
    }

    #[test]
    fn a_failure_is_never_taken_for_the_end() {
        let bad = || ModelError::data(Path::new("shard"), "line 7: bad");
        let tokens = [Ok(vec![1, 2]), Err(bad()), Ok(vec![3])].into_iter();
        let spool = Spool::new(Path::new("t"), Box::new(tokens));
        for _ in 0..3 {
            let message = spool.make(3, &mut |_| ()).unwrap_err().to_string();
            assert!(message.contains("shard: line 7: bad"), "{message}");
        }
        assert_eq!(spool.make(2, &mut |_| ()).unwrap(), 2);
    }
}
