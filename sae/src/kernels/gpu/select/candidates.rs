//! Latents of each token that can be among the largest of a batch: those that reach a bound, kept in order when they are first met, as
//! far as there is room, so that what comes later reads a few numbers and not all maxima. A token that has more of them than room is
//! gone through anew, group by group.

use assay_kernels::packed::GROUP;
use cubecl::prelude::*;

use super::reaching::list_reaching;

/// Room for the candidates of a token, where `count` numbers are chosen of all tokens.
pub(super) fn room_of(count: usize, tokens: usize, n: usize) -> usize {
    (4 * count.div_ceil(tokens.max(1))).max(1).next_multiple_of(32).min(n)
}

/// How many times 32 latents the block of groups from `start` on has to look at: candidates, where all are `kept`, else of the groups that
/// reach `bound`, which are listed.
#[cube]
pub(super) fn items_of(
    maxima: &[f32],
    bound: u32,
    list: &mut Shared<[u32]>,
    own: usize,
    token: usize,
    start: usize,
    groups: usize,
    found: u32,
    kept: bool,
) -> usize {
    let mut items = (found as usize + 31usize) / 32usize;
    if !kept {
        items = list_reaching(maxima, maxima, bound, list, own, token, start, groups, false);
    }
    items
}

/// This unit's latent of an item; n, which is none, where it has none.
#[cube]
pub(super) fn latent_of(
    candidates: &mut [u32],
    list: &Shared<[u32]>,
    own: usize,
    row: usize,
    item: usize,
    items: usize,
    found: u32,
    n: usize,
    kept: bool,
) -> u32 {
    let mut latent = n as u32;
    if item < items {
        if kept {
            let at = item * 32usize + UNIT_POS_PLANE as usize;
            if at < found as usize {
                latent = candidates[row + at];
            }
        } else {
            latent = list[own + item] * GROUP as u32 + UNIT_POS_PLANE;
        }
    }
    latent
}
