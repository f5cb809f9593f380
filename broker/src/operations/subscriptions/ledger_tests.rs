use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(60);

fn delivered(ledger: &mut Ledger, offsets: std::ops::Range<u64>, now: Instant) {
    for offset in offsets.map(Offset) {
        assert!(matches!(ledger.offer(offset), Offer::Deliver(_)), "{offset}");
        ledger.deliver(offset, 10, now + LEASE);
    }
}

fn ack(ledger: &mut Ledger, offset: u64, attempt: u32) -> SettleOutcome {
    ledger.settle(Offset(offset), attempt, SettleAction::Ack, Instant::now()).0
}

fn nack(ledger: &mut Ledger, offset: u64, now: Instant, delay: Duration) -> SettleOutcome {
    ledger.settle(Offset(offset), 1, SettleAction::Nack(delay), now).0
}

#[test]
fn acks_out_of_order_move_the_prefix_when_the_gap_closes() {
    let mut ledger = Ledger::new(Offset(10));
    delivered(&mut ledger, 10..15, Instant::now());
    assert_eq!(ack(&mut ledger, 12, 1), SettleOutcome::Accepted);
    assert_eq!(ack(&mut ledger, 11, 1), SettleOutcome::Accepted);
    assert_eq!(ledger.prefix(), Offset(10));
    assert_eq!(ack(&mut ledger, 10, 1), SettleOutcome::Accepted);
    assert_eq!((ledger.prefix(), ledger.out()), (Offset(13), 2));
    // Said again, before the prefix and beyond it.
    assert_eq!(ack(&mut ledger, 10, 1), SettleOutcome::Accepted);
    for (offset, attempt) in [(9, 1), (15, 1), (13, 2), (13, 0), (10, 0), (10, 2)] {
        assert_eq!(ack(&mut ledger, offset, attempt), SettleOutcome::UnknownId, "{offset}");
    }
}

/// Cleaning leaves offsets without a record.
#[test]
fn offsets_without_a_record_hold_up_neither_the_prefix_nor_the_cursor() {
    let (mut ledger, now) = (Ledger::new(Offset(10)), Instant::now());
    for offset in [12, 20] {
        delivered(&mut ledger, offset..offset + 1, now);
    }
    // A batch without records, or whose last records are missing.
    ledger.pass(Offset(30));
    assert_eq!(
        (ledger.prefix(), ledger.cursor(), ledger.frontier()),
        (Offset(12), Offset(30), Offset(30))
    );
    assert_eq!(ack(&mut ledger, 12, 1), SettleOutcome::Accepted);
    assert_eq!(ledger.prefix(), Offset(20));
    assert_eq!(ack(&mut ledger, 20, 1), SettleOutcome::Accepted);
    assert_eq!((ledger.prefix(), ledger.out()), (Offset(30), 0));
}

#[test]
fn a_nack_recalls_what_was_delivered_after_it_too() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    delivered(&mut ledger, 0..5, now);
    assert_eq!(ack(&mut ledger, 3, 1), SettleOutcome::Accepted);
    let (outcome, released) = ledger.settle(Offset(1), 1, SettleAction::Nack(Duration::ZERO), now);
    assert_eq!((outcome, released.bytes.len()), (SettleOutcome::Accepted, 3));
    assert_eq!((ledger.cursor(), ledger.out()), (Offset(1), 1));
    for offset in [1, 2, 4] {
        assert_eq!(ack(&mut ledger, offset, 1), SettleOutcome::LeaseLost);
    }
    let offers: Vec<Offer> = (1..6).map(|offset| ledger.offer(Offset(offset))).collect();
    use Offer::{Deliver, Pass};
    assert_eq!(offers, [Deliver(2), Deliver(2), Pass, Deliver(2), Deliver(1)]);
    for offset in [1, 2, 4] {
        ledger.deliver(Offset(offset), 10, now + LEASE);
    }
    for (offset, attempt) in [(0, 1), (1, 2), (2, 2), (4, 2)] {
        assert_eq!(ack(&mut ledger, offset, attempt), SettleOutcome::Accepted);
    }
    assert_eq!(ledger.prefix(), Offset(5));
    // Of a record that is done, the delivery that was taken back stays lost.
    assert_eq!(ack(&mut ledger, 1, 1), SettleOutcome::LeaseLost);
    assert_eq!(ack(&mut ledger, 1, 2), SettleOutcome::Accepted);
}

