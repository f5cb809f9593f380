//! How many messages an actor has been sent and has not handled, and since when it has handled none of them. The
//! actor cannot say so itself while it stands still.
//!
//! actix bounds a mailbox by the capacity that is set in the actor's context; who is refused there is told, never
//! dropped in silence.

use crate::clock::AtomicInstant;
use actix::prelude::SendError;
use actix::{Actor, Addr, Context, Handler, Message};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why a message was not taken. The actor has not seen it, and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many wait as may.
    Full,
    /// The actor is gone.
    Closed,
}

/// The count of a mailbox, kept by those who send and by the actor.
pub struct Mailbox {
    depth: AtomicI64,
    /// When the actor took the last message, or the first of those that wait was sent.
    moved: AtomicInstant,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { depth: AtomicI64::new(0), moved: AtomicInstant::new(Instant::now()) }
    }
}

impl Mailbox {
    /// A message is on its way, also one that an actor sends itself.
    pub fn sent(&self, now: Instant) {
        if self.depth.fetch_add(1, Ordering::Relaxed) <= 0 {
            self.moved.set(now);
        }
    }

    /// Handled, or refused by the mailbox.
    pub fn taken(&self, now: Instant) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
        self.moved.set(now);
    }

    /// A new actor's is empty.
    pub fn emptied(&self) {
        self.depth.store(0, Ordering::Relaxed);
    }

    pub fn depth(&self) -> i64 {
        self.depth.load(Ordering::Relaxed).max(0)
    }

    /// For how long some have waited, and none was handled.
    pub fn still(&self, now: Instant) -> Duration {
        match self.depth() {
            0 => Duration::ZERO,
            _ => self.moved.age(now),
        }
    }

    /// Sends a message, if there is room.
    pub fn try_send<A, M>(&self, addr: &Addr<A>, message: M) -> Result<(), Refused>
    where
        A: Actor<Context = Context<A>> + Handler<M>,
        M: Message<Result: Send> + Send + 'static,
    {
        self.sent(Instant::now());
        addr.try_send(message).map_err(|error| {
            self.taken(Instant::now());
            match error {
                SendError::Full(_) => Refused::Full,
                SendError::Closed(_) => Refused::Closed,
            }
        })
    }

    /// Sends what must not be refused, however many wait: an owner's own few messages. An actor that dies first drops
    /// it.
    pub fn command<A, M>(&self, addr: &Addr<A>, message: M)
    where
        A: Actor<Context = Context<A>> + Handler<M>,
        M: Message<Result: Send> + Send + 'static,
    {
        self.sent(Instant::now());
        addr.do_send(message);
    }

    /// Sends a question, if there is room. `None`: the actor died before it answered.
    pub async fn ask<A, M, T>(
        &self,
        addr: &Addr<A>,
        question: impl FnOnce(oneshot::Sender<T>) -> M,
    ) -> Result<Option<T>, Refused>
    where
        A: Actor<Context = Context<A>> + Handler<M>,
        M: Message<Result: Send> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.try_send(addr, question(reply))?;
        Ok(answer.await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Die;
    use actix::ActorContext;

    #[test]
    fn a_mailbox_stands_still_while_something_waits_and_nothing_is_taken() {
        let mailbox = Mailbox::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let still = |ms| mailbox.still(at(ms)).as_millis();
        assert_eq!(still(1000), 0);
        mailbox.sent(at(1000));
        mailbox.sent(at(1400));
        assert_eq!((still(1500), mailbox.depth()), (500, 2));
        mailbox.taken(at(1600));
        assert_eq!(still(1700), 100);
        mailbox.taken(at(1700));
        assert_eq!((still(9000), mailbox.depth()), (0, 0));
    }

    struct Slow;

    impl Actor for Slow {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.set_mailbox_capacity(1);
        }
    }

    impl Handler<Die> for Slow {
        type Result = ();

        fn handle(&mut self, _: Die, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }

    #[test]
    fn who_is_refused_is_told_why_and_does_not_count() {
        actix::System::new().block_on(async {
            let (addr, mailbox) = (Slow.start(), Mailbox::default());
            tokio::task::yield_now().await;
            let mut taken = 0;
            let refused = loop {
                match mailbox.try_send(&addr, Die::Stop) {
                    Ok(()) => taken += 1,
                    Err(refused) => break refused,
                }
            };
            assert_eq!((refused, mailbox.depth()), (Refused::Full, taken));
            while addr.connected() {
                tokio::task::yield_now().await;
            }
            assert_eq!(mailbox.try_send(&addr, Die::Stop), Err(Refused::Closed));
            assert_eq!(mailbox.depth(), taken);
            mailbox.emptied();
            assert_eq!(mailbox.depth(), 0);
        });
    }
}
