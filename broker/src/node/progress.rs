//! How far a node is, where it can be reached, and what it is told in the end.

use super::start_error::StartError;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A listener for clients and brokers, as it is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    pub name: String,
    pub address: SocketAddr,
    /// host:port that those are told who come by it.
    pub endpoint: String,
}

/// Where a node that started can be reached.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// By which nodes reach each other.
    pub grpc: SocketAddr,
    /// All for clients and brokers.
    pub listeners: Vec<ListenerAddress>,
    pub http: SocketAddr,
    pub cluster_id: String,
}

impl Addresses {
    /// What is told of the node, by the names of its listeners.
    pub fn advertised(&self) -> BTreeMap<String, String> {
        self.listeners.iter().map(|it| (it.name.clone(), it.endpoint.clone())).collect()
    }
}

/// How far a node is.
#[derive(Clone, Debug)]
pub enum Progress {
    Joining,
    Ready,
    Failed(Arc<StartError>),
}

/// What a node is told in the end.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub gracefully: CancellationToken,
    pub at_once: CancellationToken,
}

impl Ending {
    pub async fn begun(&self) {
        tokio::select! {
            () = self.gracefully.cancelled() => {}
            () = self.at_once.cancelled() => {}
        }
    }
}
