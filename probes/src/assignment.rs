//! The least-cost assignment.

/// Rows bid so often for columns, on average, before the search for paths begins.
const BIDS: usize = 8;

/// Of each row the column that it is assigned to, so that the sum of costs is the least there is; each column has one row at most. Rows first bid
/// for their cheapest columns, which settles most of them; shortest augmenting paths place the others (Jonker and Volgenant 1987; the latter
/// as scipy's `linear_sum_assignment`, Crouse 2016).
///
/// `fill` writes the costs of a row. `None` where `goes_on` said that the work is to stop.
///
/// # Panics
/// If there are more rows than columns, or if the search meets costs that are not finite.
pub fn assignment(
    rows: usize,
    columns: usize,
    fill: impl Fn(usize, &mut [f64]),
    goes_on: impl Fn() -> bool,
) -> Option<Vec<usize>> {
    assert!(rows <= columns, "every row has a column");
    let mut search = Search {
        fill,
        costs: vec![0.0; columns],
        prices: vec![0.0; columns],
        column_of: vec![None; rows],
        row_of: vec![None; columns],
    };
    if rows == columns {
        search.begin_at_least_costs();
    }
    let left = search.bid(&goes_on)?;
    let mut paths = Paths::new(columns);
    for row in left {
        if !goes_on() {
            return None;
        }
        search.place(row, &mut paths);
    }
    Some(search.column_of.into_iter().map(|column| column.expect("every row has one")).collect())
}

/// An assignment under way: every row that has a column has one of the least cost minus price.
struct Search<F> {
    fill: F,
    /// Of the row that was filled last.
    costs: Vec<f64>,
    /// What is taken from the costs of columns. A column that is free keeps its first one.
    prices: Vec<f64>,
    column_of: Vec<Option<usize>>,
    row_of: Vec<Option<usize>>,
}

impl<F: Fn(usize, &mut [f64])> Search<F> {
    /// Prices at which no cost is below 0: only where no column stays free may they differ at first.
    fn begin_at_least_costs(&mut self) {
        self.prices.fill(f64::INFINITY);
        for row in 0..self.column_of.len() {
            (self.fill)(row, &mut self.costs);
            self.prices.iter_mut().zip(&self.costs).for_each(|(price, &cost)| *price = price.min(cost));
        }
    }

    /// Each row takes its best column, whose price falls until the second best is as good, from whoever has it; that one bids next. Gives the rows
    /// that are left after so many bids.
    fn bid(&mut self, goes_on: &impl Fn() -> bool) -> Option<Vec<usize>> {
        let rows = self.column_of.len();
        let mut waiting: Vec<usize> = (0..rows).rev().collect();
        for _ in 0..BIDS * rows {
            let Some(row) = waiting.pop() else { break };
            if !goes_on() {
                return None;
            }
            (self.fill)(row, &mut self.costs);
            let (mut best, mut second) = ((0, f64::INFINITY), f64::INFINITY);
            for (column, (cost, price)) in self.costs.iter().zip(&self.prices).enumerate() {
                let reduced = cost - price;
                if reduced < best.1 {
                    (second, best) = (best.1, (column, reduced));
                } else if reduced < second {
                    second = reduced;
                }
            }
            let (column, gap) = (best.0, second - best.1);
            // Of two equally good columns the bid gains nothing: if another row has this one, a path will tell.
            if gap > 0.0 && gap.is_finite() {
                self.prices[column] -= gap;
            } else if self.row_of[column].is_some() {
                continue;
            }
            if let Some(before) = self.row_of[column].replace(row) {
                self.column_of[before] = None;
                waiting.push(before);
            }
            self.column_of[row] = Some(column);
        }
        Some((0..rows).filter(|&row| self.column_of[row].is_none()).collect())
    }

