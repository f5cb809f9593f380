//! Leaders and in-sync replicas: the rules by name, worked examples with their numbers.

use super::*;
use troupe_proto::ids::{PartitionEpoch, PartitionKey};
use troupe_proto::internal::v1::BrokerRemovalRecord;

pub(super) fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

pub(super) fn epoch(image: &ClusterImage, node: i32) -> BrokerEpoch {
    image.broker(NodeId(node)).unwrap().epoch
}

/// A topic whose partitions have these replicas, on brokers 0 to 3.
pub(super) fn placed(replicas: &[&[i32]], configs: &[(&str, &str)]) -> (ClusterImage, TopicId) {
    let mut image = cluster(4);
    let request = CreateTopic {
        assignments: replicas.iter().map(|list| nodes(list)).collect(),
        configs: configs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        ..topic("orders")
    };
    create(&mut image, &request, 1);
    (image, id(1))
}

pub(super) fn key(partition: u32) -> PartitionKey {
    PartitionKey { topic_id: id(1), partition: PartitionId(partition) }
}

pub(super) fn partition(image: &ClusterImage, at: u32) -> &Partition {
    image.partition(&key(at)).unwrap()
}

pub(super) fn fence(image: &mut ClusterImage, node: i32) {
    let decision = image.fence_broker(NodeId(node), epoch(image, node), None);
    apply(image, decision);
}

pub(super) fn unfence(image: &mut ClusterImage, node: i32) {
    let decision = image.unfence_broker(NodeId(node), epoch(image, node));
    apply(image, decision);
}

/// What the leader of partition 0 would ask for.
pub(super) fn isr_request(image: &ClusterImage, isr: &[i32]) -> AlterPartition {
    let current = partition(image, 0);
    let member = |node: &i32| IsrMember { node: NodeId(*node), broker_epoch: None };
    AlterPartition {
        key: key(0),
        leader_epoch: current.leader_epoch,
        partition_epoch: current.partition_epoch,
        isr: isr.iter().map(member).collect(),
        recovered: true,
    }
}

fn alter(
    image: &ClusterImage,
    node: i32,
    request: &AlterPartition,
) -> Result<Decision<Partition>, ErrorCode> {
    let decided = image.alter_partition(NodeId(node), epoch(image, node), request);
    decided.map_err(|error| error.code())
}

/// R9: shrunk, grown again; each a new partition epoch, and the leader's epoch stays.
#[test]
fn an_isr_is_what_its_leader_committed_and_the_same_wish_counts_once() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    let request = isr_request(&image, &[0, 1]);
    let shrunk = alter(&image, 0, &request).unwrap();
    image.replay_all(&shrunk.records).unwrap();
    assert_eq!(partition(&image, 0), &shrunk.answer);
    assert_eq!(shrunk.answer.isr, nodes(&[0, 1]));
    assert_eq!(shrunk.answer.partition_epoch, PartitionEpoch(1));
    assert_eq!(shrunk.answer.leader_epoch, LeaderEpoch(0));
    assert_eq!(alter(&image, 0, &request), Err(ErrorCode::StalePartitionEpoch));
    let grown = alter(&image, 0, &isr_request(&image, &[0, 1, 2])).unwrap();
    assert_eq!(grown.answer.isr, nodes(&[0, 1, 2]));
    let same = alter(&image, 0, &isr_request(&image, &[0, 1])).unwrap();
    assert_eq!(same.records, vec![], "nothing changes");
}

