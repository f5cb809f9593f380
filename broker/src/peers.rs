//! Connections to other nodes: to each broker one each for control calls, produce streams and fetch streams, so
//! that none of them stands in front of another.
//!
//! Promise: a connection that breaks is made again when it is next used.

use crate::forward::Links;
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status};
use troupe_proto::error::{Error, ErrorCode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// A batch of 1 MiB in one frame.
const MAX_FRAME_BYTES: u32 = (1 << 20) + (16 << 10);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Control,
    Produce,
    Fetch,
    /// One of several for memberships of groups: each is a stream as long as it lasts, and a connection carries
    /// only so many.
    Members(u8),
}

/// Connections to the brokers of the cluster, by their endpoints.
#[derive(Default)]
pub struct Peers {
    channels: Mutex<HashMap<(String, Purpose), Channel>>,
    /// Streams of batches on these connections.
    pub links: Links,
}

impl Peers {
    /// The connection to a broker, which is made when it is first used. When a new one is needed, those for
    /// which `is_there` says no are closed.
    pub fn channel(
        &self,
        endpoint: &str,
        purpose: Purpose,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Channel, Error> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (endpoint.to_owned(), purpose);
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = lazy_channel(endpoint)?;
        channels.retain(|(endpoint, _), _| is_there(endpoint));
        channels.insert(key, channel.clone());
        Ok(channel)
    }
}

/// Whether a call failed before anything of it was sent: no connection could be made.
pub fn was_not_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a failed call to another node means. `unreachable`: if no connection could be made, and so nothing was
/// sent.
pub fn failure(status: Status, unreachable: ErrorCode) -> Error {
    if was_not_sent(&status) {
        let message = format!("the node cannot be reached: {}", status.message());
        return Error::new(unreachable, message);
    }
    Error::from(status)
}

/// A connection to `host:port`, made when it is first used and again when it breaks.
pub fn lazy_channel(address: &str) -> Result<Channel, Error> {
    Ok(endpoint(address)?.connect_lazy())
}

/// A connection to `host:port` for one bulk stream, made now.
///
/// # Errors
/// `LEADER_NOT_AVAILABLE`: nobody listens there, or nobody answers in time.
pub async fn connect_bulk(address: &str) -> Result<Channel, Error> {
    endpoint(address)?.connect().await.map_err(|error| {
        let message = format!("cannot connect to {address}: {error}");
        Error::new(ErrorCode::LeaderNotAvailable, message)
    })
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
        let message = format!("`{address}` is no address of a node: {error}");
        Error::new(ErrorCode::InvalidRequest, message)
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES))
}
