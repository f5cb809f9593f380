//! A run of random events against a model that is too simple to be wrong.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Everything that can happen to a leader that is alone.
#[derive(Clone, Debug)]
enum Event {
    Append {
        acks: Acks,
        count: u32,
        producer: Option<(u64, u32)>,
    },
    /// Sends the n-th last batch again.
    Repeat {
        back: usize,
    },
    FlushDone,
    Tick {
        ms: u64,
    },
    LogStart,
}

fn events() -> impl Strategy<Value = Event> {
    let acks = prop_oneof![Just(Acks::All), Just(Acks::Leader), Just(Acks::None)];
    let producer = proptest::option::of((1..4u64, 0..2u32));
    prop_oneof![
        4 => (acks, 1..5u32, producer)
            .prop_map(|(acks, count, producer)| Event::Append { acks, count, producer }),
        2 => (0..9usize).prop_map(|back| Event::Repeat { back }),
        3 => Just(Event::FlushDone),
        1 => (0..40_000u64).prop_map(|ms| Event::Tick { ms }),
        1 => Just(Event::LogStart),
    ]
}

/// The same partition, kept as a list of everything that ever happened.
#[derive(Default)]
struct Model {
    /// Accepted batches: stamp and count, base offset.
    log: Vec<(Option<ProducerStamp>, u32, u64)>,
    flushing_to: Option<u64>,
    flushed: u64,
    waiting: Vec<(u64, u64, Time)>,
}

impl Model {
    fn end(&self) -> u64 {
        self.log.last().map_or(0, |(_, count, base)| base + u64::from(*count))
    }

    /// What I4–I6 say, read off the whole log.
    fn judge(&self, stamp: &ProducerStamp, count: u32) -> Result<Option<u64>, ErrorCode> {
        let of_id: Vec<_> =
            self.log.iter().filter(|(s, ..)| s.is_some_and(|s| s.id == stamp.id)).collect();
        let Some((Some(latest), latest_count, _)) = of_id.last() else { return Ok(None) };
        if stamp.epoch < latest.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if stamp.epoch > latest.epoch {
            let first = stamp.base_sequence.0 == 0;
            return if first { Ok(None) } else { Err(ErrorCode::OutOfOrderSequence) };
        }
        for (other, other_count, base) in of_id.iter().rev().take(5) {
            if *other == Some(*stamp) && *other_count == count {
                return Ok(Some(*base));
            }
        }
        if stamp.base_sequence.0 == latest.base_sequence.0 + latest_count {
            Ok(None)
        } else {
            Err(ErrorCode::OutOfOrderSequence)
        }
    }
}

struct Run {
    replica: Replica,
    model: Model,
    now: Time,
    next_token: u64,
    sent: Vec<AppendFacts>,
    next_sequence: BTreeMap<(u64, u32), u32>,
}

impl Run {
    fn send(&mut self, facts: AppendFacts) {
        let token = self.next_token;
        self.next_token += 1;
        let deadline = self.now.plus(30_000);
        let expected = match &facts.producer {
            Some(stamp) => self.model.judge(stamp, facts.record_count),
            None => Ok(None),
        };
        let mut out = Effects::new();
        match (self.replica.decide_append(self.now, &facts), expected) {
            (Err(error), Err(code)) => assert_eq!(error.code(), code),
            (Ok(AppendDecision::Duplicate(duplicate)), Ok(Some(base))) => {
                assert_eq!(duplicate.base_offset.0, base);
                let (now, acks) = (self.now, facts.acks);
                self.replica.on_duplicate(now, duplicate, acks, Token(token), deadline, &mut out);
                self.expect_answer(facts.acks, token, duplicate.end_offset.0, deadline);
            }
            (Ok(AppendDecision::Append(header)), Ok(None)) => {
                assert_eq!(header.base_offset.0, self.model.end());
                self.model.log.push((facts.producer, facts.record_count, header.base_offset.0));
                let (now, acks) = (self.now, facts.acks);
                self.replica.on_appended(now, &header, acks, Token(token), deadline, &mut out);
                self.expect_answer(facts.acks, token, header.end_offset().0, deadline);
            }
            (decided, expected) => panic!("decided {decided:?}, the model says {expected:?}"),
        }
        let at_once = (facts.acks == Acks::Leader).then_some(token);
        self.observe(&out, at_once);
        self.sent.push(facts);
    }

