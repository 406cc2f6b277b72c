//! Exact selection without sorting: the k largest of a row, or the largest of each of k groups.

/// Finds the k largest elements of rows, or of each of k groups the largest, reusing its memory from row to row.
///
/// Of the k largest: one pass over the row keeps what exceeds a rising threshold; whenever twice k candidates have
/// gathered, the smaller half goes and the threshold rises to the smallest that is left. An element
/// equal to the threshold comes after k that are at least as large, so ties go to the lowest index.
pub struct Select {
    k: usize,
    /// Sort key of each candidate: see [`key`].
    candidates: Vec<u64>,
    chosen: Vec<u32>,
}

/// Elements that are compared with the threshold together.
const BLOCK: usize = 16;

impl Select {
    /// For rows of which `k` elements are wanted.
    pub fn new(k: usize) -> Self {
        Self { k, candidates: Vec::with_capacity(2 * k + 64), chosen: Vec::with_capacity(k) }
    }

    /// The positions of the k largest elements of `row`, ascending; all positions if the row is not longer
    /// than k. NaN is never chosen before a number.
    pub fn largest(&mut self, row: &[f32]) -> &[u32] {
        self.chosen.clear();
        if row.len() <= self.k {
            self.chosen.extend(0..row.len() as u32);
            return &self.chosen;
        }
        self.candidates.clear();
        let cap = 2 * self.k + 64;
        let mut threshold = f32::NEG_INFINITY;
        // Until k candidates are there nothing may be passed over, −∞ and NaN included.
        let head = self.k.min(row.len());
        self.candidates.extend(row[..head].iter().enumerate().map(|(i, &v)| key(v, i)));
        if head > 0 {
            threshold = self.shrink();
        }
        let mut at = head;
        for block in row[head..].chunks(BLOCK) {
            if block.iter().fold(false, |any, &v| any | (v > threshold)) {
                for (i, &v) in block.iter().enumerate() {
                    if v > threshold {
                        self.candidates.push(key(v, at + i));
                    }
                }
                if self.candidates.len() + BLOCK > cap {
                    threshold = self.shrink();
                }
            }
            at += block.len();
        }
        self.shrink();
        self.chosen.extend(self.candidates.iter().map(|&c| !(c as u32)));
        self.chosen.sort_unstable();
        &self.chosen
    }

    /// The position of the largest element of each of k groups of neighbours; ties go to the lowest index. NaN is never chosen
    /// before a number.
    pub fn largest_of_groups(&mut self, row: &[f32]) -> &[u32] {
        self.chosen.clear();
        let size = row.len() / self.k;
        for (group, values) in row.chunks_exact(size).take(self.k).enumerate() {
            let mut best = 0;
            for (i, &value) in values.iter().enumerate() {
                if value > values[best] || (values[best].is_nan() && !value.is_nan()) {
                    best = i;
                }
            }
            self.chosen.push((group * size + best) as u32);
        }
        &self.chosen
    }

    /// Keeps the k best candidates and returns the value of the worst of them.
    fn shrink(&mut self) -> f32 {
        if self.candidates.len() > self.k {
            self.candidates.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
            self.candidates.truncate(self.k);
        }
        self.candidates.iter().min().map_or(f32::NEG_INFINITY, |&worst| value(worst))
    }
}

/// A number that orders as (value ascending, index descending): the float's bits made monotone in
/// the upper half, the inverted index in the lower. NaN comes below everything.
fn key(value: f32, index: usize) -> u64 {
    // Adding zero turns −0 into +0: equal values are ties.
    let bits = if value.is_nan() { u32::MAX } else { (value + 0.0).to_bits() };
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!(index as u32))
}

fn value(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    if ordered == 0 {
        return f32::NEG_INFINITY;
    }
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_sorting(row: &[f32], k: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        // A stable sort: equal values stay in the order of their indices.
        order.sort_by(|&a, &b| row[b as usize].partial_cmp(&row[a as usize]).unwrap());
        order.truncate(k);
        order.sort_unstable();
        order
    }

    proptest! {
        #[test]
        fn equals_a_stable_sort(
            row in prop::collection::vec(prop_oneof![
                4 => -3.0f32..3.0,
                2 => (-2i8..3).prop_map(f32::from),
                1 => Just(f32::NEG_INFINITY),
                1 => Just(-0.0f32),
            ], 1..400),
            k in 1usize..40,
        ) {
            let mut select = Select::new(k);
            prop_assert_eq!(select.largest(&row), by_sorting(&row, k));
        }

        #[test]
        fn of_each_group_the_first_of_its_largest(
            groups in prop::collection::vec(prop::collection::vec((-2i8..3).prop_map(f32::from), 7), 1..9),
        ) {
            let expected: Vec<u32> = groups.iter().zip(0_u32..).map(|(group, g)| 7 * g + by_sorting(group, 1)[0]).collect();
            let mut select = Select::new(groups.len());
            prop_assert_eq!(select.largest_of_groups(&groups.concat()), expected);
        }

        #[test]
        fn keys_give_their_value_back(v in prop::num::f32::NORMAL | prop::num::f32::ZERO) {
            prop_assert_eq!(value(key(v, 17)), v);
        }
    }

    #[test]
    fn edges() {
        let mut all = Select::new(3);
        assert_eq!(all.largest(&[1.0, 2.0, 3.0]), [0, 1, 2]);
        assert_eq!(all.largest(&[2.0; 40]), [0, 1, 2]);
        assert_eq!(all.largest(&[f32::NEG_INFINITY; 40]), [0, 1, 2]);
        assert_eq!(all.largest(&[f32::NAN, 1.0, f32::NAN, 0.0, -1.0]), [1, 3, 4]);
        let mut groups = Select::new(2);
        assert_eq!(groups.largest_of_groups(&[f32::NAN, f32::NEG_INFINITY, -1.0, f32::NAN, 3.0, 3.0]), [2, 4]);
        let rising: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        assert_eq!(all.largest(&rising), [997, 998, 999]);
    }
}
