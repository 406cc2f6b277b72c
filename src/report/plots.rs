//! Placeholder until the plots branch lands.
use std::path::Path;
use anyhow::Result;
use crate::analysis::Analysis;
/// Draws.
pub fn write(_: &Analysis<'_>, _: &Path) -> Result<Vec<(String, String)>> {
    Ok(Vec::new())
}
