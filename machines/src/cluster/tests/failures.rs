//! Leader replicas that died on a node that lives, and drains that end.

use super::partitions::{epoch, fence, isr_request, key, nodes, partition, placed, unfence};
use super::*;
use troupe_proto::ids::{PartitionEpoch, PartitionKey};

fn fail(image: &mut ClusterImage, node: i32, reports: &[(PartitionKey, LeaderEpoch)]) -> usize {
    let decision = image.fail_replicas(NodeId(node), epoch(image, node), reports).unwrap();
    image.replay_all(&decision.records).unwrap();
    decision.records.len()
}

fn lose(image: &mut ClusterImage, node: i32) -> Partition {
    let decision = image.lose_replicas(NodeId(node), epoch(image, node), &[key(0)]).unwrap();
    image.replay_all(&decision.records).unwrap();
    partition(image, 0).clone()
}

/// R15, R16: whoever has more leads; alone it leads again, and it is known that records may be missing.
#[test]
fn a_replica_that_lost_records_is_in_sync_and_eligible_no_more() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[("min.insync.replicas", "3")]);
    let after = lose(&mut image, 1);
    assert_eq!((after.leader, &after.isr, &after.elr), (Some(NodeId(0)), &nodes(&[0, 2]), &vec![]));
    let after = lose(&mut image, 0);
    assert_eq!((after.leader, &after.isr, &after.elr), (Some(NodeId(2)), &nodes(&[2]), &vec![]));
    let before = after.leader_epoch;
    let after = lose(&mut image, 2);
    assert_eq!((after.leader, &after.isr, after.recovering), (Some(NodeId(2)), &nodes(&[2]), true));
    assert!(after.leader_epoch > before);
    let code = |node| image.lose_replicas(NodeId(node), BrokerEpoch(0), &[]).unwrap_err().code();
    assert_eq!(code(1), ErrorCode::StaleBrokerEpoch);
}

/// A leader has heard of 1 that it is caught up, and asks for it; 1 finds its log damaged before that is decided, or has
/// been out of the ISR before. What the leader knows of it is of the past in either case.
#[test]
fn nobody_comes_back_into_the_isr_by_what_its_leader_heard_before_it_lost_records() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    for in_sync in [&[0, 2][..], &[0, 1, 2]] {
        let asked = isr_request(&image, in_sync);
        let decision = image.alter_partition(NodeId(0), epoch(&image, 0), &asked);
        apply(&mut image, decision);
        let asked = isr_request(&image, &[0, 1, 2]);
        let before = partition(&image, 0).leader_epoch;
        let after = lose(&mut image, 1);
        assert_eq!((after.leader, &after.isr), (Some(NodeId(0)), &nodes(&[0, 2])));
        assert!(after.leader_epoch > before, "no stream of before counts any more");
        let refused = image.alter_partition(NodeId(0), epoch(&image, 0), &asked).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::FencedLeaderEpoch);
    }
}

fn withdraw(image: &mut ClusterImage, node: i32) -> Partition {
    let decision = image.withdraw_replicas(NodeId(node), epoch(image, node), &[key(0)]).unwrap();
    image.replay_all(&decision.records).unwrap();
    partition(image, 0).clone()
}

/// S1: another leads, and what is on the disk that is away still counts.
#[test]
fn a_replica_whose_disk_is_away_leads_nothing_and_stays_eligible() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[("min.insync.replicas", "2")]);
    let after = withdraw(&mut image, 1);
    assert_eq!((after.leader, &after.isr, &after.elr), (Some(NodeId(0)), &nodes(&[0, 2]), &vec![]));
    let after = withdraw(&mut image, 0);
    assert_eq!((after.leader, &after.isr), (Some(NodeId(2)), &nodes(&[2])));
    assert_eq!(after.elr, nodes(&[0]), "it has all that is committed");
    let after = withdraw(&mut image, 2);
    assert_eq!(
        (after.leader, &after.isr),
        (Some(NodeId(0)), &nodes(&[0])),
        "the next report tells"
    );
    let after = withdraw(&mut image, 0);
    assert_eq!((after.leader, &after.elr), (Some(NodeId(2)), &nodes(&[0])));
    let (mut alone, _) = placed(&[&[0]], &[]);
    let after = withdraw(&mut alone, 0);
    assert_eq!((after.leader, &after.isr, &after.elr), (None, &vec![], &nodes(&[0])));
    let epoch = BrokerEpoch(0);
    let refused = alone.withdraw_replicas(NodeId(0), epoch, &[key(0)]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StaleBrokerEpoch);
}

