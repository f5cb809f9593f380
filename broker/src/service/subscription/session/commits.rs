//! What is acknowledged is committed: one commit at a time, of everything that has moved since the last.

use super::super::jobs::{self, Job};
use super::Session;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};
use troupe_proto::log::v1 as log;

/// Between the beginnings of two commits.
const INTERVAL: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_millis(200);
/// How long the last commit may take.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Commits {
    under_way: bool,
    not_before: Option<Instant>,
}

impl Commits {
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }
}

impl Session {
    /// Commits what has moved, if nothing is under way.
    pub(super) fn start_commit(&mut self, now: Instant) {
        let too_early = self.commits.not_before.is_some_and(|at| at > now);
        if self.commits.under_way || too_early || self.membership.member_id().is_empty() {
            return;
        }
        let moved: Vec<_> = self
            .deliveries
            .uncommitted()
            .map(|(target, offset)| (target.clone(), offset))
            .collect();
        self.commits.not_before = None;
        if moved.is_empty() {
            return;
        }
        self.commits = Commits { under_way: true, not_before: Some(now + INTERVAL) };
        let (context, group) = (Arc::clone(&self.context), self.options.group.clone());
        let member = (self.membership.member_id().to_owned(), self.membership.epoch());
        self.jobs.push(Box::pin(jobs::commit(context, group, member, moved)));
    }

    /// When a commit that is due may begin.
    pub(super) fn commit_deadline(&self) -> Option<Instant> {
        let waits = !self.commits.under_way && self.deliveries.uncommitted().next().is_some();
        self.commits.not_before.filter(|_| waits)
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
        self.commits.not_before = Some(Instant::now() + RETRY);
        match error.code {
            // Whether it may join anew or another has come in its place, its stream is about to say.
            ErrorCode::UnknownMember | ErrorCode::FencedMemberEpoch => Outlook::Over,
            _ => Outlook::GoesOn,
        }
    }

    /// Commits what is acknowledged, and goes: for good, if it `leaves`; else it may come back.
    pub async fn finish(mut self, leaves: bool) {
        self.deliveries.close();
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
