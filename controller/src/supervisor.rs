//! Keeps an actor of the controller alive: whenever one has died, however it died, makes a new one.
//!
//! Kill means forget: the new actor has nothing of the old one.

use crate::actor::Kill;
use actix::{Actor, Addr, Context, Handler};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// An actor that dies more often than this in [`WINDOW`] waits before it comes back.
const DEATHS: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Supervisor<A: Actor> {
    pub name: &'static str,
    /// An actor keeps what it is given until it ends.
    pub make: Box<dyn Fn(oneshot::Sender<Infallible>) -> A + Send>,
    /// Where the actor is to be found; `None` while there is none.
    pub address: watch::Sender<Option<Addr<A>>>,
    pub stop: watch::Receiver<bool>,
    /// How often an actor was made again.
    pub restarts: Arc<AtomicU32>,
}

impl<A: Actor<Context = Context<A>> + Handler<Kill>> Supervisor<A> {
    /// Runs on the actor's arbiter, until told to stop; afterwards there is no actor.
    pub async fn run(mut self) {
        let mut deaths = Vec::new();
        loop {
            let (alive, mut dead) = oneshot::channel();
            let actor = (self.make)(alive).start();
            self.address.send_replace(Some(actor.clone()));
            let stopped = tokio::select! {
                _ = &mut dead => false,
                _ = self.stop.wait_for(|stop| *stop) => true,
            };
            self.address.send_replace(None);
            if stopped {
                actor.do_send(Kill);
                let _ = dead.await;
                return;
            }
            self.restarts.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(actor = self.name, "an actor died; making a new one");
            let now = Instant::now();
            deaths.retain(|death| now - *death < WINDOW);
            deaths.push(now);
            if deaths.len() > DEATHS {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
