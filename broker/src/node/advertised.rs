//! The address that others are told, tried out once: whoever is sent there should arrive.

use crate::NodeConfig;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

/// Tells what cannot be reached from here, where it should be easiest. It may be right all the same: some networks
/// do not lead back to where a call comes from.
pub(super) async fn try_out(endpoint: String) {
    let reached = timeout(PATIENCE, TcpStream::connect(&endpoint)).await;
    let cause = match reached {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    tracing::warn!(
        advertised = endpoint,
        cause,
        "advertised.listener cannot be reached from this node: clients and other nodes, which are told to use it, may \
         not reach it either"
    );
}

/// Everything about the configuration that works and is most likely not meant.
pub(super) fn tell_doubts(config: &NodeConfig) {
    for doubt in config.doubts() {
        tracing::warn!("{doubt}");
    }
}
