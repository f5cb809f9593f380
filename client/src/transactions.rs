//! Transactions of a producer: records to several partitions, and the offsets of a group, all or nothing.
//!
//! ```text
//! Producer, Transaction -- begin, commit, abort --> Transactions -- InitProducerId, CommitOffsets, End --> coordinator
//!        |                                            ^     |
//!        +-- send --> queues --> sender -- failed ----+     +-- who writes, in which epoch --> sender
//! ```
//!
//! - `state`: which call may come next, pure; `error`: what is left to do; `guard`: [`Transaction`]; `calls`: the
//!   coordinator; `committing`: commits that nobody waits for; `producer`: Kafka's five calls.
//!
//! Promises: a call in the wrong order changes nothing; what failed once is not committed; a commit that was not answered
//! can only be asked for again, and is answered the same; nothing of one transaction is taken for the next one's: each has
//! an epoch of its own (KIP-890), or is decided with others that all were asked to be committed; what is still under way
//! when it is aborted is given up first.
//! Never here: batches, sequences.

mod calls;
mod committing;
mod error;
mod guard;
mod metadata;
mod producer;
mod state;

pub use committing::Committing;
pub use error::TransactionError;
pub use guard::Transaction;
pub use metadata::ConsumerGroupMetadata;

use crate::client::Inner;
use crate::error::ClientError;
use crate::producer::{Accumulator, ProducerConfig, Session};
use calls::Outcome;
use error::Call;
use parking_lot::Mutex;
use state::{Phase, State, Step};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout_at};
use troupe_proto::error::{Error as Refusal, ErrorCode};

/// What a transactional producer has beside its queues.
pub(crate) struct Transactions {
    client: Arc<Inner>,
    pub(crate) id: String,
    timeout: Duration,
    max_block: Duration,
    state: Mutex<State>,
    /// One call at a time.
    calls: tokio::sync::Mutex<()>,
    /// Nothing that was asked to be committed is unanswered any more.
    answered: Notify,
}

impl Transactions {
    /// None: the producer has no transactional id.
    pub(crate) fn of(client: &Arc<Inner>, config: &ProducerConfig) -> Option<Arc<Self>> {
        let id = config.transactional_id.clone()?;
        Some(Arc::new(Self {
            client: client.clone(),
            id,
            timeout: config.transaction_timeout,
            max_block: config.max_block,
            state: Mutex::default(),
            calls: tokio::sync::Mutex::default(),
            answered: Notify::new(),
        }))
    }

    /// The transaction that a record of so many bytes is sent in. Asked under the lock of its queue: what comes behind the
    /// flush of a commit is refused.
    pub(crate) fn take(&self, bytes: usize) -> Result<u64, ClientError> {
        self.state.lock().take(bytes).map_err(|error| match error {
            TransactionError::Abortable(cause) => failed(&cause),
            other => other.into(),
        })
    }