#[test]
fn a_nack_with_a_delay_holds_the_partition_up() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    delivered(&mut ledger, 0..2, now);
    let delay = Duration::from_secs(5);
    assert_eq!(nack(&mut ledger, 1, now, delay), SettleOutcome::Accepted);
    assert!(!ledger.is_open(now) && ledger.next_deadline() == Some(now + delay));
    ledger.expire(now + delay);
    assert!(ledger.is_open(now + delay));
    assert_eq!(ledger.next_deadline(), Some(now + LEASE));
}

#[test]
fn a_lease_that_ends_costs_its_record_alone() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    delivered(&mut ledger, 0..3, now);
    let more = ledger.settle(Offset(0), 1, SettleAction::Extend(LEASE * 3), now);
    assert_eq!(more.0, SettleOutcome::Accepted);
    ledger.settle(Offset(2), 1, SettleAction::Extend(LEASE * 2), now);
    assert_eq!(ledger.expire(now + LEASE / 2), Released::default());
    assert_eq!(ledger.expire(now + LEASE).bytes, [10]);
    assert_eq!(ledger.offer(Offset(1)), Offer::Deliver(2));
    assert_eq!((ledger.offer(Offset(2)), ledger.out()), (Offer::Pass, 2));
    assert_eq!(ledger.next_expiry(), Some(now + LEASE * 2));
}

#[test]
fn the_gap_is_bounded() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    let beyond = MAX_ACKED_BEYOND as u64;
    delivered(&mut ledger, 0..beyond + 1, now);
    (1..beyond).for_each(|offset| assert_eq!(ack(&mut ledger, offset, 1), SettleOutcome::Accepted));
    assert!(ledger.is_open(now));
    assert_eq!(ack(&mut ledger, beyond, 1), SettleOutcome::Accepted);
    assert!(ledger.is_gap_full() && !ledger.is_open(now));
    // What closes the gap may be delivered again.
    assert_eq!(nack(&mut ledger, 0, now, Duration::ZERO), SettleOutcome::Accepted);
    assert!(ledger.is_open(now));
    ledger.deliver(Offset(0), 10, now + LEASE);
    assert_eq!(ack(&mut ledger, 0, 2), SettleOutcome::Accepted);
    assert!(ledger.is_open(now) && ledger.prefix() == Offset(beyond + 1));
}

#[test]
fn what_left_the_log_is_not_waited_for() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    delivered(&mut ledger, 0..1, now);
    ledger.pass(Offset(4));
    delivered(&mut ledger, 4..6, now);
    assert_eq!(ack(&mut ledger, 0, 1), SettleOutcome::Accepted);
    assert_eq!(ledger.prefix(), Offset(4));
    assert_eq!(nack(&mut ledger, 4, now, Duration::ZERO), SettleOutcome::Accepted);
    // Compacted away meanwhile: the next that is read is another.
    delivered(&mut ledger, 7..8, now);
    assert_eq!(ledger.prefix(), Offset(7));
    assert_eq!(ack(&mut ledger, 7, 1), SettleOutcome::Accepted);
    ledger.pass(Offset(20));
    assert_eq!((ledger.prefix(), ledger.frontier()), (Offset(20), Offset(20)));
}

/// The offset that a transaction would commit for these first deliveries, once it has them.
fn pledge(ledger: &mut Ledger, offsets: &[u64]) -> Result<Offset, Hindrance> {
    let wanted: Vec<_> = offsets.iter().map(|offset| (Offset(*offset), 1)).collect();
    let end = ledger.covered_by(&wanted)?;
    ledger.pledge(end);
    Ok(end)
}

