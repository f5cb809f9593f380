//! What is acknowledged is committed: one commit at a time, of everything that has moved since the last.
//!
//! A member alone on its node commits every 20 ms at most, of many each once a second, all at the same moment: see
//! [`next_commit`]. At once are committed: what has to be given up, what is left at the end, what the client asks for.
//! A settlement that is to be confirmed is confirmed when it is committed.

use super::super::ack_id::AckId;
use super::super::jobs::{self, Job};
use super::Session;
use super::epochs::Epochs;
use crate::partition::now as machine_now;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use troupe_machines::group::next_commit;
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};
use troupe_proto::log::v1 as log;
use troupe_proto::v1::SettleOutcome;

/// Between the beginnings of two commits that somebody waits for.
const AWAITED_INTERVAL: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_millis(200);
/// How long the last commit may take.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Commits {
    under_way: bool,
    /// When the last one began.
    began: Option<(Instant, Time)>,
    /// When what has moved is committed, if nobody wants it sooner.
    due: Option<Instant>,
    /// The last one failed: not before then.
    retry_at: Option<Instant>,
    /// The client asks for it.
    asked_for: bool,
    /// Nothing comes after.
    closing: bool,
    pub epochs: Epochs,
    /// Settled, not committed yet, and to be confirmed.
    confirming: Vec<(AckId, String)>,
}

impl Commits {
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    pub fn confirming(&self) -> usize {
        self.confirming.len()
    }

    pub fn ask(&mut self) {
        self.asked_for = true;
    }
}

impl Session {
    /// Commits what has moved, if nothing is under way.
    pub(super) fn start_commit(&mut self, now: Instant) {
        if self.commits.under_way || self.membership.member_id().is_empty() {
            return;
        }
        if self.commit_at(now).is_some_and(|at| at > now) {
            return;
        }
        if self.deliveries.uncommitted().next().is_none() {
            (self.commits.due, self.commits.asked_for) = (None, false);
            return;
        }
        if self.commit_at(now).is_none() {
            let (last, time) = (self.commits.began.map(|(_, time)| time), machine_now());
            let at = next_commit(time, last, self.context.subscriptions.counts()[0]);
            let due = now + Duration::from_millis(at.0.saturating_sub(time.0));
            self.commits.due = Some(due);
            if due > now {
                return;
            }
        }
        self.note_epochs();
        let deliveries = &self.deliveries;
        self.commits.epochs.forget(|key| deliveries.get(key).is_some());
        let epochs = &mut self.commits.epochs;
        let moved: Vec<_> = deliveries
            .uncommitted()
            .map(|(target, offset)| (target.clone(), offset, epochs.before(&target.key, offset)))
            .collect();
        self.commits.under_way = true;
        self.commits.began = Some((now, machine_now()));
        (self.commits.due, self.commits.asked_for, self.commits.retry_at) = (None, false, None);
        let (context, group) = (Arc::clone(&self.context), self.options.group.clone());
        let member = (self.membership.member_id().to_owned(), self.membership.epoch());
        self.jobs.push(Box::pin(jobs::commit(context, group, member, moved)));
    }

    pub(super) fn note_epochs(&mut self) {
        for (key, epoch, from) in self.intake.take_epochs() {
            self.commits.epochs.note(key, epoch, from);
        }
    }

    /// When a commit that is due may begin.
    pub(super) fn commit_deadline(&self) -> Option<Instant> {
        let waits = !self.commits.under_way && self.deliveries.uncommitted().next().is_some();
        self.commit_at(Instant::now()).filter(|_| waits)
    }

    /// When it may begin; none: nobody has looked whether there is something to commit.
    fn commit_at(&self, now: Instant) -> Option<Instant> {
        let Commits { began, due, retry_at, asked_for, closing, confirming, .. } = &self.commits;
        let awaited = began.map_or(now, |(began, _)| began + AWAITED_INTERVAL);
        let at = if *asked_for || *closing || self.assignment.is_revoking() {
            Some(now)
        } else if confirming.is_empty() {
            *due
        } else {
            Some(due.map_or(awaited, |due| due.min(awaited)))
        };
        at.map(|at| retry_at.map_or(at, |retry| retry.max(at)))
    }

