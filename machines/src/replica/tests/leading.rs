//! Leaders: which streams they accept, and whose reports count.

use super::following::batch;
use super::*;
use troupe_proto::ids::PartitionEpoch;

pub(super) const OTHER: NodeId = NodeId(2);

pub(super) fn partition(epoch: u32, partition_epoch: u32, isr: &[i32]) -> PartitionState {
    let nodes = |ids: &[i32]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    PartitionState {
        leader: Some(SELF),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(partition_epoch),
        replicas: nodes(&[1, 2, 3]),
        isr: nodes(isr),
        least_replicas: 3,
        eligible: [1, 2, 3].map(|id| (NodeId(id), BrokerEpoch(0))).into(),
    }
}

/// Leads epoch 5 with a log that ends at 10, of which nothing is known to be committed.
pub(super) fn cluster_leader(isr: &[i32]) -> Replica {
    let mut replica = Replica::new(key(), SELF, config());
    let ends = LogEnds {
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        flushed_end: Offset(10),
        log_end: Offset(10),
    };
    replica.restore(ends, None);
    replica.restore_leader_epoch(Some(LeaderEpoch(3)));
    replica.on_partition_state(NOW, &partition(5, 0, isr), &mut Effects::new());
    replica
}

fn open(
    replica: &mut Replica,
    (leader_epoch, log_end, last_epoch): (u32, u64, Option<u32>),
    epoch_end: Option<(u32, u64)>,
) -> Result<Opening, OpenError> {
    let end =
        ReplicaEnd { log_end: Offset(log_end), flushed_end: Offset(log_end), log_start: None };
    let leader_epoch = LeaderEpoch(leader_epoch);
    let position = Position {
        leader_epoch,
        end,
        last_epoch: last_epoch.map(LeaderEpoch),
        tombstones_gone_below: Some(Offset::ZERO),
    };
    let follower = Follower { node: OTHER, broker_epoch: BrokerEpoch(0), answers_rounds: true };
    let epoch_end = epoch_end.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
    replica.on_follower_opened(NOW, follower, &position, epoch_end, &mut Effects::new())
}

/// A tombstone that somebody may not have yet must not go.
#[test]
fn everyone_has_is_what_every_assigned_replica_has_on_disk_since_the_leader_leads() {
    let mut replica = cluster_leader(&[1, 2]);
    assert_eq!(replica.everyone_has(), Offset::ZERO, "nobody has said anything");
    follower_at(&mut replica, 2, 10, 8);
    assert_eq!(replica.everyone_has(), Offset::ZERO, "out of sync, but assigned");
    follower_at(&mut replica, 3, 7, 6);
    assert_eq!(replica.everyone_has(), Offset(6));
    assert_eq!(replica.leader_ends().everyone_has, Offset(6), "its followers are told");
    follower_at(&mut replica, 3, 10, 10);
    assert_eq!(replica.everyone_has(), Offset(8));
    follower_at(&mut replica, 2, 4, 4);
    assert_eq!(replica.everyone_has(), Offset(4), "it came back with less: its disk was replaced");
    follower_at(&mut replica, 2, 10, 9);
    assert_eq!(replica.everyone_has(), Offset(9));
    replica.on_partition_state(NOW, &partition(6, 1, &[1, 2, 3]), &mut Effects::new());
    assert_eq!(replica.everyone_has(), Offset::ZERO, "another leadership, and nobody is heard yet");
    replica.resign(&mut Effects::new());
    assert_eq!(replica.everyone_has(), Offset::ZERO);
}

#[test]
fn of_a_sole_replica_everyone_has_what_it_has_on_disk() {
    let mut replica = leader();
    append(&mut replica, &facts(3), 1).unwrap();
    assert_eq!(replica.everyone_has(), Offset::ZERO);
    flush(&mut replica);
    assert_eq!(replica.everyone_has(), Offset(3));
}

