//! What is asked of the hub, and what its answers mean.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo};

use crate::error::HubError;
use crate::tree::Tree;
use crate::{HubName, Settings, Want};

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Until the next bytes come.
const SILENCE: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 10;
/// Waits between tries: this, then twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Tries in a row that fail before it is given up.
const TRIES: u32 = 5;
/// The longest that the hub may make us wait (`Retry-After`).
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Lists of the largest repositories have some ten megabytes.
const LARGEST_LIST: u64 = 256 << 20;

/// The hub, asked with and without the user's token.
pub(crate) struct Client {
    endpoint: String,
    trusted: ApiRepo,
    anonymous: ApiRepo,
    has_token: bool,
}

/// An answer of any status, its body not read yet.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case name; those of redirects, which carry what the hub itself says, among them.
    headers: BTreeMap<String, String>,
    pub(crate) body: Box<dyn Read>,
}

/// Why there is no answer that can be used.
pub(crate) enum Failure {
    /// No answer, or it broke off.
    Unreachable { url: String, why: String },
    /// The hub has too much to do, and may say how long to wait.
    Busy { url: String, why: String, wait: Option<Duration> },
    /// Trying again won't help.
    Final(HubError),
}

/// Counts failures in a row, and waits between them.
#[derive(Default)]
pub(crate) struct Retries(u32);

impl Retries {
    /// Waits, twice as long as the last time or as long as the hub says; false when there have been too many failures.
    pub(crate) fn again(&mut self, asked: Option<Duration>) -> bool {
        self.0 += 1;
        if self.0 >= TRIES {
            return false;
        }
        std::thread::sleep(asked.unwrap_or(FIRST_WAIT * (1 << (self.0 - 1))).min(LONGEST_WAIT));
        true
    }

