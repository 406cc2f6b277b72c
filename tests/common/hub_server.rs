//! A Hugging Face hub on loopback: its routes, headers and redirects, as far as downloads need them.
//!
//! Large files lie on another host (another name and port), as the real hub's do. Every request is noted, and the connection can be made
//! to fail in the ways in which it does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::digest;
use serde_json::json;

use crate::common::files;

/// Files of a repository by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// All files below a directory.
pub fn files_of(dir: &Path) -> Files {
    files(dir).into_iter().map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes)).collect()
}

/// Who may see a repository.
#[derive(Clone, Copy, PartialEq)]
pub enum Access {
    All,
    /// All see that it is there, files need this token.
    Gated(&'static str),
}

/// What goes wrong with the next answer that has a file's bytes.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The connection is closed after so many bytes.
    Cut(usize),
    /// Nothing comes any more after so many bytes.
    Stall(usize),
    /// Ranges are ignored.
    Whole,
    /// 503.
    Busy,
    /// Fewer bytes, and a header that says so.
    Short,
    /// The last byte is another.
    Wrong,
}

struct Commit {
    /// `models` or `datasets`.
    kind: &'static str,
    repo: String,
    hash: String,
    files: Files,
    access: Access,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whether it went to the other host.
    pub elsewhere: bool,
    pub target: String,
    pub range: Option<String>,
    pub token: Option<String>,
    /// Bytes of the body that was sent.
    pub sent: usize,
}

#[derive(Default)]
struct State {
    commits: Vec<Commit>,
    /// (kind/repo, branch or tag) → commit.
    refs: BTreeMap<(String, String), String>,
    renamed: BTreeMap<String, String>,
    faults: BTreeMap<String, Vec<Fault>>,
    requests: Vec<Request>,
    elsewhere: String,
}

pub struct HubServer {
    state: Arc<Mutex<State>>,
    ports: [SocketAddr; 2],
    stopped: Arc<AtomicBool>,
}

/// A content's hash in `len` hex digits: 64 of SHA-256, or 40 as git names a blob.
pub fn hash(content: &[u8], len: usize) -> String {
    let digest = match len {
        64 => digest::digest(&digest::SHA256, content),
        _ => {
            let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
            digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &blob)
        }
    };
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether git has a pointer only, and the file lies elsewhere.
fn is_large(path: &str) -> bool {
    [".safetensors", ".parquet", ".npz"].iter().any(|end| path.ends_with(end))
}

fn etag(path: &str, content: &[u8]) -> String {
    hash(content, if is_large(path) { 64 } else { 40 })
}

impl HubServer {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let ports = [false, true].map(|elsewhere| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (state, stopped) = (state.clone(), stopped.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let state = state.clone();
                    std::thread::spawn(move || answer(&stream.unwrap(), elsewhere, &state));
                }
            });
            address
        });
        state.lock().unwrap().elsewhere = format!("http://localhost:{}", ports[1].port());
        Self { state, ports, stopped }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.ports[0])
    }

    /// Adds a commit with these files, and makes it the repository's `revision`. Gives its hash.
    pub fn serve(&self, kind: &'static str, repo: &str, revision: &str, files: Files, access: Access) -> String {
        let text: String = files.iter().map(|(path, bytes)| format!("{path} {}\n", hash(bytes, 64))).collect();
        let hash = hash(format!("{kind}/{repo}\n{text}").as_bytes(), 40);
        let mut state = self.state.lock().unwrap();
        state.refs.insert((format!("{kind}/{repo}"), revision.to_owned()), hash.clone());
        state.commits.push(Commit { kind, repo: repo.to_owned(), hash: hash.clone(), files, access });
        hash
    }

    /// Redirects one repository's name to another's.
    pub fn rename(&self, old: &str, new: &str) {
        self.state.lock().unwrap().renamed.insert(old.to_owned(), new.to_owned());
    }

    /// Makes the next answers with a file's bytes fail, one fault an answer.
    pub fn fail(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(path.to_owned(), faults.to_vec());
    }

    /// What was asked since this was called last.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// From now on connections are refused.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for port in self.ports {
            // Wakes the thread, which then closes its port.
            drop(TcpStream::connect(port));
            while TcpStream::connect_timeout(&port, Duration::from_millis(100)).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// An answer before it is sent.
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes after which the connection is closed or stalls.
    end: Option<Fault>,
}

