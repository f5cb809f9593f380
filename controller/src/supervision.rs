//! How an actor of the controller lives: whenever one has died, however it died, there is a new one.
//!
//! Kill means forget: the new actor has nothing of the old one.

use actix::{Actor, Addr, Context, Handler};
use actix_rt::ArbiterHandle;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use troupe_actor::{Beginning, Die, Exit, Guard, Life, Next, RestartWindow, StateBoard};
use troupe_proto::error::{Error, ErrorCode};

/// An actor that dies so often in a minute waits before it comes back.
const TOO_MANY_DEATHS: usize = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// Where an actor of the controller is found; it is never out of service.
pub(crate) type Board<A> = StateBoard<A, Infallible>;

/// An actor with its supervisor.
pub(crate) struct Supervised<A: Actor> {
    pub board: Arc<Board<A>>,
    /// Closes when there is no actor any more.
    pub end: oneshot::Receiver<Infallible>,
}

/// Supervises an actor on that arbiter, until told to stop. An actor keeps the guard that it is given until it ends.
pub(crate) fn supervise<A: Actor<Context = Context<A>> + Handler<Die>>(
    arbiter: &ArbiterHandle,
    name: &'static str,
    make: impl Fn(Guard<Infallible>) -> A + Send + 'static,
    mut stop: watch::Receiver<bool>,
) -> Supervised<A> {
    let board = Arc::<Board<A>>::default();
    let deaths = RestartWindow::new(TOO_MANY_DEATHS);
    let mut life = SupervisedLife { name, make, board: Arc::clone(&board), deaths };
    let (ending, end) = oneshot::channel();
    // After a shutdown there is nowhere to be, and it is over before it began.
    arbiter.spawn_fn(move || {
        actix_rt::spawn(async move {
            let _ending: oneshot::Sender<Infallible> = ending;
            let board = Arc::clone(&life.board);
            // Whoever could say so is gone, or has said so.
            let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
            troupe_actor::supervise(&mut life, &board, stopped).await;
        });
    });
    Supervised { board, end }
}

/// # Errors
/// `SHUTTING_DOWN`.
pub(crate) async fn address<A: Actor>(board: &Board<A>) -> Result<Addr<A>, Error> {
    let found = board.found().await.map(|found| Addr::clone(&found));
    found.ok_or_else(|| Error::new(ErrorCode::ShuttingDown, "the controller is shutting down"))
}

/// Chaos: returns when there is another actor, or none any more.
pub(crate) async fn kill<A: Actor<Context = Context<A>> + Handler<Die>>(
    board: &Board<A>,
    die: Die,
) -> Result<(), Error> {
    address(board).await?;
    let restarts = board.kill(|actor| {
        actor.do_send(die);
        true
    });
    board.rebuilt(restarts).await;
    Ok(())
}

struct SupervisedLife<A: Actor, F> {
    name: &'static str,
    make: F,
    board: Arc<Board<A>>,
    deaths: RestartWindow,
}

impl<A, F> Life for SupervisedLife<A, F>
where
    A: Actor<Context = Context<A>> + Handler<Die>,
    F: Fn(Guard<Infallible>) -> A,
{
    type Actor = A;
    type Reason = Infallible;
    type Cause = Infallible;

    fn begin(&mut self, guard: Guard<Infallible>) -> Beginning<'_, A, Infallible> {
        Box::pin(async move { Ok((self.make)(guard).start()) })
    }

    fn ended(&mut self, _: Exit<Infallible>) -> Next<Infallible> {
        self.board.count_restart();
        tracing::warn!(actor = self.name, "an actor died; making a new one");
        match self.deaths.note(Instant::now()) {
            true => Next::Another { after: PAUSE },
            false => Next::another(),
        }
    }

    fn dismiss(&self, actor: &Addr<A>) {
        actor.do_send(Die::Stop);
    }
}

impl<A: Actor, F> Drop for SupervisedLife<A, F> {
    /// Also if it never began, or ended with its thread: nobody waits for it.
    fn drop(&mut self) {
        self.board.retire(None);
    }
}
