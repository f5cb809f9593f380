//! Faults that an actor can be given and survives: a pause, a stall, replies that get lost. Each ends by itself.

use super::actor::PartitionActor;
use super::handle::PartitionHandle;
use super::opening::now;
use actix::{AsyncContext, Context, Handler, Message, WrapFuture};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};

/// How soon an actor that does not answer is asked again.
const RETRY: Duration = Duration::from_millis(5);

/// What an actor suffers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It handles no message; its mailbox fills up.
    Pause,
    /// It does not return from a message; its shard stands still.
    Stall,
    /// It does what it is asked and answers nobody, with this likelihood for each answer.
    DropReplies { probability: f64, seed: u64 },
}

/// The same without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FaultKind {
    Pause = 1,
    Stall = 2,
    DropReplies = 3,
}

impl Fault {
    pub fn kind(self) -> FaultKind {
        match self {
            Fault::Pause => FaultKind::Pause,
            Fault::Stall => FaultKind::Stall,
            Fault::DropReplies { .. } => FaultKind::DropReplies,
        }
    }
}

impl FaultKind {
    /// Whether the actor handles nothing meanwhile.
    pub fn stands_still(self) -> bool {
        match self {
            FaultKind::Pause | FaultKind::Stall => true,
            FaultKind::DropReplies => false,
        }
    }
}

/// What came of a fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survived {
    /// From the end of the fault to the moment the actor had handled a message.
    pub recovery: Duration,
    pub dropped_replies: u64,
}

/// Handle nothing for a while.
#[derive(Message)]
#[rtype(result = "()")]
struct Suffer {
    duration: Duration,
    stall: bool,
    begun: oneshot::Sender<()>,
}

impl Handler<Suffer> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Suffer { duration, stall, begun }: Suffer, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        // Whoever asked may be gone; the fault takes place.
        let _ = begun.send(());
        if stall {
            std::thread::sleep(duration);
        } else {
            ctx.wait(tokio::time::sleep(duration).into_actor(self));
        }
    }
}

/// The faults of one partition's actors: one at a time.
#[derive(Default)]
pub struct Faults {
    suffering: AtomicBool,
    dropping: AtomicBool,
    /// What is suffered, from when until when: also if whoever gave it has gone.
    current: Mutex<Option<(FaultKind, Time, Time)>>,
    replies: Mutex<Option<Replies>>,
}

struct Replies {
    probability: f64,
    random: StdRng,
    dropped: u64,
}

impl Faults {
    /// Whether the reply that is about to be given gets lost.
    pub fn drops_reply(&self) -> bool {
        if !self.dropping.load(Ordering::Relaxed) {
            return false;
        }
        match &mut *self.replies() {
            Some(replies) => {
                let lost = replies.random.random_bool(replies.probability);
                replies.dropped += u64::from(lost);
                lost
            }
            None => false,
        }
    }

    /// What the actor suffers now, and since when.
    pub fn current(&self, now: Time) -> Option<(FaultKind, Time)> {
        let current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (kind, since, _) = current.filter(|(_, _, until)| now < *until)?;
        Some((kind, since))
    }

    /// The actor that stood still is gone.
    pub fn end_standstill(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some_and(|(kind, ..)| kind.stands_still()) {
            *current = None;
        }
    }

    fn set_current(&self, current: Option<(FaultKind, Time, Time)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn replies(&self) -> MutexGuard<'_, Option<Replies>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_replies(&self, probability: f64, seed: u64) {
        let random = StdRng::seed_from_u64(seed);
        *self.replies() = Some(Replies { probability, random, dropped: 0 });
        self.dropping.store(true, Ordering::Relaxed);
    }

    /// From now on replies are given again; how many were not.
    fn keep_replies(&self) -> u64 {
        if self.dropping.swap(false, Ordering::Relaxed) {
            self.set_current(None);
        }
        self.replies().take().map_or(0, |replies| replies.dropped)
    }
}

/// Ends a fault, however whoever gave it goes.
struct Suffering<'a>(&'a Faults);

impl Drop for Suffering<'_> {
    fn drop(&mut self) {
        self.0.keep_replies();
        self.0.suffering.store(false, Ordering::Release);
    }
}

impl PartitionHandle {
    /// Gives the actor a fault; returns when it has ended and the actor has handled a message after it, at the
    /// latest `patience` later.
    ///
    /// # Errors
    /// `INVALID_REQUEST` while another fault lasts; `LEADER_NOT_AVAILABLE` without an actor.
    pub async fn suffer(
        &self,
        fault: Fault,
        duration: Duration,
        patience: Duration,
    ) -> Result<Survived, Error> {
        let faults = &self.board.faults;
        if faults.suffering.swap(true, Ordering::AcqRel) {
            let message = "another fault of this actor has not ended yet";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        let _suffering = Suffering(faults);
        let mut dropped_replies = 0;
        let lasts = || {
            let now = now();
            let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            Some((fault.kind(), now, now.plus(millis)))
        };
        let ended = match fault {
            Fault::DropReplies { probability, seed } => {
                faults.set_current(lasts());
                faults.drop_replies(probability, seed);
                tokio::time::sleep(duration).await;
                dropped_replies = faults.keep_replies();
                Instant::now()
            }
            Fault::Pause | Fault::Stall => {
                let (begun, begins) = oneshot::channel();
                let suffer = Suffer { duration, stall: fault == Fault::Stall, begun };
                if !self.tell(suffer) || begins.await.is_err() {
                    let message = "the actor died before the fault began; try again";
                    return Err(Error::new(ErrorCode::LeaderNotAvailable, message));
                }
                faults.set_current(lasts());
                let ended = Instant::now() + duration;
                tokio::time::sleep(duration).await;
                ended
            }
        };
        // An actor that died meanwhile is waited for.
        let answered = async {
            while self.describe().await.is_err() && !self.board.is_gone() {
                tokio::time::sleep(RETRY).await;
            }
        };
        if tokio::time::timeout(patience, answered).await.is_err() {
            let message = "the fault has ended, but the actor has handled no message since";
            return Err(Error::new(ErrorCode::RequestTimedOut, message));
        }
        Ok(Survived { recovery: ended.elapsed(), dropped_replies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(seed: u64, probability: f64) -> Vec<bool> {
        let faults = Faults::default();
        assert!(!faults.drops_reply());
        faults.drop_replies(probability, seed);
        let lost: Vec<bool> = (0..100).map(|_| faults.drops_reply()).collect();
        assert_eq!(faults.keep_replies(), lost.iter().filter(|lost| **lost).count() as u64);
        assert!(!faults.drops_reply());
        lost
    }

    #[test]
    fn the_same_seed_loses_the_same_replies() {
        assert_eq!(lost(7, 0.5), lost(7, 0.5));
        assert_ne!(lost(7, 0.5), lost(8, 0.5));
        assert!(lost(7, 1.0).into_iter().all(|lost| lost));
    }
}