/// R9: each check, and those before it do not hide it.
#[test]
fn a_wish_is_checked_in_order() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    fence(&mut image, 0);
    unfence(&mut image, 0);
    let good = isr_request(&image, &[1, 2]);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(1)));
    let stale = image.alter_partition(NodeId(1), BrokerEpoch(0), &good).unwrap_err();
    assert_eq!(stale.code(), ErrorCode::StaleBrokerEpoch);
    let unknown = image.alter_partition(NodeId(9), BrokerEpoch(0), &good).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::BrokerNotRegistered);
    let with = |change: &dyn Fn(&mut AlterPartition)| {
        // Everything that is checked later is wrong already.
        let mut request = isr_request(&image, &[7]);
        request.partition_epoch = PartitionEpoch(0);
        change(&mut request);
        request
    };
    let other = PartitionKey { topic_id: id(9), partition: PartitionId(0) };
    type Change<'a> = &'a dyn Fn(&mut AlterPartition);
    let cases: [(Change<'_>, i32, ErrorCode); 7] = [
        (&|r| r.key = other, 0, ErrorCode::UnknownTopic),
        (&|r| r.key = key(5), 0, ErrorCode::UnknownPartition),
        (&|r| r.leader_epoch = LeaderEpoch(9), 0, ErrorCode::NotController),
        (&|r| r.partition_epoch = PartitionEpoch(9), 0, ErrorCode::NotController),
        (&|r| r.leader_epoch = LeaderEpoch(0), 0, ErrorCode::FencedLeaderEpoch),
        (&|_| {}, 0, ErrorCode::InvalidRequest),
        (&|_| {}, 1, ErrorCode::StalePartitionEpoch),
    ];
    for (change, node, code) in cases {
        assert_eq!(alter(&image, node, &with(change)), Err(code));
    }
    for isr in [&[1, 3][..], &[2], &[], &[1, 1]] {
        assert_eq!(
            alter(&image, 1, &isr_request(&image, isr)),
            Err(ErrorCode::InvalidRequest),
            "{isr:?}"
        );
    }
}

/// R8, K15: fenced, shutting down, forgotten, or another incarnation.
#[test]
fn who_is_not_active_cannot_be_in_sync() {
    let (mut image, _) = placed(&[&[0, 1, 2, 3]], &[]);
    let refused = Err(ErrorCode::IneligibleReplica);
    fence(&mut image, 1);
    assert_eq!(alter(&image, 0, &isr_request(&image, &[0, 1])), refused);
    let decision = image.begin_shutdown(NodeId(2), epoch(&image, 2));
    apply(&mut image, decision);
    assert_eq!(alter(&image, 0, &isr_request(&image, &[0, 2])), refused);
    let mut request = isr_request(&image, &[0, 3]);
    request.isr[1].broker_epoch = Some(BrokerEpoch(0));
    assert_eq!(alter(&image, 0, &request), refused);
    request.isr[1].broker_epoch = Some(epoch(&image, 3));
    assert!(alter(&image, 0, &request).is_ok());
    // What a release that still forgot brokers with replicas has left in a log.
    let removal = BrokerRemovalRecord { node_id: 1, broker_epoch: epoch(&image, 1).0 };
    image.replay_all(&[wrap(Record::BrokerRemoval(removal))]).unwrap();
    assert_eq!(alter(&image, 0, &isr_request(&image, &[0, 1])), refused);
}

/// Two changes of one partition in one request: the second meets what the first has made.
#[test]
fn changes_of_one_request_are_decided_one_after_the_other() {
    let (image, _) = placed(&[&[0, 1, 2], &[1, 0, 2]], &[]);
    let request = isr_request(&image, &[0, 1]);
    let elsewhere = AlterPartition { key: key(1), ..request.clone() };
    let requests = [request.clone(), elsewhere, request];
    let decision = image.alter_partitions(NodeId(0), epoch(&image, 0), &requests).unwrap();
    let codes: Vec<_> =
        decision.answer.iter().map(|r| r.as_ref().err().map(ClusterError::code)).collect();
    let expected = [None, Some(ErrorCode::InvalidRequest), Some(ErrorCode::StalePartitionEpoch)];
    assert_eq!((codes, decision.records.len()), (expected.to_vec(), 1));
}

/// K12.
#[test]
fn a_broker_enrols_fenced_and_two_alive_with_one_id_are_one_too_many() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    let alive = Arrival { predecessor_alive: true, ..Arrival::default() };
    let duplicate = image.register_broker(&registration(0, 2), alive.clone()).unwrap_err();
    assert_eq!(duplicate.code(), ErrorCode::DuplicateBroker);
    let same = image.register_broker(&registration(0, 1), alive).unwrap();
    assert_eq!((same.records.len(), same.answer), (0, epoch(&image, 0)));
    let before = epoch(&image, 0);
    let decision = image.register_broker(&registration(0, 2), Arrival::default());
    assert!(apply(&mut image, decision) > before);
    assert!(image.broker(NodeId(0)).unwrap().fenced);
    let moved = partition(&image, 0);
    assert_eq!((moved.leader, &moved.isr), (Some(NodeId(1)), &nodes(&[1])));
    let stranger = RegisterBroker { cluster_id: Some("elsewhere".into()), ..registration(0, 3) };
    let refused = image.register_broker(&stranger, Arrival::default()).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InconsistentClusterId);
}

