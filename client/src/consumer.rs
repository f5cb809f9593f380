//! The consumer: records of the partitions that a group gives it, or that the application names.
//!
//! ```text
//! coordinator <-> membership (a task) -- assignment --> rebalance -- partitions --> fetcher <-- leaders
//!      ^                                                   |                           |
//!      +------------- commits (a task) <--- positions ----- poll, next, next_batch <- batches
//! ```
//!
//! - `poll`: what the application calls; `rebalance`: what changes hands there; `resolve`: where to begin;
//!   `offsets`: positions and commits; `membership` and `commits`: the tasks; `assigned`: what is held, pure.
//!
//! Promises: each record of a partition that is held comes once and in order (C23). What was returned before
//! is what auto commit commits (C14), and before a partition is given up (C20): a hand-over between living
//! members repeats nothing. Partitions that stay never stop. Who only processes slowly keeps its membership,
//! up to `max_poll_interval` (C6). `&mut self` is what Kafka's check for concurrent use becomes (C22).
//! Never here: who gets which partition; that is the coordinator's.
//!
//! ```no_run
//! use troupe_client::{AutoOffsetReset, Client, ClientConfig, ConsumerConfig};
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), troupe_client::ClientError> {
//! let client = Client::connect(ClientConfig::new(["127.0.0.1:7070"])).await?;
//! let config = ConsumerConfig {
//!     auto_offset_reset: AutoOffsetReset::Earliest,
//!     ..ConsumerConfig::new("billing")
//! };
//! let mut consumer = client.consumer(config)?;
//! consumer.subscribe(["orders"])?;
//! for _ in 0..100 {
//!     for record in consumer.poll(Duration::from_millis(100)).await? {
//!         println!("{} {}: {:?}", record.partition, record.offset, record.value);
//!     }
//! }
//! consumer.close(Duration::from_secs(30)).await?;
//! # Ok(())
//! # }
//! ```

mod assigned;
mod commits;
mod config;
mod coordinator;
mod cursor;
mod interceptor;
mod lost;
mod membership;
mod metrics;
mod offsets;
mod poll;
mod rebalance;
mod records;
mod resolve;
mod seek;
mod streams;
mod typed;

pub use self::metrics::ConsumerMetrics;
pub use assigned::OffsetAndMetadata;
pub(crate) use assigned::{Due, Offsets};
pub(crate) use commits::{sort_out, to_commits};
pub use config::{Assignor, AutoOffsetReset, ConsumerConfig, IsolationLevel};
pub use interceptor::ConsumerInterceptor;
pub use lost::{LossCause, PositionLost};
pub use offsets::OffsetAndTimestamp;
pub use rebalance::{Rebalance, RebalanceListener};
pub use records::ConsumerRecords;
pub use typed::{TypedConsumer, TypedRecord};

use self::metrics::Told;
use crate::client::Inner;
use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::fetcher::{Fetcher, FetcherConfig};
use crate::topic_partition::TopicPartition;
use crate::transactions::ConsumerGroupMetadata;
use assigned::{Assigned, Held};
use commits::{Commits, Identity};
use coordinator::Coordinator;
use cursor::Cursor;
use futures::future::BoxFuture;
use interceptor::Interceptors;
use lost::PositionLostListener;
use membership::{Activity, Assignment, Membership};
use rebalance::Listener;
use resolve::Resolved;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout_at};
use troupe_proto::batch::Limits;
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::log::v1::Subscription;

/// Reads what its group gives it, or the partitions that it is told to.
///
/// Dropped without [`Consumer::close`] it leaves the group, and commits nothing more.
pub struct Consumer {
    client: Arc<Inner>,
    config: Arc<ConsumerConfig>,
    mode: Mode,
    fetcher: Fetcher,
    assigned: Assigned,
    cursor: Option<Cursor>,
    group: Option<Group>,
    /// To be taken up at the next call.
    assignment: Option<Assignment>,
    /// Everything that was held is lost; why.
    lost: Option<ClientError>,
    /// Taken up, and the listener does not know it yet.
    announce: Vec<TopicPartition>,
    listener: Option<Listener>,
    position_lost: Option<PositionLostListener>,
    interceptors: Interceptors,
    /// Some positions are not known, or not begun with.
    unresolved: bool,
    resolving: Option<Exclusive<BoxFuture<'static, Vec<Resolved>>>>,
    resolve_after: Option<Instant>,
    next_auto_commit: Instant,
    wakeup: WakeupHandle,
    /// Another process has taken this one's place for good.
    fatal: Option<ClientError>,
    metrics: ConsumerMetrics,
    told: Told,
}

/// Who says what is read (C2).
#[derive(Clone, Debug, PartialEq)]
enum Mode {
    Nobody,
    /// The application.
    Manual,
    /// The group.
    Group(Subscription),
}

/// What a consumer with a group has.
struct Group {
    coordinator: Arc<Coordinator>,
    commits: Commits,
    activity: Arc<Activity>,
    membership: Option<Membership>,
}

/// Interrupts a call that waits for records, from anywhere; one that does not wait yet is interrupted when it
/// does (C21).
#[derive(Clone, Default)]
pub struct WakeupHandle {
    inner: Arc<Wakeup>,
}

