//! Who is heard, and what follows from it (K12–K17, K20).
//!
//! [`BrokerHeartbeats`] decide: they are told what was heard and what time it is, and say what to do. Whether something
//! has been done already, the committed image says; so a step that failed is simply taken again.
//! Promises: nobody is fenced for a silence that this process slept through, in one piece or in many; nobody is unfenced who is not
//! heard, or does not know of its own registration yet.
//! Never here: a clock, a socket, who may open a session.

#[cfg(test)]
mod tests;

use crate::config::SessionTimings;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use troupe_machines::cluster::{Broker, ClusterImage};
use troupe_proto::ids::{BrokerEpoch, MetadataOffset, NodeId};

/// How often [`BrokerHeartbeats::run`] is to be called, at least.
pub(super) const RUN_INTERVAL: Duration = Duration::from_millis(50);
/// If it comes later than this, the process was not running meanwhile, and heard nobody.
const SLACK: Duration = Duration::from_millis(25);
/// Pauses of this length are worth a word.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two probes of a broker that is not heard.
const PROBE_AGAIN: Duration = Duration::from_millis(50);
/// After a take-over brokers have this long to connect before they are probed; but who led before is probed at once.
const PROBE_AFTER: Duration = Duration::from_millis(200);
/// Before a step that failed is taken again.
const RETRY: Duration = Duration::from_millis(100);

/// Counts sessions; no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub u64);

/// What a broker says of itself in every message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// It has applied the metadata below this offset.
    pub metadata_offset: MetadataOffset,
    pub wants_shutdown: bool,
    /// What its logs can take.
    pub log_version: u32,
    /// Which records of the metadata it knows.
    pub metadata_version: u32,
    /// What is told by each of its listeners. Empty: it is of a version that tells one address.
    pub listeners: BTreeMap<String, String>,
}

/// What is to be done about a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Fence(NodeId, BrokerEpoch),
    Unfence(NodeId, BrokerEpoch),
    /// Whoever let it in did not keep what its logs can take, which records it knows, or what its listeners tell.
    NoteVersions(NodeId, BrokerEpoch, Heartbeat),
    BeginShutdown(NodeId, BrokerEpoch),
    /// Find out whether anything listens at the broker's endpoint. The session is the last it had.
    Probe(NodeId, Option<SessionId>, String),
}

/// What a broker is told in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub fenced: bool,
    pub may_stop: bool,
}

pub(super) struct BrokerHeartbeats {
    timings: SessionTimings,
    brokers: BTreeMap<NodeId, Presence>,
    last_run: Instant,
    /// What those who hear heartbeats for it had missed by then, in all.
    last_missed: Duration,
    /// Led before: if it is gone, that is why this controller is active.
    predecessor: Option<NodeId>,
}

struct Presence {
    epoch: BrokerEpoch,
    session: Option<SessionId>,
    last_session: Option<SessionId>,
    /// Fenced then, unless it is heard before.
    deadline: Instant,
    /// Without a session then, it is probed.
    probe_at: Option<Instant>,
    heartbeat: Heartbeat,
    /// K17: it may stop once everybody has applied the metadata below this offset.
    shutdown_offset: Option<MetadataOffset>,
    /// A step is under way.
    pending: bool,
    /// No step before then.
    rests_until: Instant,
}

impl BrokerHeartbeats {
    /// Of a controller that has just become active: it has heard nobody yet, and holds that against nobody.
    pub fn new(
        now: Instant,
        timings: SessionTimings,
        predecessor: Option<NodeId>,
    ) -> BrokerHeartbeats {
        BrokerHeartbeats {
            timings,
            brokers: BTreeMap::new(),
            last_run: now,
            last_missed: Duration::MAX,
            predecessor,
        }
    }

    /// A session that begins; it replaces the one that the broker had.
    pub fn open(
        &mut self,
        now: Instant,
        broker: (NodeId, BrokerEpoch),
        session: SessionId,
        heartbeat: Heartbeat,
    ) {
        let (node_id, epoch) = broker;
        let deadline = now + self.timings.timeout;
        let presence = self.brokers.entry(node_id).or_insert_with(|| Presence::new(epoch, now));
        if presence.epoch != epoch {
            *presence = Presence::new(epoch, now);
        }
        presence.session = Some(session);
        presence.last_session = Some(session);
        presence.deadline = deadline;
        presence.probe_at = None;
        presence.heartbeat = heartbeat;
    }

