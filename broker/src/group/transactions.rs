//! Offsets in transactions: how a group's coordinator is asked for them, and told what became of the transaction.
//!
//! ```text
//!  a commit ─► GroupRoute ─┬─► GroupHandle ─► GroupActor ─► answered when it is on every in-sync replica
//!                          └─► the same call once more, to the node of the group's coordinator
//!  a marker ─► GroupHandle ─► GroupActor
//! ```
//!
//! Never here: whether the transaction's coordinator knows that the group is part of it, which has to be before; who
//! carries markers.

use super::aliases::{GroupActor, GroupHandle, GroupRoute};
use super::commit::commit_in_transaction_here;
use super::handle::are_refused;
use super::message::{CommitTransactionOffsets, OffsetsMarker, WriteMarkers};
use crate::clock::now;
use crate::coordinator::{Decided, Question, RequestTime, outcome_unknown};
use crate::forward::Call;
use actix::{Context, Handler};
use tokio::sync::oneshot;
use troupe_machines::group::Scope;
use troupe_machines::producer::Producer;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{ProducerEpoch, ProducerId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;

impl Handler<CommitTransactionOffsets> for GroupActor {
    type Result = ();

    fn handle(&mut self, message: CommitTransactionOffsets, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let CommitTransactionOffsets { producer, request, time, reply } = message;
        let Some(reply) = self.admit(reply) else { return };
        let scope = Scope::Transaction(producer, &request);
        if let Err(error) = self.check_order(time, &request.group_id, scope) {
            return self.answer(reply, Err(error), ctx);
        }
        let decision = self.machine.commit_in_transaction(now(), producer, &request);
        self.decide(reply, decision.map(Decided::from).map_err(Error::from), ctx);
    }
}

impl Handler<WriteMarkers> for GroupActor {
    type Result = ();

    fn handle(&mut self, WriteMarkers(markers): WriteMarkers, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.in_one_batch(ctx, |actor, ctx| {
            for (OffsetsMarker { producer, marker, version }, reply) in markers {
                let Some(reply) = actor.admit(reply) else { continue };
                let decision = actor.machine.mark(now(), producer, marker, version);
                if let Ok(decision) = &decision {
                    actor.count_commits(&decision.changes);
                }
                actor.decide(reply, decision.map(Decided::from).map_err(Error::from), ctx);
            }
        });
    }
}

impl GroupHandle {
    /// Offsets that stand if the transaction is committed. Who asks has seen to it that the group is part of it.
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` as for commits; then to ask for the same again does no harm.
    pub async fn commit_in_transaction(
        &self,
        producer: Producer,
        request: pb::CommitTransactionOffsetsRequest,
        time: RequestTime,
    ) -> Result<pb::CommitTransactionOffsetsResponse, Error> {
        let message = |reply| CommitTransactionOffsets { producer, request, time, reply };
        let answer = self.ask(message).await?;
        self.told_if(answer, |answer| are_refused(&answer.results)).await
    }

    /// Transactions are decided: the answers, in their order, come when that is on every in-sync replica. It may be told
    /// as often as one likes.
    pub async fn write_markers(&self, markers: Vec<OffsetsMarker>) -> Vec<Result<(), Error>> {
        let count = markers.len();
        let (markers, answers): (Vec<_>, Vec<_>) = markers
            .into_iter()
            .map(|marker| {
                let (reply, answer) = oneshot::channel();
                ((marker, reply), answer)
            })
            .unzip();
        if let Err(error) = self.send(WriteMarkers(markers)) {
            return vec![Err(error); count];
        }
        let answers = futures::future::join_all(answers).await.into_iter();
        answers.map(|answer| answer.unwrap_or_else(|_| Err(outcome_unknown()))).collect()
    }
}

impl GroupRoute {
    /// Commits in a transaction that the group is part of, wherever its coordinator is.
    ///
    /// # Errors
    /// `INVALID_GROUP_ID`, `PRODUCER_FENCED`; `UNKNOWN_MEMBER`, `STALE_MEMBER_EPOCH`, `FENCED_INSTANCE_ID`: the group has
    /// gone on without the member.
    pub async fn commit_in_transaction(
        &self,
        request: &pb::CommitTransactionOffsetsRequest,
        call: Call,
    ) -> Result<pb::CommitTransactionOffsetsResponse, Error> {
        let producer = producer_of(request)?;
        let key = &request.group_id;
        // What is pending already is not pending once more.
        let question = Question { key, call, may_repeat: true, creates: true, changes: true };
        self.ask_with(
            &question,
            request,
            |handle, request| async move {
                let time = call.into();
                commit_in_transaction_here(&self.metadata, &handle, producer, request, time).await
            },
            |channel, request| async move {
                TransactionServiceClient::new(channel)
                    .max_decoding_message_size(self.calls.max_answer_bytes)
                    .commit_transaction_offsets(request)
                    .await
            },
        )
        .await
    }
}

/// # Errors
/// `INVALID_REQUEST`: none is named.
fn producer_of(request: &pb::CommitTransactionOffsetsRequest) -> Result<Producer, Error> {
    let epoch = ProducerEpoch(request.producer_epoch);
    let id = ProducerId::from_wire(request.producer_id);
    id.map(|id| Producer { id, epoch }).ok_or_else(|| {
        let message = "name the producer that InitProducerId has given";
        Error::new(ErrorCode::InvalidRequest, message)
    })
}
