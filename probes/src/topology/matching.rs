//! Distances between diagrams.

use crate::assignment::assignment;

/// The largest distance (L∞) in the best matching of the bars of two diagrams with each other or with the diagonal: the bottleneck
/// distance, exactly (Efrat, Itai and Katz 2001).
pub fn bottleneck(a: &[(f64, f64)], b: &[(f64, f64)]) -> f64 {
    let cost = costs(a, b, |x, y| (x.0 - y.0).abs().max((x.1 - y.1).abs()), |x| (x.1 - x.0) / 2.0);
    let mut candidates: Vec<f64> = cost.iter().flatten().copied().chain([0.0]).collect();
    candidates.sort_by(f64::total_cmp);
    candidates.dedup();
    let fits = |limit: f64| has_perfect_matching(&cost, limit);
    let at = candidates.partition_point(|&limit| !fits(limit));
    candidates.get(at).copied().unwrap_or(0.0)
}

/// The 1-Wasserstein distance with L∞ costs: the least sum of distances of such a matching.
pub fn wasserstein_1(a: &[(f64, f64)], b: &[(f64, f64)]) -> f64 {
    least_cost(&costs(a, b, |x, y| (x.0 - y.0).abs().max((x.1 - y.1).abs()), |x| (x.1 - x.0) / 2.0))
}

/// The 2-Wasserstein distance with Euclidean costs: the root of the least sum of squared distances.
pub fn wasserstein_2(a: &[(f64, f64)], b: &[(f64, f64)]) -> f64 {
    let squared = |x: (f64, f64), y: (f64, f64)| (x.0 - y.0).powi(2) + (x.1 - y.1).powi(2);
    least_cost(&costs(a, b, squared, |x| (x.1 - x.0).powi(2) / 2.0)).sqrt()
}

/// Costs of a square assignment: the bars of `a`, then a place on the diagonal for each of `b`, against the bars of `b`, then a place for each
/// of `a`. Places cost nothing with each other.
fn costs(
    a: &[(f64, f64)],
    b: &[(f64, f64)],
    between: impl Fn((f64, f64), (f64, f64)) -> f64,
    away: impl Fn((f64, f64)) -> f64,
) -> Vec<Vec<f64>> {
    let n = a.len() + b.len();
    let cost = |i: usize, j: usize| match (a.get(i), b.get(j)) {
        (Some(&x), Some(&y)) => between(x, y),
        (Some(&x), None) => away(x),
        (None, Some(&y)) => away(y),
        (None, None) => 0.0,
    };
    (0..n).map(|i| (0..n).map(|j| cost(i, j)).collect()).collect()
}

/// Whether all rows can be matched with columns at costs up to `limit` (augmenting paths, Kuhn 1955).
fn has_perfect_matching(cost: &[Vec<f64>], limit: f64) -> bool {
    let n = cost.len();
    let mut row_of: Vec<Option<usize>> = vec![None; n];
    for row in 0..n {
        // A breadth-first search for a free column; `from` remembers how each was reached.
        let mut from: Vec<Option<usize>> = vec![None; n];
        let mut open = vec![row];
        let mut free = None;
        'search: while let Some(at) = open.pop() {
            for column in 0..n {
                if cost[at][column] <= limit && from[column].is_none() {
                    from[column] = Some(at);
                    match row_of[column] {
                        Some(next) => open.push(next),
                        None => {
                            free = Some(column);
                            break 'search;
                        }
                    }
                }
            }
        }
        let Some(end) = free else { return false };
        let from: Vec<usize> = from.into_iter().map(|at| at.unwrap_or(row)).collect();
        augment(&mut row_of, &from, row, end);
    }
    true
}

/// Back along a path from `row` to the free column `end`, where column c was reached from row `from[c]`: each row gives up its column for the next.
fn augment(row_of: &mut [Option<usize>], from: &[usize], row: usize, end: usize) {
    let mut column = end;
    loop {
        let at = from[column];
        let before = row_of.iter().position(|&r| r == Some(at));
        row_of[column] = Some(at);
        match before {
            Some(previous) if at != row => column = previous,
            _ => break,
        }
    }
}

/// The least cost of an assignment of all rows to columns.
fn least_cost(cost: &[Vec<f64>]) -> f64 {
    let columns = assignment(cost.len(), cost.len(), |row, costs| costs.copy_from_slice(&cost[row]), || true)
        .expect("nothing stops it");
    columns.into_iter().enumerate().map(|(row, column)| cost[row][column]).sum()
}
