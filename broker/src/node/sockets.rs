//! What a node listens on.

use super::progress::Addresses;
use super::start_error::StartError;
use crate::NodeConfig;
use crate::server::{self, Listeners};
use std::net::TcpListener;

pub(super) struct Sockets {
    grpc: Option<Listeners>,
    /// For the other controllers and the brokers of a cluster.
    control: Option<Listeners>,
    pub http: TcpListener,
}

impl Sockets {
    pub fn bind(config: &NodeConfig) -> Result<Sockets, StartError> {
        let listen = |address, count, key| {
            server::listen(address, count).map_err(|source| StartError::Listen {
                address,
                key,
                source,
            })
        };
        let grpc = match config.is_broker() {
            true => Some(listen(config.listener, config.shard_count(), "listener")?),
            false => None,
        };
        let clustered = !config.controller_voters.trim().is_empty() && config.is_controller();
        let control = match clustered {
            true => Some(listen(config.controller_listener, 1, "controller.listener")?),
            false => None,
        };
        let http = TcpListener::bind(config.http_listener).map_err(|source| {
            StartError::Listen { address: config.http_listener, key: "http.listener", source }
        })?;
        Ok(Sockets { grpc, control, http })
    }

    pub fn take_grpc(&mut self) -> Option<Listeners> {
        self.grpc.take()
    }

    pub fn take_control(&mut self) -> Option<Listeners> {
        self.control.take()
    }

    /// Where the node is reached; a controller only, at its controller listener.
    pub fn addresses(&self, config: &NodeConfig, cluster_id: String) -> Addresses {
        let listeners = self.grpc.as_ref().or(self.control.as_ref());
        Addresses {
            grpc: listeners.map_or(config.listener, |listeners| listeners.address),
            http: self.http.local_addr().unwrap_or(config.http_listener),
            cluster_id,
        }
    }
}
