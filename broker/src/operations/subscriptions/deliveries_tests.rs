use super::*;
use proptest::prelude::*;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{PartitionId, TopicId};

fn key(partition: u32) -> PartitionKey {
    let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
    PartitionKey { topic_id, partition: PartitionId(partition) }
}

fn target(partition: u32) -> Target {
    Target { topic: "t".into(), key: key(partition) }
}

fn deliveries(max_records: i32, auto_ack: bool) -> Deliveries {
    let terms = Terms {
        node: NodeId(1),
        session: SessionId(2),
        max_processing: Duration::from_secs(60),
        auto_ack,
    };
    let bounds = WindowBounds { max_records: Some(max_records), max_bytes: Some(1_000) };
    Deliveries::new(terms, Window::new(Some(bounds)).unwrap())
}

fn given(deliveries: &mut Deliveries, partition: u32, offset: u64) -> AckId {
    match deliveries.offer(&key(partition), Offset(offset), 10, Instant::now()) {
        Verdict::Deliver(id) => id,
        verdict => panic!("{partition}-{offset}: {verdict:?}"),
    }
}

#[test]
fn the_window_is_one_for_all_partitions() {
    let (mut deliveries, now) = (deliveries(2, false), Instant::now());
    for partition in 0..2 {
        deliveries.hold(target(partition), Offset(0), None, Offset(5));
    }
    let first = given(&mut deliveries, 0, 0);
    given(&mut deliveries, 1, 0);
    assert_eq!(deliveries.offer(&key(1), Offset(1), 10, now), Verdict::Wait);
    assert_eq!(deliveries.settle(&first, SettleAction::Ack, now), SettleOutcome::Accepted);
    given(&mut deliveries, 1, 1);
}

#[test]
fn a_partition_that_is_given_up_gives_its_room_back_and_loses_its_ids() {
    let (mut deliveries, now) = (deliveries(2, false), Instant::now());
    deliveries.hold(target(0), Offset(0), None, Offset(5));
    let id = given(&mut deliveries, 0, 0);
    deliveries.revoke(&key(0));
    assert_eq!(deliveries.offer(&key(0), Offset(1), 10, now), Verdict::Closed);
    assert_eq!(deliveries.take_moved(now).pop().unwrap().1, None);
    deliveries.release(&key(0));
    assert_eq!(deliveries.out(), 0);
    assert_eq!(deliveries.settle(&id, SettleAction::Ack, now), SettleOutcome::LeaseLost);
    // Assigned again, its old ids do not fit.
    deliveries.hold(target(0), Offset(0), None, Offset(5));
    let again = given(&mut deliveries, 0, 0);
    assert_eq!(deliveries.settle(&id, SettleAction::Ack, now), SettleOutcome::LeaseLost);
    assert_eq!(deliveries.settle(&again, SettleAction::Ack, now), SettleOutcome::Accepted);
    let never = AckId { slot: 77, ..again };
    assert_eq!(deliveries.settle(&never, SettleAction::Ack, now), SettleOutcome::UnknownId);
}

#[test]
fn the_start_is_committed_too_and_nothing_twice() {
    let (mut deliveries, now) = (deliveries(9, false), Instant::now());
    deliveries.hold(target(0), Offset(3), None, Offset(5));
    deliveries.hold(target(1), Offset(4), Some(Offset(4)), Offset(5));
    let due: Vec<_> = deliveries.uncommitted().map(|(t, offset)| (t.key, offset)).collect();
    assert_eq!(due, [(key(0), Offset(3))]);
    deliveries.committed(&key(0), Offset(3));
    assert_eq!(deliveries.uncommitted().count(), 0);
    let id = given(&mut deliveries, 0, 3);
    assert!(deliveries.is_committed(&key(0)));
    deliveries.settle(&id, SettleAction::Ack, now);
    assert!(!deliveries.is_committed(&key(0)));
}

#[test]
fn what_is_sent_is_acknowledged_if_that_was_asked() {
    let (mut deliveries, now) = (deliveries(1, true), Instant::now());
    deliveries.hold(target(0), Offset(0), None, Offset(2));
    let id = given(&mut deliveries, 0, 0);
    given(&mut deliveries, 0, 1);
    assert_eq!((deliveries.out(), deliveries.is_caught_up()), (0, true));
    assert_eq!(deliveries.settle(&id, SettleAction::Ack, now), SettleOutcome::Accepted);
    assert_eq!(deliveries.uncommitted().next().unwrap().1, Offset(2));
}

#[test]
fn a_lease_that_ends_moves_the_reader_back() {
    let (mut deliveries, now) = (deliveries(9, false), Instant::now());
    deliveries.hold(target(0), Offset(0), None, Offset(2));
    deliveries.take_moved(now);
    for offset in 0..3 {
        given(&mut deliveries, 0, offset);
    }
    assert!(deliveries.take_moved(now).is_empty());
    let later = deliveries.next_deadline().unwrap() + Duration::from_secs(1);
    deliveries.expire(later);
    assert_eq!(deliveries.take_moved(later).pop().unwrap().1, Some(Offset(0)));
    assert_eq!((deliveries.out(), deliveries.next_deadline()), (0, None));
}

