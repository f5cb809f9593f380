//! Rules by name, and random histories that every replay must agree on.

mod delta;
mod failures;
mod partitions;

use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, MetadataOffset, PartitionId, TopicId};
use troupe_proto::internal::v1::MetadataDelta;

fn id(n: u8) -> TopicId {
    TopicId::from_wire(&[n; 16]).unwrap()
}

fn apply<T>(image: &mut ClusterImage, decision: Result<Decision<T>, ClusterError>) -> T {
    let decision = decision.unwrap();
    image.replay_all(&decision.records).unwrap();
    decision.answer
}

fn registration(node: i32, incarnation: u8) -> RegisterBroker {
    RegisterBroker {
        node_id: NodeId(node),
        incarnation: [incarnation; 16],
        endpoint: format!("node{node}:9092"),
        ..RegisterBroker::default()
    }
}

fn cluster(brokers: i32) -> ClusterImage {
    let mut image = ClusterImage::default();
    let decision = image.initialize("cluster");
    apply(&mut image, decision);
    for node in 0..brokers {
        let decision = image.register_broker(&registration(node, 1));
        apply(&mut image, decision);
    }
    image
}

fn topic(name: &str) -> CreateTopic {
    CreateTopic { name: name.to_owned(), ..CreateTopic::default() }
}

fn decide(image: &ClusterImage, request: &CreateTopic) -> Result<Decision<Arc<Topic>>, ErrorCode> {
    image
        .create_topic(&ClusterPolicy::default(), request, id(1), 7)
        .map_err(|error| WireError::from(error).code)
}

fn create(image: &mut ClusterImage, request: &CreateTopic, n: u8) -> Arc<Topic> {
    let decision = image.create_topic(&ClusterPolicy::default(), request, id(n), 7);
    apply(image, decision)
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
    let decision = image.fence_broker(NodeId(0), epoch);
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
    let decision = image.fence_broker(NodeId(1), epoch);
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
        let refused = image.create_partitions(&grow(total), 0);
        assert_eq!(code(refused), ErrorCode::InvalidPartitions, "{total}");
    }
    let lists = CreatePartitions { assignments: vec![vec![NodeId(0)]], ..grow(5) };
    assert_eq!(code(image.create_partitions(&lists, 0)), ErrorCode::InvalidReplicaAssignment);
    let before = image.topic("orders").unwrap().clone();
    let decision = image.create_partitions(&grow(5), 0);
    let answered = apply(&mut image, decision);
    assert_eq!(image.topic("orders"), Some(&answered));
    assert_eq!(answered.partitions[..3], before.partitions[..]);
    assert_eq!(answered.partitions.len(), 5);
    let lists = CreatePartitions { assignments: vec![vec![NodeId(2)]], ..grow(6) };
    let decision = image.create_partitions(&lists, 0);
    assert_eq!(apply(&mut image, decision).partitions[5].replicas, [NodeId(2)]);
}

/// T6, T7.
#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free_for_another_id() {
    let mut image = cluster(1);
    create(&mut image, &topic("a.b"), 1);
    let delete = DeleteTopic { name: "a.b".into(), validate_only: false };
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
    assert_eq!(image.create_partitions(&grow, 0).unwrap().records, vec![]);
    let delete = DeleteTopic { name, validate_only: true };
    let policy = ClusterPolicy::default();
    assert_eq!(image.delete_topic(&policy, &delete).unwrap().records, vec![]);
}

/// K12.
#[test]
fn every_start_of_a_broker_has_an_epoch_of_its_own() {
    let mut image = cluster(1);
    let first = image.broker(NodeId(0)).unwrap().epoch;
    let same = image.register_broker(&registration(0, 1)).unwrap();
    assert_eq!((same.records.len(), same.answer), (0, first));
    let offset = image.next_offset();
    let decision = image.register_broker(&registration(0, 2));
    let second = apply(&mut image, decision);
    assert_eq!(second, BrokerEpoch(offset.0));
    assert_eq!(image.broker(NodeId(0)).unwrap().epoch, second);
    assert!(!image.broker(NodeId(0)).unwrap().fenced);
    let stranger = RegisterBroker { cluster_id: Some("elsewhere".into()), ..registration(1, 1) };
    assert_eq!(
        image.register_broker(&stranger).unwrap_err().code(),
        ErrorCode::InconsistentClusterId
    );
}

