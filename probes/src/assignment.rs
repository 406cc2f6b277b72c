//! The least-cost assignment.

/// Of each row the column that it is assigned to, so that the sum of costs is the least there is; each column has one row at most (shortest
/// augmenting paths, Jonker and Volgenant 1987; as scipy's `linear_sum_assignment`, Crouse 2016).
///
/// It begins with the rows whose cheapest column nobody else has, and takes about rows · columns · n steps, n being how many columns lie on the
/// way of those that are left.
///
/// # Panics
/// If there are more rows than columns, or if the search meets costs that are not finite.
pub fn assignment(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    assert!(rows <= columns, "every row has a column");
    // What is taken from rows and columns, so that no cost is below 0 and those of the assignment are 0. A column that stays free keeps 0.
    let mut of_columns = vec![0.0; columns];
    if rows == columns {
        of_columns.fill(f64::INFINITY);
        for row in 0..rows {
            of_columns.iter_mut().enumerate().for_each(|(column, least)| *least = least.min(cost(row, column)));
        }
    }
    let mut of_rows = vec![0.0; rows];
    let mut column_of: Vec<Option<usize>> = vec![None; rows];
    let mut row_of: Vec<Option<usize>> = vec![None; columns];
    for row in 0..rows {
        let mut best = (0, f64::INFINITY);
        for (column, of_column) in of_columns.iter().enumerate() {
            let reduced = cost(row, column) - of_column;
            if reduced < best.1 {
                best = (column, reduced);
            }
        }
        of_rows[row] = best.1;
        if row_of[best.0].is_none() {
            (row_of[best.0], column_of[row]) = (Some(row), Some(best.0));
        }
    }
    let (mut shortest, mut from) = (vec![0.0; columns], vec![0; columns]);
    for row in 0..rows {
        if column_of[row].is_some() {
            continue;
        }
        shortest.fill(f64::INFINITY);
        let mut left: Vec<usize> = (0..columns).collect();
        let mut done = Vec::new();
        let (mut at, mut length) = (row, 0.0);
        let end = loop {
            let (mut next, mut least) = (0, f64::INFINITY);
            for (place, &column) in left.iter().enumerate() {
                let through = length + cost(at, column) - of_rows[at] - of_columns[column];
                if through < shortest[column] {
                    (shortest[column], from[column]) = (through, at);
                }
                if shortest[column] < least || shortest[column] == least && row_of[column].is_none() {
                    (next, least) = (place, shortest[column]);
                }
            }
            assert!(least.is_finite(), "costs are finite");
            let column = left.swap_remove(next);
            length = least;
            match row_of[column] {
                Some(taken) => at = taken,
                None => break column,
            }
            done.push(column);
        };
        of_rows[row] += length;
        for column in done {
            let gain = length - shortest[column];
            of_columns[column] -= gain;
            if let Some(taken) = row_of[column] {
                of_rows[taken] += gain;
            }
        }
        // Back along the path each row gives up its column for the next.
        let mut column = end;
        loop {
            let taker = from[column];
            row_of[column] = Some(taker);
            match column_of[taker].replace(column) {
                Some(before) => column = before,
                None => break,
            }
        }
    }
    column_of.into_iter().map(|column| column.expect("every row has one")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(cost: &[Vec<f64>], of: &[usize]) -> f64 {
        of.iter().enumerate().map(|(row, &column)| cost[row][column]).sum()
    }

    /// The least over all assignments.
    fn least(cost: &[Vec<f64>], taken: &mut Vec<usize>) -> f64 {
        let Some(row) = cost.get(taken.len()) else { return 0.0 };
        let mut best = f64::INFINITY;
        for (column, own) in row.iter().enumerate() {
            if !taken.contains(&column) {
                taken.push(column);
                best = best.min(own + least(cost, taken));
                taken.pop();
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_assignment_costs_less(
            values in prop::collection::vec(-9i32..9, 42), rows in 1usize..7, wide in any::<bool>(),
        ) {
            let columns = if wide { 7 } else { rows };
            let cost: Vec<Vec<f64>> =
                values.chunks(7).take(rows).map(|row| row[..columns].iter().map(|&v| f64::from(v)).collect()).collect();
            let found = assignment(rows, columns, |row, column| cost[row][column]);
            let mut different = found.clone();
            different.sort_unstable();
            different.dedup();
            prop_assert_eq!(different.len(), rows);
            prop_assert!((sum(&cost, &found) - least(&cost, &mut Vec::new())).abs() < 1e-9);
        }
    }

    #[test]
    #[should_panic = "costs are finite"]
    fn costs_that_are_not_numbers_end_the_search() {
        assignment(2, 2, |_, _| f64::NAN);
    }

    /// scipy 1.17.1: `c = (np.arange(n)[:, None] * 7919 + np.arange(n)[None] * 104729) % 10007 / 10007` squared, `n = 60` and 60 × 80;
    /// `r, k = linear_sum_assignment(c); c[r, k].sum()`.
    #[test]
    fn agrees_with_scipy() {
        for (columns, expected) in SCIPY {
            let value =
                |row: usize, column: usize| (((row * 7919 + column * 104_729) % 10_007) as f64 / 10_007.0).powi(2);
            let found = assignment(60, columns, value);
            let sum: f64 = found.iter().enumerate().map(|(row, &column)| value(row, column)).sum();
            assert!((sum - expected).abs() < 1e-12, "{columns}: {sum}");
        }
    }

    const SCIPY: [(usize, f64); 2] = [(60, 0.057_541_084_286_867_09), (80, 0.010_727_086_822_176_409)];
}
