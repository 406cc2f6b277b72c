//! Latents that fire together.

use rayon::prelude::*;

/// The latent that fires most where another does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Partner {
    /// Its number.
    pub latent: usize,
    /// |A ∩ B| / |A ∪ B| over the tokens on which either fires (Jaccard 1901).
    pub jaccard: f64,
}

/// Of each latent the other with the largest Jaccard index, ties to the lowest number; `None` if it never fires, or no other where it does.
///
/// `firings` has the tokens of each latent, ascending, all below `tokens`. It costs as many steps as there are pairs of firings on a token.
///
/// # Panics
/// If a token is not below `tokens`, or there are 2³² firings.
pub fn partners(firings: &[Vec<u32>], tokens: usize) -> Vec<Option<Partner>> {
    let total: usize = firings.iter().map(Vec::len).sum();
    assert!(u32::try_from(total).is_ok(), "{total} firings");
    // The same by token: those of a token begin at the entry after it, which moves to their end as they come, where the next one's begin.
    let mut starts = vec![0_u32; tokens + 2];
    firings.iter().flatten().for_each(|&token| starts[token as usize + 2] += 1);
    (0..tokens).for_each(|token| starts[token + 2] += starts[token + 1]);
    let mut latents = vec![0_u32; total];
    for (latent, of) in firings.iter().enumerate() {
        for &token in of {
            let next = &mut starts[token as usize + 1];
            latents[*next as usize] = latent as u32;
            *next += 1;
        }
    }
    let together = |counts: &mut Vec<u32>, (latent, of): (usize, &Vec<u32>)| {
        let mut touched = Vec::new();
        for &token in of {
            for &other in &latents[starts[token as usize] as usize..starts[token as usize + 1] as usize] {
                if counts[other as usize] == 0 {
                    touched.push(other);
                }
                counts[other as usize] += 1;
            }
        }
        touched.sort_unstable();
        let mut best: Option<Partner> = None;
        for other in touched {
            let both = std::mem::take(&mut counts[other as usize]) as usize;
            let other = other as usize;
            let jaccard = both as f64 / (of.len() + firings[other].len() - both) as f64;
            if other != latent && best.is_none_or(|best| jaccard > best.jaccard) {
                best = Some(Partner { latent: other, jaccard });
            }
        }
        best
    };
    firings.par_iter().enumerate().map_init(|| vec![0; firings.len()], together).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_are_those_of_the_definition() {
        let firings = vec![vec![0, 1, 2, 3], vec![2, 3, 4], vec![5], vec![], vec![0, 1, 2, 3, 4, 5]];
        let found = partners(&firings, 6);
        let expected = |i: usize| {
            let sets = |j: usize| firings[j].iter().collect::<std::collections::BTreeSet<_>>();
            let jaccard = |j: usize| {
                let (a, b) = (sets(i), sets(j));
                (a.intersection(&b).count() as f64, a.union(&b).count() as f64)
            };
            let all = (0..5).filter(|&j| j != i).map(|j| (j, jaccard(j))).filter(|(_, (both, _))| *both > 0.0);
            let mut best: Option<Partner> = None;
            for (latent, (both, any)) in all {
                if best.is_none_or(|best| both / any > best.jaccard) {
                    best = Some(Partner { latent, jaccard: both / any });
                }
            }
            best
        };
        assert_eq!(found, (0..5).map(expected).collect::<Vec<_>>());
        assert_eq!((found[0].unwrap().latent, found[3]), (4, None));
        assert_eq!(found[2], Some(Partner { latent: 4, jaccard: 1.0 / 6.0 }));
    }
}