/// A leader that is heard goes on without who has left.
#[test]
fn a_leader_that_is_heard_is_confirmed_once() {
    let (mut image, _) = placed(&[&[0, 1]], &[]);
    let silent = [NodeId(0), NodeId(1)].into();
    let decision = image.fence_broker(NodeId(1), epoch(&image, 1), Some(&silent));
    apply(&mut image, decision);
    assert_eq!(partition(&image, 0).last_in_sync, nodes(&[1]));
    assert_eq!(image.confirm_leaders(&silent).answer, 0);
    let decision = image.confirm_leaders(&[NodeId(1)].into());
    image.replay_all(&decision.records).unwrap();
    assert_eq!((decision.answer, &partition(&image, 0).last_in_sync), (1, &vec![]));
    assert_eq!(image.confirm_leaders(&Default::default()).answer, 0);
}

/// One way only: what the leader says is lost, and it hears that 1 has left, and commits without it.
#[test]
fn who_left_while_the_leader_could_still_hear_leads_as_one_that_may_lack_records() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[("min.insync.replicas", "1")]);
    let silent = [NodeId(0)].into();
    let decision = image.fence_broker(NodeId(1), epoch(&image, 1), Some(&silent));
    apply(&mut image, decision);
    let after = partition(&image, 0);
    assert_eq!((&after.isr, &after.last_in_sync), (&nodes(&[0, 2]), &nodes(&[1])));
    unfence(&mut image, 1);
    // What 0 and 2 have committed is gone with both of them.
    let after = lose(&mut image, 2);
    assert_eq!((after.leader, &after.isr), (Some(NodeId(0)), &nodes(&[0])));
    let before = after.leader_epoch;
    let decision = image.lose_replicas(NodeId(0), epoch(&image, 0), &[key(0)]).unwrap();
    assert_eq!(image.unclean_elections(&decision.records), ["orders:0"]);
    image.replay_all(&decision.records).unwrap();
    let after = partition(&image, 0);
    assert_eq!((after.leader, after.recovering), (Some(NodeId(1)), true), "it may lack them");
    assert!(after.leader_epoch > before && after.last_in_sync.is_empty());
    assert_eq!(image.unclean_elections(&decision.records), Vec::<String>::new(), "known already");
}

/// R12, R13: replica order decides; who died leaves the ISR, and no other partition changes.
#[test]
fn a_dead_leader_replica_is_followed_by_the_first_in_sync() {
    let (mut image, _) = placed(&[&[1, 2, 3, 0], &[1, 2, 3, 0]], &[]);
    let other = partition(&image, 1).clone();
    assert_eq!(fail(&mut image, 1, &[(key(0), LeaderEpoch(0))]), 1);
    let after = partition(&image, 0);
    assert_eq!((after.leader, after.leader_epoch), (Some(NodeId(2)), LeaderEpoch(1)));
    assert_eq!((&after.isr, &after.elr), (&nodes(&[2, 3, 0]), &vec![]));
    assert_eq!(after.partition_epoch, PartitionEpoch(1));
    assert_eq!(partition(&image, 1), &other);
}

/// R16: with fewer in sync than the topic asks for, it keeps every committed record.
#[test]
fn a_replica_that_died_stays_eligible_while_too_few_are_in_sync() {
    for configs in [&[("min.insync.replicas", "2"), ("flush.policy", "os")][..], &[]] {
        let (mut image, _) = placed(&[&[0, 1]], configs);
        fail(&mut image, 0, &[(key(0), LeaderEpoch(0))]);
        let after = partition(&image, 0);
        assert_eq!((after.leader, &after.isr), (Some(NodeId(1)), &nodes(&[1])));
        assert_eq!(after.elr, if configs.is_empty() { vec![] } else { nodes(&[0]) });
    }
}

