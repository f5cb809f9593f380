//! The life of a node, from its first thread to its last.

use super::reconcile::{Reconciler, retire};
use super::{Addresses, StartError};
use crate::context::{Context, ProducerIds};
use crate::control::{Control, Identity};
use crate::metrics::NodeMetrics;
use crate::partition::{Flusher, Supervisor};
use crate::peers::Peers;
use crate::registry::Registry;
use crate::{NodeConfig, http, server};
use actix::{Actor, Arbiter, System};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use troupe_controller::{Controller, ControllerConfig, ControllerHandle};
use troupe_log::{DataDirectory, MetaProperties};
use troupe_machines::cluster::{ClusterPolicy, RegisterBroker};
use troupe_proto::ids::NodeId;

/// Logs that are recovered at the same time.
const RECOVERIES: usize = 4;
/// Longest wait for connections at a stop. What was asked is answered by then; what keeps a connection open is
/// a client that does not read, and for that the logs do not wait: whoever stops us may lose patience.
const DRAIN: Duration = Duration::from_secs(5);

/// Where in the data directory the controller keeps its log.
const METADATA_DIR: &str = "metadata";

type Started = mpsc::SyncSender<Result<Addresses, StartError>>;

/// Runs the node on this thread until `stop` is cancelled.
pub(super) fn run(
    config: NodeConfig,
    directory: DataDirectory,
    stop: CancellationToken,
    started: Started,
) {
    let system = System::new();
    system.block_on(async move {
        match start(config, directory).await {
            Ok(parts) => {
                // Whoever started the node may have given up.
                let _ = started.send(Ok(parts.addresses.clone()));
                stop.cancelled().await;
                parts.stop().await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
        System::current().stop();
    });
}

/// What is stopped in the end.
struct Parts {
    addresses: Addresses,
    context: Arc<Context>,
    shards: Vec<Arbiter>,
    servers: Vec<oneshot::Receiver<()>>,
    /// Holds the lock until everything is closed.
    _directory: Arc<DataDirectory>,
}

async fn start(config: NodeConfig, directory: DataDirectory) -> Result<Parts, StartError> {
    let directory = Arc::new(directory);
    let listeners = server::listen(config.listener, config.shard_count()).map_err(|source| {
        StartError::Listen { address: config.listener, key: "listener", source }
    })?;
    let grpc = listeners.address;
    let http_error =
        |source| StartError::Listen { address: config.http_listener, key: "http.listener", source };
    let http_listener = TcpListener::bind(config.http_listener).map_err(http_error)?;
    let http = http_listener.local_addr().map_err(http_error)?;

    let node_id = NodeId(config.node_id);
    let controller = start_controller(&config, node_id).await?;
    let sockets = Sockets { listeners, grpc, http_listener, http };
    let started = start_beside(controller.clone(), config, directory, sockets).await;
    if started.is_err() {
        // The error at hand says more than one of closing would.
        let _ = controller.shutdown().await;
    }
    started
}

/// What the node listens on.
struct Sockets {
    listeners: server::Listeners,
    grpc: SocketAddr,
    http_listener: TcpListener,
    http: SocketAddr,
}

/// Everything but the controller.
async fn start_beside(
    controller: ControllerHandle,
    config: NodeConfig,
    directory: Arc<DataDirectory>,
    sockets: Sockets,
) -> Result<Parts, StartError> {
    let Sockets { listeners, grpc, http_listener, http } = sockets;
    let node_id = NodeId(config.node_id);
    let image = controller.image();
    let cluster_id = image.borrow().cluster_id().unwrap_or_default().to_owned();
    directory.check_meta(&MetaProperties { cluster_id: cluster_id.clone(), node_id })?;

    // Unknown topics' directories are leftovers of deletions, and deleted. Beside lost metadata that would be
    // everything.
    let is_new = image.borrow().brokers().next().is_none();
    let partitions = if is_new { directory.partitions()?.len() } else { 0 };
    if partitions > 0 {
        let metadata = config.log_dir.join(METADATA_DIR);
        return Err(StartError::ForeignPartitions { metadata, count: partitions });
    }

    let endpoint = advertised(&config.advertised_listener, grpc);
    let registration = RegisterBroker {
        node_id,
        incarnation: *uuid::Uuid::new_v4().as_bytes(),
        cluster_id: Some(cluster_id.clone()),
        endpoint: endpoint.clone(),
        http_endpoint: http.to_string(),
        rack: None,
    };
    let broker_epoch =
        controller.register_broker(registration).await.map_err(StartError::Register)?;
    let identity = Identity { cluster_id: cluster_id.clone(), node_id, broker_epoch };
    let control = Control::new(Some(controller), Vec::new(), identity);

    let metrics = Arc::new(NodeMetrics::new(config.node_id));
    let flusher = Flusher::start(config.flush_threads).map_err(StartError::Thread)?;
    let recoveries = Arc::new(Semaphore::new(RECOVERIES));
    let shards: Vec<Arbiter> = (0..config.shard_count())
        .map(|_| Arbiter::try_new().map_err(StartError::Thread))
        .collect::<Result<_, _>>()?;
    let supervisors = shards
        .iter()
        .map(|shard| {
            let supervisor = Supervisor::new(
                node_id,
                Arc::clone(&recoveries),
                flusher.clone(),
                Arc::clone(&metrics),
                &config,
            );
            Supervisor::start_in_arbiter(&shard.handle(), |_| supervisor)
        })
        .collect();
    let context = Arc::new(Context {
        config,
        node_id,
        endpoint,
        control,
        image: image.clone(),
        registry: Registry::default(),
        supervisors,
        metrics,
        producer_ids: ProducerIds::default(),
        peers: Peers::default(),
        shutdown: CancellationToken::new(),
    });

    let reconciler = Reconciler::new(Arc::clone(&context), Arc::clone(&directory));
    let mut images = image;
    let first = images.borrow_and_update().clone();
    reconciler.clear_leftovers(&first)?;
    reconciler.apply(&first).await;
    actix_rt::spawn(reconciler.run(images));

    let servers = server::serve(&context, listeners, &shards);
    http::serve(&context, http_listener).map_err(http_error_of(http))?;
    let addresses = Addresses { grpc, http, cluster_id };
    Ok(Parts { addresses, context, shards, servers, _directory: directory })
}

fn http_error_of(address: SocketAddr) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::Listen { address, key: "http.listener", source }
}

async fn start_controller(
    config: &NodeConfig,
    node_id: NodeId,
) -> Result<ControllerHandle, StartError> {
    let path = config.log_dir.join(METADATA_DIR);
    let mut controller = ControllerConfig::new(node_id, path.clone());
    controller.cluster_id = Some(config.cluster_id.clone()).filter(|id| !id.is_empty());
    controller.policy = ClusterPolicy {
        num_partitions: config.num_partitions,
        default_replication_factor: config.default_replication_factor,
        delete_topic_enable: config.delete_topic,
    };
    Controller::start(controller).await.map_err(|source| StartError::Controller { path, source })
}

/// An unspecified address means all of this machine's; clients are told the loopback one.
fn advertised(configured: &str, listener: SocketAddr) -> String {
    if !configured.is_empty() {
        configured.to_owned()
    } else if listener.ip().is_unspecified() {
        format!("127.0.0.1:{}", listener.port())
    } else {
        listener.to_string()
    }
}

impl Parts {
    /// Streams are ended, then logs closed, then the controller, then the threads.
    async fn stop(self) {
        let context = self.context;
        context.shutdown.cancel();
        let patience = context.config.shutdown_timeout.duration();
        let drained = futures::future::join_all(self.servers);
        if tokio::time::timeout(patience.min(DRAIN), drained).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
        let handles: Vec<_> = context
            .registry
            .topics()
            .values()
            .flat_map(|topic| topic.replicas().cloned())
            .collect();
        if tokio::time::timeout(patience, retire(&context, &handles, false)).await.is_err() {
            tracing::warn!(
                "some partitions did not close in time; they are recovered at the next start"
            );
        }
        if let Some(controller) = context.control.local()
            && let Err(error) = controller.shutdown().await
        {
            tracing::warn!(%error, "the metadata log was not closed cleanly");
        }
        for shard in &self.shards {
            shard.stop();
        }
        for shard in self.shards {
            // A panic in it has been printed.
            let _ = shard.join();
        }
    }
}
