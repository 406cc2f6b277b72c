//! A server that answers, and what it has answered before.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Uri;

use super::prompts::VERSION;
use crate::files::{read_json, write_atomic};

/// The variable that holds the key of a server that wants one. It is in no argument, file or message.
pub const KEY: &str = "ASSAY_JUDGE_KEY";
/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// Until an answer is there as a whole.
const ANSWER: Duration = Duration::from_secs(120);
/// Bytes of an answer.
const LARGEST: u64 = 64 << 10;
/// Waits between tries of a server that is busy or does not answer.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];

/// What may be asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whether another machine may be asked, by TLS.
    pub remote: bool,
    /// Requests of this process, at most. What was answered before is none.
    pub requests: usize,
}

/// A judge.
pub struct Endpoint {
    agent: Agent,
    /// Without a slash at its end.
    base: String,
    model: String,
    key: Option<String>,
    answers: PathBuf,
    asked: AtomicUsize,
    most: usize,
}

impl Endpoint {
    /// The server at `url`, what comes before `/chat/completions` there, asked for `model` or for the only one that it has. Answers are
    /// kept in the directory `answers`.
    ///
    /// # Errors
    /// If the address is none, or is of another machine without leave or without TLS; if the server does not say which models it has, or has
    /// several.
    pub fn open(url: &str, model: Option<&str>, answers: PathBuf, limits: Limits) -> Result<Self> {
        check(url, limits.remote).with_context(|| format!("--judge-url {url}"))?;
        // Nothing but the server that was named is asked: no proxy of the environment, and nobody whom an answer names.
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ANSWER))
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")));
        let mut endpoint = Self {
            agent: config.build().into(),
            base: url.trim_end_matches('/').to_owned(),
            model: String::new(),
            key: std::env::var(KEY).ok().filter(|key| !key.is_empty()),
            answers,
            asked: AtomicUsize::new(0),
            most: limits.requests,
        };
        endpoint.model = match model {
            Some(model) => model.to_owned(),
            None => endpoint.only_model()?,
        };
        Ok(endpoint)
    }

    /// Which model answers.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Where.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The text of the answer to a request, from the kept ones if it is among them; `None` if it has none.
    ///
    /// # Errors
    /// If the server can't be asked or refuses, or was asked as often as it may be; or if an answer can't be kept.
    pub(super) fn answer(&self, system: &str, user: &str, max_tokens: u32) -> Result<Option<String>> {
        let request = json!({
            "model": self.model, "temperature": 0, "max_tokens": max_tokens, "stream": false,
            "messages": [{ "role": "system", "content": system }, { "role": "user", "content": user }],
        });
        let mut hasher = blake3::Hasher::new();
        hasher.update(&VERSION.to_le_bytes()).update(request.to_string().as_bytes());
        let kept = self.answers.join(format!("{}.json", &hasher.finalize().to_hex()[..32]));
        let answer: Option<Value> = read_json(&kept, "remove it, and it is asked again")?;
        let answer = match answer {
            Some(answer) => answer,
            None => {
                let asked = self.asked.fetch_add(1, Ordering::Relaxed);
                ensure!(
                    asked < self.most,
                    "--judge-requests {}: as many were made; what was answered is kept, and the same command goes on from there",
                    self.most
                );
                let answer = self.post("/chat/completions", &request)?;
                let kept_too = json!({ "prompts": VERSION, "request": request, "answer": answer });
                write_atomic(&kept, kept_too.to_string().as_bytes())?;
                kept_too
            }
        };
        Ok(answer["answer"]["choices"][0]["message"]["content"].as_str().map(str::to_owned))
    }

    fn only_model(&self) -> Result<String> {
        let listed = self
            .ask("/models", None)
            .context("--judge-url: which models it has could not be read; name one by --judge-model")?;
        let names: Vec<&str> =
            listed["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
        match names[..] {
            [name] => Ok(name.to_owned()),
            [] => bail!("{}/models lists no model; name one by --judge-model", self.base),
            _ => bail!("{} has several models; name one by --judge-model: {}", self.base, names.join(", ")),
        }
    }

    /// Asks until there is an answer, a few times.
    fn post(&self, path: &str, request: &Value) -> Result<Value> {
        let mut waits = WAITS.iter();
        loop {
            match self.ask(path, Some(request)) {
                Err(error) if !error.is::<Refused>() => match waits.next() {
                    Some(&wait) => std::thread::sleep(wait),
                    None => {
                        return Err(
                            error.context("what was answered so far is kept, and the same command goes on from there")
                        );
                    }
                },
                answered => return answered,
            }
        }
    }

    fn ask(&self, path: &str, request: Option<&Value>) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let key = self.key.as_ref().map(|key| format!("Bearer {key}"));
        let sent = match request {
            Some(request) => {
                let mut asked = self.agent.post(&url).header("content-type", "application/json");
                if let Some(key) = key {
                    asked = asked.header("authorization", key);
                }
                asked.send(request.to_string())
            }
            None => {
                let mut asked = self.agent.get(&url);
                if let Some(key) = key {
                    asked = asked.header("authorization", key);
                }
                asked.call()
            }
        };
        let mut answer = sent.with_context(|| format!("{url}: no answer; is the server running?"))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(LARGEST).read_to_string();
        let body =
            body.with_context(|| format!("{url}: the answer could not be read ({} KiB at most)", LARGEST >> 10))?;
        match status {
            200 => serde_json::from_str(&body)
                .map_err(|_| Refused(format!("{url} answered with no JSON: {}", start(&body))).into()),
            429 | 500..=599 => bail!("{url} answered with status {status}: {}", start(&body)),
            300..=399 => {
                Err(Refused(format!("{url} answered with status {status}, another address, which is not followed"))
                    .into())
            }
            _ => Err(Refused(format!("{url} answered with status {status}: {}", start(&body))).into()),
        }
    }
}

