//! `troupe.admin.v1.TransactionService` over [`Transactions`].

use super::numbers::int32;
use crate::coordinator::tell_coordinated;
use crate::forward::Call;
use crate::operations::{HangingQuery, LookedAt, Page, Transactions};
use crate::txn::{Filter, ListedTxn, state_from_wire, state_to_wire};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_machines::replica::ProducerState;
use troupe_machines::time::Time;
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::transaction_service_server::TransactionService;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, ProducerId};

/// What hangs has been open for longer, unless the request says otherwise.
const HANGING_MS: u64 = 15 * 60_000;

pub struct TransactionAdminDoor(pub Arc<Transactions>);

fn listing(listed: ListedTxn) -> pb::TransactionListing {
    pb::TransactionListing {
        transactional_id: listed.transactional_id,
        producer_id: listed.producer.id.0,
        producer_epoch: listed.producer.epoch.0,
        state: state_to_wire(listed.state).into(),
        coordinator: listed.coordinator.0,
    }
}

fn state(known: &ProducerState) -> pb::ProducerState {
    pb::ProducerState {
        producer_id: known.id.0,
        producer_epoch: known.epoch.0,
        last_sequence: known.last_sequence.map(|sequence| sequence.0),
        last_timestamp_ms: known.last_append.as_timestamp(),
        coordinator_epoch: known.coordinator_epoch.map(|epoch| epoch.0),
        transaction_start_offset: known.transaction_first_offset.map(Offset::to_wire),
    }
}

/// # Errors
/// `INVALID_REQUEST`: it names a state that there is not.
fn filter(request: &pb::ListTransactionsRequest) -> Result<Filter, Error> {
    let known = |number: &i32| {
        let state = pb::TransactionState::try_from(*number).ok().and_then(state_from_wire);
        state.ok_or_else(|| {
            let message = format!("{number} is no state of transactions");
            Error::new(ErrorCode::InvalidRequest, message)
        })
    };
    Ok(Filter {
        states: request.states.iter().map(known).collect::<Result<_, _>>()?,
        producer: ProducerId::from_wire(request.producer_id),
        open_for_ms: request.open_for_ms,
    })
}

fn hanging(looked: LookedAt) -> pb::FindHangingTransactionsResponse {
    let transactions = looked.hanging.iter().map(|hanging| pb::HangingTransaction {
        topic: hanging.at.topic.to_string(),
        partition: hanging.at.number(),
        producer_id: hanging.open.id.0,
        producer_epoch: hanging.open.epoch.0,
        start_offset: hanging.open.transaction_first_offset.map_or(-1, Offset::to_wire),
        last_timestamp_ms: hanging.open.last_append.as_timestamp(),
    });
    let unasked = looked.unasked.iter().map(|(at, error)| pb::UnaskedPartition {
        topic: at.topic.to_string(),
        partition: at.number(),
        error: Some(error.clone().into()),
    });
    pb::FindHangingTransactionsResponse {
        transactions: transactions.collect(),
        unasked: unasked.collect(),
    }
}

#[tonic::async_trait]
impl TransactionService for TransactionAdminDoor {
    async fn list_transactions(
        &self,
        request: Request<pb::ListTransactionsRequest>,
    ) -> Result<Response<pb::ListTransactionsResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let filter = filter(&request)?;
        let page = Page::new(request.page_size, request.page_token)?;
        let listed = self.0.list(&filter, &page, call).await?;
        let mut answer = Response::new(pb::ListTransactionsResponse {
            transactions: listed.transactions.into_iter().map(listing).collect(),
            next_page_token: listed.next_page_token,
        });
        if call.forwarded {
            tell_coordinated(&listed.partitions, answer.metadata_mut());
        }
        Ok(answer)
    }

    async fn describe_transaction(
        &self,
        request: Request<pb::DescribeTransactionRequest>,
    ) -> Result<Response<pb::DescribeTransactionResponse>, Status> {
        let call = Call::of(&request)?;
        let described = self.0.describe(&request.into_inner().transactional_id, call).await?;
        let partitions = described.known.partitions.iter().map(|it| pb::TransactionPartition {
            topic: it.topic.to_string(),
            partition: int32(it.partition.0),
            topic_id: it.topic_id.to_wire(),
        });
        Ok(Response::new(pb::DescribeTransactionResponse {
            partitions: partitions.collect(),
            timeout_ms: described.known.timeout_ms,
            start_time_ms: described.known.started.map(Time::as_timestamp),
            transaction: Some(listing(ListedTxn {
                transactional_id: described.transactional_id,
                producer: described.known.producer,
                state: described.known.state,
                coordinator: described.coordinator,
            })),
        }))
    }

    async fn abort_transaction(
        &self,
        request: Request<pb::AbortTransactionRequest>,
    ) -> Result<Response<pb::AbortTransactionResponse>, Status> {
        let call = Call::of(&request)?;
        self.0.abort(&request.into_inner().transactional_id, call).await?;
        Ok(Response::new(pb::AbortTransactionResponse {}))
    }

    async fn describe_producers(
        &self,
        request: Request<pb::DescribeProducersRequest>,
    ) -> Result<Response<pb::DescribeProducersResponse>, Status> {
        let call = Call::of(&request)?;
        let pb::DescribeProducersRequest { topic, partition } = request.into_inner();
        let known = self.0.producers(topic, partition, call).await?;
        let producers = known.iter().map(state).collect();
        Ok(Response::new(pb::DescribeProducersResponse { producers }))
    }

    async fn find_hanging_transactions(
        &self,
        request: Request<pb::FindHangingTransactionsRequest>,
    ) -> Result<Response<pb::FindHangingTransactionsResponse>, Status> {
        let Call { deadline, .. } = Call::of(&request)?;
        let request = request.into_inner();
        let query = HangingQuery {
            topic: Some(request.topic).filter(|topic| !topic.is_empty()),
            partition: request.partition,
            open_for_ms: if request.open_for_ms == 0 { HANGING_MS } else { request.open_for_ms },
        };
        Ok(Response::new(hanging(self.0.find_hanging(query, deadline).await?)))
    }

    async fn abort_hanging_transaction(
        &self,
        request: Request<pb::AbortHangingTransactionRequest>,
    ) -> Result<Response<pb::AbortHangingTransactionResponse>, Status> {
        let Call { deadline, .. } = Call::of(&request)?;
        let request = request.into_inner();
        let start = Offset::from_wire(request.start_offset);
        self.0.abort_hanging(request.topic, request.partition, start, deadline).await?;
        Ok(Response::new(pb::AbortHangingTransactionResponse {}))
    }
}
