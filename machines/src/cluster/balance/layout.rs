//! Sites and partitions while a plan is made: who has what, counted at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use troupe_proto::ids::NodeId;

/// What a site may do in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Role {
    /// It gives and takes.
    Takes,
    /// What it has stays as it is: nobody knows how it is.
    Keeps,
    /// It is to be empty.
    Leaves,
}

/// How much there is at a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) struct Load {
    pub leaders: u64,
    pub replicas: u64,
    pub bytes: u64,
}

/// A broker as a place for replicas.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Site {
    pub node_id: NodeId,
    pub rack: Option<String>,
    pub role: Role,
    /// What it has of partitions that the plan is not about.
    pub beside: Load,
}

/// A partition that the plan is about; sites by their place in the list of all.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Held {
    /// Partitions of one topic have the same number.
    pub topic: usize,
    /// The preferred leader first.
    pub replicas: Vec<usize>,
    /// Where its data is when the plan begins.
    pub origin: Vec<usize>,
    pub size: u64,
    /// How many replicas it shall have.
    pub factor: usize,
}

/// A way from one site to another: each step takes something of a partition from a site to the next.
pub(super) struct Step {
    pub partition: usize,
    pub from: usize,
    pub to: usize,
}

pub(in crate::cluster) struct Layout {
    pub sites: Vec<Site>,
    pub partitions: Vec<Held>,
    /// Of each site, the rack by number. All the same where racks do not count.
    rack_of: Vec<usize>,
    /// Racks in which a replica can be.
    racks: usize,
    /// The partitions at each site.
    pub(super) held: Vec<BTreeSet<usize>>,
    /// What each site has of the plan's partitions.
    pub(super) loads: Vec<Load>,
    /// How many replicas of a topic are at a site.
    of_topic: BTreeMap<(usize, usize), u64>,
}

impl Layout {
    /// Sites without a rack count as one rack.
    pub fn new(sites: Vec<Site>, partitions: Vec<Held>, rack_aware: bool) -> Layout {
        let name = |site: &Site| site.rack.clone().filter(|_| rack_aware);
        let names: BTreeSet<_> = sites.iter().map(name).collect();
        let names: Vec<_> = names.into_iter().collect();
        let number = |site: &Site| names.binary_search(&name(site)).unwrap_or(0);
        let rack_of: Vec<usize> = sites.iter().map(number).collect();
        let stay = sites.iter().zip(&rack_of).filter(|(site, _)| site.role != Role::Leaves);
        let racks: BTreeSet<usize> = stay.map(|(_, rack)| *rack).collect();
        let mut layout = Layout {
            held: vec![BTreeSet::new(); sites.len()],
            loads: vec![Load::default(); sites.len()],
            racks: racks.len(),
            rack_of,
            sites,
            partitions,
            of_topic: BTreeMap::new(),
        };
        for partition in 0..layout.partitions.len() {
            for site in layout.partitions[partition].replicas.clone() {
                layout.count(partition, site, true);
            }
            if let Some(leader) = layout.leader(partition) {
                layout.loads[leader].leaders += 1;
            }
        }
        layout
    }

    pub fn leader(&self, partition: usize) -> Option<usize> {
        self.partitions[partition].replicas.first().copied()
    }

    pub(super) fn has(&self, site: usize, partition: usize) -> bool {
        self.held[site].contains(&partition)
    }

    pub(super) fn takes(&self, site: usize) -> bool {
        self.sites[site].role == Role::Takes
    }

