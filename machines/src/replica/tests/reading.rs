//! Readers: who answers them, and who is sent on to whom (KIP-392).

use super::following::{batch, ends, follow, from_disk, opened, streaming};
use super::leading::{cluster_leader, partition};
use super::*;
use troupe_proto::ids::PartitionEpoch;

const NEAR: [NodeId; 2] = [NodeId(2), NodeId(3)];

fn near(nodes: &[NodeId]) -> Reader {
    Reader::OfAny { nearby: nodes.to_vec() }
}

fn decide(
    replica: &Replica,
    from: u64,
    reader: &Reader,
    partition: &PartitionState,
) -> Result<ReadDecision, ServeError> {
    let expected_leader_epoch = None;
    let (from, is_damaged) = (Offset(from), false);
    replica.decide_read(&ReadFacts { from, expected_leader_epoch, reader, partition, is_damaged })
}

/// Opens the stream of a follower whose log holds these offsets.
fn follows(replica: &mut Replica, node: i32, log_start: u64, log_end: u64) -> FollowSession {
    let follower =
        Follower { node: NodeId(node), broker_epoch: BrokerEpoch(0), answers_rounds: true };
    let end = ReplicaEnd {
        log_end: Offset(log_end),
        flushed_end: Offset(log_end),
        log_start: Some(Offset(log_start)),
    };
    let position = Position {
        leader_epoch: LeaderEpoch(5),
        end,
        last_epoch: Some(LeaderEpoch(3)),
        tombstones_gone_below: Some(Offset::ZERO),
    };
    let epoch_end = Some((LeaderEpoch(3), Offset(10)));
    match replica.on_follower_opened(NOW, follower, &position, epoch_end, &mut Effects::new()) {
        Ok(Opening::Stream { session, .. }) => session,
        other => panic!("{other:?}"),
    }
}

/// Leads epoch 5 with a log that ends at 10, and all three are in sync.
fn leader_of_three() -> (Replica, PartitionState) {
    (cluster_leader(&[1, 2, 3]), partition(5, 0, &[1, 2, 3]))
}

#[test]
fn a_reader_is_sent_to_the_most_caught_up_replica_of_its_rack() {
    let (mut leader, partition) = leader_of_three();
    follows(&mut leader, 2, 0, 7);
    follows(&mut leader, 3, 0, 9);
    let sent = |from, nodes: &[NodeId]| decide(&leader, from, &near(nodes), &partition).unwrap();
    assert_eq!(sent(5, &NEAR), ReadDecision::TurnTo(NodeId(3)));
    assert_eq!(sent(5, &NEAR[..1]), ReadDecision::TurnTo(NodeId(2)));
    assert_eq!(sent(0, &[]), ReadDecision::Serve, "its rack has no replica, or nobody looks");
    assert_eq!(sent(5, &[SELF, NodeId(3)]), ReadDecision::Serve, "the leader is in its rack");
    assert_eq!(decide(&leader, 5, &Reader::OfLeader, &partition), Ok(ReadDecision::Serve));
}

#[test]
fn nobody_is_sent_to_a_replica_that_has_not_what_is_asked_for() {
    let (mut leader, partition) = leader_of_three();
    let near = near(&NEAR);
    let sent = |leader: &Replica, from| decide(leader, from, &near, &partition).unwrap();
    assert_eq!(sent(&leader, 0), ReadDecision::Serve, "nobody has said what he has");
    follows(&mut leader, 2, 4, 7);
    assert_eq!(sent(&leader, 7), ReadDecision::TurnTo(NodeId(2)), "where it goes on");
    assert_eq!(sent(&leader, 8), ReadDecision::Serve, "it does not reach there yet");
    assert_eq!(sent(&leader, 3), ReadDecision::Serve, "it has deleted that");
    follows(&mut leader, 3, 0, 9);
    assert_eq!(sent(&leader, 3), ReadDecision::TurnTo(NodeId(3)));
    assert_eq!(sent(&leader, 11), ReadDecision::Serve, "the leader says that it is out of range");
    leader.high_watermark = Offset(9);
    leader.on_log_start(NOW, Offset(4), &mut Effects::new());
    assert_eq!(sent(&leader, 3), ReadDecision::Serve, "and that it is deleted");
}

#[test]
fn nobody_is_sent_to_a_replica_that_is_not_or_may_soon_not_be_in_sync() {
    let (mut leader, mut partition) = leader_of_three();
    let session = follows(&mut leader, 2, 0, 10);
    let near = near(&NEAR);
    let sent = |leader: &Replica| decide(leader, 5, &near, &partition).unwrap();
    assert_eq!(sent(&leader), ReadDecision::TurnTo(NodeId(2)));
    leader.on_follower_closed(NOW, NodeId(2), session, &mut Effects::new());
    assert_eq!(sent(&leader), ReadDecision::Serve, "its stream is closed");

    let mut leaving = cluster_leader(&[1, 2, 3]);
    follows(&mut leaving, 2, 0, 7);
    let late = NOW.plus(2 * ReplicaConfig::REPLICA_LAG_TIME_MAX_MS);
    leaving.on_tick(late, &mut Effects::new());
    assert_eq!(sent(&leaving), ReadDecision::Serve, "it is asked to be taken out of the ISR");

    follows(&mut leader, 2, 0, 10);
    assert_eq!(sent(&leader), ReadDecision::TurnTo(NodeId(2)));
    partition.partition_epoch = PartitionEpoch(1);
    partition.eligible.remove(&NodeId(2));
    leader.on_partition_state(NOW, &partition, &mut Effects::new());
    let sent = |leader: &Replica| decide(leader, 5, &near, &partition).unwrap();
    assert_eq!(sent(&leader), ReadDecision::Serve, "it is fenced, or shuts down");

    let mut leader = cluster_leader(&[1, 3]);
    follows(&mut leader, 2, 0, 8);
    assert_eq!(sent(&leader), ReadDecision::Serve, "it is out of the ISR");
}

