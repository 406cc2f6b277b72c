//! Which tokens of a padded row count.

use std::ops::Range;

/// The tokens that a mask of 0 and 1 lets count, of a row of `len`: padding is on the right, on the left, or on both sides.
///
/// # Errors
/// If the mask is not as long as the row, holds something else, or lets padding lie between tokens; the text is what is to be said of
/// the mask.
pub(crate) fn counted(len: usize, mask: &[i64]) -> Result<Range<usize>, String> {
    if mask.len() != len {
        return Err(format!("has {} entries where the row has {len} tokens", mask.len()));
    }
    if let Some(other) = mask.iter().find(|m| !(0..=1).contains(*m)) {
        return Err(format!(
            "holds {other}; only 0 (padding) and 1 (a token) are understood: rows that were packed from documents are read whole without this column"
        ));
    }
    let start = mask.iter().position(|&m| m == 1).unwrap_or(len);
    let end = mask.iter().rposition(|&m| m == 1).map_or(start, |last| last + 1);
    match mask[start..end].iter().position(|&m| m == 0) {
        Some(hole) => Err(format!(
            "is 0 at position {} with tokens on both sides, which is no padding; remove the tokens or the column",
            start + hole
        )),
        None => Ok(start..end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_lies_at_the_ends() {
        for (mask, range) in [
            (vec![1, 1, 1], 0..3),
            (vec![1, 1, 0], 0..2),
            (vec![0, 1, 1], 1..3),
            (vec![0, 1, 0], 1..2),
            (vec![0, 0], 2..2),
            (vec![], 0..0),
        ] {
            assert_eq!(counted(mask.len(), &mask), Ok(range), "{mask:?}");
        }
        for (mask, part) in [(vec![1, 0, 1], "position 1"), (vec![1, 2, 2], "holds 2"), (vec![1, -1], "holds -1")] {
            assert!(counted(mask.len(), &mask).unwrap_err().contains(part), "{mask:?}");
        }
        assert!(counted(3, &[1, 1]).unwrap_err().contains("2 entries"));
    }
}
