//! The rules of the house that a compiler does not hold: who may import whom, what a layer must not see,
//! how long files are, what they are called. The design's section 1 as tests.
//!
//! - [`floors`]: within a crate, names go down only, and nowhere in a circle.
//! - [`borders`]: what a folder must not name, of other crates or of its own.
//!
//! No rule knows an exception. Each of those two files shows that its rules can fail.
#![allow(clippy::unwrap_used, reason = "tests")]

mod borders;
mod complaints;
mod floors;
mod manifests;

use complaints::{assert_none, lines_that_say};
use manifests::{IMPORTS, crates, dependencies, manifest};
use std::collections::BTreeSet;
use troupe_tests::workspace::{self, Source, says};

#[test]
fn the_workspace_has_the_crates_of_the_design() {
    let root: toml::Table = workspace::read("Cargo.toml").unwrap().parse().unwrap();
    let members: BTreeSet<&str> = root["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap())
        .collect();
    let of_the_design: BTreeSet<&str> = crates().collect();
    let (others, known): (BTreeSet<_>, BTreeSet<_>) =
        members.into_iter().partition(|member| !of_the_design.contains(member));
    assert_eq!(known, of_the_design);
    // Another one, within one's directory, is that one's own affair: it imports nothing of the house.
    for member in others {
        assert!(
            member.contains('/') && known.contains(member.split('/').next().unwrap()),
            "{member}"
        );
        let imported = dependencies(&manifest(member), "dependencies");
        assert!(imported.iter().all(|name| !name.starts_with("troupe-")), "{member}");
    }
}

#[test]
fn crates_import_only_what_the_design_allows() {
    let mut violations = Vec::new();
    for (name, allowed) in IMPORTS {
        let manifest = manifest(name);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let imported = dependencies(&manifest, section);
            let of_the_house = imported.iter().filter_map(|name| name.strip_prefix("troupe-"));
            for import in of_the_house.filter(|import| !allowed.contains(import)) {
                violations.push(format!("{name}/Cargo.toml: [{section}] imports {import}"));
            }
        }
    }
    assert_none(&violations, "the arrows of the design point one way");
}

#[test]
fn versions_stand_in_the_workspace_alone() {
    let mut violations = Vec::new();
    for name in crates() {
        let manifest = manifest(name);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(section) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (dependency, value) in section {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    violations.push(format!("{name}/Cargo.toml: {dependency}"));
                }
            }
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(toml::Value::as_bool) != Some(true) {
            violations.push(format!("{name}/Cargo.toml: lints are not the workspace's"));
        }
    }
    assert_none(&violations, "say `workspace = true`");
}

#[test]
fn machines_decide_without_time_chance_or_the_world() {
    let rule = "machines get time and chance as arguments and touch nothing";
    let forbidden = ["actix", "actix-rt", "tokio", "tokio-util", "tonic", "rand", "futures"];
    let imported = dependencies(&manifest("machines"), "dependencies");
    let violations: Vec<String> =
        imported.into_iter().filter(|name| forbidden.contains(&name.as_str())).collect();
    assert_none(&violations, rule);
    let words = [
        "actix",
        "tokio",
        "tonic",
        "rand",
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "RandomState",
    ];
    assert_none(&lines_that_say(&workspace::sources("machines").unwrap(), &words), rule);
}

#[test]
fn the_log_knows_neither_actors_nor_runtimes() {
    let rule = "the log is synchronous: no actors, no runtime, no gRPC";
    let forbidden = ["actix", "actix-rt", "tokio", "tokio-util", "tonic", "futures"];
    let imported = dependencies(&manifest("log"), "dependencies");
    let violations: Vec<String> =
        imported.into_iter().filter(|name| forbidden.contains(&name.as_str())).collect();
    assert_none(&violations, rule);
    let words = ["actix", "tokio", "tonic", "async", "SystemTime", "Instant"];
    assert_none(&lines_that_say(&workspace::sources("log").unwrap(), &words), rule);
}

#[test]
fn errors_become_statuses_in_one_place() {
    let mut violations = Vec::new();
    for name in crates() {
        let sources = workspace::sources(name).unwrap();
        let elsewhere: Vec<Source> = sources
            .into_iter()
            .filter(|source| source.path != "proto/src/error/status.rs")
            .collect();
        let words = ["Status::with_details", "Status::internal", "Status::unknown"];
        violations.extend(lines_that_say(&elsewhere, &words));
    }
    assert_none(&violations, "an error becomes a `tonic::Status` in proto/src/error/status.rs");
}

#[test]
fn no_file_is_named_after_nothing() {
    let empty = ["utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"];
    let violations: Vec<String> = workspace::files("", ".rs")
        .unwrap()
        .into_iter()
        .filter(|path| {
            let parts = path.trim_end_matches(".rs").split('/');
            parts.flat_map(|part| part.split('_')).any(|part| empty.contains(&part))
        })
        .collect();
    assert_none(&violations, "a file is named after its subject");
}

#[test]
fn production_files_are_short() {
    const LIMIT: usize = 500;
    let mut violations = Vec::new();
    for name in crates() {
        for source in workspace::sources(name).unwrap() {
            if source.length() > LIMIT {
                violations.push(format!("{}: {} lines", source.path, source.length()));
            }
        }
    }
    assert_none(&violations, "split by subject what is longer than 500 lines");
}

#[test]
fn every_module_opens_with_its_story() {
    let mut violations = Vec::new();
    for name in crates() {
        for source in workspace::sources(name).unwrap() {
            if !source.production.first().is_some_and(|line| line.starts_with("//!")) {
                violations.push(source.path);
            }
        }
    }
    assert_none(&violations, "a module says what it owns, what it promises, what it never does");
}

#[test]
fn production_code_has_no_placeholders() {
    let mut violations = Vec::new();
    let words = ["todo!", "unimplemented!", "dbg!", ".unwrap()", "TODO", "FIXME", "HACK", "XXX"];
    for name in crates().filter(|name| *name != "tests") {
        for source in workspace::sources(name).unwrap() {
            for (index, line) in source.production.iter().enumerate() {
                for word in words.iter().filter(|word| says(line, word)) {
                    violations.push(format!("{}:{}: {word}", source.path, index + 1));
                }
            }
        }
    }
    assert_none(&violations, "finished, or not in the tree");
}

/// Those macros panic when their reader has left, and wait when it has stopped: a word that nobody hears would cost an
/// actor, or the process.
#[test]
fn nothing_is_printed_past_the_streams_that_may_fail() {
    let mut violations = Vec::new();
    let words = ["println!", "eprintln!", "print!", "eprint!", "stdout()", "stderr()"];
    // Where they are asked what they are, or written to with an eye on the outcome.
    let knows = ["cli/src/streams.rs", "cli/src/confirm.rs"];
    for name in crates().filter(|name| *name != "tests") {
        let sources = workspace::sources(name).unwrap();
        let others = sources.into_iter().filter(|source| !knows.contains(&source.path.as_str()));
        for source in others {
            for (number, line) in source.code() {
                let asks = line.contains("stdout().is_terminal()")
                    || line.contains("stderr().is_terminal()");
                for word in words.iter().filter(|word| says(line, word) && !asks) {
                    violations.push(format!("{}:{number}: {word}", source.path));
                }
            }
        }
    }
    assert_none(&violations, "results go through cli/src/streams.rs, notices through `notice!`");
}

#[test]
fn the_readme_can_be_read_in_one_go() {
    let lines = workspace::read("README.md").unwrap().lines().count();
    assert!(lines < 200, "README.md has {lines} lines");
}
