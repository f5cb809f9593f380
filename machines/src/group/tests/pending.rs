//! X15, X16, X19.

use super::*;
use crate::producer::{ClientVersion, Producer};
use ClientVersion::{First, Second};
use troupe_proto::batch::Marker;
use troupe_proto::ids::{LeaderEpoch, ProducerEpoch, ProducerId};

pub(super) fn producer(id: u64, epoch: u32) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

/// Commits of topic `t`: partition and offset.
pub(super) fn request(group: &str, commits: &[(i32, i64)]) -> pb::CommitTransactionOffsetsRequest {
    let one = |(partition, offset): &(i32, i64)| pb::PartitionCommit {
        partition: Some(pb::TopicPartition {
            topic: "t".into(),
            partition: *partition,
            ..Default::default()
        }),
        offset: Some(pb::OffsetAndMetadata { offset: *offset, ..Default::default() }),
    };
    pb::CommitTransactionOffsetsRequest {
        group_id: group.to_owned(),
        commits: commits.iter().map(one).collect(),
        ..Default::default()
    }
}

impl Coordinator {
    pub(super) fn pend(
        &mut self,
        producer: Producer,
        request: &pb::CommitTransactionOffsetsRequest,
    ) -> Result<Vec<Option<ErrorCode>>, ErrorCode> {
        let decision = self.groups.commit_in_transaction(self.now, producer, request);
        let decision = decision.map_err(|error| error.code())?;
        self.groups.note_decided(self.now, &decision.changes);
        let (answer, _) = self.run(decision);
        let error = |it: &pb::PartitionCommitResult| it.error.as_ref().map(ErrorDetail::reason);
        Ok(answer.results.iter().map(error).collect())
    }

    /// How many records it took.
    pub(super) fn mark(
        &mut self,
        producer: Producer,
        committed: bool,
        coordinator_epoch: u32,
        version: ClientVersion,
    ) -> Result<usize, ErrorCode> {
        let coordinator_epoch = LeaderEpoch(coordinator_epoch);
        let marker = Marker { committed, coordinator_epoch };
        let decision = self.groups.mark(self.now, producer, marker, version);
        let decision = decision.map_err(|error| error.code())?;
        let records = decision.changes.len();
        self.groups.note_decided(self.now, &decision.changes);
        self.run(decision);
        Ok(records)
    }

    /// Whether what is committed for these partitions of `t` will stay.
    pub(super) fn is_stable(&self, group: &str, partitions: &[i32]) -> bool {
        let topic = pb::TopicPartitions {
            topic: "t".into(),
            partitions: partitions.to_vec(),
            ..Default::default()
        };
        let request = pb::FetchOffsetsRequest {
            group_id: group.to_owned(),
            partitions: if partitions.is_empty() { vec![] } else { vec![topic] },
            require_stable: true,
            ..Default::default()
        };
        match self.groups.fetch_offsets(&request) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::UnstableOffsetCommit);
                false
            }
        }
    }

    fn check_transaction(
        &self,
        before: u64,
        producer: Producer,
        request: &pb::CommitTransactionOffsetsRequest,
    ) -> Result<(), ErrorCode> {
        let scope = Scope::Transaction(producer, request);
        let checked = self.groups.check_order(self.now, Time(self.now.0 - before), "g", scope);
        checked.map_err(|error| error.code())
    }
}

fn taken(count: usize) -> Result<Vec<Option<ErrorCode>>, ErrorCode> {
    Ok(vec![None; count])
}

/// X15.
#[test]
fn offsets_of_a_transaction_stand_when_it_is_committed_and_never_if_it_is_aborted() {
    for (committed, expected) in [(true, ["t0@7", "t1@9"]), (false, ["t0@5", "t1@5"])] {
        let mut coordinator = Coordinator::new(&[("t", 1, 3)]);
        coordinator.commit("", 0, "t", 0, 5);
        coordinator.commit("", 0, "t", 1, 5);
        let pended = coordinator.pend(producer(1, 4), &request("g", &[(0, 7), (1, 9)]));
        assert_eq!(pended, taken(2));
        assert_eq!(coordinator.committed(), ["t0@5", "t1@5"]);
        coordinator.fail_over();
        assert_eq!(coordinator.committed(), ["t0@5", "t1@5"]);
        assert!(coordinator.mark(producer(1, 5), committed, 0, Second).unwrap() > 0);
        assert_eq!(coordinator.committed(), expected);
        coordinator.fail_over();
        assert_eq!(coordinator.committed(), expected);
        assert_eq!(coordinator.mark(producer(1, 5), committed, 0, Second), Ok(0), "once more");
    }
}

