//! The life of a node, from its first thread to its last.
//!
//! A node alone serves when it has started. One of several has started when its listeners stand: it takes part in
//! the quorum at once, and serves clients when the cluster has taken it in.

use super::controllers::{ControlThread, Controllers, make_room};
use super::reconcile::{Reconciler, retire};
use super::session::Session;
use super::sockets::Sockets;
use super::{Addresses, Ending, Progress, StartError, advertised, owner, twin};
use crate::admission::Admission;
use crate::context::Context;
use crate::controller_channel::{ControllerChannel, Identity};
use crate::descriptors;
use crate::forward::{ActiveController, Clocks, Leaders};
use crate::groups::{self, Coordinators};
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::operations::{DeliveryPool, Publish, Sessions, Settle, Tail, TopicLookup, Topics};
use crate::partition::{Flusher, Shared, Supervisor};
use crate::peers::Peers;
use crate::registry::Registry;
use crate::replication::Replicator;
use crate::unpacker::Unpacker;
use crate::wishes::{WishQueue, wishes};
use crate::{NodeConfig, http, server};
use actix::{Actor, Arbiter, System};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use troupe_actor::{ActorState, StallDetector};
use troupe_controller::priority;
use troupe_log::{DataDirectory, Inventory, MetaProperties, Space};
use troupe_machines::cluster::{ClusterImage, RegisterBroker};
use troupe_proto::ids::{BrokerEpoch, NodeId};

/// Logs that are recovered at the same time.
const RECOVERIES: usize = 4;
/// How often it is looked whether a full disk has room again.
const LOOK_FOR_SPACE: Duration = Duration::from_secs(1);
/// Longest wait for connections at a stop. What was asked is answered by then; what keeps a connection open is
/// a client that does not read, and for that the logs do not wait: whoever stops us may lose patience.
const DRAIN: Duration = Duration::from_secs(5);

type Started = mpsc::SyncSender<Result<Addresses, StartError>>;

