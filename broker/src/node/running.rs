//! The life of a node, from its first thread to its last.
//!
//! A node alone serves when it has started. One of several has started when its listeners stand: it takes part in
//! the quorum at once, and serves clients when the cluster has taken it in.

use super::broker_session::BrokerSession;
use super::controllers::{ControlThread, Controllers, METADATA_DIR, make_room};
use super::handles::Handles;
use super::progress::{Addresses, Ending, Progress};
use super::reconcile::{Reconciler, retire};
use super::sockets::{GrpcListener, Sockets};
use super::start_error::StartError;
use super::wiring::{Ground, Wired};
use super::{advertised, duplicate_broker, log_directories, owner, space};
use crate::cleaner::Cleaner;
use crate::connections::Connections;
use crate::faults::{Door, DoorParts, NodeFaults};
use crate::grpc::{AdminServices, serve_while_paused};
use crate::partition::{ControllerRequest, Retirement};
use crate::replication::ControllerRequestSender;
use crate::{NodeConfig, coordinator, descriptors, group, http, server, txn};
use actix::{Arbiter, System};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use troupe_actor::{ActorState, PauseGate, StallDetector};
use troupe_log::{LogDirectories, MetaProperties, Space};
use troupe_machines::cluster::{ClusterImage, LOG_VERSION, METADATA_VERSION, RegisterBroker};

/// Longest wait for connections at a stop. What was asked is answered by then; what keeps a connection open is
/// a client that does not read, and for that the logs do not wait: whoever stops us may lose patience.
const DRAIN: Duration = Duration::from_secs(5);

type Started = mpsc::SyncSender<Result<Addresses, StartError>>;

