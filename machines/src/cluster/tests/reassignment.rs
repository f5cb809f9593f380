//! Reassignment (R34, R35): the rules by name, and what it must not lose.

use super::partitions::{self, epoch, fence, isr_request, key, nodes, partition, unfence};
use super::*;

/// A topic whose partitions have these replicas, on brokers 0 to 3 that know reassignments.
pub(super) fn placed(replicas: &[&[i32]], configs: &[(&str, &str)]) -> (ClusterImage, TopicId) {
    let (mut image, id) = partitions::placed(replicas, configs);
    for node in 0..4 {
        let epoch = epoch(&image, node);
        let noted = image.note_versions(NodeId(node), epoch, 0, METADATA_VERSION, &BTreeMap::new());
        apply(&mut image, noted);
    }
    (image, id)
}

pub(super) fn one(partition: i32, target: Option<&[i32]>) -> ReassignPartition {
    ReassignPartition { topic: "orders".into(), partition, target: target.map(nodes) }
}

fn request(partitions: Vec<ReassignPartition>) -> AlterPartitionReassignments {
    AlterPartitionReassignments {
        partitions,
        allow_replication_factor_change: true,
        validate_only: false,
    }
}

pub(super) fn ask(
    image: &mut ClusterImage,
    partitions: Vec<ReassignPartition>,
) -> Vec<Result<Partition, (ErrorCode, String)>> {
    let policy = ClusterPolicy::default();
    let decided = image.alter_partition_reassignments(&policy, &request(partitions), &[]);
    let answers = apply(image, decided);
    let answer = |it: Result<Reassigned, ClusterError>| {
        it.map(|after| after.partition).map_err(|error| (error.code(), error.to_string()))
    };
    answers.into_iter().map(answer).collect()
}

/// Partition 0 to these replicas; `None`: as before.
pub(super) fn reassign(
    image: &mut ClusterImage,
    target: Option<&[i32]>,
) -> Result<Partition, ErrorCode> {
    let answer = ask(image, vec![one(0, target)]).remove(0).map_err(|(code, _)| code);
    if let Ok(answer) = &answer {
        assert_eq!(partition(image, 0), answer);
    }
    answer
}

pub(super) fn join(image: &mut ClusterImage, isr: &[i32]) -> Partition {
    let leader = partition(image, 0).leader.unwrap();
    let request = isr_request(image, isr);
    let decided = image.alter_partition(leader, epoch(image, leader.0), &request);
    apply(image, decided)
}

/// R34, word by word.
#[test]
fn replicas_are_those_to_come_then_those_to_go_until_all_to_come_are_in_sync() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    let under_way = reassign(&mut image, Some(&[2, 3])).unwrap();
    assert_eq!(under_way.replicas, nodes(&[2, 3, 0, 1]));
    assert_eq!((&under_way.adding, &under_way.removing), (&nodes(&[2, 3]), &nodes(&[0, 1])));
    assert_eq!((under_way.leader, &under_way.isr), (Some(NodeId(0)), &nodes(&[0, 1])));
    assert_eq!(under_way.leader_epoch, LeaderEpoch(0), "nobody is dropped yet");
    assert!(!under_way.is_under_replicated(), "R35: two are to be, and two are in sync");
    let half = join(&mut image, &[0, 1, 2]);
    assert!(half.is_reassigning() && half.leader == Some(NodeId(0)));
    let done = join(&mut image, &[0, 1, 2, 3]);
    assert_eq!((&done.replicas, &done.isr), (&nodes(&[2, 3]), &nodes(&[2, 3])));
    assert_eq!((&done.adding, &done.removing, &done.original), (&vec![], &vec![], &vec![]));
    assert_eq!((done.leader, done.leader_epoch), (Some(NodeId(2)), LeaderEpoch(1)));
}

#[test]
fn a_leader_that_stays_leads_on_in_a_new_epoch_that_those_who_went_do_not_know() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    let done = reassign(&mut image, Some(&[0])).unwrap();
    assert_eq!((&done.replicas, done.leader), (&nodes(&[0]), Some(NodeId(0))));
    assert_eq!((done.leader_epoch, &done.isr), (LeaderEpoch(1), &nodes(&[0])));
}