/// Runs the node on this thread until it is told to end.
pub(super) fn run(
    config: NodeConfig,
    directory: DataDirectory,
    ending: Ending,
    started: Started,
    progress: watch::Sender<Progress>,
) {
    let system = System::new();
    system.block_on(async move {
        match Parts::build(config, directory).await {
            Ok(mut parts) => {
                parts.run(&ending, started, &progress).await;
                if ending.at_once.is_cancelled() {
                    parts.abandon().await;
                } else {
                    parts.stop().await;
                }
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
        System::current().stop();
    });
}

/// Everything that a node consists of.
struct Parts {
    addresses: Addresses,
    context: Arc<Context>,
    controllers: Controllers,
    directory: Arc<DataDirectory>,
    inventory: Arc<Inventory>,
    space: Arc<Space>,
    shards: Vec<Arbiter>,
    servers: Vec<oneshot::Receiver<()>>,
    /// Until they are served.
    sockets: Option<Sockets>,
    wishes: Option<WishQueue>,
    control_thread: Option<ControlThread>,
    session: Option<Session>,
    /// The image of a broker without a controller of its own; kept open until its session begins.
    pushed_image: Option<watch::Sender<Arc<ClusterImage>>>,
}

impl Parts {
    async fn build(config: NodeConfig, directory: DataDirectory) -> Result<Parts, StartError> {
        let directory = Arc::new(directory);
        owner::check(&config, &directory)?;
        let mut sockets = Sockets::bind(&config)?;
        let node_id = NodeId(config.node_id);
        let space = Arc::new(Space::open(directory.path()));
        make_room(&space);
        if space.is_low() {
            space.clear_deleted();
        }
        let controllers = Controllers::start(&config, &directory, &space).await?;
        let pushed_image = watch::Sender::new(Arc::new(ClusterImage::default()));
        let image =
            controllers.handle().map_or_else(|| pushed_image.subscribe(), |handle| handle.image());
        let cluster_id = controllers.cluster_id();
        let stall_detector = Arc::new(match controllers.is_alone() {
            true => StallDetector::unlimited(),
            // Nobody is fenced for a shorter silence than twice that.
            false => StallDetector::new(config.session_timeout.duration() / 2),
        });
        let (wishes, wish_queue) = wishes();
        let metrics = Arc::new(NodeMetrics::new(config.node_id));
        let flusher = Flusher::start(config.flush_threads).map_err(StartError::Thread)?;
        let recoveries = Arc::new(Semaphore::new(RECOVERIES));
        let inventory = Arc::new(Inventory::open(directory.path()));
        let shard_count = if config.is_broker() { config.shard_count() } else { 0 };
        let shards: Vec<Arbiter> = (0..shard_count)
            .map(|_| Arbiter::try_new().map_err(StartError::Thread))
            .collect::<Result<_, _>>()?;
        for shard in &shards {
            shard.spawn(async { priority::after_decisions() });
        }
        let replicators: Vec<_> =
            (0..shard_count).map(|shard| Arc::new(Replicator::new(shard))).collect();
        let thread_stall_detectors: Vec<_> =
            (0..shard_count).map(|_| Arc::new(StallDetector::unlimited())).collect();
        let supervisors = shards
            .iter()
            .zip(&replicators)
            .zip(&thread_stall_detectors)
            .map(|((shard, replicator), detector)| {
                let shared = Shared {
                    node_id,
                    recoveries: Arc::clone(&recoveries),
                    flusher: flusher.clone(),
                    metrics: Arc::clone(&metrics),
                    wishes: wishes.clone(),
                    replicator: Arc::clone(replicator),
                    stall_detector: Arc::clone(&stall_detector),
                    thread_stall_detector: Arc::clone(detector),
                    lag_max_ms: config.replica_lag_time_max.0,
                    inventory: Arc::clone(&inventory),
                    space: Arc::clone(&space),
                };
                let config = config.clone();
                Supervisor::start_in_arbiter(&shard.handle(), move |_| {
                    Supervisor::new(shared, &config)
                })
            })
            .collect();
        let identity =
            Identity { cluster_id: cluster_id.clone(), node_id, broker_epoch: BrokerEpoch(0) };
        let voters = config.voters().map_err(StartError::Voters)?;
        let session_timeout_ms = config.session_timeout.0;
        let controller = Arc::new(ControllerChannel::new(
            controllers.handle().cloned(),
            voters,
            identity,
            session_timeout_ms,
        ));
        let addresses = sockets.addresses(&config, cluster_id);
        let unpack_memory = usize::try_from(config.unpack_memory.0).unwrap_or(usize::MAX);
        let shutdown = CancellationToken::new();
        let metadata = Arc::new(MetadataCache {
            node_id,
            image: image.clone(),
            registry: Registry::default(),
            has_replicas: config.is_broker(),
            shutdown: shutdown.clone(),
        });
        let admission = Admission::new(config.node_id);
        let peers = Arc::new(Peers::new(image.clone()));
        let unpacker = Arc::new(Unpacker::new(unpack_memory));
        let leaders = Arc::new(Leaders::new(
            Arc::clone(&metadata),
            Arc::clone(&peers),
            Arc::clone(&admission),
            unpacker,
        ));
        let clocks = Arc::new(Clocks::default());
        let creates_topics = config.auto_create_topics;
        let active_controller = Arc::new(ActiveController {
            channel: Arc::clone(&controller),
            metadata: Arc::clone(&metadata),
            clocks: Arc::clone(&clocks),
        });
        let topic_lookup = Arc::new(TopicLookup::new(
            Arc::clone(&metadata),
            Arc::clone(&active_controller),
            creates_topics,
        ));
        let (sessions, delivery) = (Arc::<Sessions>::default(), Arc::<DeliveryPool>::default());
        let context = Arc::new(Context {
            admission,
            endpoint: endpoint(&config.advertised_listener, addresses.grpc),
            config,
            node_id,
            controller,
            topics: Arc::new(Topics::new(Arc::clone(&metadata), Arc::clone(&active_controller))),
            settle: Arc::new(Settle::new(
                Arc::clone(&metadata),
                Arc::clone(&sessions),
                Arc::clone(&peers),
                Arc::clone(&clocks),
            )),
            tail: Arc::new(Tail::new(
                Arc::clone(&leaders),
                Arc::clone(&topic_lookup),
                Arc::clone(&delivery),
            )),
            publish: Arc::new(Publish::new(Arc::clone(&leaders), Arc::clone(&topic_lookup))),
            topic_lookup,
            active_controller,
            leaders,
            clocks,
            groups: Arc::new(Coordinators::new(node_id, image)),
            metadata,
            supervisors,
            thread_stall_detectors,
            replicators,
            metrics,
            producer_ids: Default::default(),
            peers,
            pulls: Default::default(),
            sessions,
            delivery,
            stall_detector,
            shutdown,
            gone: CancellationToken::new(),
        });
        for replicator in &context.replicators {
            replicator.attach(&context);
        }
        let control_thread = match controllers.is_alone() {
            true => None,
            false => Some(ControlThread::start(&context, &controllers, sockets.take_control())?),
        };
        Ok(Parts {
            addresses,
            context,
            controllers,
            directory,
            inventory,
            space,
            shards,
            servers: Vec::new(),
            sockets: Some(sockets),
            wishes: Some(wish_queue),
            control_thread,
            session: None,
            pushed_image: Some(pushed_image),
        })
    }

    /// Until the node is told to end.
    async fn run(&mut self, ending: &Ending, started: Started, progress: &watch::Sender<Progress>) {
        let alone = self.controllers.is_alone();
        let mut waiting = Some(started);
        if !alone && let Some(started) = waiting.take() {
            // Whoever started the node may have given up.
            let _ = started.send(Ok(self.addresses.clone()));
        }
        let failed = self.controllers.failed();
        tokio::pin!(failed);
        let joined = tokio::select! {
            joined = self.join() => joined,
            () = &mut failed => Err(StartError::MetadataLog),
            () = ending.begun() => return,
        };
        let error = match joined {
            Ok(()) => {
                progress.send_replace(Progress::Ready);
                if let Some(started) = waiting.take() {
                    let _ = started.send(Ok(self.addresses.clone()));
                }
                tokio::select! {
                    () = failed => StartError::MetadataLog,
                    () = ending.begun() => return,
                }
            }
            Err(error) => error,
        };
        match waiting {
            Some(started) => {
                let _ = started.send(Err(error));
            }
            None => {
                tracing::error!(%error, "the node cannot go on");
                progress.send_replace(Progress::Failed(Arc::new(error)));
            }
        }
    }

    /// Becomes a part of the cluster, and serves.
    async fn join(&mut self) -> Result<(), StartError> {
        let context = Arc::clone(&self.context);
        advertised::tell_doubts(&context);
        tokio::select! {
            known = self.controllers.await_cluster() => known?,
            error = twin::meet(&context) => return Err(StartError::Register(error)),
        }
        if !context.config.is_broker() {
            let images = context.metadata.image.clone();
            return self.serve_http(images).await;
        }
        let cluster_id = self.controllers.cluster_id();
        let meta = MetaProperties { cluster_id: cluster_id.clone(), node_id: context.node_id };
        self.directory.check_meta(&meta)?;
        self.addresses.cluster_id.clone_from(&cluster_id);
        context.controller.set_cluster_id(&cluster_id);
        self.check_foreign_partitions()?;
        if self.controllers.is_alone() {
            self.register_alone(&cluster_id).await?;
        } else if let Some(thread) = &self.control_thread {
            let pushed = self.pushed_image.take();
            let session =
                Session::begin(&context, &self.directory, thread, pushed, &self.addresses).await?;
            self.session = Some(session);
        }
        if let Some(queue) = self.wishes.take() {
            actix_rt::spawn(queue.run(Arc::clone(&context)));
        }

        let mut images = context.metadata.image.clone();
        let (directory, inventory) = (Arc::clone(&self.directory), Arc::clone(&self.inventory));
        let reconciler = Reconciler::new(Arc::clone(&context), directory, inventory);
        let first = images.borrow_and_update().clone();
        reconciler.clear_leftovers(&first)?;
        reconciler.apply(&first).await;
        self.check_descriptors();
        if let Some(sockets) = &mut self.sockets
            && let Some(listeners) = sockets.take_grpc()
        {
            self.servers = server::serve(&context, listeners, &self.shards);
        }
        self.serve_http(images.clone()).await?;
        if !context.config.advertised_listener.is_empty() {
            actix_rt::spawn(advertised::try_out(context.endpoint.clone()));
        }
        if let Some(session) = &self.session {
            session.ready_when_recovered(&context);
        }
        actix_rt::spawn(reconciler.run(images));
        actix_rt::spawn(watch_space(Arc::clone(&context), Arc::clone(&self.space)));
        let shards = self.shards.iter().map(Arbiter::handle).collect();
        actix_rt::spawn(groups::follow(context, shards));
        Ok(())
    }

    async fn serve_http(
        &mut self,
        _: watch::Receiver<Arc<ClusterImage>>,
    ) -> Result<(), StartError> {
        let Some(sockets) = self.sockets.take() else { return Ok(()) };
        let address = self.addresses.http;
        http::serve(&self.context, sockets.http).map_err(|source| StartError::Listen {
            address,
            key: "http.listener",
            source,
        })
    }

    /// Unknown topics' directories are leftovers of deletions, and deleted. Beside lost metadata that would be
    /// everything.
    fn check_foreign_partitions(&self) -> Result<(), StartError> {
        if !self.controllers.is_alone() {
            return Ok(());
        }
        let is_new = self.context.metadata.image.borrow().brokers().next().is_none();
        let partitions = if is_new { self.directory.partitions()?.len() } else { 0 };
        if partitions > 0 {
            let metadata = self.context.config.log_dir.join(super::METADATA_DIR);
            return Err(StartError::ForeignPartitions { metadata, count: partitions });
        }
        Ok(())
    }

    /// Says at the start what would show when all partitions are used at once.
    fn check_descriptors(&self) {
        let partitions = self.context.metadata.registry.replica_count();
        let (needed, limit) = (descriptors::needed_by(partitions), descriptors::limit());
        if limit < needed {
            tracing::warn!(
                limit,
                needed,
                "the process may open too few files for its {partitions} partitions: raise the limit (ulimit -n, \
                 LimitNOFILE); until then work on logs is put off when they run out, and hardly any connection is let in"
            );
        }
    }

    async fn register_alone(&self, cluster_id: &str) -> Result<(), StartError> {
        let context = &self.context;
        let registration = RegisterBroker {
            node_id: context.node_id,
            incarnation: *uuid::Uuid::new_v4().as_bytes(),
            cluster_id: Some(cluster_id.to_owned()),
            endpoint: context.endpoint.clone(),
            http_endpoint: self.addresses.http.to_string(),
            rack: Some(context.config.rack.clone()),
        };
        let controller = context.controller.here().map_err(StartError::Register)?;
        let broker_epoch =
            controller.register_broker(registration).await.map_err(StartError::Register)?;
        context.controller.set_broker_epoch(broker_epoch);
        Ok(())
    }
}

/// Takes records again when there is room, and keeps something for the next time.
async fn watch_space(context: Arc<Context>, space: Arc<Space>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_FOR_SPACE) => {}
            () = context.gone.cancelled() => return,
        }
        let look = Arc::clone(&space);
        // Fails only if the runtime is stopping.
        if let Ok(true) = tokio::task::spawn_blocking(move || look.look()).await {
            tracing::info!("there is room on the disk again: records are taken");
        }
    }
}

