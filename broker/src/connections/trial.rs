//! A connection on trial: it is beyond the limits, may ask once, and shows by that whether it is one of the cluster's
//! own. On probation, so to speak: it holds no slot until then.
//!
//! Promises: a node of the cluster comes in as long as there are slots that are kept for nodes; anybody else hears in
//! his own protocol what he is refused for, and soon.
//! Never here: a defence. Whoever gives himself out for a node gets a node's slot.

use super::slots::Connections;
use crate::peers::NODE_AGENT;
use http::Request;
use http::header::USER_AGENT;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use troupe_machines::connection::slots::SlotId;
use troupe_proto::error::Error;

/// The services that are there for nodes alone: those that do not call themselves by that name yet are known by them.
const INTERNAL_PATHS: &str = "/troupe.internal.";
/// How long a client may take to ask what it will be refused.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

const UNDECIDED: u8 = 0;
const PASSED: u8 = 1;
const REFUSED: u8 = 2;

pub struct Trial {
    connections: Arc<Connections>,
    id: SlotId,
    refusal: Error,
    until: Instant,
    verdict: AtomicU8,
    refused: Notify,
}

impl Trial {
    pub fn new(connections: Arc<Connections>, id: SlotId, refusal: Error) -> Arc<Trial> {
        Arc::new(Trial {
            connections,
            id,
            refusal,
            until: Instant::now() + ASK_TIMEOUT,
            verdict: AtomicU8::new(UNDECIDED),
            refused: Notify::new(),
        })
    }

    /// Whether this call is served. The first one decides.
    ///
    /// # Errors
    /// Why the connection is refused.
    pub fn judge<B>(&self, request: &Request<B>) -> Result<(), Error> {
        let verdict = match self.verdict.load(Ordering::Acquire) {
            UNDECIDED if is_of_a_node(request) && self.connections.vouch(self.id) => PASSED,
            UNDECIDED => REFUSED,
            decided => decided,
        };
        self.decide(verdict);
        match verdict {
            PASSED => Ok(()),
            _ => Err(self.refusal.clone()),
        }
    }

    fn decide(&self, verdict: u8) {
        let before = self.verdict.swap(verdict, Ordering::AcqRel);
        if before == UNDECIDED && verdict == REFUSED {
            self.connections.refused(&self.refusal);
            self.refused.notify_one();
        }
    }

    /// Returns when the connection has no business here any more: it was told so, or (false) asked for nothing.
    pub async fn lost(&self) -> bool {
        tokio::select! {
            () = self.refused.notified() => return true,
            () = sleep_until(self.until) => {}
        }
        if self.verdict.load(Ordering::Acquire) == UNDECIDED {
            return false;
        }
        // Served, it stays; refused already, it is on its way out.
        self.refused.notified().await;
        true
    }

    /// The connection has ended, asked or not.
    pub fn end(&self) {
        if self.verdict.load(Ordering::Acquire) == UNDECIDED {
            self.decide(REFUSED);
        }
    }
}

fn is_of_a_node<B>(request: &Request<B>) -> bool {
    let agent = request.headers().get(USER_AGENT).map(http::HeaderValue::as_bytes);
    let by_name = agent.is_some_and(|agent| agent.starts_with(NODE_AGENT.as_bytes()));
    by_name || request.uri().path().starts_with(INTERNAL_PATHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_known_by_their_name_and_by_what_only_they_ask_for() {
        let is_of_a_node = |path: &str, agent: &str| {
            let request = Request::builder().uri(path).header(USER_AGENT, agent);
            is_of_a_node(&request.body(()).unwrap())
        };
        let replication = "/troupe.internal.v1.ReplicationService/ReplicatePartitions";
        let publish = "/troupe.v1.EventBusService/Publish";
        assert!(is_of_a_node(replication, "tonic/0.14"), "of a version before the name");
        assert!(is_of_a_node(publish, "troupe-node tonic/0.14"));
        assert!(!is_of_a_node(publish, "tonic/0.14"));
        assert!(!is_of_a_node(publish, "grpc-go/1.0 troupe-node"));
    }
}