/// R12, R15: nobody who may lack committed records takes over, even where that is allowed.
#[test]
fn alone_in_sync_the_same_node_leads_again_in_a_new_epoch() {
    let (mut image, _) = placed(&[&[0, 1]], &[("unclean.leader.election.enable", "true")]);
    fence(&mut image, 1);
    unfence(&mut image, 1);
    let before = partition(&image, 0).clone();
    assert_eq!(before.isr, nodes(&[0]));
    fail(&mut image, 0, &[(key(0), before.leader_epoch)]);
    let again = Partition {
        leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
        partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
        ..before
    };
    assert_eq!(partition(&image, 0), &again);
}

/// R12, K15: in sync, but not active.
#[test]
fn who_is_on_its_way_out_does_not_take_over() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    let decision = image.begin_shutdown(NodeId(1), epoch(&image, 1));
    apply(&mut image, decision);
    fail(&mut image, 0, &[(key(0), LeaderEpoch(0))]);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(2)));
}

/// K21, and reports that come late, twice, early, from a follower, or about nothing.
#[test]
fn only_a_report_about_this_leader_epoch_counts_and_it_counts_once() {
    let (mut image, _) = placed(&[&[0, 1, 2]], &[]);
    let elsewhere = PartitionKey { topic_id: id(9), partition: PartitionId(0) };
    let nothing = [(key(0), LeaderEpoch(1)), (key(7), LeaderEpoch(0)), (elsewhere, LeaderEpoch(0))];
    assert_eq!(fail(&mut image, 0, &nothing), 0);
    let report = [(key(0), LeaderEpoch(0)); 2];
    assert_eq!(fail(&mut image, 1, &report), 0, "1 follows");
    assert_eq!(fail(&mut image, 0, &report), 1);
    assert_eq!(fail(&mut image, 0, &report), 0);
    assert_eq!(partition(&image, 0).leader_epoch, LeaderEpoch(1));
    let code = |node, epoch| image.fail_replicas(NodeId(node), epoch, &[]).unwrap_err().code();
    assert_eq!(code(0, BrokerEpoch(0)), ErrorCode::StaleBrokerEpoch);
    assert_eq!(code(9, BrokerEpoch(0)), ErrorCode::BrokerNotRegistered);
}

/// K16, K17.
#[test]
fn a_drain_that_ends_gives_back_what_has_no_leader() {
    let (mut image, _) = placed(&[&[0, 1], &[0, 2]], &[]);
    fence(&mut image, 2);
    let unchanged = image.resume_broker(NodeId(0)).unwrap();
    assert_eq!(unchanged.records, vec![]);
    let decision = image.begin_shutdown(NodeId(0), epoch(&image, 0));
    apply(&mut image, decision);
    assert_eq!(partition(&image, 1).leader, None);
    let decision = image.resume_broker(NodeId(0));
    apply(&mut image, decision);
    assert!(image.broker(NodeId(0)).unwrap().is_active());
    assert_eq!(partition(&image, 0).leader, Some(NodeId(1)), "it rejoins by following");
    assert_eq!(partition(&image, 1).leader, Some(NodeId(0)));
    let unknown = image.resume_broker(NodeId(9)).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::BrokerNotRegistered);
}

/// K15: the end of a drain does not make up for silence.
#[test]
fn a_fenced_broker_stays_fenced_when_its_drain_ends() {
    let (mut image, _) = placed(&[&[0]], &[]);
    let decision = image.begin_shutdown(NodeId(0), epoch(&image, 0));
    apply(&mut image, decision);
    fence(&mut image, 0);
    let decision = image.resume_broker(NodeId(0));
    apply(&mut image, decision);
    assert!(image.broker(NodeId(0)).unwrap().fenced);
    assert_eq!(partition(&image, 0).leader, None);
    unfence(&mut image, 0);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(0)));
}
