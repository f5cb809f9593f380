//! One life after the other: whenever an actor has ended, however it ended, its owner says what follows.
//!
//! Promises: no more than one actor at a time; nobody finds an actor that has ended; while one is out of service, it
//! can be revived.
//! Never here: what an actor is built from, and what its end means.

use crate::board::{ActorState, StateBoard};
use crate::guard::{Exit, Guard};
use actix::{Actor, Addr, Context};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<C> {
    /// Another actor, after a while.
    Another { after: Duration },
    /// None, until somebody revives it; or until it is tried again all by itself.
    Offline { cause: C, retry: Option<Duration> },
    /// None any more.
    Over,
}

impl<C> Next<C> {
    /// Another actor, at once.
    pub const fn another() -> Self {
        Self::Another { after: Duration::ZERO }
    }
}

/// An actor that is being built; or what follows, if it cannot be. Boxed, so that nothing is kept of it while the
/// actor lives.
pub type Beginning<'a, A, C> = Pin<Box<dyn Future<Output = Result<Addr<A>, Next<C>>> + 'a>>;

/// What an owner says of its actor.
pub trait Life {
    type Actor: Actor<Context = Context<Self::Actor>>;
    /// Why an actor ends, as it says itself through its guard.
    type Reason;
    /// Why one is out of service.
    type Cause;

    /// Builds an actor that holds `guard` until it ends. It is found by others once this returns, which is before it
    /// has handled anything.
    fn begin(&mut self, guard: Guard<Self::Reason>) -> Beginning<'_, Self::Actor, Self::Cause>;

    /// An actor has ended, and nobody finds it any more.
    fn ended(&mut self, exit: Exit<Self::Reason>) -> Next<Self::Cause>;

    /// The board says so from now on, and did not before.
    fn entered(&mut self, _state: ActorState) {}

    /// Somebody wants back what was out of service.
    fn revived(&mut self) {}

    /// Tells an actor that it is not wanted any more.
    fn dismiss(&self, _actor: &Addr<Self::Actor>) {}
}

/// An actor, and where its end is told.
type Alive<L> = (Arc<Addr<<L as Life>::Actor>>, oneshot::Receiver<Exit<<L as Life>::Reason>>);

/// Keeps an actor alive until its owner says that it is over, or `over` is; returns when there is no actor any more.
/// While an actor lives, this takes no more memory than it needs to wait for an end: there may be thousands.
pub async fn supervise<L: Life>(
    life: &mut L,
    board: &StateBoard<L::Actor, L::Cause>,
    over: impl Future<Output = ()>,
) {
    let mut alive = None;
    tokio::select! {
        () = live(life, board, &mut alive) => {}
        () = over => {}
    }
    if board.retire(None) {
        life.entered(ActorState::Retired);
    }
    if let Some((actor, exit)) = alive {
        life.dismiss(&actor);
        // How it ends is nobody's concern any more.
        let _ = exit.await;
    }
}

async fn live<L: Life>(
    life: &mut L,
    board: &StateBoard<L::Actor, L::Cause>,
    alive: &mut Option<Alive<L>>,
) {
    loop {
        if board.set_restarting() {
            life.entered(ActorState::Restarting);
        }
        let (guard, exit) = Guard::new();
        let next = match life.begin(guard).await {
            Ok(addr) => {
                let addr = Arc::new(addr);
                let (_, exit) = alive.insert((Arc::clone(&addr), exit));
                if board.set_running(addr) {
                    life.entered(ActorState::Running);
                }
                // An error: the thread is gone, and the node with it.
                let exit = exit.await.unwrap_or_else(|_| Exit::stopped());
                *alive = None;
                // First, so that nobody counts a restart of an actor that is still to be found.
                if board.withdraw() {
                    life.entered(ActorState::Restarting);
                }
                life.ended(exit)
            }
            Err(next) => next,
        };
        if !Box::pin(pass(next, life, board)).await {
            return;
        }
    }
}

/// Lives through what follows; false: it is over.
async fn pass<L: Life>(
    next: Next<L::Cause>,
    life: &mut L,
    board: &StateBoard<L::Actor, L::Cause>,
) -> bool {
    let (cause, retry) = match next {
        Next::Another { after } => {
            if after > Duration::ZERO {
                tokio::time::sleep(after).await;
            }
            return true;
        }
        Next::Offline { cause, retry } => (cause, retry),
        Next::Over => return false,
    };
    if board.set_offline(cause) {
        life.entered(ActorState::Offline);
    }
    let revived = match retry {
        None => board.revived().await,
        Some(retry) => tokio::select! {
            revived = board.revived() => revived,
            () = tokio::time::sleep(retry) => return true,
        },
    };
    if revived {
        if board.set_restarting() {
            life.entered(ActorState::Restarting);
        }
        board.count_restart();
        life.revived();
    }
    revived
}

#[cfg(test)]
mod tests;
