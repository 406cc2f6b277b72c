//! Whether numbers are numbers.

use rayon::prelude::*;

/// The place of the first of some values that is NaN or infinite.
pub fn first_not_finite(values: &[f32]) -> Option<usize> {
    /// Values that a thread looks at together.
    const PART: usize = 1 << 15;
    // Without a way out in the middle, which would keep the compiler from taking several at a time.
    let is_wrong = |part: &[f32]| part.iter().fold(false, |wrong, value| wrong | !value.is_finite());
    let from = PART * values.par_chunks(PART).position_first(is_wrong)?;
    values[from..].iter().position(|value| !value.is_finite()).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::first_not_finite;

    #[test]
    fn the_first_is_found_wherever_it_is() {
        let mut values = vec![1.0_f32; 100_000];
        assert_eq!(first_not_finite(&values), None);
        assert_eq!(first_not_finite(&[]), None);
        for (at, value) in [(99_999, f32::NAN), (65_536, f32::INFINITY), (65_535, f32::NEG_INFINITY), (0, f32::NAN)] {
            values[at] = value;
            assert_eq!(first_not_finite(&values), Some(at));
        }
    }
}