#[derive(Default)]
struct Wakeup {
    woken: AtomicBool,
    notify: Notify,
}

impl WakeupHandle {
    /// The call, or the next one, returns [`ClientError::Wakeup`].
    pub fn wakeup(&self) {
        self.inner.woken.store(true, Ordering::Release);
        self.inner.notify.notify_one();
    }

    #[inline]
    fn is_woken(&self) -> bool {
        self.inner.woken.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        self.inner.woken.swap(false, Ordering::AcqRel)
    }

    async fn woken(&self) {
        while !self.take() {
            self.inner.notify.notified().await;
        }
    }
}

impl Consumer {
    pub(crate) fn new(client: Arc<Inner>, config: ConsumerConfig) -> Result<Self, ClientError> {
        config.validate()?;
        client.watch_metadata();
        let interceptors = Interceptors::default();
        let group = (!config.group_id.is_empty()).then(|| {
            let coordinator = Arc::new(Coordinator::new(client.clone(), config.group_id.clone()));
            let request_timeout = client.connections.config().request_timeout;
            let commits =
                Commits::start(coordinator.clone(), interceptors.clone(), request_timeout);
            Group { coordinator, commits, activity: Arc::default(), membership: None }
        });
        let settings = FetcherConfig {
            credit_bytes: config.fetch_max_bytes,
            max_partition_bytes: config.max_partition_fetch_bytes,
            check_crc: config.check_crcs,
            limits: Limits::default(),
            rack: FetcherConfig::rack(&config.client_rack),
            isolation: config.isolation_level,
        };
        Ok(Self {
            told: Told::new(&config.client_id, &config.group_id),
            fetcher: Fetcher::new(client.clone(), settings),
            client,
            next_auto_commit: Instant::now() + config.auto_commit_interval,
            config: Arc::new(config),
            mode: Mode::Nobody,
            assigned: Assigned::default(),
            cursor: None,
            group,
            assignment: None,
            lost: None,
            announce: Vec::new(),
            listener: None,
            position_lost: None,
            interceptors,
            unresolved: false,
            resolving: None,
            resolve_after: None,
            wakeup: WakeupHandle::default(),
            fatal: None,
            metrics: ConsumerMetrics::default(),
        })
    }

    /// Reads these topics as a member of the group; joins at the next call for records. Replaces what was
    /// subscribed to before.
    ///
    /// # Errors
    /// INVALID_GROUP_ID without a group; [`ClientError::IllegalState`] while partitions are assigned by hand
    /// (C2).
    pub fn subscribe<T: Into<String>>(
        &mut self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), ClientError> {
        let mut topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        topics.sort();
        topics.dedup();
        self.subscribe_to(Subscription { topics, pattern: String::new() })
    }

    /// The same with every topic whose whole name matches, in the syntax of RE2; those that come later too,
    /// internal ones never.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`]. That the pattern cannot be read is said by the next call for records:
    /// INVALID_REGULAR_EXPRESSION.
    pub fn subscribe_pattern(&mut self, pattern: impl Into<String>) -> Result<(), ClientError> {
        self.subscribe_to(Subscription { topics: vec![], pattern: pattern.into() })
    }

