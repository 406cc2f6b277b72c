//! What `docs/promises.md` promises is tested by what it names.

use crate::common::root;

#[test]
fn every_promise_names_tests_that_are_there() {
    let text = std::fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise") && !line.starts_with("| ---"));
    let mut promises = 0;
    for row in rows {
        let named = row.trim_end_matches(" |").rsplit("| ").next().unwrap().trim_matches('`');
        promises += 1;
        let Some((module, test)) = named.split_once("::") else {
            let code = std::fs::read_to_string(root().join(named)).unwrap_or_else(|e| panic!("{named}: {e}"));
            assert!(code.contains("#[test]"), "{named} has no test");
            continue;
        };
        let path = root().join("tests").join(format!("{module}.rs"));
        let code = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{named}: {e}"));
        assert!(
            code.contains(&format!("#[test]\nfn {test}()")) || code.contains(&format!("]\nfn {test}()")),
            "{named} is not there"
        );
    }
    assert!(promises > 20, "{promises}");
}
