//! Batches whose time is over, and what their sessions become.

use super::*;

/// I8, P19.
#[test]
fn a_batch_that_expires_after_it_was_sent_ends_the_session() {
    let mut bench = Bench::established(rules());
    bench.append();
    bench.close_batch();
    bench.send();
    bench.later(60_000);
    bench.append();
    bench.close_batch();
    let second = bench.send();
    bench.later(60_000);
    let expired = bench.queue.expire(bench.now);
    bench.finish(expired);
    let error = bench.deliveries[1].now().unwrap().unwrap_err();
    assert!(matches!(error, ClientError::DeliveryTimeout { sent: true, .. }));
    assert!(!error.surely_not_done());
    assert_eq!(bench.outcome(2), None);
    bench.append();
    bench.close_batch();
    assert!(bench.waits(), "the second is still on its way in the old session");
    bench.place(&second, 2);
    let next = bench.send();
    assert_eq!((next.sequence(), next.stamp.unwrap().epoch), (0, ProducerEpoch(1)));
}

/// I3: a leader remembers five batches. One whose answer was lost must stay among them until it is answered,
/// however often it is refused meanwhile, or it would be taken for one that got lost.
#[test]
fn a_batch_that_may_be_there_is_never_left_more_than_five_behind() {
    let mut bench = Bench::established(rules());
    let mut leader = Leader::default();
    for _ in 0..8 {
        bench.append();
        bench.close_batch();
    }
    let first = bench.send();
    let base = leader.append(&first).unwrap();
    bench.fail(&first, ErrorCode::OutcomeUnknown);
    let mut sent_behind = 0;
    for _ in 0..4 {
        bench.later(2000);
        let again = bench.send();
        assert_eq!(again.numbers(), [1]);
        while let Drain::Send(outgoing) = bench.drain() {
            let later = bench.encode(outgoing);
            let base = leader.append(&later).unwrap();
            bench.place(&later, base);
            sent_behind += 1;
        }
        bench.fail(&again, ErrorCode::NotLeader);
    }
    assert_eq!(sent_behind, 4);
    bench.later(2000);
    let again = bench.send();
    assert_eq!(leader.append(&again), Ok(base), "recognised");
}

/// I6, I7: what was given up, or sent again under other numbers, is fenced off if it arrives after all.
#[test]
fn what_arrives_late_from_a_session_that_ended_is_refused() {
    let mut bench = Bench::new(rules());
    let mut leader = Leader::default();
    bench.append();
    bench.close_batch();
    let first = bench.send();
    let base = leader.append(&first).unwrap();
    bench.place(&first, base);
    bench.append();
    bench.close_batch();
    let given_up = bench.send();
    bench.later(60_000);
    bench.append();
    bench.close_batch();
    let second = bench.send();
    bench.later(60_000);
    let expired = bench.queue.expire(bench.now);
    bench.finish(expired);
    bench.fail(&second, ErrorCode::OutcomeUnknown);
    bench.later(1000);
    let again = bench.send();
    let refused = leader.append(&again).unwrap_err();
    bench.fail(&again, refused);
    bench.later(1000);
    let renumbered = bench.send();
    let base = leader.append(&renumbered).unwrap();
    bench.place(&renumbered, base);
    for late in [given_up, second] {
        assert_eq!(leader.append(&late), Err(ErrorCode::ProducerFenced));
    }
    assert_eq!(leader.log, [0, 2]);
    assert_eq!(bench.outcome(2), Some(Ok(1)));
}

/// P19: never sent, so it surely did not arrive.
#[test]
fn a_batch_expires_even_if_it_was_never_sent() {
    let mut bench = Bench::new(rules());
    bench.append();
    bench.later(120_000);
    let expired = bench.queue.expire(bench.now);
    bench.finish(expired);
    let error = bench.deliveries[0].now().unwrap().unwrap_err();
    assert!(error.surely_not_done());
    assert_eq!(error.reason(), ErrorCode::RequestTimedOut);
    assert!(bench.queue.is_empty());
}
