//! Rules by name, and random histories that every replay must agree on.

mod cancellation;
mod configs;
mod delta;
mod failures;
mod health;
mod histories;
mod limits;
mod partitions;
mod reassignment;

use super::*;
use std::sync::Arc;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, MetadataOffset, PartitionId, TopicId};
use troupe_proto::internal::v1::MetadataDelta;

pub(super) fn id(n: u8) -> TopicId {
    TopicId::from_wire(&[n; 16]).unwrap()
}

pub(super) fn apply<T>(image: &mut ClusterImage, decision: Result<Decision<T>, ClusterError>) -> T {
    let decision = decision.unwrap();
    image.replay_all(&decision.records).unwrap();
    decision.answer
}

/// R15, A3: what a topic is created with stays with it.
#[test]
fn a_topic_is_created_with_what_the_nodes_say_of_unclean_elections() {
    let policy = ClusterPolicy { unclean_leader_election: true, ..ClusterPolicy::default() };
    let image = cluster(1);
    let create = |configs: &[(&str, &str)]| {
        let configs = configs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        let request =
            CreateTopic { name: "t".to_owned(), configs: configs.collect(), ..Default::default() };
        let topic = image.create_topic(&policy, &request, id(1), 7).unwrap().answer;
        topic.config.unclean_leader_election
    };
    assert!(create(&[]));
    assert!(!create(&[("unclean.leader.election.enable", "false")]));
}

fn registration(node: i32, incarnation: u8) -> RegisterBroker {
    RegisterBroker {
        node_id: NodeId(node),
        incarnation: [incarnation; 16],
        endpoint: format!("node{node}:9092"),
        ..RegisterBroker::default()
    }
}

pub(super) fn cluster(brokers: i32) -> ClusterImage {
    let mut image = ClusterImage::default();
    let decision = image.initialize("cluster");
    apply(&mut image, decision);
    for node in 0..brokers {
        let decision = image.register_unfenced_broker(&registration(node, 1));
        apply(&mut image, decision);
    }
    image
}

pub(super) fn topic(name: &str) -> CreateTopic {
    CreateTopic { name: name.to_owned(), ..CreateTopic::default() }
}

fn decide(image: &ClusterImage, request: &CreateTopic) -> Result<Decision<Arc<Topic>>, ErrorCode> {
    image
        .create_topic(&ClusterPolicy::default(), request, id(1), 7)
        .map_err(|error| WireError::from(error).code)
}

pub(super) fn create(image: &mut ClusterImage, request: &CreateTopic, n: u8) -> Arc<Topic> {
    let decision = image.create_topic(&ClusterPolicy::default(), request, id(n), 7);
    apply(image, decision)
}

/// While one of them cannot take gaps, no log is cleaned; who has been upgraded says so again and again.
#[test]
fn what_a_brokers_logs_can_take_is_known_and_survives_whoever_did_not_keep_it() {
    let mut image = cluster(2);
    let behind = |image: &ClusterImage| image.behind_log_version(LOG_VERSION).collect::<Vec<_>>();
    assert_eq!(behind(&image), [NodeId(0), NodeId(1)]);
    let epoch = image.broker(NodeId(0)).unwrap().epoch;
    let decision = image.note_versions(NodeId(0), epoch, LOG_VERSION, 0, &BTreeMap::new());
    apply(&mut image, decision);
    let known = image.broker(NodeId(0)).unwrap();
    assert_eq!((known.epoch, known.fenced, known.log_version), (epoch, false, LOG_VERSION));
    assert_eq!(behind(&image), [NodeId(1)]);
    let again = image.note_versions(NodeId(0), epoch, LOG_VERSION, 0, &BTreeMap::new()).unwrap();
    assert!(again.records.is_empty());
    let listeners = BTreeMap::from([("OUTSIDE".to_owned(), "a.example.org:9094".to_owned())]);
    let told = image.note_versions(NodeId(0), epoch, LOG_VERSION, 0, &listeners);
    apply(&mut image, told);
    let again = image.note_versions(NodeId(0), epoch, LOG_VERSION, 0, &BTreeMap::new()).unwrap();
    assert!(again.records.is_empty(), "who says nothing of its listeners takes nothing back");
    // The next that registers has everybody hear it again, who may have dropped it.
    let upgraded = RegisterBroker { log_version: LOG_VERSION, ..registration(1, 7) };
    let decision = image.register_broker(&upgraded, Arrival::default()).unwrap();
    let mut forgetful = cluster(2);
    forgetful.next_offset = image.next_offset;
    forgetful.replay_all(&decision.records).unwrap();
    assert!(behind(&forgetful).is_empty());
    assert_eq!(forgetful.broker(NodeId(0)).unwrap().listeners, listeners);
    image.replay_all(&decision.records).unwrap();
    assert!(behind(&image).is_empty());
    let decision = image.register_broker(&registration(1, 8), Arrival::default());
    apply(&mut image, decision);
    assert_eq!(behind(&image), [NodeId(1)], "of an earlier version again");
    let same = ClusterImage::from_snapshot(&image.snapshot()).unwrap();
    assert_eq!(same, image);
}

