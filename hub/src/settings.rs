//! The environment variables of the hub's own tools: where the cache is, what is asked, and as whom.

use std::path::{Path, PathBuf};

/// Where files are kept and where they come from.
///
/// Variables and defaults as in Python's `huggingface_hub`, see
/// <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>.
pub struct Settings {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

impl Settings {
    /// As the environment says: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, and `HF_TOKEN` or the file that
    /// `hf auth login` leaves (`HF_TOKEN_PATH`); also the older spellings of these that `huggingface_hub` still reads.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let user = PathBuf::from(set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_default());
        let path = |name: &str| {
            set(name).map(|value| match value.strip_prefix("~/") {
                Some(rest) => user.join(rest),
                None => PathBuf::from(value),
            })
        };
        let home = path("HF_HOME")
            .unwrap_or_else(|| path("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache")).join("huggingface"));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| std::fs::read_to_string(token_file).ok()).map(|token| token.trim().to_owned());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let yes = |value: String| ["1", "true", "yes", "on"].contains(&value.trim().to_lowercase().as_str());
        Self {
            cache,
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
            offline: set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE")).is_some_and(yes),
        }
    }

    /// The cache's directory.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Scheme and host of the hub, without a slash at the end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether nothing may be asked of the network.
    pub fn offline(&self) -> bool {
        self.offline
    }

    /// Whether there is a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::from_variables(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_cache_is_where_the_hubs_tools_have_it() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache().to_owned();
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "")]), Path::new("/hf/hub"));
    }

    #[test]
    fn offline_is_said_in_four_ways() {
        for value in ["1", "true", "YES", "On"] {
            assert!(settings(&[("HF_HUB_OFFLINE", value)]).offline(), "{value}");
        }
        for value in ["0", "", "false", "no"] {
            assert!(!settings(&[("HF_HUB_OFFLINE", value)]).offline(), "{value}");
        }
    }

    #[test]
    fn the_token_is_the_variables_or_the_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), " from-home\n").unwrap();
        std::fs::write(dir.path().join("other"), "from-path\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        let other = dir.path().join("other");
        assert_eq!(settings(&[home]).token(), Some("from-home"));
        assert_eq!(settings(&[home, ("HF_TOKEN_PATH", other.to_str().unwrap())]).token(), Some("from-path"));
        assert_eq!(settings(&[home, ("HF_TOKEN", "from-variable\n")]).token(), Some("from-variable"));
        assert_eq!(settings(&[("HF_HOME", "/nowhere")]).token(), None);
        assert_eq!(settings(&[("HF_ENDPOINT", "http://host/")]).endpoint(), "http://host");
    }
}
