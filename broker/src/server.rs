//! The gRPC server: one listener and one HTTP/2 server on each shard, all on the same port.

use crate::connections::{Connections, Protocol, accept, serve_http2};
use crate::context::Context;
use crate::forward::Punctual;
use crate::grpc::{DeliveryDoor, EventBusDoor, Intake, IntakeLayer, TopicDoor};
use crate::operations::{Coordination, Handles, Subscriptions};
use crate::replication::ReplicationService;
use crate::service::{Chaos, Cluster, Commits, Groups, LogService, Metadata, health};
use actix::Arbiter;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tower::Layer;
use troupe_controller::{ControllerEndpoint, RaftEndpoint};
use troupe_proto::admin::v1::cluster_service_server::ClusterServiceServer;
use troupe_proto::admin::v1::topic_service_server::TopicServiceServer;
use troupe_proto::chaos::v1alpha1::chaos_service_server::ChaosServiceServer;
use troupe_proto::internal::v1::commit_service_server::CommitServiceServer;
use troupe_proto::log::v1::group_service_server::GroupServiceServer;
use troupe_proto::log::v1::metadata_service_server::MetadataServiceServer;
use troupe_proto::v1::event_bus_service_server::EventBusServiceServer;

const BACKLOG: i32 = 1024;

/// What serves a call of any listener.
pub type Served = Punctual<Intake<Routes>>;

/// Why a listener does not serve.
type Failure = Box<dyn std::error::Error + Send + Sync>;

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
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(IpProtocol::TCP))?;
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
    let connections = Connections::new("grpc", context);
    let mut servers = Vec::with_capacity(shards.len());
    for (listener, shard) in listeners.sockets.into_iter().zip(shards) {
        let (ended, server) = oneshot::channel();
        let (context, connections) = (Arc::clone(context), Arc::clone(&connections));
        shard.spawn(async move {
            let stop = context.shutdown.clone();
            let served = match routes(Arc::clone(&context)).await {
                Ok(routes) => serve_on(listener, connections, intake(&context, routes), stop).await,
                Err(error) => Err(error),
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

/// Serves the controller listener on a thread of its own: the quorum, sessions, and what is forwarded here to be
/// decided.
pub fn serve_control(
    context: &Arc<Context>,
    listeners: Listeners,
    thread: &Arbiter,
    raft: RaftEndpoint,
    sessions: ControllerEndpoint,
) {
    let connections = Connections::new("controller", context);
    for listener in listeners.sockets {
        let (context, raft, sessions) = (Arc::clone(context), raft.clone(), sessions.clone());
        let connections = Arc::clone(&connections);
        thread.spawn(async move {
            let served = async {
                let mut routes = Routes::builder();
                admin_routes(&context, &mut routes).await?;
                routes.add_service(raft.into_service()).add_service(sessions.into_service());
                let routes = intake(&context, routes.routes());
                serve_on(listener, connections, routes, context.gone.clone()).await
            };
            if let Err(error) = served.await {
                tracing::error!(%error, "the controller listener stopped");
            }
        });
    }
}

/// What every call of a listener passes first.
fn intake(context: &Context, routes: Routes) -> Served {
    let max_request = context.config.max_request_bytes.0 as usize;
    let arrival_ms = context.config.connection_setup_timeout.0;
    Punctual::new(IntakeLayer { max_request, arrival_ms }.layer(routes.prepare()))
}

async fn serve_on(
    listener: TcpListener,
    connections: Arc<Connections>,
    routes: Served,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let stopped = stop.clone();
    let serve = move |stream, guest| serve_http2(guest, stream, routes.clone(), stopped.clone());
    accept(listener, connections, Protocol::Http2, stop, serve).await?;
    Ok(())
}

async fn routes(context: Arc<Context>) -> Result<Routes, Failure> {
    let max_request = context.config.max_request_bytes.0 as usize;
    let event_bus = EventBusServiceServer::new(EventBusDoor::new(
        Arc::clone(&context.publish),
        Arc::clone(&context.settle),
        Arc::clone(&context.admission),
    ))
    .max_decoding_message_size(max_request);
    let subscriptions = Subscriptions::new(
        Handles {
            leaders: Arc::clone(&context.leaders),
            topic_lookup: Arc::clone(&context.topic_lookup),
            delivery: Arc::clone(&context.delivery),
            sessions: Arc::clone(&context.sessions),
            settle: Arc::clone(&context.settle),
            coordination: Coordination::new(Arc::clone(&context)),
        },
        Arc::clone(&context.pulls),
    );
    let deliveries = DeliveryDoor::new(
        Arc::clone(&context.tail),
        Arc::new(subscriptions),
        max_request,
        context.shutdown.clone(),
        event_bus,
    );
    let mut routes = Routes::builder();
    admin_routes(&context, &mut routes).await?;
    routes
        .add_service(deliveries)
        .add_service(GroupServiceServer::new(Groups::new(Arc::clone(&context))))
        .add_service(
            CommitServiceServer::new(Commits::new(Arc::clone(&context)))
                .max_decoding_message_size(max_request),
        )
        .add_service(LogService::new(Arc::clone(&context)))
        .add_service(ReplicationService::new(context));
    Ok(routes.routes())
}

/// What every listener serves.
async fn admin_routes(context: &Arc<Context>, routes: &mut RoutesBuilder) -> Result<(), Failure> {
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
        .add_service(TopicServiceServer::new(TopicDoor::new(Arc::clone(&context.topics))))
        .add_service(ClusterServiceServer::new(Cluster::new(Arc::clone(context))))
        .add_service(ChaosServiceServer::new(Chaos::new(Arc::clone(context))));
    Ok(())
}
