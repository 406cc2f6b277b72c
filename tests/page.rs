//! `report.html` in a browser: its script runs under its own policy. Skipped with a message where there is no Chromium.

use std::process::Command;

use assay::report;

use crate::common::{copy_dir, root, skipped};

#[test]
fn the_page_s_script_runs_under_its_policy() {
    let chromium = ["chromium", "chromium-browser", "google-chrome"];
    let found = chromium
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()));
    let Some(chromium) = found else {
        skipped("there is no Chromium to open report.html in");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("example");
    copy_dir(&root().join("results/example"), &results);
    report::write(&results).unwrap();
    let page = std::fs::read_to_string(results.join("report.html")).unwrap();
    assert!(!page.contains("<button") && !page.contains("<input"), "they are the script's");
    let shown = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("file://{}", results.join("report.html").display()))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (tables, heads) = (page.matches("<table>").count(), page.matches("<th scope").count());
    assert!(
        tables > 10 && shown.matches("<table>").count() == tables,
        "{} of {tables}",
        shown.matches("<table>").count()
    );
    assert_eq!(shown.matches("<button type=\"button\"").count(), heads);
    assert!(shown.matches("<input type=\"search\"").count() > 5);
}
