//! Compiled kernels, kept in files from one process to the next.
//!
//! A file `<BLAKE3 of the key>.kernel` is the BLAKE3 of what follows, the key's length (8 bytes, little endian), the key and the
//! code. The key is everything that the code follows from, and is compared whole. So an entry that is truncated, damaged or
//! another's is a miss, and so is one that can't be read: what is asked for is then compiled as if there were no cache.
//! A file is written under another name and renamed when it is whole, so processes may share a directory.
//!
//! It knows nothing of CUDA: bytes in, bytes out.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The directory to use, or `off`.
const VARIABLE: &str = "ASSAY_KERNEL_CACHE";
/// Bytes of entries above which the oldest are removed, until half as many are left.
const BOUND: u64 = 256 << 20;
/// No entry is larger, so no larger file is read.
const LARGEST: u64 = 64 << 20;
/// Files that are being written are taken for left behind when they are older.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
const CHECKSUM: usize = blake3::OUT_LEN;
const LENGTH: usize = size_of::<u64>();

/// A directory of compiled kernels.
#[derive(Debug)]
pub struct KernelCache {
    directory: PathBuf,
    bound: u64,
    pruned: Once,
}

impl KernelCache {
    /// The cache that the environment says: in the directory that `ASSAY_KERNEL_CACHE` names, `None` if that is `off`, otherwise
    /// in `assay/kernels` of the user's cache (`XDG_CACHE_HOME`, `~/.cache`).
    pub fn from_env() -> Option<Self> {
        directory_from_env().map(|directory| Self::new(directory, BOUND))
    }

    /// A cache in a directory, which is made when something is written. It holds at most `bound` bytes and what one process
    /// writes: the directory is looked through once, at the first write.
    pub fn new(directory: impl Into<PathBuf>, bound: u64) -> Self {
        Self { directory: directory.into(), bound, pruned: Once::new() }
    }

    /// The code that was put under this key, if it is there and whole.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(key)).ok()?;
        let len = file.metadata().ok()?.len();
        if len > LARGEST {
            return None;
        }
        let mut entry = Vec::with_capacity(len as usize);
        file.read_to_end(&mut entry).ok()?;

        let (checksum, content) = entry.split_at_checked(CHECKSUM)?;
        let (key_len, content) = content.split_at_checked(LENGTH)?;
        let (stored_key, code) = content.strip_prefix(key).map(|code| (key, code))?;
        let is_whole = blake3::hash(&entry[CHECKSUM..]) == *<&[u8; CHECKSUM]>::try_from(checksum).ok()?;
        let is_ours = key_len == (stored_key.len() as u64).to_le_bytes();
        (is_whole && is_ours && !code.is_empty()).then(|| code.to_vec())
    }

    /// Keeps code under a key, in place of what was there.
    ///
    /// # Errors
    /// If the file can't be written: the directory is read-only, the disk is full. Nothing is left behind, and nothing but time is
    /// lost.
    pub fn put(&self, key: &[u8], code: &[u8]) -> io::Result<()> {
        if (CHECKSUM + LENGTH + key.len() + code.len()) as u64 > LARGEST {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        self.pruned.call_once(|| self.prune());

        let mut content = Vec::with_capacity(LENGTH + key.len() + code.len());
        content.extend_from_slice(&(key.len() as u64).to_le_bytes());
        content.extend_from_slice(key);
        content.extend_from_slice(code);

        let path = self.path(key);
        let unfinished = path.with_extension(unique());
        let written = OpenOptions::new().write(true).create_new(true).open(&unfinished).and_then(|mut file| {
            file.write_all(blake3::hash(&content).as_bytes())?;
            file.write_all(&content)
        });
        // Not synced to the disk: what a power cut leaves does not have its checksum.
        written.and_then(|()| fs::rename(&unfinished, &path)).inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })
    }

    fn path(&self, key: &[u8]) -> PathBuf {
        self.directory.join(format!("{}.kernel", blake3::hash(key).to_hex()))
    }

    /// Removes the oldest entries of a cache that is too large, and what processes that were killed were writing. Touches no
    /// file of another name; what can't be looked at or removed stays.
    fn prune(&self) {
        let Ok(files) = fs::read_dir(&self.directory) else { return };
        let mut entries = Vec::new();
        for file in files.flatten() {
            let path = file.path();
            let Ok(about) = file.metadata() else { continue };
            let Ok(modified) = about.modified() else { continue };
            if has_extension(&path, |it| it == "kernel") {
                entries.push((modified, path, about.len()));
            } else if has_extension(&path, |it| it.ends_with("-unfinished"))
                && modified.elapsed().is_ok_and(|age| age > ABANDONED)
            {
                let _ = fs::remove_file(path);
            }
        }
        let mut total: u64 = entries.iter().map(|(_, _, len)| len).sum();
        if total <= self.bound {
            return;
        }
        entries.sort();
        for (_, path, len) in entries {
            if total <= self.bound / 2 {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
    }
}

/// The directory of [`KernelCache::from_env`], whether it is there or not.
pub fn directory_from_env() -> Option<PathBuf> {
    directory(|name| std::env::var_os(name))
}

fn directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    match set(VARIABLE) {
        Some(value) if value == "off" => None,
        Some(value) => Some(value.into()),
        None => {
            // The XDG specification has relative paths ignored.
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            let cache = cache.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))?;
            Some(cache.join("assay").join("kernels"))
        }
    }
}