#[test]
fn another_order_is_complete_at_once_and_changes_no_leader() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    let done = reassign(&mut image, Some(&[2, 1, 0])).unwrap();
    assert_eq!((&done.replicas, done.leader), (&nodes(&[2, 1, 0]), Some(NodeId(0))));
    assert_eq!((done.leader_epoch, done.is_reassigning()), (LeaderEpoch(0), false));
    let before = image.next_offset();
    reassign(&mut image, Some(&[2, 1, 0])).unwrap();
    assert_eq!(image.next_offset(), before, "the same again changes nothing");
}

#[test]
fn the_replication_factor_is_raised_and_lowered() {
    let (mut image, _) = placed(&[&[0]], &[("min.insync.replicas", "2")]);
    let raising = reassign(&mut image, Some(&[0, 1, 2])).unwrap();
    assert_eq!((raising.least_replicas(), raising.is_under_replicated()), (1, true));
    join(&mut image, &[0, 1]);
    let raised = join(&mut image, &[0, 1, 2]);
    assert_eq!((&raised.replicas, raised.least_replicas()), (&nodes(&[0, 1, 2]), 3));
    let lowered = reassign(&mut image, Some(&[0])).unwrap();
    assert_eq!((&lowered.replicas, &lowered.isr), (&nodes(&[0]), &nodes(&[0])));
    assert_eq!(image.topic("orders").unwrap().replication_factor(), 1);
}

/// The replicas that come may lag or be dead: it goes on when they are back.
#[test]
fn who_is_fenced_meanwhile_is_waited_for() {
    let (mut image, _) = placed(&[&[0]], &[]);
    reassign(&mut image, Some(&[1, 2])).unwrap();
    join(&mut image, &[0, 1]);
    fence(&mut image, 1);
    let waiting = join(&mut image, &[0, 2]);
    assert!(waiting.is_reassigning());
    unfence(&mut image, 1);
    let done = join(&mut image, &[0, 2, 1]);
    assert_eq!((&done.replicas, done.leader), (&nodes(&[1, 2]), Some(NodeId(1))));
}

/// The leader dies in the middle: who is to come leads first, if it is in sync.
#[test]
fn who_is_to_come_and_in_sync_leads_before_who_is_to_go() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    reassign(&mut image, Some(&[2, 3])).unwrap();
    join(&mut image, &[0, 1, 3]);
    fence(&mut image, 0);
    let after = partition(&image, 0);
    assert_eq!((after.leader, after.is_reassigning()), (Some(NodeId(3)), true));
    let done = join(&mut image, &[3, 1, 2]);
    assert_eq!((&done.replicas, done.leader), (&nodes(&[2, 3]), Some(NodeId(3))));
}

#[test]
fn giving_up_restores_the_replicas_in_their_order() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    reassign(&mut image, Some(&[2, 3, 1])).unwrap();
    let restored = reassign(&mut image, None).unwrap();
    assert_eq!((&restored.replicas, restored.is_reassigning()), (&nodes(&[0, 1, 2]), false));
    assert_eq!(restored.leader, Some(NodeId(0)));
    assert_eq!(reassign(&mut image, None), Err(ErrorCode::NoReassignmentInProgress));
}

#[test]
fn giving_up_takes_the_leadership_from_who_was_added() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    reassign(&mut image, Some(&[2, 3])).unwrap();
    join(&mut image, &[0, 1, 2]);
    let preferred = image.elect_leader(&key(0), Election::Preferred);
    assert_eq!(apply(&mut image, preferred).leader, Some(NodeId(2)));
    let restored = reassign(&mut image, None).unwrap();
    assert_eq!((restored.leader, &restored.isr), (Some(NodeId(0)), &nodes(&[0, 1])));
}

