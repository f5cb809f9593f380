//! What a session does: what is due, and what happens to it.

use super::state::{Returned, Session};
use crate::forward::{Failed, SettleAction, SettleOutcome, Start};
use crate::operations::delivery::{Lost, NoticeKind};
use crate::operations::subscriptions::ack_id::{AckId, echo};
use crate::operations::subscriptions::coordination::named;
use crate::operations::subscriptions::jobs::{self, Job};
use crate::operations::subscriptions::membership::Event;
use crate::operations::subscriptions::options::parse_action;
use crate::operations::subscriptions::request::SubscribeRequest;
use crate::operations::subscriptions::response::SettleResult;
use crate::operations::subscriptions::sessions::Brought;
use crate::shutdown::shutting_down;
use futures::StreamExt;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};
use troupe_proto::error::{Error, ErrorCode};

/// Settlements of other sessions' ids that are under way.
const MAX_JOBS: usize = 1_024;
/// Results that the client has not taken.
const MAX_RESULTS: usize = 65_536;

enum Happened {
    Member(Event),
    Filled(Result<(), Failed>),
    Job(Job),
    Brought(Brought),
    Returned(Returned),
    Time,
}

impl Session {
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
            self.notify(NoticeKind::AckGapFull, message);
        }
        self.give_pledges(now);
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
            Some(brought) = self.registered.inbox.recv() => Happened::Brought(brought),
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
            Happened::Brought(brought) => {
                self.on_brought(brought);
                Ok(())
            }
            Happened::Returned(returned) => {
                self.on_returned(returned);
                Ok(())
            }
            Happened::Time => Ok(()),
        }
    }

    /// Settles what single calls have brought by now.
    pub fn settle_waiting(&mut self) {
        while let Ok(brought) = self.registered.inbox.try_recv() {
            self.on_brought(brought);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let due = [
            self.deliveries.next_deadline(),
            self.receipts.next_deadline(),
            self.commit_deadline(),
            self.commits.confirmations.next_deadline(),
            self.assignment.deadline(),
            self.pledging.iter().map(|asked| asked.until).min(),
        ];
        due.into_iter().flatten().min()
    }

    fn on_brought(&mut self, brought: Brought) {
        self.last_settled = Instant::now();
        match brought {
            Brought::Settlements(asked) => self.settle_for_call(asked, self.last_settled),
            Brought::Pledge(asked) => self.on_pledging(asked),
        }
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
                let owned = named(self.deliveries.targets().chain(self.assignment.starting()));
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

    pub(super) fn on_not_read(&mut self, failed: Failed) -> Result<(), Error> {
        let (error, Some(target)) = (*failed.error, failed.target) else {
            return Err(shutting_down());
        };
        match error.code {
            // Everything there was committed may be deleted; or the log was truncated.
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
            Job::Redeemed(pledged, committed) => self.on_redeemed(pledged, committed),
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

    /// Whether the client's next request can be dealt with.
    pub fn takes_requests(&self) -> bool {
        let results = self.news.results.len() + self.commits.confirming();
        results < MAX_RESULTS && self.jobs.len() < MAX_JOBS
    }

    /// # Errors
    /// `INVALID_REQUEST`: the stream is used wrongly. An acknowledgement is no such thing, whatever it says.
    pub fn on_request(&mut self, request: SubscribeRequest) -> Result<(), Error> {
        if request.start.is_some() {
            let message = "only the first message has `start`; open another stream";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        if let Some(window) = request.window {
            self.deliveries.resize(window)?;
        }
        if request.commit_now {
            self.commits.ask();
        }
        let (now, mut elsewhere) = (Instant::now(), Vec::new());
        for ack_id in request.ack_ids {
            self.settle(ack_id, SettleAction::Ack, now, &mut elsewhere);
        }
        for settlement in request.settlements {
            match parse_action(settlement.action, self.options.max_processing) {
                Ok(action) => self.settle(settlement.ack_id, action, now, &mut elsewhere),
                Err(_) => self.tell_outcome(settlement.ack_id, SettleOutcome::UnknownId),
            }
        }
        if !elsewhere.is_empty() {
            let (settle, confirm) = (Arc::clone(&self.handles.settle), self.options.confirm);
            self.jobs.push(Box::pin(jobs::settle_elsewhere(settle, elsewhere, confirm)));
        }
        Ok(())
    }

    fn settle(
        &mut self,
        ack_id: String,
        action: SettleAction,
        now: Instant,
        elsewhere: &mut Vec<(AckId, SettleAction)>,
    ) {
        let outcome = match ack_id.parse::<AckId>() {
            Ok(id) if id.session == self.registered.id && id.node == self.handles.node_id() => {
                let outcome = self.deliveries.settle(&id, action, now);
                let taken =
                    outcome == SettleOutcome::Accepted && matches!(action, SettleAction::Ack);
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

    pub(super) fn tell_outcome(&mut self, ack_id: String, outcome: SettleOutcome) {
        self.tell_result(SettleResult { ack_id: echo(ack_id), outcome });
    }

    /// Every result, or only those that came to nothing.
    fn tell_result(&mut self, result: SettleResult) {
        if self.options.confirm || result.outcome != SettleOutcome::Accepted {
            self.news.results.push_back(result);
        }
    }
}
