//! What happened, in order: a hash over all of it, and the last of it in words.

use std::collections::VecDeque;

/// Events that a violation is shown with.
const TAIL: usize = 250;

#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    tail: VecDeque<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    at: u64,
    what: &'static str,
    facts: [u64; 4],
}

impl Trace {
    pub fn new() -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, events: 0, tail: VecDeque::with_capacity(TAIL) }
    }

    pub fn note(&mut self, at: u64, what: &'static str, facts: [u64; 4]) {
        self.mix(at);
        for byte in what.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        facts.into_iter().for_each(|fact| self.mix(fact));
        self.events += 1;
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(Line { at, what, facts });
    }

    fn mix(&mut self, number: u64) {
        let mut z = self.hash ^ number;
        z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        self.hash = z ^ (z >> 29);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last events, a line each: milliseconds, what, facts.
    pub fn tail(&self) -> String {
        let line = |line: &Line| {
            let [a, b, c, d] = line.facts;
            format!("{:>7} {:<22} {a} {b} {c} {d}\n", line.at, line.what)
        };
        self.tail.iter().map(line).collect()
    }
}
