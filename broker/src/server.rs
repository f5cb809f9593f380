//! The gRPC server: one listener and one HTTP/2 server on each shard, all on the same port.

use crate::context::Context;
use crate::grpc::{IntakeLayer, Watched};
use crate::replication::ReplicationService;
use crate::service::{
    Chaos, Cluster, EventBus, Groups, LogService, Metadata, ThinService, Topics, health,
};
use actix::Arbiter;
use futures::StreamExt;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use troupe_controller::{ControllerEndpoint, RaftEndpoint};
use troupe_proto::admin::v1::cluster_service_server::ClusterServiceServer;
use troupe_proto::admin::v1::topic_service_server::TopicServiceServer;
use troupe_proto::chaos::v1alpha1::chaos_service_server::ChaosServiceServer;
use troupe_proto::log::v1::group_service_server::GroupServiceServer;
use troupe_proto::log::v1::metadata_service_server::MetadataServiceServer;
use troupe_proto::v1::event_bus_service_server::EventBusServiceServer;

/// The receiver's frame size is what makes large transfers fast: a batch of 1 MiB in one frame.
const MAX_FRAME_BYTES: u32 = (1 << 20) + (16 << 10);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const MAX_STREAMS_PER_CONNECTION: u32 = 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const BACKLOG: i32 = 1024;

/// Sockets that share one address; the kernel spreads connections over them.
pub struct Listeners {
    pub address: SocketAddr,
    sockets: Vec<TcpListener>,
}

/// Binds `count` sockets to the same address.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Listeners> {
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
    Ok(Listeners { address, sockets })
}

fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves on every shard; each receiver resolves when its shard's connections have ended.
pub fn serve(
    context: &Arc<Context>,
    listeners: Listeners,
    shards: &[Arbiter],
) -> Vec<oneshot::Receiver<()>> {
    let mut servers = Vec::with_capacity(shards.len());
    for (listener, shard) in listeners.sockets.into_iter().zip(shards) {
        let (ended, server) = oneshot::channel();
        let context = Arc::clone(context);
        shard.spawn(async move {
            if let Err(error) = serve_shard(context, listener).await {
                tracing::error!(%error, "a listener stopped");
            }
            // Nobody waits if the node is gone.
            let _ = ended.send(());
        });
        servers.push(server);
    }
    servers
}

/// Serves the controller listener on a thread of its own: the quorum, sessions, and what is forwarded here to be
/// decided.
pub fn serve_control(
    context: &Arc<Context>,
    listeners: Listeners,
    thread: &Arbiter,
    raft: RaftEndpoint,
    sessions: ControllerEndpoint,
) {
    for listener in listeners.sockets {
        let (context, raft, sessions) = (Arc::clone(context), raft.clone(), sessions.clone());
        thread.spawn(async move {
            let served = async {
                let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?)
                    .with_nodelay(Some(true));
                let gone = context.gone.clone();
                let mut routes = Routes::builder();
                admin_routes(&context, &mut routes).await?;
                routes.add_service(raft.into_service()).add_service(sessions.into_service());
                let max_request = context.config.max_request_bytes.0 as usize;
                let server =
                    builder().layer(IntakeLayer { max_request }).add_routes(routes.routes());
                server.serve_with_incoming_shutdown(incoming, gone.cancelled_owned()).await?;
                Ok::<_, Box<dyn std::error::Error>>(())
            };
            if let Err(error) = served.await {
                tracing::error!(%error, "the controller listener stopped");
            }
        });
    }
}

fn builder() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

async fn serve_shard(
    context: Arc<Context>,
    listener: TcpListener,
) -> Result<(), Box<dyn std::error::Error>> {
    let incoming =
        TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    let incoming = incoming.map(|accepted| accepted.map(Watched::new));
    let shutdown = context.shutdown.clone();
    let max_request = context.config.max_request_bytes.0 as usize;
    let routes = routes(context).await?;
    builder()
        .layer(IntakeLayer { max_request })
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await?;
    Ok(())
}

async fn routes(context: Arc<Context>) -> Result<Routes, Box<dyn std::error::Error>> {
    let max_request = context.config.max_request_bytes.0 as usize;
    let event_bus = EventBusServiceServer::new(EventBus::new(Arc::clone(&context)))
        .max_decoding_message_size(max_request);
    let mut routes = Routes::builder();
    admin_routes(&context, &mut routes).await?;
    routes
        .add_service(ThinService::new(Arc::clone(&context), event_bus))
        .add_service(GroupServiceServer::new(Groups::new(Arc::clone(&context))))
        .add_service(LogService::new(Arc::clone(&context)))
        .add_service(ReplicationService::new(context));
    Ok(routes.routes())
}

/// What every listener serves.
async fn admin_routes(
    context: &Arc<Context>,
    routes: &mut RoutesBuilder,
) -> Result<(), Box<dyn std::error::Error>> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(troupe_proto::FILE_DESCRIPTOR_SET)
            // What errors carry: without it nobody could print their details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    routes
        .add_service(health(context))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(MetadataServiceServer::new(Metadata::new(Arc::clone(context))))
        .add_service(TopicServiceServer::new(Topics::new(Arc::clone(context))))
        .add_service(ClusterServiceServer::new(Cluster::new(Arc::clone(context))))
        .add_service(ChaosServiceServer::new(Chaos::new(Arc::clone(context))));
    Ok(())
}
