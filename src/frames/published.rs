//! The frames of SAEs that no sweep trained: as a sweep writes them, with what is not known left out or null.

use std::path::Path;

use anyhow::Result;
use assay_models::{DecoderConfig, Site};
use assay_probes::Evaluation;
use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use super::columns::{frame, numbers, text, whole, write_frame};
use super::grid::Bootstrap;
use super::write::{
    Measured, codes, curves_frame, geometry_frame, how_measured, information_frame, intervals, latents_frame,
    models_frame, norms_frame, scores, sequences_frame,
};
use super::{CURVES, GEOMETRY, INFORMATION, LATENTS, MODELS, NORMS, RUNS, SEQUENCES};
use crate::record::{METRIC_VERSION, short};
use crate::replicates::Replicates;

/// An SAE that was evaluated.
pub struct Published<'a> {
    /// What it is called; no two have one name.
    pub name: String,
    /// Its class, and whether it is a transcoder.
    pub architecture: String,
    /// Where it is patched in.
    pub site: Site,
    /// Latents.
    pub d_sae: usize,
    /// What was found.
    pub found: &'a Evaluation,
    /// The replicates of the bootstrap.
    pub replicates: &'a Replicates,
}

/// SAEs of one model, on the same sequences.
pub struct PublishedSaes<'a> {
    /// The model's name.
    pub model: String,
    /// Its shape.
    pub config: &'a DecoderConfig,
    /// Tokens of a sequence.
    pub context_size: usize,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// The SAEs, in the order of the rows.
    pub saes: Vec<Published<'a>>,
}

/// Writes all frames but the timings. An SAE's name is in the column `knob`, and `k` is null: what tells published SAEs apart is their
/// names, and their sparsity is the L0 that was measured. Seed and budget of their training are null; of the model there is no geometry.
///
/// # Errors
/// If a file can't be written.
pub fn write_published(results: &Path, published: &PublishedSaes<'_>) -> Result<()> {
    let PublishedSaes { model, bootstrap, saes, .. } = published;
    let id = |sae: &Published<'_>| short(blake3::hash(format!("{model}\n{}", sae.name).as_bytes()));
    let ids: Vec<String> = saes.iter().map(id).collect();
    let measured: Vec<Measured<'_>> = saes
        .iter()
        .zip(&ids)
        .map(|(sae, id)| {
            let Evaluation { sequences, firing, by_norm, spectrum, .. } = sae.found;
            let pr = spectrum.participation_ratios();
            Measured { id, sums: sequences.clone(), firing: firing.clone(), by_norm, pr }
        })
        .collect();
    write_frame(&results.join(RUNS), runs_frame(published, &measured, *bootstrap)?)?;
    write_frame(&results.join(INFORMATION), information_frame(&[])?)?;
    write_frame(&results.join(SEQUENCES), sequences_frame(&measured)?)?;
    write_frame(&results.join(LATENTS), latents_frame(&measured)?)?;
    write_frame(&results.join(GEOMETRY), geometry_frame(&[])?)?;
    write_frame(&results.join(CURVES), curves_frame(&[])?)?;
    write_frame(&results.join(NORMS), norms_frame(&measured)?)?;
    write_frame(&results.join(MODELS), models_frame(std::iter::once(model.as_str()), &[])?)
}

fn runs_frame(published: &PublishedSaes<'_>, measured: &[Measured<'_>], bootstrap: Bootstrap) -> Result<DataFrame> {
    let PublishedSaes { model, config, context_size, saes, .. } = published;
    let unknown = |name: &str| Column::from(Series::new(name.into(), vec![None::<u64>; saes.len()]));
    let mut columns = vec![
        text("id", measured.iter().map(|m| m.id.to_owned())),
        text("model", saes.iter().map(|_| model.clone())),
        text("depth", saes.iter().map(|sae| format!("L{}", sae.site.hook.layer))),
        text("hook", saes.iter().map(|sae| sae.site.hook.to_string())),
        text("architecture", saes.iter().map(|sae| sae.architecture.clone())),
        text("knob", saes.iter().map(|sae| sae.name.clone())),
        whole("layer", saes.iter().map(|sae| sae.site.hook.layer as u64)),
        whole("n_layers", saes.iter().map(|_| config.n_layers() as u64)),
        whole("d_model", saes.iter().map(|sae| sae.site.hook.width(config) as u64)),
        whole("d_sae", saes.iter().map(|sae| sae.d_sae as u64)),
        unknown("k"),
        unknown("seed"),
        unknown("training_tokens"),
        whole("metric_version", saes.iter().map(|_| u64::from(METRIC_VERSION))),
        whole("context_size", saes.iter().map(|_| *context_size as u64)),
        Column::from(Series::new(
            "center_residual".into(),
            saes.iter().map(|sae| sae.site.center).collect::<Vec<bool>>(),
        )),
        numbers("final_loss", saes.iter().map(|_| None)),
    ];
    columns.extend(how_measured(measured, bootstrap));
    columns.extend(codes(measured));
    let intervals = saes.iter().map(|sae| intervals(sae.replicates, bootstrap.level)).collect::<Vec<_>>();
    columns.extend(scores(measured, &intervals));
    frame(columns)
}
