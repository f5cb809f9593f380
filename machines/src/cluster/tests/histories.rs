//! Random histories: every replay of one gives the same image, and what must hold of an image always does.

use super::*;
use proptest::prelude::*;

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
    /// Other replicas for a partition, those of these nodes that the mask has; none: as before.
    Reassign {
        name: u8,
        partition: u32,
        order: [i32; 4],
        count: usize,
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
        2 => (0..6u8, 0..5usize, 0..4u8).prop_map(|(name, key, value)| Request::Update { name, key, value }),
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
        5 => (0..6u8, 0..3u32, any::<[u8; 4]>(), 0..4usize).prop_map(|(name, partition, keys, count)| {
            let mut order = [0, 1, 2, 3];
            order.sort_by_key(|node: &i32| keys[*node as usize]);
            Request::Reassign { name, partition, order, count }
        }),
        1 => (0..20u32).prop_map(|percentage| Request::Balance { percentage }),
        1 => Just(Request::ElectLeaderless),
    ]
}

/// All are of this version.
fn registration(node: i32, incarnation: u8) -> RegisterBroker {
    let metadata_version = METADATA_VERSION;
    RegisterBroker { metadata_version, ..super::registration(node, incarnation) }
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
            topic_records(image.create_partitions(&policy, &request, seed))
        }
        Request::Update { name: n, key, value } => {
            let key = [
                "retention.ms",
                "flush.policy",
                "unclean.leader.election.enable",
                "min.insync.replicas",
                "x",
            ][key];
            let values = match key {
                "min.insync.replicas" => ["1", "2", "3"],
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
            let request = DeleteTopic { name: name(n), validate_only: false, internal: false };
            image.delete_topic(&policy, &request).map(|decision| decision.records)
        }
        Request::Register { node, incarnation } => {
            image.register_unfenced_broker(&registration(node, incarnation)).map(|d| d.records)
        }
        Request::Fence { node } => {
            image.fence_broker(NodeId(node), epoch(node), None).map(|d| d.records)
        }
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
            image.register_broker(&registration(node, incarnation), arrival).map(|d| d.records)
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
        Request::Reassign { name: n, partition, order, count } => {
            let target = (count > 0).then(|| order[..count].iter().copied().map(NodeId).collect());
            let one = ReassignPartition { topic: name(n), partition: partition as i32, target };
            let request = AlterPartitionReassignments {
                partitions: vec![one],
                allow_replication_factor_change: true,
                validate_only: false,
            };
            image.alter_partition_reassignments(&policy, &request, &[]).map(|d| d.records)
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
            let Partition { replicas, isr, elr, leader, last_known_leader, last_in_sync, .. } =
                partition;
            check_reassignment(topic, partition);
            let active = |node: &NodeId| image.is_active(*node);
            assert!(isr.iter().chain(elr).all(|node| replicas.contains(node)));
            assert!(!isr.iter().any(|node| elr.contains(node)), "R16: in sync, or eligible");
            assert!(isr.iter().all(active), "K15: in sync are the active");
            assert!(!last_in_sync.iter().any(|node| isr.contains(node) || elr.contains(node)));
            let enough =
                (topic.config.min_insync_replicas as usize).min(partition.least_replicas());
            assert!(isr.len() < enough || elr.is_empty(), "R16");
            match leader {
                Some(leader) => {
                    assert!(isr.contains(leader), "a leader is in sync");
                    assert_eq!(*last_known_leader, None);
                }
                None => {
                    assert!(isr.is_empty() && !elr.iter().any(active), "K16");
                    let waits = !elr.is_empty() || !last_in_sync.is_empty();
                    assert!(waits || !last_known_leader.is_some_and(|n| active(&n)));
                    assert!(!elr.is_empty() || !last_in_sync.iter().any(active));
                }
            }
        }
    }
}

/// R34: what is added and removed is what differs, and nobody waits for what is there.
fn check_reassignment(topic: &Topic, partition: &Partition) {
    let Partition { replicas, adding, removing, original, isr, leader, .. } = partition;
    let target: Vec<_> = partition.target().collect();
    assert!(replicas.iter().enumerate().all(|(at, node)| !replicas[..at].contains(node)));
    assert!(!target.is_empty() && replicas.starts_with(&target), "who is to go comes last");
    assert!(replicas.ends_with(removing));
    if !partition.is_reassigning() {
        assert!(original.is_empty());
        return;
    }
    assert!(original.iter().all(|node| replicas.contains(node)), "it can be given up");
    let added = target.iter().filter(|node| !original.contains(node));
    assert!(added.eq(adding), "T without C");
    let needed = partition.cancelled_until_in_sync(topic.config.min_insync_replicas);
    let there = target.iter().filter(|node| isr.contains(node)).count();
    let is_complete = there >= needed.map_or(target.len(), |needed| needed as usize);
    assert!(!is_complete || leader.is_none(), "complete as soon as enough are in sync");
}

/// R34: what was acknowledged is on as many replicas as it has to be without those that were dropped, if they had it.
fn check_dropped(before: &Partition, topic: &Topic, after: &Partition) {
    let had_all = |node: &&NodeId| before.isr.contains(node) || before.elr.contains(node);
    let mut dropped = before.replicas.iter().filter(|node| !after.replicas.contains(node));
    let enough = (topic.config.min_insync_replicas as usize).min(after.replicas.len());
    assert!(!dropped.any(|node| had_all(&node)) || after.isr.len() >= enough, "{after:?}");
}

proptest! {
    #[test]
    fn any_history_replayed_from_scratch_or_from_a_snapshot_gives_the_same_image(
        requests in proptest::collection::vec(requests(), 1..60), cut in 0..60usize
    ) {
        let mut live = cluster(2);
        for node in [0, 1].map(NodeId) {
            let epoch = live.broker(node).unwrap().epoch;
            let noted = live.note_versions(node, epoch, 0, METADATA_VERSION, &BTreeMap::new());
            apply(&mut live, noted);
        }
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
                        check_dropped(&old.2, after.topic_by_id(topic.id).unwrap(), &new.2);
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