#[test]
fn what_is_pledged_is_settled_when_its_transaction_is_committed_and_not_before() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    delivered(&mut ledger, 0..5, now);
    assert_eq!(ack(&mut ledger, 1, 1), SettleOutcome::Accepted);
    assert_eq!(pledge(&mut ledger, &[0, 2]), Ok(Offset(3)));
    assert_eq!((ledger.prefix(), ledger.out()), (Offset(0), 4));
    // Whatever happens meanwhile, nobody else settles it, and it is not taken back.
    assert_eq!(ack(&mut ledger, 0, 1), SettleOutcome::LeaseLost);
    ledger.expire(now + 2 * LEASE);
    ledger.recall_all();
    assert_eq!((ledger.out(), ledger.cursor()), (2, Offset(3)));
    assert_eq!(ledger.redeem(true).bytes.len(), 2);
    assert_eq!((ledger.prefix(), ledger.out()), (Offset(3), 0));
    let lost = Hindrance::Lost(0, SettleOutcome::LeaseLost);
    assert_eq!(pledge(&mut ledger, &[0]), Err(lost), "once is enough");
}

#[test]
fn what_was_pledged_in_vain_is_out_as_long_as_it_would_have_been() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    delivered(&mut ledger, 0..2, now);
    assert_eq!(pledge(&mut ledger, &[0, 1]), Ok(Offset(2)));
    let by = SettleAction::Extend(2 * LEASE);
    assert_eq!(ledger.settle(Offset(1), 1, by, now).0, SettleOutcome::Accepted);
    ledger.expire(now + LEASE);
    assert!(ledger.redeem(false).bytes.is_empty());
    assert_eq!((ledger.prefix(), ledger.out()), (Offset(0), 2));
    ledger.expire(now + LEASE);
    assert_eq!((ledger.out(), ledger.offer(Offset(0))), (1, Offer::Deliver(2)));
    assert_eq!(ledger.next_expiry(), Some(now + 2 * LEASE));
}

#[test]
fn a_pledge_leaves_out_nothing_that_was_delivered_before() {
    let (mut ledger, now) = (Ledger::new(Offset(0)), Instant::now());
    delivered(&mut ledger, 0..4, now);
    let lost = |number, outcome| Err(Hindrance::Lost(number, outcome));
    assert_eq!(pledge(&mut ledger, &[1]), Err(Hindrance::Gap(Offset(0))));
    assert_eq!(pledge(&mut ledger, &[0, 1, 9]), lost(2, SettleOutcome::UnknownId));
    assert_eq!(nack(&mut ledger, 2, now, Duration::ZERO), SettleOutcome::Accepted);
    assert_eq!(pledge(&mut ledger, &[0, 1, 2]), lost(2, SettleOutcome::LeaseLost));
    assert_eq!(ledger.out(), 2, "all or none");
    assert_eq!(pledge(&mut ledger, &[0, 1]), Ok(Offset(2)));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u8),
    Ack(u8),
    Nack(u8),
    Extend(u8),
    Pass(u8),
    Pledge(u8),
    Redeem(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5u8).prop_map(Step::Read),
        6 => any::<u8>().prop_map(Step::Ack),
        1 => any::<u8>().prop_map(Step::Nack),
        1 => any::<u8>().prop_map(Step::Extend),
        1 => any::<u8>().prop_map(Step::Pass),
        2 => (1..5u8).prop_map(Step::Pledge),
        2 => any::<bool>().prop_map(Step::Redeem),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A log with holes, read through a ledger.
struct World {
    ledger: Ledger,
    log: Vec<u64>,
    now: Instant,
    /// Delivered, with attempts; whoever settles chooses among these.
    given: Vec<(u64, u32)>,
    acked: BTreeSet<u64>,
}

impl World {
    fn read(&mut self, count: u8) {
        for _ in 0..count {
            let cursor = self.ledger.cursor().0;
            let Some(offset) = self.log.iter().copied().find(|offset| *offset >= cursor) else {
                return self.ledger.pass(Offset(cursor));
            };
            match self.ledger.offer(Offset(offset)) {
                Offer::Deliver(attempt) => {
                    assert!(!self.acked.contains(&offset), "{offset} is done");
                    let before = self.given.iter().filter(|given| given.0 == offset).count();
                    assert_eq!(attempt as usize, before + 1);
                    self.ledger.deliver(Offset(offset), 1, self.now + LEASE);
                    self.given.push((offset, attempt));
                }
                Offer::Pass => self.ledger.pass(Offset(offset + 1)),
            }
        }
    }

