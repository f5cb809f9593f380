//! What lives only as long as a coordinator does: by which stream a member is connected, which assignment it
//! has not acknowledged yet, and until when it may be away or slow.
//!
//! Promise: a member has at most one stream, a stream one member, and a number is never used twice, not
//! even by the next coordinator.

use super::{GroupError, SessionId};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A member of a group: group id, member id.
pub(super) type MemberKey = (Arc<str>, Arc<str>);

#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    members: BTreeMap<MemberKey, Connection>,
    sessions: BTreeMap<SessionId, MemberKey>,
    /// The earliest of each connection that has one.
    deadlines: BTreeSet<(Time, MemberKey)>,
    next_number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connection {
    pub session: Option<SessionId>,
    /// When a member that is away leaves the group.
    pub away_until: Option<Time>,
    /// What it was told last, if it has not acknowledged that.
    pub outstanding: Option<Outstanding>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub number: u64,
    pub deadline: Time,
}

impl Connection {
    fn deadline(&self) -> Option<Time> {
        let slow = self.outstanding.map(|outstanding| outstanding.deadline);
        self.away_until.into_iter().chain(slow).min()
    }
}

impl Connections {
    /// Numbers begin with the time, so that they are higher than those of earlier coordinators.
    pub fn starting_at(now: Time) -> Connections {
        Connections { next_number: now.0, ..Connections::default() }
    }

    pub fn connection(&self, group: &Arc<str>, member: &Arc<str>) -> Connection {
        let key = (Arc::clone(group), Arc::clone(member));
        self.members.get(&key).copied().unwrap_or_default()
    }

    pub fn member_of(&self, session: SessionId) -> Option<&MemberKey> {
        self.sessions.get(&session)
    }

    /// The member's stream from now on. Whatever it was told by another, it will be told again.
    pub fn connect(&mut self, group: &Arc<str>, member: &Arc<str>, session: SessionId) {
        self.change(group, member, |connection| {
            *connection = Connection { session: Some(session), ..Connection::default() }
        });
        self.sessions.insert(session, (Arc::clone(group), Arc::clone(member)));
    }

    /// The member is away, and leaves at `until`.
    pub fn disconnect(&mut self, group: &Arc<str>, member: &Arc<str>, until: Time) {
        self.change(group, member, |connection| {
            connection.session = None;
            connection.away_until = Some(until);
        });
    }

    /// Something is told to the member. Gives the number under which it is acknowledged.
    pub fn tell(&mut self, group: &Arc<str>, member: &Arc<str>, deadline: Time) -> u64 {
        self.next_number += 1;
        let number = self.next_number;
        self.change(group, member, |connection| {
            connection.outstanding = Some(Outstanding { number, deadline })
        });
        number
    }

    /// The member has done what it was told.
    pub fn acknowledge(&mut self, group: &Arc<str>, member: &Arc<str>) {
        self.change(group, member, |connection| connection.outstanding = None);
    }

    /// The member is out of the group. Its stream, if it has one, has no member any more.
    pub fn remove(&mut self, group: &Arc<str>, member: &Arc<str>) -> Option<SessionId> {
        let mut session = None;
        self.change(group, member, |connection| {
            session = connection.session;
            *connection = Connection::default();
        });
        self.members.remove(&(Arc::clone(group), Arc::clone(member)));
        session
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// All members that were away or slow for too long, by group.
    pub fn overdue(&self, now: Time) -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
        let mut overdue: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        for (_, (group, member)) in self.deadlines.iter().take_while(|(time, _)| *time <= now) {
            overdue.entry(Arc::clone(group)).or_default().push(Arc::clone(member));
        }
        overdue
    }

    fn change(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        change: impl FnOnce(&mut Connection),
    ) {
        let key = (Arc::clone(group), Arc::clone(member));
        let connection = self.members.entry(key.clone()).or_default();
        let before = *connection;
        change(connection);
        let (deadline, session) = (connection.deadline(), connection.session);
        if before.deadline() != deadline {
            if let Some(time) = before.deadline() {
                self.deadlines.remove(&(time, key.clone()));
            }
            if let Some(time) = deadline {
                self.deadlines.insert((time, key));
            }
        }
        if before.session != session
            && let Some(gone) = before.session
        {
            self.sessions.remove(&gone);
        }
    }
}

/// The stream ended long ago, or never had a member.
pub(super) fn unknown(session: SessionId) -> GroupError {
    let reason = format!("stream {} has no member; begin with a start message", session.0);
    GroupError::InvalidRequest { reason }
}
