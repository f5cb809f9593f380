//! What a connection holds as long as it has its slot, if only to ask once.

use super::refusal::Protocol;
use super::slots::{Connections, Slot};
use super::trial::Trial;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use troupe_machines::connection::slots::SlotId;
use troupe_machines::connection::timeouts::{Cause, Timeouts};
use troupe_proto::error::Error;

/// A connection's slot: dropped, it is free.
pub struct SlotGuard {
    connections: Arc<Connections>,
    id: SlotId,
    /// Cancelled when it has to make room.
    pub cut: CancellationToken,
    /// It has no slot yet.
    pub trial: Option<Arc<Trial>>,
}

impl SlotGuard {
    /// A slot for whoever has connected.
    ///
    /// # Errors
    /// `TOO_MANY_CONNECTIONS`, with the limit that is reached.
    pub fn admit(
        connections: &Arc<Connections>,
        address: IpAddr,
        protocol: Protocol,
    ) -> Result<SlotGuard, Error> {
        let may_be_tried = match protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        };
        let Slot { id, cut, refusal } = connections.take_slot(address, may_be_tried)?;
        let trial = refusal.map(|refusal| Trial::new(Arc::clone(connections), id, refusal));
        Ok(SlotGuard { connections: Arc::clone(connections), id, cut, trial })
    }

    /// It has said that it speaks our language: it makes room for nobody any more.
    pub fn introduce(&self) {
        self.connections.introduce(self.id);
    }

    /// Returns when it is refused; false: it has not even asked for anything.
    pub async fn lost(&self) -> bool {
        match &self.trial {
            Some(trial) => trial.lost().await,
            None => std::future::pending().await,
        }
    }

    pub fn timeouts(&self) -> Timeouts {
        self.connections.timeouts
    }

    pub fn calls_ended(&self) {
        self.connections.calls_ended();
    }

    /// It was ended, and why.
    pub fn closed(&self, cause: Cause) {
        self.connections.closed(cause);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if let Some(trial) = &self.trial {
            trial.end();
        }
        self.connections.leave(self.id);
    }
}
