//! What a folder must not name, by whatever path: of other crates, or of its own.
//!
//! A complaint is `file:line -> path`, where the path is the one that is meant: without aliases, and through whatever
//! hands it on.

use crate::complaints::{assert_none, lines_that_say};
use crate::manifests::{dependencies, manifest};
use troupe_tests::workspace::{self, Arrows, Source};

/// Folders and what they do not name; a crate stands for its family too (`tonic`, `tonic_types`).
struct Border {
    rule: &'static str,
    folders: &'static [&'static str],
    never: &'static [&'static str],
    /// What no line says either, path or not.
    words: &'static [&'static str],
}

const OPERATIONS: Border = Border {
    rule: "an operation is the same behind every door: take and give the house's own types, and let grpc/ and http/ \
           translate them",
    folders: &["broker/src/operations"],
    never: &[
        "tonic",
        "http",
        "hyper",
        "axum",
        "prost",
        "troupe_proto::v1",
        "troupe_proto::admin",
        "troupe_proto::chaos",
        "crate::grpc",
        "crate::http",
    ],
    words: &[],
};

const COORDINATOR: Border = Border {
    rule: "a coordinator does not know what it coordinates: let group/ and txn/ hand it in",
    folders: &["broker/src/coordinator"],
    never: &["troupe_machines::group", "troupe_machines::txn", "crate::group", "crate::txn"],
    words: &[],
};

const SERVICES: Border = Border {
    rule: "services speak to handles: ask a partition for what is needed of its log",
    folders: &[
        "broker/src/grpc",
        "broker/src/http",
        "broker/src/operations",
        "broker/src/group",
        "broker/src/txn",
    ],
    never: &["troupe_log"],
    words: &["troupe_log"],
};

const PARTITIONS: Border = Border {
    rule: "actors speak our errors: let whoever answers a call make a status of them",
    folders: &["broker/src/partition"],
    never: &["tonic"],
    words: &["tonic", "Status"],
};

const ACTORS: Border = Border {
    rule: "what it is to be an actor knows neither what actors are for nor who asks them: hand it in",
    folders: &["actor/src"],
    never: &["troupe"],
    words: &[],
};

/// Every place where the border is crossed. A folder that is not there is a complaint too.
fn crossings(border: &Border, sources: &[Source]) -> Vec<String> {
    let arrows = Arrows::of(sources);
    let mut found = Vec::new();
    for folder in border.folders {
        found.extend(arrows.what_names(folder, border.never));
        let within: Vec<Source> =
            sources.iter().filter(|source| source.lies_in(folder)).cloned().collect();
        found.extend(lines_that_say(&within, border.words));
    }
    found
}

fn assert_uncrossed(border: &Border, name: &str) {
    assert_none(&crossings(border, &workspace::sources(name).unwrap()), border.rule);
}

#[test]
fn operations_know_no_door() {
    assert_uncrossed(&OPERATIONS, "broker");
}

#[test]
fn the_coordinator_knows_nothing_of_groups() {
    assert_uncrossed(&COORDINATOR, "broker");
}

#[test]
fn services_never_see_a_log() {
    assert_uncrossed(&SERVICES, "broker");
}

#[test]
fn partition_actors_never_see_grpc() {
    assert_uncrossed(&PARTITIONS, "broker");
}

#[test]
fn the_floor_of_actors_knows_only_actix_and_tokio() {
    assert_none(&more_than_actix_and_tokio(&manifest("actor")), ACTORS.rule);
    assert_uncrossed(&ACTORS, "actor");
}

fn more_than_actix_and_tokio(manifest: &toml::Table) -> Vec<String> {
    let allowed = ["actix", "actix-rt", "tokio"];
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .flat_map(|section| dependencies(manifest, section))
        .filter(|name| !allowed.contains(&name.as_str()))
        .collect()
}

/// What a border says where one file in that folder has that text. What it may name is there, and a module that hands
/// on what others do not name.
fn crossings_of(border: &Border, folder: &str, text: &str) -> Vec<String> {
    let hands_on =
        "pub use tonic::Status as Word;\npub use troupe_proto::{admin, log, v1 as protobuf};\n";
    let mut files = vec![
        ("broker/src/lib.rs".to_owned(), String::new()),
        ("broker/src/handing_on.rs".to_owned(), hands_on.to_owned()),
        (format!("{folder}/planted.rs"), text.to_owned()),
    ];
    let others = ["broker/src/grpc", "broker/src/http", "broker/src/group"];
    let folders = border.folders.iter().chain(&others);
    files.extend(folders.map(|folder| (format!("{folder}/other.rs"), String::new())));
    crossings(border, &workspace::without_tests(&files))
}