    /// Told of every rebalance from now on (C20). Replaces the one before.
    pub fn set_rebalance_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Some(Listener::new(listener));
    }

    /// Sees records and commits from now on, behind those that were added before.
    pub fn add_interceptor(&mut self, interceptor: Arc<dyn ConsumerInterceptor>) {
        self.interceptors.add(interceptor);
    }

    fn subscribe_to(&mut self, subscription: Subscription) -> Result<(), ClientError> {
        let Some(group) = &self.group else { return Err(no_group("subscribe")) };
        if self.mode == Mode::Manual {
            return Err(mixed());
        }
        if let Some(membership) = &group.membership {
            membership.subscribe(subscription.clone());
        } else {
            *group.commits.identity.lock() = Identity::Gone;
        }
        self.mode = Mode::Group(subscription);
        Ok(())
    }

    /// Reads exactly these partitions, whoever else does (C2). Those that it held before and that are named
    /// go on where they are. With auto commit the positions of the others are committed first.
    ///
    /// # Errors
    /// [`ClientError::IllegalState`] while subscribed.
    pub fn assign(
        &mut self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<(), ClientError> {
        if matches!(self.mode, Mode::Group(_)) {
            return Err(mixed());
        }
        self.settle();
        self.auto_commit_now();
        let wanted: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        for at in self.assigned.names() {
            if !wanted.contains(&at) {
                self.give_up(&at);
            }
        }
        for at in wanted {
            self.assigned.partitions.entry(at).or_insert_with(|| Held::new(None));
        }
        self.mode = match self.assigned.partitions.is_empty() {
            true => Mode::Nobody,
            false => Mode::Manual,
        };
        self.unresolved = true;
        Ok(())
    }

    /// Gives everything up: commits if that is automatic, tells the listener, leaves the group.
    ///
    /// # Errors
    /// What kept the commit from being done. Everything is given up all the same.
    pub async fn unsubscribe(&mut self) -> Result<(), ClientError> {
        self.end(Instant::now() + self.config.default_api_timeout).await
    }

    /// The same, and the end of the consumer. Static members do not leave (C21). Returns within the time-out.
    ///
    /// # Errors
    /// What kept the last commit from being done.
    pub async fn close(mut self, timeout: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + timeout;
        let ended = timeout_at(deadline, self.end(deadline)).await;
        ended.unwrap_or_else(|_| {
            Err(ClientError::outcome_unknown("the consumer was closed before all was done"))
        })
    }

    async fn end(&mut self, deadline: Instant) -> Result<(), ClientError> {
        while let Some(event) = self.next_event() {
            // Why it is no member does not matter any more.
            let _ = self.on_event(event);
        }
        self.take_up_loss().await;
        self.settle();
        let held = self.assigned.names();
        let mut committed = Ok(());
        if self.config.auto_commits() {
            committed = self.commit_positions(&held, deadline).await;
        }
        if matches!(self.mode, Mode::Group(_)) && !held.is_empty() {
            self.tell_revoked(&held).await;
        }
        if let Some(group) = &self.group {
            // What was asked for before is done before.
            let _ = group.commits.synchronous(Default::default(), deadline).await;
        }
        // From here on nothing is held, even if the call is dropped while it waits.
        held.iter().for_each(|at| self.give_up(at));
        self.tell_recorders_now();
        (self.assignment, self.lost) = (None, None);
        self.announce.clear();
        self.mode = Mode::Nobody;
        if let Some(group) = &mut self.group {
            *group.commits.identity.lock() = Identity::Nobody;
            if let Some(membership) = group.membership.take() {
                membership.leave(deadline).await;
                *group.commits.identity.lock() = Identity::Nobody;
            }
        }
        committed
    }

    /// What it holds. Empty until the group has given something.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.assigned.names()
    }

    /// The topics that it is subscribed to by name.
    pub fn subscription(&self) -> Vec<String> {
        match &self.mode {
            Mode::Group(subscription) => subscription.topics.clone(),
            Mode::Nobody | Mode::Manual => Vec::new(),
        }
    }

    /// Its id in the group, while it is a member.
    pub fn member_id(&self) -> Option<String> {
        match &*self.group.as_ref()?.commits.identity.lock() {
            Identity::Member { id, .. } => Some(id.to_string()),
            Identity::Nobody | Identity::Gone => None,
        }
    }

    /// Who it is in its group, for a transaction that commits its offsets. Of now: ask after the poll whose records they
    /// are of.
    ///
    /// # Errors
    /// INVALID_GROUP_ID without a group; UNKNOWN_MEMBER if it is subscribed and no member yet, or no more.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata, ClientError> {
        let Some(group) = &self.group else { return Err(no_group("group_metadata")) };
        let mut metadata = ConsumerGroupMetadata::new(&self.config.group_id);
        match &*group.commits.identity.lock() {
            Identity::Nobody => {}
            Identity::Member { id, epoch } => {
                (metadata.member_id, metadata.member_epoch) = (id.to_string(), *epoch);
                metadata.instance_id = self.config.group_instance_id.clone().unwrap_or_default();
            }
            Identity::Gone => return Err(commits::gone()),
        }
        let held = self.assigned.partitions.iter();
        let ids = held.filter_map(|(at, held)| Some((at.topic.clone(), held.topic_id?)));
        metadata.topic_ids = ids.collect();
        Ok(metadata)
    }

    /// Interrupts this consumer's calls from elsewhere.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.wakeup.clone()
    }

    /// The partition is not held any more.
    fn give_up(&mut self, at: &TopicPartition) {
        if self.cursor.as_ref().is_some_and(|cursor| cursor.at == *at) {
            self.cursor = None;
        }
        if self.fetcher.get(at).is_none() && self.resolving.take().is_some() {
            // What is found for it now is old when it comes back.
            self.unresolved = true;
        }
        self.fetcher.remove(at);
        self.assigned.partitions.remove(at);
        self.assigned.moved(at);
        self.announce.retain(|announced| announced != at);
    }
}

fn no_group(what: &str) -> ClientError {
    let message = format!("{what} needs a group: set group_id");
    ClientError::Refused(Refusal::new(ErrorCode::InvalidGroupId, message))
}

fn mixed() -> ClientError {
    let what = "subscribe and assign do not go together: unsubscribe first".to_owned();
    ClientError::IllegalState { what }
}

fn not_assigned(at: &TopicPartition) -> ClientError {
    ClientError::IllegalState { what: format!("partition {at} is not assigned to this consumer") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send>(_: &T) {}

    /// Applications spawn tasks with consumers in them.
    #[test]
    fn calls_may_move_between_threads() {
        fn check(mut consumer: Consumer) {
            is_send(&consumer);
            is_send(&async move {
                drop(consumer.poll(Duration::ZERO).await);
                drop(consumer.next().await);
                drop(consumer.next_batch().await);
                drop(consumer.commit_sync().await);
                drop(consumer.committed(&[]).await);
                drop(consumer.close(Duration::ZERO).await);
            });
        }
        let _ = check;
    }
}