    /// The record was not taken after all.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.state.lock().give_back(bytes);
    }

    /// Who writes now, and up to which transaction.
    pub(crate) fn writes(&self) -> (Option<Session>, u64) {
        self.state.lock().writes()
    }

    /// Who writes now.
    pub(crate) fn session(&self) -> Option<Session> {
        self.state.lock().session()
    }

    /// A batch leaves.
    pub(crate) fn note_written(&self) {
        self.state.lock().note_written();
    }

    /// Something of this transaction was not appended.
    pub(crate) fn fail(&self, error: &ClientError, transaction: u64) {
        // Whoever has aborted it knows.
        if matches!(error, ClientError::TransactionAborted { .. }) {
            return;
        }
        let error = TransactionError::of_record(error.clone());
        self.state.lock().fail(error, Some(transaction));
        self.tell_answered();
    }

    /// A record was not even taken.
    pub(crate) fn refuse(&self, error: &ClientError) {
        let is_news = !matches!(
            error,
            ClientError::TransactionFailed { .. }
                | ClientError::TransactionAborted { .. }
                | ClientError::IllegalState { .. }
                | ClientError::Closed { .. }
        );
        if is_news {
            self.state.lock().fail(TransactionError::of_record(error.clone()), None);
            self.tell_answered();
        }
    }

    /// Somebody has to see to what waits to be sent.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().unseen
    }

    /// Something has failed since this was asked last.
    pub(crate) fn take_failed(&self) -> bool {
        std::mem::take(&mut self.state.lock().unseen)
    }

    /// What to tell those who wait to be sent in vain: all behind this transaction.
    pub(crate) fn doom(&self) -> Option<(ClientError, u64)> {
        self.state.lock().doom().map(|(cause, behind)| (failed(cause), behind))
    }

    async fn init(&self, accumulator: &Accumulator) -> Result<(), TransactionError> {
        let _one = self.calls.lock().await;
        self.state.lock().check_init()?;
        let deadline = Instant::now() + self.max_block;
        let (id, epoch) = self
            .init_producer(accumulator, None, deadline)
            .await
            .map_err(|error| self.failed_call(Call::Init, error))?;
        self.state.lock().initialised(id, epoch);
        Ok(())
    }

    /// The number of the transaction that is open from here on.
    async fn begin(&self, accumulator: &Accumulator) -> Result<u64, TransactionError> {
        let _one = self.calls.lock().await;
        if self.state.lock().phase == Phase::Aborting {
            // Left by who dropped it, or did not wait.
            self.finish_abort(accumulator, Instant::now() + self.max_block).await?;
        }
        self.state.lock().begin()
    }

    async fn commit(&self, accumulator: &Accumulator) -> Result<(), TransactionError> {
        let _one = self.calls.lock().await;
        let deadline = Instant::now() + self.max_block;
        self.until_answered(deadline).await?;
        let step = self.state.lock().begin_commit()?;
        if step == Step::Flush {
            let flushed = timeout_at(deadline, accumulator.flushed()).await;
            flushed.map_err(|_| self.late("not everything that was sent is answered"))?;
            if !self.state.lock().flushed()? {
                return Ok(());
            }
        }
        let (id, epoch) = self
            .end(accumulator, Outcome::Commit, deadline)
            .await
            .map_err(|error| self.failed_call(Call::End, error))?;
        self.state.lock().initialised(id, epoch);
        Ok(())
    }

    async fn abort(
        &self,
        accumulator: &Accumulator,
        patience: Duration,
    ) -> Result<(), TransactionError> {
        let _one = self.calls.lock().await;
        self.state.lock().begin_abort()?;
        self.finish_abort(accumulator, Instant::now() + patience.min(self.max_block)).await
    }

    async fn finish_abort(
        &self,
        accumulator: &Accumulator,
        deadline: Instant,
    ) -> Result<(), TransactionError> {
        self.give_up_open(accumulator);
        self.until_answered(deadline).await?;
        // Of commits that have failed meanwhile.
        accumulator.give_up(&ClientError::TransactionAborted { sent: false }, 0);
        let session = {
            let mut state = self.state.lock();
            match state.session().filter(|_| state.wrote()) {
                Some(session) => session,
                None => {
                    state.aborted_unwritten();
                    return Ok(());
                }
            }
        };
        let mut ended = self.end(accumulator, Outcome::Abort, deadline).await;
        let reason = ended.as_ref().err().map(ClientError::reason);
        // What has left may not have arrived yet: in another epoch it never will.
        if let Some(ErrorCode::InvalidTransactionState | ErrorCode::InvalidProducerIdMapping) =
            reason
        {
            ended = self.init_producer(accumulator, Some(session), deadline).await;
        }
        let (id, epoch) = ended.map_err(|error| self.failed_call(Call::End, error))?;
        self.state.lock().initialised(id, epoch);
        Ok(())
    }

    async fn send_offsets(
        &self,
        accumulator: &Accumulator,
        offsets: crate::consumer::Offsets,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        let _one = self.calls.lock().await;
        let deadline = Instant::now() + self.max_block;
        self.state.lock().check_send()?;
        // The groups know of one transaction of a producer at a time.
        self.until_answered(deadline).await?;
        {
            let mut state = self.state.lock();
            state.check_send()?;
            if offsets.is_empty() {
                return Ok(());
            }
            state.note_offsets(false);
        }
        let due = group.due(offsets);
        self.commit_offsets(accumulator, due, group, deadline)
            .await
            .map_err(|error| self.failed_call(Call::Offsets, error))?;
        self.state.lock().note_offsets(true);
        Ok(())
    }

    fn failed_call(&self, call: Call, error: ClientError) -> TransactionError {
        let error = TransactionError::of_call(call, error);
        self.state.lock().fail(error.clone(), None);
        error
    }

    /// What was sent in the transaction that is open. What was asked to be committed stays.
    fn give_up_open(&self, accumulator: &Accumulator) {
        let behind = self.state.lock().last_asked();
        accumulator.give_up(&ClientError::TransactionAborted { sent: false }, behind);
    }

    fn late(&self, what: &str) -> TransactionError {
        let message = format!("{what} within max_block = {} ms", self.max_block.as_millis());
        TransactionError::Retriable(Refusal::new(ErrorCode::RequestTimedOut, message).into())
    }

    /// Whoever had the transaction is gone: what it has not sent is given up, and the coordinator told in the
    /// background. `number`: of this one only.
    pub(crate) fn abandon(self: &Arc<Self>, accumulator: &Arc<Accumulator>, number: Option<u64>) {
        if !self.state.lock().abandon(number) {
            return;
        }
        self.give_up_open(accumulator);
        // Without a runtime its time-out ends it, or the next instance.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (this, accumulator) = (self.clone(), accumulator.clone());
        runtime.spawn(async move {
            let _one = this.calls.lock().await;
            if this.state.lock().phase == Phase::Aborting {
                let deadline = Instant::now() + this.max_block;
                if let Err(error) = this.finish_abort(&accumulator, deadline).await {
                    tracing::warn!(id = this.id, %error, "a transaction that was dropped is not aborted");
                }
            }
        });
    }

    /// P23. A transaction that is open when its producer is closed is aborted.
    pub(crate) async fn close(&self, accumulator: &Accumulator, patience: Duration) {
        let deadline = Instant::now() + patience.min(self.max_block);
        if let Err(error) = self.until_answered(deadline).await {
            tracing::warn!(id = self.id, %error, "a producer closes before its commits are answered");
        }
        let is_open = {
            let phase = self.state.lock().phase;
            matches!(phase, Phase::Open | Phase::Flushing | Phase::Aborting | Phase::Failed)
        };
        if is_open && let Err(error) = self.abort(accumulator, patience).await {
            tracing::warn!(id = self.id, %error, "the transaction of a producer that closes is not aborted");
        }
    }
}

fn failed(cause: &ClientError) -> ClientError {
    ClientError::TransactionFailed { cause: Box::new(cause.clone()) }
}
