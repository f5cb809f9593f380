//! Who decides for the cluster, and the way there: this node's own controller, or a call to another's; and when it was
//! heard last.
//!
//! Promise: whoever asks gets an answer of the active controller, or an error that says whether it was done.
//! Never here: a decision.

mod heard;

pub use heard::Heard;

use crate::clock::now;
use crate::network::Network;
use crate::peers::lazy_channel;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Channel;
use troupe_controller::metadata_log::MetadataLogHealth;
use troupe_controller::{ControllerHandle, Voter};
use troupe_machines::cluster::{ClusterImage, ProducerIdBlock};
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::health::v1::HealthCheckRequest;
use troupe_proto::health::v1::health_client::HealthClient;
use troupe_proto::ids::{BrokerEpoch, MetadataOffset, NodeId, ProducerId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::controller_service_client::ControllerServiceClient;

/// For the answer of a voter that is asked whether it is there. Whoever asks for that has little patience himself.
const VOTER_PATIENCE: Duration = Duration::from_millis(750);

/// Where the active controller is.
#[derive(Clone)]
pub enum Route {
    /// On this node.
    Here(ControllerHandle),
    /// On another; its controller listener serves `ControllerService` and the admin services.
    There(Channel),
}

/// What identifies this broker to the controller.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: NodeId,
    pub broker_epoch: BrokerEpoch,
}

impl Identity {
    pub fn caller(&self) -> Option<pb::BrokerCaller> {
        Some(pb::BrokerCaller {
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id.0,
            broker_epoch: self.broker_epoch.0,
        })
    }
}

/// The way to the active controller.
pub struct ControllerChannel {
    /// None on a node that is a broker only.
    local: Option<ControllerHandle>,
    voters: Vec<Voter>,
    /// Who decides, as a broker without a controller of its own was told.
    told: watch::Sender<Option<NodeId>>,
    channels: Mutex<HashMap<NodeId, Channel>>,
    /// Of sessions, apart: a connection lives on the thread that has made it, and no session shares one with data.
    sessions: Mutex<HashMap<NodeId, Channel>>,
    identity: watch::Sender<Identity>,
    /// Who is not heard for so long is not there: brokers are held to the same.
    session_timeout_ms: u64,
    /// How this node connects to others.
    pub network: Network,
    /// When a controller was heard, for a broker that has none of its own.
    pub heard: Heard,
}

/// As of when something is true that a node says of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    pub node_id: NodeId,
    /// The wall clock's. None: it has never been so.
    pub time: Option<Time>,
    pub metadata_offset: MetadataOffset,
    pub controller_active: bool,
    /// None: no controller has been heard since this node started.
    pub controller_silence_ms: Option<u64>,
}

impl ControllerChannel {
    pub fn new(
        local: Option<ControllerHandle>,
        voters: Vec<Voter>,
        identity: Identity,
        session_timeout_ms: u64,
        network: Network,
    ) -> Self {
        Self {
            local,
            voters,
            told: watch::Sender::new(None),
            channels: Mutex::default(),
            sessions: Mutex::default(),
            identity: watch::Sender::new(identity),
            session_timeout_ms,
            network,
            heard: Heard::default(),
        }
    }

    /// This node's own controller, active or not.
    pub fn local(&self) -> Option<&ControllerHandle> {
        self.local.as_ref()
    }

    pub fn identity(&self) -> Identity {
        self.identity.borrow().clone()
    }

    /// A new registration.
    pub fn set_broker_epoch(&self, broker_epoch: BrokerEpoch) {
        self.identity.send_modify(|identity| identity.broker_epoch = broker_epoch);
    }

    /// The cluster's id is known; a node alone draws it when it starts.
    pub fn set_cluster_id(&self, cluster_id: &str) {
        self.identity.send_modify(|identity| cluster_id.clone_into(&mut identity.cluster_id));
    }

    /// The active controller, as far as this node knows.
    pub fn controller_id(&self) -> Option<NodeId> {
        match &self.local {
            Some(local) => local.controller_id(),
            None => *self.told.borrow(),
        }
    }

    /// Who decides, if it has been heard lately: a quorum that is lost leaves everybody believing in the last one.
    pub fn active_controller(&self) -> Option<NodeId> {
        self.controller_id().filter(|_| self.hears_controller())
    }

    /// Who decides was heard from a voter; for a broker without a controller of its own.
    pub fn hear(&self, controller: Option<NodeId>) {
        self.told.send_if_modified(|told| std::mem::replace(told, controller) != controller);
    }

    /// Every voter, in the order of the configuration.
    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    /// The way to the active controller.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` while none is known: try again.
    pub fn route(&self) -> Result<Route, Error> {
        match (&self.local, self.controller_id()) {
            (Some(local), _) if self.voters.is_empty() => Ok(Route::Here(local.clone())),
            (Some(local), Some(_)) if local.leadership().borrow().here => {
                Ok(Route::Here(local.clone()))
            }
            (_, Some(controller)) => self.channel(controller).map(Route::There),
            (_, None) => {
                let message = "no controller is active at the moment; try again";
                Err(Error::new(ErrorCode::NotController, message))
            }
        }
    }