/// R14, K16: alone, it leads what it led, in a new leader epoch.
#[test]
fn a_broker_that_starts_again_leads_again_in_a_new_leader_epoch() {
    let mut image = cluster(1);
    let before = create(&mut image, &topic("orders"), 1).partitions[0].clone();
    let decision = image.register_broker(&registration(0, 2));
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
    let decision = image.register_broker(&registration(0, 2));
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
    let decision = image.fence_broker(NodeId(0), epoch);
    apply(&mut image, decision);
    let leader = |image: &ClusterImage, name: &str| image.topic(name).unwrap().partitions[0].leader;
    assert_eq!(leader(&image, "shared"), Some(NodeId(1)));
    assert_eq!(leader(&image, "alone"), None);
    let decision = image.unfence_broker(NodeId(0), epoch);
    apply(&mut image, decision);
    assert_eq!(leader(&image, "shared"), Some(NodeId(1)));
    assert_eq!(leader(&image, "alone"), Some(NodeId(0)));
    let stale = image.fence_broker(NodeId(0), BrokerEpoch(epoch.0 + 1)).unwrap_err();
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

/// Any request that the controller may get, on few names so that they meet.
#[derive(Clone, Debug)]
enum Request {
    Create {
        name: u8,
        partitions: i32,
        replicas: i32,
        flush: bool,
    },
    Grow {
        name: u8,
        total: i32,
    },
    Update {
        name: u8,
        key: usize,
        value: u8,
    },
    Delete {
        name: u8,
    },
    Register {
        node: i32,
        incarnation: u8,
    },
    Fence {
        node: i32,
    },
    Unfence {
        node: i32,
    },
    ProducerIds {
        node: i32,
    },
    Enroll {
        node: i32,
        incarnation: u8,
        alive: bool,
        clean: bool,
    },
    BeginShutdown {
        node: i32,
    },
    Unregister {
        node: i32,
    },
    Resume {
        node: i32,
    },
    /// A node reports its replica of a partition, perhaps with an epoch that is over.
    Fail {
        name: u8,
        partition: u32,
        node: i32,
        late: bool,
    },
    /// The leader of a partition asks for those of its replicas that the mask has.
    Alter {
        name: u8,
        partition: u32,
        mask: u8,
        recovered: bool,
    },
    Elect {
        name: u8,
        partition: u32,
        unclean: bool,
    },
    Balance {
        percentage: u32,
    },
    ElectLeaderless,
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => (0..6u8, -1..5i32, -1..4i32, any::<bool>()).prop_map(
            |(name, partitions, replicas, flush)| Request::Create { name, partitions, replicas, flush }
        ),
        1 => (0..6u8, 0..9i32).prop_map(|(name, total)| Request::Grow { name, total }),
        2 => (0..6u8, 0..4usize, 0..3u8).prop_map(|(name, key, value)| Request::Update { name, key, value }),
        1 => (0..6u8).prop_map(|name| Request::Delete { name }),
        2 => (0..4i32, 0..3u8).prop_map(|(node, incarnation)| Request::Register { node, incarnation }),
        2 => (0..4i32).prop_map(|node| Request::Fence { node }),
        2 => (0..4i32).prop_map(|node| Request::Unfence { node }),
        1 => (0..4i32).prop_map(|node| Request::ProducerIds { node }),
        2 => (0..4i32, 0..3u8, any::<bool>(), any::<bool>()).prop_map(
            |(node, incarnation, alive, clean)| Request::Enroll { node, incarnation, alive, clean }
        ),
        1 => (0..4i32).prop_map(|node| Request::BeginShutdown { node }),
        1 => (0..4i32).prop_map(|node| Request::Unregister { node }),
        1 => (0..4i32).prop_map(|node| Request::Resume { node }),
        4 => (0..6u8, 0..3u32, 0..4i32, any::<bool>()).prop_map(
            |(name, partition, node, late)| Request::Fail { name, partition, node, late }
        ),
        4 => (0..6u8, 0..3u32, any::<u8>(), any::<bool>()).prop_map(
            |(name, partition, mask, recovered)| Request::Alter { name, partition, mask, recovered }
        ),
        1 => (0..6u8, 0..3u32, any::<bool>()).prop_map(
            |(name, partition, unclean)| Request::Elect { name, partition, unclean }
        ),
        1 => (0..20u32).prop_map(|percentage| Request::Balance { percentage }),
        1 => Just(Request::ElectLeaderless),
    ]
}

fn name(n: u8) -> String {
    ["a", "b.c", "b_c", "d", "e", "f-g"][n as usize].to_owned()
}