#[test]
fn what_only_an_unclean_election_could_give_up_goes_on() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    reassign(&mut image, Some(&[2, 3])).unwrap();
    join(&mut image, &[0, 1, 2]);
    fence(&mut image, 0);
    fence(&mut image, 1);
    assert_eq!(partition(&image, 0).isr, nodes(&[2]));
    let before = partition(&image, 0).clone();
    let (code, message) = ask(&mut image, vec![one(0, None)]).remove(0).unwrap_err();
    assert_eq!(code, ErrorCode::InvalidReplicaAssignment);
    assert!(message.contains("unclean election"), "{message}");
    assert_eq!(partition(&image, 0), &before);
    // Nor when the last that is in sync is gone for the moment.
    fence(&mut image, 2);
    assert_eq!(reassign(&mut image, None), Err(ErrorCode::InvalidReplicaAssignment));
    unfence(&mut image, 0);
    unfence(&mut image, 2);
    let led = partition(&image, 0).leader.unwrap();
    assert_eq!(led, NodeId(2), "the one that has all that is committed");
    join(&mut image, &[2, 0]);
    assert_eq!(reassign(&mut image, None).unwrap().leader, Some(NodeId(0)));
}

#[test]
fn a_new_target_takes_the_place_of_the_one_under_way() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    reassign(&mut image, Some(&[2, 3])).unwrap();
    let other = reassign(&mut image, Some(&[0, 3])).unwrap();
    assert_eq!(other.replicas, nodes(&[0, 3, 1]), "2 had nothing that counts");
    assert_eq!((&other.adding, &other.removing), (&nodes(&[3]), &nodes(&[1])));
    // Who is in sync already goes only when all are there.
    join(&mut image, &[0, 1, 3]);
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    reassign(&mut image, Some(&[2, 3])).unwrap();
    join(&mut image, &[0, 1, 2]);
    let other = reassign(&mut image, Some(&[3])).unwrap();
    assert_eq!((&other.replicas, &other.removing), (&nodes(&[3, 2, 0, 1]), &nodes(&[2, 0, 1])));
    assert_eq!(reassign(&mut image, None).unwrap().replicas, nodes(&[0, 1]));
}

/// What could never be, each with its reason, and the others are done all the same.
#[test]
fn each_partition_succeeds_or_fails_for_itself_and_says_why() {
    let (mut image, _) = placed(&[&[0, 1], &[1, 0], &[0, 1], &[0, 1], &[0, 1], &[0, 1]], &[]);
    fence(&mut image, 3);
    let mut elsewhere = one(0, Some(&[0]));
    elsewhere.topic = "nowhere".into();
    let answers = ask(
        &mut image,
        vec![
            one(0, Some(&[0, 9])),
            one(1, Some(&[0, 0])),
            one(2, Some(&[])),
            one(3, Some(&[0, 3])),
            one(4, Some(&[1, 2])),
            one(5, Some(&[1, 2])),
            one(5, Some(&[0, 2])),
            one(6, Some(&[0])),
            one(-1, None),
            elsewhere,
        ],
    );
    let said = |at: usize| answers[at].clone().map(|after| after.replicas).unwrap_err();
    let is = |at, code, words: &str| {
        let (actual, message) = said(at);
        assert_eq!(actual, code, "{at}: {message}");
        assert!(message.contains(words), "{at}: {message}");
    };
    is(0, ErrorCode::InvalidReplicaAssignment, "broker 9 is not registered");
    is(
        1,
        ErrorCode::InvalidReplicaAssignment,
        "broker 0 is in the list of replicas more than once",
    );
    is(2, ErrorCode::InvalidReplicaAssignment, "empty");
    is(3, ErrorCode::InvalidReplicaAssignment, "broker 3 is fenced");
    assert_eq!(answers[4].as_ref().unwrap().replicas, nodes(&[1, 2, 0]));
    is(5, ErrorCode::InvalidReplicaAssignment, "more than once");
    is(6, ErrorCode::InvalidReplicaAssignment, "more than once");
    is(7, ErrorCode::UnknownPartition, "no partition 6");
    is(8, ErrorCode::UnknownPartition, "no partition -1");
    is(9, ErrorCode::UnknownTopic, "nowhere");
    assert_eq!(image.reassignments().count(), 1);
}

