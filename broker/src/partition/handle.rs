//! How everything outside the actor speaks to a partition: bounded in bytes, in our errors, and for
//! longer than any one actor lives.

use super::actor::PartitionActor;
use super::board::Board;
use super::chain::Chain;
use super::follower_sink::Pusher;
use super::messages::{
    Append, Appended, BeginCleaning, BeginMove, BeginScrub, Confirm, Copied, DeleteRecords,
    Describe, Description, FindOffset, Finding, FinishCleaning, FinishMove, FinishedCleaning,
    FromLeader, GiveUpDamage, GivenUp, Isolation, IsrAnswer, LogLook, LookAtLog, LossKnown,
    MendFiles, OffsetQuery, Original, Piece, PushOn, QUEUE_BYTES, Read, ReadAnswer, ReadForMove,
    Suspect, Suspicion, Verified as TransactionVerified,
};
use super::replica_handle::ReplicaHandle;
use super::responder::Responder;
use super::soundness::read_again;
use crate::metrics::Stages;
use crate::page_cache;
use actix::{Addr, Handler, Message};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use troupe_actor::{Budget, Die, Refused};
use troupe_log::disk::FileDisk;
use troupe_log::{Cleaned, Cleaning, FileCheck, LogError, Scrub};
use troupe_machines::replica::{Acks, DeleteUpTo, Reader};
use troupe_proto::batch::{ProducedBatch, Verified};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// How long a request waits for an actor that is being rebuilt, if nothing waits behind it.
pub const REBUILD_PATIENCE: Duration = Duration::from_secs(10);
/// The same, if other partitions' requests wait behind it; whoever asked may try again.
pub const CROWD_PATIENCE: Duration = Duration::from_millis(50);

/// A batch for [`PartitionHandle::append`].
pub struct AppendRequest {
    pub batch: ProducedBatch,
    pub verified: Verified,
    pub acks: Acks,
    pub timeout_ms: u32,
    /// The leader epoch that the client knows; a leader of another one refuses.
    pub expected_leader_epoch: Option<LeaderEpoch>,
    /// How long to wait for an actor that is being rebuilt.
    pub patience: Duration,
    /// It is refused if one before it was not appended.
    pub chain: Option<Arc<Chain>>,
    /// Of a batch that is part of a transaction: whose.
    pub transactional_id: Option<Arc<str>>,
}

/// What is read by [`PartitionHandle::read`].
#[derive(Clone, Debug, Default)]
pub struct ReadFrom {
    pub from: Offset,
    pub max_bytes: usize,
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub reader: Reader,
    pub isolation: Isolation,
}

/// What [`PartitionHandle::delete_records`] is to do.
#[derive(Clone, Copy, Debug)]
pub struct DeletionRequest {
    pub up_to: DeleteUpTo,
    /// How long in-sync replicas have.
    pub timeout_ms: u32,
    /// Only say where the log would start.
    pub validate_only: bool,
}

pub type PartitionBoard = Board<PartitionActor>;
type Owed = Responder<Appended>;

/// One partition of this node.
pub struct PartitionHandle {
    pub board: Arc<PartitionBoard>,
    /// The shard that its actor lives on.
    pub shard: usize,
    budget: Budget,
}

impl PartitionHandle {
    pub fn new(board: PartitionBoard, shard: usize) -> Self {
        Self { board: Arc::new(board), shard, budget: Budget::new(QUEUE_BYTES) }
    }

    pub fn key(&self) -> PartitionKey {
        self.board.key
    }

    pub fn topic(&self) -> &str {
        &self.board.topic
    }

    /// Appends; the responder is answered, always.
    pub async fn append(&self, request: AppendRequest, responder: Responder<Appended>) {
        let AppendRequest {
            batch,
            verified,
            acks,
            timeout_ms,
            expected_leader_epoch,
            patience,
            chain,
            transactional_id,
        } = request;
        let stages = Arc::new(Stages::begin());
        let bytes = batch.payload.len() as u64;
        let responder = self.timed(responder.of_chain(chain.clone()), &stages, bytes);
        let Some(budget) = self.budget.take(batch.payload.len()).await else {
            return responder.answer(Err(self.gone()));
        };
        match self.addr(patience).await {
            Ok(addr) => {
                let message = Append {
                    batch,
                    verified,
                    acks,
                    timeout_ms,
                    expected_leader_epoch,
                    chain,
                    transactional_id,
                    responder,
                    stages,
                    budget,
                };
                // A message that is refused is dropped, and its responder with it: answered.
                let _ = self.post(&addr, message);
            }
            Err(error) => responder.answer(Err(error)),
        }
    }