    fn settle(&mut self, pick: u8, action: SettleAction) {
        let Some(&(offset, attempt)) = self.given.get(pick as usize % self.given.len().max(1))
        else {
            return;
        };
        let newest = self.given.iter().filter(|given| given.0 == offset).count() as u32;
        let (outcome, _) = self.ledger.settle(Offset(offset), attempt, action, self.now);
        if attempt < newest {
            assert_eq!(outcome, SettleOutcome::LeaseLost);
        }
        if action == SettleAction::Ack && outcome == SettleOutcome::Accepted {
            self.acked.insert(offset);
        }
    }

    /// The first that are out.
    fn pledge(&mut self, count: u8) {
        let is_out = |entry: &&Entry| matches!(entry.state, State::Out(_));
        let out = self.ledger.entries.iter().filter(is_out);
        let wanted: Vec<_> =
            out.take(count.into()).map(|entry| (entry.offset, entry.attempt)).collect();
        if !wanted.is_empty()
            && let Ok(end) = self.ledger.covered_by(&wanted)
        {
            self.ledger.pledge(end);
        }
    }

    fn redeem(&mut self, committed: bool) {
        if committed {
            let is_pledged = |entry: &&Entry| matches!(entry.state, State::Pledged(_));
            let pledged = self.ledger.entries.iter().filter(is_pledged);
            self.acked.extend(pledged.map(|entry| entry.offset.0));
        }
        self.ledger.redeem(committed);
    }

    fn check(&self, before: Offset) {
        let prefix = self.ledger.prefix();
        assert!(before <= prefix && prefix <= self.ledger.frontier());
        assert!(prefix <= self.ledger.cursor() && self.ledger.cursor() <= self.ledger.frontier());
        for offset in self.log.iter().filter(|offset| **offset < prefix.0) {
            assert!(self.acked.contains(offset), "{offset} is passed and not acknowledged");
        }
        let is_out = |e: &&Entry| matches!(e.state, State::Out(_) | State::Pledged(_));
        let out = self.ledger.entries.iter().filter(is_out).count();
        let acked = self.ledger.entries.iter().filter(|e| e.state == State::Acked).count();
        assert_eq!((out, acked), (self.ledger.out, self.ledger.acked));
    }
}

proptest! {
    #[test]
    fn nothing_is_passed_unacknowledged_and_nothing_done_is_repeated(
        gaps in proptest::collection::vec(1..4u64, 1..60), steps in steps(),
    ) {
        let log: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let last = *log.last().unwrap();
        let ledger = Ledger::new(Offset(0));
        let (now, given, acked) = (Instant::now(), Vec::new(), BTreeSet::new());
        let mut world = World { ledger, log, now, given, acked };
        for step in steps {
            let before = world.ledger.prefix();
            match step {
                Step::Read(count) => world.read(count),
                Step::Ack(pick) => world.settle(pick, SettleAction::Ack),
                Step::Nack(pick) => world.settle(pick, SettleAction::Nack(Duration::ZERO)),
                Step::Extend(pick) => world.settle(pick, SettleAction::Extend(LEASE)),
                Step::Pass(seconds) => {
                    world.now += Duration::from_secs(seconds.into());
                    world.ledger.expire(world.now);
                }
                Step::Pledge(count) => world.pledge(count),
                Step::Redeem(committed) => world.redeem(committed),
            }
            world.check(before);
        }
        world.redeem(false);
        // Whoever acknowledges everything in the end has everything committed.
        for _ in 0..world.log.len() {
            world.read(u8::MAX);
            for pick in 0..world.given.len() {
                let (offset, attempt) = world.given[pick];
                let (outcome, _) =
                    world.ledger.settle(Offset(offset), attempt, SettleAction::Ack, world.now);
                if outcome == SettleOutcome::Accepted {
                    world.acked.insert(offset);
                }
            }
        }
        prop_assert_eq!(world.ledger.prefix(), Offset(last + 1));
    }
}