#[test]
fn the_replication_factor_stays_where_the_request_says_so() {
    let (image, _) = placed(&[&[0, 1]], &[]);
    let keeps = AlterPartitionReassignments {
        allow_replication_factor_change: false,
        ..request(vec![one(0, Some(&[0, 1, 2]))])
    };
    let policy = ClusterPolicy::default();
    let decided = image.alter_partition_reassignments(&policy, &keeps, &[]).unwrap();
    assert_eq!(decided.records, vec![]);
    let code = decided.answer[0].as_ref().unwrap_err().code();
    assert_eq!(code, ErrorCode::InvalidReplicationFactor);
}

#[test]
fn validating_alone_answers_and_changes_nothing() {
    let (image, _) = placed(&[&[0, 1]], &[]);
    let asked =
        AlterPartitionReassignments { validate_only: true, ..request(vec![one(0, Some(&[2, 3]))]) };
    let decided =
        image.alter_partition_reassignments(&ClusterPolicy::default(), &asked, &[]).unwrap();
    assert_eq!(decided.records, vec![]);
    assert!(decided.answer[0].as_ref().unwrap().partition.is_reassigning());
}

#[test]
fn a_node_takes_no_more_replicas_than_its_limit() {
    let (image, _) = placed(&[&[0], &[1], &[1]], &[]);
    let mut policy = ClusterPolicy::default();
    policy.partition_limits.per_node = 2;
    let codes = |target: &[i32]| {
        let asked = request(vec![one(0, Some(target))]);
        let decided = image.alter_partition_reassignments(&policy, &asked, &[]).unwrap();
        decided.answer.into_iter().next().unwrap().map_err(|error| error.code()).err()
    };
    assert_eq!(codes(&[1]), Some(ErrorCode::PartitionLimitReached));
    assert_eq!(codes(&[2]), None);
}

/// A node of an earlier version would take who is to go for a replica that stays.
#[test]
fn no_reassignment_begins_while_a_node_is_too_old_for_it_and_the_refusal_names_it() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    let old = RegisterBroker { metadata_version: REASSIGNMENTS - 1, ..registration(2, 7) };
    let decided = image.register_unfenced_broker(&old);
    apply(&mut image, decided);
    let asked = request(vec![one(0, Some(&[0, 3]))]);
    let policy = ClusterPolicy::default();
    let refused = |image: &ClusterImage, voters: &[NodeId]| {
        image.alter_partition_reassignments(&policy, &asked, voters).unwrap_err()
    };
    let behind = ClusterError::NodesBehind { nodes: nodes(&[2, 7]) };
    assert_eq!(refused(&image, &[NodeId(7)]), behind);
    let noted =
        image.note_versions(NodeId(2), epoch(&image, 2), 0, METADATA_VERSION, &BTreeMap::new());
    apply(&mut image, noted);
    let behind = ClusterError::NodesBehind { nodes: nodes(&[7]) };
    assert_eq!(refused(&image, &[NodeId(7)]), behind);
    let of_a_dead_node = image.alter_partition_reassignments(&policy, &asked, &[NodeId(3)]);
    assert!(of_a_dead_node.is_ok(), "what it said as a broker holds for its voter");
    reassign(&mut image, Some(&[0, 3])).unwrap();
    assert_eq!(image.metadata_version(), REASSIGNMENTS, "and none is let in that does not know it");
    assert!(image.register_unfenced_broker(&old).is_err());
}

/// R16 with R34: with a smaller minimum leaders commit with fewer, so who is not in sync is not eligible any more.
#[test]
fn a_lowered_factor_has_nobody_eligible_without_whom_records_are_committed() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[("min.insync.replicas", "2")]);
    fence(&mut image, 1);
    fence(&mut image, 2);
    assert_eq!(partition(&image, 0).elr, nodes(&[2]));
    let lowering = reassign(&mut image, Some(&[0])).unwrap();
    assert_eq!((&lowering.elr, &lowering.replicas), (&vec![], &nodes(&[0])));
}

#[test]
fn a_removed_broker_may_be_forgotten_only_once_nothing_is_assigned_to_it() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    reassign(&mut image, Some(&[2, 3])).unwrap();
    fence(&mut image, 1);
    let refused = image.unregister_broker(NodeId(1)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NodeHoldsReplicas);
    join(&mut image, &[0, 2, 3]);
    image.unregister_broker(NodeId(1)).unwrap();
}