#[test]
fn a_created_topic_is_in_the_image_as_answered() {
    let mut image = cluster(3);
    let configs = BTreeMap::from([("retention.ms".to_owned(), "7d".to_owned())]);
    let request = CreateTopic {
        partitions: Some(4),
        replication_factor: Some(2),
        configs: configs.clone(),
        ..topic("orders")
    };
    let answered = create(&mut image, &request, 1);
    assert_eq!(image.topic("orders"), Some(&answered));
    assert_eq!(image.topic_by_id(id(1)), Some(&answered));
    assert_eq!(answered.partitions.len(), 4);
    assert_eq!(answered.replication_factor(), 2);
    assert_eq!(answered.overrides["retention.ms"], "604800000");
    for partition in &answered.partitions {
        assert_eq!(partition.leader, partition.replicas.first().copied());
        assert_eq!(partition.isr, partition.replicas);
        assert_eq!(partition.leader_epoch, LeaderEpoch(0));
    }
    let key = answered.key(PartitionId(3));
    assert_eq!(image.partition(&key), answered.partition(PartitionId(3)));
}

/// T2.
#[test]
fn topic_names_are_checked() {
    let mut image = cluster(1);
    for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
        assert_eq!(decide(&image, &topic(bad)), Err(ErrorCode::InvalidTopic), "{bad}");
    }
    assert!(decide(&image, &topic(&"x".repeat(249))).is_ok());
    create(&mut image, &topic("a.b"), 1);
    assert_eq!(decide(&image, &topic("a.b")), Err(ErrorCode::TopicExists));
    assert_eq!(decide(&image, &topic("a_b")), Err(ErrorCode::InvalidTopic));
    assert!(decide(&image, &topic("ab")).is_ok());
    assert!(decide(&image, &topic("a-b")).is_ok());
}

/// T3.
#[test]
fn numbers_left_out_are_the_clusters_and_nonsense_is_refused() {
    let image = cluster(2);
    let policy =
        ClusterPolicy { num_partitions: 3, default_replication_factor: 2, ..Default::default() };
    for unset in [None, Some(-1)] {
        let request =
            CreateTopic { partitions: unset, replication_factor: unset, ..topic("orders") };
        let answer = image.create_topic(&policy, &request, id(1), 0).unwrap().answer;
        assert_eq!((answer.partitions.len(), answer.replication_factor()), (3, 2));
    }
    for bad in [0, -2] {
        let request = CreateTopic { partitions: Some(bad), ..topic("orders") };
        assert_eq!(decide(&image, &request), Err(ErrorCode::InvalidPartitions));
        let request = CreateTopic { replication_factor: Some(bad), ..topic("orders") };
        assert_eq!(decide(&image, &request), Err(ErrorCode::InvalidReplicationFactor));
    }
    let request = CreateTopic { replication_factor: Some(3), ..topic("orders") };
    assert_eq!(decide(&image, &request), Err(ErrorCode::InvalidReplicationFactor));
    let request = CreateTopic { partitions: Some(100_001), ..topic("orders") };
    assert_eq!(decide(&image, &request), Err(ErrorCode::InvalidPartitions));
}

