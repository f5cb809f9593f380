//! This node's part in deciding: alone, as one of several voters, or none.

use super::cluster_settings::OwnSettings;
use super::handles::Handles;
use super::start_error::StartError;
use crate::NodeConfig;
use crate::connections::Connections;
use crate::faults::NodeFaults;
use crate::grpc::ControllerServices;
use crate::server::{self, Bound};
use actix::Arbiter;
use std::sync::Arc;
use std::time::Duration;
use troupe_controller::{
    BeforeFlush, Connector, Controller, ControllerConfig, ControllerEndpoint, ControllerHandle,
    QuorumMember, QuorumTimings, SessionTimings, Settings, priority,
};
use troupe_log::disk::before_other_flush;
use troupe_log::{DirectoryError, LogDirectories, MetaProperties, Space};
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

/// Where in the data directory the controller keeps its log.
pub(super) const METADATA_DIR: &str = "metadata";

/// How often a node that is one of several says that its process runs.
const BEAT: Duration = Duration::from_millis(100);

pub(super) enum Controllers {
    Alone { handle: ControllerHandle },
    Member { member: Box<QuorumMember>, endpoint: ControllerEndpoint, cluster_id: String },
    None { cluster_id: String },
}

impl Controllers {
    pub async fn start(
        config: &NodeConfig,
        directories: &LogDirectories,
        space: &Arc<Space>,
        faults: &Arc<NodeFaults>,
    ) -> Result<Controllers, StartError> {
        let path = directories.metadata().join(METADATA_DIR);
        let voters = config.voters().map_err(StartError::Voters)?;
        let node_id = NodeId(config.node_id);
        let mut controller = ControllerConfig::new(node_id, path.clone());
        controller.settings = Settings::new(Arc::new(OwnSettings::new(config.clone())));
        let room = Arc::clone(space);
        let dir = directories.metadata().to_owned();
        controller.before_flush = BeforeFlush::new(move || {
            make_room(&room);
            before_other_flush(&dir)
        });
        if faults.are_enabled() {
            let network = faults.network();
            controller.connector =
                Connector::new(move |node, endpoint| network.lazy(Some(node), &endpoint));
            controller.pause = Some(Arc::clone(&faults.pause));
        }
        controller.sessions = SessionTimings {
            heartbeat: config.heartbeat_interval.duration(),
            timeout: config.session_timeout.duration(),
            reconnect_grace: config.reconnect_grace.duration(),
        };
        let election_min = config.quorum_election_timeout.duration();
        controller.timings = QuorumTimings {
            election_min,
            election_max: election_min * 8 / 5,
            ..QuorumTimings::default()
        };
        let failed =
            |source| StartError::Controller { path: path.clone(), source: Box::new(source) };
        if voters.is_empty() {
            controller.cluster_id = Some(config.cluster_id.clone()).filter(|id| !id.is_empty());
            let handle = Controller::start(controller).await.map_err(failed)?;
            return Ok(Controllers::Alone { handle });
        }
        let cluster_id = formatted(config, directories, node_id)?;
        if !config.is_controller() {
            return Ok(Controllers::None { cluster_id });
        }
        controller.voters = voters;
        controller.cluster_id = Some(cluster_id.clone());
        let member = Controller::join(controller).await.map_err(failed)?;
        let endpoint = member.keep_sessions();
        Ok(Controllers::Member { member: Box::new(member), endpoint, cluster_id })
    }

    /// No other node decides.
    pub fn is_alone(&self) -> bool {
        matches!(self, Controllers::Alone { .. })
    }

    pub fn handle(&self) -> Option<&ControllerHandle> {
        match self {
            Controllers::Alone { handle } => Some(handle),
            Controllers::Member { member, .. } => Some(&member.handle),
            Controllers::None { .. } => None,
        }
    }

    pub fn cluster_id(&self) -> String {
        match self {
            Controllers::Alone { handle } => {
                handle.image().borrow().cluster_id().unwrap_or_default().to_owned()
            }
            Controllers::Member { cluster_id, .. } | Controllers::None { cluster_id } => {
                cluster_id.clone()
            }
        }
    }