/// The records of one request, none if it was refused; and whether its answer came true.
fn decided(image: &ClusterImage, request: &Request, seed: u64) -> Vec<MetadataRecord> {
    let policy = ClusterPolicy::default();
    let epoch = |node: i32| image.broker(NodeId(node)).map_or(BrokerEpoch(0), |b| b.epoch);
    let topic_records = |decision: Result<Decision<Arc<Topic>>, ClusterError>| {
        decision.map(|decision| {
            let mut after = image.clone();
            after.replay_all(&decision.records).unwrap();
            assert_eq!(after.topic(&decision.answer.name), Some(&decision.answer));
            decision.records
        })
    };
    let records = match *request {
        Request::Create { name: n, partitions, replicas, flush } => {
            let mut request = topic(&name(n));
            request.partitions = Some(partitions);
            request.replication_factor = Some(replicas);
            if flush {
                request.configs.insert("flush.policy".into(), "os".into());
                request.configs.insert("min.insync.replicas".into(), "2".into());
            }
            let new_id = TopicId::from_wire(&u128::from(seed).to_be_bytes()).unwrap();
            topic_records(image.create_topic(&policy, &request, new_id, seed))
        }
        Request::Grow { name: n, total } => {
            let request = CreatePartitions { name: name(n), total, ..Default::default() };
            topic_records(image.create_partitions(&request, seed))
        }
        Request::Update { name: n, key, value } => {
            let key = ["retention.ms", "flush.policy", "unclean.leader.election.enable", "x"][key];
            let values = match key {
                "retention.ms" => ["1h", "-1", "0"],
                "flush.policy" => ["os", "commit", "os"],
                _ => ["true", "false", "perhaps"],
            };
            let mut request = UpdateTopic { name: name(n), ..Default::default() };
            match values.get(value as usize) {
                Some(value) => drop(request.set.insert(key.into(), (*value).into())),
                None => request.unset.push(key.into()),
            }
            topic_records(image.update_topic(&request))
        }
        Request::Delete { name: n } => {
            let request = DeleteTopic { name: name(n), validate_only: false };
            image.delete_topic(&policy, &request).map(|decision| decision.records)
        }
        Request::Register { node, incarnation } => {
            image.register_broker(&registration(node, incarnation)).map(|d| d.records)
        }
        Request::Fence { node } => image.fence_broker(NodeId(node), epoch(node)).map(|d| d.records),
        Request::Unfence { node } => {
            image.unfence_broker(NodeId(node), epoch(node)).map(|d| d.records)
        }
        Request::ProducerIds { node } => {
            image.allocate_producer_ids(NodeId(node), epoch(node)).map(|d| d.records)
        }
        Request::Enroll { node, incarnation, alive, clean } => {
            let stopped_cleanly = clean.then(|| epoch(node));
            let arrival =
                Arrival { predecessor_alive: alive, stopped_cleanly, ..Arrival::default() };
            image.enroll_broker(&registration(node, incarnation), arrival).map(|d| d.records)
        }
        Request::BeginShutdown { node } => {
            image.begin_shutdown(NodeId(node), epoch(node)).map(|d| d.records)
        }
        Request::Unregister { node } => image.unregister_broker(NodeId(node)).map(|d| d.records),
        Request::Resume { node } => image.resume_broker(NodeId(node)).map(|d| d.records),
        Request::Fail { name: n, partition, node, late } => {
            let Some(topic) = image.topic(&name(n)) else { return Vec::new() };
            let key = topic.key(PartitionId(partition));
            let current = topic.partition(key.partition).map_or(0, |p| p.leader_epoch.0);
            let reports = [(key, LeaderEpoch(current.saturating_sub(late.into())))];
            image.fail_replicas(NodeId(node), epoch(node), &reports).map(|d| d.records)
        }
        Request::Alter { name: n, partition, mask, recovered } => {
            alter(image, &name(n), PartitionId(partition), mask, recovered)
        }
        Request::Elect { name: n, partition, unclean } => {
            let Some(topic) = image.topic(&name(n)) else { return Vec::new() };
            let election = if unclean { Election::Unclean } else { Election::Preferred };
            image.elect_leader(&topic.key(PartitionId(partition)), election).map(|d| d.records)
        }
        Request::Balance { percentage } => {
            let balance = LeaderBalance { percentage_per_broker: percentage, max_elections: 3 };
            Ok(image.balance_leaders(balance).records)
        }
        Request::ElectLeaderless => Ok(image.elect_leaderless().records),
    };
    records.unwrap_or_default()
}