/// T3: all brokers fenced.
#[test]
fn a_topic_needs_an_active_broker() {
    assert_eq!(
        decide(&ClusterImage::default(), &topic("orders")),
        Err(ErrorCode::InvalidReplicationFactor)
    );
    let mut image = cluster(1);
    let epoch = image.broker(NodeId(0)).unwrap().epoch;
    let decision = image.fence_broker(NodeId(0), epoch, None);
    apply(&mut image, decision);
    assert_eq!(decide(&image, &topic("orders")), Err(ErrorCode::InvalidReplicationFactor));
}

/// T4.
#[test]
fn a_manual_assignment_is_taken_as_it_is_or_refused() {
    let mut image = cluster(3);
    let assigned = |lists: &[&[i32]]| CreateTopic {
        assignments: lists.iter().map(|list| list.iter().copied().map(NodeId).collect()).collect(),
        ..topic("orders")
    };
    let refused = Err(ErrorCode::InvalidReplicaAssignment);
    for bad in [
        assigned(&[&[0, 1], &[2]]),
        assigned(&[&[0, 0]]),
        assigned(&[&[0, 9]]),
        assigned(&[&[]]),
        CreateTopic { partitions: Some(1), ..assigned(&[&[0]]) },
        CreateTopic { replication_factor: Some(1), ..assigned(&[&[0]]) },
    ] {
        assert_eq!(decide(&image, &bad), refused, "{bad:?}");
    }
    let created = create(&mut image, &assigned(&[&[2, 0], &[1, 2]]), 1);
    assert_eq!(created.partitions[0].replicas, [NodeId(2), NodeId(0)]);
    assert_eq!(created.partitions[1].leader, Some(NodeId(1)));
    let epoch = image.broker(NodeId(1)).unwrap().epoch;
    let decision = image.fence_broker(NodeId(1), epoch, None);
    apply(&mut image, decision);
    let mut other = assigned(&[&[1, 2]]);
    other.name = "other".into();
    let partition = &create(&mut image, &other, 2).partitions[0];
    assert_eq!(partition.isr, [NodeId(2)], "R31: in sync are the active ones");
    assert_eq!(partition.leader, Some(NodeId(2)));
    assert_eq!(decide(&image, &assigned(&[&[1]])), Err(ErrorCode::TopicExists));
}

/// T5.
#[test]
fn partitions_only_grow() {
    let mut image = cluster(3);
    create(&mut image, &CreateTopic { partitions: Some(3), ..topic("orders") }, 1);
    let grow = |total| CreatePartitions { name: "orders".into(), total, ..Default::default() };
    let code = |result: Result<Decision<Arc<Topic>>, ClusterError>| result.unwrap_err().code();
    for total in [-1, 0, 2, 3, 100_001] {
        let refused = image.create_partitions(&ClusterPolicy::default(), &grow(total), 0);
        assert_eq!(code(refused), ErrorCode::InvalidPartitions, "{total}");
    }
    let lists = CreatePartitions { assignments: vec![vec![NodeId(0)]], ..grow(5) };
    assert_eq!(
        code(image.create_partitions(&ClusterPolicy::default(), &lists, 0)),
        ErrorCode::InvalidReplicaAssignment
    );
    let before = image.topic("orders").unwrap().clone();
    let decision = image.create_partitions(&ClusterPolicy::default(), &grow(5), 0);
    let answered = apply(&mut image, decision);
    assert_eq!(image.topic("orders"), Some(&answered));
    assert_eq!(answered.partitions[..3], before.partitions[..]);
    assert_eq!(answered.partitions.len(), 5);
    let lists = CreatePartitions { assignments: vec![vec![NodeId(2)]], ..grow(6) };
    let decision = image.create_partitions(&ClusterPolicy::default(), &lists, 0);
    assert_eq!(apply(&mut image, decision).partitions[5].replicas, [NodeId(2)]);
}

/// T6, T7.
#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free_for_another_id() {
    let mut image = cluster(1);
    create(&mut image, &topic("a.b"), 1);
    let delete = DeleteTopic { name: "a.b".into(), validate_only: false, internal: false };
    let keep = ClusterPolicy { delete_topic_enable: false, ..Default::default() };
    let refused = image.delete_topic(&keep, &delete).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::TopicDeletionDisabled);
    let decision = image.delete_topic(&ClusterPolicy::default(), &delete);
    assert_eq!(apply(&mut image, decision), id(1));
    assert_eq!((image.topic("a.b"), image.topic_by_id(id(1))), (None, None));
    let again = image.delete_topic(&ClusterPolicy::default(), &delete).unwrap_err();
    assert_eq!(again.code(), ErrorCode::UnknownTopic);
    assert_eq!(create(&mut image, &topic("a_b"), 2).id, id(2));
}

