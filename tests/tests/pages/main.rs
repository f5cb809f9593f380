//! The README and the pages of `docs/` are true: every block of them is typed as it stands there, in its order, and has
//! to end as it says. A block that is not run says why not, beside it.
//!
//! A page has a network and processes of its own, so that all of them have a node at 127.0.0.1:7070.
#![allow(clippy::unwrap_used, reason = "tests")]

mod broken;
mod markdown;
mod not_yet;
mod run;
mod shell;

use markdown::{Way, blocks};
use shell::Place;
use std::collections::BTreeSet;
use std::process::Command;
use troupe_tests::workspace::{self, root};
use troupe_tests::{clients_directory, in_ci, skip};

/// What stands on the pages, and is typed nowhere: so many blocks, each with its reason.
const NOT_RUN: usize = 2;

/// A cluster of three in one process.
const DEV: &str = "
troupe dev --nodes 3 </dev/null >dev.log 2>&1 & disown
until troupe cluster health >/dev/null 2>&1; do sleep 0.1; done
";

/// The same, with topics.
const TOPICS: &str = "
troupe dev --nodes 3 </dev/null >dev.log 2>&1 & disown
until troupe cluster health >/dev/null 2>&1; do sleep 0.1; done
troupe topic create orders -p 6
seq 1000 | troupe produce orders
troupe topic create invoices
troupe topic create stock
";

/// A file as Kafka brings one along.
const KAFKAS: &str = "
cp tests/tests/pages/server.properties .
";

/// Three processes, and a fourth that has just come.
const OPERATED: &str = "
for n in 1 2 3; do troupe serve --daemon deploy/node-$n.toml; done
until troupe cluster health >/dev/null 2>&1; do sleep 0.1; done
troupe topic create orders -p 6
seq 1000 | troupe produce orders
sed -e 's/node.id = 1/node.id = 4/; s/node-1/node-4/; s/\"broker,controller\"/\"broker\"/' \\
    -e 's/^listener = .*/listener = \"127.0.0.1:7100\"/; s/^http.listener = .*/http.listener = \"127.0.0.1:7101\"/' \\
    -e '/^controller.listener/d' deploy/node-1.toml >node-4.toml
troupe serve --daemon node-4.toml
";

/// A node with a second disk, on which nothing is yet; and another cluster.
const STORED: &str = "
mkdir -p disks/two
troupe serve --daemon
troupe topic create orders -p 6
seq 1000 | sed 's/.*/&,&/' | troupe produce orders -f '%k,%v\\n'
troupe stop --data-dir troupe-data
troupe serve --daemon --set log.dirs=troupe-data,disks/two
troupe dev --listen 127.0.0.1:7170 --http 127.0.0.1:7171 </dev/null >dev.log 2>&1 & disown
until troupe cluster health --server 127.0.0.1:7170 >/dev/null 2>&1; do sleep 0.1; done
";

/// Each of the four workers has handled all that was published, in the end.
const HANDLED: &str = "
handled() { for n in $(seq 300); do
    [ \"$(sort -u $1/handled | wc -l)\" = 2001 ] && return
    sleep 0.1
done; wc -l $1/handled; return 1; }
handled python
handled node
handled go
handled java
";

/// `CI` says whether what cannot be tried is a failure.
fn page(test: &str, path: &str, before: &str, after: &str) {
    let text = workspace::read(path).unwrap();
    let fetches = |way: &Way| matches!(way, Way::Commands { registries: true, .. });
    let blocks = blocks(&text).unwrap_or_else(|why| panic!("{path}:{why}"));
    let ready = match blocks.iter().any(|block| fetches(&block.way)) {
        true => prepared(),
        false => Ok(()),
    };
    let mut place = match ready.and_then(|()| Place::new()) {
        Ok(place) => place,
        Err(why) => {
            assert!(!in_ci(), "{test}: {why}");
            return skip(test, &why);
        }
    };
    if let Err(fault) = run::run(&mut place, &text, before, after) {
        panic!("{path}, {fault}");
    }
}

/// What the pages' own commands take for granted: a `protoc`, and registries that answer.
fn prepared() -> Result<(), String> {
    let setup = root().join("tests/clients/setup");
    let output = Command::new(setup).arg(clients_directory()).arg("python").output();
    let output = output.map_err(|error| format!("setup cannot run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("setup failed: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Each page, how its test is called, what a reader has before it, and what is so behind it.
macro_rules! pages {
    ($($test:ident: $path:literal, $before:expr, $after:expr;)*) => {
        $(#[test]
        fn $test() {
            page(stringify!($test), $path, $before, $after);
        })*

        const PAGES: &[&str] = &[$($path),*];
    };
}

pages! {
    the_readme_is_true: "README.md", "", "";
    the_page_on_kafka_s_tools_is_true: "docs/compat.md", DEV, "";
    the_page_on_configuration_is_true: "docs/configuration.md", KAFKAS, "";
    the_page_on_groups_is_true: "docs/groups.md", DEV, "";
    the_page_on_operations_is_true: "docs/operations.md", OPERATED, "";
    the_page_on_services_is_true: "docs/services.md", "", HANDLED;
    the_page_on_storage_is_true: "docs/storage.md", STORED, "";
    the_page_on_transactions_is_true: "docs/transactions.md", TOPICS, "";
}

#[test]
fn every_page_is_run_and_what_is_not_run_is_counted_and_says_why() {
    let mut pages = workspace::files("docs", ".md").unwrap();
    pages.push("README.md".to_owned());
    let mut not_run = Vec::new();
    let mut with_blocks = BTreeSet::new();
    for page in &pages {
        let blocks = blocks(&workspace::read(page).unwrap());
        for block in blocks.unwrap_or_else(|why| panic!("{page}:{why}")) {
            with_blocks.insert(page.as_str());
            if let Way::NotRun(why) = block.way {
                not_run.push(format!("{page}:{}: {why}", block.line));
            }
        }
    }
    let run: BTreeSet<&str> = PAGES.iter().copied().collect();
    assert_eq!(with_blocks, run, "a page that no test runs, or a test of a page that has nothing");
    assert_eq!(not_run.len(), NOT_RUN, "what is not run:\n  {}", not_run.join("\n  "));
}
