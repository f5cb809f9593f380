//! Producers with an id: what is new, what is a duplicate, what is out of order.

use super::*;

/// I4.
#[test]
fn a_batch_sent_again_is_answered_with_its_first_offset_and_not_appended() {
    let mut replica = leader();
    for n in 0..5 {
        append(&mut replica, &stamped(9, 0, n * 10, 10), n.into()).unwrap();
    }
    flush(&mut replica);
    for n in 0..5 {
        let out = append(&mut replica, &stamped(9, 0, n * 10, 10), 100).unwrap();
        let (_, result) = answers(&out).remove(0);
        let appended = result.unwrap();
        assert_eq!((appended.base_offset.0, appended.duplicate), (u64::from(n) * 10, true));
        assert_eq!(appended.end_offset, Offset(u64::from(n) * 10 + 10));
    }
    assert_eq!(replica.log_end(), Offset(50));
}

/// S24: cleaning takes a batch's records, and whoever replays what is left knows the same producers.
#[test]
fn the_headers_of_the_remembered_batches_are_all_that_producers_need() {
    let mut replica = leader();
    for n in 0..12 {
        append(&mut replica, &stamped(9, 0, n * 10, 10), n.into()).unwrap();
        append(&mut replica, &facts(1), 100).unwrap();
    }
    let remembered = |replica: &Replica| -> Vec<u64> {
        replica.remembered_batches().into_iter().map(|it| it.0).collect()
    };
    let bases = |range: std::ops::Range<u64>| range.map(|n| n * 11).collect::<Vec<_>>();
    assert_eq!(remembered(&replica), bases(0..12), "any may be the last that is left");
    flush(&mut replica);
    append(&mut replica, &stamped(9, 0, 120, 10), 12).unwrap();
    let remembered = remembered(&replica);
    assert_eq!(remembered, bases(7..13), "five that stay, and one that may be lost");
    let mut after = Replica::new(key(), SELF, config());
    let end = Offset(142);
    let ends =
        LogEnds { log_start: Offset::ZERO, high_watermark: end, flushed_end: end, log_end: end };
    after.restore(ends, None);
    for (base, sequence) in remembered.into_iter().zip((7..13).map(|n| n * 10)) {
        let header = BatchHeader {
            producer: stamped(9, 0, sequence, 1).producer,
            record_count: 0,
            ..super::following::batch(base, 10, 0)
        };
        after.on_recovered_batch(NOW, &header);
    }
    after.become_leader(NOW, state(1, &[1]), &mut Effects::new());
    for sequence in [80, 100, 120] {
        let out = append(&mut after, &stamped(9, 0, sequence, 10), 5).unwrap();
        assert!(answers(&out)[0].1.as_ref().unwrap().duplicate, "{sequence}");
    }
    assert!(append(&mut after, &stamped(9, 0, 70, 10), 6).is_err(), "older than five");
    assert!(append(&mut after, &stamped(9, 0, 130, 10), 7).is_ok());
}

/// I4 with P14: success means committed, for the second answer too.
#[test]
fn a_duplicate_of_an_uncommitted_batch_waits_for_its_commit() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 1), 1).unwrap();
    append(&mut replica, &stamped(9, 0, 1, 1), 2).unwrap();
    let out = append(&mut replica, &stamped(9, 0, 0, 1), 3).unwrap();
    assert_eq!(answers(&out), vec![]);
    let mut out = Effects::new();
    replica.on_flushed(NOW, Offset(1), &mut out);
    let tokens: Vec<_> = answers(&out).into_iter().map(|(token, _)| token).collect();
    assert_eq!(tokens, [1, 3]);
}

/// I5.
#[test]
fn a_gap_in_the_sequence_is_refused_with_the_expected_one() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 10), 1).unwrap();
    let error = append(&mut replica, &stamped(9, 0, 11, 1), 2).unwrap_err();
    let wire = troupe_proto::error::Error::from(error);
    assert_eq!(wire.code, ErrorCode::OutOfOrderSequence);
    assert_eq!(wire.facts["expected_sequence"], "10");
    assert!(append(&mut replica, &stamped(9, 0, 10, 1), 3).is_ok());
}

/// I5.
#[test]
fn a_duplicate_older_than_five_batches_is_out_of_order() {
    let mut replica = leader();
    for n in 0..6 {
        append(&mut replica, &stamped(9, 0, n, 1), n.into()).unwrap();
    }
    let error = append(&mut replica, &stamped(9, 0, 0, 1), 9).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfOrderSequence);
    assert!(append(&mut replica, &stamped(9, 0, 1, 1), 9).is_ok(), "the fifth last is known");
}

