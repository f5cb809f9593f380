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

/// Kinds of faults.
pub const KINDS: usize = 7;
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

/// Something that is done to a cluster. Faults of links between nodes will be variants of their own, that last
/// and end as those of nodes do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; started again after `down`, and, if so, killed once more so long into that start.
    Kill { target: Target, down: Duration, again: Option<Duration> },
    /// `SIGTERM`; started again so long after its end.
    Terminate { target: Target, down: Duration },
    /// `SIGSTOP`, then `SIGCONT`.
    Pause { target: Target, held: Duration },
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
    panics: usize,
}

impl Schedule {
    pub fn new(seed: u64) -> Schedule {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut first: Vec<usize> = (0..KINDS).collect();
        first.shuffle(&mut chance);
        Schedule { chance, first, panics: 0 }
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

    /// Half of the faults come while the cluster still mends what the one before has done.
    fn gap(&mut self) -> Duration {
        match self.chance.random_range(0..2) {
            0 => self.millis(0, 50),
            _ => self.millis(100, 2_000),
        }
    }

    fn fault(&mut self) -> Fault {
        let kind = self.first.pop().unwrap_or_else(|| self.chance.random_range(0..KINDS));
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
            _ => Fault::KillController { mode: self.mode() },
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
            Fault::Pause { held, .. } => Some(*held),
            Fault::KillLeader { .. }
            | Fault::KillFollower { .. }
            | Fault::KillController { .. } => None,
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill { target: Target::ActiveController, .. } => "kill -9 of the controller",
            Fault::Kill { .. } => "kill -9",
            Fault::Terminate { .. } => "SIGTERM",
            Fault::Pause { .. } => "SIGSTOP",
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
        }
    }

    /// What lasts is one node's, and only actors die meanwhile; there are faults that the session timeout
    /// notices and others that it does not.
    #[test]
    fn faults_are_a_minority_s() {
        const SESSION: Duration = Duration::from_secs(2);
        let (mut short, mut long) = (0, 0);
        for step in (0..50).flat_map(|seed| Schedule::new(seed).take(50)) {
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