/// An answer that would be the same again.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn start(body: &str) -> String {
    body.chars().take(200).collect()
}

/// Whether an address may be asked.
fn check(url: &str, remote: bool) -> Result<()> {
    let uri: Uri = url.parse().context("it is no address; one is http://127.0.0.1:8080/v1")?;
    let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
    ensure!(
        matches!(scheme, "http" | "https") && !host.is_empty(),
        "it is no address of http or https; one is http://127.0.0.1:8080/v1"
    );
    ensure!(
        !uri.authority().is_some_and(|authority| authority.as_str().contains('@')),
        "give a key by the variable {KEY}, not in the address"
    );
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    ensure!(
        is_here || remote,
        "{host} may be another machine, and excerpts of your text would go there; --judge-remote allows it"
    );
    ensure!(is_here || scheme == "https", "another machine is asked by https alone");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_asked_by_leave_and_tls_alone() {
        for here in ["http://127.0.0.1:8080/v1", "http://localhost:1/v1/", "https://[::1]/v1", "http://127.9.9.9/v1"] {
            check(here, false).unwrap();
        }
        for (url, remote, part) in [
            ("http://10.0.0.7/v1", false, "--judge-remote"),
            ("https://api.example.org/v1", false, "--judge-remote"),
            ("http://api.example.org/v1", true, "https"),
            ("http://127.0.0.1.example.org/v1", false, "--judge-remote"),
            ("http://localhost.example.org/v1", false, "--judge-remote"),
            ("https://key@127.0.0.1/v1", false, KEY),
            ("127.0.0.1:8080", false, "no address"),
            ("ftp://127.0.0.1/v1", false, "no address"),
            ("file:///etc/passwd", true, "no address"),
            ("", false, "no address"),
        ] {
            let error = check(url, remote).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{url}: {error:#}");
        }
        check("https://api.example.org/v1", true).unwrap();
    }
}
