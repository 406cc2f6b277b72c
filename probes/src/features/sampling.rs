//! Draws by fixed seeds.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Up to `count` of some items at random, in the order in which they were.
pub fn sample(mut items: Vec<usize>, count: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    // The first steps of a shuffle by Fisher and Yates.
    for at in 0..count.min(items.len()) {
        let other = rng.random_range(at..items.len());
        items.swap(at, other);
    }
    items.truncate(count);
    items.sort_unstable();
    items
}

/// Draws some of the contexts in which a latent fires, from the stream of its firings.
#[derive(Clone, Debug)]
pub struct ContextSample {
    count: usize,
    contexts: Vec<usize>,
    seen: u64,
    last: Option<usize>,
    rng: ChaCha8Rng,
}

impl ContextSample {
    /// Up to `count` contexts of a latent, whose number is the seed's stream.
    pub fn new(latent: usize, count: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        rng.set_stream(latent as u64);
        Self { count, contexts: Vec::new(), seen: 0, last: None, rng }
    }

    /// Takes the context of the next firing; contexts ascend.
    pub fn push(&mut self, context: usize) {
        if self.last.replace(context) == Some(context) {
            return;
        }
        self.seen += 1;
        if self.contexts.len() < self.count {
            self.contexts.push(context);
        } else if let Some(slot) = self.contexts.get_mut(self.rng.random_range(0..self.seen) as usize) {
            *slot = context;
        }
    }

    /// The contexts, ascending.
    pub fn finish(mut self) -> Vec<usize> {
        self.contexts.sort_unstable();
        self.contexts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_as_likely() {
        assert_eq!(sample(vec![4, 5, 6], 9), [4, 5, 6]);
        assert_eq!(sample((0..100).collect(), 10), sample((0..100).collect(), 10));
        let mut hits = [0; 10];
        for latent in 0..3000 {
            let mut draw = ContextSample::new(latent, 3);
            (0..20).for_each(|firing| draw.push(firing / 2));
            let drawn = draw.finish();
            assert!(drawn.len() == 3 && drawn.is_sorted());
            drawn.into_iter().for_each(|context| hits[context] += 1);
        }
        // 900 are expected, with a standard deviation of 25.
        assert!(hits.iter().all(|&n| (775..1025).contains(&n)), "{hits:?}");
    }
}