    /// An acknowledgement was taken: whether it is confirmed later, with its commit.
    pub(super) fn confirms_later(&mut self, id: &AckId, ack_id: &str) -> bool {
        let later = self.options.confirm
            && self.deliveries.place(id).is_some_and(|place| place.waits_for_commit(id.offset));
        if later {
            self.commits.confirming.push((*id, ack_id.to_owned()));
        }
        later
    }

    /// Confirms what is committed by now. What was given up before that may be delivered again.
    pub(super) fn confirm_settled(&mut self) {
        let deliveries = &self.deliveries;
        let (open, done): (Vec<_>, Vec<_>) = std::mem::take(&mut self.commits.confirming)
            .into_iter()
            .map(|(id, text)| (id, text, deliveries.place(&id)))
            .partition(|(id, _, place)| {
                place.as_ref().is_some_and(|place| place.waits_for_commit(id.offset))
            });
        self.commits.confirming = open.into_iter().map(|(id, text, _)| (id, text)).collect();
        for (_, text, place) in done {
            let outcome = match place {
                Some(_) => SettleOutcome::Accepted,
                None => SettleOutcome::LeaseLost,
            };
            self.tell_outcome(text, outcome);
        }
    }

    pub(super) fn on_committed(
        &mut self,
        member: &(String, u32),
        asked: &[(PartitionKey, Offset)],
        outcome: Result<log::CommitOffsetsResponse, Error>,
    ) -> Outlook {
        self.commits.under_way = false;
        if member.0 != self.membership.member_id() {
            return Outlook::GoesOn;
        }
        let failed = match outcome {
            Ok(answer) => {
                let mut failed = None;
                for ((key, offset), result) in asked.iter().zip(answer.results) {
                    match result.error.map(Error::from) {
                        None => self.deliveries.committed(key, *offset),
                        // Nobody can commit it any more.
                        Some(error) if is_gone(error.code) => {
                            self.deliveries.committed(key, *offset);
                        }
                        Some(error) => failed = Some(error),
                    }
                }
                failed
            }
            Err(error) => Some(error),
        };
        let Some(error) = failed else { return Outlook::GoesOn };
        // There is a newer one already.
        if error.code == ErrorCode::StaleMemberEpoch && member.1 != self.membership.epoch() {
            return Outlook::GoesOn;
        }
        tracing::debug!(%error, "offsets could not be committed yet");
        self.commits.retry_at = Some(Instant::now() + RETRY);
        match error.code {
            // Whether it may join anew or another has come in its place, its stream is about to say.
            ErrorCode::UnknownMember | ErrorCode::FencedMemberEpoch => Outlook::Over,
            _ => Outlook::GoesOn,
        }
    }

    /// Commits what is acknowledged, and goes: for good, if it `leaves`; else it may come back.
    pub async fn finish(mut self, leaves: bool) {
        self.deliveries.close();
        self.commits.closing = true;
        // What it takes longer is delivered again.
        let _ = timeout(LAST_PATIENCE, self.commit_everything()).await;
        let Session { membership, .. } = self;
        if leaves {
            membership.leave().await;
        }
    }

    async fn commit_everything(&mut self) {
        loop {
            self.start_commit(Instant::now());
            if !self.commits.under_way {
                match self.commit_deadline() {
                    Some(at) => sleep_until(at).await,
                    None => return,
                }
                continue;
            }
            match self.jobs.next().await {
                Some(Job::Committed { member, asked, outcome }) => {
                    if let Outlook::Over = self.on_committed(&member, &asked, outcome) {
                        return;
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Whether this member will ever commit again.
pub(super) enum Outlook {
    GoesOn,
    Over,
}

fn is_gone(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotAssigned
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownPartition
            | ErrorCode::StaleTopicId
    )
}
