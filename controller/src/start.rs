//! Puts a controller together.

use crate::config::{ControllerConfig, ControllerStartError};
use crate::handle::ControllerHandle;
use crate::metadata_log::MetadataLog;
use crate::raft::RaftLog;
use crate::supervisor::Supervisor;
use actix_rt::Arbiter;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tokio::sync::watch;
use troupe_machines::cluster::ClusterPolicy;

/// The part of a node that decides for the cluster.
#[derive(Debug)]
pub struct Controller;

impl Controller {
    /// Opens the metadata log and returns when this node, the single voter, is the active controller.
    /// Needs a running actix system.
    pub async fn start(config: ControllerConfig) -> Result<ControllerHandle, ControllerStartError> {
        let log = Arc::new(RaftLog::start(&config).await?);
        let asked = config.cluster_id.clone();
        let new_cluster_id = asked.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let handle = Self::on(log, config.policy.clone(), new_cluster_id);
        match Self::await_cluster(&handle, &config).await {
            Ok(()) => Ok(handle),
            Err(error) => {
                if let Err(error) = handle.shutdown().await {
                    tracing::error!(%error, "the controller did not stop in good order");
                }
                Err(error)
            }
        }
    }

    /// A controller on any log; the simulator brings its own.
    pub fn on(
        log: Arc<dyn MetadataLog>,
        policy: ClusterPolicy,
        new_cluster_id: String,
    ) -> ControllerHandle {
        let (address, addresses) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let arbiter = Arbiter::new();
        let restarts = Arc::<AtomicU32>::default();
        let supervisor = Supervisor {
            log: log.clone(),
            policy,
            new_cluster_id,
            address,
            stop: stopped,
            restarts: restarts.clone(),
        };
        arbiter.spawn(supervisor.run());
        ControllerHandle::new(addresses, log, stop, arbiter, restarts)
    }

    /// Returns when this controller decides, and the cluster is the one asked for.
    async fn await_cluster(
        handle: &ControllerHandle,
        config: &ControllerConfig,
    ) -> Result<(), ControllerStartError> {
        handle.await_active().await.map_err(ControllerStartError::NotActive)?;
        let image = handle.image().borrow().clone();
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
}