/// R16: what was not flushed may be gone; where committed means flushed, nothing committed is.
#[test]
fn after_an_unclean_stop_only_flushed_replicas_are_eligible() {
    for (policy, clean, recovering) in
        [("commit", false, false), ("os", false, true), ("os", true, false)]
    {
        let (mut image, _) = placed(&[&[0, 1]], &[("flush.policy", policy)]);
        fence(&mut image, 1);
        fence(&mut image, 0);
        assert_eq!((partition(&image, 0).leader, &partition(&image, 0).isr), (None, &vec![]));
        let stopped_cleanly = clean.then(|| epoch(&image, 0));
        let arrival = Arrival { stopped_cleanly, ..Arrival::default() };
        let decision = image.register_broker(&registration(0, 2), arrival);
        apply(&mut image, decision);
        unfence(&mut image, 0);
        let back = partition(&image, 0);
        assert_eq!((back.leader, back.recovering), (Some(NodeId(0)), recovering), "{policy}");
    }
}

/// R16, KIP-966: found by the simulation, whose wiped brokers led and had everybody else cut off.
#[test]
fn who_comes_back_with_an_empty_disk_is_not_eligible() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[("min.insync.replicas", "2")]);
    for node in [2, 0, 1] {
        fence(&mut image, node);
    }
    assert_eq!(partition(&image, 0).elr, nodes(&[0, 1]));
    let arrival = Arrival { holds_nothing: true, ..Arrival::default() };
    let decision = image.register_broker(&registration(0, 2), arrival);
    apply(&mut image, decision);
    assert_eq!(partition(&image, 0).elr, nodes(&[1]));
    unfence(&mut image, 0);
    assert_eq!(partition(&image, 0).leader, None, "1 has what 0 has lost");
    unfence(&mut image, 1);
    assert_eq!(
        (partition(&image, 0).leader, partition(&image, 0).recovering),
        (Some(NodeId(1)), false)
    );
}

/// R15: nobody joins a leader that may lack records before it says that it copes.
#[test]
fn an_unclean_leader_recovers_before_others_join() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    fence(&mut image, 1);
    fence(&mut image, 0);
    unfence(&mut image, 1);
    assert_eq!(partition(&image, 0).leader, None, "0 alone has everything");
    assert_eq!(image.elect_leaderless().answer, 0);
    let refused = image.elect_leader(&key(0), Election::Preferred).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::LeaderNotAvailable);
    let decision = image.elect_leader(&key(0), Election::Unclean);
    let forced = apply(&mut image, decision);
    assert_eq!((forced.leader, &forced.isr), (Some(NodeId(1)), &nodes(&[1])));
    assert!(forced.recovering);
    unfence(&mut image, 0);
    let early = AlterPartition { recovered: false, ..isr_request(&image, &[1, 0]) };
    assert_eq!(alter(&image, 1, &early), Err(ErrorCode::InvalidRequest));
    let done = alter(&image, 1, &isr_request(&image, &[1])).unwrap();
    image.replay_all(&done.records).unwrap();
    assert!(!partition(&image, 0).recovering);
    let early = AlterPartition { recovered: false, ..isr_request(&image, &[1, 0]) };
    assert!(alter(&image, 1, &early).is_ok());
    let needless = image.elect_leader(&key(0), Election::Unclean).unwrap_err();
    assert_eq!(needless.code(), ErrorCode::ElectionNotNeeded);
}

/// R15: a configuration that comes later counts at the next look.
#[test]
fn leaderless_partitions_get_a_leader_once_their_topic_allows_unclean_elections() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    fence(&mut image, 1);
    fence(&mut image, 0);
    unfence(&mut image, 1);
    let set = [("unclean.leader.election.enable".to_owned(), "true".to_owned())].into();
    let update = UpdateTopic { name: "orders".into(), set, ..Default::default() };
    let decision = image.update_topic(&update);
    apply(&mut image, decision);
    let decision = image.elect_leaderless();
    assert_eq!(apply(&mut image, Ok(decision)), 1);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(1)));
}

