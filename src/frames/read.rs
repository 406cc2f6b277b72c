//! A results directory, read back.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use assay_probes::geometry::LayerGeometry;
use assay_probes::metrics::{Subset, Sums};
use assay_probes::profile::NormBin;

use super::axes::{CONTROL, MSE, Setting, Site, TOPK};
use super::copies::{controls_of_others, without_copies};
use super::grid::{Bootstrap, ControlRun, Estimated, FailedRun, Grid, RunResult};
use super::loops::read_loops;
use super::parquet::Frame;
use super::{CURVES, FAILURES, GEOMETRY, INFORMATION, MODELS, NORMS, RUNS, SEQUENCES};

/// Metrics that have been defined anew, and the metric version since which a column holds the present definition.
const REDEFINED: [(&str, u64); 1] = [("fisher_euclidean", 3)];

/// Whether a column of that version holds what its name meant then, and no longer means.
fn is_outdated(column: &str, version: u64) -> bool {
    REDEFINED.iter().any(|(name, since)| version < *since && column.contains(name))
}

/// Reads a results directory.
///
/// # Errors
/// If a file is missing, damaged or lacks a column; the message says which.
pub fn read(results: &Path) -> Result<Grid> {
    let runs = Frame::open(&results.join(RUNS))?;
    let sequences = Frame::open(&results.join(SEQUENCES))?;
    let mut sums: BTreeMap<String, Vec<[Sums; 3]>> = BTreeMap::new();
    let mut fields: Vec<Vec<Option<f64>>> = Vec::new();
    for subset in Subset::ALL {
        for name in Sums::FIELDS {
            // A sum that an older version did not take is 0, so that what divides by it is undefined.
            let column = sequences.numbers_if_any(&format!("{}.{name}", subset.name()))?;
            fields.push(column.unwrap_or_else(|| vec![Some(0.0); sequences.height()]));
        }
    }
    let numbers = sequences.whole("sequence")?;
    let damaged = "rows were lost or put in another order; copy the file again, or make it anew by `assay gather`";
    for (row, id) in sequences.text("id")?.into_iter().enumerate() {
        // A null in a subset's column is the value on all tokens.
        let all = |field: usize| fields[field % Sums::FIELDS.len()][row];
        let value = |(at, field): (usize, &Vec<Option<f64>>)| field[row].or(all(at)).unwrap_or(f64::NAN);
        let values: Vec<f64> = fields.iter().enumerate().map(value).collect();
        let parts: Vec<Sums> = values.chunks(Sums::FIELDS.len()).filter_map(Sums::from_values).collect();
        let parts: [Sums; 3] = parts.try_into().ok().context("three subsets of sums")?;
        let of_run = sums.entry(id).or_default();
        // By their places those of different runs are paired.
        ensure!(
            numbers[row] == of_run.len() as u64,
            "{SEQUENCES}: row {row} is of sequence {}, where {} is expected: {damaged}",
            numbers[row],
            of_run.len()
        );
        of_run.push(parts);
    }
    let mut counts = sums.values().map(Vec::len);
    let first = counts.next();
    ensure!(counts.all(|count| Some(count) == first), "{SEQUENCES}: not all runs have as many sequences: {damaged}");
    let mut curves: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    let frame = Frame::open(&results.join(CURVES))?;
    for ((id, step), loss) in frame.text("id")?.into_iter().zip(frame.whole("step")?).zip(frame.numbers("loss")?) {
        curves.entry(id).or_default().extend(loss.map(|loss| (step, loss)));
    }
    let mut norms: BTreeMap<String, Vec<NormBin>> = BTreeMap::new();
    let frame = Frame::open(&results.join(NORMS))?;
    for (id, bin) in frame.text("id")?.into_iter().zip(frame.fields()?) {
        norms.entry(id).or_default().push(bin);
    }
    let (ids, models, depths, hooks) = (runs.text("id")?, runs.text("model")?, runs.text("depth")?, runs.text("hook")?);
    let ks = runs.whole_or_null("k")?;
    // Nobody knows those of SAEs that no sweep trained; they are 0 then.
    let known = |name: &str| -> Result<Vec<u64>> {
        Ok(runs.whole_or_null(name)?.into_iter().map(Option::unwrap_or_default).collect())
    };
    let (seeds, budgets) = (known("seed")?, known("training_tokens")?);
    // Sweeps that knew one architecture did not name it.
    let architectures = runs.text_if_any("architecture")?.unwrap_or_else(|| vec![TOPK.to_owned(); ids.len()]);
    let objectives = runs.text_if_any("objective")?.unwrap_or_else(|| vec![MSE.to_owned(); ids.len()]);
    let knobs = runs.text_if_any("knob")?;
    let controls = runs.text_or_null(CONTROL)?;
    let centered = runs.flags("center_residual")?;
    let numeric = runs.numeric_columns()?;
    let versions = runs.whole("metric_version")?;
    let (mut out, mut of_controls) = (Vec::with_capacity(ids.len()), Vec::new());
    for (row, id) in ids.into_iter().enumerate() {
        let run = RunResult {
            model: models[row].clone(),
            site: Site::of_hook(&depths[row], &hooks[row], centered[row]),
            hook: hooks[row].clone(),
            setting: Setting {
                architecture: architectures[row].clone(),
                objective: objectives[row].clone(),
                k: ks[row],
                knob: knobs
                    .as_ref()
                    .map(|knobs| knobs[row].clone())
                    .filter(|knob| ks[row].is_none() && !knob.is_empty()),
            },
            seed: seeds[row],
            training_tokens: budgets[row],
            values: numeric
                .iter()
                .filter(|(name, _)| !is_outdated(name, versions[row]))
                .map(|(name, values)| (name.clone(), values[row]))
                .collect(),
            curve: curves.remove(&id).unwrap_or_default(),
            by_norm: norms.remove(&id).unwrap_or_default(),
            sequences: sums.remove(&id).with_context(|| format!("{SEQUENCES} has no rows of run {id}"))?,
            id,
        };
        match controls[row].clone() {
            None => out.push(run),
            Some(control) => of_controls.push(ControlRun { control, run }),
        }
    }
    let own = out.iter().map(|run| (None, run));
    check_distinct(own.chain(of_controls.iter().map(|of| (Some(of.control.as_str()), &of.run))))
        .with_context(|| results.join(RUNS).display().to_string())?;
    let first = out.first().with_context(|| format!("{} holds no runs", results.join(RUNS).display()))?;
    let bootstrap = Bootstrap {
        resamples: runs.whole("bootstrap_resamples")?[0] as usize,
        level: first.value("bootstrap_level").with_context(|| format!("{RUNS} has no bootstrap_level"))?,
        seed: runs.whole("bootstrap_seed")?[0],
    };
    let information = read_information(results)?;
    let models = Frame::open(&results.join(MODELS))?;
    let named = models.text("model")?.into_iter().zip(models.flags("found")?);
    let missing = named.filter(|(_, found)| !found).map(|(name, _)| name).collect();
    let failed = read_failures(results)?;
    let (runs, copies) = without_copies(out);
    let controls = controls_of_others(of_controls, &copies);
    Ok(Grid {
        bootstrap,
        runs,
        copies,
        controls,
        geometry: read_geometry(results)?,
        information,
        loops: read_loops(results)?,
        missing,
        failed,
    })
}

