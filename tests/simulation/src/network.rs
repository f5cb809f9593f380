//! Between sites: delay, cuts in one direction or both, loss of what is not part of a stream.

use crate::world::{Event, World};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Network {
    /// Cut pairs, from and to, by the fault that did it.
    pub cuts: BTreeMap<u64, Vec<(usize, usize)>>,
    /// One in so many requests and answers is lost; 0: none.
    pub loss: u64,
    /// Added to every delay, by chance.
    pub slow_ms: u64,
}

impl Network {
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.values().any(|cut| cut.contains(&(from, to)))
    }
}

impl World {
    pub fn delay(&mut self) -> u64 {
        let usual = 1 + self.net.below(4);
        let slow = self.network.slow_ms;
        let extra = if slow > 0 { self.net.below(slow) } else { 0 };
        let hiccup = if self.net.one_in(64) { self.net.below(60) } else { 0 };
        usual + extra + hiccup
    }

    /// A request or an answer, each on a stream of its own: none waits for another. False: it is lost.
    pub fn send(&mut self, from: usize, to: usize, event: Event) -> bool {
        let life = self.sites[to].life;
        self.send_life(from, to, life, event)
    }

    pub fn send_life(&mut self, from: usize, to: usize, life: u64, event: Event) -> bool {
        let loss = self.network.loss;
        if self.network.is_cut(from, to) || (loss > 0 && self.net.one_in(loss)) {
            self.counts.lost_messages += 1;
            return false;
        }
        let wait = if from == to { 1 } else { self.delay() };
        self.schedule_life(to, life, wait, event);
        true
    }
}
