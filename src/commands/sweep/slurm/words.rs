//! Words of a script.

use std::path::Path;

use anyhow::{Context, Result};

/// This program as a word of a script.
pub fn program() -> Result<String> {
    let program = std::env::current_exe().context("this program's own path is not known")?;
    Ok(quoted(&program.display().to_string()))
}

/// An absolute path as text.
pub fn absolute(path: &Path) -> Result<String> {
    let found = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(found.display().to_string())
}

/// A word of a shell's, whatever is in it.
pub(in crate::commands) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_have_to_be() {
        for (text, expected) in [
            ("/a/b-1.toml", "/a/b-1.toml"),
            ("k=[4, 8]", "'k=[4, 8]'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