/// X15.
#[test]
fn who_wants_what_will_stay_is_told_to_ask_again_while_a_transaction_is_open() {
    let mut coordinator = Coordinator::new(&[("t", 1, 3)]);
    assert!(coordinator.is_stable("g", &[]));
    coordinator.commit("", 0, "t", 1, 5);
    coordinator.pend(producer(1, 0), &request("g", &[(0, 7)])).unwrap();
    assert!(!coordinator.is_stable("g", &[]));
    assert!(!coordinator.is_stable("g", &[1, 0]));
    assert!(coordinator.is_stable("g", &[1, 2]), "of other partitions");
    assert!(coordinator.is_stable("h", &[]), "of other groups");
    assert_eq!(coordinator.committed(), ["t1@5"], "others are told what is committed");
    coordinator.mark(producer(1, 1), false, 0, Second).unwrap();
    assert!(coordinator.is_stable("g", &[]));
}

#[test]
fn each_commit_of_a_transaction_is_taken_or_refused_by_itself() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let mut asked = request("g", &[(0, 7), (2, 1), (1, -1), (1, 4)]);
    asked.commits[3].offset.as_mut().unwrap().metadata = "x".repeat(4097);
    asked.commits.push(pb::PartitionCommit::default());
    let expected = vec![
        None,
        Some(ErrorCode::UnknownPartition),
        Some(ErrorCode::InvalidRequest),
        Some(ErrorCode::OffsetMetadataTooLarge),
        Some(ErrorCode::InvalidRequest),
    ];
    assert_eq!(coordinator.pend(producer(1, 0), &asked), Ok(expected));
    coordinator.mark(producer(1, 1), true, 0, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@7"]);
    assert_eq!(coordinator.pend(producer(1, 1), &request("", &[])), Err(ErrorCode::InvalidGroupId));
    assert_eq!(coordinator.pend(producer(1, 1), &request("g", &[])), taken(0));
}