    /// Failures in a row.
    pub(crate) fn count(&self) -> u32 {
        self.0
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self, HubError> {
        let endpoint = settings.endpoint().to_owned();
        let agent = |token: Option<&str>| {
            let built = ApiBuilder::from_cache(Cache::new(settings.cache().to_owned()))
                .with_endpoint(endpoint.clone())
                .with_token(token.map(str::to_owned))
                .with_user_agent("assay", env!("CARGO_PKG_VERSION"))
                .build();
            // The repository is of no account: addresses are given with each request.
            built
                .map(|api| api.repo(Repo::model(String::new())))
                .map_err(|e| HubError::Answer { url: endpoint.clone(), why: e.to_string() })
        };
        let (trusted, anonymous) = (agent(settings.token())?, agent(None)?);
        Ok(Self { endpoint, trusted, anonymous, has_token: settings.token().is_some() })
    }

    /// The files of a revision, and its commit.
    pub(crate) fn tree(&self, want: Want, name: &HubName) -> Result<Tree, Failure> {
        // `blobs` adds sizes and hashes.
        let revision = escaped(name.revision()).replace('/', "%2F");
        let url = format!("{}/api/{}s/{}/revision/{revision}?blobs=true", self.endpoint, want.kind(), name.repo());
        let mut retries = Retries::default();
        let answer = loop {
            match self.get(&url, 0).and_then(|answer| self.accepted(answer, &url, want, name)) {
                // Where the hub can't be reached at all, nobody should have to wait: most likely there is no network.
                Err(Failure::Busy { wait, .. }) if retries.again(wait) => {}
                other => break other?,
            }
        };
        let mut body = Vec::new();
        let read = answer.body.take(LARGEST_LIST).read_to_end(&mut body);
        read.map_err(|e| Failure::Unreachable { url: url.clone(), why: e.to_string() })?;
        let bad = |why| Failure::Final(HubError::Answer { url: url.clone(), why });
        let tree = Tree::from_answer(&body).map_err(bad)?;
        if name.is_commit() && tree.commit != name.revision() {
            return Err(bad(format!("it gives commit {}", tree.commit)));
        }
        Ok(tree)
    }

    /// A file's bytes from `start` on, or from its first where the server can't skip (status 200).
    pub(crate) fn file(
        &self,
        want: Want,
        name: &HubName,
        commit: &str,
        path: &str,
        start: u64,
    ) -> Result<Answer, Failure> {
        let url = format!("{}/{}{}/resolve/{commit}/{}", self.endpoint, want.folder(), name.repo(), escaped(path));
        self.get(&url, start).and_then(|answer| self.accepted(answer, &url, want, name))
    }

    /// Follows redirects by hand: the hub's content lies on other hosts, which have no business with the user's token.
    fn get(&self, url: &str, start: u64) -> Result<Answer, Failure> {
        let (mut at, mut headers) = (url.to_owned(), BTreeMap::new());
        for _ in 0..MOST_REDIRECTS {
            let agent = if origin(&at) == origin(&self.endpoint) { &self.trusted } else { &self.anonymous };
            let config = agent.info_request().uri(at.as_str()).config();
            let config = config.http_status_as_error(false).max_redirects(0);
            let config = config.timeout_resolve(Some(CONNECT)).timeout_connect(Some(CONNECT));
            let config = config.timeout_recv_response(Some(SILENCE)).timeout_per_read(Some(SILENCE));
            // Ranges are of the file as it is, not as it is compressed.
            let mut request = config.build().header("Accept-Encoding", "identity");
            if start > 0 {
                request = request.header("Range", format!("bytes={start}-"));
            }
            let unreachable = |why| Failure::Unreachable { url: origin(&at).to_owned(), why };
            let response = request.call().map_err(|e| unreachable(e.to_string()))?;
            let (parts, body) = response.into_parts();
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let found = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
            headers.extend(found);
            match headers.remove("location") {
                Some(location) if parts.status.is_redirection() => at = resolved(&at, &location),
                _ => return Ok(Answer { status: parts.status.as_u16(), headers, body: Box::new(body.into_reader()) }),
            }
        }
        let why = format!("more than {MOST_REDIRECTS} redirects");
        Err(Failure::Final(HubError::Answer { url: url.to_owned(), why }))
    }

    /// An answer with content, or what another means.
    fn accepted(&self, answer: Answer, url: &str, want: Want, name: &HubName) -> Result<Answer, Failure> {
        let status = answer.status;
        if matches!(status, 200 | 206 | 416) {
            return Ok(answer);
        }
        let said = answer.header("x-error-message").map(|text| format!(": {text}")).unwrap_or_default();
        if matches!(status, 408 | 429 | 500..) {
            let wait = answer.header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
            let why = format!("it answers {status}{said}");
            return Err(Failure::Busy { url: url.to_owned(), why, wait });
        }
        let (kind, repo) = (want.kind(), name.repo().to_owned());
        let page = format!("{}/{}{repo}", self.endpoint, want.folder());
        Err(Failure::Final(match (status, answer.header("x-error-code")) {
            (_, Some("RevisionNotFound")) => {
                let page = format!("{page}/tree/main");
                HubError::NoRevision { repo, revision: name.revision().to_owned(), page }
            }
            (_, Some("EntryNotFound")) => {
                let why = format!("{url} is not there, though the hub's list has it; run the same command again");
                HubError::NoFile { name: name.to_string(), commit: name.revision().to_owned(), why }
            }
            (404, _) | (_, Some("RepoNotFound")) | (401, None) => {
                // The hub doesn't tell a private repository from none.
                let hidden = match (self.has_token, status, name.revision()) {
                    (true, ..) => " that your token (HF_TOKEN) may see".to_owned(),
                    (false, 401, _) => " that may be seen without a token (if it is private, set HF_TOKEN)".to_owned(),
                    (false, _, "main") => String::new(),
                    (false, _, revision) => format!(" with a revision `{revision}`"),
                };
                HubError::NoRepository { kind, repo, hidden, page }
            }
            (401 | 403, code) => {
                let licence =
                    if code == Some("GatedRepo") { format!("accept its terms at {page}, and ") } else { String::new() };
                let remedy = if self.has_token {
                    format!(
                        "{licence}see at https://huggingface.co/settings/tokens whether your token (HF_TOKEN) is valid and may read it{said}"
                    )
                } else {
                    format!("{licence}set HF_TOKEN to a token from https://huggingface.co/settings/tokens{said}")
                };
                HubError::Denied { name: name.to_string(), status, remedy }
            }
            _ => HubError::Status { url: url.to_owned(), status, said },
        }))
    }
}

/// A path as it stands in a URL.
fn escaped(path: &str) -> String {
    path.bytes().map(escaped_byte).collect()
}

fn escaped_byte(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

/// Scheme, host and port.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |end| &url[..host + end])
}

/// Where a redirect leads.
fn resolved(from: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let scheme = from.split_once("://").map_or("https", |(scheme, _)| scheme);
    match location.strip_prefix("//") {
        Some(rest) => format!("{scheme}://{rest}"),
        None if location.starts_with('/') => format!("{}{location}", origin(from)),
        None => {
            let path = from.split(['?', '#']).next().unwrap_or(from);
            let dir = path.rfind('/').filter(|&at| at >= origin(from).len()).map_or(path, |at| &path[..at]);
            format!("{dir}/{location}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_scheme_host_and_port() {
        assert_eq!(origin("https://huggingface.co/org/name?x=1"), "https://huggingface.co");
        assert_eq!(origin("http://127.0.0.1:80"), "http://127.0.0.1:80");
        assert_ne!(origin("http://127.0.0.1:80/a"), origin("http://127.0.0.1:81/a"));
        assert_ne!(origin("https://huggingface.co/a"), origin("https://huggingface.co.evil.org/a"));
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from = "https://host/api/models/a/b?blobs=true";
        assert_eq!(resolved(from, "https://cdn/x"), "https://cdn/x");
        assert_eq!(resolved(from, "//cdn/x"), "https://cdn/x");
        assert_eq!(resolved(from, "/api/models/c/d"), "https://host/api/models/c/d");
        assert_eq!(resolved(from, "c"), "https://host/api/models/a/c");
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escaped("a b/ä#?.json"), "a%20b/%C3%A4%23%3F.json");
    }
}