/// A3.
#[test]
fn configs_change_all_together_or_not_at_all() {
    let mut image = cluster(1);
    create(&mut image, &topic("orders"), 1);
    let update = |set: &[(&str, &str)], unset: &[&str]| UpdateTopic {
        name: "orders".into(),
        set: set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        unset: unset.iter().map(|key| key.to_string()).collect(),
        internal: false,
        validate_only: false,
    };
    for bad in [
        update(&[("retention.ms", "1"), ("colour", "red")], &[]),
        update(&[("retention.ms", "1"), ("segment.bytes", "red")], &[]),
        update(&[("retention.ms", "1")], &["colour"]),
        update(&[("retention.ms", "1")], &["retention.ms"]),
    ] {
        assert_eq!(image.update_topic(&bad).unwrap_err().code(), ErrorCode::InvalidConfig);
    }
    let decision = image.update_topic(&update(&[("retention.ms", "1h")], &[]));
    let answered = apply(&mut image, decision);
    assert_eq!(image.topic("orders"), Some(&answered));
    assert_eq!(answered.config.retention_ms, Some(3_600_000));
    let again = image.update_topic(&update(&[("retention.ms", "3600000")], &["flush.policy"]));
    assert_eq!(again.unwrap().records, vec![], "the same value, written in another way");
    let decision = image.update_topic(&update(&[], &["retention.ms"]));
    let answered = apply(&mut image, decision);
    assert_eq!(answered.config.retention_ms, Some(604_800_000));
    assert!(answered.overrides.is_empty());
}

/// A25.
#[test]
fn validate_only_checks_everything_and_changes_nothing() {
    let mut image = cluster(1);
    create(&mut image, &topic("orders"), 1);
    let create = CreateTopic { validate_only: true, partitions: Some(3), ..topic("other") };
    let created = decide(&image, &create).unwrap();
    assert_eq!((created.records.len(), created.answer.partitions.len()), (0, 3));
    let bad = CreateTopic { partitions: Some(0), ..create };
    assert_eq!(decide(&image, &bad), Err(ErrorCode::InvalidPartitions));
    let name = "orders".to_owned();
    let update = UpdateTopic {
        name: name.clone(),
        set: BTreeMap::from([("flush.policy".into(), "os".into())]),
        validate_only: true,
        ..Default::default()
    };
    assert_eq!(image.update_topic(&update).unwrap().records, vec![]);
    let grow = CreatePartitions {
        name: name.clone(),
        total: 2,
        validate_only: true,
        ..Default::default()
    };
    assert_eq!(
        image.create_partitions(&ClusterPolicy::default(), &grow, 0).unwrap().records,
        vec![]
    );
    let delete = DeleteTopic { name, validate_only: true, internal: false };
    let policy = ClusterPolicy::default();
    assert_eq!(image.delete_topic(&policy, &delete).unwrap().records, vec![]);
}

/// K12.
#[test]
fn every_start_of_a_broker_has_an_epoch_of_its_own() {
    let mut image = cluster(1);
    let first = image.broker(NodeId(0)).unwrap().epoch;
    let same = image.register_unfenced_broker(&registration(0, 1)).unwrap();
    assert_eq!((same.records.len(), same.answer), (0, first));
    let offset = image.next_offset();
    let decision = image.register_unfenced_broker(&registration(0, 2));
    let second = apply(&mut image, decision);
    assert_eq!(second, BrokerEpoch(offset.0));
    assert_eq!(image.broker(NodeId(0)).unwrap().epoch, second);
    assert!(!image.broker(NodeId(0)).unwrap().fenced);
    let stranger = RegisterBroker { cluster_id: Some("elsewhere".into()), ..registration(1, 1) };
    assert_eq!(
        image.register_unfenced_broker(&stranger).unwrap_err().code(),
        ErrorCode::InconsistentClusterId
    );
}

