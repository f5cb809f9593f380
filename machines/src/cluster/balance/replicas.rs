//! How many replicas each site has: what is missing is filled, racks are separated, and loads levelled.
//!
//! Levelling follows the shortest way from a site that has too much to one that has less: as long as there is one, the
//! sum of squares falls, and where there is none the loads are as even as the racks allow, since what can be reached is
//! a flow. Most ways are one step long, and each step is one replica to copy.

use super::layout::{Layout, Step, shortest_way};
use std::cmp::Reverse;

/// For what replicas are moved from site to site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Levelling {
    /// Even over the plan's partitions: no two sites differ by more than one, if that can be.
    Even,
    /// The same, and which sites have one more is decided by what they have beside the plan. Nothing has been copied
    /// yet, and so moves cost nothing.
    New,
    /// These sites alone take, up to their share.
    Fill(Vec<usize>),
}

/// Less is emptier: first by what the plan is about, then by all that there is.
pub(super) type Fullness = (u64, u64);

impl Levelling {
    pub(super) fn takes(&self, site: usize) -> bool {
        match self {
            Levelling::Even | Levelling::New => true,
            Levelling::Fill(sites) => sites.contains(&site),
        }
    }

    /// Whether a site may have one more: what it is filled with is no more than its share.
    pub(super) fn fills(&self, has: u64, share: u64) -> bool {
        match self {
            Levelling::Even | Levelling::New => true,
            Levelling::Fill(_) => has < share,
        }
    }

    /// Whether it is better if what makes the first so full goes to where it is so full.
    pub(super) fn improves(&self, from: Fullness, to: Fullness) -> bool {
        match self {
            Levelling::New => from.0 > 0 && (to.0, to.1) < (from.0 - 1, from.1 - 1),
            Levelling::Even | Levelling::Fill(_) => from.0 > to.0 + 1,
        }
    }
}

impl Layout {
    pub(super) fn fullness(&self, site: usize) -> Fullness {
        (self.loads[site].replicas, self.total(site).replicas)
    }

    /// Every replica off the sites that are to be empty; what is missing then, and what a higher factor asks for, at
    /// the emptiest sites that separate racks. A lower factor takes from the fullest.
    pub fn fill(&mut self) {
        let mut partitions: Vec<usize> = (0..self.partitions.len()).collect();
        for &partition in &partitions {
            self.leave(partition);
            self.shrink(partition);
        }
        // The largest first, so that the small ones can make up for them.
        partitions.sort_by_key(|partition| Reverse(self.partitions[*partition].size));
        for partition in partitions {
            while self.partitions[partition].replicas.len() < self.partitions[partition].factor {
                let Some(site) = self.emptiest_for(partition) else { break };
                self.add(partition, site);
            }
        }
    }

    fn leave(&mut self, partition: usize) {
        let leaves = |site: &usize| self.sites[*site].role == super::Role::Leaves;
        let replicas = self.partitions[partition].replicas.clone();
        for site in replicas.into_iter().filter(leaves).collect::<Vec<_>>() {
            self.remove(partition, site);
        }
    }

    fn shrink(&mut self, partition: usize) {
        while self.partitions[partition].replicas.len() > self.partitions[partition].factor {
            let replicas = self.partitions[partition].replicas.clone();
            let followers = replicas.into_iter().skip(1);
            let worst = followers.max_by_key(|site| {
                (self.separation_without(partition, *site), self.fullness(*site))
            });
            let Some(site) = worst else { return };
            self.remove(partition, site);
        }
    }

    fn emptiest_for(&self, partition: usize) -> Option<usize> {
        let sites = self.takers().filter(|site| !self.has(*site, partition));
        sites.min_by_key(|site| {
            let separation = Reverse(self.separation_with(partition, *site));
            let origin = !self.partitions[partition].origin.contains(site);
            let (fullness, bytes) = (self.fullness(*site), self.total(*site).bytes);
            (separation, fullness, origin, bytes, self.topic_load(partition, *site), *site)
        })
    }

    /// Replicas at sites that only keep what they have go to others, where their racks allow it.
    pub fn displace_kept(&mut self) {
        for partition in 0..self.partitions.len() {
            for from in self.partitions[partition].replicas.clone() {
                let kept = self.sites[from].role == super::Role::Keeps;
                let others = self.takers().filter(|to| kept && self.may_move(partition, from, *to));
                if let Some(to) = others.min_by_key(|to| (self.fullness(*to), *to)) {
                    self.replace(partition, from, to);
                }
            }
        }
    }

    /// Partitions that are in fewer racks than they could be get a replica elsewhere.
    pub fn separate(&mut self) {
        for partition in 0..self.partitions.len() {
            while !self.is_separated(partition) {
                let Some((from, to)) = self.best_to_separate(partition) else { break };
                self.replace(partition, from, to);
            }
        }
    }