/// X16: one transactional producer for each process is enough, because the group tells which one has been left behind.
#[test]
fn a_transaction_commits_what_its_member_holds() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let a = coordinator.settle("a", start());
    let ask = |member: &str, epoch, commits: &[(i32, i64)]| pb::CommitTransactionOffsetsRequest {
        member_id: member.to_owned(),
        member_epoch: epoch,
        ..request("g", commits)
    };
    let of = producer(1, 0);
    assert_eq!(coordinator.pend(of, &ask("a", 1, &[(0, 1), (1, 1)])), taken(2));
    assert_eq!(coordinator.pend(of, &ask("a", 2, &[(1, 2)])), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(coordinator.pend(of, &ask("a", 0, &[(1, 2)])), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(coordinator.pend(of, &ask("b", 1, &[(1, 2)])), Err(ErrorCode::UnknownMember));
    let (b, _) = coordinator.join("b");
    coordinator.apply(b);
    // Until it has given t1 up, that is its own.
    assert_eq!(coordinator.pend(of, &ask("a", 1, &[(0, 3), (1, 3)])), taken(2));
    coordinator.apply(a);
    // One partition too many refuses all of them.
    let refused = coordinator.pend(of, &ask("a", 1, &[(0, 4), (1, 4)]));
    assert_eq!(refused, Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(coordinator.pend(of, &ask("a", 2, &[(0, 5)])), taken(1));
    assert_eq!(coordinator.pend(of, &ask("a", 1, &[(0, 6)])), taken(1), "it has held it since");
    assert_eq!(coordinator.pend(producer(2, 0), &ask("b", 2, &[(1, 7)])), taken(1));
    let refused = coordinator.pend(producer(2, 0), &ask("b", 1, &[(1, 8)]));
    assert_eq!(refused, Err(ErrorCode::StaleMemberEpoch), "it was not there yet");
    // Somebody who names no member is not held to the group's.
    assert_eq!(coordinator.pend(producer(3, 0), &request("g", &[(0, 9)])), taken(1));
    coordinator.mark(producer(1, 1), true, 0, Second).unwrap();
    coordinator.mark(producer(2, 1), true, 0, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@6", "t1@7"]);
}

/// X16, G13.
#[test]
fn an_instance_that_was_replaced_commits_nothing_in_a_transaction() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.settle("a", static_start("i"));
    let ask = |member: &str, instance: &str| pb::CommitTransactionOffsetsRequest {
        member_id: member.to_owned(),
        member_epoch: 1,
        instance_id: instance.to_owned(),
        ..request("g", &[(0, 1)])
    };
    let of = producer(1, 0);
    assert_eq!(coordinator.pend(of, &ask("a", "i")), taken(1));
    assert_eq!(coordinator.pend(of, &ask("b", "i")), Err(ErrorCode::FencedInstanceId));
    assert_eq!(coordinator.pend(of, &ask("", "i")), Err(ErrorCode::FencedInstanceId));
    assert_eq!(coordinator.pend(of, &ask("a", "j")), Err(ErrorCode::UnknownMember));
    assert_eq!(coordinator.pend(of, &ask("", "j")), Err(ErrorCode::UnknownMember));
}

/// X19: a marker of the second version comes with the next epoch.
#[test]
fn a_commit_of_a_transaction_that_has_ended_is_refused() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.mark(producer(1, 5), false, 3, Second).unwrap();
    for _ in 0..2 {
        let late = coordinator.pend(producer(1, 4), &request("g", &[(0, 7)]));
        assert_eq!(late, Err(ErrorCode::ProducerFenced));
        assert!(coordinator.is_stable("g", &[]));
        coordinator.fail_over();
    }
    assert_eq!(coordinator.pend(producer(1, 5), &request("g", &[(0, 7)])), taken(1));
    let earlier = coordinator.pend(producer(1, 4), &request("g", &[(1, 7)]));
    assert_eq!(earlier, Err(ErrorCode::ProducerFenced));
    // The marker comes again: what is pending is the next transaction's.
    assert_eq!(coordinator.mark(producer(1, 5), false, 3, Second), Ok(0));
    assert!(!coordinator.is_stable("g", &[]));
    coordinator.mark(producer(1, 6), true, 3, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@7"]);
}

/// In an epoch that stays, a late commit is told from one of the next transaction by when it began.
#[test]
fn a_commit_that_began_before_the_last_end_in_its_epoch_is_refused() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let (of, asked) = (producer(1, 0), request("g", &[(0, 7)]));
    assert_eq!(coordinator.check_transaction(1_000, of, &asked), Ok(()));
    coordinator.pend(of, &asked).unwrap();
    coordinator.mark(of, true, 0, First).unwrap();
    assert_eq!(coordinator.committed(), ["t0@7"]);
    coordinator.now = coordinator.now.plus(100);
    assert_eq!(coordinator.check_transaction(101, of, &asked), Err(ErrorCode::Overtaken));
    assert_eq!(coordinator.check_transaction(100, of, &asked), Ok(()));
    // Each marker counts, also of a transaction that had nothing pending here.
    coordinator.mark(of, false, 0, First).unwrap();
    assert_eq!(coordinator.check_transaction(99, of, &asked), Err(ErrorCode::Overtaken));
    coordinator.fail_over();
    coordinator.now = coordinator.now.plus(100);
    assert_eq!(coordinator.check_transaction(101, of, &asked), Err(ErrorCode::Overtaken));
    assert_eq!(coordinator.check_transaction(100, of, &asked), Ok(()));
    // Of another epoch it is not asked.
    assert_eq!(coordinator.check_transaction(101, producer(1, 1), &asked), Ok(()));
    coordinator.mark(producer(1, 1), false, 0, Second).unwrap();
    assert_eq!(coordinator.check_transaction(101, producer(1, 1), &asked), Ok(()));
}

/// A commit that was given up must not stand over the one that its transaction made after it.
#[test]
fn an_earlier_commit_of_the_same_transaction_comes_too_late() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let of = producer(1, 0);
    coordinator.pend(of, &request("g", &[(0, 20)])).unwrap();
    coordinator.now = coordinator.now.plus(100);
    for _ in 0..2 {
        let earlier = request("g", &[(0, 10)]);
        assert_eq!(coordinator.check_transaction(101, of, &earlier), Err(ErrorCode::Overtaken));
        let other = request("g", &[(1, 10)]);
        assert_eq!(coordinator.check_transaction(101, of, &other), Ok(()), "another partition");
        let again = request("g", &[(0, 20)]);
        assert_eq!(coordinator.check_transaction(101, of, &again), Ok(()), "the same once more");
        coordinator.fail_over();
    }
    coordinator.pend(of, &request("g", &[(0, 20)])).unwrap();
    assert_eq!(coordinator.log.len(), 1, "it is pending already");
}