fn alter(
    image: &ClusterImage,
    name: &str,
    at: PartitionId,
    mask: u8,
    recovered: bool,
) -> Result<Vec<MetadataRecord>, ClusterError> {
    let Some(topic) = image.topic(name) else { return Ok(Vec::new()) };
    let Some(partition) = topic.partition(at) else { return Ok(Vec::new()) };
    let Some(leader) = partition.leader else { return Ok(Vec::new()) };
    let wanted = |node: &NodeId| *node == leader || mask & (1 << node.0) != 0;
    let isr = partition.replicas.iter().copied().filter(wanted);
    let request = AlterPartition {
        key: topic.key(at),
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        isr: isr.map(|node| IsrMember { node, broker_epoch: None }).collect(),
        recovered,
    };
    let epoch = image.broker(leader).map_or(BrokerEpoch(0), |broker| broker.epoch);
    image.alter_partition(leader, epoch, &request).map(|decision| decision.records)
}

/// What holds of every partition at all times.
fn check(image: &ClusterImage) {
    for topic in image.topics() {
        assert!(!topic.partitions.is_empty());
        for partition in &topic.partitions {
            let Partition { replicas, isr, elr, leader, last_known_leader, .. } = partition;
            let active = |node: &NodeId| image.is_active(*node);
            assert!(isr.iter().chain(elr).all(|node| replicas.contains(node)));
            assert!(!isr.iter().any(|node| elr.contains(node)), "R16: in sync, or eligible");
            assert!(isr.iter().all(active), "K15: in sync are the active");
            let enough = (topic.config.min_insync_replicas as usize).min(replicas.len());
            assert!(isr.len() < enough || elr.is_empty(), "R16");
            match leader {
                Some(leader) => {
                    assert!(isr.contains(leader), "a leader is in sync");
                    assert_eq!(*last_known_leader, None);
                }
                None => {
                    assert!(isr.is_empty() && !elr.iter().any(active), "K16");
                    assert!(!elr.is_empty() || !last_known_leader.is_some_and(|n| active(&n)));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_history_replayed_from_scratch_or_from_a_snapshot_gives_the_same_image(
        requests in proptest::collection::vec(requests(), 1..60), cut in 0..60usize
    ) {
        let mut live = cluster(2);
        let mut history: Vec<MetadataRecord> = Vec::new();
        let start = live.clone();
        let mut from_snapshot = None;
        let mut follower = ClusterImage::default();
        for (at, request) in requests.iter().enumerate() {
            if at == cut {
                let restored = ClusterImage::from_snapshot(&live.snapshot()).unwrap();
                prop_assert_eq!(&restored, &live);
                from_snapshot = Some((restored, history.len()));
            }
            if at % 3 == 0 {
                let delta = live.delta(&follower);
                follower.apply_delta(&Delta::from(MetadataDelta::from(delta))).unwrap();
                prop_assert_eq!(&follower, &live);
                prop_assert_eq!(&follower.collision_forms, &live.collision_forms);
            }
            let before = live.clone();
            let records = decided(&live, request, at as u64 + 100);
            prop_assert_eq!(&before, &live, "a decision changes nothing");
            for topic in before.topics() {
                let epochs = |image: &ClusterImage| image.topic_by_id(topic.id).map(|topic| {
                    topic.partitions.iter().map(|p| (p.leader_epoch, p.leader, p.clone())).collect::<Vec<_>>()
                });
                let mut after = live.clone();
                after.replay_all(&records).unwrap();
                if let (Some(old), Some(new)) = (epochs(&before), epochs(&after)) {
                    for (old, new) in old.iter().zip(&new) {
                        prop_assert!(new.0 >= old.0, "leader epochs never go back");
                        let same_leader = old.1 == new.1;
                        prop_assert!(same_leader || new.0 > old.0, "a new leader is a new epoch");
                        let newer = new.2.partition_epoch > old.2.partition_epoch;
                        prop_assert!(old.2 == new.2 || newer, "any change is a new epoch");
                    }
                }
            }
            live.replay_all(&records).unwrap();
            history.extend(records);
            check(&live);
        }
        let mut replayed = start;
        replayed.replay_all(&history).unwrap();
        prop_assert_eq!(&replayed, &live);
        if let Some((mut restored, from)) = from_snapshot {
            restored.replay_all(&history[from..]).unwrap();
            prop_assert_eq!(&restored, &live);
        }
    }
}
