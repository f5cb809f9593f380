//! What is done to a cluster, and when: all of it from a seed.
//!
//! Promises: at most one node is down or stands still at a time, of three; every fault has its end in the
//! schedule; the first [`KINDS`] steps are one of each kind, in an order of their own.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;
use troupe_proto::chaos::v1alpha1::KillMode;

/// Kinds of faults of nodes and actors.
pub const KINDS: usize = 7;
/// Kinds of faults of the network between them, where there is one to be hurt.
pub const NETWORK_KINDS: usize = 4;
/// A panic counts against an actor: three in a minute take it out of service for a person to look at.
const MOST_PANICS: usize = 2;

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// By its place among those that live.
    Node(usize),
    /// Who leads this partition, by its place among all.
    LeaderOf(usize),
    ActiveController,
}

/// Which way nothing passes any more, as the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Both,
    In,
    Out,
}

/// To whom a node has no connection any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The other nodes; clients still reach it.
    Nodes,
    /// Clients too.
    All,
    /// One other node, by its place: both still reach the third.
    One(usize),
}

/// Something that is done to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; started again after `down`, and, if so, killed once more so long into that start.
    Kill { target: Target, down: Duration, again: Option<Duration> },
    /// `SIGTERM`; started again so long after its end.
    Terminate { target: Target, down: Duration },
    /// `SIGSTOP`, then `SIGCONT`.
    Pause { target: Target, held: Duration },
    /// Packets of a node are lost, without a word to anybody.
    Cut { target: Target, from: From, direction: Direction, held: Duration },
    /// Packets between a node and the others are late, and few a second.
    Slow { target: Target, delay: Duration, bytes_per_second: u32, held: Duration },
    /// The actor of a partition's leader, on the node that has it.
    KillLeader { partition: usize, mode: KillMode },
    /// The actor of one of its followers, by its place among those that live.
    KillFollower { partition: usize, place: usize, mode: KillMode },
    /// The actor of the active controller.
    KillController { mode: KillMode },
}

/// A fault, and how long after the end of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub gap: Duration,
    pub fault: Fault,
    /// While it lasts: an actor's death on a node that lives.
    pub meanwhile: Option<Fault>,
}

/// An endless row of steps.
pub struct Schedule {
    chance: StdRng,
    /// Kinds that are to come before chance decides.
    first: Vec<usize>,
    kinds: usize,
    panics: usize,
}

impl Schedule {
    pub fn new(seed: u64) -> Schedule {
        Schedule::of(seed, KINDS)
    }

    /// One in which links between nodes fail too.
    pub fn with_network(seed: u64) -> Schedule {
        Schedule::of(seed, KINDS + NETWORK_KINDS)
    }

    fn of(seed: u64, kinds: usize) -> Schedule {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut first: Vec<usize> = (0..kinds).collect();
        first.shuffle(&mut chance);
        Schedule { chance, first, kinds, panics: 0 }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.chance.random_range(least..=most))
    }

    fn mode(&mut self) -> KillMode {
        if self.panics < MOST_PANICS && self.chance.random_range(0..4) == 0 {
            self.panics += 1;
            return KillMode::Panic;
        }
        KillMode::Stop
    }

    fn node(&mut self) -> Target {
        match self.chance.random_range(0..3) {
            0 => Target::Node(self.chance.random_range(0..3)),
            _ => Target::LeaderOf(self.chance.random_range(0..100)),
        }
    }

    /// How long a node is away: about half of the times beyond the session timeout of two seconds.
    fn away(&mut self) -> Duration {
        self.millis(100, 4_000)
    }

    fn kill(&mut self, target: Target) -> Fault {
        let again = self.chance.random_range(0..4) == 0;
        let again = again.then(|| self.millis(1, 500));
        Fault::Kill { target, down: self.away(), again }
    }

    fn actor(&mut self) -> Fault {
        match self.chance.random_range(0..3) {
            0 => Fault::KillController { mode: self.mode() },
            1 => self.follower(),
            _ => self.leader(),
        }
    }

    fn leader(&mut self) -> Fault {
        let partition = self.chance.random_range(0..100);
        Fault::KillLeader { partition, mode: self.mode() }
    }

    fn follower(&mut self) -> Fault {
        let (partition, place) = (self.chance.random_range(0..100), self.chance.random_range(0..2));
        Fault::KillFollower { partition, place, mode: self.mode() }
    }

    /// Nothing passes between a node and all others, with or without the clients.
    fn isolation(&mut self, direction: Direction) -> Fault {
        let from = match self.chance.random_range(0..3) {
            0 => From::All,
            _ => From::Nodes,
        };
        self.cut(from, direction)
    }

    fn cut(&mut self, from: From, direction: Direction) -> Fault {
        let target = match self.chance.random_range(0..3) {
            0 => Target::ActiveController,
            _ => self.node(),
        };
        // Longer than a node's absence: what a cut leaves behind has to time out.
        Fault::Cut { target, from, direction, held: self.millis(200, 8_000) }
    }

    fn one_way(&mut self) -> Direction {
        match self.chance.random_range(0..2) {
            0 => Direction::In,
            _ => Direction::Out,
        }
    }

    fn partial(&mut self) -> Fault {
        let from = From::One(self.chance.random_range(0..2));
        let direction = match self.chance.random_range(0..2) {
            0 => Direction::Both,
            _ => self.one_way(),
        };
        self.cut(from, direction)
    }

    fn slow(&mut self) -> Fault {
        let (delay, held) = (self.millis(5, 500), self.millis(500, 8_000));
        let bytes_per_second = self.chance.random_range(16_000..1_000_000);
        Fault::Slow { target: self.node(), delay, bytes_per_second, held }
    }

    /// Half of the faults come while the cluster still mends what the one before has done.
    fn gap(&mut self) -> Duration {
        match self.chance.random_range(0..2) {
            0 => self.millis(0, 50),
            _ => self.millis(100, 2_000),
        }
    }

    fn fault(&mut self) -> Fault {
        let kind = self.first.pop().unwrap_or_else(|| self.chance.random_range(0..self.kinds));
        match kind {
            0 => {
                let target = self.node();
                self.kill(target)
            }
            1 => self.kill(Target::ActiveController),
            2 => Fault::Terminate { target: self.node(), down: self.away() },
            3 => Fault::Pause { target: self.node(), held: self.away() },
            4 => self.leader(),
            5 => self.follower(),
            6 => Fault::KillController { mode: self.mode() },
            7 => self.isolation(Direction::Both),
            8 => {
                let direction = self.one_way();
                self.isolation(direction)
            }
            9 => self.partial(),
            _ => self.slow(),
        }
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let gap = self.gap();
        let fault = self.fault();
        let meanwhile =
            (fault.lasts().is_some() && self.chance.random_range(0..3) == 0).then(|| self.actor());
        Some(Step { gap, fault, meanwhile })
    }
}