/// R21.
#[test]
fn a_follower_with_other_epochs_or_more_of_an_epoch_diverges() {
    let mut replica = cluster_leader(&[1]);
    let parted = |leader_epoch: Option<u32>, end_offset| {
        let leader_epoch = leader_epoch.map(LeaderEpoch);
        Ok(Opening::Diverging(Divergence { leader_epoch, end_offset: Offset(end_offset) }))
    };
    assert_eq!(open(&mut replica, (5, 8, Some(4)), Some((3, 10))), parted(Some(3), 10));
    assert_eq!(open(&mut replica, (5, 8, Some(2)), Some((2, 6))), parted(Some(2), 6));
    assert_eq!(open(&mut replica, (5, 8, Some(0)), None), parted(None, 0));
    let accepted = open(&mut replica, (5, 8, Some(3)), Some((3, 10)));
    assert!(matches!(accepted, Ok(Opening::Stream { from: Offset(8), .. })), "{accepted:?}");
    let accepted = open(&mut replica, (5, 0, None), None);
    assert!(matches!(accepted, Ok(Opening::Stream { from: Offset(0), .. })), "{accepted:?}");
}

/// R25.
#[test]
fn a_follower_outside_of_the_log_is_told_its_range() {
    let mut replica = cluster_leader(&[1]);
    replica.on_log_start(NOW, Offset(4), &mut Effects::new());
    let (log_start, log_end) = (Offset(4), Offset(10));
    let outside = Ok(Opening::OutOfRange { log_start, log_end });
    assert_eq!(open(&mut replica, (5, 3, Some(3)), Some((3, 10))), outside);
    assert_eq!(open(&mut replica, (5, 11, None), None), outside);
    let accepted = open(&mut replica, (5, 4, Some(0)), None);
    assert!(matches!(accepted, Ok(Opening::Stream { .. })), "nothing to compare: {accepted:?}");
}

/// R1.
#[test]
fn a_stream_is_for_the_leader_of_one_epoch_and_for_replicas() {
    let mut replica = cluster_leader(&[1]);
    let current = LeaderEpoch(5);
    let expected = LeaderEpoch(4);
    let fenced = Err(OpenError::FencedLeaderEpoch { expected, current });
    assert_eq!(open(&mut replica, (4, 10, Some(3)), Some((3, 10))), fenced);
    let expected = LeaderEpoch(6);
    let unknown = Err(OpenError::UnknownLeaderEpoch { expected, current });
    assert_eq!(open(&mut replica, (6, 10, Some(3)), Some((3, 10))), unknown);
    let stranger = PartitionState { replicas: vec![SELF], ..partition(5, 1, &[1]) };
    replica.on_partition_state(NOW, &stranger, &mut Effects::new());
    let refused = open(&mut replica, (5, 10, Some(3)), Some((3, 10)));
    assert_eq!(refused, Err(OpenError::NotAReplica { node: OTHER }));
    replica.resign(&mut Effects::new());
    let refused = open(&mut replica, (5, 10, Some(3)), Some((3, 10)));
    assert_eq!(refused, Err(OpenError::NotLeader));
}

#[test]
fn reports_of_a_stream_that_is_over_do_not_count() {
    let mut replica = cluster_leader(&[1, 2]);
    let Ok(Opening::Stream { session: old, .. }) =
        open(&mut replica, (5, 4, Some(3)), Some((3, 10)))
    else {
        panic!("accepted");
    };
    assert_eq!(replica.high_watermark(), Offset(4));
    let Ok(Opening::Stream { session: new, .. }) =
        open(&mut replica, (5, 4, Some(3)), Some((3, 10)))
    else {
        panic!("accepted");
    };
    let end = ReplicaEnd { log_end: Offset(9), flushed_end: Offset(9), log_start: None };
    replica.on_follower_end(NOW, OTHER, old, end, &mut Effects::new());
    assert_eq!(replica.high_watermark(), Offset(4));
    replica.on_follower_end(NOW, OTHER, new, end, &mut Effects::new());
    assert_eq!(replica.high_watermark(), Offset(9));
}

