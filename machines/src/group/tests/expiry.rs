//! G27.

use super::*;
use crate::group::expiry::SWEEP_INTERVAL_MS;

const RETENTION: u64 = 10 * SWEEP_INTERVAL_MS;

fn coordinator() -> Coordinator {
    let settings = Settings { retention_ms: RETENTION, ..Settings::default() };
    Coordinator::with(settings, &[("t", 1, 2), ("u", 2, 1)])
}

/// Simple groups: from the commit on. A group without anything is not remembered.
#[test]
fn offsets_of_groups_that_never_had_a_member_expire_by_commit() {
    let mut coordinator = coordinator();
    assert_eq!(coordinator.groups.next_deadline(), None);
    coordinator.commit("", 0, "t", 0, 1);
    assert_eq!(coordinator.groups.next_deadline(), Some(coordinator.now.plus(SWEEP_INTERVAL_MS)));
    coordinator.pass(RETENTION - 1);
    coordinator.commit("", 0, "t", 1, 2);
    assert_eq!(coordinator.committed(), ["t0@1", "t1@2"]);
    coordinator.pass(SWEEP_INTERVAL_MS);
    assert_eq!(coordinator.committed(), ["t1@2"]);
    coordinator.pass(RETENTION);
    assert_eq!(coordinator.groups.list(), []);
    coordinator.fail_over();
}

/// While there are members: only of topics that none of them reads.
#[test]
fn offsets_that_members_need_do_not_expire() {
    let mut coordinator = coordinator();
    coordinator.commit("", 0, "t", 0, 1);
    coordinator.commit("", 0, "u", 0, 1);
    coordinator.settle("a", start());
    coordinator.pass(RETENTION - 1);
    assert_eq!(coordinator.committed(), ["t0@1", "u0@1"]);
    coordinator.pass(SWEEP_INTERVAL_MS);
    assert_eq!(coordinator.committed(), ["t0@1"]);
    coordinator.pass(10 * RETENTION);
    assert_eq!(coordinator.committed(), ["t0@1"]);
}

/// Of an empty group: from when it became empty, or from the commit if that came later. Then the group dies.
#[test]
fn offsets_of_empty_groups_expire() {
    let mut coordinator = coordinator();
    let a = coordinator.settle("a", start());
    coordinator.commit("a", 1, "t", 0, 1);
    coordinator.pass(2 * RETENTION);
    coordinator.leave(a);
    coordinator.pass(RETENTION - 1);
    assert_eq!(coordinator.committed(), ["t0@1"]);
    coordinator.commit("", 0, "t", 1, 2);
    coordinator.pass(SWEEP_INTERVAL_MS);
    assert_eq!(coordinator.committed(), ["t1@2"]);
    assert_eq!(coordinator.state(), pb::GroupState::Empty);
    coordinator.pass(RETENTION);
    assert_eq!(coordinator.groups.list(), []);
    coordinator.fail_over();
    assert_eq!(coordinator.groups.list(), []);
}

/// A group that nobody is in and that has no offsets dies at the next look.
#[test]
fn an_empty_group_without_offsets_dies() {
    let mut coordinator = coordinator();
    let a = coordinator.settle("a", start());
    coordinator.pass(SWEEP_INTERVAL_MS);
    assert_eq!(coordinator.groups.list().len(), 1);
    coordinator.leave(a);
    assert_eq!(coordinator.groups.list().len(), 1);
    coordinator.pass(SWEEP_INTERVAL_MS);
    assert_eq!(coordinator.groups.list(), []);
}

/// Offsets go with their topic, and mean nothing for another of the same name.
#[test]
fn offsets_of_deleted_topics_are_deleted() {
    let mut coordinator = coordinator();
    coordinator.commit("", 0, "t", 0, 1);
    coordinator.commit("", 0, "t", 1, 1);
    coordinator.commit("", 0, "u", 0, 1);
    coordinator.groups.set_catalog(catalog(&[("t", 7, 2), ("u", 2, 1)]));
    assert_eq!(coordinator.committed(), ["u0@1"], "at once");
    let decision = coordinator.groups.catalog_changed(coordinator.now);
    assert_eq!(decision.changes.len(), 2);
    coordinator.run(decision);
    coordinator.topics(&[("t", 7, 2)]);
    assert_eq!(coordinator.committed(), Vec::<String>::new());
    assert_eq!(coordinator.groups.list(), []);
    let again = coordinator.groups.catalog_changed(coordinator.now);
    assert_eq!(again, Decision::default());
}
