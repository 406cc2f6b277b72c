//! The latents above their thresholds, and those between two: listed of each token in ascending order, by a plane a token. Groups of
//! latents whose largest is below all that is asked for are passed over.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, Waker};

use assay_kernels::packed::GROUP;
use assay_kernels::tensor::{contiguous, cubes_for, dims2, empty, len, slice};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::future::block_on;
use cubecl::prelude::*;

use super::Scores;
use super::reaching::{AHEAD, BLOCK, PLANES, list_reaching};
use crate::kernels::Coming;
use crate::kernels::gpu::scan::starts_of_both;
use crate::kernels::gpu::{UNITS, plane_size};

/// A code's values, indices and starts of rows.
type Listed = (CubeTensor, CubeTensor, CubeTensor);

impl Scores {
    /// See [`crate::kernels::Scores::split`].
    pub(in crate::kernels::gpu) fn split(
        &self,
        threshold: CubeTensor,
        low: CubeTensor,
        both: bool,
        room: Option<([usize; 2], Coming)>,
    ) -> ([Listed; 2], CubeTensor) {
        let (threshold, low) = (contiguous(threshold), contiguous(low));
        let ([tokens, n], [_, groups]) = (dims2(&self.pre), dims2(&self.maxima));
        let floors = empty(&self.pre, [groups], DType::F32);
        // SAFETY: the kernel checks its positions.
        #[allow(unsafe_code)]
        unsafe {
            floors_of_groups::launch_unchecked(
                &self.pre.client,
                cubes_for(groups, UNITS / plane_size(&self.pre)),
                CubeDim::new_1d(UNITS as u32),
                slice(&threshold, 1),
                slice(&low, 1),
                slice(&floors, 1),
                n,
                groups,
                both,
            );
        }
        let counts = [0; 2].map(|_| empty(&self.pre, [tokens], DType::I32));
        // Nothing is written at first, so that anything of the type will do.
        let nowhere = [(&self.pre, &counts[0]), (&self.pre, &counts[0])];
        self.list(&threshold, &low, &floors, &counts, &counts, nowhere, both, false);
        let (starts, totals, active) =
            starts_of_both(&counts, room.as_ref().map_or([usize::MAX; 2], |(room, _)| *room));
        let read = read_later(&totals);
        let room = match room {
            Some((room, coming)) => {
                coming.put(read);
                room
            }
            None => read(),
        };
        let room = room.map(|room| [DType::F32, DType::I32].map(|dtype| empty(&self.pre, [room.max(1)], dtype)));
        let places = [(&room[0][0], &room[0][1]), (&room[1][0], &room[1][1])];
        self.list(&threshold, &low, &floors, &counts, &starts, places, both, true);
        let [[values, indices], [low_values, low_indices]] = room;
        let [starts, low_starts] = starts;
        ([(values, indices, starts), (low_values, low_indices, low_starts)], active)
    }

    fn list(
        &self,
        threshold: &CubeTensor,
        low: &CubeTensor,
        floors: &CubeTensor,
        counts: &[CubeTensor; 2],
        starts: &[CubeTensor; 2],
        room: [(&CubeTensor, &CubeTensor); 2],
        both: bool,
        write: bool,
    ) {
        let ([tokens, n], [_, groups]) = (dims2(&self.pre), dims2(&self.maxima));
        let planes = UNITS / plane_size(&self.pre);
        // SAFETY: the kernel checks its positions; rows lie within the entries.
        #[allow(unsafe_code)]
        unsafe {
            list::launch_unchecked(
                &self.pre.client,
                cubes_for(tokens, planes),
                CubeDim::new_1d(UNITS as u32),
                slice(&self.pre, 1),
                slice(&self.maxima, 1),
                slice(threshold, 1),
                slice(low, 1),
                slice(floors, 1),
                slice(&counts[0], 1),
                slice(&counts[1], 1),
                slice(&starts[0], 1),
                slice(&starts[1], 1),
                slice(room[0].0, 1),
                slice(room[0].1, 1),
                slice(room[1].0, 1),
                slice(room[1].1, 1),
                len(room[0].0),
                len(room[1].0),
                tokens,
                n,
                groups,
                both,
                write,
            );
        }
    }
}

