//! C16, C18, G19, G28, G29.

use super::*;

/// Outsiders commit only for groups without members (G29).
#[test]
fn commits_without_a_member_id_need_an_empty_group() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    assert_eq!(coordinator.commit("", 0, "t", 0, 5), None);
    assert_eq!(coordinator.groups.list()[0].state(), pb::GroupState::Empty);
    assert_eq!(coordinator.groups.list()[0].assignor, "");
    let a = coordinator.settle("a", start());
    assert_eq!(coordinator.commit("", 0, "t", 0, 6), Some(ErrorCode::GroupNotEmpty));
    coordinator.leave(a);
    assert_eq!(coordinator.commit("", 0, "t", 1, 7), None);
    assert_eq!(coordinator.committed(), ["t0@5", "t1@7"]);
    coordinator.fail_over();
    assert_eq!(coordinator.committed(), ["t0@5", "t1@7"]);
}

/// C16.
#[test]
fn commits_are_checked() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    assert_eq!(coordinator.commit("", 0, "t", 0, -1), Some(ErrorCode::InvalidRequest));
    assert_eq!(coordinator.commit("", 0, "u", 0, 0), Some(ErrorCode::UnknownTopic));
    assert_eq!(coordinator.commit("", 0, "t", 2, 0), Some(ErrorCode::UnknownPartition));
    assert_eq!(coordinator.commit("", 0, "t", -1, 0), Some(ErrorCode::UnknownPartition));
    assert!(coordinator.log.is_empty());
    let partition = |topic_id| pb::TopicPartition { topic: "t".to_owned(), partition: 0, topic_id };
    let commit = |metadata: usize, topic_id| pb::PartitionCommit {
        partition: Some(partition(topic_id)),
        offset: Some(pb::OffsetAndMetadata {
            offset: 3,
            leader_epoch: Some(4),
            metadata: "x".repeat(metadata),
        }),
    };
    let request = pb::CommitOffsetsRequest {
        group_id: "g".to_owned(),
        commits: vec![
            commit(4097, id(1).to_wire()),
            commit(4096, id(1).to_wire()),
            commit(0, id(2).to_wire()),
            pb::PartitionCommit::default(),
        ],
        ..pb::CommitOffsetsRequest::default()
    };
    let decision = coordinator.groups.commit(coordinator.now, request);
    let (answer, _) = coordinator.run(decision);
    let reasons: Vec<_> = answer
        .results
        .iter()
        .map(|result| result.error.as_ref().map(ErrorDetail::reason))
        .collect();
    let expected = [
        Some(ErrorCode::OffsetMetadataTooLarge),
        None,
        Some(ErrorCode::UnknownTopic),
        Some(ErrorCode::InvalidRequest),
    ];
    assert_eq!(reasons, expected);
    let request =
        pb::FetchOffsetsRequest { group_id: "g".to_owned(), ..pb::FetchOffsetsRequest::default() };
    let found = &coordinator.groups.fetch_offsets(&request).unwrap().offsets[0];
    let offset = found.offset.as_ref().unwrap();
    assert_eq!((offset.offset, offset.leader_epoch, offset.metadata.len()), (3, Some(4), 4096));
    assert_eq!(found.commit_timestamp_ms, coordinator.now.as_timestamp());
}

