//! What operators see of transactions, and do about those that their coordinators know.

use super::coordination::Transactions;
use crate::forward::Call;
use crate::operations::page::Page;
use crate::operations::topic_lookup::target_of;
use crate::txn::{
    Described, Filter, ListedTxn, list_here, list_there, producers_at, producers_here,
};
use std::collections::BTreeSet;
use troupe_machines::cluster::check_topic_name;
use troupe_machines::replica::ProducerState;
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, PartitionId};
use troupe_proto::log::v1::TopicPartition;

/// One page of transactional ids.
pub struct Listed {
    pub transactions: Vec<ListedTxn>,
    pub next_page_token: String,
    /// The partitions of `__transaction_state` whose ids these are.
    pub partitions: BTreeSet<PartitionId>,
}

impl Transactions {
    /// Transactional ids by name: of all coordinators, or of those of this node if it is another that asks.
    ///
    /// # Errors
    /// `COORDINATOR_LOADING`, `COORDINATOR_NOT_AVAILABLE`.
    pub async fn list(&self, filter: &Filter, page: &Page, call: Call) -> Result<Listed, Error> {
        let here = |handle| list_here(handle, filter);
        let there = |leader, until| list_there(&self.route, leader, until, filter);
        let listed = match call.forwarded {
            true => self.route.ask_here(here).await?,
            false => self.route.ask_all(call.deadline, here, there).await?,
        };
        let listed_items = listed.items.into_values();
        let (transactions, next_page_token) =
            page.cut(listed_items, |one| one.transactional_id.clone());
        Ok(Listed { transactions, next_page_token, partitions: listed.partitions })
    }

    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`.
    pub async fn describe(&self, transactional_id: &str, call: Call) -> Result<Described, Error> {
        self.route.describe(transactional_id, call).await
    }

    /// Aborts what is open, and fences its producer.
    ///
    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`, `INVALID_TRANSACTION_STATE`.
    pub async fn abort(&self, transactional_id: &str, call: Call) -> Result<(), Error> {
        self.route.abort(transactional_id, call).await
    }

    /// Who writes to a partition, as its leader knows.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `UNKNOWN_PARTITION`, `LEADER_NOT_AVAILABLE`.
    pub async fn producers(
        &self,
        topic: String,
        partition: i32,
        call: Call,
    ) -> Result<Vec<ProducerState>, Error> {
        check_topic_name(&topic)?;
        let named = TopicPartition { topic, partition, topic_id: Default::default() };
        let metadata = &self.leaders.metadata;
        if call.forwarded {
            let partition = metadata.partition(Some(&named))?;
            let known = producers_here(&partition, call.meant_epoch.map(LeaderEpoch)).await;
            return known.map_err(|error| metadata.hinted(error, Some(&named)));
        }
        let target = target_of(metadata, &named).await?;
        producers_at(&self.leaders, &target, call.deadline).await
    }
}
