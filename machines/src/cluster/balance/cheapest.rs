//! The same loads for fewer copies: as long as there is a round of moves that gives every site back what it takes from
//! it, and copies less, it is made. Without such a round, no plan with these loads is cheaper, as of any flow.

use super::layout::{Layout, Step};

/// An arc from a site to another: what moves along it, and how many copies more that is.
#[derive(Clone, Copy)]
struct Arc {
    from: usize,
    to: usize,
    /// `None`: nothing moves, but one may have one more in the place of the other.
    partition: Option<usize>,
    price: i64,
}

impl Layout {
    /// Makes the plan cheaper, and leaves it as even as it is.
    pub fn cheapen(&mut self) {
        while let Some(round) = negative_round(&self.arcs(), self.sites.len()) {
            let before = self.moves();
            if !self.go_round(&round) {
                return;
            }
            debug_assert!(self.moves() < before, "a round that saves nothing is none");
        }
    }

    fn arcs(&self) -> Vec<Arc> {
        let mut arcs = Vec::new();
        for from in self.takers() {
            for to in self.takers().filter(|to| *to != from) {
                let priced = |it: &usize| (self.price(*it, from, to), *it);
                let movable = self.held[from].iter().filter(|it| self.may_move(**it, from, to));
                if let Some((price, partition)) = movable.map(priced).min() {
                    arcs.push(Arc { from, to, partition: Some(partition), price });
                }
                if self.loads[to].replicas == self.loads[from].replicas + 1 {
                    arcs.push(Arc { from, to, partition: None, price: 0 });
                }
            }
        }
        arcs
    }

    /// All of its moves, or none: two of one partition can be in each other's way.
    fn go_round(&mut self, round: &[Arc]) -> bool {
        let step = |arc: &Arc| {
            let Arc { from, to, .. } = *arc;
            arc.partition.map(|partition| Step { partition, from, to })
        };
        let steps: Vec<Step> = round.iter().filter_map(step).collect();
        for (at, step) in steps.iter().enumerate() {
            if self.may_move(step.partition, step.from, step.to) {
                self.replace(step.partition, step.from, step.to);
                continue;
            }
            for step in steps[..at].iter().rev() {
                self.replace(step.partition, step.to, step.from);
            }
            return false;
        }
        true
    }
}

/// A round of arcs whose prices are less than nothing in all, the last first (Bellman and Ford).
fn negative_round(arcs: &[Arc], sites: usize) -> Option<Vec<Arc>> {
    let mut price = vec![0; sites];
    let mut by: Vec<Option<Arc>> = vec![None; sites];
    let mut changed = None;
    for _ in 0..=sites {
        changed = None;
        for arc in arcs {
            if price[arc.from] + arc.price < price[arc.to] {
                price[arc.to] = price[arc.from] + arc.price;
                by[arc.to] = Some(*arc);
                changed = Some(arc.to);
            }
        }
        changed?;
    }
    // Who is still made cheaper after so many passes is on such a round, or behind it.
    let mut at = changed?;
    for _ in 0..sites {
        at = by[at]?.from;
    }
    let (start, mut round) = (at, Vec::new());
    loop {
        let arc = by[at]?;
        round.push(arc);
        at = arc.from;
        if at == start {
            return Some(round);
        }
    }
}
