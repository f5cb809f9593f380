//! What is known of a partition outside of its actor: written by the actor and its supervisor, read by
//! everyone without asking. It outlives every actor.

use super::cleaning_gate::CleaningGate;
use super::flush_gate::FlushGate;
use super::messages::{GivenUp, Isolation, Retirement};
use crate::metrics::TopicMetrics;
use actix::Actor;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;
use troupe_actor::{Faults, InFlightRequests, Mailbox, StateBoard};
use troupe_machines::replica::Reader;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// Of the partition whose actor is an `A`.
pub struct Board<A: Actor> {
    pub key: PartitionKey,
    pub topic: Arc<str>,
    pub metrics: Arc<TopicMetrics>,
    pub flushes: FlushGate,
    pub cleaning: CleaningGate,
    pub faults: Faults,
    /// Where the actor is found. It tells also when the high watermark advances, or the role changes.
    actor: StateBoard<A, Error>,
    pub mailbox: Mailbox,
    /// Appends that are not answered yet.
    pub waits: InFlightRequests,
    high_watermark: AtomicU64,
    last_stable: AtomicU64,
    /// Something was appended since the last checkpoint.
    dirty: AtomicBool,
    /// Something was appended or read since the supervisor last looked.
    used: AtomicBool,
    /// The epoch in which the replica leads, and others could; plus one. 0: none.
    leading: AtomicU64,
    /// Whether the replica serves clients.
    leads: AtomicBool,
    /// Whether it serves readers that take a follower.
    follows: AtomicBool,
    /// The log lacks something that it had acknowledged.
    damaged: AtomicBool,
    /// The controller does not know of it yet.
    owes_report: AtomicBool,
    /// Somebody gives up what is damaged, and waits to hear what that was.
    giving_up: Mutex<Option<oneshot::Sender<GivenUp>>>,
    /// What was on disk for good at the log's end, and no replica has. Other records may have these offsets by now.
    lost_end: Mutex<Option<Range<Offset>>>,
    /// It went offline, and the controller does not know yet.
    owes_offline_report: AtomicBool,
    /// Records that the slowest follower has not been sent; of a leader.
    lag: AtomicU64,
}

impl<A: Actor> Deref for Board<A> {
    type Target = StateBoard<A, Error>;

    fn deref(&self) -> &Self::Target {
        &self.actor
    }
}

impl<A: Actor> Board<A> {
    pub fn new(key: PartitionKey, topic: Arc<str>, metrics: Arc<TopicMetrics>) -> Self {
        Self {
            key,
            topic,
            metrics,
            flushes: FlushGate::default(),
            cleaning: CleaningGate::default(),
            faults: Faults::default(),
            actor: StateBoard::default(),
            mailbox: Mailbox::default(),
            waits: InFlightRequests::default(),
            high_watermark: AtomicU64::new(0),
            last_stable: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            used: AtomicBool::new(false),
            leading: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            follows: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            owes_report: AtomicBool::new(false),
            giving_up: Mutex::default(),
            lost_end: Mutex::default(),
            owes_offline_report: AtomicBool::new(false),
            lag: AtomicU64::new(0),
        }
    }

    /// Gone from this node; whoever still asks is told why.
    pub fn retire_replica(&self, why: Retirement) {
        let reason = match why {
            Retirement::Stopping => None,
            Retirement::TopicDeleted => {
                let message = format!("topic `{}` was deleted", self.topic);
                Some(Error::new(ErrorCode::UnknownTopic, message).with("topic", &self.topic))
            }
            Retirement::Reassigned => {
                let message =
                    "this node has no replica of the partition any more; refresh metadata";
                Some(Error::new(ErrorCode::NotLeader, message))
            }
        };
        self.set_leads(false);
        self.set_follows(false);
        self.retire(reason);
    }

    /// By the actor itself.
    pub fn message_sent(&self) {
        self.mailbox.sent(Instant::now());
    }

