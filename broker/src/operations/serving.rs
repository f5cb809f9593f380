//! What clients ask of a broker, for whatever door: one for all of its listeners.

use super::fetch::Fetch;
use super::groups::Groups;
use super::offsets::Offsets;
use super::produce::Produce;
use super::producer_ids::ProducerIds;
use super::publish::Publish;
use super::publish_atomically::PublishAtomically;
use super::subscriptions::Settle;
use super::tail::Tail;
use super::transactions::Transactions;
use std::sync::Arc;

/// Sessions that deliver are apart: [`super::Subscriptions`] knows how its door writes.
#[derive(Clone)]
pub struct Operations {
    pub produce: Arc<Produce>,
    pub fetch: Arc<Fetch>,
    pub offsets: Arc<Offsets>,
    pub producer_ids: Arc<ProducerIds>,
    pub groups: Arc<Groups>,
    pub transactions: Arc<Transactions>,
    pub publish: Arc<Publish>,
    pub publish_atomically: Arc<PublishAtomically>,
    pub tail: Arc<Tail>,
    pub settle: Arc<Settle>,
}