/// Runs the node on this thread until it is told to end.
pub(super) fn run(
    config: NodeConfig,
    directories: LogDirectories,
    pause: Arc<PauseGate>,
    ending: Ending,
    (started, progress): (Started, watch::Sender<Progress>),
) {
    let system = System::new();
    system.block_on(async move {
        match Parts::build(config, directories, pause).await {
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
    handles: Arc<Handles>,
    controllers: Controllers,
    directories: Arc<LogDirectories>,
    space: Arc<Space>,
    shards: Vec<Arbiter>,
    cleaner: Cleaner,
    servers: Vec<oneshot::Receiver<()>>,
    /// Until they are served.
    sockets: Option<Sockets>,
    /// Until they are sent.
    controller_requests: Option<UnboundedReceiver<ControllerRequest>>,
    control_thread: Option<ControlThread>,
    session: Option<BrokerSession>,
    /// The image of a broker without a controller of its own; kept open until its session begins.
    pushed_image: Option<watch::Sender<Arc<ClusterImage>>>,
}

impl Parts {
    async fn build(
        config: NodeConfig,
        directories: LogDirectories,
        pause: Arc<PauseGate>,
    ) -> Result<Parts, StartError> {
        let directories = Arc::new(directories);
        owner::check(&config, &directories)?;
        let mut sockets = Sockets::bind(&config)?;
        let space = Arc::new(Space::open(directories.metadata()));
        make_room(&space);
        if space.is_low() {
            directories.beside_metadata().for_each(Space::clear_deleted);
        }
        let faults = NodeFaults::new(&config, pause);
        tokio::spawn(faults.take_part());
        let controllers = Controllers::start(&config, &directories, &space, &faults).await?;
        let pushed_image = watch::Sender::new(Arc::new(ClusterImage::default()));
        let image =
            controllers.handle().map_or_else(|| pushed_image.subscribe(), |handle| handle.image());
        let stall_detector = Arc::new(match controllers.is_alone() {
            true => StallDetector::unlimited(),
            // Nobody is fenced for a shorter silence than twice that.
            false => StallDetector::new(config.session_timeout.duration() / 2),
        });
        let cluster_id = controllers.cluster_id();
        let addresses = sockets.addresses(&config, cluster_id.clone());
        let ground = Ground {
            cluster_id,
            endpoint: sockets.endpoint(),
            config,
            controller: controllers.handle().cloned(),
            image,
            stall_detector,
            directories: Arc::clone(&directories),
            space: Arc::clone(&space),
            faults,
        };
        let Wired { handles, shards, cleaner, controller_requests } = ground.build()?;
        let control_thread = match controllers.is_alone() {
            true => None,
            false => Some(ControlThread::start(&handles, &controllers, sockets.take_control())?),
        };
        Ok(Parts {
            addresses,
            handles,
            controllers,
            directories,
            space,
            shards,
            cleaner,
            servers: Vec::new(),
            sockets: Some(sockets),
            controller_requests: Some(controller_requests),
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
        let controllers = self.controllers.failed();
        let lost = log_directories::lost(Arc::clone(&self.directories));
        let failed = async {
            tokio::select! {
                () = controllers => StartError::MetadataLog,
                reason = lost => StartError::DirectoriesLost(reason),
            }
        };
        tokio::pin!(failed);
        let joined = tokio::select! {
            joined = self.join() => joined,
            error = &mut failed => Err(error),
            () = ending.begun() => return,
        };
        let error = match joined {
            Ok(()) => {
                progress.send_replace(Progress::Ready);
                if let Some(started) = waiting.take() {
                    let _ = started.send(Ok(self.addresses.clone()));
                }
                tokio::select! {
                    error = failed => error,
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
        let handles = Arc::clone(&self.handles);
        advertised::tell_doubts(&handles.config);
        tokio::select! {
            known = self.controllers.await_cluster() => known?,
            error = duplicate_broker::found(&handles.controller, &handles.endpoint) => {
                return Err(StartError::Register(error));
            }
        }
        if !handles.config.is_broker() {
            return self.serve_http();
        }
        let cluster_id = self.controllers.cluster_id();
        let meta = MetaProperties { cluster_id: cluster_id.clone(), node_id: handles.node_id };
        self.directories.take_possession(&meta)?;
        self.addresses.cluster_id.clone_from(&cluster_id);
        handles.controller.set_cluster_id(&cluster_id);
        self.check_foreign_partitions()?;
        if self.controllers.is_alone() {
            self.register_alone(&cluster_id).await?;
        } else if let Some(thread) = &self.control_thread {
            let pushed = self.pushed_image.take();
            let session =
                BrokerSession::begin(&handles, &self.directories, thread, pushed, &self.addresses)
                    .await?;
            self.session = Some(session);
        }
        if let Some(requests) = self.controller_requests.take() {
            let sender = ControllerRequestSender {
                controller: Arc::clone(&handles.controller),
                metadata: Arc::clone(&handles.metadata),
                gone: handles.gone.clone(),
            };
            actix_rt::spawn(sender.run(requests));
        }

        let mut images = handles.metadata.image.clone();
        let reconciler = Reconciler::new(Arc::clone(&handles), Arc::clone(&self.directories));
        let first = images.borrow_and_update().clone();
        reconciler.clear_leftovers(&first);
        log_directories::watch(&self.directories, &handles);
        reconciler.apply(&first).await;
        self.check_descriptors();
        self.open_door();
        self.serve_grpc();
        self.serve_http()?;
        for listener in &self.addresses.listeners {
            if listener.endpoint != listener.address.to_string() {
                actix_rt::spawn(advertised::try_out(listener.endpoint.clone()));
            }
        }
        if let Some(session) = &self.session {
            session.ready_when_recovered(&handles);
        }
        actix_rt::spawn(reconciler.run(images));
        actix_rt::spawn(space::watch(Arc::clone(&self.space), handles.gone.clone()));
        let shards: Vec<_> = self.shards.iter().map(Arbiter::handle).collect();
        let node = coordinator::Node {
            metadata: Arc::clone(&handles.metadata),
            endpoint: handles.endpoint.clone(),
            metrics: Arc::clone(&handles.metrics),
            stall_detector: Arc::clone(&handles.stall_detector),
            gone: handles.gone.clone(),
        };
        let (coordinators, settings) =
            (Arc::clone(&handles.txn_coordinators), txn::settings(&handles.settings));
        let transactions =
            coordinator::reconcile(node.clone(), coordinators, settings, shards.clone());
        actix_rt::spawn(transactions);
        let (coordinators, settings) =
            (Arc::clone(&handles.coordinators), group::settings(&handles.settings));
        actix_rt::spawn(coordinator::reconcile(node, coordinators, settings, shards));
        Ok(())
    }

    /// For what may be asked while the node stands still. Before the listeners are given away.
    fn open_door(&self) {
        let faults = &self.handles.faults;
        let Some(sockets) = self.sockets.as_ref().filter(|_| faults.are_enabled()) else { return };
        let AdminServices(administration) = &self.handles.services.admin;
        let mut parts = DoorParts::default();
        let chaos = serve_while_paused(&administration.chaos);
        for listener in sockets.grpc.iter().flat_map(GrpcListener::sockets) {
            parts.add(listener, &chaos);
        }
        parts.add(&sockets.http, &http::serve_while_paused(&administration.observation));
        faults.set_door(Door::new(parts));
    }

    /// Serves all listeners for clients and brokers.
    fn serve_grpc(&mut self) {
        let handles = &self.handles;
        let inter_broker = self.sockets.as_ref().and_then(Sockets::inter_broker);
        for listener in self.sockets.iter_mut().flat_map(|sockets| &mut sockets.grpc) {
            let is_inter_broker = inter_broker.as_ref() == Some(&listener.name);
            let services = handles.services.by(&listener.name, is_inter_broker);
            let Some(bound) = listener.take() else { continue };
            let connections =
                Connections::new("grpc", &handles.settings, Arc::clone(&handles.metadata));
            let terms = handles.terms(&handles.shutdown);
            let servers = server::serve(&services, &connections, bound, &self.shards, &terms);
            self.servers.extend(servers);
        }
    }

    fn serve_http(&mut self) -> Result<(), StartError> {
        let Some(sockets) = self.sockets.take() else { return Ok(()) };
        let (address, handles) = (self.addresses.http, &self.handles);
        let connections =
            Connections::new("http", &handles.settings, Arc::clone(&handles.metadata));
        let AdminServices(administration) = &handles.services.admin;
        let served = http::serve(
            &administration.readiness,
            &administration.observation,
            (sockets.http, connections),
            handles.shutdown.clone(),
        );
        let (address, key) = (address.to_string(), sockets.http_key);
        served.map_err(|source| StartError::Listen { address, key, source })
    }

    /// Unknown topics' directories are leftovers of deletions, and deleted. Beside lost metadata that would be
    /// everything.
    fn check_foreign_partitions(&self) -> Result<(), StartError> {
        if !self.controllers.is_alone() {
            return Ok(());
        }
        let is_new = self.handles.metadata.image.borrow().brokers().next().is_none();
        let partitions = if is_new { self.directories.partitions().len() } else { 0 };
        if partitions > 0 {
            let metadata = self.directories.metadata().join(METADATA_DIR);
            return Err(StartError::ForeignPartitions { metadata, count: partitions });
        }
        Ok(())
    }

    /// Says at the start what would show when all partitions are used at once.
    fn check_descriptors(&self) {
        let partitions = self.handles.metadata.registry.replica_count();
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
        let handles = &self.handles;
        let registration = RegisterBroker {
            node_id: handles.node_id,
            incarnation: *uuid::Uuid::new_v4().as_bytes(),
            cluster_id: Some(cluster_id.to_owned()),
            endpoint: handles.endpoint.clone(),
            listeners: self.addresses.advertised(),
            http_endpoint: self.addresses.http.to_string(),
            rack: Some(handles.config.rack.clone()),
            log_version: LOG_VERSION,
            metadata_version: METADATA_VERSION,
        };
        let controller = handles.controller.here().map_err(StartError::Register)?;
        let broker_epoch = controller
            .register_unfenced_broker(registration)
            .await
            .map_err(StartError::Register)?;
        handles.controller.set_broker_epoch(broker_epoch);
        Ok(())
    }
}

impl Parts {
    /// Others take over what is led here, streams are ended, then logs closed, then the controller, then the
    /// threads.
    async fn stop(mut self) {
        let handles = Arc::clone(&self.handles);
        handles.faults.end();
        self.cleaner.stop();
        if let Some(session) = &self.session
            && handles.config.controlled_shutdown
        {
            let patience = handles.config.controlled_shutdown_timeout.duration();
            session.leave(patience).await;
        }
        handles.shutdown.cancel();
        let patience = handles.config.shutdown_timeout.duration();
        let drained = futures::future::join_all(std::mem::take(&mut self.servers));
        if tokio::time::timeout(patience.min(DRAIN), drained).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
        let replicas: Vec<_> = handles
            .metadata
            .registry
            .topics()
            .values()
            .flat_map(|topic| topic.replicas().cloned())
            .collect();
        let offline = replicas.iter().any(|handle| handle.board.state() == ActorState::Offline);
        let closed =
            tokio::time::timeout(patience, retire(&handles, &replicas, Retirement::Stopping)).await;
        // Of a log that is not whole nobody may believe that it holds what was acknowledged.
        let whole = !offline && !replicas.iter().any(|handle| handle.board.flushes.has_failed());
        match (closed, &self.session) {
            (Ok(()), Some(session)) if whole => {
                session.note_clean_stop(&handles, &self.directories)
            }
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
        self.handles.faults.end();
        self.handles.gone.cancel();
        self.cleaner.stop();
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
        self.handles.gone.cancel();
        self.cleaner.join();
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
