//! Connections to nodes: one each for control calls, produce streams and fetch streams, so that bulk data
//! never stands in front of a heartbeat or a metadata call (DESIGN.md section 7).
//!
//! Promises: an error of [`Connections::open`] means that nothing was sent; a connection reported as
//! [`Connections::lost`] is not used again.

use crate::config::ClientConfig;
use crate::error::{ClientError, ConfigError, is_transport_failure, never_left, root_cause};
use crate::wait::observed;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use troupe_proto::error::{Error as Refusal, ErrorCode};

/// What a stream may send before the reader takes something.
const STREAM_WINDOW: u32 = 8 << 20;
/// The same over all streams of a connection.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// The receiver's frame size decides how fast large messages travel (limits.md, part B).
const FRAME_SIZE: u32 = 1 << 20;

/// How long a call that only the active controller can serve waits for one.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(5);
/// Between two servers that refuse such a call.
const CONTROLLER_PAUSE: Duration = Duration::from_millis(50);

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
    /// Nodes of the cluster, as far as they are known.
    nodes: usize,
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
        let open = Open { channels: HashMap::new(), servers, current: 0, nodes: 0 };
        Ok(Self { config, open: Mutex::new(open) })
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Where control calls go at the moment.
    pub(crate) fn current_server(&self) -> Arc<str> {
        let open = self.open.lock();
        open.servers[open.current].clone()
    }

    /// Where the nodes are: those that are alive can answer control calls, the others are not asked. Where one
    /// was before is forgotten, unless this client was pointed at it or speaks with it.
    pub(crate) fn learn(&self, mut alive: Vec<Arc<str>>, fenced: &[Arc<str>]) {
        alive.sort();
        let configured = || self.config.servers.iter().map(|server| Arc::from(server.as_str()));
        let mut open = self.open.lock();
        open.nodes = alive.len() + fenced.len();
        let current = open.servers[open.current].clone();
        let mut servers: Vec<Arc<str>> = Vec::new();
        for server in configured().chain(alive).chain([current.clone()]) {
            if !servers.contains(&server) && !fenced.contains(&server) {
                servers.push(server);
            }
        }
        if servers.is_empty() {
            servers.extend(configured());
        }
        open.current = servers.iter().position(|server| *server == current).unwrap_or(0);
        open.servers = servers;
    }

    /// More than one node is known: one of them may lag behind another.
    pub(crate) fn is_cluster(&self) -> bool {
        self.open.lock().nodes > 1
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
        let channel = self.connect(server, purpose).await?;
        self.open.lock().channels.insert(key, channel.clone());
        Ok(channel)
    }

    /// The connection to a node, or, if it is the only one and its advertised address cannot be reached from
    /// here, to the server that this client was pointed at. One of several is down: nobody stands in for it.
    pub(crate) async fn open_or_fall_back(
        &self,
        server: &Arc<str>,
        purpose: Purpose,
    ) -> Result<Channel, ClientError> {
        match self.open(server, purpose).await {
            Ok(channel) => Ok(channel),
            Err(error) => {
                let fallback = self.current_server();
                if *server == fallback || self.is_cluster() {
                    return Err(error);
                }
                tracing::debug!(%server, %fallback, %error, "using the fallback server");
                self.open(&fallback, purpose).await.map_err(|_| error)
            }
        }
    }

    /// Forgets a connection that broke; control calls go to the next server.
    pub(crate) fn lost(&self, server: &Arc<str>, purpose: Purpose) {
        self.open.lock().channels.remove(&(server.clone(), purpose));
        if purpose == Purpose::Control {
            self.pass_over(server);
        }
    }

    /// Control calls go to the next server: this one answers, but not with what is asked for.
    pub(crate) fn pass_over(&self, server: &Arc<str>) {
        let mut open = self.open.lock();
        if open.servers[open.current] == *server {
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
    /// asking the next server. Otherwise that is done only if nothing was sent; if something was, the
    /// caller is told that the outcome is unknown.
    pub(crate) async fn call<T, F>(
        &self,
        repeatable: bool,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let server = || self.current_server().to_string();
        let call = self.call_in_turn(repeatable, call);
        observed(self.config.wait_observer.as_ref(), server, call).await
    }

    async fn call_in_turn<T, F>(
        &self,
        repeatable: bool,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempts = self.open.lock().servers.len() + 1;
        let patience = Instant::now() + CONTROLLER_PATIENCE.min(self.config.request_timeout);
        loop {
            let (server, channel) = self.control().await?;
            attempts = attempts.saturating_sub(1);
            let status =
                match tokio::time::timeout(self.config.request_timeout, call(channel)).await {
                    Ok(Ok(response)) => return Ok(response.into_inner()),
                    Ok(Err(status)) => status,
                    Err(_) => return Err(timed_out(&server, self.config.request_timeout)),
                };
            if is_transport_failure(&status) {
                self.lost(&server, Purpose::Control);
                if attempts == 0 || !(repeatable || never_left(&status)) {
                    return Err(status.into());
                }
                continue;
            }
            let error = ClientError::from(status);
            self.pass_on(&server, &error, attempts, patience).await.ok_or(error)?;
        }
    }

    /// A control call to one node: nobody else can answer it.
    pub(crate) async fn call_at<T>(
        &self,
        server: &Arc<str>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        let call = tokio::time::timeout(self.config.request_timeout, call);
        let observer = self.config.wait_observer.as_ref();
        match observed(observer, || server.to_string(), call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                if is_transport_failure(&status) {
                    self.lost(server, Purpose::Control);
                }
                Err(status.into())
            }
            Err(_) => Err(timed_out(server, self.config.request_timeout)),
        }
    }

    /// Whether the next server may do what this one refused, after a pause if that is needed. None: it is the
    /// answer.
    async fn pass_on(
        &self,
        server: &Arc<str>,
        error: &ClientError,
        attempts: usize,
        patience: Instant,
    ) -> Option<()> {
        match error.reason() {
            ErrorCode::ShuttingDown if attempts > 0 => self.pass_over(server),
            // An election of controllers; or this node alone does not reach them.
            ErrorCode::NotController if Instant::now() < patience => {
                self.pass_over(server);
                tokio::time::sleep(CONTROLLER_PAUSE).await;
            }
            _ => return None,
        }
        Some(())
    }

    async fn connect(&self, server: &str, purpose: Purpose) -> Result<Channel, ClientError> {
        let keepalive = match purpose {
            Purpose::Control => self.config.control_keepalive_interval,
            Purpose::Produce | Purpose::Fetch => self.config.keepalive_interval,
        };
        let endpoint = Endpoint::from_shared(format!("http://{server}"))
            .map_err(|error| cannot_connect(server, &error))?;
        endpoint
            .connect_timeout(self.config.connect_timeout)
            .tcp_nodelay(true)
            .max_frame_size(FRAME_SIZE)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(keepalive)
            .keep_alive_timeout(keepalive)
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
    fn nodes_are_tried_in_turn_and_forgotten_where_they_are_no_more() {
        let connections = Connections::new(ClientConfig::new(["a:1"])).unwrap();
        assert!(!connections.is_cluster());
        connections.learn(vec!["c:1".into(), "b:1".into()], &[]);
        assert!(connections.is_cluster());
        connections.lost(&"b:1".into(), Purpose::Control);
        assert_eq!(&*connections.current_server(), "a:1", "it was not asked");
        connections.lost(&"a:1".into(), Purpose::Control);
        connections.lost(&"b:1".into(), Purpose::Control);
        assert_eq!(&*connections.current_server(), "c:1");
        connections.learn(vec!["b:2".into()], &[]);
        assert_eq!(&*connections.current_server(), "c:1", "we speak with it");
        connections.pass_over(&"c:1".into());
        let servers: Vec<_> = (0..3)
            .map(|_| {
                let server = connections.current_server();
                connections.pass_over(&server);
                server.to_string()
            })
            .collect();
        assert_eq!(servers, ["a:1", "b:2", "c:1"]);
        connections.learn(vec!["b:2".into(), "c:1".into()], &["a:1".into()]);
        connections.pass_over(&"b:2".into());
        connections.pass_over(&"c:1".into());
        assert_eq!(&*connections.current_server(), "b:2", "nobody asks one that is dead");
    }

    fn broken(kind: std::io::ErrorKind) -> Status {
        Status::from_error(Box::new(std::io::Error::from(kind)))
    }

    fn refused(code: ErrorCode) -> Status {
        Refusal::new(code, "as the test wants").into()
    }

    /// What a call comes to whose first attempt comes to this, and where each attempt went.
    async fn called(repeatable: bool, first: Status) -> (Result<u32, ErrorCode>, Vec<String>) {
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [bind(), bind()];
        let servers = listeners.each_ref().map(|one| one.local_addr().unwrap().to_string());
        let connections = Connections::new(ClientConfig::new(servers.clone())).unwrap();
        let asked = Mutex::new(Vec::new());
        let call = |_| {
            let mut asked = asked.lock();
            asked.push(connections.current_server().to_string());
            let answer = match asked.len() {
                1 => Err(first.clone()),
                attempts => Ok(Response::new(attempts as u32)),
            };
            std::future::ready(answer)
        };
        let result = connections.call(repeatable, call).await.map_err(|error| error.reason());
        let place = |server| servers.iter().position(|one| *one == server).unwrap();
        let asked = asked.into_inner().into_iter().map(|server| format!("{}", place(server)));
        (result, asked.collect())
    }

    #[tokio::test]
    async fn a_call_that_reached_nobody_goes_to_the_next_server() {
        use std::io::ErrorKind::{BrokenPipe, ConnectionRefused};
        let unknown = Err(ErrorCode::OutcomeUnknown);
        let cases = [
            (false, broken(ConnectionRefused), Ok(2), "01"),
            (false, broken(BrokenPipe), unknown, "0"),
            (true, broken(BrokenPipe), Ok(2), "01"),
            (false, refused(ErrorCode::NotController), Ok(2), "01"),
            (false, refused(ErrorCode::ShuttingDown), Ok(2), "01"),
            (true, refused(ErrorCode::UnknownTopic), Err(ErrorCode::UnknownTopic), "0"),
        ];
        for (repeatable, first, expected, servers) in cases {
            let (result, asked) = called(repeatable, first.clone()).await;
            assert_eq!((result, asked.concat()), (expected, servers.to_owned()), "{first:?}");
        }
    }

    #[test]
    fn a_client_needs_a_server() {
        assert!(Connections::new(ClientConfig::new([] as [&str; 0])).is_err());
    }
}