    /// First offset that readers may not see yet, as last told by the actor.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// First offset that a reader may not see yet, as last told by the actor.
    pub fn readable_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::Uncommitted => self.high_watermark(),
            Isolation::Committed => Offset(self.last_stable.load(Ordering::Acquire)),
        }
    }

    pub fn publish_ends(&self, high_watermark: Offset, last_stable: Offset) {
        self.high_watermark.store(high_watermark.0, Ordering::Release);
        self.last_stable.store(last_stable.0, Ordering::Release);
        self.notify();
    }

    /// Whether the replica leads, as last told by the actor.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// Whether this reader finds here what is committed, as last told by the actor.
    pub fn serves(&self, reader: &Reader) -> bool {
        self.leads() || *reader != Reader::OfLeader && self.follows.load(Ordering::Acquire)
    }

    /// Whether the log lacks something that it had acknowledged.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// Whether that is new.
    pub fn set_damaged(&self, damaged: bool) -> bool {
        self.damaged.swap(damaged, Ordering::AcqRel) != damaged
    }

    /// The next actor is built without what is damaged.
    pub fn give_up_damage(&self, reply: oneshot::Sender<GivenUp>) {
        *self.giving_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }

    /// Whoever gives up what is damaged, once.
    pub fn take_giving_up(&self) -> Option<oneshot::Sender<GivenUp>> {
        self.giving_up.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the log's end lacks is lost for good.
    pub fn lose_end(&self, lost: Option<Range<Offset>>) {
        *self.lost_end.lock().unwrap_or_else(PoisonError::into_inner) = lost;
    }

    /// Until it is given up, or this process ends.
    pub fn lost_end(&self) -> Option<Range<Offset>> {
        self.lost_end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The controller has to know of the damage before this replica may lead.
    pub fn owe_report(&self) {
        self.owes_report.store(true, Ordering::Release);
    }

    pub fn owes_report(&self) -> bool {
        self.owes_report.load(Ordering::Acquire)
    }

    pub fn report_made(&self) {
        self.owes_report.store(false, Ordering::Release);
        self.notify();
    }

    /// The controller has to know before this node takes part: it counts on the replica.
    pub fn owe_offline_report(&self) {
        self.owes_offline_report.store(true, Ordering::Release);
    }

    pub fn offline_report_made(&self) {
        self.owes_offline_report.store(false, Ordering::Release);
        self.notify();
    }

    /// Returns when the controller knows of all damage that was found here, and of a disk that is away.
    pub async fn reported(&self) {
        let owes = || self.owes_report() || self.owes_offline_report.load(Ordering::Acquire);
        self.wait_for(|| (!owes()).then_some(())).await;
    }

    /// Whoever waits for something to read has to hear that there is nobody any more who has it.
    pub fn set_leads(&self, leads: bool) {
        if self.leads.swap(leads, Ordering::AcqRel) != leads {
            self.notify();
        }
    }

    /// The same.
    pub fn set_follows(&self, follows: bool) {
        if self.follows.swap(follows, Ordering::AcqRel) != follows {
            self.notify();
        }
    }

    /// As last told by the actor: it leads in this epoch, and could be replaced by another replica.
    pub fn set_leading(&self, leader_epoch: Option<LeaderEpoch>) {
        let told = leader_epoch.map_or(0, |epoch| u64::from(epoch.0) + 1);
        self.leading.store(told, Ordering::Release);
    }

    /// The epoch of the leader that has died, once.
    pub fn take_leading(&self) -> Option<LeaderEpoch> {
        let told = self.leading.swap(0, Ordering::AcqRel);
        told.checked_sub(1).and_then(|epoch| u32::try_from(epoch).ok()).map(LeaderEpoch)
    }

    /// Records that the slowest follower had not been sent when one reported last.
    pub fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    pub fn publish_lag(&self, lag: u64) {
        self.lag.store(lag, Ordering::Relaxed);
    }

    pub fn set_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
        self.set_used();
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    pub fn clear_dirty(&self) {
        self.dirty.store(false, Ordering::Relaxed);
    }

    pub fn set_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it was used since this was last asked.
    pub fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

impl<A: Actor> fmt::Display for Board<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.key.partition)
    }
}