/// As the controller describes it to node 1, which follows node 2 in this epoch.
fn followed(epoch: u32, isr: &[i32]) -> PartitionState {
    PartitionState { leader: Some(NodeId(2)), ..partition(epoch, 0, isr) }
}

#[test]
fn a_follower_serves_only_who_takes_a_follower() {
    let mut follower = from_disk(3, 10);
    streaming(&mut follower);
    let partition = followed(0, &[1, 2]);
    assert_eq!(decide(&follower, 0, &near(&[]), &partition), Ok(ReadDecision::Serve));
    assert_eq!(decide(&follower, 0, &near(&NEAR), &partition), Ok(ReadDecision::Serve));
    assert_eq!(
        decide(&follower, 0, &Reader::OfLeader, &partition),
        Err(ServeError::NotLeader),
        "clients of before"
    );
    assert_eq!(
        decide(&from_disk(3, 10), 0, &near(&[]), &partition),
        Err(ServeError::NotLeader),
        "it does not know whom to follow"
    );
}

/// Before that its log may not be the beginning of its leader's.
#[test]
fn a_follower_serves_only_once_its_leader_has_taken_its_log_for_the_beginning_of_its_own() {
    let mut follower = from_disk(3, 10);
    let (any, partition) = (near(&[]), followed(1, &[1, 2]));
    let session = opened(&follow(&mut follower, 1));
    assert_eq!(decide(&follower, 0, &any, &partition), Err(ServeError::NotInStep));
    follower.on_replicated(NOW, session, &[], ends(3, 0), &mut Effects::new());
    assert_eq!(decide(&follower, 0, &any, &partition), Ok(ReadDecision::Serve));
    assert_eq!(
        decide(&follower, 0, &any, &followed(2, &[1, 2])),
        Err(ServeError::NotInStep),
        "somebody else leads by now"
    );
    follower.on_stream_closed(NOW, session, &mut Effects::new());
    assert_eq!(decide(&follower, 0, &any, &partition), Err(ServeError::NotInStep), "leader gone");
}

#[test]
fn a_follower_that_is_damaged_fenced_or_out_of_sync_serves_nobody() {
    let mut follower = from_disk(3, 10);
    streaming(&mut follower);
    assert!(follower.serves_as_follower(&followed(0, &[1, 2]), false));
    assert!(!follower.serves_as_follower(&followed(0, &[1, 2]), true));
    assert!(!follower.serves_as_follower(&followed(0, &[2, 3]), false));
    let mut fenced = followed(0, &[1, 2]);
    fenced.eligible.remove(&SELF);
    assert!(!follower.serves_as_follower(&fenced, false));
}

#[test]
fn a_follower_serves_only_in_the_leader_epoch_that_the_reader_expects() {
    let mut follower = from_disk(3, 10);
    let session = opened(&follow(&mut follower, 4));
    follower.on_replicated(NOW, session, &[], ends(3, 0), &mut Effects::new());
    let (reader, partition) = (near(&[]), followed(4, &[1, 2]));
    let decide = |expected| {
        follower.decide_read(&ReadFacts {
            from: Offset(0),
            expected_leader_epoch: Some(LeaderEpoch(expected)),
            reader: &reader,
            partition: &partition,
            is_damaged: false,
        })
    };
    let current = LeaderEpoch(4);
    assert_eq!(decide(4), Ok(ReadDecision::Serve));
    let (expected, does) = (LeaderEpoch(3), "follows");
    assert_eq!(decide(3), Err(ServeError::FencedLeaderEpoch { expected, current, does }));
    let expected = LeaderEpoch(5);
    assert_eq!(decide(5), Err(ServeError::UnknownLeaderEpoch { expected, current }));
}

#[test]
fn what_the_leader_has_committed_and_a_follower_lacks_is_on_its_way() {
    let mut follower = from_disk(3, 3);
    let session = streaming(&mut follower);
    assert!(!follower.is_on_its_way(Offset(4)), "nobody has said so");
    follower.on_replicated(NOW, session, &[], ends(6, 0), &mut Effects::new());
    assert_eq!(follower.high_watermark(), Offset(3));
    let on_its_way: Vec<_> = (0..9).filter(|at| follower.is_on_its_way(Offset(*at))).collect();
    assert_eq!(on_its_way, [4, 5, 6]);
    follower.on_replicated(NOW, session, &[batch(3, 3, 0)], ends(6, 0), &mut Effects::new());
    assert_eq!(follower.high_watermark(), Offset(6));
    assert!(!follower.is_on_its_way(Offset(6)), "it is there");
}
