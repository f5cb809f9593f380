//! The transactional ids that a node coordinates, as another node or an operator hears of them.

use super::aliases::{TxnHandle, TxnRoute};
use super::message::Described;
use super::wire::{producer, state_from_wire, state_to_wire};
use crate::clock::wall_clock;
use crate::coordinator::{Answered, coordinated};
use crate::forward::forwarding;
use crate::metadata_cache::LeaderAt;
use crate::peers::{Purpose, failure};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_machines::time::Time;
use troupe_machines::txn::{Description, Listing, Producer, State, TxnPartition};
use troupe_proto::admin::v1 as pb;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, PartitionId, ProducerId, TopicId};

/// Ids of one answer between nodes.
const PAGE: i32 = 10_000;

/// Which ones are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// None: in whatever state.
    pub states: Vec<State>,
    /// `None`: of whatever producer.
    pub producer: Option<ProducerId>,
    /// What is open has been so for at least so long; 0: whether anything is open or not.
    pub open_for_ms: u64,
}

impl Filter {
    fn takes(&self, listing: &Listing, now: Time) -> bool {
        let in_state = self.states.is_empty() || self.states.contains(&listing.state);
        let of_producer = self.producer.is_none_or(|id| id == listing.producer.id);
        let is_old = |started: Time| started.plus(self.open_for_ms) <= now;
        let is_open = listing.state == State::Ongoing;
        let long_enough = self.open_for_ms == 0 || is_open && listing.started.is_some_and(is_old);
        in_state && of_producer && long_enough
    }
}

/// A transactional id, and who coordinates it.
#[derive(Clone, Debug)]
pub struct ListedTxn {
    pub transactional_id: String,
    pub producer: Producer,
    pub state: State,
    pub coordinator: NodeId,
}

/// Those of one coordinator of this node.
pub async fn list_here(
    handle: Arc<TxnHandle>,
    filter: &Filter,
) -> Result<BTreeMap<String, ListedTxn>, Error> {
    let (coordinator, now) = (handle.node_id(), wall_clock());
    let listed = handle.list().await?.into_iter().filter(|listing| filter.takes(listing, now));
    let listed = listed.map(|Listing { transactional_id, producer, state, .. }| {
        let transactional_id = transactional_id.to_string();
        let listed =
            ListedTxn { transactional_id: transactional_id.clone(), producer, state, coordinator };
        (transactional_id, listed)
    });
    Ok(listed.collect())
}

/// Those that another node coordinates.
pub async fn list_there(
    route: &TxnRoute,
    leader: LeaderAt,
    deadline: Instant,
    filter: &Filter,
) -> Result<Answered<ListedTxn>, Error> {
    let channel = route.calls.peers.channel(&leader.endpoint, Purpose::Control)?;
    let mut client = route.admin_client(channel);
    let mut listed: Option<Answered<ListedTxn>> = None;
    let mut page_token = String::new();
    loop {
        let request = pb::ListTransactionsRequest {
            page_size: PAGE,
            page_token,
            states: filter.states.iter().map(|state| state_to_wire(*state).into()).collect(),
            producer_id: filter.producer.map_or(0, |id| id.0),
            open_for_ms: filter.open_for_ms,
        };
        let answer = client.list_transactions(forwarding(request, deadline)).await;
        let answer =
            answer.map_err(|status| failure(status, ErrorCode::CoordinatorNotAvailable))?;
        let partitions = coordinated(answer.metadata());
        let answer = answer.into_inner();
        let listed = listed.get_or_insert_with(|| Answered {
            partitions: partitions.clone(),
            ..Answered::default()
        });
        // What moved away between two pages is in neither as a whole.
        listed.partitions = &listed.partitions & &partitions;
        for one in answer.transactions {
            let one = listed_of(one)?;
            listed.items.insert(one.transactional_id.clone(), one);
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(std::mem::take(listed));
        }
    }
}

fn listed_of(listing: pb::TransactionListing) -> Result<ListedTxn, Error> {
    Ok(ListedTxn {
        producer: producer(listing.producer_id, listing.producer_epoch).map_err(|_| malformed())?,
        state: state_from_wire(listing.state()).ok_or_else(malformed)?,
        coordinator: NodeId(listing.coordinator),
        transactional_id: listing.transactional_id,
    })
}

/// What another node's coordinator knows of a transactional id.
pub fn described(answer: pb::DescribeTransactionResponse) -> Result<Described, Error> {
    let listing = listed_of(answer.transaction.unwrap_or_default())?;
    let partitions = answer.partitions.into_iter().map(|named| {
        Some(TxnPartition {
            topic: named.topic.into(),
            topic_id: TopicId::from_wire(&named.topic_id)?,
            partition: PartitionId(u32::try_from(named.partition).ok()?),
        })
    });
    Ok(Described {
        transactional_id: listing.transactional_id,
        coordinator: listing.coordinator,
        known: Description {
            producer: listing.producer,
            state: listing.state,
            timeout_ms: answer.timeout_ms,
            started: answer.start_time_ms.map(|ms| Time(u64::try_from(ms).unwrap_or(0))),
            partitions: partitions.collect::<Option<_>>().ok_or_else(malformed)?,
        },
    })
}

fn malformed() -> Error {
    let message = "the coordinator's node answered what cannot be";
    Error::new(ErrorCode::CoordinatorNotAvailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::ProducerEpoch;

    #[test]
    fn a_listing_is_of_what_is_asked_for() {
        let producer = Producer { id: ProducerId(4), epoch: ProducerEpoch(0) };
        let open = Listing {
            transactional_id: "x".into(),
            producer,
            state: State::Ongoing,
            started: Some(Time(1_000)),
        };
        let prepared = Listing { state: State::PrepareCommit, ..open.clone() };
        let takes = |filter: &Filter| {
            (filter.takes(&open, Time(1_500)), filter.takes(&prepared, Time(1_500)))
        };
        assert_eq!(takes(&Filter::default()), (true, true));
        let states = vec![State::Ongoing, State::Empty];
        assert_eq!(takes(&Filter { states, ..Filter::default() }), (true, false));
        let of = |id| Filter { producer: Some(ProducerId(id)), ..Filter::default() };
        assert_eq!((takes(&of(4)), takes(&of(5))), ((true, true), (false, false)));
        let since = |open_for_ms| Filter { open_for_ms, ..Filter::default() };
        assert_eq!((takes(&since(500)), takes(&since(501))), ((true, false), (false, false)));
    }
}
