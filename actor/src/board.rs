//! Where an actor is to be found, and how it is: written by whoever supervises it, read by everyone without asking.
//! It outlives every actor.
//!
//! Promise: what was retired stays retired.

use actix::{Actor, Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorState {
    /// It is being built.
    Restarting,
    Running,
    /// Out of service, after repeated panics or a fault that another actor would find again.
    Offline,
    /// It is not wanted here any more.
    Retired,
}

/// The same, and what belongs to it. `C` is the cause for which an actor is out of service.
pub enum State<A: Actor, C> {
    Restarting,
    Running(Arc<Addr<A>>),
    Offline(Arc<C>),
    Retired(Option<Arc<C>>),
}

impl<A: Actor, C> Clone for State<A, C> {
    fn clone(&self) -> Self {
        match self {
            Self::Restarting => Self::Restarting,
            Self::Running(addr) => Self::Running(Arc::clone(addr)),
            Self::Offline(cause) => Self::Offline(Arc::clone(cause)),
            Self::Retired(cause) => Self::Retired(cause.clone()),
        }
    }
}

impl<A: Actor, C> State<A, C> {
    fn kind(&self) -> ActorState {
        match self {
            Self::Restarting => ActorState::Restarting,
            Self::Running(_) => ActorState::Running,
            Self::Offline(_) => ActorState::Offline,
            Self::Retired(_) => ActorState::Retired,
        }
    }
}

pub struct StateBoard<A: Actor, C> {
    state: RwLock<State<A, C>>,
    restarts: AtomicU32,
    /// Somebody wants back what is out of service.
    revive: AtomicBool,
    /// Told when the state changes, and of whatever else its owner tells.
    changed: Notify,
}

impl<A: Actor, C> Default for StateBoard<A, C> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State::Restarting),
            restarts: AtomicU32::new(0),
            revive: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }
}

/// For everyone.
impl<A: Actor, C> StateBoard<A, C> {
    pub fn state(&self) -> ActorState {
        self.look(State::kind)
    }

    pub fn snapshot(&self) -> State<A, C> {
        self.look(State::clone)
    }

    /// Offline, or retired.
    pub fn is_gone(&self) -> bool {
        matches!(self.state(), ActorState::Offline | ActorState::Retired)
    }

    /// The actor of now; `None` while there is none that takes a message.
    pub fn addr(&self) -> Option<Arc<Addr<A>>> {
        self.look(|state| match state {
            State::Running(addr) if addr.connected() => Some(Arc::clone(addr)),
            _ => None,
        })
    }

    /// Why it is out of service, or gone.
    pub fn cause(&self) -> Option<Arc<C>> {
        self.look(|state| match state {
            State::Restarting | State::Running(_) => None,
            State::Offline(cause) => Some(Arc::clone(cause)),
            State::Retired(cause) => cause.clone(),
        })
    }