/// An extension that no other thread or process gives a file.
fn unique() -> String {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("{}-{now}-{}-unfinished", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed))
}

fn has_extension(path: &Path, is: impl Fn(&str) -> bool) -> bool {
    path.extension().and_then(|it| it.to_str()).is_some_and(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"NVRTC 13.0\n--gpu-architecture=sm_90a\nextern \"C\" __global__ void f() {}";
    const CODE: &[u8] = b"\x7fELF machine code";

    fn cache() -> (tempfile::TempDir, KernelCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = KernelCache::new(dir.path().join("assay/kernels"), BOUND);
        (dir, cache)
    }

    fn files(cache: &KernelCache) -> usize {
        fs::read_dir(&cache.directory).unwrap().count()
    }

    #[test]
    fn what_is_put_is_got_by_another_process() {
        let (_dir, cache) = cache();
        assert_eq!(cache.get(KEY), None);
        cache.put(KEY, CODE).unwrap();
        let other = KernelCache::new(&cache.directory, BOUND);
        assert_eq!(other.get(KEY).as_deref(), Some(CODE));
        assert_eq!(other.get(&[KEY, b" "].concat()), None);
        assert_eq!(other.get(&KEY[1..]), None);
        assert_eq!(other.get(b""), None);
        cache.put(KEY, b"newer").unwrap();
        assert_eq!(other.get(KEY).as_deref(), Some(b"newer".as_slice()));
        assert_eq!(files(&cache), 1);
    }

    #[test]
    fn an_entry_that_is_not_whole_is_a_miss_and_is_replaced() {
        let (_dir, cache) = cache();
        cache.put(KEY, CODE).unwrap();
        let path = cache.path(KEY);
        let whole = fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            cache.get(KEY)
        };
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]), None, "cut after {len} bytes");
        }
        for bit in 0..8 * whole.len() {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&damaged), None, "bit {bit} flipped");
        }
        assert_eq!(read(&[&whole[..], b"\0"].concat()), None);
        assert_eq!(read(&vec![0; whole.len()]), None);
        cache.put(KEY, CODE).unwrap();
        assert_eq!(cache.get(KEY).as_deref(), Some(CODE));
    }

    #[test]
    fn an_entry_of_another_key_is_a_miss() {
        let (_dir, cache) = cache();
        let other = b"another kernel";
        cache.put(other, CODE).unwrap();
        fs::rename(cache.path(other), cache.path(KEY)).unwrap();
        assert_eq!(cache.get(KEY), None);
        // One whose key and code are split elsewhere: the bytes are the same.
        let (front, back) = KEY.split_at(KEY.len() - 1);
        cache.put(front, &[back, CODE].concat()).unwrap();
        fs::rename(cache.path(front), cache.path(KEY)).unwrap();
        assert_eq!(cache.get(KEY), None);
        // A directory, and a file that is too large to be one.
        fs::remove_file(cache.path(KEY)).unwrap();
        fs::create_dir(cache.path(KEY)).unwrap();
        assert_eq!(cache.get(KEY), None);
        assert!(cache.put(KEY, CODE).is_err());
        assert_eq!(files(&cache), 1, "nothing unfinished is left behind");
        fs::remove_dir(cache.path(KEY)).unwrap();
        File::create(cache.path(KEY)).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(cache.get(KEY), None);
    }

    #[test]
    fn writers_and_readers_at_one_time_see_whole_entries() {
        let (_dir, cache) = cache();
        let codes: Vec<Vec<u8>> = (0..4u8).map(|i| vec![i; 50_000 + usize::from(i)]).collect();
        std::thread::scope(|scope| {
            for code in &codes {
                let writer = KernelCache::new(&cache.directory, BOUND);
                scope.spawn(move || (0..50).for_each(|_| writer.put(KEY, code).unwrap()));
            }
            let (cache, codes) = (&cache, &codes);
            scope.spawn(move || {
                let mut seen = 0;
                while seen < 50 {
                    // A rename is one step: once there, an entry is always there.
                    match cache.get(KEY) {
                        Some(code) => assert!(codes.contains(&code)),
                        None => assert_eq!(seen, 0),
                    }
                    seen += usize::from(cache.get(KEY).is_some());
                }
            });
        });
        assert_eq!(files(&cache), 1);
    }

    #[test]
    fn a_cache_that_cannot_be_written_still_reads() {
        let (dir, cache) = cache();
        // Below a file, where no one may make a directory, root included.
        fs::write(dir.path().join("file"), "").unwrap();
        let nowhere = KernelCache::new(dir.path().join("file/kernels"), BOUND);
        assert!(nowhere.put(KEY, CODE).is_err());
        assert_eq!(nowhere.get(KEY), None);

        cache.put(KEY, CODE).unwrap();
        let mut permissions = fs::metadata(&cache.directory).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&cache.directory, permissions.clone()).unwrap();
        let _ = cache.put(b"another kernel", CODE); // root may
        assert_eq!(cache.get(KEY).as_deref(), Some(CODE));
        #[allow(clippy::permissions_set_readonly_false, reason = "a directory that is removed next")]
        permissions.set_readonly(false);
        fs::set_permissions(&cache.directory, permissions).unwrap();
    }

    #[test]
    fn the_oldest_entries_make_room_and_other_files_stay() {
        let (_dir, cache) = cache();
        let key = |i: u64| format!("kernel {i}").into_bytes();
        let day = |n: u64| UNIX_EPOCH + Duration::from_secs(n * 24 * 3600);
        for i in 0..10 {
            cache.put(&key(i), &[7; 1000]).unwrap();
            File::options().write(true).open(cache.path(&key(i))).unwrap().set_modified(day(i)).unwrap();
        }
        let [others, abandoned, fresh] =
            ["notes.txt", "a.1-2-3-unfinished", "b.1-2-3-unfinished"].map(|name| cache.directory.join(name));
        for path in [&others, &abandoned, &fresh] {
            fs::write(path, [0; 9000]).unwrap();
        }
        for path in [&others, &abandoned] {
            File::options().write(true).open(path).unwrap().set_modified(day(0)).unwrap();
        }
        // About 1050 bytes each: ten are too many for 8000, and three fit into half of that.
        let next = KernelCache::new(&cache.directory, 8000);
        next.put(&key(10), &[7; 1000]).unwrap();
        let left: Vec<u64> = (0..11).filter(|&i| next.get(&key(i)).is_some()).collect();
        assert_eq!(left, [7, 8, 9, 10]);
        assert!(others.exists() && fresh.exists() && !abandoned.exists());
    }

    #[test]
    fn the_environment_says_where() {
        let at = |variables: &[(&str, &str)]| {
            directory(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(at(&[("HOME", "/h")]), path("/h/.cache/assay/kernels"));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), path("/x/assay/kernels"));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")]), path("/h/.cache/assay/kernels"));
        assert_eq!(at(&[("HOME", "/h"), (VARIABLE, "/k")]), path("/k"));
        assert_eq!(at(&[("HOME", "/h"), (VARIABLE, "")]), path("/h/.cache/assay/kernels"));
        assert_eq!(at(&[("HOME", "/h"), (VARIABLE, "off")]), None);
        assert_eq!(at(&[]), None);
    }
}
