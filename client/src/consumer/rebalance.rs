//! What changes hands: assignments are taken up between two calls for records, never behind the application's
//! back.
//!
//! Promises: what is given up is committed for, and the listener has run, before the coordinator hears of it
//! (C20). What stays is not touched. A call that is dropped half-way is taken up by the next one, from the
//! beginning. Never here: when that is.

use super::assigned::{Change, Held, OffsetAndMetadata};
use super::commits::Identity;
use super::membership::{Assignment, Event, Membership};
use super::{Consumer, Mode};
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::Instant;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::Offset;

/// Told what changes hands, inside the call for records (C20). Each has a default that does nothing.
///
/// ```no_run
/// use futures::future::BoxFuture;
/// use troupe_client::{Rebalance, RebalanceListener, TopicPartition};
///
/// struct Flush;
///
/// impl RebalanceListener for Flush {
///     fn on_partitions_revoked<'a>(
///         &'a mut self,
///         mut consumer: Rebalance<'a>,
///         _partitions: &'a [TopicPartition],
///     ) -> BoxFuture<'a, ()> {
///         Box::pin(async move {
///             // Write down what is not written yet, then:
///             if let Err(error) = consumer.commit_sync().await {
///                 eprintln!("{error}");
///             }
///         })
///     }
/// }
/// ```
pub trait RebalanceListener: Send {
    /// These are about to be given up; they can still be committed for.
    fn on_partitions_revoked<'a>(
        &'a mut self,
        consumer: Rebalance<'a>,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, ()> {
        let _ = (consumer, partitions);
        Box::pin(std::future::ready(()))
    }

    /// These were given to this consumer, beside those that it has; nothing of them was read yet.
    fn on_partitions_assigned<'a>(
        &'a mut self,
        consumer: Rebalance<'a>,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, ()> {
        let _ = (consumer, partitions);
        Box::pin(std::future::ready(()))
    }

    /// These may be another's already: nothing can be committed for them.
    fn on_partitions_lost<'a>(&'a mut self, partitions: &'a [TopicPartition]) -> BoxFuture<'a, ()> {
        let _ = partitions;
        Box::pin(std::future::ready(()))
    }
}

/// The listener, kept where a call that is dropped does not take it along.
#[derive(Clone)]
pub(super) struct Listener(Arc<Mutex<Box<dyn RebalanceListener>>>);

impl Listener {
    pub(super) fn new(listener: impl RebalanceListener + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(listener))))
    }
}

/// What a listener may do with the consumer.
pub struct Rebalance<'a> {
    consumer: &'a mut Consumer,
}

impl Rebalance<'_> {
    /// What the consumer holds.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.consumer.assignment()
    }

    /// The next offset, if it is known without asking.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.consumer.assigned.partitions.get(partition)?.position.offset()
    }

    /// # Errors
    /// As [`Consumer::commit_sync`].
    pub async fn commit_sync(&mut self) -> Result<(), ClientError> {
        self.consumer.commit_sync().await
    }

    /// # Errors
    /// As [`Consumer::commit_sync_offsets`].
    pub async fn commit_sync_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<(), ClientError> {
        self.consumer.commit_sync_offsets(offsets).await
    }

    /// # Errors
    /// As [`Consumer::seek`].
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        self.consumer.seek(partition, offset)
    }

    /// # Errors
    /// As [`Consumer::pause`].
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.consumer.pause(partitions)
    }
}

impl Consumer {
    /// Joins if it should be a member and is none.
    pub(super) fn join(&mut self) {
        let (Mode::Group(subscription), Some(group)) = (&self.mode, &mut self.group) else {
            return;
        };
        if group.membership.is_none() && self.lost.is_none() {
            *group.commits.identity.lock() = Identity::Gone;
            group.membership = Some(Membership::start(
                group.coordinator.clone(),
                self.config.clone(),
                subscription.clone(),
                group.commits.identity.clone(),
                group.activity.clone(),
            ));
        }
    }