#[test]
fn an_earlier_commit_without_a_transaction_does_not_drop_what_is_pending() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.pend(producer(1, 0), &request("g", &[(0, 20)])).unwrap();
    coordinator.now = coordinator.now.plus(100);
    for _ in 0..2 {
        let commits = request("g", &[(0, 1)]).commits;
        let plain =
            pb::CommitOffsetsRequest { group_id: "g".into(), commits, ..Default::default() };
        for scope in [Scope::Commits(&plain), Scope::Group] {
            let check = |before| {
                let (now, began) = (coordinator.now, Time(coordinator.now.0 - before));
                coordinator.groups.check_order(now, began, "g", scope)
            };
            assert_eq!(check(0), Ok(()), "{scope:?}");
            assert_eq!(check(101), Err(GroupError::Overtaken), "{scope:?}");
        }
        coordinator.fail_over();
    }
}

/// X5.
#[test]
fn a_marker_of_a_coordinator_that_was_replaced_is_refused() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.pend(producer(1, 0), &request("g", &[(0, 7)])).unwrap();
    coordinator.mark(producer(2, 0), true, 4, Second).unwrap();
    coordinator.mark(producer(1, 1), true, 4, Second).unwrap();
    coordinator.pend(producer(1, 1), &request("g", &[(0, 8)])).unwrap();
    for _ in 0..2 {
        let refused = coordinator.mark(producer(1, 2), false, 3, Second);
        assert_eq!(refused, Err(ErrorCode::CoordinatorFenced));
        coordinator.fail_over();
    }
    assert_eq!(coordinator.mark(producer(3, 0), true, 0, Second), Ok(1), "of another producer");
    coordinator.mark(producer(1, 2), true, 5, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@8"]);
    // An old marker that a new coordinator tells again takes no epoch back.
    assert_eq!(coordinator.mark(producer(1, 1), true, 6, Second), Ok(1));
    let late = coordinator.pend(producer(1, 1), &request("g", &[(0, 1)]));
    assert_eq!(late, Err(ErrorCode::ProducerFenced));
}

/// What is of a transaction whose marker never came is not taken for the newer one's.
#[test]
fn a_marker_commits_what_is_of_one_transaction_only() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.pend(producer(1, 0), &request("g", &[(0, 7)])).unwrap();
    coordinator.pend(producer(1, 2), &request("g", &[(1, 8)])).unwrap();
    coordinator.mark(producer(1, 3), true, 0, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t1@8"]);
    assert!(coordinator.is_stable("g", &[]));
}

