//! The batches of one partition and one caller on their way to the leader, wherever it is, in order.
//!
//! ```text
//!   waiting: c d e ─► sent: a b ─► answered
//!      ▲                 │ refused by one who does not lead (any more, or yet)
//!      └─────────────────┘
//! ```
//!
//! Promises: batches are appended in the order in which they came, or not at all; one that was refused because
//! somebody else leads is tried again while it has time; one that may have been appended never is; after the
//! first that fails for good, here or on another sender of the same caller, none that waits is sent, and of those
//! that were sent none is appended behind one that was not.
//!
//! Batches are pipelined under a leader epoch in which one was accepted, and sent one at a time until then. So
//! a leader that is about to take over does not refuse one and accept the next.

use super::backoff::Backoff;
use super::batch::Batch;
use super::caller::Caller;
use super::leaders::Leaders;
use super::produce_streams::Chained;
use super::route::{Led, Route, Target, no_leader};
use super::time::Allotted;
use crate::admission::{Admission, Share, overloaded};
use crate::partition::{AppendRequest, Appended, Chain, Responder};
use crate::peers::Purpose;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use troupe_machines::admission::FlowId;
use troupe_machines::replica::Acks;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::LeaderEpoch;
use troupe_proto::v1 as pb;
use troupe_proto::wire::ProduceStreamRequest;

/// Batches of one sender that may be sent and unanswered.
const WINDOW: usize = 64;
/// How long an actor that is being rebuilt is waited for before the image is looked at again.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a leader may take to answer after another one leads: one that hangs never will.
const FORMER_GRACE: Duration = Duration::from_secs(1);

/// A batch for a [`PartitionSender`].
pub struct Entry {
    pub batch: Batch,
    pub time: Allotted,
    pub answer: oneshot::Sender<Result<Appended, Error>>,
    /// Held until it is answered.
    pub budget: Option<OwnedSemaphorePermit>,
}

impl Entry {
    fn answer(self, answer: Result<Appended, Error>) {
        drop(self.budget);
        // Whoever asked may be gone.
        let _ = self.answer.send(answer);
    }
}

/// One partition of one caller.
pub struct PartitionSender {
    leaders: Arc<Leaders>,
    target: Target,
    acks: Acks,
    /// Of batches that are part of a transaction: whose.
    transactional_id: Option<Arc<str>>,
    caller: Caller,
    /// What is sent hangs together until it is all taken back.
    chain: Arc<Chain>,
    waiting: VecDeque<Entry>,
    sent: VecDeque<Sent>,
    /// To whom the sent ones were sent.
    sent_to: Led,
    /// When it was seen that somebody else leads since.
    led_elsewhere: Option<Instant>,
    /// In which a batch was accepted last.
    accepted_epoch: Option<LeaderEpoch>,
    /// Nothing is sent until then, or until somebody else leads. Only while nothing is sent.
    pause: Option<Instant>,
    backoff: Backoff,
    /// Nothing is sent after a failure.
    failed: bool,
}

struct Sent {
    entry: Entry,
    outcome: Outcome,
}

enum Outcome {
    Awaited(oneshot::Receiver<Result<Appended, Error>>),
    Known(Result<Appended, Error>),
}

/// The turn of the next batch among all that the node is to carry.
enum Turn {
    Awaited(BoxFuture<'static, Share>),
    Come(Share),
}

impl Turn {
    fn ask(admission: &Arc<Admission>, flow: FlowId, bytes: usize) -> Self {
        let admission = Arc::clone(admission);
        let mut turn = async move { admission.admit(flow, bytes).await }.boxed();
        match (&mut turn).now_or_never() {
            Some(share) => Self::Come(share),
            None => Self::Awaited(turn),
        }
    }

    /// Returns when it has come. May be dropped at any time.
    async fn comes(turn: &mut Option<Turn>) {
        if let Some(Self::Awaited(awaited)) = turn {
            let share = awaited.await;
            *turn = Some(Self::Come(share));
        }
    }
}

impl PartitionSender {
    pub fn new(leaders: Arc<Leaders>, target: Target, acks: Acks, caller: Caller) -> Self {
        Self {
            leaders,
            target,
            acks,
            transactional_id: None,
            chain: caller.chain(),
            caller,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            sent_to: None,
            led_elsewhere: None,
            accepted_epoch: None,
            pause: None,
            backoff: Backoff::new(),
            failed: false,
        }
    }

    /// The same for batches that are part of that id's transaction.
    pub fn in_transaction(mut self, transactional_id: Arc<str>) -> Self {
        self.transactional_id = Some(transactional_id);
        self
    }

    /// One more, behind the others.
    pub fn push(&mut self, entry: Entry) {
        self.waiting.push_back(entry);
    }

    /// Answers all that was pushed.
    pub async fn run(self) {
        let (_, nothing) = mpsc::channel(1);
        self.serve(nothing).await;
    }

