//! Faults that an actor is given on purpose. A kill it does not survive; a pause, a stall and replies that get lost it
//! does, and each of these ends by itself.

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, AsyncContext, Context, Message};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Die without a goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum Die {
    Stop,
    Panic,
}

impl Die {
    /// What the message does to an actor. A panic unwinds as any other does, but is not reported as one: it was asked
    /// for, whoever asked is told, and no console is filled with where it came from.
    pub fn take_effect<A: Actor<Context = Context<A>>>(self, ctx: &mut Context<A>) {
        match self {
            Self::Stop => ctx.stop(),
            Self::Panic => std::panic::resume_unwind(Box::new("killed by the chaos service")),
        }
    }
}

/// Whether the next reply gets lost.
pub type Lottery = Box<dyn FnMut() -> bool + Send>;

/// What an actor suffers.
pub enum Fault {
    /// It handles no message; its mailbox fills up.
    Pause,
    /// It does not return from a message; its thread stands still.
    Stall,
    /// It does what it is asked, and does not answer where the lottery says so.
    DropReplies(Lottery),
}

/// The same without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Pause,
    Stall,
    DropReplies,
}

impl Fault {
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::Pause => FaultKind::Pause,
            Fault::Stall => FaultKind::Stall,
            Fault::DropReplies(_) => FaultKind::DropReplies,
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

/// Why a fault was not injected, or not survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInjected {
    /// Another fault of this actor has not ended yet.
    Busy,
    /// It died before the fault began.
    Died,
    /// The fault has ended, but the actor has handled no message since.
    NoAnswer,
}

/// Handle nothing for a while.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectFault {
    duration: Duration,
    stall: bool,
    begun: oneshot::Sender<()>,
}

impl InjectFault {
    /// What an actor does that is told so.
    pub fn take_place<A: Actor<Context = Context<A>>>(self, ctx: &mut Context<A>) {
        // Whoever asked may be gone; the fault takes place.
        let _ = self.begun.send(());
        if self.stall {
            std::thread::sleep(self.duration);
        } else {
            ctx.wait(wrap_future::<_, A>(tokio::time::sleep(self.duration)));
        }
    }
}

/// The faults of one actor, life after life: one at a time.
#[derive(Default)]
pub struct Faults {
    injected: AtomicBool,
    dropping: AtomicBool,
    /// What is suffered, from when until when: also if whoever gave it has gone.
    current: Mutex<Option<(FaultKind, Instant, Instant)>>,
    replies: Mutex<Option<Replies>>,
}

