//! The node's actors: how each is, how to kill one, and how to hurt one; and what the whole node suffers.
//!
//! Promise: who kills or hurts an actor is answered when it is back; who hurts the node, as soon as it suffers.
//! Never here: harm to a node that does not let its actors be hurt (`chaos.enable`).

mod actor;
mod actor_tree;
mod listed;
mod node_faults;

pub use actor::{Actor, ActorState};
pub use actor_tree::ActorTree;
pub use listed::{ListedFault, Suffered};

use super::page::Page;
use crate::faults::NodeFaults;
use crate::metrics::NodeMetrics;
use crate::partition::drop_replies;
use actor_tree::Named;
use std::sync::Arc;
use std::time::{Duration, Instant};
use troupe_actor::{Die, Fault, FaultKind, Survived};
use troupe_controller::ControllerHandle;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// How long a killed actor is waited for.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);
/// The longest that a fault lasts.
const MAX_FAULT_MS: u32 = 60_000;
/// How often a stream that broke is looked for.
const STREAM_INTERVAL: Duration = Duration::from_millis(5);

pub struct Chaos {
    tree: ActorTree,
    faults: Arc<NodeFaults>,
    metrics: Arc<NodeMetrics>,
}

/// An actor was killed, and is back.
pub struct Killed {
    pub recovery: Duration,
    /// So far.
    pub restarts: u32,
}

/// A fault that somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct FaultRequest {
    pub kind: Option<FaultKind>,
    pub duration_ms: u32,
    /// Of each reply to get lost; 0: certainly.
    pub probability: f64,
    pub seed: u64,
}

impl Chaos {
    pub fn new(tree: ActorTree, faults: Arc<NodeFaults>, metrics: Arc<NodeMetrics>) -> Self {
        Self { tree, faults, metrics }
    }

    /// One page of the actors whose addresses begin so, and the token of the next.
    pub fn list(&self, prefix: &str, page: &Page) -> (Vec<Actor>, String) {
        let actors = self.tree.actors().into_iter().map(|actor| (actor.address.to_string(), actor));
        let wanted = actors.filter(|(address, _)| address.starts_with(prefix));
        let (actors, next_page_token) = page.cut(wanted, |(address, _)| address.clone());
        (actors.into_iter().map(|(_, actor)| actor).collect(), next_page_token)
    }

    /// # Errors
    /// `CHAOS_DISABLED`, `UNKNOWN_ACTOR`; `REQUEST_TIMED_OUT` of one that has not come back yet, and why another never
    /// will.
    pub async fn kill(&self, address: &str, die: Die) -> Result<Killed, Error> {
        let started = Instant::now();
        let named = self.find(address)?;
        self.metrics.fault_injected("kill");
        let restarts = match named {
            Named::Controller => self.kill_controller(die).await?,
            Named::Partition(handle) => handle.kill(die, RECOVERY_PATIENCE).await?,
            Named::Coordinator(handle) => handle.kill(die, RECOVERY_PATIENCE).await?,
            Named::TxnCoordinator(handle) => handle.kill(die, RECOVERY_PATIENCE).await?,
            Named::Replication { shard, leader } => self.kill_replication(shard, leader).await?,
        };
        Ok(Killed { recovery: started.elapsed(), restarts })
    }

    /// # Errors
    /// `CHAOS_DISABLED`, `UNKNOWN_ACTOR`, `INVALID_REQUEST`, and others of one that does not come back.
    pub async fn inject_fault(
        &self,
        address: &str,
        request: FaultRequest,
    ) -> Result<Survived, Error> {
        let whom = match self.find(address)? {
            Named::Partition(handle) => Ok(handle),
            Named::Controller => Err("a controller"),
            Named::Coordinator(_) | Named::TxnCoordinator(_) => Err("a coordinator"),
            Named::Replication { .. } => Err("a replication stream"),
        };
        let handle = whom.map_err(|whom| {
            let message = format!(
                "{whom} can only be killed, for its pause would be the pause of all that share its thread: that is                  a fault of the node; partitions can be paused, stalled and have their replies dropped"
            );
            Error::new(ErrorCode::InvalidRequest, message)
        })?;
        let (fault, duration) = fault(request)?;
        self.metrics.fault_injected(match fault.kind() {
            FaultKind::Pause => "pause",
            FaultKind::Stall => "stall",
            FaultKind::DropReplies => "drop_replies",
        });
        handle.inject_fault(fault, duration, RECOVERY_PATIENCE).await
    }