    /// Takes what comes, and answers it, until nothing more can come.
    pub async fn serve(mut self, mut entries: mpsc::Receiver<Entry>) {
        let (mut open, halted) = (true, self.caller.halted().clone());
        let mut turn = None;
        loop {
            while open && self.waiting.len() < WINDOW {
                match entries.try_recv() {
                    Ok(entry) => self.push(entry),
                    Err(error) => {
                        open &= error == mpsc::error::TryRecvError::Empty;
                        break;
                    }
                }
            }
            self.give_up(turn.is_some());
            // Whatever happened while it waited for its turn has been looked at before it is sent.
            turn = match self.next_route() {
                None => None,
                Some(route) => match turn.take().unwrap_or_else(|| self.ask_for_turn()) {
                    Turn::Come(share) => {
                        self.send(route, share).await;
                        continue;
                    }
                    awaited => Some(awaited),
                },
            };
            let until = self.waiting.front().map(|entry| entry.time.deadline);
            let (room, waits) = (self.waiting.len() < WINDOW, until.is_some());
            let proceeds = !self.sent.is_empty() || self.pause.is_some();
            tokio::select! {
                entry = entries.recv(), if open && room => match entry {
                    Some(entry) => self.push(entry),
                    None => open = false,
                },
                () = halted.cancelled(), if waits => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if waits => {}
                () = Turn::comes(&mut turn), if turn.is_some() => {}
                () = self.proceed(), if proceeds => {}
                else => return,
            }
        }
    }

    fn ask_for_turn(&self) -> Turn {
        let bytes = self.waiting.front().map_or(0, |entry| entry.batch.len());
        Turn::ask(&self.leaders.admission, self.caller.flow, bytes)
    }

    /// Answers what waits and is not sent any more: behind a failure, or out of time.
    fn give_up(&mut self, waits_for_turn: bool) {
        let now = Instant::now();
        if !self.failed
            && self.waiting.front().is_some_and(|entry| entry.time.deadline <= now)
            && let Some(entry) = self.waiting.pop_front()
        {
            let error = match self.target.route(&self.leaders.metadata) {
                Err(error) => error,
                Ok(_) if waits_for_turn => overloaded(),
                Ok(_) => no_leader("the partition's leader took no batch in time; try again"),
            };
            self.fail(entry, error);
        }
        if let Some(behind) = self.caller.refusal() {
            for entry in self.waiting.drain(..) {
                entry.answer(Err(behind.clone()));
            }
        }
    }

    fn fail(&mut self, entry: Entry, error: Error) {
        self.failed = true;
        self.caller.halt(&error);
        entry.answer(Err(error));
    }

    /// Where the next batch goes, if it may be sent now.
    fn next_route(&mut self) -> Option<Route> {
        if self.waiting.is_empty() || self.sent.len() >= WINDOW || self.pause.is_some() {
            return None;
        }
        let led = self.target.led(&self.leaders.metadata.image.borrow());
        // It may follow those that were sent if they went to the same leader, which takes them.
        let follows =
            self.sent_to == led && led.is_some_and(|led| self.accepted_epoch == Some(led.1));
        if !(self.sent.is_empty() || follows) {
            return None;
        }
        match self.target.route(&self.leaders.metadata) {
            Ok(route) => {
                (self.sent_to, self.led_elsewhere) = (led, None);
                Some(route)
            }
            Err(error) if self.may_try_again(&error) => {
                if self.sent.is_empty() {
                    self.sent_to = led;
                    self.pause = Some(Instant::now() + self.backoff.next());
                }
                None
            }
            Err(error) => {
                if let Some(entry) = self.waiting.pop_front() {
                    self.fail(entry, error);
                }
                None
            }
        }
    }

    /// Hands the next batch over. From then on it is answered in any case.
    async fn send(&mut self, route: Route, share: Share) {
        let Some(mut entry) = self.waiting.pop_front() else { return };
        let (responder, outcome) = Responder::channel();
        let answer_by = entry.time.answer_by;
        let handing_over = self.hand_over(&mut entry, route, responder.holding(share));
        let outcome = match timeout_at(answer_by, handing_over).await {
            Ok(()) => Outcome::Awaited(outcome),
            // What has broken off takes its chain with it: nothing is appended behind it.
            Err(_) => Outcome::Known(Err(unanswered())),
        };
        self.sent.push_back(Sent { entry, outcome });
    }

