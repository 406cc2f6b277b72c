//! A screen that needs no draws.

/// The Euler–Mascheroni constant, the mean of what a left-skewed Gumbel law has below 0.
const GAMMA: f64 = 0.577_215_664_901_532_9;
/// Bars below which the screen says nothing: of few, a loop moves the mean that it is measured from.
const LEAST: usize = 30;

/// p of the largest death/birth of bars (birth, death), by the law that ratios of noise are conjectured to follow whatever the noise is drawn from
/// (Bobrowski and Skraba 2023, Scientific Reports 13:12274): ln ln(death/birth), less its mean over the bars and Euler's constant, is a left-skewed
/// Gumbel variable, whose survival function is exp(−eˣ); times the number of bars (Bonferroni), at most 1.
///
/// The law is of many points in few dimensions without structure, and a conjecture, so that this is a screen and no test. `None` for fewer than 30
/// bars, or where one is born at 0.
pub fn universal_p(bars: &[(f64, f64)]) -> Option<f64> {
    if bars.len() < LEAST || bars.iter().any(|&(birth, _)| birth <= 0.0) {
        return None;
    }
    let values: Vec<f64> = bars.iter().map(|(birth, death)| (death / birth).ln().ln()).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let largest = values.iter().copied().max_by(f64::total_cmp)?;
    Some((bars.len() as f64 * (-(largest - mean - GAMMA).exp()).exp()).min(1.0))
}