#[test]
fn an_operation_that_knows_a_door_is_found() {
    let crossings = |text| crossings_of(&OPERATIONS, "broker/src/operations", text);
    for (text, path) in [
        ("use tonic::Status;", "tonic::Status"),
        ("use tonic_types::StatusExt;", "tonic_types::StatusExt"),
        ("fn f() -> ::http::Uri {}", "http::Uri"),
        ("fn f() { log!(hyper::Body::empty()) }", "hyper::Body::empty"),
        ("use {std::io, axum::Router};", "axum::Router"),
        ("#[derive(prost::Message)] struct A;", "prost::Message"),
        ("use troupe_proto::{ids::TopicId, v1::{self, Record}};", "troupe_proto::v1::Record"),
        ("use troupe_proto as proto; use proto::admin::v1 as a;", "troupe_proto::admin::v1"),
        ("use troupe_proto::chaos;", "troupe_proto::chaos"),
        ("use troupe_proto::*;", "troupe_proto::*"),
        ("use crate::*; fn f() { grpc::g() }", "crate::grpc::g"),
        ("use crate::handing_on::Word;", "tonic::Status"),
        ("use crate::handing_on::protobuf::Record;", "troupe_proto::v1::Record"),
        ("use super::super::grpc::Demand;", "crate::grpc::Demand"),
        ("use crate::{http, registry};", "crate::http"),
    ] {
        let complaint = format!("broker/src/operations/planted.rs:1 -> {path}");
        assert!(crossings(text).contains(&complaint), "{text}: {:?}", crossings(text));
    }
    let allowed = "//! No tonic.\nuse crate::handing_on::log::v1::Batch;\nuse troupe_proto::{ids, error::Error};\n\
                   fn f(http: u8) {}\n#[cfg(test)]\nmod tests {\n    use tonic::Status;\n}\n";
    assert!(crossings(allowed).is_empty(), "{:?}", crossings(allowed));
}

#[test]
fn a_coordinator_that_knows_groups_is_found() {
    let crossings = |text| crossings_of(&COORDINATOR, "broker/src/coordinator", text);
    let found = crossings(
        "use troupe_machines::{cluster, group::Group};\nfn f() { crate::group::join() }\n",
    );
    assert_eq!(
        found,
        [
            "broker/src/coordinator/planted.rs:1 -> troupe_machines::group::Group",
            "broker/src/coordinator/planted.rs:2 -> crate::group::join"
        ]
    );
    assert!(crossings("use troupe_machines::time::Millis;\n").is_empty());
}

#[test]
fn a_service_that_sees_a_log_is_found() {
    for folder in SERVICES.folders {
        let found = crossings_of(&SERVICES, folder, "use troupe_log::Log;\n");
        assert_eq!(
            found,
            [
                format!("{folder}/planted.rs:1 -> troupe_log::Log"),
                format!("{folder}/planted.rs:1: `troupe_log` in `use troupe_log::Log;`")
            ]
        );
    }
}

#[test]
fn a_partition_that_sees_grpc_is_found() {
    let crossings = |text| crossings_of(&PARTITIONS, "broker/src/partition", text);
    assert!(!crossings("use crate::handing_on::Word;\n").is_empty());
    assert!(!crossings("fn f() -> Status {}\n").is_empty());
    assert!(crossings("fn f() -> Condition {}\n").is_empty());
}

#[test]
fn an_actor_that_knows_the_house_is_found() {
    let found = crossings_of(&ACTORS, "actor/src", "fn f() { troupe_proto::ids::Offset::new() }\n");
    assert_eq!(found, ["actor/src/planted.rs:1 -> troupe_proto::ids::Offset::new"]);
    assert!(crossings_of(&ACTORS, "actor/src", "use tokio::sync::mpsc;\n").is_empty());
    let manifest = "[dependencies]\ntokio = '1'\n[dev-dependencies]\ntroupe-proto = '1'\n";
    assert_eq!(more_than_actix_and_tokio(&manifest.parse().unwrap()), ["troupe-proto"]);
}

#[test]
fn a_border_of_a_folder_that_is_not_there_is_found() {
    for border in [OPERATIONS, COORDINATOR, SERVICES, PARTITIONS, ACTORS] {
        let found = crossings(&border, &[]);
        let gone = |folder: &&str| format!("{folder} is not where the rule expects it");
        assert_eq!(found, border.folders.iter().map(gone).collect::<Vec<_>>());
    }
}
