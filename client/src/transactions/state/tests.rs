//! Calls in every order, and what failures leave.

use super::*;
use troupe_proto::error::{Error as Refusal, ErrorCode};

fn initialised() -> State {
    let mut state = State::default();
    state.initialised(ProducerId(7), ProducerEpoch(0));
    state
}

fn open() -> State {
    let mut state = initialised();
    state.begin().unwrap();
    state
}

fn refused(code: ErrorCode) -> ClientError {
    Refusal::new(code, "as the test wants").into()
}

fn is_illegal<T>(result: Result<T, TransactionError>) -> bool {
    matches!(result, Err(TransactionError::IllegalState { .. }))
}

#[test]
fn calls_in_the_wrong_order_change_nothing() {
    let mut fresh = State::default();
    assert!(is_illegal(fresh.begin()));
    assert!(is_illegal(fresh.begin_commit()) && is_illegal(fresh.begin_abort()));
    assert!(is_illegal(fresh.check_send()));
    let mut ready = initialised();
    assert!(is_illegal(ready.check_init()) && is_illegal(ready.check_send()));
    assert!(is_illegal(ready.begin_commit()) && is_illegal(ready.begin_abort()));
    assert_eq!(ready.begin(), Ok(1));
    assert!(is_illegal(ready.begin()));
    assert_eq!(ready.check_send(), Ok(()));
}

#[test]
fn what_failed_can_only_be_aborted() {
    let mut state = open();
    state.note_written();
    let cause = refused(ErrorCode::TransactionAbortable);
    state.fail(TransactionError::Abortable(cause.clone()), None);
    let failed = Err(TransactionError::Abortable(cause));
    assert_eq!(state.check_send(), failed.clone());
    assert_eq!(state.begin_commit().map(drop), failed);
    assert_eq!(state.begin_abort(), Ok(()));
    state.initialised(ProducerId(7), ProducerEpoch(1));
    assert_eq!(state.begin(), Ok(2));
    assert_eq!(state.check_send(), Ok(()));
}

#[test]
fn what_fails_while_it_is_flushed_is_not_committed() {
    let mut state = open();
    state.note_written();
    assert_eq!(state.begin_commit(), Ok(Step::Flush));
    state.fail(TransactionError::Abortable(refused(ErrorCode::RecordTooLarge)), None);
    assert!(state.flushed().unwrap_err().is_abortable());
    assert_eq!(state.begin_abort(), Ok(()));
}

/// The outcome may be decided: only the same can be asked again.
#[test]
fn who_has_asked_to_commit_cannot_abort() {
    let mut state = open();
    state.note_written();
    state.begin_commit().unwrap();
    assert_eq!(state.flushed(), Ok(true));
    state.fail(TransactionError::Retriable(refused(ErrorCode::OutcomeUnknown)), None);
    assert!(is_illegal(state.begin_abort()) && is_illegal(state.begin()));
    assert!(!state.abandon(None));
    assert_eq!(state.begin_commit(), Ok(Step::End));
    state.initialised(ProducerId(7), ProducerEpoch(1));
    assert_eq!(state.begin(), Ok(2));
}

#[test]
fn an_empty_transaction_has_no_end() {
    let mut state = open();
    state.begin_commit().unwrap();
    assert_eq!(state.flushed(), Ok(false));
    assert_eq!(state.begin(), Ok(2));
    state.begin_abort().unwrap();
    assert!(!state.wrote());
    state.aborted_unwritten();
    assert_eq!(state.begin(), Ok(3));
}

/// Else it would be committed without them, and read again after.
#[test]
fn offsets_that_may_not_have_arrived_are_not_committed() {
    let mut state = open();
    state.note_offsets(false);
    assert!(state.begin_commit().unwrap_err().is_abortable());
    let mut state = open();
    state.note_offsets(false);
    state.note_offsets(true);
    assert_eq!(state.begin_commit(), Ok(Step::Flush));
}

#[test]
fn after_what_is_fatal_nothing_goes() {
    let mut state = open();
    state.fail(TransactionError::Fatal(refused(ErrorCode::ProducerFenced)), None);
    assert!(state.check_send().unwrap_err().is_fatal());
    assert!(state.begin_commit().unwrap_err().is_fatal());
    assert!(state.begin_abort().unwrap_err().is_fatal());
    assert!(state.begin().unwrap_err().is_fatal());
    assert!(!state.abandon(None));
}

#[test]
fn who_drops_an_old_transaction_does_not_abort_the_new_one() {
    let mut state = open();
    state.begin_commit().unwrap();
    state.flushed().unwrap();
    state.begin().unwrap();
    assert!(!state.abandon(Some(1)));
    assert_eq!(state.check_send(), Ok(()));
    assert!(state.abandon(Some(2)));
    assert!(is_illegal(state.check_send()));
}

