//! Controls of an evaluation: the same metrics of what lacks a learned part, and what the SAE has more.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};
use assay_models::{Decoder, Site};
use assay_probes::metrics::{Metric, metric};
use assay_probes::{Evaluation, Subset};
use assay_sae::Sae;
use burn::tensor::{Tensor, TensorData};
use ndarray::{ArrayView2, s};
use serde_json::{Map, Value, json};

use super::measured::Measured;
use super::several::compared;
use crate::controls::{Control, SAMPLE, permuted_decoder, random_dictionary};
use crate::markdown::{self, Table};
use crate::replicates::{LEVEL, Replicates, paired_interval};

/// A control that is an SAE of its own, and the SAE that it is of, by number.
pub(super) struct Made {
    pub control: Control,
    pub of: usize,
    pub sae: Sae,
}

/// The controls of SAEs, each with the site where it reads, that are SAEs.
pub(super) fn made(
    controls: &[Control],
    saes: &[(&Sae, Site)],
    model: &Decoder,
    tokens: ArrayView2<'_, u32>,
    seed: u64,
) -> Result<Vec<Made>> {
    let mut all = Vec::new();
    for &control in controls {
        for (of, &(sae, reads)) in saes.iter().enumerate() {
            let sae = match control {
                Control::RandomModel => continue,
                Control::PermutedDecoder => permuted_decoder(sae, seed)?,
                Control::RandomDictionary => random_dictionary(sae, &sample(model, tokens, reads)?, seed)?,
            };
            all.push(Made { control, of, sae });
        }
    }
    Ok(all)
}

/// Activations of the first sequences.
fn sample(model: &Decoder, tokens: ArrayView2<'_, u32>, site: Site) -> Result<Tensor<2>> {
    let sequences = SAMPLE.div_ceil(tokens.ncols().max(1)).min(tokens.nrows());
    let (mut values, mut width) = (Vec::new(), 1);
    for sequence in 0..sequences {
        let captured = model.capture(tokens.slice(s![sequence..=sequence, ..]), &[site])?.remove(0);
        width = captured.dims()[2];
        let captured = captured.into_data().convert::<f32>().try_into_vec::<f32>();
        values.extend(captured.map_err(|e| anyhow!("activations: {e:?}"))?);
    }
    let rows = (values.len() / width).min(SAMPLE);
    values.truncate(rows * width);
    Ok(Tensor::from_data(TensorData::new(values, [rows, width]), model.device()))
}

/// What was found of a control.
pub(super) struct Controlled {
    pub control: Control,
    pub of: usize,
    pub found: Evaluation,
    pub replicates: Replicates,
}

impl Controlled {
    fn value(&self, metric: &Metric) -> Option<f64> {
        (metric.value)(&self.found.total(Subset::All))
    }
}

/// The table; nothing without controls.
pub(super) fn text(saes: &[Measured<'_>], names: &[String], controls: &[Controlled]) -> String {
    if controls.is_empty() {
        return String::new();
    }
    let called = compared().flat_map(|(_, called)| [called.to_owned(), format!("Δ{called}")]);
    let head = ["SAE", "control", "L0"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(called));
    for control in controls {
        let sae = &saes[control.of];
        let l0 = metric("l0").and_then(|metric| control.value(metric));
        let mut cells = vec![names[control.of].clone(), control.control.name().to_owned(), markdown::number(l0)];
        for (metric, _) in compared() {
            let (value, less) = (control.value(metric), minus(sae, control, metric));
            cells.extend([markdown::score(value), markdown::signed_with_interval(less.0, less.1)]);
        }
        table.row(cells);
    }
    let mut text = String::new();
    _ = write!(text, "\nControls; Δ is the SAE's value minus the control's, on the same sequences:\n\n{table}");
    text
}

fn minus(
    sae: &Measured<'_>,
    control: &Controlled,
    metric: &Metric,
) -> (Option<f64>, Option<assay_probes::stats::Interval>) {
    let value = sae.value(metric).zip(control.value(metric)).map(|(own, other)| own - other);
    let [own, other] = [&sae.replicates, &control.replicates].map(|of| of.values(metric, Subset::All));
    (value, paired_interval(own, other, LEVEL))
}

/// An object for each control.
pub(super) fn json(saes: &[Measured<'_>], controls: &[Controlled]) -> Value {
    let object = |control: &Controlled| {
        let sae = &saes[control.of];
        let mut object = Map::new();
        object.insert("sae".to_owned(), json!(sae.full_name()));
        object.insert("control".to_owned(), json!(control.control.name()));
        object.insert("l0".to_owned(), json!(metric("l0").and_then(|metric| control.value(metric))));
        for (metric, _) in compared() {
            let (difference, interval) = minus(sae, control, metric);
            let interval = interval.map(|i| [i.low, i.high]);
            let of_metric =
                json!({"control": control.value(metric), "sae_minus_control": difference, "interval_95": interval});
            object.insert(metric.name.to_owned(), of_metric);
        }
        Value::Object(object)
    };
    controls.iter().map(object).collect()
}