    /// Whom a call that does harm is for.
    fn find(&self, address: &str) -> Result<Named, Error> {
        self.check_enabled()?;
        self.tree.find(address).ok_or_else(|| {
            let message = format!(
                "no actor that can be hurt has the address `{address}`; `troupe actor tree` shows all"
            );
            Error::new(ErrorCode::UnknownActor, message)
        })
    }

    fn check_enabled(&self) -> Result<(), Error> {
        if self.faults.are_enabled() {
            return Ok(());
        }
        let message =
            "this node does not let itself or its actors be hurt; start it with chaos.enable=true";
        Err(Error::new(ErrorCode::ChaosDisabled, message))
    }

    fn controller(&self) -> Result<&ControllerHandle, Error> {
        self.tree.controller.local().ok_or_else(|| {
            let message = "this node is a broker only: no controller runs here";
            Error::new(ErrorCode::UnknownActor, message)
        })
    }

    async fn kill_controller(&self, die: Die) -> Result<u32, Error> {
        match die {
            Die::Panic => self.controller()?.panic().await?,
            Die::Stop => self.controller()?.kill().await?,
        }
        Ok(self.tree.restarts())
    }

    /// Breaks the stream and waits until there is another, or nothing to follow any more.
    async fn kill_replication(&self, shard: usize, leader: NodeId) -> Result<u32, Error> {
        let replicator = &self.tree.replicators[shard];
        let followed = || {
            let standing = replicator.streams();
            standing.iter().find(|stream| stream.leader == leader).map_or(0, |it| it.channels)
        };
        let before = followed();
        replicator.kill(leader);
        let back = async {
            while followed() < before && self.follows(shard, leader) {
                tokio::time::sleep(STREAM_INTERVAL).await;
            }
        };
        tokio::time::timeout(RECOVERY_PATIENCE, back).await.map_err(|_| {
            let message = "the stream was broken and has not come back yet";
            Error::new(ErrorCode::RequestTimedOut, message)
        })?;
        Ok(1)
    }

    /// Whether the shard has something to follow of that node.
    fn follows(&self, shard: usize, leader: NodeId) -> bool {
        let image = self.tree.metadata.now();
        self.tree.partitions().iter().filter(|handle| handle.shard == shard).any(|handle| {
            image.partition(&handle.key()).is_some_and(|partition| partition.leader == Some(leader))
        })
    }
}

/// What was asked for, within its bounds.
fn fault(request: FaultRequest) -> Result<(Fault, Duration), Error> {
    let invalid = |message: String| Error::new(ErrorCode::InvalidRequest, message);
    let FaultRequest { kind, duration_ms, probability, seed } = request;
    if !(1..=MAX_FAULT_MS).contains(&duration_ms) {
        let message = format!("duration_ms {duration_ms} is not between 1 and {MAX_FAULT_MS}");
        return Err(invalid(message));
    }
    if !(0.0..=1.0).contains(&probability) {
        return Err(invalid(format!("probability {probability} is not between 0 and 1")));
    }
    let fault = match kind {
        Some(FaultKind::Pause) => Fault::Pause,
        Some(FaultKind::Stall) => Fault::Stall,
        Some(FaultKind::DropReplies) => {
            drop_replies(if probability == 0.0 { 1.0 } else { probability }, seed)
        }
        None => return Err(invalid("the request names no fault".to_owned())),
    };
    Ok((fault, Duration::from_millis(duration_ms.into())))
}
