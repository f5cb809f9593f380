//! Whoever adds an error, a configuration key, a call or a metric has several places to go to. The compiler knows some
//! of them, the contract's and the deployment's tests others; here are those that nothing else would miss.
//!
//! `CONTRIBUTING.md` has the lists. What is read here is text and descriptors; nothing is run.
#![allow(clippy::unwrap_used, reason = "tests")]

mod calls;
mod metrics;
mod page;
mod reasons;
mod settings;
mod ways;

use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;
use troupe_tests::workspace;

fn assert_none(forgotten: &[String], what_to_do: &str) {
    assert!(forgotten.is_empty(), "{what_to_do}:\n  {}", forgotten.join("\n  "));
}

/// What is said by the code of these crates, comments and the files below `elsewhere` aside.
fn code(crates: &[&str], elsewhere: &str) -> String {
    let sources = crates.iter().flat_map(|name| workspace::sources(name).unwrap());
    let mut all = String::new();
    for source in sources.filter(|source| !source.path.starts_with(elsewhere)) {
        for (_, line) in source.code() {
            all.push_str(line);
            all.push('\n');
        }
    }
    all
}

/// Everything that tests say, those within a crate's files included; not what only lists them.
fn tests() -> String {
    let mut all = String::new();
    for path in workspace::files("", ".rs").unwrap() {
        let text = workspace::read(&path).unwrap();
        let of_tests = ["tests/", "/tests/", "/tests.rs", "_tests.rs"];
        let is_test = of_tests.iter().any(|part| format!("/{path}").contains(part));
        let from = if is_test { Some(0) } else { text.find("#[cfg(test)]") };
        let is_list =
            path.starts_with("tests/tests/places/") || path.ends_with("contract/errors.rs");
        if let Some(from) = from.filter(|_| !is_list) {
            all.push_str(&text[from..]);
        }
    }
    all
}

/// The text between two marks of a file.
fn between(path: &str, begin: &str, end: &str) -> String {
    let text = workspace::read(path).unwrap();
    let rest = text.split_once(begin).unwrap_or_else(|| panic!("{path} has no `{begin}`")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("{path}: no `{end}` after `{begin}`")).0.into()
}

/// What stands between quotation marks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(troupe_proto::FILE_DESCRIPTOR_SET).unwrap()
}

fn is_lower_snake(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}