    /// The same responder, which also counts that it waits, and what it is answered with.
    fn timed(&self, responder: Owed, stages: &Arc<Stages>, bytes: u64) -> Owed {
        let (stages, board) = (Arc::clone(stages), Arc::clone(&self.board));
        let place = board.waits.enter(stages.began(), bytes);
        Responder::new(move |answer| {
            board.waits.leave(place);
            if board.faults.drops_reply() {
                // Dropped, it says that nobody knows.
                return drop(responder);
            }
            board.metrics.answered(&stages, answer.as_ref().err());
            responder.answer(answer);
        })
    }

    /// Reads what is there now, each batch checked: in memory, and not to wait for the disk. A leader of another epoch
    /// than the expected one refuses, and so does a replica that does not lead; unless a follower will do for the reader,
    /// and it is in step with the leader of that epoch.
    pub async fn read(&self, read: ReadFrom) -> Result<ReadAnswer, Error> {
        let ReadFrom { from, max_bytes, expected_leader_epoch, reader, isolation } = read;
        let read =
            |reply| Read { from, max_bytes, expected_leader_epoch, reader, isolation, reply };
        let mut answer = self.ask(read).await??;
        match page_cache::check(&answer.bytes, self.key(), from).await {
            Ok(()) => {}
            // What is good is handed out; the next read begins with what is not.
            Err(bad) if bad.position > 0 => {
                answer.bytes.truncate(bad.position);
                answer.next = bad.at;
            }
            Err(bad) => return Err(self.suspect(bad.at).await?.unwrap_or_else(read_again)),
        }
        self.board.metrics.handed_out(&answer.bytes, answer.by_follower);
        Ok(answer)
    }

    /// The batch that holds this offset is not what was written, as it was read. What a reader is to be told; nothing
    /// if it is sound.
    ///
    /// # Errors
    /// It could not be looked at.
    pub async fn suspect(&self, at: Offset) -> Result<Option<Error>, Error> {
        self.ask(|reply| Suspect { suspicion: Suspicion::At(at), reply }).await?
    }

    /// The same of a file that could not be read as what was written.
    pub async fn suspect_file(&self, error: LogError) -> Result<Option<Error>, Error> {
        self.ask(|reply| Suspect { suspicion: error.into(), reply }).await?
    }

    /// What is damaged, and no other replica has, is given up; says which offsets.
    ///
    /// # Errors
    /// `NOT_LEADER`; `INVALID_REQUEST` if there is nothing to give up.
    pub async fn give_up_damage(&self) -> GivenUp {
        self.ask(|reply| GiveUpDamage { reply }).await?
    }

    /// A pass over all that is flushed.
    pub async fn begin_scrub(&self) -> Result<Scrub<FileDisk>, Error> {
        self.ask(|reply| BeginScrub { reply }).await
    }

    /// The small files are looked at, and the indexes of these segments made again.
    pub async fn mend_files(&self, wrong_indexes: Vec<Offset>) -> Result<FileCheck, Error> {
        self.ask(|reply| MendFiles { wrong_indexes, reply }).await?
    }

    /// Returns when there is something to read at `from`, or an error to be found by reading.
    pub async fn readable(&self, from: Offset, reader: &Reader, isolation: Isolation) {
        let readable = || {
            let served = self.board.serves(reader) && !self.board.is_gone();
            (!served || self.board.readable_end(isolation) > from).then_some(())
        };
        self.board.wait_for(readable).await;
    }

    /// Whether a request would be answered, if only with an error, without waiting for an actor to be built.
    pub fn answers_now(&self) -> bool {
        self.board.is_gone() || self.has_actor()
    }

    /// Returns when an actor serves, or with the error that a request would be answered with.
    pub async fn serves(&self, patience: Duration) -> Result<(), Error> {
        self.addr(patience).await.map(drop)
    }

    pub fn has_actor(&self) -> bool {
        self.board.addr().is_some()
    }

    /// Kills the actor, or revives a replica that is offline; returns the number of restarts when one serves again.
    ///
    /// # Errors
    /// Why none serves, at the latest after `patience`.
    pub async fn kill(&self, die: Die, patience: Duration) -> Result<u32, Error> {
        let restarts = self.board.kill(|addr| self.board.mailbox.try_send(addr, die).is_ok());
        self.rebuilt(restarts, patience).await
    }