/// Queues a copy of two numbers to the host; the result waits for it.
fn read_later(totals: &CubeTensor) -> impl FnOnce() -> [usize; 2] + Send + 'static {
    let (client, handle) = (totals.client.clone(), totals.handle.clone());
    let mut read = Box::pin(async move {
        let read = client.read_async(vec![handle]);
        let mut is_queued = false;
        poll_fn(|_| if std::mem::replace(&mut is_queued, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        read.await
    });
    // As far as the pause above.
    let paused = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    debug_assert!(paused.is_pending(), "the first poll only queues");
    move || {
        let read = block_on(read).unwrap_or_else(|error| panic!("the device failed: {error:?}"));
        [0, 4].map(|at| i32::from_ne_bytes(read[0][at..at + 4].try_into().expect("four bytes")) as usize)
    }
}

/// The least that is asked for of any latent of a group: a plane a group.
#[cube(launch_unchecked)]
fn floors_of_groups(
    threshold: &[f32],
    low: &[f32],
    floors: &mut [f32],
    n: usize,
    groups: usize,
    #[comptime] both: bool,
) {
    let group = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if group < groups {
        let mut least = f32::new(f32::INFINITY);
        let latent = group * GROUP + UNIT_POS_PLANE as usize;
        if latent < n {
            least = threshold[latent];
            if comptime!(both) {
                least = min(least, low[latent]);
            }
        }
        let least = plane_min(least);
        if UNIT_POS_PLANE == 0 {
            floors[group] = least;
        }
    }
}

/// What is nobody's is 0: a part of the places from `start` on, up to the end of the room.
#[cube]
fn clear(values: &mut [f32], indices: &mut [i32], start: i32, room: usize, units: usize) {
    let mut place = usize::cast_from(start) + ABSOLUTE_POS;
    while place < room {
        values[place] = 0.0f32;
        indices[place] = 0i32;
        place += units;
    }
}

/// Counts of each token the latents above their thresholds, and with `both` those between `low` and threshold; or with `write`, writes
/// them as far as there is room, and zeros behind the last.
#[cube(launch_unchecked)]
fn list(
    pre: &[f32],
    maxima: &[f32],
    threshold: &[f32],
    low: &[f32],
    floors: &[f32],
    counts: &mut [i32],
    low_counts: &mut [i32],
    starts: &[i32],
    low_starts: &[i32],
    values: &mut [f32],
    indices: &mut [i32],
    low_values: &mut [f32],
    low_indices: &mut [i32],
    room: usize,
    low_room: usize,
    tokens: usize,
    n: usize,
    groups: usize,
    #[comptime] both: bool,
    #[comptime] write: bool,
) {
    if comptime!(write) {
        let units = CUBE_COUNT * CUBE_DIM as usize;
        clear(values, indices, starts[tokens], room, units);
        clear(low_values, low_indices, low_starts[tokens], low_room, units);
    }
    let mut list = Shared::<[u32]>::new_slice(BLOCK * PLANES);
    let own_list = PLANE_POS as usize * BLOCK;
    let token = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if token < tokens {
        let row = token * n;
        let before_unit = (1u32 << UNIT_POS_PLANE) - 1u32;
        let mut at = 0u32;
        let mut low_at = 0u32;
        if comptime!(write) {
            at = u32::cast_from(starts[token]);
            low_at = u32::cast_from(low_starts[token]);
        }
        let mut start = 0usize;
        while start < groups {
            let reaching = list_reaching(maxima, floors, 0u32, &mut list, own_list, token, start, groups, true);
            let mut item = 0usize;
            while item < reaching {
                let mut held = Array::<f32>::new(AHEAD);
                let mut which = Array::<u32>::new(AHEAD);
                let mut is_above = Array::<bool>::new(AHEAD);
                let mut is_between = Array::<bool>::new(AHEAD);
                #[unroll]
                for u in 0..AHEAD {
                    held[u] = 0.0f32;
                    which[u] = 0u32;
                    is_above[u] = false;
                    is_between[u] = false;
                    if item + u < reaching {
                        which[u] = list[own_list + item + u] * GROUP as u32 + UNIT_POS_PLANE;
                        let latent = which[u] as usize;
                        if latent < n {
                            held[u] = pre[row + latent];
                            is_above[u] = held[u] > threshold[latent];
                            if comptime!(both) {
                                is_between[u] = held[u] > low[latent] && held[u] <= threshold[latent];
                            }
                        }
                    }
                }
                #[unroll]
                for u in 0..AHEAD {
                    let above = plane_ballot(is_above[u]).extract(0usize);
                    if comptime!(write) {
                        let place = (at + (above & before_unit).count_ones()) as usize;
                        if is_above[u] && place < room {
                            values[place] = held[u];
                            indices[place] = i32::cast_from(which[u]);
                        }
                    }
                    at += above.count_ones();
                    if comptime!(both) {
                        let between = plane_ballot(is_between[u]).extract(0usize);
                        if comptime!(write) {
                            let place = (low_at + (between & before_unit).count_ones()) as usize;
                            if is_between[u] && place < low_room {
                                low_values[place] = held[u];
                                low_indices[place] = i32::cast_from(which[u]);
                            }
                        }
                        low_at += between.count_ones();
                    }
                }
                item += AHEAD;
            }
            sync_plane();
            start += BLOCK;
        }
        if comptime!(!write) {
            if UNIT_POS_PLANE == 0 {
                counts[token] = i32::cast_from(at);
                low_counts[token] = i32::cast_from(low_at);
            }
        }
    }
}