/// An unspecified address means all of this machine's; clients are told the loopback one.
fn endpoint(configured: &str, listener: SocketAddr) -> String {
    if !configured.is_empty() {
        configured.to_owned()
    } else if listener.ip().is_unspecified() {
        format!("127.0.0.1:{}", listener.port())
    } else {
        listener.to_string()
    }
}

impl Parts {
    /// Others take over what is led here, streams are ended, then logs closed, then the controller, then the
    /// threads.
    async fn stop(mut self) {
        let context = Arc::clone(&self.context);
        if let Some(session) = &self.session {
            let patience = context.config.controlled_shutdown_timeout.duration();
            session.leave(patience).await;
        }
        context.shutdown.cancel();
        let patience = context.config.shutdown_timeout.duration();
        let drained = futures::future::join_all(std::mem::take(&mut self.servers));
        if tokio::time::timeout(patience.min(DRAIN), drained).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
        let handles: Vec<_> = context
            .metadata
            .registry
            .topics()
            .values()
            .flat_map(|topic| topic.replicas().cloned())
            .collect();
        let offline = handles.iter().any(|handle| handle.board.state() == ActorState::Offline);
        let closed = tokio::time::timeout(patience, retire(&context, &handles, false)).await;
        // Of a log that is not whole nobody may believe that it holds what was acknowledged.
        let whole = !offline && !handles.iter().any(|handle| handle.board.flushes.has_failed());
        match (closed, &self.session) {
            (Ok(()), Some(session)) if whole => session.note_clean_stop(&context, &self.directory),
            (Ok(()), _) => {}
            (Err(_), _) => tracing::warn!(
                "some partitions did not close in time; they are recovered at the next start"
            ),
        }
        if let Err(error) = self.controllers.shutdown().await {
            tracing::warn!(%error, "the metadata log was not closed cleanly");
        }
        self.end_threads();
    }

    /// Without a goodbye, as if the process had been killed; except that the directory can be opened again.
    async fn abandon(self) {
        self.context.gone.cancel();
        for shard in &self.shards {
            shard.stop();
        }
        if let Some(thread) = &self.control_thread {
            thread.stop();
        }
        self.controllers.abandon().await;
        self.end_threads();
    }

    fn end_threads(self) {
        self.context.gone.cancel();
        for shard in &self.shards {
            shard.stop();
        }
        for shard in self.shards {
            // A panic in it has been printed.
            let _ = shard.join();
        }
        if let Some(thread) = self.control_thread {
            thread.stop();
            thread.join();
        }
    }
}
