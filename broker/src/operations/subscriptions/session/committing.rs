//! What is acknowledged is committed: one commit at a time, of everything that has moved since the last.
//!
//! A member alone on its node commits every 20 ms at most, of many each once a second, all at the same moment and in one
//! call: see [`Pace`]. At once are committed: what has to be given up, what is left at the end, what the client asks for.
//! A settlement that is to be confirmed is confirmed when it is committed.

use super::commits::Commits;
use super::state::Session;
use crate::clock::now as machine_now;
use crate::operations::subscriptions::coordination::Commit;
use crate::operations::subscriptions::jobs::{self, Job};
use futures::StreamExt;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use troupe_machines::group::Pace;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};

const RETRY: Duration = Duration::from_millis(200);
/// How long the last commit may take.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Whether this member will ever commit again.
pub(super) enum Outlook {
    GoesOn,
    Over,
}

impl Session {
    /// Commits what has moved, if nothing is under way.
    pub(super) fn start_commit(&mut self, now: Instant) {
        if self.commits.under_way || self.membership.member_id().is_empty() {
            return;
        }
        if self.deliveries.uncommitted().next().is_none() {
            (self.commits.due, self.commits.awaited, self.commits.asked_for) = (None, None, false);
            return;
        }
        self.set_pace(now);
        if self.commit_at(now).is_some_and(|at| at > now) {
            return;
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
        self.commits.began = Some(machine_now());
        let gathering = self.gathering();
        (self.commits.due, self.commits.awaited, self.commits.retry_at) = (None, None, None);
        self.commits.asked_for = false;
        let commit = Commit {
            group: self.options.group.clone(),
            member: (self.membership.member_id().to_owned(), self.membership.epoch()),
            offsets: moved,
        };
        let coordination = self.handles.coordination.clone();
        self.jobs.push(Box::pin(jobs::commit(coordination, commit, gathering)));
    }

    fn pace(&self, awaited: bool) -> Pace {
        Pace::new(self.handles.sessions.count(), awaited)
    }

    /// There is something to commit: when, unless that is known.
    fn set_pace(&mut self, now: Instant) {
        let (last, time) = (self.commits.began, machine_now());
        let at = |pace: Pace| {
            let wait = pace.next_commit(time, last).0.saturating_sub(time.0);
            now + Duration::from_millis(wait)
        };
        if self.commits.due.is_none() {
            self.commits.due = Some(at(self.pace(false)));
        }
        if self.commits.awaited.is_none() && !self.commits.confirmations.is_empty() {
            self.commits.awaited = Some(at(self.pace(true)));
        }
    }

    /// It does not wait for any moment.
    fn hurries(&self) -> bool {
        self.commits.asked_for || self.commits.closing || self.assignment.is_revoking()
    }

    /// How long the next commit may wait for those of other members.
    fn gathering(&self) -> Duration {
        match self.hurries() {
            true => Duration::ZERO,
            false => {
                let awaited = !self.commits.confirmations.is_empty();
                Duration::from_millis(self.pace(awaited).gathering_ms())
            }
        }
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
        let Commits { due, awaited, retry_at, .. } = self.commits;
        let at = if self.hurries() { Some(now) } else { due.into_iter().chain(awaited).min() };
        at.map(|at| retry_at.map_or(at, |retry| retry.max(at)))
    }

    pub(super) fn on_committed(
        &mut self,
        member: &(String, u32),
        asked: &[(PartitionKey, Offset)],
        outcome: Result<Vec<Option<Error>>, Error>,
    ) -> Outlook {
        self.commits.under_way = false;
        if member.0 != self.membership.member_id() {
            return Outlook::GoesOn;
        }
        let failed = match outcome {
            Ok(refusals) => {
                let mut failed = None;
                for ((key, offset), refusal) in asked.iter().zip(refusals) {
                    match refusal {
                        None => self.deliveries.committed(key, *offset),
                        // Nobody can commit it any more.
                        Some(error) if is_gone(error.code) => {
                            self.refuse_confirmations(key);
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
        self.end_confirmations();
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
                    let outlook = self.on_committed(&member, &asked, outcome);
                    self.confirm_settled(Instant::now());
                    if let Outlook::Over = outlook {
                        return;
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }
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
