//! How long a connection may do nothing.

use crate::NodeConfig;
use std::time::Duration;
use troupe_machines::connection::timeouts::Timeouts;

/// An HTTP/2 connection is asked for a sign of life after this silence, and has so long to give one.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What comes on top of both before one is ended that does not even take the end.
const KEEPALIVE_MARGIN: Duration = Duration::from_secs(5);

pub fn timeouts_of(config: &NodeConfig) -> Timeouts {
    let silent = KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT + KEEPALIVE_MARGIN;
    Timeouts {
        setup_ms: config.connection_setup_timeout.0,
        silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
        idle_ms: config.connections_max_idle.0,
        stall_ms: config.stream_max_stall.0,
    }
}