/// As in Kafka: the later commit, whatever the order of the markers.
#[test]
fn of_all_commits_the_latest_stands() {
    for first in [1, 2] {
        let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
        coordinator.pend(producer(1, 0), &request("g", &[(0, 10)])).unwrap();
        coordinator.pend(producer(2, 0), &request("g", &[(0, 20)])).unwrap();
        coordinator.mark(producer(first, 1), true, 0, Second).unwrap();
        coordinator.fail_over();
        coordinator.mark(producer(3 - first, 1), true, 0, Second).unwrap();
        assert_eq!(coordinator.committed(), ["t0@20"]);
    }
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.pend(producer(1, 0), &request("g", &[(0, 10)])).unwrap();
    coordinator.pend(producer(2, 0), &request("g", &[(0, 20)])).unwrap();
    coordinator.mark(producer(2, 1), false, 0, Second).unwrap();
    coordinator.mark(producer(1, 1), true, 0, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@10"], "the later one was aborted");
    // One without a transaction stands at once, whatever becomes of what was pending before.
    coordinator.pend(producer(1, 1), &request("g", &[(0, 30), (1, 30)])).unwrap();
    assert_eq!(coordinator.commit("", 0, "t", 0, 5), None);
    assert!(coordinator.is_stable("g", &[0]));
    coordinator.mark(producer(1, 2), true, 0, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@5", "t1@30"]);
}

/// G28: what is deleted is deleted with what is pending.
#[test]
fn what_is_deleted_does_not_come_back_with_a_marker() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.pend(producer(1, 0), &request("g", &[(0, 7), (1, 8)])).unwrap();
    let partitions =
        vec![pb::TopicPartitions { topic: "t".into(), partitions: vec![0], ..Default::default() }];
    let deletion = pb::DeleteGroupOffsetsRequest { group_id: "g".into(), partitions };
    let decision = coordinator.groups.delete_offsets(coordinator.now, deletion).unwrap();
    coordinator.run(decision);
    coordinator.mark(producer(1, 1), true, 0, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t1@8"]);
    coordinator.pend(producer(1, 1), &request("g", &[(0, 9)])).unwrap();
    let decision = coordinator.groups.delete_group(coordinator.now, "g").unwrap();
    coordinator.run(decision);
    assert_eq!(coordinator.groups.list(), []);
    coordinator.fail_over();
    coordinator.mark(producer(1, 2), true, 0, Second).unwrap();
    assert_eq!(coordinator.groups.list(), []);
}

/// G27.
#[test]
fn what_is_pending_does_not_expire_and_goes_with_its_topic() {
    let day = 86_400_000;
    let mut coordinator = Coordinator::new(&[("t", 1, 2), ("u", 2, 1)]);
    coordinator.commit("", 0, "t", 0, 1);
    coordinator.commit("", 0, "t", 1, 1);
    coordinator.pend(producer(1, 0), &request("g", &[(0, 7)])).unwrap();
    coordinator.pass(8 * day);
    assert_eq!(coordinator.committed(), ["t0@1"], "of the other partition nothing was pending");
    coordinator.topics(&[("t", 3, 2)]);
    assert_eq!(coordinator.groups.list(), []);
    assert!(coordinator.is_stable("g", &[]));
    coordinator.mark(producer(1, 1), true, 0, Second).unwrap();
    assert_eq!(coordinator.groups.list(), [], "it was of a topic that is gone");
    coordinator.fail_over();
}

#[test]
fn a_producer_is_forgotten_when_it_has_been_silent_for_long() {
    let day = 86_400_000;
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.mark(producer(1, 4), true, 7, Second).unwrap();
    coordinator.mark(producer(2, 4), true, 7, Second).unwrap();
    coordinator.pend(producer(2, 4), &request("g", &[(0, 7)])).unwrap();
    assert!(coordinator.groups.next_deadline().is_some());
    coordinator.pass(day - 700_000);
    let late = coordinator.pend(producer(1, 3), &request("g", &[(1, 7)]));
    assert_eq!(late, Err(ErrorCode::ProducerFenced));
    coordinator.pass(700_000);
    assert_eq!(coordinator.mark(producer(1, 1), true, 1, Second), Ok(1), "it may begin anew");
    let refused = coordinator.mark(producer(2, 5), true, 1, Second);
    assert_eq!(refused, Err(ErrorCode::CoordinatorFenced), "something of it is open");
}

/// What each planted bug does.
#[test]
fn planted_bugs_are_wrong_about_transactions() {
    let with = |bug| {
        let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
        coordinator.groups.plant(bug);
        coordinator.pend(producer(1, 0), &request("g", &[(0, 7)])).unwrap();
        coordinator
    };
    let mut coordinator = with(Bug::AbortedOffsetsStand);
    coordinator.mark(producer(1, 1), false, 0, Second).unwrap();
    assert_eq!(coordinator.committed(), ["t0@7"]);

    let mut coordinator = with(Bug::CommitInEndedTransaction);
    coordinator.mark(producer(1, 1), false, 0, Second).unwrap();
    assert_eq!(coordinator.pend(producer(1, 0), &request("g", &[(0, 7)])), taken(1));

    let mut coordinator = with(Bug::EndTheNextToo);
    coordinator.mark(producer(1, 0), false, 0, Second).unwrap();
    assert!(coordinator.is_stable("g", &[]));

    assert!(with(Bug::CallPendingStable).is_stable("g", &[]));
}

#[test]
fn records_about_transactions_that_cannot_be_are_refused() {
    use pb::group_record_value::Of as Value;
    let key = |id| {
        Key::PendingOffset(pb::PendingOffsetKey {
            producer_id: id,
            topic: "t".into(),
            partition: 0,
        })
    };
    let of_producer = |id| Key::Producer(pb::TransactionalProducerKey { producer_id: id });
    let heard = |version| {
        Value::Producer(pb::TransactionalProducerValue {
            client_version: version,
            ..Default::default()
        })
    };
    for (key, value) in [
        (key(1), Value::PendingOffset(pb::PendingOffsetValue::default())),
        (key(1), Value::Offset(pb::OffsetValue::default())),
        (key(0), Value::PendingOffset(pb::PendingOffsetValue::default())),
        (of_producer(0), heard(2)),
        (of_producer(1), heard(3)),
        (of_producer(1), Value::Offset(pb::OffsetValue::default())),
    ] {
        let mut groups = Groups::new(Settings::default());
        let refused = groups.replay(&Change::put("g", key, value));
        assert!(matches!(refused, Err(ReplayError::Malformed(_))), "{refused:?}");
    }
    let mut groups = Groups::new(Settings::default());
    for key in [key(1), of_producer(1)] {
        assert_eq!(groups.replay(&Change::remove("g", key)), Ok(()), "of what cleaning has left");
    }
}
