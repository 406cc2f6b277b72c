//! Many runs in one results directory: nothing takes more than its share.
//!
//! `ASSAY_LOAD=1000` has so many, else there are 160.

use std::path::Path;
use std::time::Instant;

use crate::common::{assay, stdout_of, sweep, write_spec};

/// Seconds that a command takes.
fn seconds(command: &mut assert_cmd::Command) -> f64 {
    let started = Instant::now();
    stdout_of(command);
    started.elapsed().as_secs_f64()
}

#[test]
fn planning_resuming_and_reporting_grow_with_the_runs_and_no_faster() {
    let most: usize = std::env::var("ASSAY_LOAD").map_or(160, |text| text.parse().expect("ASSAY_LOAD is a number"));
    let dir = tempfile::tempdir().unwrap();
    let measure = |runs: usize| {
        let (name, ks) = (format!("of-{runs}"), 20.min(runs));
        let place = dir.path().join(&name);
        std::fs::create_dir_all(&place).unwrap();
        let list = |to: usize| (0..to).map(|n| (n + 1).to_string()).collect::<Vec<_>>().join(", ");
        let (k, budget) = (format!("k = [{}]\nseeds = [{}]", list(ks), list(runs / ks)), "[256]");
        let changes =
            [("k = [2, 4]", k.as_str()), ("[20480]", budget), ("expansion = 2", "expansion = 1\nlog = false")];
        let (spec, out) = (write_spec(&place, &changes), place.join("tiny"));
        let plan = seconds(sweep(&spec, &out).arg("--dry-run"));
        stdout_of(&mut sweep(&spec, &out));
        let resume = seconds(&mut sweep(&spec, &out));
        let report = seconds(assay().arg("report").arg(&out));
        let of = |what: &str, path: &Path| seconds(assay().arg(what).arg(path));
        [("plan", plan), ("resume", resume), ("report", report), ("inspect", of("inspect", &out))]
    };
    let sizes = [most / 4, most / 2, most];
    let [few, some, many] = sizes.map(measure);
    for (((what, few), (_, some)), (_, many)) in few.into_iter().zip(some).zip(many) {
        eprintln!("{what}: {few:.2}, {some:.2} and {many:.2} s for {sizes:?} runs");
        // The second step is twice the first where time is linear and four times where it is quadratic; two seconds are a busy machine's.
        let (first, second) = (some - few, many - some);
        assert!(second < 3.0 * first.max(0.0) + 2.0, "{what}: {few:.2}, {some:.2} and {many:.2} s for {sizes:?} runs");
    }
}