    async fn hand_over(&self, entry: &mut Entry, route: Route, responder: Responder<Appended>) {
        let left = entry.time.deadline.saturating_duration_since(Instant::now());
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        match route {
            Route::Here(handle) => match entry.batch.produced() {
                Ok((batch, verified)) => {
                    let request = AppendRequest {
                        batch,
                        verified,
                        acks: self.acks,
                        timeout_ms,
                        expected_leader_epoch: self.sent_to.map(|led| led.1),
                        patience: PATIENCE.min(left),
                        chain: Some(Arc::clone(&self.chain)),
                        transactional_id: self.transactional_id.clone(),
                    };
                    handle.append(request, responder).await;
                }
                Err(error) => responder.answer(Err(Error::new(error.code(), error.to_string()))),
            },
            Route::There(leader) => {
                if self.may_be_taken() {
                    self.chain.accept();
                }
                let request = ProduceStreamRequest {
                    correlation_id: 0,
                    acks: pb::Acks::from(self.acks).into(),
                    timeout_ms,
                    partition: Some(self.target.named()),
                    leader_epoch: self.sent_to.map(|led| led.1.0),
                    chain: self.chain.number,
                    transactional_id: self
                        .transactional_id
                        .as_deref()
                        .unwrap_or_default()
                        .to_owned(),
                    batch: entry.batch.wire(),
                };
                let leaders = &self.leaders;
                let connect = || leaders.peers.channel(&leader.endpoint, Purpose::Produce);
                let streams = &leaders.produce_streams;
                let chained = Chained { chain: Arc::clone(&self.chain), responder };
                streams
                    .produce(&leader.endpoint, connect, &self.target.key, request, chained)
                    .await;
            }
        }
    }

    /// Whether the leader takes a batch, as far as is known here. It alone knows when it does.
    fn may_be_taken(&self) -> bool {
        let image = self.leaders.metadata.image.borrow();
        let key = &self.target.key;
        let (Some(topic), Some(partition)) =
            (image.topic_by_id(key.topic_id), image.partition(key))
        else {
            return false;
        };
        let least = (topic.config.min_insync_replicas as usize).min(partition.least_replicas());
        self.acks != Acks::All || partition.isr.len() >= least
    }

    /// Waits for an answer, or for the end of the pause. May be dropped at any time.
    async fn proceed(&mut self) {
        if !self.sent.is_empty() {
            return self.settle().await;
        }
        let Some(until) = self.pause else { return };
        let until = self.waiting.front().map_or(until, |entry| entry.time.deadline.min(until));
        self.target.news(&self.leaders.metadata, self.sent_to, until).await;
        self.pause = None;
    }

    /// Answers the first that was sent when its outcome is known; or takes all back, if they were refused
    /// because somebody else leads.
    async fn settle(&mut self) {
        let refused = match self.refusal(0).await {
            Some(error) => self.may_try_again(&error),
            None => false,
        };
        if refused && self.all_refused().await {
            // In their order, before what waits.
            while let Some(sent) = self.sent.pop_back() {
                self.waiting.push_front(sent.entry);
            }
            self.accepted_epoch = None;
            self.chain = self.caller.chain();
            self.pause = Some(Instant::now() + self.backoff.next());
            return;
        }
        let Some(Sent { entry, outcome: Outcome::Known(outcome) }) = self.sent.pop_front() else {
            return;
        };
        match outcome {
            Ok(appended) => {
                self.accepted_epoch = self.sent_to.map(|led| led.1);
                self.backoff = Backoff::new();
                entry.answer(Ok(appended));
            }
            Err(error) => self.fail(entry, error),
        }
    }

    fn may_try_again(&self, error: &Error) -> bool {
        !self.failed && self.target.is_led_elsewhere(&self.leaders.metadata, error)
    }

    /// Whether none of those that were sent was appended, or may have been. If one was, those before it come
    /// too late: their order would be lost.
    async fn all_refused(&mut self) -> bool {
        for at in 0..self.sent.len() {
            match self.refusal(at).await {
                Some(error) if self.may_try_again(&error) => {}
                _ => return false,
            }
        }
        true
    }

    /// Why a batch was not appended; none if it was. Waits until that is known.
    async fn refusal(&mut self, at: usize) -> Option<Error> {
        let Sent { entry, outcome } = self.sent.get_mut(at)?;
        if let Outcome::Awaited(awaited) = outcome {
            let led_elsewhere = async {
                if self.led_elsewhere.is_none() {
                    self.target.moves(&self.leaders.metadata, self.sent_to).await;
                    self.led_elsewhere = Some(Instant::now());
                }
                sleep_until(self.led_elsewhere.unwrap_or_else(Instant::now) + FORMER_GRACE).await;
            };
            let unknown = |message: &str| Err(Error::new(ErrorCode::OutcomeUnknown, message));
            let known = tokio::select! {
                biased;
                known = awaited => known.unwrap_or_else(|_| unknown("the node is stopping")),
                () = led_elsewhere => unknown("the leader was replaced before it answered"),
                () = sleep_until(entry.time.answer_by) => Err(unanswered()),
            };
            *outcome = Outcome::Known(known);
        }
        match outcome {
            Outcome::Known(Err(error)) => Some(error.clone()),
            Outcome::Known(Ok(_)) | Outcome::Awaited(_) => None,
        }
    }
}

/// Whoever waited has gone: what is still on its way is not appended, wherever that can be helped.
impl Drop for PartitionSender {
    fn drop(&mut self) {
        self.chain.sever();
    }
}

fn unanswered() -> Error {
    Error::new(ErrorCode::RequestTimedOut, "the partition's leader did not answer in time")
}

#[cfg(test)]
#[path = "partition_sender_tests.rs"]
mod tests;
