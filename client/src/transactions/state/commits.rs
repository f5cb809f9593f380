//! Commits that nobody waits for: asked for, decided together, answered.

use super::{Phase, State, TransactionError};
use crate::error::ClientError;
use std::collections::VecDeque;
use tokio::sync::oneshot;
use troupe_proto::ids::{ProducerEpoch, ProducerId};

/// Who hears what became of a commit.
pub(in crate::transactions) type Told = oneshot::Receiver<Result<(), TransactionError>>;

#[derive(Debug, Default)]
pub(super) struct Commits {
    asked: VecDeque<Asked>,
    /// Somebody sees to them.
    seen_to: bool,
}

/// A commit that was asked for.
#[derive(Debug)]
struct Asked {
    number: u64,
    bytes: usize,
    tell: oneshot::Sender<Result<(), TransactionError>>,
}

impl State {
    /// The transaction that is open shall be committed, and another one may be begun. True: somebody has to see to it.
    pub fn start_commit(&mut self) -> Result<(Told, bool), TransactionError> {
        self.check_alive()?;
        self.check_commit()?;
        let (tell, told) = oneshot::channel();
        self.commits.asked.push_back(Asked { number: self.number, bytes: self.bytes, tell });
        self.phase = Phase::Ready;
        Ok((told, !std::mem::replace(&mut self.commits.seen_to, true)))
    }

    /// Those that are decided together from now on: all that were asked for, up to so many bytes, and one at least. Up to
    /// which; none, if all are answered: then nobody sees to them any more.
    pub fn next_group(&mut self, limit: usize) -> Option<u64> {
        let mut bytes = 0_usize;
        let mut last = None;
        for asked in &self.commits.asked {
            bytes = bytes.saturating_add(asked.bytes);
            if bytes > limit && last.is_some() {
                break;
            }
            last = Some(asked.number);
        }
        match last {
            Some(last) => self.leaving = self.leaving.max(last),
            None => self.commits.seen_to = false,
        }
        last
    }

    /// Everything of the group is answered. Whether there is something to end; none, if it has failed.
    pub fn group_flushed(&self, last: u64) -> Option<bool> {
        let stands = self.commits.asked.front().is_some_and(|asked| asked.number <= last);
        stands.then_some(self.wrote)
    }

    /// All up to this one are committed. `next`: who writes from here on, if something was.
    pub fn group_committed(&mut self, last: u64, next: Option<(ProducerId, ProducerEpoch)>) {
        if let (Some((id, epoch)), Some(session)) = (next, &mut self.session) {
            session.number += 1;
            (session.id, session.epoch) = (id, epoch);
        }
        self.wrote = false;
        while let Some(asked) = self.commits.asked.pop_front_if(|asked| asked.number <= last) {
            // Nobody need listen.
            let _ = asked.tell.send(Ok(()));
        }
        self.let_leave();
    }

    /// The coordinator does not commit the group, or nobody knows whether it has.
    pub fn fail_group(&mut self, error: TransactionError) {
        match error {
            TransactionError::Abortable(cause) => self.fail_commits(cause, 0),
            TransactionError::Fatal(cause) | TransactionError::Retriable(cause) => {
                self.fail_for_good(cause);
            }
            TransactionError::IllegalState { what } => {
                self.fail_for_good(ClientError::IllegalState { what });
            }
        }
    }

    pub fn all_answered(&self) -> bool {
        self.commits.asked.is_empty()
    }

    /// The newest transaction of which a commit is not answered. 0: none.
    pub fn last_asked(&self) -> u64 {
        self.commits.asked.back().map_or(0, |asked| asked.number)
    }

    /// Nothing before it is unanswered: what is open need not be kept.
    pub(super) fn let_leave(&mut self) {
        if self.all_answered() {
            self.leaving = self.number;
        }
    }

    /// What has failed is not committed, nor what was sent behind it: all after `last`.
    pub(super) fn fail_commits(&mut self, cause: ClientError, last: u64) {
        self.tell(last, &TransactionError::Abortable(cause.clone()));
        if self.phase == Phase::Ready {
            self.phase = Phase::Failed;
        }
        self.failure.get_or_insert(cause);
        self.unseen = true;
    }

    pub(super) fn fail_for_good(&mut self, cause: ClientError) {
        self.tell(0, &TransactionError::Fatal(cause.clone()));
        self.fatal.get_or_insert(cause);
        self.unseen = true;
    }

    fn tell(&mut self, last: u64, error: &TransactionError) {
        while let Some(asked) = self.commits.asked.pop_back_if(|asked| asked.number > last) {
            let _ = asked.tell.send(Err(error.clone()));
        }
        self.let_leave();
    }
}