/// R14, K16: alone, it leads what it led, in a new leader epoch.
#[test]
fn a_broker_that_starts_again_leads_again_in_a_new_leader_epoch() {
    let mut image = cluster(1);
    let before = create(&mut image, &topic("orders"), 1).partitions[0].clone();
    let decision = image.register_unfenced_broker(&registration(0, 2));
    apply(&mut image, decision);
    let after = &image.topic("orders").unwrap().partitions[0];
    assert_eq!(after.leader, Some(NodeId(0)));
    assert!(after.leader_epoch > before.leader_epoch);
    assert_eq!(after.isr, before.isr);
}

/// R12, R13: with others in sync, one of them takes over and the broker comes back as a follower.
#[test]
fn a_restarted_broker_does_not_take_its_leaderships_back() {
    let mut image = cluster(3);
    let request =
        CreateTopic { assignments: vec![[0, 1, 2].map(NodeId).to_vec()], ..topic("orders") };
    create(&mut image, &request, 1);
    let decision = image.register_unfenced_broker(&registration(0, 2));
    apply(&mut image, decision);
    let after = &image.topic("orders").unwrap().partitions[0];
    assert_eq!((after.leader, &after.isr[..]), (Some(NodeId(1)), &[NodeId(1), NodeId(2)][..]));
}

/// K15, K16, K20.
#[test]
fn fencing_moves_leaderships_and_unfencing_gives_back_what_has_no_leader() {
    let mut image = cluster(2);
    let lists = [vec![NodeId(0), NodeId(1)], vec![NodeId(0)]];
    let shared = CreateTopic { assignments: lists[..1].to_vec(), ..topic("shared") };
    let alone = CreateTopic { assignments: lists[1..].to_vec(), ..topic("alone") };
    create(&mut image, &shared, 1);
    create(&mut image, &alone, 2);
    let epoch = image.broker(NodeId(0)).unwrap().epoch;
    let decision = image.fence_broker(NodeId(0), epoch, None);
    apply(&mut image, decision);
    let leader = |image: &ClusterImage, name: &str| image.topic(name).unwrap().partitions[0].leader;
    assert_eq!(leader(&image, "shared"), Some(NodeId(1)));
    assert_eq!(leader(&image, "alone"), None);
    let decision = image.unfence_broker(NodeId(0), epoch);
    apply(&mut image, decision);
    assert_eq!(leader(&image, "shared"), Some(NodeId(1)));
    assert_eq!(leader(&image, "alone"), Some(NodeId(0)));
    let stale = image.fence_broker(NodeId(0), BrokerEpoch(epoch.0 + 1), None).unwrap_err();
    assert!(matches!(stale, ClusterError::StaleBrokerEpoch { .. }));
}

/// I1, K23.
#[test]
fn producer_ids_start_at_one_and_never_come_twice() {
    let mut image = cluster(1);
    let epoch = image.broker(NodeId(0)).unwrap().epoch;
    let mut firsts = Vec::new();
    for _ in 0..3 {
        let decision = image.allocate_producer_ids(NodeId(0), epoch);
        let block = apply(&mut image, decision);
        assert_eq!(block.len, PRODUCER_ID_BLOCK);
        firsts.push(block.first.0);
    }
    assert_eq!(firsts, [1, 1001, 2001]);
    assert!(image.allocate_producer_ids(NodeId(9), epoch).is_err());
}

#[test]
fn pages_follow_one_another_by_name() {
    let mut image = cluster(1);
    for (n, name) in ["c", "a", "b"].into_iter().enumerate() {
        create(&mut image, &topic(name), n as u8);
    }
    let names =
        |from: &str| image.topics_after(from).map(|t| t.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(""), ["a", "b", "c"]);
    assert_eq!(names("a"), ["b", "c"]);
    assert_eq!(names("c"), Vec::<String>::new());
}

#[test]
fn a_record_out_of_turn_or_about_nothing_is_an_error() {
    let mut image = cluster(1);
    let record = wrap(Record::TopicRemoval(troupe_proto::internal::v1::TopicRemovalRecord {
        topic_id: id(3).to_wire(),
    }));
    let next = image.next_offset();
    assert!(image.clone().replay(MetadataOffset(next.0 + 1), &record).is_err());
    assert!(image.clone().replay(next, &record).is_err());
    assert!(image.replay(next, &MetadataRecord { record: None }).is_err());
}
