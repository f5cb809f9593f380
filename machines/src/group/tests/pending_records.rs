//! Records of offsets in transactions, in the bytes that logs hold.

use super::pending::{producer, request};
use super::*;
use crate::on_record::on_record;
use crate::producer::ClientVersion;

/// Those of a log, each with its key; a record without a value has none.
fn on_record_as(name: &str, log: &[Change]) -> Vec<Change> {
    let parts = log.iter().flat_map(|change| {
        let (key, value) = change.encode();
        [key.to_vec(), value.unwrap_or_default().to_vec()]
    });
    let parts = on_record(name, &parts.collect::<Vec<_>>());
    let change = |pair: &[Vec<u8>]| {
        let value = Some(&pair[1][..]).filter(|value| !value.is_empty());
        Change::decode(&pair[0], value).unwrap()
    };
    parts.chunks(2).map(change).collect()
}

/// X15.
#[test]
fn pending_offsets_and_their_ends_are_written_as_in_the_first_version() {
    let mut coordinator = Coordinator::new(&[("t", 1, 3)]);
    coordinator.commit("", 0, "t", 2, 5);
    coordinator.pend(producer(7, 3), &request("g", &[(0, 41), (2, 43)])).unwrap();
    coordinator.mark(producer(7, 4), true, 6, ClientVersion::Second).unwrap();
    coordinator.pend(producer(7, 4), &request("g", &[(1, 47)])).unwrap();
    coordinator.pend(producer(9, 0), &request("g", &[(0, 53)])).unwrap();
    let log = on_record_as("offsets-of-transactions", &coordinator.log);
    assert_eq!(log, coordinator.log);
    coordinator.log = log;
    coordinator.fail_over();
    assert_eq!(coordinator.committed(), ["t0@41", "t2@43"]);
    assert!(!coordinator.is_stable("g", &[0]) && coordinator.is_stable("g", &[2]));
    coordinator.mark(producer(7, 5), true, 6, ClientVersion::Second).unwrap();
    coordinator.mark(producer(9, 1), false, 0, ClientVersion::Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@41", "t1@47", "t2@43"]);
    assert!(coordinator.is_stable("g", &[]));
    let old = coordinator.mark(producer(7, 5), true, 5, ClientVersion::Second);
    assert_eq!(old, Err(ErrorCode::CoordinatorFenced));
}
