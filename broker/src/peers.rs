//! Connections to other nodes: to each broker one each for control calls and produce streams, and as many as it
//! takes for fetch streams and memberships, so that none of them stands in front of another.
//!
//! Promises: a connection that breaks is made again when it is next used; a stream that is there for long never
//! waits for another one's end.

use crate::network::Network;
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// What nodes call themselves to each other.
pub const NODE_AGENT: &str = "troupe-node";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// A batch of 1 MiB in one frame.
const MAX_FRAME_BYTES: u32 = (1 << 20) + (16 << 10);
/// Long streams on one connection; a node takes somewhat more, and those that have
/// just ended count until it knows.
const LONG_STREAMS: usize = 512;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Control,
    Produce,
    Fetch,
    Members,
}

/// Connections to the brokers of the cluster, by their endpoints.
pub struct Peers {
    /// Who is there: other connections are closed.
    image: watch::Receiver<Arc<ClusterImage>>,
    network: Network,
    channels: Mutex<HashMap<(String, Purpose), Vec<Lease>>>,
}

/// A connection with room for a stream, which is kept for it as long as this lives.
#[derive(Clone)]
pub struct Lease {
    pub channel: Channel,
    places: Arc<()>,
}

impl Lease {
    fn to(channel: Channel) -> Self {
        Self { channel, places: Arc::default() }
    }

    /// Those that were given out and live, when this is not one of them.
    fn streams(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }
}

impl Peers {
    pub fn new(image: watch::Receiver<Arc<ClusterImage>>, network: Network) -> Self {
        Self { image, network, channels: Mutex::default() }
    }

    /// The connection to a broker for calls that are soon over. Connections are made when they are first used; when
    /// a new one is needed, those to brokers that are there no more are closed.
    pub fn channel(&self, endpoint: &str, purpose: Purpose) -> Result<Channel, Error> {
        self.find(endpoint, purpose, |_| true).map(|lease| lease.channel)
    }

    /// A connection for a stream that is there for long. The same ones as of [`Peers::channel`], and more once they
    /// are full.
    pub fn lease(&self, endpoint: &str, purpose: Purpose) -> Result<Lease, Error> {
        self.find(endpoint, purpose, |lease| lease.streams() < LONG_STREAMS)
    }

    /// Connections that are kept.
    pub fn connections(&self) -> usize {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.values().map(Vec::len).sum()
    }

    fn find(
        &self,
        endpoint: &str,
        purpose: Purpose,
        has_room: impl Fn(&Lease) -> bool,
    ) -> Result<Lease, Error> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (endpoint.to_owned(), purpose);
        if let Some(open) = channels.get_mut(&key) {
            // Those that filled up once and are empty again.
            let end = open.iter().rposition(|lease| lease.streams() > 0).unwrap_or_default();
            open.truncate(end + 1);
            if let Some(lease) = open.iter().find(|lease| has_room(lease)) {
                return Ok(lease.clone());
            }
        }
        let image = self.image.borrow().clone();
        let node = image.brokers().find(|broker| broker.endpoint == endpoint);
        let node = node.map(|broker| broker.node_id);
        let lease = Lease::to(lazy_channel(&self.network, node, endpoint)?);
        let is_there = |endpoint: &str| image.brokers().any(|broker| broker.endpoint == endpoint);
        channels.retain(|(endpoint, _), _| is_there(endpoint));
        channels.entry(key).or_default().push(lease.clone());
        Ok(lease)
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

/// A connection to `host:port`, made when it is first used and again when it breaks. `node`: who is there, if that is
/// known.
pub fn lazy_channel(
    network: &Network,
    node: Option<NodeId>,
    address: &str,
) -> Result<Channel, Error> {
    Ok(network.lazy(node, &endpoint(address)?))
}

/// A connection to `host:port` for one bulk stream, made now.
///
/// # Errors
/// `LEADER_NOT_AVAILABLE`: nobody listens there, or nobody answers in time.
pub async fn connect_bulk(
    network: &Network,
    node: NodeId,
    address: &str,
) -> Result<Channel, Error> {
    network.connect(node, &endpoint(address)?).await.map_err(|error| {
        let message = format!("cannot connect to {address}: {error}");
        Error::new(ErrorCode::LeaderNotAvailable, message)
    })
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint =
        endpoint.and_then(|endpoint| endpoint.user_agent(NODE_AGENT)).map_err(|error| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::internal::v1::metadata_record::Record;
    use troupe_proto::internal::v1::{BrokerRecord, MetadataRecord};

    #[tokio::test]
    async fn streams_that_last_get_a_new_connection_once_the_others_are_full() {
        let broker = BrokerRecord {
            node_id: 2,
            incarnation_id: vec![1; 16].into(),
            endpoint: "127.0.0.1:1".to_owned(),
            ..Default::default()
        };
        let mut image = ClusterImage::default();
        image.replay_all(&[MetadataRecord { record: Some(Record::Broker(broker)) }]).unwrap();
        let peers = Peers::new(watch::Sender::new(Arc::new(image)).subscribe(), Network::default());
        let lease = || peers.lease("127.0.0.1:1", Purpose::Fetch).unwrap();
        let first = lease();
        let mut full: Vec<Lease> = (1..LONG_STREAMS).map(|_| lease()).collect();
        assert!(full.iter().all(|lease| Arc::ptr_eq(&lease.places, &first.places)));
        let second = lease();
        assert!(!Arc::ptr_eq(&second.places, &first.places));
        // A place that has become free is taken first.
        full.pop();
        let again = lease();
        assert!(Arc::ptr_eq(&again.places, &first.places));
        let connections = || peers.channels.lock().unwrap().values().map(Vec::len).sum::<usize>();
        assert_eq!(connections(), 2);
        // An empty one is closed.
        drop((second, again));
        lease();
        assert_eq!(connections(), 1);
    }
}