    fn expect_answer(&mut self, acks: Acks, token: u64, end: u64, deadline: Time) {
        if acks == Acks::All {
            self.model.waiting.push((end, token, deadline));
        }
    }

    /// Every effect is one that the model expects, and none is missing.
    fn observe(&mut self, out: &Effects, at_once: Option<u64>) {
        if out.contains(&Effect::Flush) {
            assert_eq!(self.model.flushing_to, None, "two flushes under way");
            self.model.flushing_to = Some(self.model.end());
        }
        let pending = self.model.flushed < self.model.end();
        assert!(!pending || self.model.flushing_to.is_some(), "an append that nobody flushes");
        assert_eq!(self.replica.high_watermark().0, self.model.flushed);
        let flushed = self.model.flushed;
        let mut given: Vec<_> = answers(out);
        if let Some(token) = at_once {
            given.retain(|(other, _)| *other != token);
        }
        let mut due: Vec<_> = self.model.waiting.clone();
        due.retain(|(end, ..)| *end <= flushed);
        due.sort();
        self.model.waiting.retain(|(end, ..)| *end > flushed);
        let committed: Vec<_> =
            given.iter().filter(|(_, result)| result.is_ok()).map(|(token, _)| *token).collect();
        let due: Vec<_> = due.into_iter().map(|(_, token, _)| token).collect();
        assert_eq!(committed, due);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Append { acks, count, producer } => {
                let mut facts = AppendFacts { acks, ..facts(count) };
                if let Some((id, epoch)) = producer {
                    let next = self.next_sequence.entry((id, epoch)).or_default();
                    facts.producer = stamped(id, epoch, *next, count).producer;
                    *next += count;
                }
                self.send(facts);
            }
            Event::Repeat { back } => {
                if let Some(facts) = self.sent.iter().rev().nth(back).cloned() {
                    self.send(facts);
                }
            }
            Event::FlushDone => {
                if let Some(end) = self.model.flushing_to.take() {
                    self.model.flushed = end;
                    let mut out = Effects::new();
                    self.replica.on_flushed(self.now, Offset(end), &mut out);
                    self.observe(&out, None);
                }
            }
            Event::Tick { ms } => {
                self.now = self.now.plus(ms);
                let now = self.now;
                let mut out = Effects::new();
                self.replica.on_tick(now, &mut out);
                let mut expired: Vec<_> = answers(&out).into_iter().map(|(t, _)| t).collect();
                let mut due: Vec<_> = self.model.waiting.clone();
                due.retain(|(_, _, deadline)| *deadline <= now);
                self.model.waiting.retain(|(_, _, deadline)| *deadline > now);
                let mut due: Vec<_> = due.into_iter().map(|(_, token, _)| token).collect();
                expired.sort_unstable();
                due.sort_unstable();
                assert_eq!(expired, due);
            }
            Event::LogStart => {
                let (now, log_start) = (self.now, self.replica.high_watermark());
                let mut out = Effects::new();
                self.replica.on_log_start(now, log_start, &mut out);
                self.observe(&out, None);
            }
        }
        assert_eq!(self.replica.parked(), self.model.waiting.len());
    }
}

proptest! {
    #[test]
    fn any_run_of_events_does_what_the_naive_model_does(
        events in proptest::collection::vec(events(), 1..120)
    ) {
        let mut run = Run {
            replica: leader(),
            model: Model::default(),
            now: NOW,
            next_token: 0,
            sent: Vec::new(),
            next_sequence: BTreeMap::new(),
        };
        for event in events {
            run.step(event);
        }
    }
}
