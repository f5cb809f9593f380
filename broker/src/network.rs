//! How this node connects to others, and what is wrong with that where somebody wants it to be.
//!
//! ```text
//!  peers, replication, controllers ─► Network ─► tonic ─► FaultyStream ─► TcpStream
//!                                                              └─ asks ─► NetworkFaults: what holds for this node?
//! ```
//!
//! Promises: without `chaos.enable` connections are as tonic makes them, and nothing here is asked; with it, a read or
//! write costs one relaxed load more as long as nothing is wrong. What is held or late arrives whole and in order, as
//! from a system that sends again what was lost.
//! Never here: connections that others made to this node. Those are theirs: both ends have to be told.

mod delayed;
mod faults;
mod stream;

pub use faults::{Ailment, Directions, NetworkFault, NetworkFaults};

use http::Uri;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use stream::FaultyStream;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Error};
use troupe_proto::ids::NodeId;

/// See the module.
#[derive(Clone, Default)]
pub struct Network(Option<Arc<NetworkFaults>>);

impl Network {
    /// One that can be made ill.
    pub fn with_faults(faults: &Arc<NetworkFaults>) -> Self {
        Self(Some(Arc::clone(faults)))
    }

    /// A channel to a node, connected when it is first used and again when it breaks. None: nobody knows to whom.
    pub fn lazy(&self, node: Option<NodeId>, endpoint: &Endpoint) -> Channel {
        match self.0.clone().zip(node) {
            Some((faults, node)) => {
                endpoint.connect_with_connector_lazy(connector(faults, node, endpoint))
            }
            None => endpoint.connect_lazy(),
        }
    }

    /// The same, connected now.
    pub async fn connect(&self, node: NodeId, endpoint: &Endpoint) -> Result<Channel, Error> {
        match self.0.clone() {
            Some(faults) => {
                endpoint.connect_with_connector(connector(faults, node, endpoint)).await
            }
            None => endpoint.connect().await,
        }
    }
}

type Connecting = futures::future::BoxFuture<'static, io::Result<TokioIo<FaultyStream>>>;

fn connector(
    faults: Arc<NetworkFaults>,
    node: NodeId,
    endpoint: &Endpoint,
) -> impl tower::Service<Uri, Response = TokioIo<FaultyStream>, Error = io::Error, Future = Connecting>
+ Clone
+ Send
+ use<> {
    let patience = endpoint.get_connect_timeout();
    tower::service_fn(move |uri: Uri| -> Connecting {
        let faults = Arc::clone(&faults);
        Box::pin(async move {
            let connecting = connect(faults, node, uri);
            match patience {
                Some(patience) => tokio::time::timeout(patience, connecting)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                None => connecting.await,
            }
        })
    })
}

async fn connect(
    faults: Arc<NetworkFaults>,
    node: NodeId,
    uri: Uri,
) -> io::Result<TokioIo<FaultyStream>> {
    let greeting = faults.greeting(node).await;
    if greeting > Duration::ZERO {
        tokio::time::sleep(greeting).await;
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(FaultyStream::new(stream, node, faults)))
}

#[cfg(test)]
mod tests;