/// K17.
#[test]
fn a_broker_that_shuts_down_hands_over_what_it_leads_and_gets_nothing_new() {
    let (mut image, _) = placed(&[&[0, 1], &[1, 0]], &[]);
    create(&mut image, &CreateTopic { assignments: vec![nodes(&[0])], ..topic("alone") }, 3);
    let alone = |image: &ClusterImage| image.topic("alone").unwrap().partitions[0].leader;
    assert_eq!(image.led_by(NodeId(0)).count(), 2);
    let asked = image.begin_shutdown(NodeId(0), epoch(&image, 0)).unwrap();
    let applied = asked.answer;
    image.replay_all(&asked.records).unwrap();
    assert_eq!(image.next_offset(), applied, "with all of it applied, it may stop");
    assert_eq!(image.led_by(NodeId(0)).count(), 0);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(1)));
    assert_eq!(partition(&image, 1).isr, nodes(&[1]));
    assert_eq!(alone(&image), None, "nobody else has it");
    assert!(!image.broker(NodeId(0)).unwrap().fenced, "it is still heard");
    assert_eq!(image.begin_shutdown(NodeId(0), epoch(&image, 0)).unwrap().records, vec![]);
    let request =
        CreateTopic { partitions: Some(9), replication_factor: Some(3), ..topic("later") };
    for partition in &create(&mut image, &request, 2).partitions {
        assert!(!partition.replicas.contains(&NodeId(0)));
    }
    fence(&mut image, 0);
    unfence(&mut image, 0);
    assert_eq!(alone(&image), None, "only a new registration brings it back");
    let decision = image.register_broker(&registration(0, 2), Arrival::default());
    apply(&mut image, decision);
    unfence(&mut image, 0);
    assert_eq!(alone(&image), Some(NodeId(0)));
}

/// K22.
#[test]
fn only_a_stopped_broker_is_forgotten() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    let code = |error: ClusterError| error.code();
    assert_eq!(image.unregister_broker(NodeId(9)).map_err(code), {
        Err(ErrorCode::BrokerNotRegistered)
    });
    assert_eq!(image.unregister_broker(NodeId(1)).map_err(code), Err(ErrorCode::InvalidRequest));
    fence(&mut image, 3);
    let decision = image.unregister_broker(NodeId(3));
    apply(&mut image, decision);
    assert_eq!(image.broker(NodeId(3)), None);
}

/// K22: a replica that is assigned to nobody would be missing for ever.
#[test]
fn a_broker_that_holds_replicas_is_not_forgotten() {
    let lists: Vec<&[i32]> = (0..12).map(|_| [0, 1].as_slice()).collect();
    let (mut image, _) = placed(&lists, &[]);
    fence(&mut image, 1);
    let refused = image.unregister_broker(NodeId(1)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NodeHoldsReplicas);
    let text = refused.to_string();
    assert!(text.contains("holds 12 replicas") && text.contains("orders:9 and 2 more"), "{text}");
    let name = image.topics().next().unwrap().name.to_string();
    let delete = DeleteTopic { name, validate_only: false, internal: false };
    let decision = image.delete_topic(&ClusterPolicy::default(), &delete);
    apply(&mut image, decision);
    let decision = image.unregister_broker(NodeId(1));
    apply(&mut image, decision);
    assert_eq!(image.broker(NodeId(1)), None);
}

/// R18: P0 3,0,2,1/0; P1 1,2,3,0/1; P2 0,3,1,2/2; P3 2,1,0,3/3.
fn imbalanced() -> ClusterImage {
    let lists: [&[i32]; 4] = [&[3, 0, 2, 1], &[1, 2, 3, 0], &[0, 3, 1, 2], &[2, 1, 0, 3]];
    let (mut image, _) = placed(&lists, &[]);
    for (at, leader) in [(0, 0), (2, 2), (3, 3)] {
        let current = partition(&image, at).clone();
        let after = Partition {
            leader: Some(NodeId(leader)),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            ..current
        };
        let record = crate::cluster::replay::partition_record(&id(1).to_wire(), at, &after);
        image.replay_all(&[wrap(Record::Partition(record))]).unwrap();
    }
    image
}

