//! Transactions as the machine of a coordinator.

use super::markers::{Markers, Shared, Told};
use super::outbound::Outbound;
use crate::coordinator::{Decided, Machine, Record};
use crate::group::catalog_of;
use crate::metrics::NodeMetrics;
use std::sync::Arc;
use std::time::Duration;
use troupe_machines::cluster::{ClusterImage, TRANSACTION_TOPIC};
use troupe_machines::group::{Catalog, coordinator_partition};
use troupe_machines::time::Time;
use troupe_machines::txn::{
    Change, Decision, ReplayError, Settings, Transactions, check_transactional_id,
};
use troupe_proto::error::Error;
use troupe_proto::ids::PartitionId;

impl<T> From<Decision<T>> for Decided<Transactions, T> {
    fn from(decision: Decision<T>) -> Self {
        let told = Told::of(&decision);
        let Decision { changes, answer, markers } = decision;
        Self { changes, answer, told: Told { markers, ..told } }
    }
}

impl Machine for Transactions {
    const TOPIC: &'static str = TRANSACTION_TOPIC;
    const SUBJECT: &'static str = "transactional id";
    const CONTENT: &'static str = "what is known of transactional ids";

    type Settings = Settings;
    type Change = Change;
    type ReplayError = ReplayError;
    type Catalog = Catalog;
    type Told = Told;
    type Audience = Markers;
    type Shared = Shared;
    type Common = Outbound;

    fn new(settings: Settings) -> Self {
        Transactions::new(settings)
    }

    fn settle(&mut self, settings: Settings) {
        self.set_settings(settings);
    }

    fn check_key(id: &str) -> Result<(), Error> {
        Ok(check_transactional_id(id)?)
    }

    fn partition_of(id: &str, partitions: u32) -> PartitionId {
        coordinator_partition(id, partitions)
    }

    fn encode(change: &Change) -> Record {
        let (key, value) = change.encode();
        Record { key, value }
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Change, ReplayError> {
        Change::decode(key, value)
    }

    fn replay(&mut self, change: &Change) -> Result<(), ReplayError> {
        self.replay(change)
    }

    fn loaded(&mut self, now: Time) {
        self.loaded(now);
    }

    fn note_decided(&mut self, now: Time, changes: &[Change]) {
        self.note_decided(now, changes);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.next_deadline()
    }

    fn on_time(&mut self, now: Time) -> Decided<Self> {
        let mut decided: Decided<Self> = self.on_time(now).into();
        // What time aborts has lasted too long.
        decided.told.timed_out = decided.told.aborted;
        decided
    }

    fn catalog(image: &ClusterImage, known: &Catalog) -> Option<Catalog> {
        catalog_of(image, known)
    }

    fn catalog_changed(&mut self, now: Time, catalog: Arc<Catalog>) -> Decided<Self> {
        self.set_catalog(catalog);
        Transactions::catalog_changed(self, now).into()
    }

    fn observe_load(metrics: &NodeMetrics, took: Duration) {
        metrics.transactions.load_seconds.record(took);
    }
}
