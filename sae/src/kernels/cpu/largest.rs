//! The largest of all positive numbers of a batch, exactly and without sorting.

use rayon::prelude::*;

/// Numbers that one task looks at: fixed, though counts don't depend on it.
const CHUNK: usize = 1 << 14;
/// Of a positive float's 31 bits, those that each pass tells apart: the highest first.
const DIGITS: [(u32, usize); 3] = [(20, 1 << 11), (9, 1 << 11), (0, 1 << 9)];

/// Where a selection ends: all that is above `least` belongs to it, and of what equals it the first `ties`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    pub least: f32,
    pub ties: usize,
}

impl Cut {
    /// Everything that is positive.
    const ALL: Self = Self { least: 0.0, ties: 0 };

    /// Where the `count` largest of the positive values end, or of all of them where there are fewer. NaN is not positive.
    ///
    /// The bits of positive floats ascend as their values do, so that a digit of them at a time is counted, from the highest: the digit
    /// in which the count is reached is that of the least value chosen.
    pub fn of(values: &[f32], count: usize) -> Self {
        if count == 0 {
            return Self { least: f32::INFINITY, ties: 0 };
        }
        let (mut prefix, mut left, mut above) = (0_u32, count, 31);
        for (shift, size) in DIGITS {
            let counts = histogram(values, prefix, above, shift, size);
            let Some(digit) = reach(&counts, &mut left) else { return Self::ALL };
            prefix |= (digit as u32) << shift;
            above = shift;
        }
        Self { least: f32::from_bits(prefix), ties: left }
    }

    /// The positions in each row that belong to the selection, ascending; ties are taken in the order of the rows.
    ///
    /// # Shapes
    /// - `values`: rows of `width`
    pub fn rows(self, values: &[f32], width: usize) -> Vec<Vec<usize>> {
        let ties_of = |row: &[f32]| row.iter().filter(|&&value| value == self.least).count();
        let ties: Vec<usize> = if self.ties == 0 {
            vec![0; values.len() / width]
        } else {
            values.par_chunks(width).map(ties_of).collect()
        };
        let mut left = self.ties;
        let allowed: Vec<usize> = ties
            .into_iter()
            .map(|ties| {
                let own = ties.min(left);
                left -= own;
                own
            })
            .collect();
        let chosen = |(row, mut ties): (&[f32], usize)| {
            let mut is_chosen = |value: f32| {
                let tie = value == self.least && ties > 0;
                ties -= usize::from(tie);
                tie || value > self.least
            };
            row.iter().enumerate().filter(|(_, value)| is_chosen(**value)).map(|(at, _)| at).collect()
        };
        values.par_chunks(width).zip(allowed).map(chosen).collect()
    }
}

/// How many positive values whose bits from `above` on are those of `prefix` have each digit at `shift`.
fn histogram(values: &[f32], prefix: u32, above: u32, shift: u32, size: usize) -> Vec<usize> {
    let count = |mut counts: Vec<usize>, chunk: &[f32]| {
        for &value in chunk {
            let bits = value.to_bits();
            if value > 0.0 && bits >> above == prefix >> above {
                counts[(bits >> shift) as usize & (size - 1)] += 1;
            }
        }
        counts
    };
    let zeros = || vec![0; size];
    let add = |mut a: Vec<usize>, b: Vec<usize>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    values.par_chunks(CHUNK).fold(zeros, count).reduce(zeros, add)
}

/// The highest digit with which, from the largest down, `left` values are reached, less those above it; `None` if there are fewer.
fn reach(counts: &[usize], left: &mut usize) -> Option<usize> {
    for (digit, &count) in counts.iter().enumerate().rev() {
        if count >= *left && *left > 0 {
            return Some(digit);
        }
        *left -= count.min(*left);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_sorting(values: &[f32], count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..values.len()).filter(|&at| values[at] > 0.0).collect();
        // A stable sort: equal values stay in the order of their positions.
        order.sort_by(|&a, &b| values[b].partial_cmp(&values[a]).unwrap());
        order.truncate(count);
        order.sort_unstable();
        order
    }

    proptest! {
        #[test]
        fn equals_a_stable_sort(
            width in 1_usize..20,
            rows in prop::collection::vec(prop::collection::vec(prop_oneof![
                4 => -3.0_f32..3.0,
                3 => (-2_i8..3).prop_map(f32::from),
                1 => prop::num::f32::ANY,
            ], 20), 1..40),
            count in 0_usize..500,
        ) {
            let values: Vec<f32> = rows.iter().flat_map(|row| &row[..width]).copied().collect();
            let chosen = Cut::of(&values, count).rows(&values, width);
            let flat: Vec<usize> =
                chosen.iter().enumerate().flat_map(|(row, at)| at.iter().map(move |at| row * width + at)).collect();
            prop_assert_eq!(flat, by_sorting(&values, count));
        }
    }

    #[test]
    fn ties_go_to_the_first_token_and_then_to_the_first_latent() {
        let values = [1.0, 2.0, 1.0, 1.0, f32::NAN, 1.0, -1.0, 0.0, f32::INFINITY];
        assert_eq!(Cut::of(&values, 4), Cut { least: 1.0, ties: 2 });
        assert_eq!(Cut::of(&values, 4).rows(&values, 3), [vec![0, 1, 2], vec![], vec![2]]);
        assert_eq!(Cut::of(&values, 9).rows(&values, 3), [vec![0, 1, 2], vec![0, 2], vec![2]]);
    }
}
