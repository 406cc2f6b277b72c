//! What probes take of memory.

use anyhow::{Result, ensure};
use assay_models::memory::free;
use burn::tensor::Device;
use indicatif::DecimalBytes;

use super::measure::RepresentationKind;
use super::task::Task;

/// Squares, of texts or of columns, that a fit of all columns holds: coordinates or centred columns, these once more weighted, the Hessian,
/// what is left of it without the intercept, and its factor, with room for one more.
const OF_A_FIT: u64 = 6;
const NUMBER: u64 = 8;

/// Bytes that probes of all columns of representations, by their kinds and columns, take of so many texts, where `threads` fit at a time.
/// Representations of more columns than texts have all their inner products at once ([`assay_probes::probing::Gram`]).
fn bytes(representations: &[(RepresentationKind, usize)], texts: usize, threads: usize) -> u64 {
    let texts = texts as u64;
    let (mut grams, mut fits) = (0_u64, Vec::new());
    for columns in representations.iter().filter(|(kind, _)| kind.has_all()).map(|(_, columns)| *columns as u64) {
        if columns > texts {
            grams = grams.saturating_add(texts.saturating_mul(texts));
            fits.push(texts.saturating_mul(texts));
        } else {
            fits.push(texts.saturating_mul(columns));
        }
    }
    fits.sort_unstable_by(|a, b| b.cmp(a));
    let fits = fits.into_iter().take(threads).fold(0_u64, |sum, fit| sum.saturating_add(fit.saturating_mul(OF_A_FIT)));
    grams.saturating_add(fits).saturating_mul(NUMBER)
}

/// Checks that probes of all columns of the largest of some tasks fit into the machine's memory.
///
/// # Errors
/// Says what they take and what helps.
pub fn check_memory<'a>(
    tasks: impl IntoIterator<Item = &'a Task>,
    representations: &[(RepresentationKind, usize)],
) -> Result<()> {
    check(tasks, representations, free(&Device::flex()))
}

fn check<'a>(
    tasks: impl IntoIterator<Item = &'a Task>,
    representations: &[(RepresentationKind, usize)],
    free: Option<u64>,
) -> Result<()> {
    let Some(task) = tasks.into_iter().max_by_key(|task| task.rows.len()) else { return Ok(()) };
    let needed = bytes(representations, task.rows.len(), rayon::current_num_threads());
    ensure!(
        free.is_none_or(|free| needed <= free),
        "task {}: probes of all columns of {} texts take about {}, and {} are free; lower --texts, or leave `all` out of --k",
        task.name,
        task.rows.len(),
        DecimalBytes(needed),
        DecimalBytes(free.unwrap_or_default())
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Labelled, Wanted, tasks};

    #[test]
    fn what_would_not_fit_is_refused_with_the_figure() {
        // Of 1000 texts: the inner products of two, and one fit of six squares; principal components are not probed as a whole.
        let wide = [
            (RepresentationKind::Sae, 4096),
            (RepresentationKind::Words, 1001),
            (RepresentationKind::Principal, 1 << 20),
        ];
        assert_eq!(bytes(&wide, 1000, 1), 8 * 1_000_000 * (2 + 6));
        assert_eq!(bytes(&wide, 1000, 8), 8 * 1_000_000 * (2 + 12));
        assert_eq!(bytes(&[(RepresentationKind::Residual, 64)], 1000, 2), 8 * 64_000 * 6);
        assert_eq!(bytes(&wide, usize::MAX, 2), u64::MAX, "and does not overflow");

        let set = Labelled::new("s", (0..120).map(|at| (format!("{at}"), format!("{}", at % 2), None))).unwrap();
        let (tasks, _) = tasks(&set, Wanted { most: 100, test_share: 0.25, balance: true, seed: 0 });
        check(&tasks, &wide, Some(10_000_000)).unwrap();
        check(&tasks, &wide, None).unwrap();
        let error = check(&tasks, &wide, Some(100_000)).unwrap_err().to_string();
        for part in ["task s", "texts take about", "100.00 kB are free", "--texts", "--k"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