impl Fault {
    /// From its beginning to its end; an actor's death has none.
    pub fn lasts(&self) -> Option<Duration> {
        match self {
            Fault::Kill { down, .. } | Fault::Terminate { down, .. } => Some(*down),
            Fault::Pause { held, .. } | Fault::Cut { held, .. } | Fault::Slow { held, .. } => {
                Some(*held)
            }
            Fault::KillLeader { .. }
            | Fault::KillFollower { .. }
            | Fault::KillController { .. } => None,
        }
    }

    /// Whether it is done to what lies between nodes.
    pub fn is_of_links(&self) -> bool {
        matches!(self, Fault::Cut { .. } | Fault::Slow { .. })
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill { target: Target::ActiveController, .. } => "kill -9 of the controller",
            Fault::Kill { .. } => "kill -9",
            Fault::Terminate { .. } => "SIGTERM",
            Fault::Pause { .. } => "SIGSTOP",
            Fault::Cut { from: From::One(_), .. } => "partial cut",
            Fault::Cut { direction: Direction::Both, .. } => "cut",
            Fault::Cut { .. } => "one-way cut",
            Fault::Slow { .. } => "slow links",
            Fault::KillLeader { .. } => "leader actor",
            Fault::KillFollower { .. } => "follower actor",
            Fault::KillController { .. } => "controller actor",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Fault::Kill { down, again, .. } => {
                write!(f, " for {down:?}")?;
                again.map_or(Ok(()), |again| write!(f, ", again {again:?} into the start"))
            }
            Fault::Terminate { down: time, .. } | Fault::Pause { held: time, .. } => {
                write!(f, " for {time:?}")
            }
            Fault::Cut { from, direction, held, .. } => {
                write!(f, " from {from:?}, {direction:?}, for {held:?}")
            }
            Fault::Slow { delay, bytes_per_second, held, .. } => {
                write!(f, " by {delay:?}, {bytes_per_second} B/s, for {held:?}")
            }
            Fault::KillLeader { mode, .. }
            | Fault::KillFollower { mode, .. }
            | Fault::KillController { mode } => {
                write!(f, " ({})", mode.as_str_name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_is_one_schedule() {
        let steps = |seed| Schedule::new(seed).take(50).collect::<Vec<_>>();
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_kind_comes_among_the_first() {
        for seed in 0..100 {
            let steps = Schedule::new(seed).take(KINDS);
            let kinds: BTreeSet<&str> = steps.map(|step| step.fault.kind()).collect();
            assert_eq!(kinds.len(), KINDS, "seed {seed}");
            let all = KINDS + NETWORK_KINDS;
            let steps = Schedule::with_network(seed).take(all);
            let kinds: BTreeSet<&str> = steps.map(|step| step.fault.kind()).collect();
            assert_eq!(kinds.len(), all, "seed {seed}");
        }
    }

    /// What lasts is one node's, and only actors die meanwhile; there are faults that the session timeout
    /// notices and others that it does not.
    #[test]
    fn faults_are_a_minority_s() {
        const SESSION: Duration = Duration::from_secs(2);
        let (mut short, mut long) = (0, 0);
        for step in (0..50).flat_map(|seed| Schedule::with_network(seed).take(50)) {
            match step.fault.lasts() {
                Some(time) if time < SESSION => short += 1,
                Some(_) => long += 1,
                None => assert_eq!(step.meanwhile, None),
            }
            assert!(step.meanwhile.is_none_or(|fault| fault.lasts().is_none()));
        }
        assert!(short > 100 && long > 100, "{short} {long}");
    }

    #[test]
    fn panics_are_few() {
        for seed in 0..50 {
            let steps = Schedule::new(seed).take(100);
            let faults = steps.flat_map(|step| [Some(step.fault), step.meanwhile]).flatten();
            let panics = faults.filter(|fault| {
                use Fault::{KillController, KillFollower, KillLeader};
                matches!(
                    fault,
                    KillLeader { mode: KillMode::Panic, .. }
                        | KillFollower { mode: KillMode::Panic, .. }
                        | KillController { mode: KillMode::Panic }
                )
            });
            assert!(panics.count() <= MOST_PANICS);
        }
    }
}
