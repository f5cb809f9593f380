//! What the whole node suffers, asked for within bounds.

use super::super::page::Page;
use super::Chaos;
use super::listed::{ListedFault, Suffered};
use crate::faults::NodeFault;
use std::time::Duration;
use troupe_proto::error::{Error, ErrorCode};

const DEFAULT_MS: u32 = 10_000;
/// The longest that a fault of a node lasts.
const MAX_MS: u32 = 3_600_000;
/// The longest that something is late.
const MAX_DELAY: Duration = Duration::from_secs(60);
const TEN_YEARS_MS: u64 = 10 * 366 * 24 * 3_600_000;
const MAX_ID: usize = 64;

impl Chaos {
    /// Returns its id as soon as it lasts.
    ///
    /// # Errors
    /// `CHAOS_DISABLED`, `INVALID_REQUEST`.
    pub fn start_fault(
        &self,
        id: &str,
        fault: NodeFault,
        duration_ms: u32,
    ) -> Result<String, Error> {
        self.check_enabled()?;
        let duration_ms = if duration_ms == 0 { DEFAULT_MS } else { duration_ms };
        if duration_ms > MAX_MS {
            return Err(invalid(format!("duration_ms {duration_ms} is more than {MAX_MS}")));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if id.len() > MAX_ID || !id.chars().all(is_plain) {
            let message = format!(
                "`{id}` is no id of a fault: up to {MAX_ID} letters, digits, - and _ of ASCII are"
            );
            return Err(invalid(message));
        }
        self.check(&fault)?;
        let name = fault.name();
        let id = self.faults.start(id, fault, Duration::from_millis(duration_ms.into()))?;
        self.metrics.fault_injected(name);
        Ok(id)
    }

    /// The ids of those that ended.
    ///
    /// # Errors
    /// `CHAOS_DISABLED`.
    pub fn stop_faults(&self, id: &str) -> Result<Vec<String>, Error> {
        self.check_enabled()?;
        Ok(self.faults.stop(id))
    }

    /// One page of what the node and its actors suffer, and the token of the next.
    pub fn list_faults(&self, page: &Page) -> (Vec<ListedFault>, String) {
        let node = self.tree.address().to_string();
        let of_node = self.faults.list().into_iter().map(|it| ListedFault {
            id: it.id,
            address: node.clone(),
            suffered: Suffered::ByNode(it.fault),
            left_ms: u64::try_from(it.left.as_millis()).unwrap_or(u64::MAX),
            hits: it.hits,
        });
        let of_actors = self.tree.suffering().into_iter().map(|(address, (kind, left_ms))| {
            let (id, suffered) = (address.clone(), Suffered::ByActor(kind));
            ListedFault { id, address, suffered, left_ms, hits: 0 }
        });
        let mut all: Vec<_> = of_node.chain(of_actors).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        page.cut(all.into_iter(), |fault| fault.id.clone())
    }

    fn check(&self, fault: &NodeFault) -> Result<(), Error> {
        if let NodeFault::Cut { nodes, .. } | NodeFault::Slow { nodes, .. } = fault {
            let metadata = &self.tree.metadata;
            let (own, image) = (metadata.node_id, metadata.now());
            let voters = self.tree.controller.voters();
            for node in nodes {
                if *node == own {
                    return Err(invalid(format!("node {own} has no connection to itself")));
                }
                let is_known = image.broker(*node).is_some()
                    || voters.iter().any(|voter| voter.node_id == *node);
                if !is_known {
                    return Err(invalid(format!("there is no node {node}")));
                }
            }
        }
        match fault {
            NodeFault::Slow { delay, jitter, .. } => {
                check_delay("delay_ms", *delay)?;
                if *jitter > MAX_DELAY {
                    let most = MAX_DELAY.as_millis();
                    let message = format!("jitter_ms {} is more than {most}", jitter.as_millis());
                    return Err(invalid(message));
                }
                Ok(())
            }
            NodeFault::SlowDisk { delay, .. } => check_delay("delay_ms", *delay),
            NodeFault::ClockOffset { offset_ms } => match offset_ms.unsigned_abs() {
                0 => Err(invalid("offset_ms is 0: the clock would be right".to_owned())),
                1..=TEN_YEARS_MS => Ok(()),
                _ => Err(invalid(format!("offset_ms {offset_ms} is more than ten years"))),
            },
            NodeFault::Cut { .. }
            | NodeFault::FullDisk { .. }
            | NodeFault::FsyncError { .. }
            | NodeFault::Pause => Ok(()),
        }
    }
}

fn check_delay(name: &str, delay: Duration) -> Result<(), Error> {
    if delay.is_zero() || delay > MAX_DELAY {
        let (delay, most) = (delay.as_millis(), MAX_DELAY.as_millis());
        return Err(invalid(format!("{name} {delay} is not between 1 and {most}")));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}
