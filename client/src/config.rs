//! How a client finds and talks to the cluster.

use crate::wait::WaitObserver;
use std::time::Duration;

/// Where the cluster is and how long to wait for it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of some nodes; tried in turn, the others are learned from them.
    pub servers: Vec<String>,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long a control call may take.
    pub request_timeout: Duration,
    /// Metadata older than this is asked for again (P22).
    pub metadata_max_age: Duration,
    /// Of topics that no producer of this client has sent to for so long, and no consumer or reader of its reads, nothing is
    /// kept and nothing followed (P22): the next record waits until the topic has been asked for. Default: 5 min.
    pub metadata_max_idle: Duration,
    /// Silent connections are probed this often; one that does not answer within as long again is broken.
    pub keepalive_interval: Duration,
    /// The same for the connection that tells of the cluster's changes: who follows a node that has stopped
    /// hears of no new leader until then.
    pub control_keepalive_interval: Duration,
    /// Is told of connections and control calls that take long.
    pub wait_observer: Option<WaitObserver>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            servers: vec!["127.0.0.1:7070".to_owned()],
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            metadata_max_age: Duration::from_secs(300),
            metadata_max_idle: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(10),
            control_keepalive_interval: Duration::from_secs(1),
            wait_observer: None,
        }
    }
}

impl ClientConfig {
    /// The defaults with these servers.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self { servers: servers.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}
