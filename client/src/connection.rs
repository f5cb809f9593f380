//! Connections to nodes: one each for control calls, produce streams and fetch streams, so that bulk data
//! never stands in front of a heartbeat or a metadata call (DESIGN.md section 7).
//!
//! Promises: an error of [`Connections::open`] means that nothing was sent; a connection reported as
//! [`Connections::lost`] is not used again.

use crate::config::ClientConfig;
use crate::error::{ClientError, ConfigError, is_transport_failure, root_cause};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use troupe_proto::error::{Error as Refusal, ErrorCode};

/// What a stream may send before the reader takes something.
const STREAM_WINDOW: u32 = 8 << 20;
/// The same over all streams of a connection.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// The receiver's frame size decides how fast large messages travel (limits.md, part B).
const FRAME_SIZE: u32 = 1 << 20;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Control,
    Produce,
    Fetch,
}

/// Every connection of one client.
pub(crate) struct Connections {
    config: ClientConfig,
    open: Mutex<Open>,
}

struct Open {
    channels: HashMap<(Arc<str>, Purpose), Channel>,
    /// Where control calls go, first the configured ones, then those learned.
    servers: Vec<Arc<str>>,
    current: usize,
}

impl Connections {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, ClientError> {
        if config.servers.is_empty() {
            return Err(ClientError::Config(ConfigError::Value {
                setting: "servers",
                value: "[]".to_owned(),
                rule: "at least one host:port is needed",
            }));
        }
        let servers = config.servers.iter().map(|server| Arc::from(server.as_str())).collect();
        let open = Mutex::new(Open { channels: HashMap::new(), servers, current: 0 });
        Ok(Self { config, open })
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Where control calls go at the moment.
    pub(crate) fn current_server(&self) -> Arc<str> {
        let open = self.open.lock();
        open.servers[open.current].clone()
    }

    /// More nodes that can answer control calls.
    pub(crate) fn learn(&self, endpoints: impl IntoIterator<Item = Arc<str>>) {
        let mut open = self.open.lock();
        for endpoint in endpoints {
            if !open.servers.contains(&endpoint) {
                open.servers.push(endpoint);
            }
        }
    }

    /// The connection to a node, made now if there is none.
    pub(crate) async fn open(
        &self,
        server: &Arc<str>,
        purpose: Purpose,
    ) -> Result<Channel, ClientError> {
        let key = (server.clone(), purpose);
        if let Some(channel) = self.open.lock().channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = self.connect(server).await?;
        self.open.lock().channels.insert(key, channel.clone());
        Ok(channel)
    }

    /// The connection to a node, or, if its advertised address cannot be reached from here, to the server
    /// that this client was pointed at.
    pub(crate) async fn open_or_fall_back(
        &self,
        server: &Arc<str>,
        purpose: Purpose,
    ) -> Result<Channel, ClientError> {
        match self.open(server, purpose).await {
            Ok(channel) => Ok(channel),
            Err(error) => {
                let fallback = self.current_server();
                if *server == fallback {
                    return Err(error);
                }
                tracing::debug!(%server, %fallback, %error, "using the fallback server");
                self.open(&fallback, purpose).await.map_err(|_| error)
            }
        }
    }

    /// Forgets a connection that broke; control calls go to the next server.
    pub(crate) fn lost(&self, server: &Arc<str>, purpose: Purpose) {
        let mut open = self.open.lock();
        open.channels.remove(&(server.clone(), purpose));
        let is_current = open.servers[open.current] == *server;
        if purpose == Purpose::Control && is_current {
            open.current = (open.current + 1) % open.servers.len();
        }
    }

    /// A control connection to the first server that takes one, beginning with the current.
    pub(crate) async fn control(&self) -> Result<(Arc<str>, Channel), ClientError> {
        let attempts = self.open.lock().servers.len();
        let mut first_error = None;
        for _ in 0..attempts {
            let server = self.current_server();
            match self.open(&server, Purpose::Control).await {
                Ok(channel) => return Ok((server, channel)),
                Err(error) => {
                    self.lost(&server, Purpose::Control);
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.expect("there is at least one server"))
    }

    /// A control call. `repeatable`: a second try does no harm, so a connection that breaks is answered by
    /// asking the next server; otherwise the caller is told that the outcome is unknown.
    pub(crate) async fn call<T, F>(
        &self,
        repeatable: bool,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempts = self.open.lock().servers.len() + 1;
        loop {
            let (server, channel) = self.control().await?;
            attempts -= 1;
            let status =
                match tokio::time::timeout(self.config.request_timeout, call(channel)).await {
                    Ok(Ok(response)) => return Ok(response.into_inner()),
                    Ok(Err(status)) => status,
                    Err(_) => return Err(timed_out(&server, self.config.request_timeout)),
                };
            let broken = is_transport_failure(&status);
            if broken {
                self.lost(&server, Purpose::Control);
            }
            if !(broken && repeatable && attempts > 0) {
                return Err(status.into());
            }
        }
    }

    async fn connect(&self, server: &str) -> Result<Channel, ClientError> {
        let endpoint = Endpoint::from_shared(format!("http://{server}"))
            .map_err(|error| cannot_connect(server, &error))?;
        endpoint
            .connect_timeout(self.config.connect_timeout)
            .tcp_nodelay(true)
            .max_frame_size(FRAME_SIZE)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(self.config.keepalive_interval)
            .keep_alive_timeout(self.config.keepalive_interval)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| cannot_connect(server, &error))
    }
}

fn cannot_connect(server: &str, error: &tonic::transport::Error) -> ClientError {
    let cause = root_cause(error).unwrap_or_else(|| error.to_string());
    let refused = cause == std::io::ErrorKind::ConnectionRefused.to_string();
    let hint = if refused { "; is `troupe dev` running?" } else { "" };
    ClientError::CannotConnect { server: server.to_owned(), cause, hint }
}

fn timed_out(server: &str, after: Duration) -> ClientError {
    ClientError::Refused(Refusal::new(
        ErrorCode::RequestTimedOut,
        format!("{server} did not answer within {} ms", after.as_millis()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_says_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        drop(listener);
        let connections = Connections::new(ClientConfig::new([&server])).unwrap();
        let error = connections.control().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot connect to {server}: connection refused; is `troupe dev` running?")
        );
        assert!(error.is_retriable() && error.surely_not_done());
    }

    #[test]
    fn a_client_needs_a_server() {
        assert!(Connections::new(ClientConfig::new([] as [&str; 0])).is_err());
    }
}
