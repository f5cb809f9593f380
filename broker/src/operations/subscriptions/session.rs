//! One member of a group that delivers: its place in the group, what it reads, what it has delivered, and what of
//! that is committed. Who takes the deliveries, a stream or single calls, is not known here.
//!
//! Order: one event at a time; an event is taken and dealt with in one go, so that [`Session::work`] may be dropped
//! wherever it waits.
//! Promises: what is committed was acknowledged; a partition is given up when what was delivered of it is settled,
//! or was taken back.

mod assignment;
mod commits;
mod confirmations;
mod draw;
mod epochs;

use super::ack_id::{AckId, echo};
use super::deliveries::{Deliveries, Terms};
use super::intake::{Intake, Next, Outlook};
use super::jobs::{self, Job};
use super::ledger::Action;
use super::membership::{Event, Membership};
use super::options::{Options, parse_action};
use super::receipts::{AnswerId, Receipts};
use super::sessions::{Draw, Inbound, Inbox, Registered};
use crate::context::Context;
use crate::forward::{Failed, Start};
use crate::service::delivery::Lost;
use crate::shutdown::shutting_down;
use assignment::Assignment;
use commits::Commits;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionKey;
use troupe_proto::v1 as pb;
use troupe_proto::v1::SettleOutcome;

/// Settlements of other sessions' ids that are under way.
const MAX_JOBS: usize = 1_024;
/// Results that the client has not taken.
const MAX_RESULTS: usize = 65_536;

/// What is to be told beside the records.
#[derive(Default)]
pub(super) struct News {
    pub results: VecDeque<pb::SettleResult>,
    pub assignment: Option<pb::Assignment>,
    pub notices: VecDeque<pb::Notice>,
}

pub(super) struct Session {
    context: Arc<Context>,
    options: Options,
    registered: Registered,
    membership: Membership,
    assignment: Assignment,
    deliveries: Deliveries,
    intake: Intake,
    commits: Commits,
    jobs: FuturesUnordered<BoxFuture<'static, Job>>,
    pub news: News,
    /// Partitions that stand still at a record that the client does not take.
    blocked: BTreeMap<PartitionKey, pb::Notice>,
    /// Answers to single calls that may not have arrived, and those that surely have not. Each is told once.
    receipts: Receipts,
    returned: (mpsc::UnboundedSender<Returned>, mpsc::UnboundedReceiver<Returned>),
    /// Who waits for deliveries, where no stream takes them.
    pub draws: VecDeque<Draw>,
    /// When somebody last settled something through another call.
    pub last_settled: Instant,
}

/// An answer to a single call that was not written.
pub(super) struct Returned {
    answer: Option<AnswerId>,
    notices: Vec<pb::Notice>,
}

enum Happened {
    Member(Event),
    Filled(Result<(), Failed>),
    Job(Job),
    Inbound(Inbound),
    Returned(Returned),
    Time,
}

