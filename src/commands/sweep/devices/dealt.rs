//! What of a sweep goes to which device.

use std::cmp::Reverse;
use std::path::Path;

use anyhow::Error;
use assay_sae::TrainConfig;

use crate::plan::GroupOutline;
use crate::record::{Failure, RunRecord};
use crate::runner::{has_state, parts_begun};

/// What a token costs of an SAE's step beside its products, in multiplications: a step of 4,096 tokens at d_model 512 and 1024, 16,384 and
/// 32,768 latents, takes 0.69 and 1.96 ms on an H100 (`results/bench`), a straight line in d_model × latents with this at 0.
const FIXED: u128 = 5_000_000;

/// How much work a group has left, in multiplications of an SAE's step: tokens × (width × latents + [`FIXED`]), summed over the runs without
/// a record, be it that of a failure.
pub(super) fn left(results: &Path, group: &GroupOutline) -> u128 {
    let is_missing = |id: &str| !RunRecord::path(results, id).exists() && !Failure::path(results, id).exists();
    let missing = group.runs.iter().filter(|run| is_missing(&run.key.id()));
    let cost = |train: &TrainConfig| train.d_model as u128 * train.d_sae as u128 + FIXED;
    missing.map(|run| u128::from(run.key.training_tokens) * cost(&run.key.train)).sum()
}

/// A group, or what goes to one device of a group that is divided.
struct Share<'a> {
    group: &'a GroupOutline,
    sites: Vec<String>,
    /// As [`left`] says.
    left: u128,
    /// Whether it may go together with others of its group.
    joins: bool,
}

impl<'a> Share<'a> {
    fn of(results: &Path, group: &'a GroupOutline, sites: Vec<String>, joins: bool) -> Self {
        let left = left(results, &group.part(&sites));
        Self { group, sites, left, joins }
    }

    /// What a group is dealt in: whole, or by its sites where it is more than a device's share; what somebody has begun to train goes on as
    /// it was begun. The last site first: one by itself, which is the first, then has the fewest layers to capture from.
    fn all(
        results: &Path,
        group: &'a GroupOutline,
        is_large: impl FnOnce() -> bool,
        damaged: &dyn Fn(&Error),
    ) -> Vec<Self> {
        let sites = group.sites();
        let whole = |sites| vec![Self::of(results, group, sites, false)];
        if has_state(results, &group.id()) {
            return whole(sites);
        }
        let begun = parts_begun(results, &sites, |sites| group.part(sites).id(), damaged);
        if begun.is_empty() && !is_large() {
            return whole(sites);
        }
        let others = sites.into_iter().filter(|site| !begun.iter().flatten().any(|begun| begun == site)).rev();
        let others: Vec<Self> = others.map(|site| Self::of(results, group, vec![site], true)).collect();
        begun.into_iter().map(|sites| Self::of(results, group, sites, false)).chain(others).collect()
    }
}

/// What is dealt of a sweep to so many devices. Each share goes to the device that has least, the largest first; then those of one group on
/// one device are one, with one capture and one evaluation. `damaged` hears of states that can't be read.
pub(super) fn dealt(
    results: &Path,
    groups: &[GroupOutline],
    devices: usize,
    damaged: &dyn Fn(&Error),
) -> Vec<GroupOutline> {
    let all: u128 = groups.iter().map(|group| left(results, group)).sum();
    let is_large = |group: &GroupOutline| left(results, group) * devices as u128 > all;
    let mut shares: Vec<Share<'_>> =
        groups.iter().flat_map(|group| Share::all(results, group, || is_large(group), damaged)).collect();
    // The first of equals comes first.
    shares.sort_by_key(|share| Reverse(share.left));
    let mut of_devices: Vec<(u128, Vec<Share<'_>>)> = (0..devices).map(|_| (0, Vec::new())).collect();
    for share in shares {
        let (sum, own) = of_devices.iter_mut().min_by_key(|(sum, _)| *sum).expect("there is a device");
        *sum += share.left;
        match own.iter_mut().find(|other| share.joins && other.joins && std::ptr::eq(other.group, share.group)) {
            Some(other) => other.sites.extend(share.sites),
            None => own.push(share),
        }
    }
    let shares = of_devices.into_iter().flat_map(|(_, own)| own);
    shares.map(|Share { group, sites, .. }| group.part(&sites)).collect()
}
