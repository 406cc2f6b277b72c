//! One file from the hub into the cache: resumed, tried again, and checked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::cache::{RepoCache, create_parent, is_whole};
use crate::client::{Answer, Client, Failure, Retries};
use crate::error::HubError;
use crate::tree::Entry;
use crate::{HubName, Result, Want};

/// A try that brought this much was no failure: a long download may break off often.
const PROGRESS: u64 = 1 << 20;

/// Where files come from: a commit of a repository.
pub(crate) struct Source<'a> {
    pub(crate) client: &'a Client,
    pub(crate) name: &'a HubName,
    pub(crate) want: Want,
    pub(crate) commit: &'a str,
}

/// Brings a file into the cache, and makes it one of the commit's. `on` is told of bytes as they come, those first that an earlier
/// try left.
pub(crate) fn file(source: &Source<'_>, repo: &RepoCache, file: &Entry, on: &mut dyn FnMut(u64)) -> Result<()> {
    let _lock = repo.lock(file)?;
    let blob = repo.blob(file);
    // It may be another commit's too, or have come while we waited.
    if is_whole(&blob, file) {
        on(file.size);
        return repo.link(source.commit, file);
    }
    let part = repo.part(file);
    bytes(source, repo, file, on)?;
    let found = match hash(&part, file) {
        // Where locks don't hold, another process may have moved it, here and below.
        Err(_) if is_whole(&blob, file) => return repo.link(source.commit, file),
        found => found.map_err(|e| HubError::write(&part, e))?,
    };
    if found != file.etag() {
        // No download could resume from it.
        std::fs::remove_file(&part).map_err(|e| HubError::write(&part, e))?;
        return Err(differs(source, file, format!("its hash is {found}, expected {}", file.etag())));
    }
    // A rename may reach the disk before the bytes that it names, and a blob is trusted by its name and size.
    if let Err(e) = File::open(&part).and_then(|file| file.sync_all()).and_then(|()| std::fs::rename(&part, &blob))
        && !is_whole(&blob, file)
    {
        return Err(HubError::write(&blob, e));
    }
    repo.link(source.commit, file)
}

/// A file's hash as the hub knows it: the SHA-256 of what is not in git itself, else git's SHA-1, which begins with `blob` and the
/// size.
fn hash(path: &Path, file: &Entry) -> io::Result<String> {
    let mut context = if file.etag().len() == 64 {
        Context::new(&SHA256)
    } else {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        context.update(format!("blob {}\0", file.size).as_bytes());
        context
    };
    let mut content = File::open(path)?;
    let mut buffer = vec![0; 1 << 17];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Collects a file's bytes in its `.part`, after those that are there.
fn bytes(source: &Source<'_>, repo: &RepoCache, file: &Entry, on: &mut dyn FnMut(u64)) -> Result<()> {
    let path = repo.part(file);
    let failed = |e| HubError::write(&path, e);
    create_parent(&path).map_err(failed)?;
    let mut part = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let mut have = part.metadata().map_err(failed)?.len();
    if have > file.size {
        part.set_len(0).map_err(failed)?;
        have = 0;
    }
    on(have);
    let mut retries = Retries::default();
    while have < file.size {
        let before = have;
        let failure = match request(source, file, have) {
            // Bytes are written where they belong, not at the end: should two processes work on one file, they don't mix.
            Ok(body) => match copy(body, &mut part, have, file.size, on) {
                Copied::All => break,
                Copied::Some { end, why } => {
                    have = end;
                    Failure::Unreachable { url: String::new(), why }
                }
                Copied::TooMany => {
                    // Whatever it is, it is no beginning of the file.
                    part.set_len(0).map_err(failed)?;
                    let why = format!("there are more bytes than {}", file.size);
                    return Err(differs(source, file, why));
                }
                Copied::NotWritten(e) => return Err(failed(e)),
            },
            Err(failure) => failure,
        };
        if have - before >= PROGRESS {
            retries = Retries::default();
        }
        let (why, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Unreachable { why, .. } => (why, None),
            Failure::Busy { why, wait, .. } => (why, wait),
        };
        if !retries.again(wait) {
            let (name, file, size) = (source.name.to_string(), file.path.clone(), file.size);
            return Err(HubError::BrokeOff { name, file, got: have, size, tries: retries.count(), why });
        }
    }
    part.sync_all().map_err(failed)
}

/// An answer's bytes from `start` on.
fn request(source: &Source<'_>, file: &Entry, start: u64) -> Result<impl io::Read, Failure> {
    let Source { client, name, want, commit } = *source;
    let answer = client.file(want, name, commit, &file.path, start)?;
    check(source, file, start, &answer).map_err(|why| Failure::Final(differs(source, file, why)))?;
    let mut body = answer.body;
    if answer.status == 200 && start > 0 {
        // The server can't skip, so we do.
        let skipped = io::copy(&mut body.by_ref().take(start), &mut io::sink());
        skipped.map_err(|e| Failure::Unreachable { url: String::new(), why: e.to_string() })?;
    }
    Ok(body)
}

/// Compares an answer's headers with what was asked for.
fn check(source: &Source<'_>, file: &Entry, start: u64, answer: &Answer) -> Result<(), String> {
    let differing = |name: &str, expected: &str| {
        let found = answer.header(name).map(|text| text.trim_start_matches("W/").trim_matches('"'));
        found.filter(|found| *found != expected).map(|found| format!("{name} is {found}, expected {expected}"))
    };
    let size = file.size.to_string();
    let hub = differing("x-repo-commit", source.commit)
        .or_else(|| differing("x-linked-etag", file.etag()))
        .or_else(|| differing("x-linked-size", &size));
    if let Some(why) = hub {
        return Err(why);
    }
    match answer.status {
        206 => {
            let range = answer.header("content-range").unwrap_or_default();
            let expected = format!("bytes {start}-");
            let total = range.rsplit_once('/').map_or("", |(_, total)| total);
            if range.starts_with(&expected) && (total == size || total == "*") {
                Ok(())
            } else {
                Err(format!("bytes {start} to the end of {size} were asked for, and it sends `{range}`"))
            }
        }
        416 => Err(format!("it has no byte {start}, though it should have {size}")),
        _ => match answer.header("content-length") {
            Some(length) if length != size => Err(format!("it has {length} bytes, expected {size}")),
            _ => Ok(()),
        },
    }
}

fn differs(source: &Source<'_>, file: &Entry, why: String) -> HubError {
    HubError::Differs { name: source.name.to_string(), file: file.path.clone(), why }
}

enum Copied {
    All,
    /// The body ended or broke off too early.
    Some {
        end: u64,
        why: String,
    },
    TooMany,
    NotWritten(io::Error),
}

/// Writes a body to its place in the file.
fn copy(mut body: impl io::Read, part: &mut std::fs::File, start: u64, size: u64, on: &mut dyn FnMut(u64)) -> Copied {
    if let Err(e) = part.seek(SeekFrom::Start(start)) {
        return Copied::NotWritten(e);
    }
    let mut buffer = vec![0; 1 << 17];
    let mut end = start;
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) if end == size => return Copied::All,
            Ok(0) => return Copied::Some { end, why: "the connection was closed".to_owned() },
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Copied::Some { end, why: e.to_string() },
        };
        if end + count as u64 > size {
            return Copied::TooMany;
        }
        if let Err(e) = part.write_all(&buffer[..count]) {
            return Copied::NotWritten(e);
        }
        end += count as u64;
        on(count as u64);
    }
}
