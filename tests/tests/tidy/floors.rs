//! Within a crate: whoever names something stands above it.
//!
//! Each complaint is an arrow, `file:line -> file: names`: the first file, from that line on, names what the second
//! one defines. `lib.rs`, `main.rs` and module files that only declare and hand on are no end of an arrow.

use crate::complaints::assert_none;
use std::sync::LazyLock;
use troupe_tests::workspace::{self, Arrows};

/// Top to bottom: the top-level modules on each. Those on one floor do not name each other.
type Floors = &'static [&'static [&'static str]];

/// Each crate and its floors; its root stands above them.
const FLOORS: [(&str, Floors); 2] = [
    (
        "broker",
        &[
            &["node"],
            &["server"],
            &["grpc", "http"],
            &["operations"],
            &["txn"],
            &["group"],
            &["coordinator"],
            &["cleaner", "connections", "forward", "log_directories", "replication"],
            &["address_book"],
            &["metadata_cache"],
            &["registry"],
            &["partition"],
            &[
                "abort",
                "controller_channel",
                "metrics",
                "node_keys",
                "node_settings",
                "topic_defaults",
            ],
            &["admission", "clock", "config", "peers", "shutdown", "unpacker"],
            &["allocator", "descriptors", "lines", "methods", "page_cache", "process"],
        ],
    ),
    (
        "cli",
        &[
            &["arguments"],
            &["compat"],
            &["commands"],
            &["live_names", "placement", "settings"],
            &["global"],
            &["waiting"],
            &["health"],
            &["as_of", "foreground", "node_view", "watch"],
            &[
                "actors",
                "configuration",
                "confirm",
                "output",
                "ports",
                "roles",
                "runtime",
                "signals",
                "typed",
            ],
            &["replica_condition", "reassignment"],
            &[
                "decoder",
                "failure",
                "fan_out",
                "latency",
                "offset_range",
                "producer",
                "topic_partitions",
            ],
            &["pid_file"],
            &["record_format", "streams"],
            &[
                "address_pattern",
                "assignment",
                "endpoints",
                "exit",
                "foreign_words",
                "group_records",
                "metadata_records",
                "nearest",
                "pace",
                "process",
                "quantity",
                "readiness",
                "timestamp",
                "topic_selection",
                "transaction_records",
            ],
        ],
    ),
];

const NO_CIRCLE_OF_FILES: &str = "no file may lead back to itself: in each circle, move what one arrow names into a \
                                  file below both ends, or let the upper file hand it down";
const NO_CIRCLE_OF_FOLDERS: &str = "no folder may lead back to itself: in each circle, decide which one stands below \
                                    and move what it names of the others down to it, or further down";
const DOWN_ONLY: &str = "an arrow goes to a lower floor: move what it names down, to where its subject is, or let the \
                         upper module hand it in; a new module gets its place in FLOORS";

static CRATES: LazyLock<Vec<(&str, Floors, Arrows)>> = LazyLock::new(|| {
    let arrows = |name| Arrows::of(&workspace::sources(name).unwrap());
    FLOORS.into_iter().map(|(name, floors)| (name, floors, arrows(name))).collect()
});

#[test]
fn files_name_each_other_in_no_circle() {
    let circles = CRATES.iter().flat_map(|(_, _, arrows)| arrows.circles_between_files());
    assert_none(&circles.collect::<Vec<_>>(), NO_CIRCLE_OF_FILES);
}

#[test]
fn folders_name_each_other_in_no_circle() {
    let circles = CRATES.iter().flat_map(|(_, _, arrows)| arrows.circles_between_folders());
    assert_none(&circles.collect::<Vec<_>>(), NO_CIRCLE_OF_FOLDERS);
}

#[test]
fn arrows_go_down_only() {
    let complaints = CRATES.iter().flat_map(|(name, floors, arrows)| {
        let complaints = arrows.against_floors(floors);
        complaints.into_iter().map(move |complaint| format!("{name}: {complaint}"))
    });
    assert_none(&complaints.collect::<Vec<_>>(), DOWN_ONLY);
}

fn arrows_of(planted: &[(String, String)]) -> Arrows {
    Arrows::of(&workspace::without_tests(planted))
}

fn planted(name: &str, module: &str, text: &str) -> (String, String) {
    (format!("{name}/src/{module}.rs"), text.to_owned())
}

fn assert_some(complaints: &[String], parts: &[String]) {
    let is_it = |complaint: &String| parts.iter().all(|part| complaint.contains(part));
    assert!(complaints.iter().any(is_it), "{parts:?} in {complaints:#?}");
}

#[test]
fn a_circle_of_files_is_found() {
    for (name, _) in FLOORS {
        let upper = planted(name, "planted/upper", "use super::lower::Lower;\npub struct Upper;\n");
        let lower = planted(
            name,
            "planted/lower",
            "use crate::planted::upper::{self, Upper};\npub struct Lower;\n",
        );
        let down = format!("{}:1 -> {}: Lower", upper.0, lower.0);
        let up = format!("{}:1 -> {}: Upper", lower.0, upper.0);
        let found = arrows_of(&[upper, lower]).circles_between_files();
        assert_some(&found, &["a circle of 2 files".to_owned(), down, up]);
    }
}

#[test]
fn a_circle_of_folders_is_found() {
    for (name, _) in FLOORS {
        let one = planted(name, "planted/a/one", "use crate::planted::b::Two;\n");
        let two = planted(name, "planted/b", "pub struct Two;\n");
        let three = planted(name, "planted/a/three", "pub struct Three;\n");
        let four = planted(name, "planted/b/four", "use crate::planted::a::three::Three;\n");
        let there = format!("{}:1 -> {}: Two", one.0, two.0);
        let back = format!("{}:1 -> {}: Three", four.0, three.0);
        let arrows = arrows_of(&[one, two, three, four]);
        let folders = "a circle in planted: a, b:".to_owned();
        assert_some(&arrows.circles_between_folders(), &[folders, there, back]);
        assert!(arrows.circles_between_files().is_empty());
    }
}

#[test]
fn an_arrow_that_goes_up_is_found() {
    for (name, floors) in FLOORS {
        let (top, bottom) = (floors[0][0], floors[floors.len() - 1][0]);
        let upper = planted(name, &format!("{top}/planted"), "pub fn upper() {}\n");
        let call = format!("fn lower() {{ crate::{top}::planted::upper() }}\n");
        let lower = planted(name, &format!("{bottom}/planted"), &call);
        let up = format!("{}:1 -> {}: upper (`{bottom}` is on floor", lower.0, upper.0);
        assert_some(&arrows_of(&[upper, lower]).against_floors(floors), &[up]);
    }
}

#[test]
fn a_module_without_a_floor_is_found_and_so_is_a_floor_without_its_module() {
    for (name, floors) in FLOORS {
        let found = arrows_of(&[planted(name, "planted", "")]).against_floors(floors);
        assert_some(&found, &["`planted` is a module and stands on no floor".to_owned()]);
        let floors = [floors, &[&["gone"]]].concat();
        let gone = format!("`gone` stands on floor {} and is no module", floors.len());
        assert_some(&arrows_of(&[]).against_floors(&floors), &[gone]);
    }
}
