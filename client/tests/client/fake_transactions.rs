//! The coordinator of every transactional id, with faults that a test asks for, and what a partition does about
//! transactions. An epoch for each (KIP-890); markers are written before an end is answered.

use crate::fake::State;
use crate::fake_group::FakeGroup;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{PartitionId, PartitionKey, ProducerEpoch, ProducerId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::transaction_service_server::TransactionService;

/// What happens to the next call.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    Pass,
    Refuse(ErrorCode),
    /// It is carried out, and the connection breaks.
    LoseAnswer,
}

#[derive(Default)]
pub struct Transactions {
    /// What was asked, in order: `init`, `init 1/3` of one that is known, `offsets 1/0 m1@4`, `commit 1/0`, `abort 1/0`.
    pub said: Vec<String>,
    pub calls: VecDeque<Call>,
    pub by_id: HashMap<String, Transaction>,
}

#[derive(Default)]
pub struct Transaction {
    pub producer: Producer,
    /// Who it was in the one before.
    previous: Producer,
    /// How that ended.
    ended: Option<bool>,
    pub partitions: BTreeSet<(String, i32)>,
    /// By group and partition of `t`.
    pub offsets: BTreeMap<i32, i64>,
    open: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    pub id: u64,
    pub epoch: u32,
}

impl Transactions {
    /// A leader asks before it takes a batch.
    pub fn add(
        &mut self,
        id: &str,
        producer: (ProducerId, ProducerEpoch),
        partition: (String, i32),
    ) -> Result<(), ErrorCode> {
        let known = self.by_id.get_mut(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if (known.producer.id, known.producer.epoch) != (producer.0.0, producer.1.0) {
            return Err(ErrorCode::ProducerFenced);
        }
        known.open = true;
        known.partitions.insert(partition);
        Ok(())
    }

    /// Offsets that are to be committed with a transaction that is open.
    pub fn has_pending(&self) -> bool {
        self.by_id.values().any(|transaction| !transaction.offsets.is_empty())
    }
}

#[derive(Clone)]
pub struct FakeTransactions {
    pub cluster: Arc<Mutex<State>>,
    pub group: FakeGroup,
    pub changed: Arc<Notify>,
}

type Answer<T> = Result<Response<T>, Status>;

fn refuse(code: ErrorCode) -> Status {
    Refusal::new(code, "as the rules want").into()
}

impl FakeTransactions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.cluster.lock().unwrap()
    }

    /// Whether the answer is lost.
    fn called(state: &mut State, said: String) -> Result<bool, Status> {
        state.transactions.said.push(said);
        match state.transactions.calls.pop_front().unwrap_or(Call::Pass) {
            Call::Pass => Ok(false),
            Call::LoseAnswer => Ok(true),
            Call::Refuse(code) => Err(Refusal::new(code, "as the test wants").into()),
        }
    }

    fn settle(&self, state: &mut State, id: &str, commit: bool) {
        let State { topics, transactions, .. } = state;
        let transaction = transactions.by_id.get_mut(id).unwrap();
        let before = transaction.producer;
        transaction.producer.epoch += 1;
        for (topic, partition) in std::mem::take(&mut transaction.partitions) {
            let Some((topic_id, logs)) = topics.get_mut(&topic) else { continue };
            let key =
                PartitionKey { topic_id: *topic_id, partition: PartitionId(partition as u32) };
            logs[partition as usize].mark(&key, transaction.producer, commit);
        }
        let offsets = std::mem::take(&mut transaction.offsets);
        if commit {
            self.group.state().committed.extend(offsets);
        }
        transaction.open = false;
        (transaction.previous, transaction.ended) = (before, Some(commit));
        self.changed.notify_waiters();
    }
}

/// The connection broke.
fn answered<T>(lost: bool, answer: T) -> Answer<T> {
    if lost { Err(refuse(ErrorCode::OutcomeUnknown)) } else { Ok(Response::new(answer)) }
}

