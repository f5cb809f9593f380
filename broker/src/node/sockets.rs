//! What a node listens on.

use super::progress::{Addresses, ListenerAddress};
use super::start_error::StartError;
use crate::NodeConfig;
use crate::config::listeners::{Listener, Listeners};
use crate::server::{self, Bound};
use std::net::{SocketAddr, TcpListener};

/// A listener for clients and brokers.
pub(super) struct GrpcListener {
    pub name: String,
    /// host:port that those are told who come by it.
    pub endpoint: String,
    address: SocketAddr,
    /// Until they are served.
    sockets: Option<Bound>,
}

impl GrpcListener {
    /// Until they are served.
    pub fn sockets(&self) -> &[TcpListener] {
        self.sockets.as_ref().map_or(&[], Bound::sockets)
    }

    pub fn take(&mut self) -> Option<Bound> {
        self.sockets.take()
    }
}

pub(super) struct Sockets {
    pub grpc: Vec<GrpcListener>,
    inter_broker: usize,
    /// For the other controllers and the brokers of a cluster.
    control: Option<Bound>,
    pub http: TcpListener,
    pub http_key: &'static str,
}

impl Sockets {
    /// The name of the listener by which nodes reach this one.
    pub fn inter_broker(&self) -> Option<String> {
        self.grpc.get(self.inter_broker).map(|listener| listener.name.clone())
    }

    pub fn bind(config: &NodeConfig) -> Result<Sockets, StartError> {
        let Listeners { grpc, inter_broker, controller, http } = config.listeners()?;
        let failed = |listener: &Listener| {
            let (address, key) = (format!("{}:{}", listener.host, listener.port), listener.key);
            move |source| StartError::Listen { address, key, source }
        };
        let bind = |listener: &Listener, count| {
            let bound = listener.resolve().and_then(|address| server::listen(address, count));
            bound.map_err(failed(listener))
        };
        let grpc = grpc.into_iter().map(|listener| {
            let bound = bind(&listener, config.shard_count())?;
            let address = bound.address;
            let endpoint = listener.advertised.unwrap_or_else(|| endpoint(address));
            Ok(GrpcListener { name: listener.name, endpoint, address, sockets: Some(bound) })
        });
        let grpc = grpc.collect::<Result<_, StartError>>()?;
        let control = controller.map(|listener| bind(&listener, 1)).transpose()?;
        let socket = http.resolve().and_then(TcpListener::bind).map_err(failed(&http))?;
        Ok(Sockets { grpc, inter_broker, control, http: socket, http_key: http.key })
    }

    pub fn take_control(&mut self) -> Option<Bound> {
        self.control.take()
    }

    /// host:port by which nodes reach this one; a controller only, where it listens.
    pub fn endpoint(&self) -> String {
        match self.grpc.get(self.inter_broker) {
            Some(listener) => listener.endpoint.clone(),
            None => self.control.as_ref().map_or_else(String::new, |bound| endpoint(bound.address)),
        }
    }

    /// Where the node is reached; a controller only, at its controller listener.
    pub fn addresses(&self, config: &NodeConfig, cluster_id: String) -> Addresses {
        let first = self.grpc.get(self.inter_broker).map(|listener| listener.address);
        let control = self.control.as_ref().map(|bound| bound.address);
        let named = |it: &GrpcListener| ListenerAddress {
            name: it.name.clone(),
            address: it.address,
            endpoint: it.endpoint.clone(),
        };
        Addresses {
            grpc: first.or(control).unwrap_or(config.listener),
            listeners: self.grpc.iter().map(named).collect(),
            http: self.http.local_addr().unwrap_or(config.http_listener),
            cluster_id,
        }
    }
}

/// An unspecified address means all of this machine's; clients are told the loopback one.
fn endpoint(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("127.0.0.1:{}", address.port()),
        false => address.to_string(),
    }
}
