//! `docs/architecture.md`: the ways through the house, file by file.

use super::assert_none;
use std::collections::BTreeSet;
use troupe_tests::workspace;

/// A way that passes a file twice goes back up.
#[test]
fn each_way_through_the_house_passes_files_that_are_there_and_each_once() {
    let page = workspace::read("docs/architecture.md").unwrap();
    let mut wrong = Vec::new();
    let mut ways = 0;
    for section in page.split("\n## ").skip(1) {
        let (name, rows) = section.split_once('\n').unwrap();
        let passed = rows.lines().filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
        let mut seen = BTreeSet::new();
        for (file, _) in passed {
            if !workspace::root().join(file).is_file() {
                wrong.push(format!("{name}: {file} is not there"));
            }
            if !seen.insert(file) {
                wrong.push(format!("{name}: {file} is passed twice"));
            }
        }
        ways += usize::from(!seen.is_empty());
    }
    assert_eq!(ways, 4, "produce, fetch, commit, failover");
    assert_none(&wrong, "write in docs/architecture.md how it goes now, or change the way");
}