/// R17, R18.
#[test]
fn leaders_go_back_to_where_they_are_preferred() {
    let mut image = imbalanced();
    let leaders = |image: &ClusterImage| -> Vec<i32> {
        (0..4).map(|at| partition(image, at).leader.unwrap().0).collect()
    };
    assert_eq!(leaders(&image), [0, 1, 2, 3]);
    let few = LeaderBalance { max_elections: 2, ..LeaderBalance::default() };
    assert_eq!(image.balance_leaders(few).answer, 2);
    let untouched = partition(&image, 1).clone();
    let decision = image.balance_leaders(LeaderBalance::default());
    assert_eq!(apply(&mut image, Ok(decision)), 3);
    assert_eq!(leaders(&image), [3, 1, 0, 2]);
    assert_eq!(partition(&image, 1), &untouched);
    assert_eq!(partition(&image, 0).leader_epoch, LeaderEpoch(2));
    assert_eq!(image.balance_leaders(LeaderBalance::default()).answer, 0);
}

/// R17: up to 10 % of what a broker is preferred for may be elsewhere.
#[test]
fn a_small_imbalance_is_left_alone() {
    let lists = vec![&[0, 1][..]; 10];
    let (mut image, _) = placed(&lists, &[]);
    fence(&mut image, 0);
    unfence(&mut image, 0);
    for at in 0..10 {
        let current = partition(&image, at);
        let request = AlterPartition {
            key: key(at),
            leader_epoch: current.leader_epoch,
            partition_epoch: current.partition_epoch,
            isr: vec![
                IsrMember { node: NodeId(1), broker_epoch: None },
                IsrMember { node: NodeId(0), broker_epoch: None },
            ],
            recovered: true,
        };
        let joined = alter(&image, 1, &request).unwrap();
        image.replay_all(&joined.records).unwrap();
    }
    let nine: Vec<_> = (0..9).map(key).collect();
    let decision = image.elect_leaders(&nine, Election::Preferred);
    assert!(apply(&mut image, Ok(decision)).iter().all(Result::is_ok));
    assert_eq!(image.balance_leaders(LeaderBalance::default()).answer, 0, "1 of 10");
    let strict = LeaderBalance { percentage_per_broker: 0, ..LeaderBalance::default() };
    assert_eq!(image.balance_leaders(strict).answer, 1);
    let needless = image.elect_leaders(&nine[..1], Election::Preferred).answer.remove(0);
    assert_eq!(needless.unwrap_err().code(), ErrorCode::ElectionNotNeeded);
}

/// A log in which an epoch goes back is damaged.
#[test]
fn epochs_that_go_back_are_found_at_replay() {
    let image = imbalanced();
    let before = Partition { partition_epoch: PartitionEpoch(1), ..partition(&image, 0).clone() };
    for bad in [
        before.clone(),
        Partition { leader_epoch: LeaderEpoch(0), partition_epoch: PartitionEpoch(2), ..before },
    ] {
        let record = crate::cluster::replay::partition_record(&id(1).to_wire(), 0, &bad);
        assert!(image.clone().replay_all(&[wrap(Record::Partition(record))]).is_err());
    }
}

/// R10, R16: from the moment that a leader may commit alone, who is not in sync may lack what is committed.
#[test]
fn who_was_eligible_is_not_once_fewer_in_sync_replicas_suffice() {
    let (mut image, _) = placed(&[&[0, 1]], &[("min.insync.replicas", "2")]);
    fence(&mut image, 1);
    assert_eq!(partition(&image, 0).elr, nodes(&[1]));
    let set = BTreeMap::from([("min.insync.replicas".to_owned(), "1".to_owned())]);
    let request = UpdateTopic { name: "orders".into(), set, ..Default::default() };
    let decision = image.update_topic(&request);
    let answered = apply(&mut image, decision);
    assert_eq!(partition(&image, 0).elr, []);
    assert_eq!(image.topic("orders"), Some(&answered));
    fence(&mut image, 0);
    unfence(&mut image, 1);
    assert_eq!(partition(&image, 0).leader, None, "it lacks what 0 committed alone");
    unfence(&mut image, 0);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(0)));
}