/// C18, G19: epochs from the one in which the member got the partition up to its own.
#[test]
fn members_commit_what_they_hold() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let a = coordinator.settle("a", start());
    assert_eq!(coordinator.commit("a", 1, "t", 1, 10), None);
    assert_eq!(coordinator.commit("a", 2, "t", 1, 11), Some(ErrorCode::StaleMemberEpoch));
    assert_eq!(coordinator.commit("a", 0, "t", 1, 11), Some(ErrorCode::StaleMemberEpoch));
    assert_eq!(coordinator.commit("b", 1, "t", 1, 11), Some(ErrorCode::UnknownMember));
    let (b, _) = coordinator.join("b");
    coordinator.apply(b);
    // a gives up t1: until it has said so, it is its own to commit.
    assert_eq!(coordinator.commit("a", 1, "t", 1, 20), None);
    assert_eq!(coordinator.commit("b", 2, "t", 1, 5), Some(ErrorCode::NotAssigned));
    coordinator.apply(a);
    assert_eq!(coordinator.commit("a", 1, "t", 1, 21), Some(ErrorCode::NotAssigned));
    assert_eq!(coordinator.commit("b", 2, "t", 1, 22), None);
    assert_eq!(coordinator.commit("b", 1, "t", 1, 23), Some(ErrorCode::StaleMemberEpoch));
    // A newer epoch does not take away what an older one gave (KIP-1251).
    assert_eq!(coordinator.member("a").member_epoch, 2);
    assert_eq!(coordinator.commit("a", 1, "t", 0, 24), None);
    assert_eq!(coordinator.commit("a", 2, "t", 0, 25), None);
    assert_eq!(coordinator.committed(), ["t0@25", "t1@22"]);
}

/// What the planted bugs do: a commit goes back, a record is skipped.
#[test]
fn planted_bugs_move_offsets() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let a = coordinator.settle("a", start());
    coordinator.settle("b", start());
    coordinator.leave(a);
    coordinator.groups.plant(Bug::CommitByStaleMember);
    assert_eq!(coordinator.commit("a", 1, "t", 0, 3), None);
    assert_eq!(coordinator.committed(), ["t0@3"]);

    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.settle("a", start());
    coordinator.join("b");
    coordinator.groups.plant(Bug::SkipAtHandOver);
    assert_eq!(coordinator.commit("a", 1, "t", 0, 3), None);
    assert_eq!(coordinator.commit("a", 1, "t", 1, 3), None);
    assert_eq!(coordinator.committed(), ["t0@3", "t1@4"]);
}

/// G19.
#[test]
fn members_fetch_in_their_epoch() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.settle("a", start());
    coordinator.commit("a", 1, "t", 1, 10);
    let ask = |member: &str, member_epoch, partitions: &[i32]| pb::FetchOffsetsRequest {
        require_stable: Default::default(),
        group_id: "g".to_owned(),
        member_id: member.to_owned(),
        member_epoch,
        partitions: vec![pb::TopicPartitions {
            topic: "t".to_owned(),
            partitions: partitions.to_vec(),
            ..pb::TopicPartitions::default()
        }],
    };
    let groups = &coordinator.groups;
    assert_eq!(groups.fetch_offsets(&ask("a", 1, &[0, 1])).unwrap().offsets.len(), 1);
    assert_eq!(groups.fetch_offsets(&ask("a", 1, &[0])).unwrap().offsets.len(), 0);
    let refused = groups.fetch_offsets(&ask("a", 2, &[1])).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StaleMemberEpoch);
    let refused = groups.fetch_offsets(&ask("b", 2, &[1])).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UnknownMember);
    let unknown = pb::FetchOffsetsRequest { group_id: "h".to_owned(), ..ask("", 0, &[1]) };
    assert_eq!(groups.fetch_offsets(&unknown), Ok(pb::FetchOffsetsResponse::default()));
}

/// G28.
#[test]
fn groups_are_deleted_when_they_are_empty() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let refused = coordinator.groups.delete_group(coordinator.now, "g").unwrap_err();
    assert_eq!(refused.code(), ErrorCode::GroupNotFound);
    let a = coordinator.settle("a", start());
    coordinator.commit("a", 1, "t", 0, 1);
    let refused = coordinator.groups.delete_group(coordinator.now, "g").unwrap_err();
    assert_eq!(refused.code(), ErrorCode::GroupNotEmpty);
    coordinator.leave(a);
    let decision = coordinator.groups.delete_group(coordinator.now, "g").unwrap();
    coordinator.run(decision);
    assert_eq!(coordinator.groups.list(), []);
    assert_eq!(coordinator.groups.describe("g").unwrap_err().code(), ErrorCode::GroupNotFound);
    coordinator.fail_over();
    assert_eq!(coordinator.groups.list(), []);
}

