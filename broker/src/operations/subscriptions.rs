//! Reading as a member of a group, for clients that have nothing but generated stubs.
//!
//! ```text
//!  Subscribe ══ stream ─┐            ┌─ Membership ─ Coordination ══ the group's coordinator
//!  Pull ─── pull ───────┼─► Session ─┼─ Intake ◄── TopicReader ◄── leaders
//!  Settle ─ settle ─────┘            └─ Deliveries: a Ledger for each partition, and the Window
//! ```
//!
//! [`deliveries::Deliveries`], [`ledger::Ledger`] and [`window::Window`] decide, without time, log or network of their own.
//!
//! Promises: a record is committed only after it and all before it in its partition were acknowledged; one that was
//! acknowledged is not delivered again by the session; one that takes long never costs the membership; every id that
//! is settled gets a true answer, wherever it was given out.
//! Never here: who is assigned what (the group's coordinator), or where a partition is led.

mod ack_id;
mod coordination;
mod deliveries;
mod handles;
mod intake;
mod jobs;
mod ledger;
mod membership;
mod options;
mod pledge;
mod pledged;
mod pledging;
mod pull;
mod pulls;
mod receipts;
mod request;
mod response;
mod session;
mod sessions;
mod settle;
mod stream;
mod unwritten;
mod window;

#[cfg(test)]
pub use ack_id::echo;
pub use coordination::{Commit, Coordination};
pub use handles::Handles;
pub use pledge::Pledge;
pub use pledging::PledgedIds;
pub use pull::PullCaller;
pub use pulls::{PullAnswer, Pulls};
pub use request::{
    PullRequest, SettleRequest, Settlement, SettlementAction, SubscribeRequest,
    SubscriptionOptions, WindowBounds,
};
pub use response::{Assignment, PullRest, SettleResult, SubscribeRest};
#[cfg(test)]
pub use session::RESULT_BYTES;
pub use sessions::Sessions;
pub use settle::Settle;
pub use stream::Subscription;
pub use unwritten::Unwritten;

use super::delivery::Beside;
use std::sync::Arc;
use troupe_proto::error::Error;

/// `D`: how deliveries go out to who asks in single calls.
pub struct Subscriptions<D> {
    handles: Arc<Handles>,
    pulls: Arc<Pulls<D>>,
}

impl<D: Beside<PullRest>> Subscriptions<D> {
    pub fn new(handles: Handles, pulls: Arc<Pulls<D>>) -> Self {
        Self { handles: Arc::new(handles), pulls }
    }

    /// Opens a session on a stream, by its first message. `host`: the address that it came from.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn subscribe(
        &self,
        host: String,
        first: SubscribeRequest,
    ) -> Result<Subscription, Error> {
        Subscription::begin(&self.handles, host, first).await
    }

    /// Deliveries of a session that is held between calls.
    ///
    /// # Errors
    /// As for a stream.
    pub async fn pull(
        &self,
        caller: PullCaller,
        request: PullRequest,
    ) -> Result<PullAnswer<D>, Error> {
        pull::pull(&self.handles, &self.pulls, caller, request).await
    }
}