struct Replies {
    lottery: Lottery,
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
                let lost = (replies.lottery)();
                replies.dropped += u64::from(lost);
                lost
            }
            None => false,
        }
    }

    /// What the actor suffers now, since when and until when.
    pub fn current(&self, now: Instant) -> Option<(FaultKind, Instant, Instant)> {
        let current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.filter(|(_, _, until)| now < *until)
    }

    /// The actor that stood still is gone.
    pub fn end_standstill(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some_and(|(kind, ..)| kind.stands_still()) {
            *current = None;
        }
    }

    /// Gives the actor a fault; returns when it has ended and the actor has answered after it, at the latest `patience`
    /// later. `tell` sends it a message; false: there is no actor.
    pub async fn inject(
        &self,
        fault: Fault,
        duration: Duration,
        tell: impl FnOnce(InjectFault) -> bool,
        answered: impl Future<Output = ()>,
        patience: Duration,
    ) -> Result<Survived, NotInjected> {
        if self.injected.swap(true, Ordering::AcqRel) {
            return Err(NotInjected::Busy);
        }
        let _injected = Injected(self);
        let (kind, mut dropped_replies) = (fault.kind(), 0);
        let lasts = || {
            let now = Instant::now();
            Some((kind, now, now + duration))
        };
        let ended = match fault {
            Fault::DropReplies(lottery) => {
                self.set_current(lasts());
                self.drop_replies(lottery);
                tokio::time::sleep(duration).await;
                dropped_replies = self.keep_replies();
                Instant::now()
            }
            Fault::Pause | Fault::Stall => {
                let (begun, begins) = oneshot::channel();
                let message = InjectFault { duration, stall: kind == FaultKind::Stall, begun };
                if !tell(message) || begins.await.is_err() {
                    return Err(NotInjected::Died);
                }
                self.set_current(lasts());
                let ended = Instant::now() + duration;
                tokio::time::sleep(duration).await;
                ended
            }
        };
        match tokio::time::timeout(patience, answered).await {
            Ok(()) => Ok(Survived { recovery: ended.elapsed(), dropped_replies }),
            Err(_) => Err(NotInjected::NoAnswer),
        }
    }

    fn set_current(&self, current: Option<(FaultKind, Instant, Instant)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn replies(&self) -> MutexGuard<'_, Option<Replies>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_replies(&self, lottery: Lottery) {
        *self.replies() = Some(Replies { lottery, dropped: 0 });
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
struct Injected<'a>(&'a Faults);

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        self.0.keep_replies();
        self.0.injected.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const LONG: Duration = Duration::from_secs(60);

    struct Victim;

    impl Actor for Victim {
        type Context = Context<Self>;
    }

    impl actix::Handler<Die> for Victim {
        type Result = ();

        fn handle(&mut self, message: Die, ctx: &mut Context<Self>) {
            message.take_effect(ctx);
        }
    }

    impl Drop for Victim {
        fn drop(&mut self) {
            UNWOUND.fetch_or(std::thread::panicking(), Ordering::SeqCst);
        }
    }

    static UNWOUND: AtomicBool = AtomicBool::new(false);

    /// A console in which somebody types is not filled with fifty lines of where it came from.
    #[test]
    fn a_panic_that_was_asked_for_unwinds_and_is_not_reported() {
        static REPORTED: AtomicBool = AtomicBool::new(false);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let here = std::thread::current().name() == Some("victim");
            REPORTED.fetch_or(here, Ordering::SeqCst);
            hook(panic);
        }));
        let body = || {
            actix::System::new().block_on(async { Victim.start().send(Die::Panic).await.is_err() })
        };
        let died =
            std::thread::Builder::new().name("victim".to_owned()).spawn(body).unwrap().join();
        assert!(died.is_err() || died.is_ok_and(|died| died), "nobody answers");
        assert!(UNWOUND.load(Ordering::SeqCst) && !REPORTED.load(Ordering::SeqCst));
    }

    fn every_third() -> Lottery {
        let mut count = 0;
        Box::new(move || {
            count += 1;
            count % 3 == 0
        })
    }

    #[test]
    fn replies_are_lost_as_the_lottery_says_and_counted() {
        let faults = Faults::default();
        assert!(!faults.drops_reply());
        faults.drop_replies(every_third());
        let lost: Vec<bool> = (0..100).map(|_| faults.drops_reply()).collect();
        assert_eq!(faults.keep_replies(), lost.iter().filter(|lost| **lost).count() as u64);
        assert!(lost.iter().any(|lost| *lost) && !lost.iter().all(|lost| *lost));
        assert!(!faults.drops_reply());
    }

    #[tokio::test(start_paused = true)]
    async fn one_fault_at_a_time_and_whoever_gives_up_ends_it() {
        let faults = Faults::default();
        let told = |_| unreachable!("nobody needs to be told");
        let drops = || Fault::DropReplies(every_third());
        {
            let suffers = faults.inject(drops(), LONG, told, ready(()), LONG);
            tokio::select! {
                biased;
                _ = suffers => unreachable!("it lasts"),
                () = ready(()) => {}
            }
            assert!(!faults.drops_reply(), "given up");
        }
        let (first, second) = tokio::join!(
            faults.inject(drops(), LONG, told, ready(()), LONG),
            faults.inject(drops(), LONG, told, ready(()), LONG),
        );
        assert!(first.is_ok());
        assert_eq!(second.err(), Some(NotInjected::Busy));
        assert_eq!(faults.current(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_is_not_there_or_does_not_come_back_is_told_of() {
        let faults = Faults::default();
        let died = faults.inject(Fault::Pause, LONG, |_| false, ready(()), LONG).await;
        assert_eq!(died.err(), Some(NotInjected::Died));
        let begins = |message: InjectFault| message.begun.send(()).is_ok();
        let silent = faults.inject(Fault::Stall, LONG, begins, pending(), LONG).await;
        assert_eq!(silent.err(), Some(NotInjected::NoAnswer));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_is_known_until_it_expires_or_the_actor_is_gone() {
        let faults = Faults::default();
        let begins = |message: InjectFault| message.begun.send(()).is_ok();
        let suffers = faults.inject(Fault::Pause, LONG, begins, ready(()), LONG);
        tokio::select! {
            biased;
            _ = suffers => unreachable!("it lasts"),
            () = tokio::time::sleep(LONG / 2) => {}
        }
        let now = Instant::now();
        let known = faults.current(now).map(|(kind, ..)| kind);
        assert_eq!(known, Some(FaultKind::Pause), "though whoever gave it has gone");
        assert_eq!(faults.current(now + LONG), None);
        faults.end_standstill();
        assert_eq!(faults.current(now), None);
    }
}
