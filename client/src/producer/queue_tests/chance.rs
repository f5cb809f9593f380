//! P25 under whatever may happen to the batches on their way.

use super::leader::Leader;
use super::{Bench, Sent, rules};
use crate::producer::queue::Drain;
use proptest::prelude::*;
use troupe_proto::error::ErrorCode;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Append {
        padding: usize,
    },
    Drain,
    /// The oldest batch on its way arrives and is answered.
    Arrive,
    /// It arrives, but is refused before anything is done.
    Refuse,
    /// It is refused as too large, if it can be split.
    TooLarge,
    /// Every batch on its way is lost with the stream; the first `arrived` have arrived.
    Break {
        arrived: usize,
    },
    /// Another leader is elected. Of what is on its way `arrived` have been replicated; no answer is heard.
    Move {
        arrived: usize,
    },
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..150).prop_map(|padding| Step::Append { padding }),
        6 => Just(Step::Drain),
        4 => Just(Step::Arrive),
        1 => Just(Step::Refuse),
        1 => Just(Step::TooLarge),
        1 => (0usize..6).prop_map(|arrived| Step::Break { arrived }),
        1 => (0usize..6).prop_map(|arrived| Step::Move { arrived }),
        3 => Just(Step::Wait),
    ]
}

fn run(bench: &mut Bench, leader: &mut Leader, under_way: &mut Vec<Sent>, step: Step) {
    match step {
        Step::Append { padding } => bench.append_sized(padding),
        Step::Drain => match bench.drain() {
            Drain::Send(outgoing) => under_way.push(bench.encode(outgoing)),
            Drain::Wait(_) => {}
            Drain::NeedSession => bench.sessions += 1,
        },
        Step::Arrive if !under_way.is_empty() => {
            let sent = under_way.remove(0);
            match leader.append(&sent) {
                Ok(base) => bench.place(&sent, base),
                Err(code) => bench.fail(&sent, code),
            }
        }
        Step::Refuse if !under_way.is_empty() => {
            let sent = under_way.remove(0);
            bench.fail(&sent, ErrorCode::NotLeader);
        }
        Step::Break { arrived } => {
            for (n, sent) in std::mem::take(under_way).into_iter().enumerate() {
                if n < arrived {
                    let _ = leader.append(&sent);
                }
                bench.fail(&sent, ErrorCode::OutcomeUnknown);
            }
        }
        Step::Move { arrived } => {
            for sent in under_way.drain(..).take(arrived) {
                let _ = leader.append(&sent);
            }
            bench.move_leader();
        }
        // A leader that has the batch says so before it looks at its size.
        Step::TooLarge if under_way.first().is_some_and(|sent| leader.may_refuse_size(sent)) => {
            let sent = under_way.remove(0);
            bench.fail(&sent, ErrorCode::RecordTooLarge);
        }
        Step::Arrive | Step::Refuse | Step::TooLarge => {}
        Step::Wait => bench.later(150),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// P25: whatever is refused, lost or answered too late, each record is in the log once, in order.
    #[test]
    fn idempotence_keeps_every_record_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut bench = Bench::new(rules());
        let mut leader = Leader::default();
        let mut under_way = Vec::new();
        for step in steps {
            run(&mut bench, &mut leader, &mut under_way, step);
            prop_assert!(under_way.len() <= 5);
        }
        bench.close_batch();
        for _ in 0..1000 {
            for step in [Step::Wait, Step::Drain, Step::Arrive] {
                run(&mut bench, &mut leader, &mut under_way, step);
            }
            // Retries wait longer and longer; the delivery timeout is another test's.
            let expiry = bench.queue.expiry();
            prop_assert!(expiry.is_none_or(|at| at > bench.now), "the queue is stuck");
        }
        prop_assert!(bench.queue.is_empty());
        prop_assert_eq!(bench.reserved, 0);
        let all: Vec<_> = (0..bench.appended).collect();
        prop_assert_eq!(&leader.log, &all);
        for n in 0..bench.appended {
            prop_assert_eq!(bench.outcome(n as usize), Some(Ok(n)));
        }
    }
}