/// Found by the simulation: a leader that is elected again pushed its new epoch on the old one's streams.
#[test]
fn a_new_leader_epoch_ends_the_streams_of_the_last() {
    let mut replica = cluster_leader(&[1, 2]);
    let Ok(Opening::Stream { session, .. }) = open(&mut replica, (5, 4, Some(3)), Some((3, 10)))
    else {
        panic!("accepted");
    };
    assert!(replica.has_stream(OTHER, session));
    replica.on_partition_state(NOW, &partition(6, 1, &[1, 2]), &mut Effects::new());
    assert!(!replica.has_stream(OTHER, session));
    let end = ReplicaEnd { log_end: Offset(9), flushed_end: Offset(9), log_start: None };
    replica.on_follower_end(NOW, OTHER, session, end, &mut Effects::new());
    assert_eq!(replica.high_watermark(), Offset(4), "nor does it hear them");
}

#[test]
fn a_follower_that_diverges_counts_for_nothing() {
    let mut replica = cluster_leader(&[1, 2]);
    let answer = open(&mut replica, (5, 10, Some(4)), Some((3, 10)));
    assert!(matches!(answer, Ok(Opening::Diverging(_))));
    assert_eq!(replica.high_watermark(), Offset::ZERO);
}

/// A log that may have lost its end never goes on in the epoch of what it lost: no follower could tell.
#[test]
fn a_rebuilt_leader_asks_for_an_election_instead_of_leading_its_epoch_again() {
    let mut replica = Replica::new(key(), SELF, config());
    let end = Offset(2);
    let ends =
        LogEnds { log_start: Offset(0), high_watermark: end, flushed_end: end, log_end: end };
    replica.restore(ends, None);
    replica.on_recovered_batch(NOW, &batch(0, 2, 5));
    let mut out = Effects::new();
    replica.on_partition_state(NOW, &partition(5, 0, &[1]), &mut out);
    let leader_epoch = LeaderEpoch(5);
    let needed = ReplicationEffect::ElectionNeeded { leader_epoch };
    assert_eq!(out, vec![Effect::Replication(needed)]);
    assert_eq!(replica.role(), Role::Idle);
    replica.on_partition_state(NOW, &partition(6, 1, &[1]), &mut out);
    assert_eq!(replica.role(), Role::Leader);
}

#[test]
fn a_leader_without_a_disk_asks_for_an_election() {
    let mut replica = cluster_leader(&[1, 2]);
    let mut out = Effects::new();
    replica.on_storage_failure(&mut out);
    let leader_epoch = LeaderEpoch(5);
    let needed = ReplicationEffect::ElectionNeeded { leader_epoch };
    assert_eq!(out, vec![Effect::Replication(needed)]);
    assert_eq!(replica.role(), Role::Offline);
}

#[test]
fn a_partition_without_a_leader_leaves_its_replicas_idle() {
    let mut replica = cluster_leader(&[1, 2]);
    let append = AppendFacts { acks: Acks::All, ..facts(1) };
    super::append(&mut replica, &append, 1).unwrap();
    let mut out = Effects::new();
    let nobody = PartitionState { leader: None, ..partition(6, 1, &[1]) };
    replica.on_partition_state(NOW, &nobody, &mut out);
    assert_eq!(answers(&out), vec![(1, Err(AppendError::OutcomeUnknown))]);
    assert_eq!(replica.role(), Role::Idle);
    replica.on_partition_state(NOW, &partition(5, 0, &[1]), &mut out);
    assert_eq!(replica.role(), Role::Idle, "older news");
}

#[test]
fn whoever_stops_leading_says_that_the_outcome_is_unknown() {
    let mut replica = leader();
    append(&mut replica, &facts(1), 1).unwrap();
    let mut out = Effects::new();
    replica.resign(&mut out);
    assert_eq!(answers(&out), vec![(1, Err(AppendError::OutcomeUnknown))]);
    assert_eq!(append(&mut replica, &facts(1), 2), Err(AppendError::NotLeader));
    replica.on_flushed(NOW, Offset(1), &mut out);
    assert_eq!(replica.high_watermark(), Offset::ZERO, "only a leader commits by itself");
}
