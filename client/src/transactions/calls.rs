//! What the coordinator is asked. Any node takes the calls; each is asked again until it is answered, refused for good, or
//! the time is over: the same request is answered the same.

use super::error::may_pass;
use super::{ConsumerGroupMetadata, Transactions};
use crate::consumer::{Due, sort_out, to_commits};
use crate::error::ClientError;
use crate::producer::{Accumulator, Session};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use tonic::{Response, Status};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{ProducerEpoch, ProducerId};
use troupe_proto::log::v1 as wire;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;

/// How a transaction shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Commit,
    Abort,
}

pub(super) type Identity = (ProducerId, ProducerEpoch);

impl Transactions {
    /// Who writes from now on. `known`: who did, to be given the next epoch; without it whoever has the id is fenced.
    pub(super) async fn init_producer(
        &self,
        accumulator: &Accumulator,
        known: Option<Session>,
        deadline: Instant,
    ) -> Result<Identity, ClientError> {
        let request = wire::InitProducerIdRequest {
            transactional_id: self.id.clone(),
            transaction_timeout_ms: u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX),
            producer_id: known.map_or(0, |known| known.id.0),
            producer_epoch: known.map_or(0, |known| known.epoch.0),
            unless_committed: false,
        };
        let answer = self.ask(accumulator, deadline, |channel| {
            let request = request.clone();
            async move { TransactionServiceClient::new(channel).init_producer_id(request).await }
        });
        let answer = answer.await?;
        Ok((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)))
    }

    /// Who writes in the next transaction, once this one is decided.
    pub(super) async fn end(
        &self,
        accumulator: &Accumulator,
        outcome: Outcome,
        deadline: Instant,
    ) -> Result<Identity, ClientError> {
        let outcome = match outcome {
            Outcome::Commit => wire::TransactionOutcome::Commit,
            Outcome::Abort => wire::TransactionOutcome::Abort,
        };
        let (producer_id, producer_epoch) = self.identity();
        let request = wire::EndTransactionRequest {
            transactional_id: self.id.clone(),
            producer_id,
            producer_epoch,
            outcome: outcome.into(),
        };
        let answer = self.ask(accumulator, deadline, |channel| {
            let request = request.clone();
            async move { TransactionServiceClient::new(channel).end_transaction(request).await }
        });
        let answer = answer.await?;
        Ok((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)))
    }

    /// Offsets that stand when the transaction is committed.
    pub(super) async fn commit_offsets(
        &self,
        accumulator: &Accumulator,
        mut due: Due,
        group: &ConsumerGroupMetadata,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let (producer_id, producer_epoch) = self.identity();
        let mut failures = 0;
        loop {
            let request = wire::CommitTransactionOffsetsRequest {
                transactional_id: self.id.clone(),
                producer_id,
                producer_epoch,
                group_id: group.group_id.clone(),
                member_id: group.member_id.clone(),
                member_epoch: group.member_epoch,
                instance_id: group.instance_id.clone(),
                commits: to_commits(&due).collect(),
            };
            let answer = self.ask(accumulator, deadline, |channel| {
                let request = request.clone();
                async move {
                    TransactionServiceClient::new(channel).commit_transaction_offsets(request).await
                }
            });
            let Some(error) = sort_out(&mut due.offsets, answer.await?.results) else {
                return Ok(());
            };
            self.pause(accumulator, error, &mut failures, deadline).await?;
        }
    }

    fn identity(&self) -> (u64, u32) {
        let session = self.session();
        session.map_or((0, 0), |session| (session.id.0, session.epoch.0))
    }

    async fn ask<T, F>(
        &self,
        accumulator: &Accumulator,
        deadline: Instant,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut failures = 0;
        loop {
            let asked = timeout_at(deadline, self.client.connections.call(true, &call)).await;
            let error = match asked {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.unanswered()),
            };
            self.pause(accumulator, error, &mut failures, deadline).await?;
        }
    }

    /// Before the next try; or the error, if there is none.
    async fn pause(
        &self,
        accumulator: &Accumulator,
        error: ClientError,
        failures: &mut u32,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let pause = accumulator.rules.backoff(error.reason(), *failures, rand::random());
        if !may_pass(&error) || Instant::now() + pause >= deadline {
            return Err(error);
        }
        tracing::debug!(id = self.id, %error, "asks the coordinator again");
        *failures += 1;
        sleep(pause).await;
        Ok(())
    }

    fn unanswered(&self) -> ClientError {
        let what = format!("the coordinator of transactional id {} did not answer", self.id);
        let message = format!("{what} within max_block = {} ms", self.max_block.as_millis());
        Refusal::new(ErrorCode::RequestTimedOut, message).into()
    }
}