    /// This node's own controller, if it is the active one.
    ///
    /// # Errors
    /// `NOT_CONTROLLER`, with the node that is, if one is known.
    pub fn here(&self) -> Result<ControllerHandle, Error> {
        match self.route()? {
            Route::Here(local) => Ok(local),
            Route::There(_) => {
                let message = "this node is not the active controller";
                let error = Error::new(ErrorCode::NotController, message);
                Err(match self.controller_id() {
                    Some(controller) => error.with_leader(controller.0, ""),
                    None => error,
                })
            }
        }
    }

    /// A connection to a voter's controller listener, made when it is first used.
    pub fn channel(&self, node: NodeId) -> Result<Channel, Error> {
        self.find(&self.channels, node)
    }

    /// The same, for a session; to be asked for on the thread that keeps it.
    pub fn session_channel(&self, node: NodeId) -> Result<Channel, Error> {
        self.find(&self.sessions, node)
    }

    fn find(
        &self,
        channels: &Mutex<HashMap<NodeId, Channel>>,
        node: NodeId,
    ) -> Result<Channel, Error> {
        let mut channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&node) {
            return Ok(channel.clone());
        }
        let voter = self.voters.iter().find(|voter| voter.node_id == node).ok_or_else(|| {
            let message = format!("node {node} decides, but is not in controller.quorum.voters");
            Error::new(ErrorCode::InconsistentVoterSet, message)
        })?;
        let channel = lazy_channel(&self.network, Some(node), &voter.address)?;
        channels.insert(node, channel.clone());
        Ok(channel)
    }

    /// The other voters that do not answer this node now, whether they are brokers or not.
    pub async fn silent_voters(&self) -> Vec<NodeId> {
        let own = self.identity.borrow().node_id;
        let others = self.voters.iter().map(|voter| voter.node_id).filter(|id| *id != own);
        let asked =
            others.map(|voter| async move { (!self.is_there(voter).await).then_some(voter) });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Whether a voter's controller listener answers, whatever.
    async fn is_there(&self, voter: NodeId) -> bool {
        let Ok(channel) = self.channel(voter) else { return false };
        let mut client = HealthClient::new(channel);
        let asked = client.check(HealthCheckRequest { service: "live".to_owned() });
        matches!(tokio::time::timeout(VOTER_PATIENCE, asked).await, Ok(Ok(_)))
    }

    pub async fn allocate_producer_ids(&self) -> Result<ProducerIdBlock, Error> {
        let identity = self.identity();
        match self.route()? {
            Route::Here(local) => {
                local.allocate_producer_ids(identity.node_id, identity.broker_epoch).await
            }
            Route::There(channel) => {
                let request = pb::AllocateProducerIdsRequest { caller: identity.caller() };
                let answer =
                    ControllerServiceClient::new(channel).allocate_producer_ids(request).await?;
                let pb::AllocateProducerIdsResponse { first, count } = answer.into_inner();
                Ok(ProducerIdBlock { first: ProducerId(first), len: count })
            }
        }
    }
}

/// How long ago a controller was heard.
impl ControllerChannel {
    /// How long ago this node has heard an active controller; `None`: never since it started.
    pub fn silence_ms(&self) -> Option<u64> {
        self.last_heard().map(|heard| now().0.saturating_sub(heard.0))
    }

    /// Whether a controller is active, as far as this node knows.
    pub fn hears_controller(&self) -> bool {
        self.silence_ms().is_some_and(|silence| silence <= self.session_timeout_ms)
    }

    /// As of when what this image says of the cluster is true.
    pub fn as_of(&self, image: &ClusterImage) -> AsOf {
        let controller_silence_ms = self.silence_ms();
        let time = match self.decides() {
            true => Some(now()),
            // Without a session, the quorum's own log is all there is.
            false => self.heard.current().or_else(|| self.followed()),
        };
        AsOf {
            node_id: self.identity.borrow().node_id,
            time,
            metadata_offset: image.next_offset(),
            controller_active: self.hears_controller(),
            controller_silence_ms,
        }
    }

    fn last_heard(&self) -> Option<Time> {
        if self.decides() {
            return Some(now());
        }
        self.heard.last().max(self.followed())
    }

    /// This node's own controller is the active one, and its quorum has lately said so.
    fn decides(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.leadership().borrow().here)
    }

    /// Whether what this node's controller keeps is whole; `None`: it has no controller.
    pub fn metadata_health(&self) -> Option<MetadataLogHealth> {
        Some(self.local.as_ref()?.metadata_health().borrow().clone())
    }

    /// When this node's controller has heard the one that it follows.
    fn followed(&self) -> Option<Time> {
        let heard = self.local.as_ref()?.leader_heard()?;
        let ago = u64::try_from(heard.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(Time(now().0.saturating_sub(ago)))
    }
}