/// G28: offsets of a topic that a member reads stay.
#[test]
fn offsets_are_deleted_when_nobody_reads_the_topic() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2), ("u", 2, 1)]);
    coordinator.commit("", 0, "t", 0, 1);
    coordinator.commit("", 0, "u", 0, 2);
    coordinator.settle("a", start());
    let ask = |group: &str| {
        let of = |topic: &str| pb::TopicPartitions {
            topic: topic.to_owned(),
            partitions: vec![0],
            ..pb::TopicPartitions::default()
        };
        let partitions = vec![of("t"), of("u"), of("none")];
        pb::DeleteGroupOffsetsRequest { group_id: group.to_owned(), partitions }
    };
    let refused = coordinator.groups.delete_offsets(coordinator.now, ask("h")).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::GroupNotFound);
    let decision = coordinator.groups.delete_offsets(coordinator.now, ask("g")).unwrap();
    let (answer, _) = coordinator.run(decision);
    let reasons: Vec<_> =
        answer.results.iter().map(|it| it.error.as_ref().map(ErrorDetail::reason)).collect();
    assert_eq!(reasons, [Some(ErrorCode::GroupSubscribedToTopic), None, None]);
    assert_eq!(coordinator.committed(), ["t0@1"]);
}

fn numbered(sequence: u64, committer: &str, offset: i64) -> pb::CommitOffsetsRequest {
    let partition = pb::TopicPartition { topic: "t".into(), ..Default::default() };
    let offset = pb::OffsetAndMetadata { offset, ..Default::default() };
    let commit = pb::PartitionCommit { partition: Some(partition), offset: Some(offset) };
    pb::CommitOffsetsRequest {
        group_id: "g".to_owned(),
        commits: vec![commit],
        sequence,
        committer_id: committer.to_owned(),
        ..Default::default()
    }
}

/// A commit that the network kept is not taken for a newer one, by this coordinator or the next.
#[test]
fn of_what_a_committer_numbers_the_largest_number_stands() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let mut commit = |request: pb::CommitOffsetsRequest| {
        let decision = coordinator.groups.commit(coordinator.now, request);
        let changes = decision.changes.len();
        let (answer, _) = coordinator.run(decision);
        (changes, answer.results[0].error.as_ref().map(ErrorDetail::reason))
    };
    assert_eq!(commit(numbered(5, "a", 454)), (1, None));
    assert_eq!(commit(numbered(4, "a", 334)), (0, Some(ErrorCode::CommitSuperseded)));
    assert_eq!(commit(numbered(5, "a", 454)), (0, None), "the same is done already");
    assert_eq!(commit(numbered(6, "a", 100)), (1, None), "a newer one may go back");
    assert_eq!(commit(numbered(1, "b", 200)), (1, None), "each numbers for itself");
    assert_eq!(commit(numbered(0, "", 300)), (1, None), "not numbered");
}

