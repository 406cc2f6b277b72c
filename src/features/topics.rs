//! Splitting and absorption, as a table with a row for each frequent token id.

use std::path::Path;

use anyhow::Result;
use assay_models::vocabulary::Vocabulary;
pub use assay_probes::features::topics::{Topic, TopicMeans};
use polars::prelude::{NamedFrom as _, Series};

use super::table::lists;
use crate::frames::columns::{frame, numbers, text, whole, write_frame};
use crate::markdown;

/// The table, beside that of the latents.
pub const TABLE: &str = "topics.parquet";

/// Writes a row for each topic.
///
/// # Errors
/// If it can't be written.
pub fn write(path: &Path, topics: &[Topic], vocabulary: &Vocabulary) -> Result<()> {
    let latents = |of: &[usize]| Series::new("".into(), of.iter().map(|&latent| latent as u64).collect::<Vec<u64>>());
    let columns = vec![
        text("token", topics.iter().map(|topic| vocabulary.text(topic.token))),
        whole("token_id", topics.iter().map(|topic| u64::from(topic.token))),
        whole("occurrences", topics.iter().map(|topic| topic.occurrences)),
        lists("latents", topics, |topic| latents(&topic.latents)),
        numbers("f1_first", topics.iter().map(|topic| Some(topic.f1[0]))),
        numbers("f1", topics.iter().map(|topic| Some(topic.f1[1]))),
        lists("absorbers", topics, |topic| latents(&topic.absorbers)),
        whole("absorbed", topics.iter().map(|topic| topic.absorbed)),
        numbers("absorbed_share", topics.iter().map(|topic| Some(topic.absorbed_share()))),
    ];
    write_frame(path, frame(columns)?)
}

/// What is said of all of them.
pub fn sentence(together: TopicMeans) -> String {
    let TopicMeans { topics, learned, split, absorbed } = together;
    if learned == 0 {
        return format!(
            "Of {topics} frequent tokens no set of latents finds one with F1 above 0.6: nothing is said of splitting and absorption."
        );
    }
    format!(
        "Of {topics} frequent tokens latents find {learned} with F1 above 0.6: {} latents a token (splitting), {} of its occurrences absorbed by others; {TABLE} has each.",
        markdown::number(split),
        markdown::percent(absorbed)
    )
}
