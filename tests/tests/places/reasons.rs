//! Reasons of the contract: somebody gives each, and a test expects it.

use crate::{assert_none, code, descriptors, tests};
use troupe_proto::error::ErrorCode;
use troupe_tests::workspace::{self, says};

/// In the contract since groups are, and given by nobody as long as there is one ordering.
const REASONS_TO_COME: [ErrorCode; 1] = [ErrorCode::OrderingMismatch];

/// The crates of a node: all but those of its clients and tests.
fn crates_of_a_node() -> Vec<String> {
    let root: toml::Table = workspace::read("Cargo.toml").unwrap().parse().unwrap();
    let members = root["workspace"]["members"].as_array().unwrap().iter();
    let names = members.map(|member| member.as_str().unwrap().to_owned());
    let not = ["client", "cli", "tests"];
    names.filter(|name| !name.contains('/') && !not.contains(&name.as_str())).collect()
}

#[test]
fn every_reason_is_given_by_somebody_and_expected_by_a_test() {
    let set = descriptors();
    let mut enums = set.file.iter().flat_map(|file| &file.enum_type);
    let reasons = enums.find(|item| item.name() == "ErrorReason").unwrap();
    let crates = crates_of_a_node();
    let crates: Vec<_> = crates.iter().map(String::as_str).collect();
    let (given, tests) = (code(&crates, "proto/src/error.rs"), tests());
    let (mut not_given, mut unexpected) = (Vec::new(), Vec::new());
    for value in &reasons.value {
        let code = ErrorCode::try_from(value.number()).unwrap();
        let name = format!("{code:?}");
        if REASONS_TO_COME.contains(&code) {
            continue;
        }
        if !says(&given, &format!("ErrorCode::{name}")) {
            not_given.push(name.clone());
        }
        if !says(&tests, &name) && !says(&tests, code.reason()) {
            unexpected.push(name);
        }
    }
    assert_none(&not_given, "a reason of the contract that no code gives (as `ErrorCode::…`)");
    assert_none(
        &unexpected,
        "a reason that no test expects; provoke it in tests/tests/conformance",
    );
}
