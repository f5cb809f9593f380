//! The faults that are measured.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArgument {
    /// All of them
    All,
    /// Its actor is killed; the node lives on
    Actor,
    /// SIGTERM to its process: leaderships are handed over
    Sigterm,
    /// kill -9 of its process, while another node is the active controller
    Kill,
    /// kill -9 of its process, which is the active controller too
    KillBoth,
    /// SIGSTOP of its process, while another node is the active controller
    Stop,
    /// kill -9 of the active controller: the time until metadata can be changed again
    Controller,
}

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Actor,
    Sigterm,
    Kill,
    KillBoth,
    Stop,
    Controller,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Actor, Kind::Sigterm, Kind::Kill, Kind::KillBoth, Kind::Stop, Kind::Controller];

    pub fn of(argument: KindArgument) -> Vec<Kind> {
        match argument {
            KindArgument::All => Kind::ALL.into(),
            KindArgument::Actor => vec![Kind::Actor],
            KindArgument::Sigterm => vec![Kind::Sigterm],
            KindArgument::Kill => vec![Kind::Kill],
            KindArgument::KillBoth => vec![Kind::KillBoth],
            KindArgument::Stop => vec![Kind::Stop],
            KindArgument::Controller => vec![Kind::Controller],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Actor => "actor",
            Kind::Sigterm => "sigterm",
            Kind::Kill => "kill",
            Kind::KillBoth => "kill-both",
            Kind::Stop => "stop",
            Kind::Controller => "controller",
        }
    }

    /// Whether the node has to be the active controller; None: it does not matter.
    pub fn wants_controller(self) -> Option<bool> {
        match self {
            Kind::Actor => None,
            Kind::Sigterm | Kind::Kill | Kind::Stop => Some(false),
            Kind::KillBoth | Kind::Controller => Some(true),
        }
    }

    /// Nodes of each partition, the leader first: three, turning. Where the controller goes, two, so that
    /// there is a partition that has nothing to do with the node that goes.
    pub fn assignments(self, partitions: u32) -> Vec<Vec<i32>> {
        let replicas = if self == Kind::Controller { 2 } else { 3 };
        let node = |place: u32| i32::try_from(place % 3 + 1).unwrap_or(1);
        (0..partitions)
            .map(|partition| (0..replicas).map(|replica| node(partition + replica)).collect())
            .collect()
    }
}
