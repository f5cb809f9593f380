//! The members that are connected to a coordinator, and how many there are.

use super::member_stream::MemberSink;
use crate::coordinator::{Audience, Surroundings};
use crate::metrics::NodeMetrics;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use troupe_machines::group::{GroupError, Groups, Push, SessionId};
use troupe_proto::error::Error;

/// What is known of a coordinator's groups without asking it.
#[derive(Default)]
pub struct Shared {
    sessions: AtomicU64,
    groups: AtomicU64,
    members: AtomicU64,
}

impl Shared {
    /// One that no member had in the life of the coordinator.
    pub fn next_session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Groups and members, as of a moment ago.
    pub fn counts(&self) -> (u64, u64) {
        (self.groups.load(Ordering::Relaxed), self.members.load(Ordering::Relaxed))
    }
}

/// What members are told when a decision is committed.
#[derive(Default)]
pub struct Told {
    pub pushes: Vec<Push>,
    pub ended: Vec<(SessionId, GroupError)>,
    /// The stream of a member that has left.
    pub farewell: Option<MemberSink>,
}

/// Where members are told something.
pub struct Members {
    sessions: HashMap<SessionId, MemberSink>,
    metrics: Arc<NodeMetrics>,
    shared: Arc<Shared>,
    /// What this coordinator adds to the node's groups and members.
    counted: (f64, f64),
}

impl Members {
    pub fn join(&mut self, session: SessionId, sink: MemberSink) {
        self.sessions.insert(session, sink);
    }

    pub fn contains(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    pub fn remove(&mut self, session: SessionId) -> Option<MemberSink> {
        self.sessions.remove(&session)
    }

    fn set_counts(&mut self, groups: f64, members: f64) {
        self.metrics.groups.increment(groups - self.counted.0);
        self.metrics.group_members.increment(members - self.counted.1);
        self.counted = (groups, members);
        self.shared.groups.store(groups as u64, Ordering::Relaxed);
        self.shared.members.store(members as u64, Ordering::Relaxed);
    }
}

impl Audience<Groups> for Members {
    fn new(around: Surroundings<Groups>) -> Self {
        let Surroundings { metrics, shared, .. } = around;
        Self { sessions: HashMap::new(), metrics, shared, counted: (0.0, 0.0) }
    }

    fn tell(&mut self, told: Told) {
        for push in told.pushes {
            if let Some(sink) = self.sessions.get(&push.session) {
                if push.assignment.is_some() {
                    self.metrics.group_rebalances.increment(1);
                }
                sink.push(push);
            }
        }
        for (session, error) in told.ended {
            if let Some(sink) = self.sessions.remove(&session) {
                sink.end(Some(error.into()));
            }
        }
        if let Some(sink) = told.farewell {
            sink.end(None);
        }
    }

    fn dismiss(&mut self, error: &Error) {
        for (_, sink) in self.sessions.drain() {
            sink.end(Some(error.clone()));
        }
    }

    fn count(&mut self, groups: &Groups) {
        let listed = groups.list();
        let members = listed.iter().map(|group| f64::from(group.member_count)).sum::<f64>();
        self.set_counts(listed.len() as f64, members);
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.set_counts(0.0, 0.0);
    }
}
