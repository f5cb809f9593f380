//! When a batch is tried again, and where.

use super::{Bench, STREAM, leadership, rules};
use crate::error::ClientError;
use crate::producer::queue::{Drain, InFlight, StreamId};
use crate::producer::rules::Rules;
use troupe_proto::error::{Error, ErrorCode, Publication};

/// P18.
#[test]
fn back_off_doubles_up_to_its_maximum_and_begins_small_where_a_leader_is_missing() {
    let cases = [
        (ErrorCode::NotEnoughReplicas, [100, 200, 400, 800, 1000, 1000]),
        (ErrorCode::LeaderNotAvailable, [10, 20, 40, 80, 160, 320]),
        (ErrorCode::OutcomeUnknown, [10, 20, 40, 80, 160, 320]),
        (ErrorCode::UnknownLeaderEpoch, [10, 20, 40, 80, 100, 100]),
    ];
    for (code, pauses) in cases {
        let mut bench = Bench::new(rules());
        bench.append();
        bench.close_batch();
        for pause in pauses {
            let sent = bench.send();
            bench.fail(&sent, code);
            bench.later(pause - 1);
            assert!(bench.waits());
            bench.later(1);
        }
    }
}

/// P18.
#[test]
fn a_new_leader_ends_back_off_and_its_own_begins_small() {
    let mut bench = Bench::new(rules());
    bench.append();
    bench.close_batch();
    for _ in 0..5 {
        let sent = bench.send();
        bench.fail(&sent, ErrorCode::LeaderNotAvailable);
        bench.later(1000);
    }
    let sent = bench.send();
    bench.fail(&sent, ErrorCode::LeaderNotAvailable);
    assert!(bench.waits());
    bench.move_leader();
    let sent = bench.send();
    bench.fail(&sent, ErrorCode::LeaderNotAvailable);
    assert!(bench.waits());
    bench.later(10);
    bench.send();
}

/// The leader is silent: what it was sent goes to the next one, in order and under the same numbers.
#[test]
fn what_is_in_flight_follows_the_leader_in_order() {
    let mut bench = Bench::established(rules());
    for _ in 0..4 {
        bench.append();
        bench.close_batch();
    }
    let sent: Vec<_> = (0..3).map(|_| bench.send()).collect();
    assert_eq!(bench.queue.in_flight(bench.now, leadership(1)), InFlight::Fine);
    bench.move_leader();
    for (n, before) in (1..).zip(&sent) {
        let again = bench.send();
        assert_eq!((again.numbers(), again.stamp), (vec![n], before.stamp));
        if n < 3 {
            assert!(bench.waits(), "a second try goes alone");
        }
        bench.place(&again, n);
    }
    assert_eq!(bench.send().numbers(), [4]);
    assert_eq!(bench.outcome(3), Some(Ok(3)));
}

/// It may know that it leads no more, and say what it has done.
#[test]
fn without_idempotence_an_old_leader_gets_the_time_to_answer() {
    let mut bench = Bench::new(Rules { idempotent: false, ..rules() });
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    let (first, _second) = (bench.send(), bench.send());
    bench.move_leader();
    let InFlight::Until(until) = bench.queue.in_flight(bench.now, leadership(2)) else {
        panic!("nobody waits")
    };
    assert!(bench.waits(), "nothing goes elsewhere meanwhile");
    bench.place(&first, 0);
    bench.now = until;
    assert_eq!(bench.queue.in_flight(until, leadership(2)), InFlight::Outdated(STREAM));
    let settled = bench.queue.call_back(bench.failure());
    bench.finish(settled);
    assert_eq!(bench.send().numbers(), [1]);
    assert_eq!(bench.outcome(0), Some(Ok(0)));
}

/// I6, R15: one that was elected out of turn would take the second batch without the first.
#[test]
fn the_first_batch_to_a_new_leader_goes_alone() {
    let mut bench = Bench::established(rules());
    bench.move_leader();
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    let first = bench.send();
    assert!(bench.waits());
    bench.place(&first, 1);
    bench.send();
}

/// The leader moved: what is under way at the old one comes back before anything goes to the new one.
#[test]
fn batches_in_flight_are_on_one_stream() {
    let mut bench = Bench::new(rules());
    for _ in 0..2 {
        bench.append();
        bench.close_batch();
    }
    let first = bench.send();
    assert!(matches!(bench.drain_on(StreamId(2)), Drain::Wait(None)));
    bench.fail(&first, ErrorCode::OutcomeUnknown);
    bench.later(200);
    assert!(matches!(bench.drain_on(StreamId(2)), Drain::Send(_)));
}

/// P18.
#[test]
fn retries_end_and_the_error_says_that_an_attempt_may_have_arrived() {
    let mut bench = Bench::new(Rules { retries: 1, idempotent: false, ..rules() });
    bench.append();
    bench.close_batch();
    let sent = bench.send();
    bench.fail(&sent, ErrorCode::RequestTimedOut);
    bench.later(1000);
    let again = bench.send();
    bench.fail(&again, ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.outcome(0), Some(Err(ErrorCode::OutcomeUnknown)));
}

/// P24: whoever switches idempotence off and retries has chosen twice over never. The broker advises nobody to.
#[test]
fn without_idempotence_an_unknown_outcome_is_tried_again_though_nobody_advises_it() {
    let mut bench = Bench::new(Rules { idempotent: false, ..rules() });
    bench.append();
    bench.close_batch();
    let sent = bench.send();
    let error = Error::new(ErrorCode::OutcomeUnknown, "nobody knows");
    let error = ClientError::Refused(error.of_publication(Publication::default()));
    assert!(!error.is_retriable());
    bench.fail_with(&sent, error);
    bench.later(1000);
    let again = bench.send();
    assert_eq!(again.numbers(), [0]);
    bench.place(&again, 0);
    assert_eq!(bench.outcome(0), Some(Ok(0)));
}
