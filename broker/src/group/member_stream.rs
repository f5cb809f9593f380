//! A member's stream: what it is told waits for it to read.
//!
//! ```text
//! requests ─► member_session ─► GroupActor ─► MemberSink ─► Slot ─► MemberStream ─► answers
//! ```
//!
//! Promises: a member that does not read costs one answer of memory, however often it is told something: what
//! is newer takes the place of what was not read. When either stream goes, the coordinator hears of it.

use crate::coordinator::not_available;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use troupe_machines::group::{Groups, Push};
use troupe_proto::error::Error;
use troupe_proto::log::v1 as pb;

/// Between the coordinator and one member's stream of answers.
#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    /// Rung for the stream: there is something to read.
    news: Notify,
    /// Rung for the task: one of the other two has ended.
    over: Notify,
}

#[derive(Default)]
struct State {
    /// Told and not read yet.
    unread: Option<pb::RunMemberResponse>,
    /// Why the membership is over; given out once.
    ending: Option<Option<Error>>,
    /// The coordinator or the reader is gone.
    over: bool,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the stream; without an error if `None`. The first ending counts.
    pub fn end(&self, ending: Option<Error>) {
        let mut state = self.state();
        if !state.over {
            state.over = true;
            state.ending = Some(ending);
            drop(state);
            self.news.notify_one();
            self.over.notify_one();
        }
    }

    /// Returns when the coordinator has ended the membership, or nobody reads any more.
    pub async fn ended(&self) {
        while !self.state().over {
            self.over.notified().await;
        }
    }

    async fn next(&self) -> Option<Result<pb::RunMemberResponse, Error>> {
        loop {
            {
                let mut state = self.state();
                if let Some(answer) = state.unread.take() {
                    return Some(Ok(answer));
                }
                if state.over {
                    return state.ending.take().flatten().map(Err);
                }
            }
            self.news.notified().await;
        }
    }
}

/// Where the coordinator tells a member something. Dropped, it ends the stream: the coordinator is gone.
pub struct MemberSink(Arc<Slot>);

impl MemberSink {
    /// Takes the place of what the member has not read.
    pub fn push(&self, push: Push) {
        let mut state = self.0.state();
        if state.over {
            return;
        }
        let older = state.unread.take().and_then(|unread| unread.assignment);
        let newer =
            push.assignment.map(|(number, partitions)| pb::MemberAssignment { number, partitions });
        state.unread = Some(pb::RunMemberResponse {
            member_id: push.member_id.to_string(),
            member_epoch: push.member_epoch,
            assignment: newer.or(older),
        });
        drop(state);
        self.0.news.notify_one();
    }

    /// The membership is over.
    pub fn end(self, error: Option<Error>) {
        self.0.end(error);
    }
}

impl Drop for MemberSink {
    fn drop(&mut self) {
        self.0.end(Some(not_available::<Groups>()));
    }
}

/// The reader's end of a slot. Dropped, it tells the task.
pub struct MemberStream(Arc<Slot>);

impl MemberStream {
    /// Also the sink that it reads from.
    pub fn open() -> (Self, MemberSink) {
        let slot = Arc::new(Slot::default());
        (Self(Arc::clone(&slot)), MemberSink(slot))
    }

    pub fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.0)
    }

    /// The first answer, and with it the stream.
    ///
    /// # Errors
    /// What the member was refused with.
    pub async fn begin(
        self,
    ) -> Result<BoxStream<'static, Result<pb::RunMemberResponse, Error>>, Error> {
        let first = match self.0.next().await {
            Some(Ok(first)) => first,
            Some(Err(error)) => return Err(error),
            None => return Err(not_available::<Groups>()),
        };
        let rest = stream::unfold(self, |stream| async move {
            let answer = stream.0.next().await?;
            Some((answer, stream))
        });
        Ok(stream::iter([Ok(first)]).chain(rest).boxed())
    }
}

impl Drop for MemberStream {
    fn drop(&mut self) {
        self.0.end(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_machines::group::SessionId;
    use troupe_proto::error::ErrorCode;

    fn push(member_epoch: u32, number: Option<u64>) -> Push {
        let assignment = number.map(|number| (number, Vec::new()));
        Push { session: SessionId(1), member_id: "m".into(), member_epoch, assignment }
    }

    #[tokio::test]
    async fn a_member_that_does_not_read_finds_the_newest_only() {
        let (stream, sink) = MemberStream::open();
        sink.push(push(1, Some(1)));
        sink.push(push(2, None));
        let answer = stream.0.next().await.unwrap().unwrap();
        assert_eq!((answer.member_epoch, answer.assignment.unwrap().number), (2, 1));
        sink.push(push(3, Some(2)));
        sink.push(push(4, Some(3)));
        let answer = stream.0.next().await.unwrap().unwrap();
        assert_eq!((answer.member_epoch, answer.assignment.unwrap().number), (4, 3));
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_reason_after_what_was_told() {
        let (stream, sink) = MemberStream::open();
        sink.push(push(1, None));
        drop(sink);
        let mut answers = stream.begin().await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().member_epoch, 1);
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::CoordinatorNotAvailable);
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn who_was_refused_has_no_stream() {
        let (stream, sink) = MemberStream::open();
        sink.end(Some(Error::new(ErrorCode::InvalidGroupId, "no")));
        assert_eq!(stream.begin().await.err().unwrap().code, ErrorCode::InvalidGroupId);
    }

    #[tokio::test]
    async fn a_reader_that_goes_is_noticed() {
        let (stream, _sink) = MemberStream::open();
        let slot = stream.slot();
        drop(stream);
        slot.ended().await;
    }
}
