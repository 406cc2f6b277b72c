//! What somebody may have meant.

/// The `most` names that are closest to a text, the closest first; none that is very different from it.
pub(crate) fn closest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(text, name), name));
    let mut close: Vec<(f64, &str)> = scored.filter(|(score, _)| *score >= 0.6).collect();
    // Stable, so that of two that are equally close the first is taken.
    close.sort_by(|a, b| b.0.total_cmp(&a.0));
    close.into_iter().take(most).map(|(_, name)| name).collect()
}
