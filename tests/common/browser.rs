//! Pages in a browser, opened from disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::skipped;

/// A program that shows pages without a window.
pub struct Chromium(PathBuf);

impl Chromium {
    /// As `ASSAY_CHROMIUM` or the path has it. Without it a test is skipped and says so, unless `ASSAY_CHROMIUM` names one.
    pub fn found() -> Option<Self> {
        if let Some(named) = std::env::var_os("ASSAY_CHROMIUM").map(PathBuf::from) {
            assert!(named.is_file(), "ASSAY_CHROMIUM: {} is not there", named.display());
            return Some(Self(named));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let found =
            std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file());
        if found.is_none() {
            skipped("no Chromium is on the path; ASSAY_CHROMIUM=FILE names one and makes the test a must");
        }
        found.map(Self)
    }

    /// What a page looks like once its script has run, as HTML, and what it said on the console. No name of a host has an address.
    pub fn opened(&self, page: &Path, hash: &str) -> (String, String) {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new(&self.0)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--enable-logging=stderr", "--virtual-time-budget=20000", "--window-size=1400,900"])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("file://{}#{hash}", page.display()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let console = said.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
        (String::from_utf8(output.stdout).unwrap(), console)
    }
}
