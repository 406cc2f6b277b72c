//! The table: a row for each latent.

use std::path::Path;

use anyhow::Result;
use assay_models::vocabulary::Vocabulary;
use assay_probes::features::Explained;
use assay_probes::features::explanation::Method;
use polars::prelude::{Column, NamedFrom, Series};

use super::Feature;
use super::firings::Compared;
use crate::frames::columns::{frame, numbers, whole, write_frame};

/// Tokens of each kind in the table.
pub const TOKENS: usize = 10;

/// Writes a row for each latent; partners are of the contexts that were `compared`. What is undefined is null.
///
/// # Errors
/// If it can't be written.
pub fn write(
    path: &Path,
    features: &[Feature],
    chance: Explained<f64>,
    compared: Compared,
    vocabulary: &Vocabulary,
) -> Result<()> {
    let number = |name: &str, of: &dyn Fn(&Feature) -> Option<f64>| numbers(name, features.iter().map(of));
    let mut columns = vec![
        whole("latent", features.iter().map(|f| f.latent as u64)),
        whole("firings", features.iter().map(|f| f.scores.firings)),
        number("density", &|f| f.scores.density),
        number("density_low", &|f| f.scores.density_interval.map(|i| i.low)),
        number("density_high", &|f| f.scores.density_interval.map(|i| i.high)),
        whole("documents", features.iter().map(|f| f.scores.documents)),
        number("max", &|f| f.scores.max),
        number("mean", &|f| f.scores.mean),
        number("token_entropy", &|f| f.scores.token_entropy),
        number("purity", &|f| f.scores.purity),
    ];
    for (at, (name, chance)) in chance.named().into_iter().enumerate() {
        columns.push(number(&format!("eta2_{name}"), &|f| f.scores.explained.named()[at].1));
        columns.push(number(&format!("eta2_{name}_adjusted"), &|f| f.adjusted.named()[at].1));
        columns.push(number(&format!("eta2_{name}_chance"), &|_| chance));
    }
    let read = |f: &Feature| f.scores.top.iter().map(|token| token.id).collect::<Vec<u32>>();
    let written = |f: &Feature| f.written.iter().take(TOKENS).map(|(id, _)| *id).collect::<Vec<u32>>();
    let texts = |ids: Vec<u32>| ids.into_iter().map(|id| vocabulary.text(id)).collect::<Vec<String>>();
    let shares = |f: &Feature| f.scores.top.iter().map(|token| token.share).collect::<Vec<f64>>();
    let logits = |f: &Feature| f.written.iter().take(TOKENS).map(|(_, logit)| *logit).collect::<Vec<f32>>();
    columns.extend([
        lists("tokens_in", features, |f| list(texts(read(f)))),
        lists("tokens_in_ids", features, |f| list(read(f))),
        lists("tokens_in_shares", features, |f| list(shares(f))),
        lists("tokens_out", features, |f| list(texts(written(f)))),
        lists("tokens_out_ids", features, |f| list(written(f))),
        lists("tokens_out_logits", features, |f| list(logits(f))),
        number("input_score", &|f| f.input_score),
        number("output_score", &|f| f.output_score),
        lists("nearest", features, |f| list(f.nearest.iter().map(|(latent, _)| *latent as u64).collect::<Vec<u64>>())),
        lists("nearest_cosines", features, |f| list(f.nearest.iter().map(|(_, cosine)| *cosine).collect::<Vec<f64>>())),
        Column::from(Series::new(
            "partner".into(),
            features.iter().map(|f| f.partner.map(|partner| partner.latent as u64)).collect::<Vec<Option<u64>>>(),
        )),
        number("partner_jaccard", &|f| f.partner.map(|partner| partner.jaccard)),
        number("partner_contexts", &|_| Some(compared.share)),
        number("encoder_decoder_cosine", &|f| f.encoder_decoder),
        number("delta_ce", &Feature::delta_ce),
        number("delta_kl", &Feature::delta_kl),
        Column::from(Series::new(
            "ablated_firings".into(),
            features.iter().map(|f| f.effect.map(|effect| effect.firings)).collect::<Vec<Option<u64>>>(),
        )),
    ]);
    if features.iter().any(|f| f.twin.is_some()) {
        for (name, of) in [("twin", matched as Matched), ("twin_encoder", encoder_matched)] {
            let latents: Vec<Option<u64>> = features.iter().map(|f| of(f).map(|(latent, _)| latent as u64)).collect();
            columns.push(Column::from(Series::new(name.into(), latents)));
            columns.push(number(&format!("{name}_cosine"), &|f| of(f).map(|(_, cosine)| cosine)));
        }
        columns.push(number("twin_largest_cosine", &|f| f.twin?.largest));
        let shared: Vec<Option<bool>> = features.iter().map(|f| f.twin.map(|twin| twin.is_shared())).collect();
        columns.push(Column::from(Series::new("twin_shared".into(), shared)));
    }
    for method in Method::ALL {
        let of = |f: &Feature| f.detection(method).cloned();
        let text = |f: &Feature| of(f).map(|d| d.explanation.text(|id| vocabulary.text(id)));
        let texts: Vec<Option<String>> = features.iter().map(text).collect();
        let (explained, detected) = (format!("explained_by_{}", method.name()), format!("detection_{}", method.name()));
        columns.extend([
            Column::from(Series::new(explained.into(), texts)),
            number(&format!("{detected}_auroc"), &|f| of(f)?.own.auroc),
            number(&format!("{detected}_balanced_accuracy"), &|f| of(f)?.own.balanced_accuracy),
            number(&format!("{detected}_other_auroc"), &|f| of(f)?.other.auroc),
            number(&format!("{detected}_other_balanced_accuracy"), &|f| of(f)?.other.balanced_accuracy),
        ]);
    }
    write_frame(path, frame(columns)?)
}

type Matched = fn(&Feature) -> Option<(usize, f64)>;

fn matched(feature: &Feature) -> Option<(usize, f64)> {
    feature.twin?.matched
}

fn encoder_matched(feature: &Feature) -> Option<(usize, f64)> {
    feature.twin?.encoder
}

/// A column of lists.
pub(super) fn lists<T>(name: &str, rows: &[T], of: impl Fn(&T) -> Series) -> Column {
    let rows: Vec<Series> = rows.iter().map(of).collect();
    Column::from(Series::new(name.into(), rows))
}

/// A list.
fn list<T, P: ?Sized>(values: T) -> Series
where
    Series: NamedFrom<T, P>,
{
    Series::new("".into(), values)
}
