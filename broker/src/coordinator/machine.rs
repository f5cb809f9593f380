//! What a coordinator is for: the machine that decides, and those who are told what it has decided.
//!
//! All that differs between one internal topic and another is said here; what is asked of a machine is between it and
//! the messages of its actor.
//! Never here: a log, a stream, an actor.

use super::record::Record;
use crate::metrics::NodeMetrics;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;
use troupe_machines::cluster::ClusterImage;
use troupe_machines::time::Time;
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, PartitionId};

/// Decides, and remembers what one partition of an internal topic says.
pub trait Machine: Sized + Send + Unpin + 'static {
    /// The internal topic.
    const TOPIC: &'static str;
    /// What has a coordinator, as clients are told.
    const SUBJECT: &'static str;
    /// What the topic holds, as operators are told.
    const CONTENT: &'static str;

    /// What the operator has settled.
    type Settings: Clone + Send + Sync + 'static;
    /// What one record says.
    type Change;
    type ReplayError: Debug + Display;
    /// What it has to know of the cluster.
    type Catalog: Default + Send + Sync + 'static;
    /// What is told when a decision is committed; dropped if it never is.
    type Told: Default + Unpin + 'static;
    type Audience: Audience<Self>;
    /// What others know of a coordinator without asking its actor. Outlives each of its machines.
    type Shared: Default + Send + Sync + 'static;
    /// What all coordinators of a node have in common.
    type Common: Default + Send + Sync + 'static;

    /// Of an empty log.
    fn new(settings: Self::Settings) -> Self;

    /// Something else is settled: what follows is decided by it.
    fn settle(&mut self, settings: Self::Settings);

    /// # Errors
    /// The key is none.
    fn check_key(key: &str) -> Result<(), Error>;

    /// The partition that a key is kept in, of so many.
    fn partition_of(key: &str, partitions: u32) -> PartitionId;

    fn encode(change: &Self::Change) -> Record;

    /// # Errors
    /// The log is damaged, or newer software wrote it.
    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self::Change, Self::ReplayError>;

    /// # Errors
    /// The log is damaged. Never of what the machine has decided itself.
    fn replay(&mut self, change: &Self::Change) -> Result<(), Self::ReplayError>;

    /// All of the log has been replayed.
    fn loaded(&mut self, now: Time);

    /// These were decided, and are replayed.
    fn note_decided(&mut self, now: Time, changes: &[Self::Change]);

    fn next_deadline(&self) -> Option<Time>;

    /// What follows from the time that has passed.
    fn on_time(&mut self, now: Time) -> Decided<Self>;

    /// The catalog of an image; `None`: the same as is known.
    fn catalog(image: &ClusterImage, known: &Self::Catalog) -> Option<Self::Catalog>;

    /// What follows from a catalog. Also told once before anything is asked.
    fn catalog_changed(&mut self, now: Time, catalog: Arc<Self::Catalog>) -> Decided<Self>;

    /// A coordinator's log was loaded.
    fn observe_load(metrics: &NodeMetrics, took: Duration);
}

/// Records to append and to replay at once, an answer, and what is told when they are committed.
pub struct Decided<M: Machine, T = ()> {
    pub changes: Vec<M::Change>,
    pub answer: T,
    pub told: M::Told,
}

impl<M: Machine> Decided<M> {
    pub fn nothing() -> Self {
        Self { changes: Vec::new(), answer: (), told: M::Told::default() }
    }
}

/// What those who are told something know of their coordinator, and share with others.
pub struct Surroundings<M: Machine> {
    /// Of the internal topic.
    pub partition: PartitionId,
    pub leader_epoch: LeaderEpoch,
    pub metrics: Arc<NodeMetrics>,
    pub shared: Arc<M::Shared>,
    pub common: Arc<M::Common>,
}

/// Those who are told something beside an answer, for as long as an actor lives.
pub trait Audience<M: Machine>: Unpin + 'static {
    fn new(around: Surroundings<M>) -> Self;

    fn tell(&mut self, told: M::Told);

    /// The coordinator is over: everybody hears why.
    fn dismiss(&mut self, error: &Error);

    /// Brings the node's counts up to date.
    fn count(&mut self, machine: &M);
}