impl Answer {
    fn error(status: &'static str, code: &str) -> Self {
        let headers = vec![("X-Error-Code", code.to_owned()), ("X-Error-Message", format!("{code}, says the hub"))];
        Self { status, headers, body: Vec::new(), end: None }
    }

    fn json(value: &serde_json::Value) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Self { status: "200 OK", headers, body: value.to_string().into_bytes(), end: None }
    }

    fn redirect(location: String, headers: Vec<(&'static str, String)>) -> Self {
        let headers = headers.into_iter().chain([("Location", location)]).collect();
        Self { status: "302 Found", headers, body: Vec::new(), end: None }
    }

    /// A file, or the part of it that is asked for.
    fn content(
        content: &[u8],
        headers: Vec<(&'static str, String)>,
        range: Option<&str>,
        fault: Option<Fault>,
    ) -> Self {
        let start = range.filter(|_| !matches!(fault, Some(Fault::Whole))).map(|range| {
            let text = range.strip_prefix("bytes=").unwrap();
            let (from, to) = text.split_once('-').unwrap();
            (from.parse::<usize>().unwrap(), to.parse().map_or(content.len(), |to: usize| (to + 1).min(content.len())))
        });
        let mut answer = Self { status: "200 OK", headers, body: content.to_vec(), end: fault };
        match (start, fault) {
            (_, Some(Fault::Busy)) => return Self::error("503 Service Unavailable", "Busy"),
            (_, Some(Fault::Wrong)) => *answer.body.last_mut().unwrap() ^= 1,
            (_, Some(Fault::Short)) => answer.body.truncate(content.len() - 1),
            (Some((from, _)), _) if from >= content.len() => {
                return Self::error("416 Range Not Satisfiable", "Range");
            }
            (Some((from, to)), _) => {
                answer.status = "206 Partial Content";
                answer.headers.push(("Content-Range", format!("bytes {from}-{}/{}", to - 1, content.len())));
                answer.body = content[from..to].to_vec();
            }
            _ => {}
        }
        answer
    }
}

fn answer(stream: &TcpStream, elsewhere: bool, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let (head, target) = (first.starts_with("HEAD"), first.split(' ').nth(1).unwrap().to_owned());
    let (range, token) = (headers.get("range"), headers.get("authorization"));
    let answer = state.lock().unwrap().route(&target, elsewhere, range.map(String::as_str), token.map(String::as_str));
    let end = match answer.end {
        Some(Fault::Cut(end) | Fault::Stall(end)) => end.min(answer.body.len()),
        _ => answer.body.len(),
    };
    let sent = if head { 0 } else { end };
    let request = Request { elsewhere, target, range: range.cloned(), token: token.cloned(), sent };
    state.lock().unwrap().requests.push(request);
    let mut out =
        format!("HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        out += &format!("{name}: {value}\r\n");
    }
    out += "\r\n";
    let mut stream = stream;
    // A client that goes away is what some tests are about.
    let _ = stream.write_all(out.as_bytes()).and_then(|()| stream.write_all(&answer.body[..sent]));
    if let Some(Fault::Stall(_)) = answer.end {
        // Until the client is gone.
        let _ = std::io::Read::read(&mut stream, &mut [0]);
    }
}

impl State {
    fn route(&mut self, target: &str, elsewhere: bool, range: Option<&str>, token: Option<&str>) -> Answer {
        let path = target.split('?').next().unwrap();
        if elsewhere {
            return self.large(path, range);
        }
        for (old, new) in &self.renamed {
            if path.contains(&format!("/{old}/")) {
                return Answer::redirect(target.replace(old, new), Vec::new());
            }
        }
        let parts: Vec<&str> = path.trim_start_matches('/').splitn(6, '/').collect();
        let (kind, repo, action, revision, file) = match parts.as_slice() {
            ["api", kind, org, name, action, rest] => (*kind, format!("{org}/{name}"), *action, *rest, ""),
            ["datasets", org, name, action, revision, file] => {
                ("datasets", format!("{org}/{name}"), *action, *revision, *file)
            }
            [org, name, action, revision, ..] => {
                let file = path.trim_start_matches('/').splitn(5, '/').nth(4).unwrap_or_default();
                ("models", format!("{org}/{name}"), *action, *revision, file)
            }
            _ => return Answer::error("404 Not Found", "NoRoute"),
        };
        let revision = revision.replace("%2F", "/");
        let of_repo = |commit: &&Commit| commit.kind == kind && commit.repo == repo;
        if !self.commits.iter().any(|commit| of_repo(&commit)) {
            // The real hub says 401 to those it doesn't know, so as not to tell which private repositories there are.
            let status = if token.is_some() { "404 Not Found" } else { "401 Unauthorized" };
            return Answer::error(status, "RepoNotFound");
        }
        let named = self.refs.get(&(format!("{kind}/{repo}"), revision.clone())).unwrap_or(&revision);
        let Some(commit) = self.commits.iter().filter(of_repo).find(|commit| commit.hash == *named) else {
            return Answer::error("404 Not Found", "RevisionNotFound");
        };
        match action {
            "revision" => commit.info(target.contains("blobs=true")),
            "tree" => commit.tree(),
            _ => self.resolve(commit.hash.clone(), kind, &repo, file, range, token),
        }
    }

    fn resolve(
        &mut self,
        commit: String,
        kind: &str,
        repo: &str,
        file: &str,
        range: Option<&str>,
        token: Option<&str>,
    ) -> Answer {
        let found = self.commits.iter().find(|c| c.hash == commit && c.kind == kind && c.repo == repo).unwrap();
        if let Access::Gated(expected) = found.access
            && token != Some(&format!("Bearer {expected}"))
        {
            return Answer::error(if token.is_some() { "403 Forbidden" } else { "401 Unauthorized" }, "GatedRepo");
        }
        let Some(content) = found.files.get(file) else {
            return Answer::error("404 Not Found", "EntryNotFound");
        };
        let tag = etag(file, content);
        let mut headers = vec![("X-Repo-Commit", commit)];
        if is_large(file) {
            headers.push(("X-Linked-Etag", format!("\"{tag}\"")));
            headers.push(("X-Linked-Size", content.len().to_string()));
            return Answer::redirect(format!("{}/{tag}/{file}?signed=yes", self.elsewhere), headers);
        }
        headers.push(("ETag", format!("\"{tag}\"")));
        let fault = next_fault(&mut self.faults, file);
        Answer::content(content, headers, range, fault)
    }

    /// A large file, by the path that the redirect gives.
    fn large(&mut self, path: &str, range: Option<&str>) -> Answer {
        let (tag, file) = path.trim_start_matches('/').split_once('/').unwrap();
        let fault = next_fault(&mut self.faults, file);
        let mut found = self.commits.iter().filter_map(|commit| commit.files.get(file));
        let content = found.find(|content| etag(file, content) == tag);
        content.map_or_else(
            || Answer::error("404 Not Found", "NoSuchKey"),
            |content| Answer::content(content, Vec::new(), range, fault),
        )
    }
}

fn next_fault(faults: &mut BTreeMap<String, Vec<Fault>>, file: &str) -> Option<Fault> {
    let left = faults.get_mut(file).filter(|left| !left.is_empty())?;
    Some(left.remove(0))
}

impl Commit {
    fn info(&self, with_blobs: bool) -> Answer {
        let siblings = self.files.iter().map(|(path, content)| {
            let mut file = json!({ "rfilename": path });
            if with_blobs {
                file["size"] = json!(content.len());
                file["blobId"] = json!(hash(content, 40));
                if is_large(path) {
                    file["lfs"] = json!({ "sha256": hash(content, 64), "size": content.len(), "pointerSize": 134 });
                }
            }
            file
        });
        let siblings: Vec<_> = siblings.collect();
        Answer::json(&json!({ "id": self.repo, "sha": self.hash, "private": false, "tags": [], "siblings": siblings }))
    }

    /// What Python's `snapshot_download` asks for.
    fn tree(&self) -> Answer {
        let files = self.files.iter().map(|(path, content)| {
            let mut file = json!({ "type": "file", "path": path, "size": content.len(), "oid": hash(content, 40) });
            if is_large(path) {
                file["lfs"] = json!({ "oid": hash(content, 64), "size": content.len(), "pointerSize": 134 });
            }
            file
        });
        Answer::json(&files.collect())
    }
}