    /// How often the actor was built again.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// The next notice. Enable it before looking at what it may be about.
    pub fn notified(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Wakes whoever waits for the next notice.
    pub fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// Looks now, and at every notice, until something is found.
    pub async fn wait_for<T>(&self, mut found: impl FnMut() -> Option<T>) -> T {
        // Mostly it is there, and nobody needs to be woken.
        if let Some(found) = found() {
            return found;
        }
        loop {
            let mut notified = pin!(self.notified());
            notified.as_mut().enable();
            if let Some(found) = found() {
                return found;
            }
            notified.await;
        }
    }

    /// Returns when there is an actor; `None`: it is out of service, or gone.
    pub async fn found(&self) -> Option<Arc<Addr<A>>> {
        let found = |state: &State<A, C>| match state {
            State::Running(addr) if addr.connected() => Some(Some(Arc::clone(addr))),
            State::Running(_) | State::Restarting => None,
            State::Offline(_) | State::Retired(_) => Some(None),
        };
        self.wait_for(|| self.look(found)).await
    }

    /// Kills the actor by what `die` sends it, which says whether that was taken; what is out of service is revived.
    /// Returns how many restarts there are when that is done, for [`StateBoard::rebuilt`].
    pub fn kill(&self, die: impl FnOnce(&Addr<A>) -> bool) -> u32 {
        let before = self.restarts();
        let dies = match self.snapshot() {
            State::Running(addr) => die(&addr),
            State::Offline(_) => {
                self.revive.store(true, Ordering::Release);
                self.notify();
                true
            }
            // It is being built already, or never will be.
            State::Restarting | State::Retired(_) => false,
        };
        before + u32::from(dies)
    }

    /// Returns the number of restarts when it is at least `restarts` and an actor serves; `None`: it is out of service
    /// again, or gone.
    pub async fn rebuilt(&self, restarts: u32) -> Option<u32> {
        self.wait_for(|| {
            let now = self.restarts();
            match self.state() {
                ActorState::Retired => Some(None),
                ActorState::Offline if now >= restarts => Some(None),
                ActorState::Running if now >= restarts && self.addr().is_some() => Some(Some(now)),
                ActorState::Offline | ActorState::Running | ActorState::Restarting => None,
            }
        })
        .await
    }

    fn look<T>(&self, found: impl FnOnce(&State<A, C>) -> T) -> T {
        found(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// For the supervisor, and for an actor that knows that it is about to end. Each says whether the state is another one
/// than before.
impl<A: Actor, C> StateBoard<A, C> {
    /// An actor is being built.
    pub fn set_restarting(&self) -> bool {
        self.revive.store(false, Ordering::Release);
        self.set(State::Restarting)
    }

    /// An actor is there, from now on for everybody.
    pub fn set_running(&self, addr: Arc<Addr<A>>) -> bool {
        self.set(State::Running(addr))
    }

    /// The actor has ended: whoever looks for one waits, unless it is known that there will be none.
    pub fn withdraw(&self) -> bool {
        self.state() == ActorState::Running && self.set(State::Restarting)
    }

    pub fn set_offline(&self, cause: C) -> bool {
        self.set(State::Offline(Arc::new(cause)))
    }

    /// For good. A cause that is known stays known.
    pub fn retire(&self, cause: Option<C>) -> bool {
        self.set(State::Retired(cause.map(Arc::new)))
    }

    pub fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when somebody wants back what is out of service; false: it is gone meanwhile.
    pub(crate) async fn revived(&self) -> bool {
        self.wait_for(|| match self.state() {
            ActorState::Retired => Some(false),
            _ => self.revive.swap(false, Ordering::AcqRel).then_some(true),
        })
        .await
    }

    fn set(&self, next: State<A, C>) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let changes = state.kind() != next.kind();
        match (&*state, &next) {
            (State::Retired(None), State::Retired(Some(_))) => {}
            (State::Retired(_), _) => return false,
            _ => {}
        }
        *state = next;
        drop(state);
        self.notify();
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::Context;

    struct Idle;

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    fn board() -> Arc<StateBoard<Idle, &'static str>> {
        Arc::default()
    }

    #[test]
    fn what_was_retired_stays_retired_and_why_is_not_forgotten() {
        let board = board();
        assert!(board.retire(None));
        assert!(!board.set_restarting() && !board.set_offline("late"));
        assert_eq!((board.state(), board.cause()), (ActorState::Retired, None));
        assert!(!board.retire(Some("deleted")));
        board.retire(None);
        assert_eq!(board.cause().as_deref(), Some(&"deleted"));
    }

    #[test]
    fn an_actor_that_said_that_it_is_offline_is_not_looked_for() {
        let board = board();
        board.set_offline("the disk");
        assert!(!board.withdraw());
        assert_eq!((board.state(), board.is_gone()), (ActorState::Offline, true));
    }

    #[test]
    fn whoever_looks_for_an_actor_is_woken_by_one_and_by_the_news_that_there_is_none() {
        actix::System::new().block_on(async {
            let board = board();
            let looks = |board: Arc<StateBoard<Idle, _>>| async move { board.found().await };
            let waits = actix_rt::spawn(looks(Arc::clone(&board)));
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            board.set_running(Arc::new(Idle.start()));
            assert!(waits.await.is_ok_and(|found| found.is_some()));

            assert!(board.withdraw());
            let waits = actix_rt::spawn(looks(Arc::clone(&board)));
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            board.set_offline("panics");
            assert!(waits.await.is_ok_and(|found| found.is_none()));
        });
    }

    #[test]
    fn a_kill_revives_what_is_out_of_service_and_does_not_wait_for_what_is_gone() {
        actix::System::new().block_on(async {
            let board = board();
            let never = |_: &Addr<Idle>| unreachable!("there is no actor");
            assert_eq!(board.kill(never), 0, "it is being built");
            board.set_offline("panics");
            assert_eq!(board.kill(never), 1);
            assert!(board.revived().await);
            board.count_restart();
            assert_eq!(board.rebuilt(1).await, None, "nobody has built it");
            board.retire(None);
            assert_eq!((board.kill(never), board.rebuilt(7).await), (1, None));
            assert!(!board.revived().await);
        });
    }
}