fn read_failures(results: &Path) -> Result<Vec<FailedRun>> {
    let path = results.join(FAILURES);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let frame = Frame::open(&path)?;
    let names = ["model", "depth", "hook", "setting", "when", "reason"];
    let [models, depths, hooks, settings, whens, reasons] = names.map(|name| frame.text(name));
    let (models, depths, hooks, settings) = (models?, depths?, hooks?, settings?);
    let (whens, reasons) = (whens?, reasons?);
    let (budgets, seeds) = (frame.whole("training_tokens")?, frame.whole("seed")?);
    let run = |row: usize| FailedRun {
        model: models[row].clone(),
        depth: depths[row].clone(),
        hook: hooks[row].clone(),
        setting: settings[row].clone(),
        training_tokens: budgets[row],
        seed: seeds[row],
        when: whens[row].clone(),
        reason: reasons[row].clone(),
    };
    Ok((0..models.len()).map(run).collect())
}

/// Two runs that differ in nothing that is known here would count as seeds of each other.
fn check_distinct<'a>(runs: impl Iterator<Item = (Option<&'a str>, &'a RunResult)>) -> Result<()> {
    let mut known: BTreeMap<_, &str> = BTreeMap::new();
    for (control, run) in runs {
        let place = (control, &run.model, &run.site, &run.setting, run.training_tokens, run.seed);
        let other = known.insert(place, &run.id);
        ensure!(
            other.is_none(),
            "runs {} and {} have one model, hook, architecture, objective, k, budget and seed: this version can't tell them apart; \
             write them to two directories",
            other.unwrap_or_default(),
            run.id,
        );
    }
    Ok(())
}