#[tonic::async_trait]
impl TransactionService for FakeTransactions {
    async fn init_producer_id(
        &self,
        request: Request<pb::InitProducerIdRequest>,
    ) -> Answer<pb::InitProducerIdResponse> {
        let request = request.into_inner();
        let id = request.transactional_id;
        let asks = Producer { id: request.producer_id, epoch: request.producer_epoch };
        let mut state = self.state();
        let said = match asks.id {
            0 => "init".to_owned(),
            _ => format!("init {}/{}", asks.id, asks.epoch),
        };
        let lost = Self::called(&mut state, said)?;
        if !state.transactions.by_id.contains_key(&id) {
            state.next_producer += 1;
            let producer = Producer { id: state.next_producer, epoch: 0 };
            let known = Transaction { producer, ..Transaction::default() };
            state.transactions.by_id.insert(id.clone(), known);
        } else {
            let known = &state.transactions.by_id[&id];
            if asks.id != 0 && asks != known.producer {
                return Err(refuse(ErrorCode::ProducerFenced));
            }
            if known.open {
                self.settle(&mut state, &id, false);
                return Err(refuse(ErrorCode::ConcurrentTransactions));
            }
            state.transactions.by_id.get_mut(&id).unwrap().producer.epoch += 1;
        }
        let Producer { id: producer_id, epoch } = state.transactions.by_id[&id].producer;
        answered(lost, pb::InitProducerIdResponse { producer_id, producer_epoch: epoch })
    }

    async fn add_partitions(
        &self,
        _: Request<pb::AddPartitionsRequest>,
    ) -> Answer<pb::AddPartitionsResponse> {
        Err(Status::unimplemented("leaders do it"))
    }

    async fn add_offsets(
        &self,
        _: Request<pb::AddOffsetsRequest>,
    ) -> Answer<pb::AddOffsetsResponse> {
        Err(Status::unimplemented("committing does it"))
    }

    async fn commit_transaction_offsets(
        &self,
        request: Request<pb::CommitTransactionOffsetsRequest>,
    ) -> Answer<pb::CommitTransactionOffsetsResponse> {
        let request = request.into_inner();
        let asks = Producer { id: request.producer_id, epoch: request.producer_epoch };
        let mut state = self.state();
        let (member, epoch) = (&request.member_id, request.member_epoch);
        let said = format!("offsets {}/{} {member}@{epoch}", asks.id, asks.epoch);
        let lost = Self::called(&mut state, said)?;
        let known = state.transactions.by_id.get_mut(&request.transactional_id).unwrap();
        if known.producer != asks {
            return Err(refuse(ErrorCode::ProducerFenced));
        }
        known.open = true;
        let mut results = Vec::new();
        for commit in request.commits {
            let (partition, offset) = (commit.partition.unwrap(), commit.offset.unwrap().offset);
            known.offsets.insert(partition.partition, offset);
            results.push(pb::PartitionCommitResult { partition: Some(partition), error: None });
        }
        answered(lost, pb::CommitTransactionOffsetsResponse { results })
    }

    async fn end_transaction(
        &self,
        request: Request<pb::EndTransactionRequest>,
    ) -> Answer<pb::EndTransactionResponse> {
        let commit = request.get_ref().outcome() == pb::TransactionOutcome::Commit;
        let request = request.into_inner();
        let (id, asks) = (
            request.transactional_id,
            Producer { id: request.producer_id, epoch: request.producer_epoch },
        );
        let mut state = self.state();
        let what = if commit { "commit" } else { "abort" };
        let lost = Self::called(&mut state, format!("{what} {}/{}", asks.id, asks.epoch))?;
        let known = &state.transactions.by_id[&id];
        let asks_again = known.previous == asks && known.ended == Some(commit) && !known.open;
        if !asks_again {
            if known.producer != asks {
                return Err(refuse(ErrorCode::ProducerFenced));
            }
            if !known.open {
                return Err(refuse(ErrorCode::InvalidTransactionState));
            }
            self.settle(&mut state, &id, commit);
        }
        let Producer { id: producer_id, epoch } = state.transactions.by_id[&id].producer;
        answered(lost, pb::EndTransactionResponse { producer_id, producer_epoch: epoch })
    }
}
