//! Who decides for the cluster, and the way there: this node's own controller, or a call to another's.
//!
//! Promise: whoever asks gets an answer of the active controller, or an error that says whether it was done.
//! Never here: a decision.

use crate::peers::lazy_channel;
use crate::word::Word;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Channel;
use troupe_controller::{ControllerHandle, Voter};
use troupe_machines::cluster::ProducerIdBlock;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::health::v1::HealthCheckRequest;
use troupe_proto::health::v1::health_client::HealthClient;
use troupe_proto::ids::{BrokerEpoch, NodeId, ProducerId};
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
pub struct Control {
    /// None on a node that is a broker only.
    local: Option<ControllerHandle>,
    voters: Vec<Voter>,
    /// Who decides, as a broker without a controller of its own has heard.
    heard: watch::Sender<Option<NodeId>>,
    channels: Mutex<HashMap<NodeId, Channel>>,
    /// Of sessions, apart: a connection lives on the thread that has made it, and no session shares one with data.
    sessions: Mutex<HashMap<NodeId, Channel>>,
    identity: watch::Sender<Identity>,
    /// The last word of the active controller.
    pub word: Word,
}

impl Control {
    pub fn new(local: Option<ControllerHandle>, voters: Vec<Voter>, identity: Identity) -> Self {
        Self {
            local,
            voters,
            heard: watch::Sender::new(None),
            channels: Mutex::default(),
            sessions: Mutex::default(),
            identity: watch::Sender::new(identity),
            word: Word::default(),
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
            None => *self.heard.borrow(),
        }
    }

    /// Who decides was heard from a voter; for a broker without a controller of its own.
    pub fn hear(&self, controller: Option<NodeId>) {
        self.heard.send_if_modified(|heard| std::mem::replace(heard, controller) != controller);
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
        let channel = lazy_channel(&voter.address)?;
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
