//! SAEs that a setting of training did not change.

use assay_probes::metrics::Sums;

use super::grid::{ControlRun, RunResult};

/// Runs without those that are others under another name, and these.
///
/// A loss that leaves out outliers leaves out nothing at a hook that has none, and the SAE is that of the loss on all tokens, bit for bit. Counted beside
/// it, one SAE would stand in every comparison twice, and against itself. A run is a copy if an earlier one of the same place, budget,
/// architecture, k and seed, trained for something else, has the same sums on every sequence; it is taken out where all seeds of its condition are.
pub(super) fn without_copies(runs: Vec<RunResult>) -> (Vec<RunResult>, Vec<RunResult>) {
    let bits = |run: &RunResult| -> Vec<u64> {
        run.sequences.iter().flatten().flat_map(Sums::values).map(f64::to_bits).collect()
    };
    let could_be = |first: &RunResult, run: &RunResult| {
        let (a, b) = (&first.setting, &run.setting);
        let named = a.architecture == b.architecture && a.k == b.k && a.knob == b.knob && a.objective != b.objective;
        named && is_of_place(first, run) && first.seed == run.seed
    };
    let is_copy: Vec<bool> = (0..runs.len())
        .map(|at| runs[..at].iter().any(|first| could_be(first, &runs[at]) && bits(first) == bits(&runs[at])))
        .collect();
    let is_condition = |a: &RunResult, b: &RunResult| a.setting == b.setting && is_of_place(a, b);
    let whole: Vec<bool> = runs
        .iter()
        .map(|run| runs.iter().zip(&is_copy).all(|(other, is_copy)| *is_copy || !is_condition(run, other)))
        .collect();
    let (copies, own): (Vec<_>, Vec<_>) = runs.into_iter().zip(whole).partition(|(_, is_copy)| *is_copy);
    let runs = |of: Vec<(RunResult, bool)>| of.into_iter().map(|(run, _)| run).collect();
    (runs(own), runs(copies))
}

/// Controls of none of some runs.
pub(super) fn controls_of_others(controls: Vec<ControlRun>, copies: &[RunResult]) -> Vec<ControlRun> {
    let is_of = |control: &ControlRun, copy: &RunResult| {
        control.run.setting == copy.setting && control.run.seed == copy.seed && is_of_place(&control.run, copy)
    };
    controls.into_iter().filter(|control| !copies.iter().any(|copy| is_of(control, copy))).collect()
}

fn is_of_place(a: &RunResult, b: &RunResult) -> bool {
    a.model == b.model && a.site == b.site && a.training_tokens == b.training_tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::made::{Made, grid};

    /// Two seeds of two losses: at one budget the same numbers.
    fn runs() -> Vec<RunResult> {
        let made = |(_, _, budget, seed): (&str, u64, u64, u64), sequence: usize| {
            Made::new(0.5 + 0.1 * (budget + seed) as f64 + 0.01 * sequence as f64, 0.9)
        };
        let all = grid(&["a"], &[8], &[1, 2], 2, 3, made).runs;
        let mut others = all.clone();
        for run in &mut others {
            run.setting.objective = "mse no_outlier".to_owned();
            if run.training_tokens == 2 {
                run.sequences[1][0].sse += 1e-12;
            }
        }
        all.into_iter().chain(others).collect()
    }

    #[test]
    fn what_a_loss_did_not_change_counts_once() {
        let (own, copies) = without_copies(runs());
        assert_eq!((own.len(), copies.len()), (6, 2));
        assert!(copies.iter().all(|run| run.setting.objective == "mse no_outlier" && run.training_tokens == 1));
        assert!(own.iter().any(|run| run.setting.objective == "mse no_outlier" && run.training_tokens == 2));
        let control = |run: &RunResult| ControlRun { control: "frozen-decoder".to_owned(), run: run.clone() };
        let controls = own.iter().chain(&copies).map(control).collect();
        assert_eq!(controls_of_others(controls, &copies).len(), 6);
    }

    #[test]
    fn of_a_condition_all_seeds_or_none_are_copies() {
        let mut runs = runs();
        let one = runs.iter().rposition(|run| run.training_tokens == 1).unwrap();
        runs[one].sequences[0][2].kl += 1e-12;
        let (own, copies) = without_copies(runs);
        assert_eq!((own.len(), copies.len()), (8, 0));
    }

    #[test]
    fn another_architecture_or_seed_is_no_copy() {
        let mut runs = runs();
        for run in &mut runs {
            if run.setting.objective != "mse no_outlier" {
                run.setting.architecture = "batchtopk".to_owned();
            }
        }
        assert_eq!(without_copies(runs).1.len(), 0);
    }
}