    /// Gives a row a column along the shortest path of exchanges that ends at a free one.
    fn place(&mut self, row: usize, paths: &mut Paths) {
        paths.shortest.fill(f64::INFINITY);
        paths.open.copy_from_slice(&self.prices);
        paths.done.clear();
        (self.fill)(row, &mut self.costs);
        let least = self.costs.iter().zip(&self.prices).map(|(cost, price)| cost - price).fold(f64::INFINITY, f64::min);
        let (mut at, mut length, mut of_row) = (row, 0.0, least);
        let end = loop {
            let (column, reached) = paths.extend(at, &self.costs, length - of_row, &self.row_of);
            assert!(reached.is_finite(), "costs are finite");
            length = reached;
            let Some(taken) = self.row_of[column] else { break column };
            paths.close(column);
            at = taken;
            (self.fill)(at, &mut self.costs);
            of_row = self.costs[column] - self.prices[column];
        };
        for &(column, reached) in &paths.done {
            self.prices[column] -= length - reached;
        }
        // Back along the path each row gives up its column for the next.
        let mut column = end;
        loop {
            let taker = paths.from[column];
            self.row_of[column] = Some(taker);
            match self.column_of[taker].replace(column) {
                Some(before) => column = before,
                None => break,
            }
        }
    }
}

/// The search for a shortest path.
struct Paths {
    /// To each column; infinite where it is done.
    shortest: Vec<f64>,
    /// The row before it on the way.
    from: Vec<usize>,
    /// The prices; of those done so low that no way leads there again.
    open: Vec<f64>,
    done: Vec<(usize, f64)>,
}

impl Paths {
    fn new(columns: usize) -> Self {
        Self { shortest: vec![0.0; columns], from: vec![0; columns], open: vec![0.0; columns], done: Vec::new() }
    }

    /// Looks at all columns from a row on, and gives the nearest of them, a free one among equals.
    fn extend(&mut self, row: usize, costs: &[f64], base: f64, row_of: &[Option<usize>]) -> (usize, f64) {
        let ways = self.shortest.iter_mut().zip(&mut self.from).zip(costs.iter().zip(&self.open));
        for ((shortest, from), (cost, price)) in ways {
            let through = base + cost - price;
            let better = through < *shortest;
            *shortest = if better { through } else { *shortest };
            *from = if better { row } else { *from };
        }
        let least = self.shortest.iter().copied().fold(f64::INFINITY, f64::min);
        let nearest = || self.shortest.iter().enumerate().filter(|(_, way)| **way == least).map(|(column, _)| column);
        let column = nearest().find(|&column| row_of[column].is_none()).or_else(|| nearest().next());
        (column.unwrap_or(0), least)
    }

    fn close(&mut self, column: usize) {
        self.done.push((column, self.shortest[column]));
        self.shortest[column] = f64::INFINITY;
        self.open[column] = f64::NEG_INFINITY;
    }
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
            let found = assignment(rows, columns, |row, out| out.copy_from_slice(&cost[row]), || true).unwrap();
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
        let _ = assignment(2, 2, |_, out| out.fill(f64::NAN), || true);
    }

    /// scipy 1.17.1: `c = (np.arange(n)[:, None] * 7919 + np.arange(n)[None] * 104729) % 10007 / 10007` squared, `n = 60` and 60 × 80;
    /// `r, k = linear_sum_assignment(c); c[r, k].sum()`.
    #[test]
    fn agrees_with_scipy() {
        for (columns, expected) in SCIPY {
            let value =
                |row: usize, column: usize| (((row * 7919 + column * 104_729) % 10_007) as f64 / 10_007.0).powi(2);
            let fill = |row: usize, out: &mut [f64]| {
                out.iter_mut().enumerate().for_each(|(column, cost)| *cost = value(row, column));
            };
            let found = assignment(60, columns, fill, || true).unwrap();
            assert!(assignment(60, columns, fill, || false).is_none());
            let sum: f64 = found.iter().enumerate().map(|(row, &column)| value(row, column)).sum();
            assert!((sum - expected).abs() < 1e-12, "{columns}: {sum}");
        }
    }

    const SCIPY: [(usize, f64); 2] = [(60, 0.057_541_084_286_867_09), (80, 0.010_727_086_822_176_409)];
}
