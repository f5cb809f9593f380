//! How a partition comes to a session, and how it goes.

use super::assignment::{COMMIT_PATIENCE, Revocation};
use super::state::Session;
use crate::forward::Target;
use crate::operations::delivery::{Lost, NoticeKind};
use crate::operations::subscriptions::coordination::Committed;
use crate::operations::subscriptions::jobs::{self, Begun};
use crate::operations::subscriptions::response::Assignment;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::ids::{Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::log::v1::TopicPartitions;

/// How long a partition that has to be given up waits for what was delivered of it.
const PATIENCE: Duration = Duration::from_secs(10);
fn targets_of(partitions: &[TopicPartitions]) -> BTreeMap<PartitionKey, Target> {
    let mut targets = BTreeMap::new();
    for of_topic in partitions {
        let Some(topic_id) = TopicId::from_wire(&of_topic.topic_id) else { continue };
        let topic: Arc<str> = of_topic.topic.as_str().into();
        for number in of_topic.partitions.iter().filter_map(|number| u32::try_from(*number).ok()) {
            let key = PartitionKey { topic_id, partition: PartitionId(number) };
            targets.insert(key, Target { topic: Arc::clone(&topic), key });
        }
    }
    targets
}

impl Session {
    /// Holds what it has to hold from now on; gives up the rest as soon as that is settled.
    pub(super) fn on_assignment(
        &mut self,
        number: u64,
        partitions: &[TopicPartitions],
        now: Instant,
    ) {
        let mut wanted = targets_of(partitions);
        self.tell_assignment(&wanted);
        self.assignment.starting.retain(|key, _| wanted.contains_key(key));
        let held: Vec<PartitionKey> = self.deliveries.targets().map(|target| target.key).collect();
        let mut revoked = Vec::new();
        for key in held {
            if wanted.remove(&key).is_some() {
                self.deliveries.keep(&key);
            } else {
                self.deliveries.revoke(&key);
                revoked.push(key);
            }
        }
        wanted.retain(|key, _| !self.assignment.starting.contains_key(key));
        self.fetch_starts(wanted.into_values().collect());
        let expiry = self.deliveries.first_expiry(&revoked).unwrap_or(now + PATIENCE);
        let until = expiry.min(now + PATIENCE);
        self.assignment.revocation =
            Some(Revocation { number, keys: revoked, until, taken_back: false });
    }

    fn tell_assignment(&mut self, wanted: &BTreeMap<PartitionKey, Target>) {
        let keys: BTreeSet<PartitionKey> = wanted.keys().copied().collect();
        let now = (keys, self.membership.member_id().to_owned());
        if self.assignment.told.as_ref() == Some(&now) {
            return;
        }
        if self.assignment.told.as_ref().is_none_or(|(told, _)| *told != now.0) {
            self.assignment.told_caught_up = false;
        }
        self.assignment.told = Some(now);
        let mut partitions: Vec<_> =
            wanted.values().map(|target| (target.topic.to_string(), target.number())).collect();
        partitions.sort();
        self.news.assignment = Some(Assignment {
            partitions,
            member_epoch: self.membership.epoch(),
            member_id: self.membership.member_id().to_owned(),
        });
    }

    pub(super) fn fetch_starts(&mut self, targets: Vec<Target>) {
        if targets.is_empty() {
            return;
        }
        self.assignment.assigned += 1;
        let assigned = self.assignment.assigned;
        for target in &targets {
            self.assignment.starting.insert(target.key, (target.clone(), assigned));
        }
        let (coordination, group) = (self.handles.coordination.clone(), self.options.group.clone());
        let isolation = self.options.isolation;
        let fetch = jobs::fetch(coordination, group, targets, assigned, isolation);
        self.jobs.push(Box::pin(fetch));
    }

    /// Begins a partition that is held already anew, where the options say.
    pub(super) fn begin(&mut self, target: Target, committed: Option<Committed>) {
        self.assignment.assigned += 1;
        let assigned = self.assignment.assigned;
        self.assignment.starting.insert(target.key, (target.clone(), assigned));
        self.find_start(target, assigned, committed);
    }

    pub(super) fn find_start(
        &mut self,
        target: Target,
        assigned: u64,
        committed: Option<Committed>,
    ) {
        let leaders = Arc::clone(&self.handles.leaders);
        let otherwise = (self.options.start, self.options.isolation);
        self.jobs.push(Box::pin(jobs::begin(leaders, target, assigned, committed, otherwise)));
    }

    pub(super) fn on_begun(&mut self, target: Target, assigned: u64, begun: Option<Begun>) {
        if !self.assignment.is_starting(&target.key, assigned) {
            return;
        }
        self.assignment.starting.remove(&target.key);
        // One that is gone the group is about to hear of.
        if let Some(Begun { start, committed, latest, lost }) = begun {
            if let Some(lost) = lost {
                self.tell_position_lost(&target, lost);
            }
            if let (Some(epoch), Some(before)) = (start.after, start.next.0.checked_sub(1)) {
                self.commits.epochs.note(target.key, epoch, Offset(before));
            }
            self.deliveries.hold(target, start.next, committed, latest);
        }
    }

    /// Gives up what has to be given up and is settled.
    pub(super) fn go_on_revoking(&mut self, now: Instant) {
        let Some(revocation) = &mut self.assignment.revocation else { return };
        if now >= revocation.until && !revocation.taken_back {
            revocation.taken_back = true;
            for key in &revocation.keys {
                self.deliveries.recall(key);
            }
        }
        let given_up = revocation.taken_back && now >= revocation.until + COMMIT_PATIENCE;
        let deliveries = &self.deliveries;
        let is_done =
            |key: &PartitionKey| deliveries.is_settled(key) && deliveries.is_committed(key);
        if !given_up && !revocation.keys.iter().all(is_done) {
            return;
        }
        let number = revocation.number;
        for key in std::mem::take(&mut revocation.keys) {
            self.deliveries.release(&key);
            self.intake.remove(&key);
        }
        self.assignment.revocation = None;
        self.membership.applied(number);
    }

    /// What the session held may be somebody else's: it drops everything and joins anew.
    pub(super) fn on_expelled(&mut self) {
        let keys: Vec<_> = self.deliveries.targets().map(|target| target.key).collect();
        for key in keys {
            self.deliveries.release(&key);
            self.intake.remove(&key);
        }
        self.assignment.starting.clear();
        self.assignment.revocation = None;
        self.tell_assignment(&BTreeMap::new());
        self.membership.join();
    }

    /// The log does not hold what comes next: it goes on where the options say; or, if it was truncated, from there, as
    /// far as what is settled lies beyond it.
    pub(super) fn on_position_lost(&mut self, target: Target, lost: Option<Lost>) {
        let truncated = lost.and_then(|lost| Some((lost, lost.cut_at?)));
        let Some((lost, divergence)) = truncated else {
            if let Some(lost) = lost {
                self.tell_position_lost(&target, lost);
            }
            self.deliveries.release(&target.key);
            return self.begin(target, None);
        };
        // A transaction may settle more than is known here.
        if self.deliveries.is_pledged(&target.key) {
            return self.begin_where_the_group_is(target);
        }
        // What is out was read of a log that is not there any more; what is settled of it, too.
        if let Some(settled) = self.deliveries.go_back(&target.key, divergence, lost.latest) {
            self.tell_position_lost(&target, Lost { position: settled, ..lost });
        }
    }

    /// Told before anything is delivered from where it goes on.
    pub(super) fn tell_position_lost(&mut self, target: &Target, lost: Lost) {
        self.news.notices.push_back(lost.notice(target, "the group's"));
    }

    pub(super) fn tell_if_caught_up(&mut self) {
        let assignment = &mut self.assignment;
        let reads = assignment.told.as_ref().is_some_and(|(told, _)| !told.is_empty());
        let all_begun =
            assignment.starting.is_empty() && self.deliveries.targets().next().is_some();
        if reads && all_begun && !assignment.told_caught_up && self.deliveries.is_caught_up() {
            assignment.told_caught_up = true;
            let message = "every record that was there at the assignment has been delivered";
            self.notify(NoticeKind::CaughtUp, message.to_owned());
        }
    }
}
