//! The measuring: events in, a report out.
//!
//! - [`lane`]: successes of one partition, and the gaps between them.
//! - [`ledger`]: what became of each record that was sent.
//! - [`cluster`]: a picture of the cluster, and who a victim is in it.
//! - [`faults`]: each fault, and what it cost.
//! - [`felt`]: all of it.
//!
//! Times are spans since the run began, given with each event. Never here: a clock, chance, a cluster.

pub mod cluster;
pub mod faults;
pub mod felt;
pub mod lane;
pub mod ledger;

pub use cluster::{ClusterState, PartitionState, Role, Victim};
pub use faults::FaultRecord;
pub use felt::{Event, Felt, Figures};
pub use lane::{Gap, Lane};
pub use ledger::{Ledger, Outcome, Verdict};

use std::fmt;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: Arc<str>,
    pub partition: u32,
}

impl Place {
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Place {
        Place { topic: topic.into(), partition }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.partition)
    }
}
