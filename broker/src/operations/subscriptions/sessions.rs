//! The sessions of a node, by their ids: how settlements and pulls find them.

use super::ack_id::{AckId, SessionId};
use super::ledger::Action;
use crate::context::Context;
use crate::grpc::Unwritten;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use troupe_proto::error::Error;
use troupe_proto::v1 as pb;

/// Messages that a session has not taken yet.
const INBOX: usize = 16;
/// Sessions of which is remembered that they were here.
const MAX_ENDED: usize = 4_096;

/// What others ask of a session.
pub(super) enum Inbound {
    Settle(Settlements),
    Draw(Draw),
}

/// What another call brings.
pub(super) struct Settlements {
    pub settlements: Vec<(AckId, Action)>,
    /// Answered when what is acknowledged is committed, and by then whether it is or not. None: at once.
    pub confirm: Option<Instant>,
    pub reply: oneshot::Sender<Vec<pb::SettleOutcome>>,
}

/// Somebody waits for deliveries, until then.
pub(super) struct Draw {
    pub max_records: usize,
    pub until: Instant,
    /// After this nothing is given any more: it would come too late.
    pub answer_by: Option<Instant>,
    /// When whoever asked gives up.
    pub deadline: Option<Instant>,
    /// Cancelled when the connection breaks that the answer goes out on.
    pub connection: Option<CancellationToken>,
    pub reply: oneshot::Sender<Result<Answer, Error>>,
}

/// One message, and what is told if it is not written.
pub struct Answer {
    pub pieces: Vec<Bytes>,
    pub unwritten: Unwritten,
}

pub(super) type Inbox = mpsc::Sender<Inbound>;

/// Where settlements and pulls of this node go.
#[derive(Default)]
pub struct Subscriptions {
    live: Mutex<HashMap<SessionId, Inbox>>,
    /// The latest ones that have ended.
    ended: Mutex<VecDeque<SessionId>>,
    /// Sessions that are held between calls, by the options that they have in common.
    pub(super) pulls: Mutex<HashMap<Vec<u8>, Inbox>>,
}

/// Where an id belongs.
pub(super) enum Place {
    Live(Inbox),
    Ended,
    Unknown,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscriptions {
    pub(super) fn place_of(&self, session: SessionId) -> Place {
        match locked(&self.live).get(&session) {
            Some(inbox) => Place::Live(inbox.clone()),
            None if locked(&self.ended).contains(&session) => Place::Ended,
            None => Place::Unknown,
        }
    }

    /// Sessions that live, and those of them that are held between pulls.
    pub fn counts(&self) -> [usize; 2] {
        [locked(&self.live).len(), locked(&self.pulls).len()]
    }

    pub(super) fn pull_of(&self, options: &[u8]) -> Option<Inbox> {
        locked(&self.pulls).get(options).filter(|inbox| !inbox.is_closed()).cloned()
    }

    /// The session that is held for these options: this one, if there is none.
    pub(super) fn hold_pull(&self, options: &[u8], inbox: &Inbox) -> Option<Inbox> {
        let mut pulls = locked(&self.pulls);
        match pulls.get(options).filter(|held| !held.is_closed()) {
            Some(held) => Some(held.clone()),
            None => {
                pulls.insert(options.to_vec(), inbox.clone());
                None
            }
        }
    }

    /// These options have no session any more, if it was this one.
    pub(super) fn drop_pull(&self, options: &[u8], inbox: &Inbox) {
        let mut pulls = locked(&self.pulls);
        if pulls.get(options).is_some_and(|held| held.same_channel(inbox)) {
            pulls.remove(options);
        }
    }
}

/// A session can be found as long as it has this.
pub(super) struct Registered {
    context: Arc<Context>,
    pub id: SessionId,
    pub inbox: mpsc::Receiver<Inbound>,
}

impl Registered {
    pub fn new(context: &Arc<Context>) -> (Registered, Inbox) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let id = SessionId::draw();
        locked(&context.subscriptions.live).insert(id, sender.clone());
        (Registered { context: Arc::clone(context), id, inbox }, sender)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut ended = locked(&self.context.subscriptions.ended);
        ended.push_back(self.id);
        if ended.len() > MAX_ENDED {
            ended.pop_front();
        }
        drop(ended);
        locked(&self.context.subscriptions.live).remove(&self.id);
    }
}