    /// Sites that take replicas.
    pub(super) fn takers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.sites.len()).filter(|site| self.takes(*site))
    }

    pub(super) fn topic_load(&self, partition: usize, site: usize) -> u64 {
        let key = (self.partitions[partition].topic, site);
        self.of_topic.get(&key).copied().unwrap_or(0)
    }

    /// In how many racks these replicas are.
    pub(super) fn separation(&self, replicas: &[usize]) -> usize {
        let rack = |site: &usize| self.rack_of[*site];
        let new = |(at, site): &(usize, &usize)| {
            !replicas[..*at].iter().any(|before| rack(before) == rack(site))
        };
        replicas.iter().enumerate().filter(new).count()
    }

    /// R30: in as many racks as there are, or as there are replicas.
    pub fn is_separated(&self, partition: usize) -> bool {
        let replicas = &self.partitions[partition].replicas;
        self.separation(replicas) >= replicas.len().min(self.racks)
    }

    /// Whether a partition's replica may go from one site to another without its racks being the worse for it.
    pub(super) fn may_move(&self, partition: usize, from: usize, to: usize) -> bool {
        if self.has(to, partition) || !self.takes(to) {
            return false;
        }
        if self.rack_of[from] == self.rack_of[to] {
            return true;
        }
        let before = &self.partitions[partition].replicas;
        let wanted = self.separation(before).min(before.len().min(self.racks));
        let moved = |site: &usize| if *site == from { to } else { *site };
        self.separation(&before.iter().map(moved).collect::<Vec<_>>()) >= wanted
    }

    /// In how many racks a partition would be with a replica at this site, too.
    pub(super) fn separation_with(&self, partition: usize, site: usize) -> usize {
        let mut replicas = self.partitions[partition].replicas.clone();
        replicas.push(site);
        self.separation(&replicas)
    }

    /// In how many racks a partition would be without its replica at this site.
    pub(super) fn separation_without(&self, partition: usize, site: usize) -> usize {
        let replicas = &self.partitions[partition].replicas;
        let others: Vec<_> = replicas.iter().copied().filter(|other| *other != site).collect();
        self.separation(&others)
    }

    /// How many replicas more have to be copied if one goes from here to there: less than none if it had not been
    /// copied here yet, and its data is there.
    pub(super) fn price(&self, partition: usize, from: usize, to: usize) -> i64 {
        let origin = &self.partitions[partition].origin;
        i64::from(!origin.contains(&to)) - i64::from(!origin.contains(&from))
    }

    fn count(&mut self, partition: usize, site: usize, more: bool) {
        let Held { topic, size, .. } = self.partitions[partition];
        let of_topic = self.of_topic.entry((topic, site)).or_default();
        let load = &mut self.loads[site];
        if more {
            self.held[site].insert(partition);
            (load.replicas, load.bytes, *of_topic) =
                (load.replicas + 1, load.bytes + size, *of_topic + 1);
        } else {
            self.held[site].remove(&partition);
            (load.replicas, load.bytes, *of_topic) =
                (load.replicas - 1, load.bytes - size, *of_topic - 1);
        }
    }

    /// Changes the replicas of a partition, and counts anew.
    fn change(&mut self, partition: usize, change: impl FnOnce(&mut Vec<usize>)) {
        let before = self.partitions[partition].replicas.clone();
        change(&mut self.partitions[partition].replicas);
        let after = self.partitions[partition].replicas.clone();
        for site in before.iter().filter(|site| !after.contains(site)) {
            self.count(partition, *site, false);
        }
        for site in after.iter().filter(|site| !before.contains(site)) {
            self.count(partition, *site, true);
        }
        if before.first() != after.first() {
            before.first().iter().for_each(|site| self.loads[**site].leaders -= 1);
            after.first().iter().for_each(|site| self.loads[**site].leaders += 1);
        }
    }

    /// One site in the place of another, leading if that led.
    pub(super) fn replace(&mut self, partition: usize, from: usize, to: usize) {
        self.change(partition, |replicas| {
            for site in replicas.iter_mut().filter(|site| **site == from) {
                *site = to;
            }
        });
    }

    pub(super) fn add(&mut self, partition: usize, site: usize) {
        self.change(partition, |replicas| replicas.push(site));
    }

    pub(super) fn remove(&mut self, partition: usize, site: usize) {
        self.change(partition, |replicas| replicas.retain(|other| *other != site));
    }

    /// A replica is preferred as leader; the others keep their order.
    pub(super) fn prefer(&mut self, partition: usize, site: usize) {
        self.change(partition, |replicas| {
            replicas.retain(|other| *other != site);
            replicas.insert(0, site);
        });
    }

    /// These replicas and no others.
    pub(super) fn set(&mut self, partition: usize, sites: Vec<usize>) {
        self.change(partition, |replicas| *replicas = sites);
    }

    /// Replicas that have to be copied.
    pub fn moves(&self) -> usize {
        let copied =
            |held: &Held| held.replicas.iter().filter(|at| !held.origin.contains(at)).count();
        self.partitions.iter().map(copied).sum()
    }

    /// What each partition's replicas are now, as brokers.
    pub fn nodes(&self, partition: usize) -> Vec<NodeId> {
        let replicas = &self.partitions[partition].replicas;
        replicas.iter().map(|site| self.sites[*site].node_id).collect()
    }

    /// All that a site has, in the plan and beside it.
    pub fn total(&self, site: usize) -> Load {
        let (load, beside) = (self.loads[site], self.sites[site].beside);
        Load {
            leaders: load.leaders + beside.leaders,
            replicas: load.replicas + beside.replicas,
            bytes: load.bytes + beside.bytes,
        }
    }
}

/// The shortest way from a site to one that `ends` it, by steps that `steps` tells; every site once. If there is none,
/// the sites that can be reached.
pub(super) fn shortest_way(
    sites: usize,
    from: usize,
    mut steps: impl FnMut(usize, &[bool]) -> Vec<Step>,
    ends: impl Fn(usize) -> bool,
) -> Result<Vec<Step>, Vec<bool>> {
    let mut reached = vec![false; sites];
    reached[from] = true;
    let mut by: BTreeMap<usize, Step> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(site) = queue.pop_front() {
        for step in steps(site, &reached) {
            let to = step.to;
            if reached[to] {
                continue;
            }
            reached[to] = true;
            by.insert(to, step);
            if ends(to) {
                let mut way = Vec::new();
                let mut at = to;
                while let Some(step) = by.remove(&at) {
                    at = step.from;
                    way.push(step);
                }
                return Ok(way);
            }
            queue.push_back(to);
        }
    }
    Err(reached)
}
