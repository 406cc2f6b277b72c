//! `report.html` in a browser: its script runs under its own policy. Skipped with a message where there is no Chromium.

use assay::report;

use crate::common::browser::Chromium;
use crate::common::{copy_dir, root};

#[test]
fn the_page_s_script_runs_under_its_policy() {
    let Some(chromium) = Chromium::found() else { return };
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("example");
    copy_dir(&root().join("results/example"), &results);
    report::write(&results).unwrap();
    let page = std::fs::read_to_string(results.join("report.html")).unwrap();
    assert!(!page.contains("<button") && !page.contains("<input"), "they are the script's");
    let (shown, console) = chromium.opened(&results.join("report.html"), "");
    assert!(console.is_empty(), "{console}");
    let (tables, heads) = (page.matches("<table>").count(), page.matches("<th scope").count());
    assert!(
        tables > 10 && shown.matches("<table>").count() == tables,
        "{} of {tables}",
        shown.matches("<table>").count()
    );
    assert_eq!(shown.matches("<button type=\"button\"").count(), heads);
    assert!(shown.matches("<input type=\"search\"").count() > 5);
}