impl Session {
    /// Begins to join.
    pub fn new(context: &Arc<Context>, host: String, options: Options) -> (Session, Inbox) {
        let (registered, inbox) = Registered::new(context);
        let terms = Terms {
            node: context.node_id,
            session: registered.id,
            max_processing: options.max_processing,
            auto_ack: options.auto_ack,
        };
        let session = Session {
            membership: Membership::new(context, host, options.member()),
            deliveries: Deliveries::new(terms, options.window.clone()),
            intake: Intake::new(context),
            context: Arc::clone(context),
            options,
            registered,
            assignment: Assignment::default(),
            commits: Commits::default(),
            jobs: FuturesUnordered::new(),
            news: News::default(),
            blocked: BTreeMap::new(),
            receipts: Receipts::default(),
            returned: mpsc::unbounded_channel(),
            draws: VecDeque::new(),
            last_settled: Instant::now(),
        };
        (session, inbox)
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Does what is due; then everything that waits is waited for by [`Session::work`].
    pub fn tend(&mut self) {
        let now = Instant::now();
        self.deliveries.expire(now);
        let lost = self.receipts.expired(now);
        self.take_back(lost);
        self.blocked.retain(|key, _| self.deliveries.get(key).is_some());
        for target in self.deliveries.take_full_gaps() {
            let message = format!(
                "partition {} of `{}`: too many records are acknowledged after one that is not; \
                 nothing more comes of it until offset {} is acknowledged",
                target.number(),
                target.topic,
                self.deliveries.get(&target.key).map_or(0, |held| held.ledger.prefix().0),
            );
            self.notify(pb::NoticeKind::AckGapFull, message);
        }
        self.start_commit(now);
        self.confirm_settled(now);
        self.go_on_revoking(now);
        self.place_moved(now);
        self.tell_if_caught_up();
    }

    /// Has read on what is to be read from elsewhere than it was.
    fn place_moved(&mut self, now: Instant) {
        let moved = self.deliveries.take_moved(now);
        if !moved.is_empty() {
            self.note_epochs();
        }
        for (target, next) in moved {
            let after = next.and_then(|next| self.commits.epochs.at(&target.key, next));
            self.intake.place(target, next.map(|next| Start { next, after }));
        }
    }

    /// Waits for an event, and deals with it. May be dropped while it waits.
    ///
    /// # Errors
    /// Why there can be no more deliveries.
    pub async fn work(&mut self) -> Result<(), Error> {
        let deadline = self.next_deadline();
        let time = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let reads = self.intake.is_waiting() && self.deliveries.has_room(0);
        let happened = tokio::select! {
            event = self.membership.next() => Happened::Member(event),
            filled = self.intake.go_on(), if reads || self.intake.is_unpacking() => {
                Happened::Filled(filled)
            }
            Some(job) = self.jobs.next(), if !self.jobs.is_empty() => Happened::Job(job),
            Some(inbound) = self.registered.inbox.recv() => Happened::Inbound(inbound),
            Some(returned) = self.returned.1.recv() => Happened::Returned(returned),
            () = time => Happened::Time,
        };
        match happened {
            Happened::Member(event) => self.on_member(event),
            Happened::Filled(filled) => filled.or_else(|failed| self.on_not_read(failed)),
            Happened::Job(job) => {
                self.on_job(job);
                Ok(())
            }
            Happened::Inbound(inbound) => {
                self.on_inbound(inbound);
                Ok(())
            }
            Happened::Returned(returned) => {
                self.on_returned(returned);
                Ok(())
            }
            Happened::Time => Ok(()),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let due = [
            self.deliveries.next_deadline(),
            self.receipts.next_deadline(),
            self.commit_deadline(),
            self.commits.confirmations.next_deadline(),
            self.assignment.deadline(),
        ];
        due.into_iter().flatten().min()
    }

    fn on_member(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Told(assignment) => {
                if let Some((number, partitions)) = assignment {
                    self.on_assignment(number, &partitions, Instant::now());
                }
                Ok(())
            }
            Event::Broken => {
                let owned =
                    jobs::named(self.deliveries.targets().chain(self.assignment.starting()));
                self.membership.resume(owned);
                Ok(())
            }
            Event::Expelled => {
                self.on_expelled();
                Ok(())
            }
            Event::Refused(error) => Err(error),
        }
    }

    fn on_not_read(&mut self, failed: Failed) -> Result<(), Error> {
        let (error, Some(target)) = (*failed.error, failed.target) else {
            return Err(shutting_down());
        };
        match error.code {
            // Everything there was committed may be deleted; or the log was cut.
            ErrorCode::OffsetOutOfRange => {
                self.on_position_lost(target, Lost::read(&error));
                Ok(())
            }
            // The group is about to hear of it.
            ErrorCode::UnknownTopic | ErrorCode::StaleTopicId => Ok(()),
            ErrorCode::CorruptLog => {
                self.intake.damaged(target, error);
                Ok(())
            }
            _ => {
                tracing::debug!(%error, topic = %target.topic, "a partition cannot be read now");
                self.jobs.push(Box::pin(jobs::rest(target.key)));
                Ok(())
            }
        }
    }

    fn on_job(&mut self, job: Job) {
        match job {
            Job::Fetched { targets, assigned, offsets } => {
                for target in targets {
                    if self.assignment.is_starting(&target.key, assigned) {
                        let committed = offsets.get(&target.key).copied();
                        self.find_start(target, assigned, committed);
                    }
                }
            }
            Job::Begun { target, assigned, begun } => self.on_begun(target, assigned, begun),
            Job::Rested(key) => self.deliveries.read_on(&key),
            Job::Committed { member, asked, outcome } => {
                // The membership's stream says what follows, if it is over.
                let _ = self.on_committed(&member, &asked, outcome);
            }
            Job::ConnectionBroke(answer) => {
                let lost = self.receipts.lost(answer);
                self.take_back(lost);
            }
            Job::Settled(results) => {
                for result in results {
                    self.tell_result(result);
                }
            }
        }
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Settle(asked) => {
                self.last_settled = Instant::now();
                self.settle_for_call(asked, self.last_settled);
            }
            Inbound::Draw(draw) => self.draws.push_back(draw),
        }
    }

