//! The merges that SentencePiece's scores amount to.
//!
//! SentencePiece joins, again and again, the two neighbours whose union is the piece with the best score (`bpe_model.cc`). The
//! `tokenizers` crate joins the two that come first in a list of merges. So the list has every way to cut a piece in two
//! pieces, in the order of the scores of what they make, as transformers builds it (`generate_merges`). They differ only in
//! that SentencePiece takes the leftmost of equals, which matters where a piece can be made of its neighbours in two ways that
//! overlap.

use std::collections::HashSet;

use tokenizers::models::bpe::Merges;

use super::Gguf;
use super::tokenizer::{Role, Tokens};
use crate::error::Result;

/// Bytes of the longest piece. SentencePiece makes pieces of up to 16 characters; without a limit a small file could ask for
/// merges that fill the memory.
const MAX_PIECE: usize = 256;

/// All merges, best first.
///
/// # Errors
/// If there is not a score for each token, or a piece is too long.
pub(super) fn merges(file: &Gguf, tokens: &Tokens<'_>) -> Result<Merges> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores = file.floats(KEY)?.ok_or_else(|| file.missing(KEY))?;
    if scores.len() != tokens.texts.len() {
        return Err(file.bad(KEY, format!("has {} entries for {} tokens", scores.len(), tokens.texts.len())));
    }
    // The others are matched before, or not made of text.
    let normal = |id: &usize| tokens.roles[*id] == Role::Normal;
    let pieces: HashSet<&str> = (0..scores.len()).filter(normal).map(|id| tokens.texts[id]).collect();
    let mut merges = Vec::new();
    for id in (0..scores.len()).filter(normal) {
        let piece = tokens.texts[id];
        if piece.len() > MAX_PIECE {
            let why = format!("has a piece of {} bytes (token {id}); up to {MAX_PIECE} are expected", piece.len());
            return Err(file.bad("tokenizer.ggml.tokens", why));
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if pieces.contains(left) && pieces.contains(right) {
                merges.push((scores[id], left, right));
            }
        }
    }
    // Of the ways to make a piece, that with the longer left part first.
    let lengths = |left: &str, right: &str| (left.chars().count(), right.chars().count());
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| lengths(b.1, b.2).cmp(&lengths(a.1, a.2))));
    Ok(merges.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect())
}
