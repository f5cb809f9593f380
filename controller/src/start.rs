//! Puts a controller together.

use crate::actor::ControllerActor;
use crate::config::{ControllerConfig, ControllerStartError};
use crate::endpoint::ControllerEndpoint;
use crate::handle::ControllerHandle;
use crate::metadata_log::MetadataLog;
use crate::priority;
use crate::raft::{RaftEndpoint, RaftLog, Refusals};
use crate::settings::Settings;
use crate::supervision;
use actix_rt::Arbiter;
use std::sync::Arc;
use tokio::sync::watch;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

/// A controller among several voters, or alone: what it takes to be one.
pub struct QuorumMember {
    pub handle: ControllerHandle,
    /// For the control listener. Without it no quorum of several comes about.
    pub endpoint: RaftEndpoint,
    refusals: watch::Receiver<Refusals>,
    config: ControllerConfig,
}

/// The part of a node that decides for the cluster.
#[derive(Debug)]
pub struct Controller;

impl Controller {
    /// Opens the metadata log and returns when this node, the single voter, is the active controller.
    /// One of several voters uses [`Controller::join`]: they cannot elect before they serve each other.
    /// Needs a running actix system.
    pub async fn start(config: ControllerConfig) -> Result<ControllerHandle, ControllerStartError> {
        let QuorumMember { handle, .. } = Self::join(config.clone()).await?;
        match Self::await_own_cluster(&handle, &config).await {
            Ok(()) => Ok(handle),
            Err(error) => {
                if let Err(error) = handle.shutdown().await {
                    tracing::error!(%error, "the controller did not stop in good order");
                }
                Err(error)
            }
        }
    }

    /// Opens the metadata log and takes part in its quorum; returns before there is an active controller.
    /// Serve [`QuorumMember::endpoint`] at once, then wait for [`QuorumMember::await_cluster`]. Needs a running
    /// actix system.
    pub async fn join(config: ControllerConfig) -> Result<QuorumMember, ControllerStartError> {
        let log = Arc::new(RaftLog::start(&config).await?);
        let (endpoint, refusals) = (log.endpoint(), log.refusals());
        let asked = config.cluster_id.clone();
        let new_cluster_id = asked.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let handle = Self::on(log, config.settings.clone(), new_cluster_id);
        if let Some(pause) = &config.pause {
            handle.take_part_in(pause);
        }
        Ok(QuorumMember { handle, endpoint, refusals, config })
    }

    /// A controller on any log; the simulator brings its own.
    pub fn on(
        log: Arc<dyn MetadataLog>,
        settings: Settings,
        new_cluster_id: String,
    ) -> ControllerHandle {
        let (stop, stopped) = watch::channel(false);
        let arbiter = Arbiter::new();
        arbiter.spawn(async { priority::first() });
        let decided_on = log.clone();
        let make = move |guard| {
            let (log, settings) = (decided_on.clone(), settings.clone());
            ControllerActor::new(log, settings, new_cluster_id.clone(), guard)
        };
        let supervised = supervision::supervise(&arbiter.handle(), "controller", make, stopped);
        ControllerHandle::new(supervised, log, stop, arbiter)
    }

    /// Returns when this controller decides, and the cluster is the one asked for.
    async fn await_own_cluster(
        handle: &ControllerHandle,
        config: &ControllerConfig,
    ) -> Result<(), ControllerStartError> {
        handle.await_active().await.map_err(ControllerStartError::NotActive)?;
        check_cluster(&handle.image().borrow(), config)
    }
}

impl QuorumMember {
    /// Begins to keep the sessions of brokers: those that are not heard are fenced. To be called once; serve
    /// what it returns beside [`QuorumMember::endpoint`].
    pub fn keep_sessions(&self) -> ControllerEndpoint {
        ControllerEndpoint::start(&self.handle, &self.config)
    }

    /// Returns when this node knows the cluster and who decides for it. Fails if so many voters refuse this
    /// one that it cannot be part of any majority; for a majority that is not there yet it waits.
    pub async fn await_cluster(&self) -> Result<(), ControllerStartError> {
        let (mut images, mut leadership) = (self.handle.image(), self.handle.leadership());
        let mut refusals = self.refusals.clone();
        loop {
            if let Some((voter, error)) = self.hopeless(&refusals.borrow_and_update()) {
                return Err(ControllerStartError::Refused { voter, error });
            }
            let led = leadership.borrow_and_update().leader.is_some();
            let image = images.borrow_and_update().clone();
            if led && image.cluster_id().is_some() {
                return check_cluster(&image, &self.config);
            }
            let closed = || ControllerStartError::Raft("the metadata log is closed".to_owned());
            tokio::select! {
                changed = images.changed() => changed.map_err(|_| closed())?,
                changed = leadership.changed() => changed.map_err(|_| closed())?,
                changed = refusals.changed() => changed.map_err(|_| closed())?,
            }
        }
    }

    fn hopeless(&self, refusals: &Refusals) -> Option<(NodeId, Error)> {
        let voters = self.config.voters.len();
        let willing = voters.saturating_sub(refusals.len());
        let (voter, error) = refusals.iter().next()?;
        (willing < voters / 2 + 1).then(|| (*voter, error.clone()))
    }
}

fn check_cluster(
    image: &ClusterImage,
    config: &ControllerConfig,
) -> Result<(), ControllerStartError> {
    let actual = image.cluster_id().expect("an active controller has founded its cluster");
    match &config.cluster_id {
        Some(asked) if asked != actual => Err(ControllerStartError::WrongCluster {
            dir: config.dir.clone(),
            asked: asked.clone(),
            actual: actual.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}
