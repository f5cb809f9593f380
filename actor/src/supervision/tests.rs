//! What an actor lives through, with an owner that records it.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

use super::*;
use crate::{Die, RestartWindow};
use actix::{ActorContext, Handler, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

struct Worker {
    /// How many there are.
    living: Arc<AtomicUsize>,
    guard: Guard<&'static str>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Die> for Worker {
    type Result = ();

    fn handle(&mut self, die: Die, ctx: &mut Self::Context) {
        match die {
            Die::Stop => ctx.stop(),
            Die::Panic => panic!("as told"),
        }
    }
}

/// Loses its duty.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Resign(&'static str);

impl Handler<Resign> for Worker {
    type Result = ();

    fn handle(&mut self, Resign(reason): Resign, ctx: &mut Self::Context) {
        self.guard.note(reason);
        ctx.stop();
    }
}

type Board = StateBoard<Worker, &'static str>;

struct Owner {
    board: Arc<Board>,
    living: Arc<AtomicUsize>,
    panics: RestartWindow,
    /// What was lived through.
    story: Arc<Mutex<Vec<String>>>,
    /// Beginnings that fail, the next one last.
    failures: Vec<Next<&'static str>>,
}

impl Owner {
    fn note(&self, what: String) {
        self.story.lock().unwrap().push(what);
    }
}

impl Life for Owner {
    type Actor = Worker;
    type Reason = &'static str;
    type Cause = &'static str;

    fn begin(&mut self, guard: Guard<&'static str>) -> Beginning<'_, Worker, &'static str> {
        Box::pin(async move {
            if let Some(next) = self.failures.pop() {
                return Err(next);
            }
            let before = self.living.fetch_add(1, Ordering::SeqCst);
            assert_eq!(before, 0, "one at a time");
            Ok(Worker { living: Arc::clone(&self.living), guard }.start())
        })
    }

    fn ended(&mut self, exit: Exit<&'static str>) -> Next<&'static str> {
        assert!(self.board.addr().is_none(), "nobody finds it");
        assert_eq!(self.living.load(Ordering::SeqCst), 0, "told when all is dropped");
        self.note(format!("{exit:?}"));
        if exit.reason == Some("over") {
            return Next::Over;
        }
        self.board.count_restart();
        if exit.panicked && self.panics.note(Instant::now()) {
            return Next::Offline { cause: "panics", retry: None };
        }
        Next::another()
    }

    fn entered(&mut self, state: ActorState) {
        self.note(format!("{state:?}"));
    }

    fn revived(&mut self) {
        self.panics.clear();
    }

    fn dismiss(&self, actor: &Addr<Worker>) {
        actor.do_send(Die::Stop);
    }
}

struct Supervised {
    board: Arc<Board>,
    living: Arc<AtomicUsize>,
    story: Arc<Mutex<Vec<String>>>,
    over: Arc<Notify>,
    life: tokio::task::JoinHandle<()>,
}

impl Supervised {
    fn start(failures: Vec<Next<&'static str>>) -> Self {
        let (board, living) = (Arc::<Board>::default(), Arc::<AtomicUsize>::default());
        let (story, over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Notify>::default());
        let mut owner = Owner {
            board: Arc::clone(&board),
            living: Arc::clone(&living),
            panics: RestartWindow::new(3),
            story: Arc::clone(&story),
            failures,
        };
        let life = {
            let (board, over) = (Arc::clone(&board), Arc::clone(&over));
            actix_rt::spawn(async move { supervise(&mut owner, &board, over.notified()).await })
        };
        Self { board, living, story, over, life }
    }

    async fn kill(&self, die: Die) -> Option<u32> {
        self.board.found().await;
        let restarts = self.board.kill(|addr| addr.try_send(die).is_ok());
        self.board.rebuilt(restarts).await
    }

    fn story(&self) -> Vec<String> {
        std::mem::take(&mut self.story.lock().unwrap())
    }
}

#[test]
fn a_dead_actor_is_replaced_however_it_died() {
    System::new().block_on(async {
        let supervised = Supervised::start(Vec::new());
        assert_eq!(supervised.kill(Die::Stop).await, Some(1));
        assert_eq!(supervised.kill(Die::Panic).await, Some(2));
        let stopped = format!("{:?}", Exit::<&str>::stopped());
        let panicked = format!("{:?}", Exit::<&str>::panicked());
        let expected =
            ["Running", "Restarting", &stopped, "Running", "Restarting", &panicked, "Running"];
        assert_eq!(supervised.story(), expected);
    });
}

#[test]
fn an_actor_that_panics_three_times_in_a_minute_is_out_of_service_until_somebody_looks() {
    System::new().block_on(async {
        let supervised = Supervised::start(Vec::new());
        assert_eq!(supervised.kill(Die::Panic).await, Some(1));
        assert_eq!(supervised.kill(Die::Panic).await, Some(2));
        assert_eq!(supervised.kill(Die::Panic).await, None);
        assert_eq!(supervised.board.state(), ActorState::Offline);
        assert_eq!(supervised.board.cause().as_deref(), Some(&"panics"));
        assert!(supervised.board.found().await.is_none());
        assert_eq!(supervised.kill(Die::Stop).await, Some(4), "revived");
        assert_eq!(supervised.kill(Die::Panic).await, Some(5), "what was before does not count");
    });
}

#[test]
fn what_cannot_begin_is_tried_again_or_waits_for_somebody() {
    System::new().block_on(async {
        let soon = Duration::from_millis(1);
        let supervised = Supervised::start(vec![
            Next::Offline { cause: "corrupt", retry: None },
            Next::Offline { cause: "full", retry: Some(soon) },
            Next::Another { after: soon },
        ]);
        let corrupt = || {
            let cause = supervised.board.cause();
            cause.is_some_and(|cause| *cause == "corrupt").then_some(())
        };
        supervised.board.wait_for(corrupt).await;
        assert_eq!(supervised.board.restarts(), 0);
        let restarts = supervised.board.kill(|_| unreachable!("there is no actor"));
        assert_eq!(supervised.board.rebuilt(restarts).await, Some(1));
        let offline = ["Offline", "Restarting", "Offline", "Restarting", "Running"];
        assert_eq!(supervised.story(), offline);
    });
}

#[test]
fn an_actor_that_loses_its_duty_for_good_has_no_successor() {
    System::new().block_on(async {
        let supervised = Supervised::start(Vec::new());
        let addr = supervised.board.found().await.unwrap();
        addr.do_send(Resign("over"));
        supervised.life.await.unwrap();
        assert_eq!(supervised.board.state(), ActorState::Retired);
        assert_eq!(supervised.board.restarts(), 0);
    });
}

#[test]
fn when_it_is_over_the_actor_is_dismissed_and_waited_for() {
    System::new().block_on(async {
        let supervised = Supervised::start(Vec::new());
        let addr = supervised.board.found().await.unwrap();
        supervised.over.notify_one();
        supervised.life.await.unwrap();
        assert_eq!(supervised.living.load(Ordering::SeqCst), 0);
        assert!(!addr.connected());
        assert_eq!(supervised.board.state(), ActorState::Retired);
        let story = supervised.story.lock().unwrap().clone();
        assert_eq!(story, ["Running", "Retired"], "its end needs no judgement");
    });
}

#[test]
fn what_is_out_of_service_ends_when_it_is_retired() {
    System::new().block_on(async {
        let supervised = Supervised::start(vec![Next::Offline { cause: "corrupt", retry: None }]);
        supervised.board.wait_for(|| supervised.board.is_gone().then_some(())).await;
        supervised.board.retire(Some("deleted"));
        supervised.life.await.unwrap();
        assert_eq!(supervised.board.cause().as_deref(), Some(&"deleted"));
    });
}
