//! Rows of parquet shards as contexts: any range, with no more than two blocks of rows in memory.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::RowUse;
use crate::error::{ModelError, Result};
use crate::parquet::{BadRow, Shard};

/// The rows of all shards, one after another.
pub(super) struct Rows {
    shards: Vec<Shard>,
    /// The first row of each shard, and behind the last.
    starts: Vec<usize>,
    row_len: usize,
    context_size: usize,
    /// Tokens that are used of a row.
    used: usize,
    /// The blocks that were read last, the latest behind: passes side by side meet at their border.
    recent: Mutex<Vec<Arc<Block>>>,
}

/// The used tokens of some rows.
struct Block {
    /// Over all shards.
    rows: Range<usize>,
    tokens: Vec<u32>,
    /// Rows that can't be used, and why. They are errors only of those who read them.
    faults: Vec<(usize, Fault)>,
}

/// What can be wrong with a row.
#[derive(Clone)]
enum Fault {
    Bad(BadRow),
    Short(usize),
    NoToken(i64),
}

impl Rows {
    pub(super) fn new(path: &Path, shards: Vec<Shard>, context_size: usize, rows: RowUse) -> Result<Self> {
        let mut starts = vec![0];
        for shard in &shards {
            starts.push(starts[starts.len() - 1] + shard.rows());
        }
        let first = shards.iter().find(|s| s.rows() > 0).ok_or_else(|| ModelError::data(path, "no rows in it"))?;
        let mut row_len = Ok(0);
        first.lists(first.block_of(0), |row, ids| {
            if row == 0 {
                row_len = ids.map(<[i64]>::len);
            }
        })?;
        let row_len = row_len.map_err(|why| first.bad_row(0, why))?;
        let used = rows.of_row(path, row_len, context_size)?;
        Ok(Self { shards, starts, row_len, context_size, used, recent: Mutex::new(Vec::new()) })
    }

    pub(super) fn contexts(&self) -> usize {
        self.starts[self.shards.len()] * (self.used / self.context_size)
    }

    /// Contexts that exist, one after another.
    pub(super) fn read(&self, first: usize, count: usize) -> Result<Vec<u32>> {
        let per_row = self.used / self.context_size;
        let rows = first / per_row..(first + count).div_ceil(per_row);
        let mut tokens = Vec::with_capacity(rows.len() * self.used);
        let mut row = rows.start;
        while row < rows.end {
            let block = self.block(row)?;
            let part = row..rows.end.min(block.rows.end);
            if let Some((row, fault)) = block.faults.iter().find(|(row, _)| part.contains(row)) {
                return Err(self.fault(*row, fault.clone()));
            }
            let at = |row: usize| (row - block.rows.start) * self.used;
            tokens.extend_from_slice(&block.tokens[at(part.start)..at(part.end)]);
            row = part.end;
        }
        tokens.drain(..(first % per_row) * self.context_size);
        tokens.truncate(count * self.context_size);
        Ok(tokens)
    }

    /// The shard of a row, and its number there.
    fn place(&self, row: usize) -> (&Shard, usize) {
        let shard = self.starts.partition_point(|&start| start <= row) - 1;
        (&self.shards[shard], row - self.starts[shard])
    }

    /// The block that holds a row.
    fn block(&self, row: usize) -> Result<Arc<Block>> {
        // Held while a block is decoded: who comes at the same time mostly wants the same one.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = recent.iter().find(|b| b.rows.contains(&row)) {
            return Ok(block.clone());
        }
        if recent.len() == 2 {
            recent.remove(0);
        }
        let (shard, within) = self.place(row);
        let (rows, offset) = (shard.block_of(within), row - within);
        let mut tokens = Vec::with_capacity(rows.len() * self.used);
        let mut faults = Vec::new();
        shard.lists(rows.clone(), |row, ids| {
            let start = tokens.len();
            let fault = match ids {
                Err(why) => Some(Fault::Bad(why)),
                Ok(ids) if ids.len() < self.used => Some(Fault::Short(ids.len())),
                Ok(ids) => {
                    tokens.extend(ids[..self.used].iter().map(|&id| id as u32));
                    ids[..self.used].iter().find(|&&id| u32::try_from(id).is_err()).map(|&id| Fault::NoToken(id))
                }
            };
            tokens.resize(start + self.used, 0);
            faults.extend(fault.map(|fault| (offset + row, fault)));
        })?;
        let block = Arc::new(Block { rows: offset + rows.start..offset + rows.end, tokens, faults });
        recent.push(block.clone());
        Ok(block)
    }

    fn fault(&self, row: usize, fault: Fault) -> ModelError {
        let (shard, row) = self.place(row);
        match fault {
            Fault::Bad(why) => shard.bad_row(row, why),
            Fault::Short(len) => {
                let why = format!("row {row} has {len} tokens among rows of {}", self.row_len);
                ModelError::data(shard.path(), why)
            }
            Fault::NoToken(id) => shard.no_token(row, id),
        }
    }
}
