//! How streams, and the node, speak to the session actor.

use super::actor::{Broke, Heard, IsAlive, Open, Session, SessionActor, Settings, Silent};
use super::heartbeats::{Heartbeat, SessionId};
use super::stalls::Stalls;
use crate::config::ControllerConfig;
use crate::handle::ControllerHandle;
use crate::supervision::{self, Board};
use crate::voters::VoterSet;
use actix::Addr;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::oneshot;
use troupe_actor::Die;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, NodeId};

/// The sessions of this controller's brokers, however often their actor has been rebuilt. Acts only while the
/// controller is the active one; ends with it.
#[derive(Clone)]
pub struct BrokerSessions {
    board: Arc<Board<SessionActor>>,
    stalls: Arc<Stalls>,
}

impl BrokerSessions {
    /// From now on brokers that are not heard are fenced. To be started once per controller.
    pub(crate) fn start(
        controller: &ControllerHandle,
        voters: &VoterSet,
        config: &ControllerConfig,
    ) -> BrokerSessions {
        let stalls = Arc::<Stalls>::default();
        let settings = Settings {
            stalls: Arc::clone(&stalls),
            voters: voters.clone(),
            timings: config.sessions,
            cluster: config.settings.clone(),
            session_ids: Arc::default(),
        };
        let owner = controller.clone();
        let make = move |guard| SessionActor::new(owner.clone(), settings.clone(), guard);
        let board = controller.supervise("session keeper", make);
        BrokerSessions { board, stalls }
    }

    /// Fails with `NOT_CONTROLLER`, `STALE_BROKER_EPOCH`, `BROKER_NOT_REGISTERED`, or `SHUTTING_DOWN`.
    pub(crate) async fn open(
        &self,
        broker: (NodeId, BrokerEpoch),
        heartbeat: Heartbeat,
    ) -> Result<Session, Error> {
        let (reply, opened) = oneshot::channel();
        // A mailbox that closes drops the reply.
        let _ = self.address().await?.send(Open { broker, heartbeat, reply }).await;
        opened.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Sessions are heard on this thread.
    pub(crate) fn listen_here(&self) {
        self.stalls.begin();
    }

    /// A session that is not known any more is told so by its end.
    pub(crate) async fn heard(&self, node_id: NodeId, session: SessionId, heartbeat: Heartbeat) {
        if let Ok(address) = self.address().await {
            let _ = address.send(Heard(node_id, session, heartbeat)).await;
        }
    }

    pub(crate) async fn broke(&self, node_id: NodeId, session: SessionId) {
        if let Ok(address) = self.address().await {
            let _ = address.send(Broke(node_id, session)).await;
        }
    }

    /// Whether somebody holds a session under this id, and is heard.
    pub(crate) async fn is_alive(&self, node_id: NodeId) -> Result<bool, Error> {
        self.address().await?.send(IsAlive(node_id)).await.map_err(|_| gone())
    }

    /// Who counts as active, and is not heard just now or was not heard yet.
    pub(crate) async fn silent(&self) -> Result<BTreeSet<NodeId>, Error> {
        self.address().await?.send(Silent).await.map_err(|_| gone())
    }

    /// Chaos: drops the actor with all sessions; returns when there is another one.
    pub async fn kill(&self) -> Result<(), Error> {
        supervision::kill(&self.board, Die::Stop).await?;
        // If the controller is shutting down, this says so.
        self.address().await.map(drop)
    }

    async fn address(&self) -> Result<Addr<SessionActor>, Error> {
        supervision::address(&self.board).await
    }
}

/// Whoever kept the session is not there any more; another one can be begun.
pub(crate) fn gone() -> Error {
    Error::new(ErrorCode::NotController, "nobody keeps this session any more; begin another")
}
