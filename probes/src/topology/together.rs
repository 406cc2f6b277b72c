//! Several statistics at once.

/// p-values of statistics that are looked at together: for each, the chance that *any* of them is as extreme, by the least p of each draw
/// (the single-step method of Westfall and Young 1993, with min-P). The least dependence between them costs nothing, and the strongest nearly
/// nothing, as all are of the same draws.
///
/// `draws` has a row a draw with a value of each statistic; none is less than any.
pub(super) fn adjusted(observed: &[Option<f64>], draws: &[Vec<Option<f64>>]) -> Vec<f64> {
    let all = (draws.len() + 1) as f64;
    // The rank of a value among all, the observed one included, as a p-value of its own.
    let own = |value: Option<f64>, s: usize| {
        let others = draws.iter().map(|draw| draw[s]).chain([observed[s]]);
        others.filter(|&other| other >= value).count() as f64 / all
    };
    let least = |draw: &Vec<Option<f64>>| draw.iter().enumerate().map(|(s, &value)| own(value, s)).fold(1.0, f64::min);
    let least: Vec<f64> = draws.iter().map(least).collect();
    let p = |(s, &value): (usize, &Option<f64>)| {
        let mine = own(value, s);
        (1 + least.iter().filter(|&&p| p <= mine).count()) as f64 / all
    };
    observed.iter().enumerate().map(p).collect()
}
