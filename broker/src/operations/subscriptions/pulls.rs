//! Sessions that are held between calls, and how calls find them: by the options that they have in common.

use super::request::SubscriptionOptions;
use super::response::PullRest;
use super::unwritten::Unwritten;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use troupe_proto::error::Error;

/// Somebody waits for deliveries, until then.
pub struct Draw<D> {
    pub max_records: usize,
    pub until: Instant,
    /// After this nothing is given any more: it would come too late.
    pub answer_by: Option<Instant>,
    /// When whoever asked gives up.
    pub deadline: Option<Instant>,
    /// Cancelled when the connection breaks that the answer goes out on.
    pub connection: Option<CancellationToken>,
    pub reply: oneshot::Sender<Result<PullAnswer<D>, Error>>,
}

/// One answer, and what is told if it is not written.
pub struct PullAnswer<D> {
    pub deliveries: D,
    pub rest: PullRest,
    pub unwritten: Unwritten,
}

pub type DrawInbox<D> = mpsc::Sender<Draw<D>>;

/// Where pulls of this node go.
pub struct Pulls<D> {
    held: Mutex<HashMap<SubscriptionOptions, DrawInbox<D>>>,
}

impl<D> Default for Pulls<D> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

impl<D> Pulls<D> {
    fn held(&self) -> MutexGuard<'_, HashMap<SubscriptionOptions, DrawInbox<D>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions that are held.
    pub fn count(&self) -> usize {
        self.held().len()
    }

    pub fn get(&self, options: &SubscriptionOptions) -> Option<DrawInbox<D>> {
        self.held().get(options).filter(|inbox| !inbox.is_closed()).cloned()
    }

    /// The session that is held for these options: this one, if there is none.
    pub fn hold(
        &self,
        options: &SubscriptionOptions,
        inbox: &DrawInbox<D>,
    ) -> Option<DrawInbox<D>> {
        let mut held = self.held();
        match held.get(options).filter(|held| !held.is_closed()) {
            Some(held) => Some(held.clone()),
            None => {
                held.insert(options.clone(), inbox.clone());
                None
            }
        }
    }

    /// These options have no session any more, if it was this one.
    pub fn let_go(&self, options: &SubscriptionOptions, inbox: &DrawInbox<D>) {
        let mut held = self.held();
        if held.get(options).is_some_and(|held| held.same_channel(inbox)) {
            held.remove(options);
        }
    }
}
