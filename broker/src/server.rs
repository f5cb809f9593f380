//! The gRPC server: one listener and one HTTP/2 server on each shard, all on the same port.

use crate::address_book::AddressBook;
use crate::connections::{Connections, Protocol, accept, serve_http2};
use crate::forward::Punctual;
use crate::grpc::{BrokerServices, ControllerServices, Counted, Intake, IntakeLayer, Redirects};
use crate::metrics::CallMetrics;
use actix::Arbiter;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer;

const BACKLOG: i32 = 1024;

/// What serves a call of any listener.
type Served = Counted<Punctual<Intake<Redirects<Routes>>>>;

/// On which every listener serves.
#[derive(Clone)]
pub struct Terms {
    pub intake: IntakeLayer,
    pub calls: Arc<CallMetrics>,
    pub stop: CancellationToken,
}

/// Why a listener does not serve.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sockets that share one address; the kernel spreads connections over them.
pub struct Bound {
    pub address: SocketAddr,
    sockets: Vec<TcpListener>,
}

impl Bound {
    pub fn sockets(&self) -> &[TcpListener] {
        &self.sockets
    }
}

/// Binds `count` sockets to the same address.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Bound> {
    if address.port() != 0 {
        // Sharing an address works between processes too: make sure that nobody else has it.
        drop(TcpListener::bind(address)?);
    }
    let first = bind_shared(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind_shared(address)?);
    }
    Ok(Bound { address, sockets })
}

fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(IpProtocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves a broker's services on every shard, until `stop`; each receiver resolves when its shard's connections have
/// ended.
pub fn serve(
    services: &BrokerServices,
    connections: &Arc<Connections>,
    listeners: Bound,
    shards: &[Arbiter],
    terms: &Terms,
) -> Vec<oneshot::Receiver<()>> {
    let mut servers = Vec::with_capacity(shards.len());
    for (listener, shard) in listeners.sockets.into_iter().zip(shards) {
        let (ended, server) = oneshot::channel();
        let (services, connections) = (services.clone(), Arc::clone(connections));
        let terms = terms.clone();
        shard.spawn(async move {
            let served = match services.routes() {
                Ok(routes) => {
                    let served = layered(&terms, routes, services.addresses);
                    serve_on(listener, connections, served, terms.stop).await
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = served {
                tracing::error!(%error, "a listener stopped");
            }
            // Nobody waits if the node is gone.
            let _ = ended.send(());
        });
        servers.push(server);
    }
    servers
}

/// Serves a controller's services on a thread of its own, until `stop`.
pub fn serve_control(
    services: &ControllerServices,
    connections: &Arc<Connections>,
    listeners: Bound,
    thread: &Arbiter,
    terms: &Terms,
) {
    for listener in listeners.sockets {
        let (services, connections) = (services.clone(), Arc::clone(connections));
        let terms = terms.clone();
        thread.spawn(async move {
            let served = match services.routes() {
                Ok(routes) => {
                    let served = layered(&terms, routes, services.addresses);
                    serve_on(listener, connections, served, terms.stop).await
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the controller listener stopped");
            }
        });
    }
}

/// What every call of a listener passes first.
fn layered(terms: &Terms, routes: Routes, addresses: AddressBook) -> Served {
    let answering = terms.intake.layer(Redirects::new(routes.prepare(), addresses));
    Counted::new(Punctual::new(answering), Arc::clone(&terms.calls))
}

async fn serve_on(
    listener: TcpListener,
    connections: Arc<Connections>,
    routes: Served,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let stopped = stop.clone();
    let serve = move |stream, slot| serve_http2(slot, stream, routes.clone(), stopped.clone());
    accept(listener, connections, Protocol::Http2, stop, serve).await?;
    Ok(())
}
