//! The sessions of a node, by their ids: how settlements find them.

use super::ack_id::{AckId, SessionId};
use super::pledge::Pledge;
use crate::forward::{SettleAction, SettleOutcome};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use troupe_proto::error::Error;

/// Messages that a session has not taken yet.
const INBOX: usize = 16;
/// Sessions of which is remembered that they were here.
const MAX_ENDED: usize = 4_096;

/// What another call brings.
pub enum Brought {
    Settlements(Settlements),
    Pledge(Pledging),
}

pub struct Settlements {
    pub settlements: Vec<(AckId, SettleAction)>,
    /// Answered when what is acknowledged is committed, and by then whether it is or not. None: at once.
    pub confirm: Option<Instant>,
    pub reply: oneshot::Sender<Vec<SettleOutcome>>,
}

/// Deliveries of one session, to be acknowledged by a transaction.
pub struct Pledging {
    pub ids: Vec<AckId>,
    /// What is before them is waited for until then.
    pub until: Instant,
    pub reply: oneshot::Sender<Result<Pledge, Error>>,
}

pub type Inbox = mpsc::Sender<Brought>;

/// Where settlements of this node go.
#[derive(Default)]
pub struct Sessions {
    live: Mutex<HashMap<SessionId, Inbox>>,
    /// The latest ones that have ended.
    ended: Mutex<VecDeque<SessionId>>,
}

/// Where an id belongs.
pub enum Place {
    Live(Inbox),
    Ended,
    Unknown,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    pub fn place_of(&self, session: SessionId) -> Place {
        match locked(&self.live).get(&session) {
            Some(inbox) => Place::Live(inbox.clone()),
            None if locked(&self.ended).contains(&session) => Place::Ended,
            None => Place::Unknown,
        }
    }

    /// Sessions that live.
    pub fn count(&self) -> usize {
        locked(&self.live).len()
    }
}

/// A session can be found as long as it has this.
pub struct Registered {
    sessions: Arc<Sessions>,
    pub id: SessionId,
    pub inbox: mpsc::Receiver<Brought>,
}

impl Registered {
    pub fn new(sessions: Arc<Sessions>) -> Registered {
        let (sender, inbox) = mpsc::channel(INBOX);
        let id = SessionId::draw();
        locked(&sessions.live).insert(id, sender);
        Registered { sessions, id, inbox }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut ended = locked(&self.sessions.ended);
        ended.push_back(self.id);
        if ended.len() > MAX_ENDED {
            ended.pop_front();
        }
        drop(ended);
        locked(&self.sessions.live).remove(&self.id);
    }
}