    pub fn heard(
        &mut self,
        now: Instant,
        node_id: NodeId,
        session: SessionId,
        heartbeat: Heartbeat,
    ) {
        let deadline = now + self.timings.timeout;
        if let Some(presence) = self.in_session(node_id, session) {
            presence.deadline = deadline;
            presence.heartbeat = heartbeat;
        }
    }

    /// The session's stream ended, for whatever reason.
    pub fn broke(&mut self, now: Instant, node_id: NodeId, session: SessionId) {
        let grace = now + self.timings.reconnect_grace;
        if let Some(presence) = self.in_session(node_id, session) {
            presence.session = None;
            presence.deadline = presence.deadline.min(grace);
            presence.probe_at = Some(now);
        }
    }

    /// Nothing listens at the broker's endpoint: its process is gone, unless another session has begun.
    pub fn refused(&mut self, now: Instant, node_id: NodeId, last: Option<SessionId>) {
        if let Some(presence) = self.brokers.get_mut(&node_id)
            && presence.session.is_none()
            && presence.last_session == last
        {
            presence.deadline = now;
        }
    }

    /// Something listened at the broker's endpoint, or nothing was proved: it may be a process that dies just
    /// now, so it is probed again.
    pub fn not_refused(&mut self, now: Instant, node_id: NodeId, last: Option<SessionId>) {
        if let Some(presence) = self.brokers.get_mut(&node_id)
            && presence.session.is_none()
            && presence.last_session == last
        {
            presence.probe_at = Some(now + PROBE_AGAIN);
        }
    }

    /// A step ended; for a shutdown with the offset that everybody has to reach.
    pub fn settled(
        &mut self,
        now: Instant,
        broker: (NodeId, BrokerEpoch),
        done: Result<Option<MetadataOffset>, ()>,
    ) {
        let (node_id, epoch) = broker;
        let presence = self.brokers.get_mut(&node_id).filter(|presence| presence.epoch == epoch);
        let Some(presence) = presence else { return };
        presence.pending = false;
        match done {
            Ok(Some(offset)) => presence.shutdown_offset = Some(offset),
            Ok(None) => {}
            Err(()) => presence.rests_until = now + RETRY,
        }
    }

    /// Whether somebody holds a session under this id and is heard (K12).
    pub fn is_alive(&self, now: Instant, node_id: NodeId) -> bool {
        let presence = self.brokers.get(&node_id);
        presence.is_some_and(|presence| presence.session.is_some() && now < presence.deadline)
    }

    /// Who has missed two heartbeats, or has no session. They may learn of nothing that is decided now.
    pub fn silent(&self, now: Instant) -> BTreeSet<NodeId> {
        let patience = self.timings.timeout.saturating_sub(2 * self.timings.heartbeat);
        let heard = |presence: &Presence| {
            presence.session.is_some()
                && presence.deadline.saturating_duration_since(now) >= patience
        };
        let silent = self.brokers.iter().filter(|(_, presence)| !heard(presence));
        silent.map(|(node_id, _)| *node_id).collect()
    }

    /// What is to be done about everybody. `missed`: the time, in all, that those have not been running who hear
    /// heartbeats for it.
    pub fn run(&mut self, now: Instant, missed: Duration, image: &ClusterImage) -> Vec<Step> {
        let own = now.saturating_duration_since(self.last_run + RUN_INTERVAL);
        let late = own.max(missed.saturating_sub(self.last_missed));
        self.last_missed = missed;
        if late > PAUSE {
            tracing::warn!(
                ?late,
                "this controller did not run for a while; nobody is fenced for that"
            );
        }
        if late > SLACK {
            let latest = now + self.timings.timeout;
            for presence in self.brokers.values_mut() {
                presence.deadline = (presence.deadline + late).min(latest);
            }
        }
        self.last_run = self.last_run.max(now);
        self.brokers.retain(|node_id, _| image.broker(*node_id).is_some());
        image.brokers().filter_map(|broker| self.attend(now, broker)).collect()
    }

    /// What is to be done about one broker.
    pub fn run_one(&mut self, now: Instant, image: &ClusterImage, node_id: NodeId) -> Option<Step> {
        self.attend(now, image.broker(node_id)?)
    }

