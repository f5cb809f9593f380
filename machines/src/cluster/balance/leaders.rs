//! Who is preferred as leader: levelled by the order of replicas, which moves no data, and only then by moves.

use super::layout::{Layout, Step, shortest_way};
use super::replicas::{Fullness, Levelling};
use std::cmp::Reverse;

impl Layout {
    fn leading(&self, site: usize) -> Fullness {
        (self.loads[site].leaders, self.total(site).leaders)
    }

    /// Orders replicas until no site is preferred for more partitions than it must be.
    pub fn level_leaders(&mut self, levelling: &Levelling) {
        loop {
            let mut settled = vec![false; self.sites.len()];
            let mut changed = false;
            while let Some(from) = self.leads_most(&settled) {
                match self.way_to_lead(from, levelling) {
                    Ok(way) => {
                        changed = true;
                        way.iter().for_each(|step| self.prefer(step.partition, step.to));
                    }
                    Err(reached) => {
                        for site in (0..settled.len()).filter(|site| reached[*site]) {
                            settled[site] = true;
                        }
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Where no order of replicas makes leaderships even: moves that leave every site as many replicas as it has.
    pub fn move_leaders(&mut self) {
        let levelling = &Levelling::Even;
        loop {
            self.level_leaders(levelling);
            let mut from: Vec<usize> = self.takers().collect();
            from.sort_by_key(|site| (Reverse(self.leading(*site)), *site));
            let swapped = from.into_iter().any(|from| self.move_leader_of(from, levelling));
            if !swapped {
                return;
            }
        }
    }

    fn leads_most(&self, settled: &[bool]) -> Option<usize> {
        let sites = self.takers().filter(|site| !settled[*site]);
        sites.max_by_key(|site| (self.leading(*site), Reverse(*site)))
    }

    fn may_lead_more(&self, from: usize, to: usize, levelling: &Levelling) -> bool {
        let share = self.share(|site| self.loads[site].leaders);
        let fills = levelling.fills(self.loads[to].leaders, share);
        let better = levelling.improves(self.leading(from), self.leading(to));
        self.takes(to) && levelling.takes(to) && fills && better
    }

    fn way_to_lead(&self, from: usize, levelling: &Levelling) -> Result<Vec<Step>, Vec<bool>> {
        let ends = |to: usize| self.may_lead_more(from, to, levelling);
        if !self.takers().any(ends) {
            return Err(vec![true; self.sites.len()]);
        }
        shortest_way(self.sites.len(), from, |site, _| self.leads_to(site), ends)
    }

    /// To whom leaderships of this site can go, the emptiest first.
    fn leads_to(&self, from: usize) -> Vec<Step> {
        let led = self.held[from].iter().filter(|it| self.leader(**it) == Some(from));
        let mut steps: Vec<Step> = Vec::new();
        for partition in led {
            let followers = self.partitions[*partition].replicas.iter().skip(1);
            let may = followers.copied().filter(|site| self.takes(*site));
            steps.extend(may.map(|to| Step { partition: *partition, from, to }));
        }
        steps.sort_by_key(|step| (self.leading(step.to), step.to, step.partition));
        steps
    }

    /// One leadership of a site, or of one to which its own can go, to where there are fewer, with its data.
    fn move_leader_of(&mut self, from: usize, levelling: &Levelling) -> bool {
        let reached = match self.way_to_lead(from, levelling) {
            Ok(_) => return false,
            Err(reached) => reached,
        };
        let mut to: Vec<usize> =
            self.takers().filter(|to| self.may_lead_more(from, *to, levelling)).collect();
        to.sort_by_key(|site| (self.leading(*site), *site));
        for to in to {
            for giver in (0..reached.len()).filter(|site| reached[*site] && *site != to) {
                let Some((goes, comes)) = self.exchange(giver, to) else { continue };
                let lead = |site: usize, _: &[bool]| self.leads_to(site);
                let way = match giver == from {
                    true => Ok(Vec::new()),
                    false => shortest_way(self.sites.len(), from, lead, |site| site == giver),
                };
                let way = way.unwrap_or_default();
                let in_the_way =
                    |step: &Step| step.partition == goes || Some(step.partition) == comes;
                if way.iter().any(in_the_way) || (way.is_empty() && giver != from) {
                    continue;
                }
                way.iter().for_each(|step| self.prefer(step.partition, step.to));
                self.replace(goes, giver, to);
                comes.into_iter().for_each(|comes| self.replace(comes, to, giver));
                return true;
            }
        }
        false
    }

    /// Of these partitions, each is led by the replica that leads least.
    pub fn lead_by_emptiest(&mut self, partitions: &[usize]) {
        for &partition in partitions {
            let replicas = self.partitions[partition].replicas.iter().copied();
            let best = replicas.filter(|site| self.takes(*site));
            // Its own leadership does not speak against who has it.
            let own = |site| u64::from(self.leader(partition) == Some(site));
            if let Some(site) = best.min_by_key(|site| self.leading(*site).0 - own(*site)) {
                self.prefer(partition, site);
            }
        }
    }

    /// What one site leads and another can take, and what comes back for it, unless that site has one replica less.
    fn exchange(&self, from: usize, to: usize) -> Option<(usize, Option<usize>)> {
        let led = self.held[from].iter().copied().filter(|it| self.leader(*it) == Some(from));
        let goes = led.filter(|partition| self.may_move(*partition, from, to));
        let goes =
            goes.min_by_key(|it| (self.price(*it, from, to), self.partitions[*it].size, *it))?;
        if self.loads[from].replicas == self.loads[to].replicas + 1 {
            return Some((goes, None));
        }
        let followed = self.held[to].iter().copied().filter(|it| self.leader(*it) != Some(to));
        let comes = followed.filter(|it| *it != goes && self.may_move(*it, to, from));
        let size = self.partitions[goes].size;
        let comes = comes.min_by_key(|it| {
            (self.price(*it, to, from), self.partitions[*it].size.abs_diff(size), *it)
        })?;
        Some((goes, Some(comes)))
    }
}
