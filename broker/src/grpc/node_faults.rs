//! Faults of a node, as `troupe.chaos.v1alpha1` says them.

use super::numbers::int64;
use crate::faults::NodeFault;
use crate::network::Directions;
use crate::operations::{ListedFault, Suffered};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Status;
use troupe_actor::FaultKind;
use troupe_proto::chaos::v1alpha1 as pb;
use troupe_proto::chaos::v1alpha1::node_fault::Kind;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

pub(super) fn node_fault(fault: Option<pb::NodeFault>) -> Result<NodeFault, Status> {
    let kind = fault.and_then(|fault| fault.kind).ok_or_else(|| {
        let message = "the request names no fault: say cut, slow, slow_disk, full_disk, fsync_error, pause or clock_offset";
        Error::new(ErrorCode::InvalidRequest, message)
    })?;
    Ok(match kind {
        Kind::Cut(cut) => {
            NodeFault::Cut { directions: directions(cut.direction()), nodes: nodes(&cut.node_ids) }
        }
        Kind::Slow(slow) => NodeFault::Slow {
            directions: directions(slow.direction()),
            nodes: nodes(&slow.node_ids),
            delay: ms(slow.delay_ms),
            jitter: ms(slow.jitter_ms),
        },
        Kind::SlowDisk(slow) => {
            NodeFault::SlowDisk { delay: ms(slow.delay_ms), log_dir: dir(&slow.log_dir) }
        }
        Kind::FullDisk(full) => NodeFault::FullDisk { log_dir: dir(&full.log_dir) },
        Kind::FsyncError(error) => NodeFault::FsyncError { log_dir: dir(&error.log_dir) },
        Kind::Pause(pb::Pause {}) => NodeFault::Pause,
        Kind::ClockOffset(clock) => NodeFault::ClockOffset { offset_ms: clock.offset_ms },
    })
}

fn kind(fault: NodeFault) -> Kind {
    let delay_ms = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
    match fault {
        NodeFault::Cut { nodes, directions } => {
            Kind::Cut(pb::Cut { node_ids: ids(&nodes), direction: direction(directions).into() })
        }
        NodeFault::Slow { nodes, directions, delay, jitter } => Kind::Slow(pb::Slow {
            node_ids: ids(&nodes),
            direction: direction(directions).into(),
            delay_ms: delay_ms(delay),
            jitter_ms: delay_ms(jitter),
        }),
        NodeFault::SlowDisk { delay, log_dir } => Kind::SlowDisk(pb::SlowDisk {
            delay_ms: delay_ms(delay),
            log_dir: path(log_dir.as_deref()),
        }),
        NodeFault::FullDisk { log_dir } => {
            Kind::FullDisk(pb::FullDisk { log_dir: path(log_dir.as_deref()) })
        }
        NodeFault::FsyncError { log_dir } => {
            Kind::FsyncError(pb::FsyncError { log_dir: path(log_dir.as_deref()) })
        }
        NodeFault::Pause => Kind::Pause(pb::Pause {}),
        NodeFault::ClockOffset { offset_ms } => Kind::ClockOffset(pb::ClockOffset { offset_ms }),
    }
}

pub(super) fn active(listed: ListedFault) -> pb::ActiveFault {
    let (node, actor) = match listed.suffered {
        Suffered::ByNode(fault) => (Some(pb::NodeFault { kind: Some(kind(fault)) }), None),
        Suffered::ByActor(kind) => (None, Some(kind)),
    };
    pb::ActiveFault {
        fault_id: listed.id,
        address: listed.address,
        fault: node,
        actor_fault: fault(actor).into(),
        left_ms: int64(listed.left_ms),
        hit_count: int64(listed.hits),
    }
}

/// An actor's own.
pub(super) fn fault(kind: Option<FaultKind>) -> pb::Fault {
    match kind {
        None => pb::Fault::Unspecified,
        Some(FaultKind::Pause) => pb::Fault::Pause,
        Some(FaultKind::Stall) => pb::Fault::Stall,
        Some(FaultKind::DropReplies) => pb::Fault::DropReplies,
    }
}

fn directions(direction: pb::Direction) -> Directions {
    match direction {
        pb::Direction::Unspecified | pb::Direction::Both => Directions { to: true, from: true },
        pb::Direction::To => Directions { to: true, from: false },
        pb::Direction::From => Directions { to: false, from: true },
    }
}

fn direction(directions: Directions) -> pb::Direction {
    match directions {
        Directions { to: true, from: false } => pb::Direction::To,
        Directions { to: false, from: true } => pb::Direction::From,
        Directions { .. } => pb::Direction::Both,
    }
}

fn nodes(ids: &[i32]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn ids(nodes: &BTreeSet<NodeId>) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

fn dir(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| PathBuf::from(path))
}

fn path(dir: Option<&Path>) -> String {
    dir.map_or_else(String::new, |dir| dir.display().to_string())
}
