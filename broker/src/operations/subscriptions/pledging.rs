//! The session that gave deliveries out is asked to have them wait for the end of a transaction.

use super::ack_id::{AckId, echo};
use super::pledge::Pledge;
use super::sessions::{Brought, Place, Pledging};
use super::settle::Settle;
use std::collections::BTreeSet;
use tokio::sync::oneshot;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// The deliveries of one session, by what clients know of them.
pub struct PledgedIds(Vec<AckId>);

impl PledgedIds {
    /// None: there are none.
    ///
    /// # Errors
    /// `UNKNOWN_ACK_ID`; `INVALID_REQUEST`: they are of more than one session.
    pub fn parse(texts: Vec<String>) -> Result<Option<Self>, Error> {
        let mut ids = Vec::with_capacity(texts.len());
        for text in texts {
            let id = text.parse::<AckId>().map_err(|_| {
                let text = echo(text);
                let message = format!("`{text}` is no id of a delivery");
                Error::new(ErrorCode::UnknownAckId, message).with("ack_id", text)
            });
            ids.push(id?);
        }
        let sessions: BTreeSet<_> = ids.iter().map(|id| (id.node, id.session)).collect();
        match sessions.len() {
            0 => Ok(None),
            1 => Ok(Some(Self(ids))),
            _ => {
                let message = "the ack_ids are of several subscriptions: acknowledge those of one in a call, as Pull or \
                               Subscribe has delivered them";
                Err(Error::new(ErrorCode::InvalidRequest, message))
            }
        }
    }

    /// Who gave them out.
    pub fn node(&self) -> Option<NodeId> {
        self.0.first().map(|id| id.node)
    }
}

impl Settle {
    /// Has deliveries of this node wait for the end of a transaction. What hinders it and passes is waited for.
    ///
    /// # Errors
    /// `LEASE_LOST`, `UNKNOWN_ACK_ID`, `ACK_GAP`, `CONCURRENT_TRANSACTIONS`, `INVALID_REQUEST`.
    pub async fn pledge(&self, ids: PledgedIds, until: Instant) -> Result<Pledge, Error> {
        let lost = |code| {
            let first = ids.0.first().map(ToString::to_string).unwrap_or_default();
            let message = format!("the session that delivered `{first}` has ended");
            Error::new(code, message).with("ack_id", first)
        };
        let Some(first) = ids.0.first() else { return Err(lost(ErrorCode::UnknownAckId)) };
        if first.node != self.metadata.node_id {
            return Err(lost(ErrorCode::LeaseLost));
        }
        match self.sessions.place_of(first.session) {
            Place::Live(inbox) => {
                let ended = lost(ErrorCode::LeaseLost);
                let (reply, answer) = oneshot::channel();
                // A session that has ended takes nothing, and does not answer.
                let _ = inbox.send(Brought::Pledge(Pledging { ids: ids.0, until, reply })).await;
                answer.await.unwrap_or(Err(ended))
            }
            Place::Ended => Err(lost(ErrorCode::LeaseLost)),
            Place::Unknown => Err(lost(ErrorCode::UnknownAckId)),
        }
    }
}