fn read_information(results: &Path) -> Result<Vec<(String, Estimated)>> {
    let frame = Frame::open(&results.join(INFORMATION))?;
    let (models, depths) = (frame.text("model")?, frame.text("depth")?);
    let (critics, bounds) = (frame.text("critic")?, frame.text("bound")?);
    let hooks = frame.text_if_any("hook")?.unwrap_or_else(|| vec![String::new(); models.len()]);
    let column = |name: &str| frame.numbers(name);
    let (layer, width, nats, cap) = (column("layer")?, column("width")?, column("nats")?, column("cap")?);
    let (error, components) = (column("standard_error")?, column("components")?);
    let (share, pairs) = (column("variance_share")?, column("pairs")?);
    let count = |value: Option<f64>| value.unwrap_or_default() as usize;
    let row = |at: usize| {
        let estimated = Estimated {
            depth: depths[at].clone(),
            layer: count(layer[at]),
            hook: hooks[at].clone(),
            critic: critics[at].clone(),
            bound: bounds[at].clone(),
            width: width[at].map(|w| w as usize),
            nats: nats[at].unwrap_or(f64::NAN),
            standard_error: error[at],
            cap: cap[at],
            components: count(components[at]),
            variance_share: share[at],
            pairs: count(pairs[at]),
        };
        (models[at].clone(), estimated)
    };
    Ok((0..models.len()).map(row).collect())
}

fn read_geometry(results: &Path) -> Result<Vec<(String, Vec<LayerGeometry>)>> {
    let frame = Frame::open(&results.join(GEOMETRY))?;
    let mut out: Vec<(String, Vec<LayerGeometry>)> = Vec::new();
    for (model, layer) in frame.text("model")?.into_iter().zip(frame.fields()?) {
        match out.last_mut() {
            Some((last, layers)) if *last == model => layers.push(layer),
            _ => out.push((model, vec![layer])),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::columns::{text, write_frame};
    use super::super::open;
    use super::*;
    use polars::prelude::{Column, DataFrame, NamedFrom, Series};

    /// A copy of committed results, which name no architecture, with a change of `runs.parquet`.
    fn changed(change: impl Fn(&mut DataFrame)) -> Result<Grid> {
        changed_in(RUNS, change)
    }

    fn changed_in(name: &str, change: impl Fn(&mut DataFrame)) -> Result<Grid> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/example");
        let dir = tempfile::tempdir().unwrap();
        for file in super::super::FILES {
            std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
        }
        let mut frame = open(&dir.path().join(name)).unwrap();
        change(&mut frame);
        write_frame(&dir.path().join(name), frame).unwrap();
        read(dir.path())
    }

    /// A row that is missing would pair sequences with others, and a run that has fewer has no replicates in common with the rest.
    #[test]
    fn sequences_that_are_lost_or_mixed_are_missed() {
        let last = |frame: &mut DataFrame| *frame = frame.head(Some(frame.height() - 1));
        let first = |frame: &mut DataFrame| *frame = frame.slice(1, frame.height());
        for (change, part) in [
            (&last as &dyn Fn(&mut DataFrame), "not all runs have as many sequences"),
            (&first, "row 0 is of sequence 1, where 0"),
        ] {
            let error = format!("{:#}", changed_in(SEQUENCES, change).err().unwrap());
            assert!(error.contains(part) && error.contains("assay gather"), "{error}");
        }
        assert!(changed_in(SEQUENCES, |_| ()).is_ok());
    }

    #[test]
    fn results_that_name_no_architecture_are_topk_s() {
        let grid = changed(|_| ()).unwrap();
        assert_eq!(grid.architectures(), [TOPK]);
        assert_eq!(grid.sites(), ["early", "mid", "late"].map(Site::resid_post));
        assert!(!grid.names().has_kinds() && !grid.names().has_architectures() && grid.is_by_k());
    }

    #[test]
    fn an_architecture_is_read_and_may_be_without_a_k() {
        let grid = changed(|runs| {
            let rows = runs.height();
            let first = |row: usize| row == 0;
            let names = (0..rows).map(|row| if first(row) { "jumprelu" } else { "topk" }.to_owned());
            runs.with_column(text("architecture", names)).unwrap();
            let ks = runs.column("k").unwrap().u64().unwrap().iter().enumerate();
            let ks: Vec<Option<u64>> = ks.map(|(row, k)| k.filter(|_| !first(row))).collect();
            runs.with_column(Column::from(Series::new("k".into(), ks))).unwrap();
        })
        .unwrap();
        assert_eq!(grid.runs[0].setting, Setting { architecture: "jumprelu".to_owned(), k: None, ..Setting::topk(0) });
        assert!(grid.runs[1].setting.k.is_some() && !grid.is_by_k());
    }

    #[test]
    fn runs_that_nothing_tells_apart_are_refused() {
        let error = changed(|runs| {
            let rows = runs.height();
            runs.with_column(Column::from(Series::new("k".into(), vec![8u64; rows]))).unwrap();
        })
        .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("runs.parquet: runs ") && text.contains("can't tell them apart"), "{text}");
    }
}