    /// Whether the client's next request can be dealt with.
    pub fn takes_requests(&self) -> bool {
        let results = self.news.results.len() + self.commits.confirming();
        results < MAX_RESULTS && self.jobs.len() < MAX_JOBS
    }

    /// # Errors
    /// `INVALID_REQUEST`: the stream is used wrongly. An acknowledgement is no such thing, whatever it says.
    pub fn on_request(&mut self, request: pb::SubscribeRequest) -> Result<(), Error> {
        if request.start.is_some() {
            let message = "only the first message has `start`; open another stream";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        if let Some(window) = &request.window {
            self.deliveries.resize(window)?;
        }
        if request.commit_now {
            self.commits.ask();
        }
        let (now, mut elsewhere) = (Instant::now(), Vec::new());
        for ack_id in request.ack_ids {
            self.settle(ack_id, Action::Ack, now, &mut elsewhere);
        }
        for settlement in request.settlements {
            match parse_action(&settlement, self.options.max_processing) {
                Ok(action) => self.settle(settlement.ack_id, action, now, &mut elsewhere),
                Err(_) => self.tell_outcome(settlement.ack_id, SettleOutcome::UnknownId),
            }
        }
        if !elsewhere.is_empty() {
            let (context, confirm) = (Arc::clone(&self.context), self.options.confirm);
            self.jobs.push(Box::pin(jobs::settle_elsewhere(context, elsewhere, confirm)));
        }
        Ok(())
    }

    fn settle(
        &mut self,
        ack_id: String,
        action: Action,
        now: Instant,
        elsewhere: &mut Vec<(AckId, Action)>,
    ) {
        let outcome = match ack_id.parse::<AckId>() {
            Ok(id) if id.session == self.registered.id && id.node == self.context.node_id => {
                let outcome = self.deliveries.settle(&id, action, now);
                let taken = outcome == SettleOutcome::Accepted && matches!(action, Action::Ack);
                if taken && self.confirms_later(&id, &ack_id) {
                    return;
                }
                outcome
            }
            Ok(id) => return elsewhere.push((id, action)),
            Err(_) => SettleOutcome::UnknownId,
        };
        self.tell_outcome(ack_id, outcome);
    }

    fn tell_outcome(&mut self, ack_id: String, outcome: SettleOutcome) {
        self.tell_result(pb::SettleResult { ack_id: echo(ack_id), outcome: outcome.into() });
    }

    /// Every result, or only those that came to nothing.
    fn tell_result(&mut self, result: pb::SettleResult) {
        if self.options.confirm || result.outcome() != SettleOutcome::Accepted {
            self.news.results.push_back(result);
        }
    }

    pub fn notify(&mut self, kind: pb::NoticeKind, message: String) {
        let notice = pb::Notice { kind: kind.into(), message, ..Default::default() };
        self.news.notices.push_back(notice);
    }

    /// The node stops: the client has this long.
    pub fn announce_drain(&mut self, grace: Duration) {
        let message = "the node is stopping: acknowledge what is done, and connect to another";
        self.notify(pb::NoticeKind::Draining, message.to_owned());
        if let Some(notice) = self.news.notices.back_mut() {
            notice.grace = prost_types::Duration::try_from(grace).ok();
        }
    }

    /// Deliveries that reached nobody.
    fn take_back(&mut self, lost: Vec<AckId>) {
        for id in &lost {
            self.deliveries.take_back(id);
        }
    }

    /// Nothing goes out any more, and nothing that is out can be settled.
    pub fn give_up(&mut self) {
        self.deliveries.close();
        self.deliveries.recall_all();
    }

    /// Nothing goes out any more. What is out may still be settled.
    pub fn close(&mut self) {
        self.deliveries.close();
    }

    /// Nothing is out.
    pub fn is_settled(&self) -> bool {
        self.deliveries.out() == 0
            && self.commits.confirming() == 0
            && self.jobs.len() <= usize::from(self.commits.is_under_way())
    }
}