    /// Returns when this node knows the cluster and who decides for it.
    pub async fn await_cluster(&self) -> Result<(), StartError> {
        match self {
            Controllers::Member { member, .. } => {
                member.await_cluster().await.map_err(|error| StartError::Quorum(Box::new(error)))
            }
            Controllers::Alone { .. } | Controllers::None { .. } => Ok(()),
        }
    }

    /// Resolves when this node's metadata log goes on no more: its disk failed, or what is on it makes no sense.
    /// A controller without one decides nothing and says so to nobody; another start may mend it.
    pub fn failed(&self) -> impl Future<Output = ()> + use<> {
        let leadership = self.handle().map(ControllerHandle::leadership);
        async move {
            let Some(mut leadership) = leadership else { return std::future::pending().await };
            while leadership.changed().await.is_ok() {}
        }
    }

    pub async fn shutdown(&self) -> Result<(), Error> {
        match self.handle() {
            Some(handle) => handle.shutdown().await,
            None => Ok(()),
        }
    }

    pub async fn abandon(&self) {
        if let Some(handle) = self.handle() {
            handle.abandon().await;
        }
    }
}

/// The metadata log must not fail for want of space: a node starts from it, and by it retention is lowered.
pub(super) fn make_room(space: &Space) {
    if space.make_room() {
        tracing::error!(
            "the disk is full: what was kept for the metadata log is given to it, and no records are taken until \
             there is room; free some or lower retention"
        );
    }
}

/// K2: the cluster's id is said once, by whoever formats a directory, or in every node's configuration.
fn formatted(
    config: &NodeConfig,
    directories: &LogDirectories,
    node_id: NodeId,
) -> Result<String, StartError> {
    let mut found = None;
    for directory in directories.opened() {
        found = match directory.read_meta() {
            // Written anew below: the configuration says what it should say.
            Err(DirectoryError::BadMeta { .. }) if !config.cluster_id.is_empty() => None,
            found => found?,
        };
        if found.is_some() {
            break;
        }
    }
    let cluster_id = match (&found, config.cluster_id.is_empty()) {
        (_, false) => config.cluster_id.clone(),
        (Some(meta), true) => meta.cluster_id.clone(),
        (None, true) => return Err(StartError::NotFormatted),
    };
    directories.take_possession(&MetaProperties { cluster_id: cluster_id.clone(), node_id })?;
    Ok(cluster_id)
}

/// A thread for what must not wait behind clients' data: the quorum, sessions, and what decides about them.
pub(super) struct ControlThread {
    arbiter: Arbiter,
}

impl ControlThread {
    /// Serves the controller listener, if there is one.
    pub fn start(
        handles: &Arc<Handles>,
        controllers: &Controllers,
        listeners: Option<Bound>,
    ) -> Result<ControlThread, StartError> {
        let arbiter = Arbiter::try_new().map_err(StartError::Thread)?;
        arbiter.spawn(async { priority::first() });
        arbiter.spawn(handles.faults.take_part());
        if let (Controllers::Member { member, endpoint, .. }, Some(listeners)) =
            (controllers, listeners)
        {
            let services = ControllerServices {
                admin: handles.services.admin.clone(),
                addresses: handles.services.addresses.clone(),
                raft: member.endpoint.clone(),
                sessions: endpoint.clone(),
            };
            let connections =
                Connections::new("controller", &handles.settings, Arc::clone(&handles.metadata));
            let terms = handles.terms(&handles.gone);
            server::serve_control(&services, &connections, listeners, &arbiter, &terms);
        }
        let beating = Arc::clone(handles);
        arbiter.spawn(async move {
            let mut beats = tokio::time::interval(BEAT);
            beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    _ = beats.tick() => { beating.stall_detector.beat(); }
                    () = beating.gone.cancelled() => return,
                }
            }
        });
        Ok(ControlThread { arbiter })
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.arbiter.spawn(task);
    }

    pub fn stop(&self) {
        self.arbiter.stop();
    }

    pub fn join(self) {
        // A panic in it has been printed.
        let _ = self.arbiter.join();
    }
}