/// A request that began before another was decided, and comes after it, may be of the past.
#[test]
fn what_began_before_a_newer_commit_comes_too_late() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let commits = numbered(0, "", 454);
    let check = |coordinator: &Coordinator, before: u64, scope: Scope<'_>| {
        let now = coordinator.now;
        coordinator.groups.check_order(now, Time(now.0 - before), "g", scope)
    };
    let of_commits = Scope::Commits(&commits);
    assert_eq!(check(&coordinator, 1_000, of_commits), Ok(()));
    let decision = coordinator.groups.commit(coordinator.now, commits.clone());
    coordinator.groups.note_decided(coordinator.now, &decision.changes);
    coordinator.run(decision);
    coordinator.now = coordinator.now.plus(100);
    assert_eq!(check(&coordinator, 100, of_commits), Ok(()), "it began later");
    for scope in [of_commits, Scope::Group] {
        for before in [101, 104, 200] {
            let checked = check(&coordinator, before, scope);
            assert_eq!(checked, Err(GroupError::Overtaken), "{before}, {scope:?}");
        }
    }
    let other =
        [pb::TopicPartitions { topic: "t".into(), partitions: vec![1], ..Default::default() }];
    assert_eq!(check(&coordinator, 200, Scope::Partitions(&other)), Ok(()), "of another partition");
    // What is not remembered any more is refused for that.
    coordinator.now = coordinator.now.plus(100_000);
    assert_eq!(check(&coordinator, 1_000, of_commits), Ok(()));
    assert_eq!(check(&coordinator, 61_000, of_commits), Err(GroupError::Overtaken));
}

/// Another coordinator, or the same one built anew, does not know when what its log holds was decided. A commit that
/// waited through that on some node, and that its caller gave up, must not stand over one that was acknowledged.
#[test]
fn what_began_before_the_coordinator_was_loaded_takes_back_nothing_that_was_there_before() {
    let mut coordinator = Coordinator::new(&[("t", 1, 4)]);
    let at = |partition, request: pb::CommitOffsetsRequest| {
        let mut request = request;
        request.commits[0].partition.as_mut().unwrap().partition = partition;
        request
    };
    // Partition 0 is committed, 1 committed by number, 2 committed and deleted, 3 was never touched.
    for request in [numbered(0, "", 454), at(1, numbered(5, "a", 454)), at(2, numbered(0, "", 454))]
    {
        let decision = coordinator.groups.commit(coordinator.now, request);
        coordinator.run(decision);
    }
    let deleted =
        vec![pb::TopicPartitions { topic: "t".into(), partitions: vec![2], ..Default::default() }];
    let deletion =
        pb::DeleteGroupOffsetsRequest { group_id: "g".to_owned(), partitions: deleted.clone() };
    let decision = coordinator.groups.delete_offsets(coordinator.now, deletion).unwrap();
    coordinator.run(decision);
    coordinator.fail_over();
    let loaded = coordinator.now;
    coordinator.now = loaded.plus(1_000);
    let check = |coordinator: &Coordinator, began: Time, scope: Scope<'_>| {
        coordinator.groups.check_order(coordinator.now, began, "g", scope)
    };
    let before = Time(loaded.0 - 100);
    let unnumbered = |partition| at(partition, numbered(0, "", 334));
    for (request, expected) in [
        (unnumbered(0), Err(GroupError::Overtaken)),
        (unnumbered(1), Err(GroupError::Overtaken)),
        (at(1, numbered(1, "b", 334)), Err(GroupError::Overtaken)),
        (at(1, numbered(6, "a", 455)), Ok(())),
        (unnumbered(2), Err(GroupError::Overtaken)),
        (unnumbered(3), Ok(())),
    ] {
        assert_eq!(check(&coordinator, before, Scope::Commits(&request)), expected, "{request:?}");
        assert_eq!(check(&coordinator, loaded, Scope::Commits(&request)), Ok(()), "{request:?}");
    }
    assert_eq!(check(&coordinator, before, Scope::Group), Err(GroupError::Overtaken));
    let partitions = Scope::Partitions(&deleted);
    assert_eq!(check(&coordinator, before, partitions), Err(GroupError::Overtaken));
    // Its own earlier one is refused by its number, not by its beginning.
    let earlier = at(1, numbered(4, "a", 334));
    assert_eq!(check(&coordinator, before, Scope::Commits(&earlier)), Ok(()));
    let decision = coordinator.groups.commit(coordinator.now, earlier);
    let error = decision.answer.results[0].error.as_ref().map(ErrorDetail::reason);
    assert_eq!(error, Some(ErrorCode::CommitSuperseded));
}