    /// Returns the number of restarts when it is at least `restarts` and an actor serves.
    pub async fn rebuilt(&self, restarts: u32, patience: Duration) -> Result<u32, Error> {
        match tokio::time::timeout(patience, self.board.rebuilt(restarts)).await {
            Ok(rebuilt) => rebuilt.ok_or_else(|| self.gone()),
            Err(_) => {
                let message = "the actor was killed and has not come back yet";
                Err(Error::new(ErrorCode::RequestTimedOut, message))
            }
        }
    }

    /// As far as this replica knows: it may have been replaced without having heard of it; and in which leader epoch.
    /// `from`: of a search by time, what comes before it has been looked at.
    ///
    /// # Errors
    /// `NOT_LEADER`; `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH` if it does not lead in that epoch.
    pub async fn find_offset(
        &self,
        at: OffsetQuery,
        from: Offset,
        isolation: Isolation,
        expected_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(LeaderEpoch, Finding), Error> {
        self.ask(|reply| FindOffset { at, from, isolation, expected_leader_epoch, reply }).await?
    }

    /// Returns when it is known that this replica led, in that epoch, after the call began: whatever it has told
    /// since is of now. Waits for its in-sync followers.
    ///
    /// # Errors
    /// `NOT_LEADER`, `FENCED_LEADER_EPOCH`; `LEADER_NOT_AVAILABLE` if too few are in sync, or not all of them answer
    /// in time: this node may be cut off.
    pub async fn confirm(&self, expected_leader_epoch: Option<LeaderEpoch>) -> Result<(), Error> {
        self.ask(|reply| Confirm { expected_leader_epoch, reply }).await?
    }

    /// Deletes the records below an offset; returns the lowest log start of the in-sync replicas when all of them have.
    ///
    /// # Errors
    /// `NOT_LEADER`, `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH`, `LEADER_NOT_AVAILABLE`; `OFFSET_OUT_OF_RANGE` above
    /// the high watermark, with both bounds; `STORAGE_UNAVAILABLE`. Nothing was deleted then. `REQUEST_TIMED_OUT`,
    /// `OUTCOME_UNKNOWN`, `STORAGE_FAILURE`: some replicas may have, and some not.
    pub async fn delete_records(
        &self,
        request: DeletionRequest,
        expected_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Offset, Error> {
        let DeletionRequest { up_to, timeout_ms, validate_only } = request;
        let addr = self.addr(REBUILD_PATIENCE).await?;
        let (responder, answer) = Responder::channel();
        let message =
            DeleteRecords { up_to, timeout_ms, expected_leader_epoch, validate_only, responder };
        self.post(&addr, message)?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    pub async fn describe(&self) -> Result<Description, Error> {
        self.ask(|reply| Describe { reply }).await
    }

    /// How its log stands for compaction; `None` if its topic is not compacted. `is_read_whole`: the topic is the
    /// cluster's own.
    ///
    /// # Errors
    /// There is no actor now, or the log cannot tell.
    pub async fn look_at_log(&self, is_read_whole: bool) -> Result<Option<LogLook>, Error> {
        let look = |reply| LookAtLog { is_read_whole, reply };
        Ok(self.ask_within(Duration::ZERO, look).await??)
    }

    /// A plan for a pass over the log; `None` if there is nothing to clean. Whoever asks holds a turn of the gate.
    ///
    /// # Errors
    /// There is no actor now, or the log cannot be cleaned.
    pub async fn begin_cleaning(&self) -> Result<Option<Cleaning<FileDisk>>, Error> {
        Ok(self.ask_within(Duration::ZERO, |reply| BeginCleaning { reply }).await??)
    }

    /// Hands over what a pass has made, still holding the turn. `None`: the log is not what it was, and nothing has
    /// changed.
    ///
    /// # Errors
    /// The actor is gone, or the files cannot be exchanged.
    pub async fn finish_cleaning(
        &self,
        cleaned: Cleaned<FileDisk>,
    ) -> Result<Option<FinishedCleaning>, Error> {
        Ok(self.ask_within(Duration::ZERO, |reply| FinishCleaning { cleaned, reply }).await??)
    }

    /// From now on, until [`EndMove`](super::EndMove), the log is as it is to be copied.
    ///
    /// # Errors
    /// It cannot be copied as it is.
    pub async fn begin_move(&self) -> Result<Original, Error> {
        self.ask(|reply| BeginMove { reply }).await?
    }

    /// What a copy goes on with, each batch checked.
    ///
    /// # Errors
    /// The log was truncated since; it cannot be read, or is damaged there.
    pub async fn read_for_move(
        &self,
        from: Offset,
        max_bytes: usize,
        truncations: u64,
    ) -> Result<Piece, Error> {
        let read = |reply| ReadForMove { from, max_bytes, truncations, reply };
        let piece = self.ask(read).await??;
        match page_cache::check(&piece.bytes, self.key(), from).await {
            Ok(()) => Ok(piece),
            Err(bad) => Err(self.suspect(bad.at).await?.unwrap_or_else(read_again)),
        }
    }

    /// The copy is completed and takes the log's place; answers with what is left of that, to be removed.
    ///
    /// # Errors
    /// The log is where it was.
    pub async fn finish_move(
        &self,
        copy: Copied,
        truncations: u64,
    ) -> Result<Option<PathBuf>, Error> {
        self.ask(|reply| FinishMove { copy, truncations, reply }).await?
    }

    /// Sends without waiting for an answer; false if there is no actor now.
    pub fn tell<M>(&self, message: M) -> bool
    where
        M: Message<Result: Send> + Send + 'static,
        PartitionActor: Handler<M>,
    {
        self.board.addr().is_some_and(|addr| self.post(&addr, message).is_ok())
    }

    pub(super) async fn ask<M, T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> M,
    ) -> Result<T, Error>
    where
        M: Message<Result: Send> + Send + 'static,
        PartitionActor: Handler<M>,
    {
        self.ask_within(REBUILD_PATIENCE, question).await
    }

    async fn ask_within<M, T>(
        &self,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> M,
    ) -> Result<T, Error>
    where
        M: Message<Result: Send> + Send + 'static,
        PartitionActor: Handler<M>,
    {
        let addr = self.addr(patience).await?;
        let answer = self.board.mailbox.ask(&addr, question).await.map_err(refusal)?;
        answer.filter(|_| !self.board.faults.drops_reply()).ok_or_else(|| {
            match self.board.is_gone() {
                true => self.gone(),
                false => refusal(Refused::Closed),
            }
        })
    }

    pub(super) fn post<M>(&self, addr: &Addr<PartitionActor>, message: M) -> Result<(), Error>
    where
        M: Message<Result: Send> + Send + 'static,
        PartitionActor: Handler<M>,
    {
        self.board.mailbox.try_send(addr, message).map_err(refusal)
    }

    /// The actor of now; waits while one is being rebuilt.
    pub(super) async fn addr(
        &self,
        patience: Duration,
    ) -> Result<Arc<Addr<PartitionActor>>, Error> {
        match tokio::time::timeout(patience, self.board.found()).await {
            Ok(found) => found.ok_or_else(|| self.gone()),
            Err(_) => {
                let message = "the partition is still being recovered; try again";
                Err(Error::new(ErrorCode::LeaderNotAvailable, message))
            }
        }
    }

    pub(super) fn gone(&self) -> Error {
        match self.board.cause() {
            Some(reason) => Error::clone(&reason),
            None => {
                let message = "the partition is not on this node any more; refresh metadata";
                Error::new(ErrorCode::NotLeader, message)
            }
        }
    }

    /// What must not be lost, however many requests wait: the supervisor's own few messages, for which the
    /// mailbox always has room. False if there is no actor now; one that dies first drops the message.
    pub fn command<M>(&self, message: M) -> bool
    where
        M: Message<Result: Send> + Send + 'static,
        PartitionActor: Handler<M>,
    {
        let Some(addr) = self.board.addr() else { return false };
        self.board.mailbox.command(&addr, message);
        true
    }
}

impl fmt::Display for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.board, f)
    }
}

impl ReplicaHandle for PartitionHandle {
    fn key(&self) -> PartitionKey {
        self.board.key
    }

    fn hear_leader(&self, message: FromLeader) {
        self.command(message);
    }

    fn hear_isr(&self, answer: IsrAnswer) {
        self.command(answer);
    }

    fn hear_verified(&self, word: TransactionVerified) {
        self.command(word);
    }

    fn hear_loss_known(&self, known: LossKnown) {
        self.command(known);
        self.board.report_made();
    }

    fn hear_offline_known(&self) {
        self.board.offline_report_made();
    }
}

impl Pusher for PartitionHandle {
    fn push_on(&self) {
        self.command(PushOn);
    }
}

fn refusal(refused: Refused) -> Error {
    match refused {
        Refused::Full => {
            Error::new(ErrorCode::Throttled, "too many requests wait for this partition")
        }
        Refused::Closed => {
            let message = "the partition's actor stopped; try again";
            Error::new(ErrorCode::LeaderNotAvailable, message)
        }
    }
}