    /// Takes note of what the membership told.
    ///
    /// # Errors
    /// The group does not take this member.
    pub(super) fn on_event(&mut self, event: Event) -> Result<(), ClientError> {
        let (error, refused) = match event {
            Event::Assignment(assignment) => {
                self.assignment = Some(assignment);
                return Ok(());
            }
            Event::Lost(error) => (error, false),
            Event::Refused(error) => (error, true),
        };
        self.assignment = None;
        self.lost = Some(error.clone());
        if let Some(group) = &mut self.group {
            group.membership = None;
        }
        if error.reason() == ErrorCode::FencedInstanceId {
            self.fatal = Some(error.clone());
        }
        if refused { Err(error) } else { Ok(()) }
    }

    /// What happened since the last call, in the order in which it has to be seen.
    pub(super) async fn take_up(&mut self) {
        self.take_up_loss().await;
        if let Some(assignment) = self.assignment.clone() {
            self.reassign(assignment).await;
        }
        if !self.announce.is_empty() {
            let announced = self.announce.clone();
            if let Some(Listener(listener)) = self.listener.clone() {
                let mut listener = listener.lock().await;
                listener.on_partitions_assigned(Rebalance { consumer: self }, &announced).await;
            }
            self.announce.clear();
        }
    }

    /// Gives up what somebody else may have already.
    pub(super) async fn take_up_loss(&mut self) {
        let Some(error) = self.lost.clone() else { return };
        tracing::warn!(group = self.config.group_id, %error, "lost the membership");
        let held = self.assigned.names();
        self.lose(&held).await;
        self.lost = None;
        self.metrics.losses += 1;
    }

    async fn reassign(&mut self, assignment: Assignment) {
        self.settle();
        let change = self.assigned.change_to(&assignment.partitions);
        // After a broken stream the coordinator says again what is known.
        let is_news = change != Change::default();
        if !change.revoked.is_empty() {
            let deadline = Instant::now() + self.config.default_api_timeout;
            if self.config.auto_commits()
                && let Err(error) = self.commit_positions(&change.revoked, deadline).await
            {
                let group = &self.config.group_id;
                tracing::warn!(group, %error, "not committed before partitions are given up");
            }
            self.tell_revoked(&change.revoked).await;
            if let Some(group) = &self.group {
                // Commits on their way would be refused behind `applied`.
                let _ = group.commits.synchronous(Default::default(), deadline).await;
            }
            change.revoked.iter().for_each(|at| self.give_up(at));
        }
        if !change.lost.is_empty() {
            self.lose(&change.lost).await;
        }
        for (at, topic_id) in change.added {
            self.assigned.partitions.insert(at.clone(), Held::new(Some(topic_id)));
            self.announce.push(at);
            self.unresolved = true;
        }
        if let Some(membership) = self.group.as_ref().and_then(|group| group.membership.as_ref()) {
            membership.applied(assignment);
        }
        self.assignment = None;
        self.metrics.rebalances += u64::from(is_news);
    }

    pub(super) async fn tell_revoked(&mut self, partitions: &[TopicPartition]) {
        if let Some(Listener(listener)) = self.listener.clone() {
            let mut listener = listener.lock().await;
            listener.on_partitions_revoked(Rebalance { consumer: self }, partitions).await;
        }
    }

    async fn lose(&mut self, partitions: &[TopicPartition]) {
        if let Some(Listener(listener)) = self.listener.clone().filter(|_| !partitions.is_empty()) {
            listener.lock().await.on_partitions_lost(partitions).await;
        }
        partitions.iter().for_each(|at| self.give_up(at));
    }

    /// Writes down how far the cursor has come.
    pub(super) fn settle(&mut self) {
        for (at, next) in self.fetcher.take_skipped() {
            let is_read = self.cursor.as_ref().is_some_and(|cursor| cursor.at == at);
            let position =
                self.assigned.partitions.get(&at).and_then(|held| held.position.offset());
            if !is_read && position.is_some_and(|position| position < next) {
                self.assigned.advance(&at, next, None);
            }
        }
        let Some(cursor) = &self.cursor else { return };
        let read_in = (!cursor.is_fresh()).then(|| cursor.header().leader_epoch);
        self.assigned.advance(&cursor.at, cursor.next, read_in);
    }
}