/// I4 wants first and last sequence to agree: another cut of the same records is no duplicate.
#[test]
fn a_batch_that_only_overlaps_is_out_of_order() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 10), 1).unwrap();
    for (sequence, count) in [(0, 5), (5, 5), (0, 11)] {
        let error = append(&mut replica, &stamped(9, 0, sequence, count), 2).unwrap_err();
        assert_eq!(error.code(), ErrorCode::OutOfOrderSequence);
    }
}

/// I2.
#[test]
fn sequences_wrap_to_zero_after_31_bits() {
    let mut replica = leader();
    let last = Sequence::MODULUS - 1;
    append(&mut replica, &stamped(9, 0, last - 1, 4), 1).unwrap();
    let out = append(&mut replica, &stamped(9, 0, last - 1, 4), 2);
    assert!(out.is_ok(), "a duplicate across the wrap");
    assert_eq!(replica.log_end(), Offset(4));
    append(&mut replica, &stamped(9, 0, 2, 1), 3).unwrap();
    assert_eq!(replica.log_end(), Offset(5));
}

/// I6.
#[test]
fn an_unknown_producer_may_start_at_any_sequence() {
    let mut replica = leader();
    assert!(append(&mut replica, &stamped(9, 3, 777, 1), 1).is_ok());
    assert!(append(&mut replica, &stamped(9, 3, 778, 1), 2).is_ok());
}

/// I6.
#[test]
fn a_newer_epoch_starts_at_zero_and_an_older_one_is_fenced() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 1, 5, 1), 1).unwrap();
    let error = append(&mut replica, &stamped(9, 2, 6, 1), 2).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfOrderSequence);
    append(&mut replica, &stamped(9, 2, 0, 1), 3).unwrap();
    let error = append(&mut replica, &stamped(9, 1, 6, 1), 4).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ProducerFenced);
    assert_eq!(troupe_proto::error::Error::from(error).facts["current_epoch"], "2");
}

/// I9.
#[test]
fn a_producer_is_forgotten_after_a_day_of_silence() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 1), 1).unwrap();
    flush(&mut replica);
    let check = replica.next_tick().expect("an expiry check");
    replica.on_tick(check, &mut Effects::new());
    assert_eq!(replica.producer_count(), 1);
    replica.on_tick(NOW.plus(ReplicaConfig::PRODUCER_ID_EXPIRATION_MS), &mut Effects::new());
    assert_eq!(replica.producer_count(), 0);
    assert_eq!(replica.next_tick(), None, "an idle replica needs no ticks");
    assert!(append(&mut replica, &stamped(9, 0, 55, 1), 2).is_ok(), "I6: any sequence");
}

/// I10, S2: from a snapshot and the batches behind it, the same state as live.
#[test]
fn duplicates_are_still_known_after_a_restart() {
    let mut replica = leader();
    let mut headers = Vec::new();
    for n in 0..8 {
        let facts = stamped(9 + u64::from(n % 2), 0, n / 2, 1);
        let decided = replica.decide_append(NOW, &facts).unwrap();
        let AppendDecision::Append(header) = decided else { panic!("new") };
        append(&mut replica, &facts, n.into()).unwrap();
        headers.push(header);
    }
    for snapshot_at in 0..=headers.len() {
        let mut first = Replica::new(key(), SELF, config());
        let end = Offset(8);
        let ends = LogEnds {
            log_start: Offset::ZERO,
            high_watermark: Offset(99),
            flushed_end: end,
            log_end: end,
        };
        first.restore(ends, None);
        for header in &headers[..snapshot_at] {
            first.on_recovered_batch(NOW, header);
        }
        let mut second = Replica::new(key(), SELF, config());
        second.restore(ends, Some(&first.snapshot()));
        for header in &headers[snapshot_at..] {
            second.on_recovered_batch(NOW, header);
        }
        assert_eq!(second.snapshot(), replica.snapshot(), "snapshot at {snapshot_at}");
        assert_eq!(second.high_watermark(), end);
        second.become_leader(NOW, state(1, &[1]), &mut Effects::new());
        let out = append(&mut second, &stamped(9, 0, 3, 1), 1).unwrap();
        assert_eq!(base_offset(&out, 1), 6);
    }
}
