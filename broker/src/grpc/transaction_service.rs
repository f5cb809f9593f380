//! `troupe.log.v1.TransactionService` over [`Transactions`].

use crate::forward::Call;
use crate::operations::Transactions;
use crate::txn::{Initialise, producer};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_machines::txn::{ClientVersion, Outcome, Producer};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::transaction_service_server::TransactionService;

pub struct TransactionDoor(pub Arc<Transactions>);

/// Who asks.
fn of(
    transactional_id: String,
    producer_id: u64,
    producer_epoch: u32,
) -> Result<(String, Producer), Error> {
    Ok((transactional_id, producer(producer_id, producer_epoch)?))
}

/// # Errors
/// `INVALID_REQUEST`.
fn outcome(asked: pb::TransactionOutcome) -> Result<Outcome, Error> {
    match asked {
        pb::TransactionOutcome::Commit => Ok(Outcome::Commit),
        pb::TransactionOutcome::Abort => Ok(Outcome::Abort),
        pb::TransactionOutcome::Unspecified => {
            let message = "the request says neither commit nor abort";
            Err(Error::new(ErrorCode::InvalidRequest, message))
        }
    }
}

#[tonic::async_trait]
impl TransactionService for TransactionDoor {
    async fn init_producer_id(
        &self,
        request: Request<pb::InitProducerIdRequest>,
    ) -> Result<Response<pb::InitProducerIdResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let known = match request.producer_id {
            0 => None,
            id => Some(producer(id, request.producer_epoch)?),
        };
        let initialise = Initialise {
            transactional_id: request.transactional_id,
            timeout_ms: request.transaction_timeout_ms,
            version: ClientVersion::Second,
            known,
            once: request.unless_committed,
        };
        let given = self.0.init(initialise, call).await?;
        Ok(Response::new(pb::InitProducerIdResponse {
            producer_id: given.id.0,
            producer_epoch: given.epoch.0,
        }))
    }

    async fn add_partitions(
        &self,
        request: Request<pb::AddPartitionsRequest>,
    ) -> Result<Response<pb::AddPartitionsResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let of = of(request.transactional_id, request.producer_id, request.producer_epoch)?;
        self.0.add_partitions(of, request.partitions, call).await?;
        Ok(Response::new(pb::AddPartitionsResponse {}))
    }

    async fn add_offsets(
        &self,
        request: Request<pb::AddOffsetsRequest>,
    ) -> Result<Response<pb::AddOffsetsResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let of = of(request.transactional_id, request.producer_id, request.producer_epoch)?;
        self.0.add_offsets(of, vec![request.group_id], call).await?;
        Ok(Response::new(pb::AddOffsetsResponse {}))
    }

    async fn commit_transaction_offsets(
        &self,
        request: Request<pb::CommitTransactionOffsetsRequest>,
    ) -> Result<Response<pb::CommitTransactionOffsetsResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.0.commit_offsets(request.into_inner(), call).await?))
    }

    async fn end_transaction(
        &self,
        request: Request<pb::EndTransactionRequest>,
    ) -> Result<Response<pb::EndTransactionResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let outcome = outcome(request.outcome())?;
        let of = of(request.transactional_id, request.producer_id, request.producer_epoch)?;
        let next = self.0.end(of, outcome, call).await?;
        Ok(Response::new(pb::EndTransactionResponse {
            producer_id: next.id.0,
            producer_epoch: next.epoch.0,
        }))
    }
}