    fn attend(&mut self, now: Instant, broker: &Broker) -> Option<Step> {
        let (node_id, epoch) = (broker.node_id, broker.epoch);
        if self.brokers.get(&node_id).is_none_or(|presence| presence.epoch != epoch) {
            self.brokers.remove(&node_id);
            if broker.fenced {
                return None;
            }
            // Somebody else let it in, and heard it.
            let is_suspect = self.predecessor == Some(node_id);
            let presence = Presence {
                deadline: now + self.timings.timeout,
                probe_at: Some(if is_suspect { now } else { now + PROBE_AFTER }),
                ..Presence::new(epoch, now)
            };
            self.brokers.insert(node_id, presence);
        }
        let presence = self.brokers.get_mut(&node_id)?;
        if !broker.shutting_down {
            // If it was, somebody has ended that; it has to be begun again.
            presence.shutdown_offset = None;
        }
        let heard = presence.session.is_some() && now < presence.deadline;
        if !presence.pending && now >= presence.rests_until {
            let step = if !broker.fenced && now >= presence.deadline {
                Some(Step::Fence(node_id, epoch))
            } else if heard && presence.is_to_shut_down(broker) {
                Some(Step::BeginShutdown(node_id, epoch))
            } else if heard && broker.fenced && presence.may_be_unfenced(broker) {
                Some(Step::Unfence(node_id, epoch))
            } else if heard && presence.says_more_than(broker) {
                Some(Step::NoteVersions(node_id, epoch, presence.heartbeat.clone()))
            } else {
                None
            };
            presence.pending = step.is_some();
            if step.is_some() {
                return step;
            }
        }
        if !broker.fenced && presence.session.is_none() && presence.probe_at? <= now {
            presence.probe_at = None;
            return Some(Step::Probe(node_id, presence.last_session, broker.endpoint.clone()));
        }
        None
    }

    /// What the broker is told. `None`: this session is not the broker's any more.
    pub fn standing(
        &self,
        image: &ClusterImage,
        node_id: NodeId,
        session: SessionId,
    ) -> Option<Standing> {
        let presence = self.brokers.get(&node_id)?;
        let broker = image.broker(node_id).filter(|broker| broker.epoch == presence.epoch)?;
        (presence.session == Some(session)).then(|| Standing {
            fenced: broker.fenced,
            may_stop: self.may_stop(image, broker, presence),
        })
    }

    /// K17: it leads nothing, and everybody who may lead or be asked knows.
    fn may_stop(&self, image: &ClusterImage, broker: &Broker, presence: &Presence) -> bool {
        let Some(offset) = presence.shutdown_offset.filter(|_| broker.shutting_down) else {
            return false;
        };
        let knows = |other: &Broker| {
            let presence = self.brokers.get(&other.node_id);
            presence.is_some_and(|presence| {
                presence.epoch == other.epoch && presence.heartbeat.metadata_offset >= offset
            })
        };
        let others = || image.brokers().filter(|other| other.node_id != broker.node_id);
        presence.heartbeat.wants_shutdown
            && others().filter(|other| other.is_active()).all(knows)
            && image.led_by(broker.node_id).next().is_none()
    }

    fn in_session(&mut self, node_id: NodeId, session: SessionId) -> Option<&mut Presence> {
        let presence = self.brokers.get_mut(&node_id);
        presence.filter(|presence| presence.session == Some(session))
    }
}

impl Presence {
    fn new(epoch: BrokerEpoch, now: Instant) -> Presence {
        Presence {
            epoch,
            session: None,
            last_session: None,
            deadline: now,
            probe_at: None,
            heartbeat: Heartbeat::default(),
            shutdown_offset: None,
            pending: false,
            rests_until: now,
        }
    }

    fn is_to_shut_down(&self, broker: &Broker) -> bool {
        let begun = broker.shutting_down && self.shutdown_offset.is_some();
        self.heartbeat.wants_shutdown && !begun
    }

    fn says_more_than(&self, broker: &Broker) -> bool {
        self.heartbeat.log_version > broker.log_version
            || self.heartbeat.metadata_version > broker.metadata_version
            || !self.heartbeat.listeners.is_empty() && self.heartbeat.listeners != broker.listeners
    }

    /// K13: it has applied its own registration, and wants to serve.
    fn may_be_unfenced(&self, broker: &Broker) -> bool {
        let registered = self.heartbeat.metadata_offset.0 > self.epoch.0;
        registered && !self.heartbeat.wants_shutdown && !broker.shutting_down
    }
}
