//! How everything outside the actor speaks to a coordinator, for longer than any one actor lives.

use super::actor::CoordinatorActor;
use super::home::Home;
use super::machine::Machine;
use super::message::{MAILBOX_CAPACITY, Reply};
use super::refusal::{not_available, not_coordinator, outcome_unknown, unconfirmed};
use actix::{Addr, Context, Handler, Message};
use std::sync::Arc;
use std::time::{Duration, Instant};
use troupe_actor::{Die, Refused, State, StateBoard};
use troupe_proto::error::{Error, ErrorCode};

/// The coordinator of what one partition of an internal topic remembers, in one leader epoch.
pub struct CoordinatorHandle<M: Machine> {
    pub home: Arc<Home<M>>,
    /// Where the actor is found. Retired: this node does not lead the partition in that epoch any more.
    pub board: StateBoard<CoordinatorActor<M>, Error>,
}

impl<M: Machine> std::ops::Deref for CoordinatorHandle<M> {
    type Target = Home<M>;

    fn deref(&self) -> &Home<M> {
        &self.home
    }
}

impl<M: Machine> CoordinatorHandle<M> {
    pub fn new(home: Home<M>) -> Self {
        Self { home: Arc::new(home), board: StateBoard::default() }
    }

    /// A read, if this node was the coordinator after the call began: a coordinator that has been replaced, and
    /// does not know of it, must not tell its past as if it were now. The in-sync replicas of its log say so.
    pub async fn of_now<T>(
        &self,
        asked: impl Future<Output = Result<Option<Result<T, Error>>, Error>>,
    ) -> Result<T, Error> {
        let confirmed = self.log.confirm(Some(self.leader_epoch));
        let (answer, confirmed) = tokio::join!(asked, confirmed);
        let answer = answer?.unwrap_or_else(|| Err(not_available::<M>()));
        confirmed.map_err(|error| unconfirmed::<M>(&error))?;
        answer
    }

    /// The answer to who wants something done. What was done stands in the log; a refusal does not: a coordinator that
    /// has been replaced, and does not know of it, would refuse by what is past (and fence for good, or call a member
    /// unknown), so it is confirmed as reads are. None: the actor died before it answered.
    pub async fn told<T>(&self, answer: Option<Result<T, Error>>) -> Result<T, Error> {
        self.told_if(answer, |_| false).await
    }

    /// The same for an answer that can refuse as well as do: `refuses` says whether it does nothing else.
    pub async fn told_if<T>(
        &self,
        answer: Option<Result<T, Error>>,
        refuses: impl Fn(&T) -> bool,
    ) -> Result<T, Error> {
        let answer = answer.unwrap_or_else(|| Err(outcome_unknown()));
        if is_refusal(&answer, &refuses) {
            return self.of_now(std::future::ready(Ok(Some(answer)))).await;
        }
        answer
    }

    /// The same for several that were asked together.
    pub async fn all_told<T>(
        &self,
        mut answers: Vec<Result<T, Error>>,
        refuses: impl Fn(&T) -> bool,
    ) -> Vec<Result<T, Error>> {
        let refused = |answer: &Result<T, Error>| is_refusal(answer, &refuses);
        if answers.iter().any(refused)
            && let Err(error) = self.of_now(std::future::ready(Ok(Some(Ok(()))))).await
        {
            for answer in answers.iter_mut().filter(|answer| refused(answer)) {
                *answer = Err(error.clone());
            }
        }
        answers
    }

    /// None: the actor died before it answered.
    pub async fn ask<Q, T>(
        &self,
        question: impl FnOnce(Reply<T>) -> Q,
    ) -> Result<Option<Result<T, Error>>, Error>
    where
        Q: Message<Result = ()> + Send + 'static,
        CoordinatorActor<M>: Handler<Q, Context = Context<CoordinatorActor<M>>>,
    {
        let addr = self.addr()?;
        self.mailbox.ask(&addr, question).await.map_err(refusal::<M>)
    }

    /// Hands a request over, if the mailbox has room.
    pub fn send<Q>(&self, message: Q) -> Result<(), Error>
    where
        Q: Message<Result = ()> + Send + 'static,
        CoordinatorActor<M>: Handler<Q, Context = Context<CoordinatorActor<M>>>,
    {
        let addr = self.addr()?;
        self.mailbox.try_send(&addr, message).map_err(refusal::<M>)
    }

    /// Hands a message over, waiting for room in the mailbox.
    pub async fn tell<Q>(&self, message: Q) -> Result<(), Error>
    where
        Q: Message<Result = ()> + Send + Unpin + 'static,
        CoordinatorActor<M>: Handler<Q, Context = Context<CoordinatorActor<M>>>,
    {
        let addr = self.addr()?;
        self.mailbox.sent(Instant::now());
        addr.send(message).await.map_err(|_| {
            self.mailbox.taken(Instant::now());
            not_available::<M>()
        })
    }

    /// Whether a request would be taken now.
    pub fn check_serves(&self) -> Result<(), Error> {
        self.addr().map(drop)
    }

    fn addr(&self) -> Result<Addr<CoordinatorActor<M>>, Error> {
        match self.board.snapshot() {
            State::Running(addr) if addr.connected() => Ok(Addr::clone(&addr)),
            State::Running(_) | State::Restarting => {
                let message = format!("the {}'s coordinator reads its log; try again", M::SUBJECT);
                Err(Error::new(ErrorCode::CoordinatorLoading, message))
            }
            State::Offline(reason) => {
                let code = ErrorCode::CoordinatorNotAvailable;
                Err(Error { code, ..Error::clone(&reason) })
            }
            State::Retired(_) => Err(not_coordinator::<M>()),
        }
    }
}

/// What tools do.
impl<M: Machine> CoordinatorHandle<M> {
    /// Kills the actor, or revives a coordinator that is out of service; returns the number of restarts when
    /// one serves again.
    ///
    /// # Errors
    /// Why none serves, at the latest after `patience`.
    pub async fn kill(&self, die: Die, patience: Duration) -> Result<u32, Error> {
        let restarts = self.board.kill(|addr| {
            self.mailbox.command(addr, die);
            true
        });
        match tokio::time::timeout(patience, self.board.rebuilt(restarts)).await {
            Ok(Some(restarts)) => Ok(restarts),
            Ok(None) => Err(match self.board.cause() {
                Some(reason) => Error::clone(&reason),
                None => not_coordinator::<M>(),
            }),
            Err(_) => {
                let message = "the actor was killed and has not come back yet";
                Err(Error::new(ErrorCode::RequestTimedOut, message))
            }
        }
    }
}

/// Whether an answer says that nothing was done.
fn is_refusal<T>(answer: &Result<T, Error>, refuses: impl Fn(&T) -> bool) -> bool {
    match answer {
        Ok(answer) => refuses(answer),
        Err(refusal) => refusal.surely_not_done(),
    }
}

fn refusal<M: Machine>(refused: Refused) -> Error {
    match refused {
        Refused::Full => {
            let message =
                format!("{MAILBOX_CAPACITY} requests wait for this coordinator; try again later");
            Error::new(ErrorCode::Throttled, message)
        }
        Refused::Closed => not_available::<M>(),
    }
}