    /// From a rack that has another replica too, into one that has none.
    fn best_to_separate(&self, partition: usize) -> Option<(usize, usize)> {
        let replicas = &self.partitions[partition].replicas;
        let now = self.separation(replicas);
        let doubled =
            |site: &&usize| self.takes(**site) && self.separation_without(partition, **site) == now;
        let from = replicas.iter().filter(doubled).max_by_key(|site| self.fullness(**site))?;
        let apart = |site: &usize| {
            !self.has(*site, partition) && self.separation_with(partition, *site) > now
        };
        let to = self.takers().filter(apart).min_by_key(|site| (self.fullness(*site), *site))?;
        Some((*from, to))
    }

    /// Moves replicas until no site has more than it must.
    pub fn level_replicas(&mut self, levelling: &Levelling) {
        loop {
            let mut settled = vec![false; self.sites.len()];
            let mut moved = false;
            while let Some(from) = self.fullest(&settled) {
                match self.way_out(from, levelling) {
                    Ok(way) => {
                        moved = true;
                        way.iter().for_each(|step| self.take(step));
                    }
                    // Nobody whom it reaches reaches more than it does.
                    Err(reached) => {
                        for site in (0..settled.len()).filter(|site| reached[*site]) {
                            settled[site] = true;
                        }
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn take(&mut self, step: &Step) {
        debug_assert!(self.may_move(step.partition, step.from, step.to), "the shortest ways fit");
        self.replace(step.partition, step.from, step.to);
    }

    fn fullest(&self, settled: &[bool]) -> Option<usize> {
        let sites = self.takers().filter(|site| !settled[*site]);
        sites.max_by_key(|site| (self.fullness(*site), Reverse(*site)))
    }

    fn way_out(&self, from: usize, levelling: &Levelling) -> Result<Vec<Step>, Vec<bool>> {
        let share = self.share(|site| self.loads[site].replicas);
        let ends = |to: usize| {
            let fullness = self.fullness(to);
            let fills = levelling.takes(to) && levelling.fills(fullness.0, share);
            fills && levelling.improves(self.fullness(from), fullness)
        };
        let mut targets: Vec<usize> = self.takers().filter(|site| ends(*site)).collect();
        if targets.is_empty() {
            // Whoever has less has nowhere to go either.
            return Err(vec![true; self.sites.len()]);
        }
        targets.sort_by_key(|site| (self.fullness(*site), *site));
        for to in targets {
            if let Some(partition) = self.best_to_move(from, to) {
                return Ok(vec![Step { partition, from, to }]);
            }
        }
        let steps = |site: usize, reached: &[bool]| self.steps(site, reached);
        shortest_way(self.sites.len(), from, steps, ends)
    }

    /// What each site would have if all had as much, rounded up.
    pub(super) fn share(&self, of: impl Fn(usize) -> u64) -> u64 {
        let takers: Vec<usize> = self.takers().collect();
        let all: u64 = takers.iter().map(|site| of(*site)).sum();
        all.div_ceil(takers.len().max(1) as u64)
    }

    /// A step to every site that is not reached yet and can be, each the cheapest.
    fn steps(&self, from: usize, reached: &[bool]) -> Vec<Step> {
        let open = self.takers().filter(|to| !reached[*to]);
        let step = |to| self.best_to_move(from, to).map(|partition| Step { partition, from, to });
        let mut steps: Vec<Step> = open.filter_map(step).collect();
        steps.sort_by_key(|step| (self.fullness(step.to), step.to));
        steps
    }

    /// Of the partitions that may go from here to there: what costs least, evens leaderships, then bytes, and then the
    /// topic.
    fn best_to_move(&self, from: usize, to: usize) -> Option<usize> {
        let (here, there) = (self.loads[from], self.loads[to]);
        let (leads_more, leads_less) =
            (here.leaders > there.leaders + 1, here.leaders <= there.leaders);
        let gap = i128::from(here.bytes) - i128::from(there.bytes);
        let movable = self.held[from].iter().filter(|it| self.may_move(**it, from, to));
        let best = movable.min_by_key(|partition| {
            let leads = self.leader(**partition) == Some(from);
            let wrong = (leads_more && !leads) || (leads_less && leads);
            let size = i128::from(self.partitions[**partition].size);
            let topics =
                self.topic_load(**partition, from) as i64 - self.topic_load(**partition, to) as i64;
            let price = self.price(**partition, from, to);
            let last = Reverse(**partition);
            (price, wrong, size * (size - gap), Reverse(topics), size, last)
        });
        best.copied()
    }
}