#[test]
fn an_answer_that_comes_late_fails_no_other_transaction() {
    let mut state = initialised();
    state.fail(TransactionError::Abortable(refused(ErrorCode::ProducerFenced)), None);
    assert!(state.doom().is_none());
    assert_eq!(state.begin(), Ok(1));
}

/// A transaction is begun, and its commit asked for.
fn asked(state: &mut State) -> Told {
    state.begin().unwrap();
    state.take(100).unwrap();
    state.note_written();
    state.start_commit().unwrap().0
}

fn told(told: &mut Told) -> Option<Result<(), TransactionError>> {
    told.try_recv().ok()
}

fn fail(state: &mut State, of: u64) {
    let error = TransactionError::Abortable(refused(ErrorCode::TransactionAbortable));
    state.fail(error, Some(of));
}

#[test]
fn what_comes_behind_a_commit_leaves_when_that_is_answered() {
    let mut state = initialised();
    let mut row: Vec<_> = (0..3).map(|_| asked(&mut state)).collect();
    state.begin().unwrap();
    assert_eq!(state.writes().1, 1);
    assert_eq!(state.next_group(0), Some(1), "one at least");
    assert_eq!(state.group_flushed(1), Some(true));
    state.group_committed(1, Some((ProducerId(7), ProducerEpoch(1))));
    assert_eq!(told(&mut row[0]), Some(Ok(())));
    assert_eq!(state.writes().1, 1);
    assert_eq!(state.next_group(200), Some(3));
    assert_eq!((state.writes().1, state.group_flushed(3)), (3, Some(false)));
    state.group_committed(3, None);
    assert_eq!(told(&mut row[2]), Some(Ok(())));
    let (session, leaving) = state.writes();
    assert_eq!((session.unwrap().epoch, leaving), (ProducerEpoch(1), 4));
    assert_eq!(state.next_group(200), None);
    assert!(state.start_commit().unwrap().1, "somebody has to see to it again");
}

/// Those that are decided together fail together, and all behind them do; not those before.
#[test]
fn a_failure_concerns_those_that_are_decided_with_it_and_behind_it() {
    for (of, fails) in [(1, [true; 3]), (2, [true; 3]), (3, [false, false, true])] {
        for open in [true, false] {
            let mut state = initialised();
            let mut row: Vec<_> = (0..3).map(|_| asked(&mut state)).collect();
            assert_eq!(state.next_group(200), Some(2));
            if open {
                state.begin().unwrap();
            }
            fail(&mut state, of);
            let failed = |told: &mut Told| {
                self::told(told).is_some_and(|told| told.is_err_and(|error| error.is_abortable()))
            };
            assert_eq!(row.iter_mut().map(failed).collect::<Vec<_>>(), fails);
            assert_eq!(state.group_flushed(2), (!fails[0]).then_some(true));
            assert!(state.check_send().unwrap_err().is_abortable());
            assert!(state.start_commit().unwrap_err().is_abortable());
            assert_eq!(state.doom().unwrap().1, if fails[0] { 0 } else { 2 });
            assert!(!state.abandon(Some(3)) || open);
            assert_eq!(state.begin_abort(), Ok(()));
        }
    }
}

#[test]
fn a_failure_of_what_is_open_concerns_no_commit() {
    let mut state = initialised();
    let mut first = asked(&mut state);
    let refusal = TransactionError::Abortable(refused(ErrorCode::RecordTooLarge));
    state.fail(refusal.clone(), None);
    assert!(state.doom().is_none(), "none is open");
    state.begin().unwrap();
    state.fail(refusal, None);
    fail(&mut state, 2);
    assert_eq!(state.doom().unwrap().1, 1);
    assert_eq!(told(&mut first), None);
    assert_eq!(state.next_group(200), Some(1));
    state.group_committed(1, Some((ProducerId(7), ProducerEpoch(1))));
    assert_eq!(told(&mut first), Some(Ok(())));
    assert!(state.start_commit().unwrap_err().is_abortable());
    assert!(!state.wrote());
}

#[test]
fn what_is_fatal_is_told_to_all() {
    let mut state = initialised();
    let mut row: Vec<_> = (0..2).map(|_| asked(&mut state)).collect();
    state.next_group(100);
    state.fail_group(TransactionError::Fatal(refused(ErrorCode::ProducerFenced)));
    assert!(row.iter_mut().all(|it| told(it).unwrap().unwrap_err().is_fatal()));
    assert!(state.begin().unwrap_err().is_fatal() && state.all_answered());
}
