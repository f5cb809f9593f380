//! Commits that nobody waits for: the next transaction is begun while the one before is committed.
//!
//! What is asked for while others are being decided is decided together after them, in one transaction of the coordinator's:
//! a commit in a group, as databases flush theirs. So a row of small transactions goes at the pace of its records, not of
//! the disk. What is open is not sent before all that was asked for is answered: it may still be aborted, alone.
//!
//! ```text
//! asked:   1        2 3 4            5 6
//! decided: |--- 1 ---|---- 2 3 4 ----|--- 5 6 ---|
//! ```
//!
//! Promises: commits are answered in the order in which they were asked for; when one fails, those behind it do too, and
//! nothing else is begun before it was aborted.

use super::calls::Outcome;
use super::error::Call;
use super::state::Told;
use super::{TransactionError, Transactions};
use crate::error::ClientError;
use crate::producer::Accumulator;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::time::{Instant, timeout_at};

/// A commit that was asked for. Resolves when it is answered, as a commit that is waited for; there is nothing to ask
/// again, though. May be dropped: if it fails then, the next `begin` says so.
#[must_use = "it says whether the transaction is committed; drop it on purpose or await it"]
#[derive(Debug)]
pub struct Committing {
    told: Told,
}

impl Future for Committing {
    type Output = Result<(), TransactionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Whoever sees to it tells in any case, unless the runtime ends.
        let closed = |_| Err(TransactionError::Fatal(ClientError::Closed { sent: true }));
        Pin::new(&mut self.told).poll(context).map(|told| told.unwrap_or_else(closed))
    }
}

impl Transactions {
    pub(super) async fn start_commit(
        self: &Arc<Self>,
        accumulator: &Arc<Accumulator>,
    ) -> Result<Committing, TransactionError> {
        let _one = self.calls.lock().await;
        let (told, is_first) = self.state.lock().start_commit()?;
        if is_first {
            tokio::spawn(self.clone().see_to_commits(accumulator.clone()));
        }
        Ok(Committing { told })
    }

    /// Until all that was asked for is answered.
    async fn see_to_commits(self: Arc<Self>, accumulator: Arc<Accumulator>) {
        // While one half goes out, the other is filled.
        let limit = accumulator.config.buffer_memory / 2;
        loop {
            let next = self.state.lock().next_group(limit);
            let Some(last) = next else { break };
            accumulator.flushed_through(last).await;
            let flushed = self.state.lock().group_flushed(last);
            let Some(wrote) = flushed else { continue };
            let ended = match wrote {
                true => self.end_group(&accumulator).await.map(Some),
                false => Ok(None),
            };
            match ended {
                Ok(next) => self.state.lock().group_committed(last, next),
                Err(error) => self.state.lock().fail_group(error),
            }
            self.tell_answered();
            accumulator.list_all();
        }
    }

    /// Asked until it is answered: who has gone on need not ask again. Without the producer once.
    async fn end_group(
        &self,
        accumulator: &Accumulator,
    ) -> Result<super::calls::Identity, TransactionError> {
        loop {
            let deadline = Instant::now() + self.max_block;
            let ended = self.end(accumulator, Outcome::Commit, deadline).await;
            match ended.map_err(|error| TransactionError::of_call(Call::End, error)) {
                Err(TransactionError::Retriable(error))
                    if !accumulator.closed.load(Ordering::Acquire) =>
                {
                    tracing::warn!(id = self.id, %error, "commits are not answered, and asked for again");
                }
                ended => return ended,
            }
        }
    }

    pub(super) fn tell_answered(&self) {
        if self.state.lock().all_answered() {
            self.answered.notify_waiters();
        }
    }

    /// Returns when no commit that was asked for is unanswered. The caller has seen to it that none is asked for meanwhile.
    pub(super) async fn until_answered(&self, deadline: Instant) -> Result<(), TransactionError> {
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if self.state.lock().all_answered() {
                return Ok(());
            }
            let answered = timeout_at(deadline, answered).await;
            answered.map_err(|_| self.late("the commits before are not answered"))?;
        }
    }
}