#[test]
fn a_pledge_is_of_all_partitions_or_of_none_and_nothing_is_committed_beside_it() {
    let (mut deliveries, now) = (deliveries(9, false), Instant::now());
    for partition in 0..2 {
        let start = Some(Offset(0));
        deliveries.hold(target(partition), Offset(0), start, Offset(5));
    }
    let ids: Vec<_> = [(0, 0), (0, 1), (1, 0), (1, 1)]
        .map(|(partition, offset)| given(&mut deliveries, partition, offset))
        .into();
    let code = |refused: Unpledged| (refused.error.code, refused.passes);
    let refused = deliveries.pledge(&[ids[0], ids[3]]).unwrap_err();
    assert_eq!(code(refused), (ErrorCode::AckGap, true));
    let nobody = AckId { slot: 9, ..ids[0] };
    let refused = deliveries.pledge(&[ids[0], ids[3], nobody]).unwrap_err();
    assert_eq!(code(refused), (ErrorCode::UnknownAckId, false));
    let pledged = deliveries.pledge(&[ids[0], ids[2], ids[3], ids[2]]).unwrap();
    let ends: Vec<_> = pledged.iter().map(|one| (one.target.number(), one.end.0)).collect();
    assert_eq!(ends, [(0, 1), (1, 2)]);
    let refused = deliveries.pledge(&[ids[1]]).unwrap_err();
    assert_eq!(code(refused), (ErrorCode::ConcurrentTransactions, true));
    // What is acknowledged beside it waits too.
    deliveries.settle(&ids[1], SettleAction::Ack, now);
    assert!(deliveries.uncommitted().next().is_none());
    deliveries.redeem(&pledged, true, now);
    let uncommitted: Vec<_> = deliveries.uncommitted().map(|(_, offset)| offset).collect();
    assert_eq!((uncommitted, deliveries.out()), (vec![Offset(2)], 0));
    let refused = deliveries.pledge(&ids[..1]).unwrap_err();
    assert_eq!(code(refused), (ErrorCode::LeaseLost, false));
}

#[test]
fn a_pledge_of_what_was_given_up_since_is_nobody_s() {
    let (mut deliveries, now) = (deliveries(9, false), Instant::now());
    deliveries.hold(target(0), Offset(0), Some(Offset(0)), Offset(5));
    let id = given(&mut deliveries, 0, 0);
    let pledged = deliveries.pledge(&[id]).unwrap();
    deliveries.release(&key(0));
    assert_eq!(deliveries.out(), 0);
    deliveries.hold(target(0), Offset(0), Some(Offset(0)), Offset(5));
    deliveries.redeem(&pledged, true, now);
    assert_eq!(deliveries.get(&key(0)).unwrap().ledger.prefix(), Offset(0));
    assert!(deliveries.still_pledged(pledged).is_empty());
    assert_eq!(deliveries.pledge(&[id]).unwrap_err().error.code, ErrorCode::LeaseLost);
}

proptest! {
    #[test]
    fn what_the_window_counts_is_what_is_out(steps in proptest::collection::vec(any::<(u8, u8)>(), 0..300)) {
        let (mut deliveries, mut now) = (deliveries(7, false), Instant::now());
        let (mut ids, mut pledges) = (Vec::new(), Vec::new());
        for (what, pick) in steps {
            let key = key(u32::from(pick % 3));
            let id = ids.get(usize::from(pick) % ids.len().max(1)).copied();
            match (what % 10, id) {
                (0, _) => {
                    let committed = Some(Offset(0));
                    deliveries.hold(target(u32::from(pick % 3)), Offset(0), committed, Offset(9));
                }
                (1, _) if pick % 5 == 0 => deliveries.release(&key),
                (2, Some(id)) => drop(deliveries.settle(&id, SettleAction::Nack(Duration::ZERO), now)),
                (3, _) => {
                    now += Duration::from_secs(u64::from(pick));
                    deliveries.expire(now);
                }
                (8, Some(id)) => pledges.extend(deliveries.pledge(&[id])),
                (9, _) => {
                    if let Some(pledged) = pledges.pop() {
                        deliveries.redeem(&pledged, pick % 2 == 0, now);
                    }
                }
                (4 | 5, Some(id)) => drop(deliveries.settle(&id, SettleAction::Ack, now)),
                _ => {
                    if let Some(cursor) = deliveries.get(&key).map(|held| held.ledger.cursor())
                        && let Verdict::Deliver(id) = deliveries.offer(&key, cursor, 10, now)
                    {
                        ids.push(id);
                    }
                }
            }
            let out: usize = deliveries.held.values().map(|held| held.ledger.out()).sum();
            prop_assert_eq!(out, deliveries.out());
            prop_assert!(out <= 7);
        }
    }
}

/// C13: nothing behind where the log was truncated is passed over, and nothing that is settled before it is repeated.
#[test]
fn a_partition_goes_back_to_where_its_log_was_cut_and_no_further() {
    for (divergence, goes_on, told) in [(2, 2, Some(Offset(4))), (4, 4, None), (6, 4, None)] {
        let (mut deliveries, now) = (deliveries(9, false), Instant::now());
        deliveries.hold(target(0), Offset(0), Some(Offset(0)), Offset(9));
        let ids: Vec<_> = (0..8).map(|offset| given(&mut deliveries, 0, offset)).collect();
        for id in &ids[..4] {
            deliveries.settle(id, SettleAction::Ack, now);
        }
        assert_eq!(
            deliveries.go_back(&key(0), Offset(divergence), Offset(9)),
            told,
            "{divergence}"
        );
        assert_eq!(deliveries.out(), 0, "what was out of it is lost");
        assert_eq!(deliveries.settle(&ids[5], SettleAction::Ack, now), SettleOutcome::LeaseLost);
        let (_, at) = deliveries.take_moved(now).pop().unwrap();
        assert_eq!(at, Some(Offset(goes_on)), "{divergence}");
        assert_eq!(given(&mut deliveries, 0, goes_on).attempt, 1);
    }
}
