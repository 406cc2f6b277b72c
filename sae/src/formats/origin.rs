//! Where an SAE's files come from, by their path: what a release says nowhere else than in the names of its repository and directories.

use std::path::Path;

/// The names in a file's path.
pub(super) struct Origin {
    parts: Vec<String>,
}

impl Origin {
    /// Of a file or directory. Links are not followed: in the hub's cache they lead to a file without a name.
    pub fn of(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let name = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        Self { parts: path.iter().map(name).collect() }
    }

    /// What the name of the repository says. It is that of a snapshot in the hub's cache (`models--org--name`), or of a directory that is
    /// called as the repository, the innermost that `read` understands.
    pub fn repository<T>(&self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let name = |part: &str| part.strip_prefix("models--").and_then(|id| id.rsplit("--").next()).map(str::to_owned);
        self.parts.iter().rev().find_map(|part| read(&name(part).unwrap_or_else(|| part.clone())))
    }

    /// The innermost part of the path that `read` understands.
    pub fn part<T>(&self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.parts.iter().rev().find_map(|part| read(part))
    }

    /// The layer in a part like `layer_12` or `layer_12_width_16k`.
    pub fn layer(&self) -> Option<usize> {
        self.part(|part| number_after(part, "layer_"))
    }
}

/// The number that stands behind `mark`.
pub(super) fn number_after(text: &str, mark: &str) -> Option<usize> {
    let (_, rest) = text.split_once(mark)?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_where_a_file_comes_from() {
        let cached = Origin::of(Path::new(
            "/c/models--google--gemma-scope-2b-pt-res/snapshots/ab/layer_12/width_16k/average_l0_82/params.npz",
        ));
        let scope = |name: &str| name.strip_prefix("gemma-scope-").map(str::to_owned);
        assert_eq!((cached.repository(scope).as_deref(), cached.layer()), (Some("2b-pt-res"), Some(12)));
        let cloned = Origin::of(Path::new("/home/gemma-scope-2b-pt-att/layer_3_width_16k"));
        assert_eq!((cloned.repository(scope).as_deref(), cloned.layer()), (Some("2b-pt-att"), Some(3)));
        assert_eq!(Origin::of(Path::new("/tmp/layers/layer_x")).layer(), None);
    }
}
