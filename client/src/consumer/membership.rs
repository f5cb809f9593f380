//! A membership in a group: the stream to the coordinator, held by a task of its own.
//!
//! The stream is the heartbeat, so a member lives while its application processes what it got, up to
//! `max_poll_interval`; then it leaves by itself (C6). After a break it comes back with its id, its epoch and
//! what it holds, wherever the coordinator is by then.
//! Promises: an assignment is said to be applied only after the consumer has said so, and on the stream that it
//! came by. The last event is why the membership ended.
//! Never here: what is read and committed; whether to join again.

use super::assigned::{from_wire, to_wire};
use super::commits::Identity;
use super::config::ConsumerConfig;
use super::coordinator::{Backoff, Coordinator};
use crate::admin::groups::groups;
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;
use futures::stream::{BoxStream, StreamExt, TryStreamExt, once};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};
use tokio_stream::wrappers::UnboundedReceiverStream;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::TopicId;
use troupe_proto::log::v1::{MemberStart, RunMemberRequest, RunMemberResponse, Subscription};

/// How long a member that leaves waits for the coordinator to hear it.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// What the member holds, or shall hold.
pub(super) type Partitions = BTreeMap<TopicPartition, TopicId>;

/// What the coordinator wants.
pub(super) enum Event {
    Assignment(Assignment),
    /// Everything is lost; joining again may succeed.
    Lost(ClientError),
    /// The group does not take this member.
    Refused(ClientError),
}

#[derive(Clone, Debug)]
pub(super) struct Assignment {
    /// By which stream it came.
    stream: u64,
    number: u64,
    pub partitions: Partitions,
}

enum Command {
    Applied(Assignment),
    Subscribe(Subscription),
    Leave,
}

/// Whether the application asks for records.
#[derive(Default)]
pub(super) struct Activity {
    calls: AtomicU64,
    waiting: AtomicBool,
}

impl Activity {
    /// It asked, and has its answer.
    #[inline]
    pub(super) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// It waits until this is dropped.
    pub(super) fn waits(self: &Arc<Self>) -> Waits {
        self.waiting.store(true, Ordering::Relaxed);
        Waits(self.clone())
    }

    /// Resolves when it has not asked for so long.
    async fn silent_for(&self, interval: Duration) {
        let (mut seen, mut since) = (self.calls.load(Ordering::Relaxed), Instant::now());
        let step = (interval / 16).max(Duration::from_millis(1));
        loop {
            sleep(step).await;
            let calls = self.calls.load(Ordering::Relaxed);
            if calls != seen || self.waiting.load(Ordering::Relaxed) {
                (seen, since) = (calls, Instant::now());
            } else if since.elapsed() >= interval {
                return;
            }
        }
    }
}

pub(super) struct Waits(Arc<Activity>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.called();
        self.0.waiting.store(false, Ordering::Relaxed);
    }
}

/// The consumer's side. Dropped: the member leaves, unless it is static.
pub(super) struct Membership {
    commands: mpsc::UnboundedSender<Command>,
    pub events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<()>,
}

impl Membership {
    pub(super) fn start(
        coordinator: Arc<Coordinator>,
        config: Arc<ConsumerConfig>,
        subscription: Subscription,
        identity: Arc<Mutex<Identity>>,
        activity: Arc<Activity>,
    ) -> Self {
        let (commands, orders) = mpsc::unbounded_channel();
        let (told, events) = mpsc::unbounded_channel();
        let member = Member {
            coordinator,
            config,
            subscription,
            identity,
            activity,
            commands: orders,
            events: told,
            member_id: String::new(),
            member_epoch: 0,
            holds: BTreeMap::new(),
            stream: 0,
            leaving: false,
            backoff: Backoff::default(),
        };
        Self { commands, events, task: tokio::spawn(member.run()) }
    }

    /// The consumer holds exactly this.
    pub(super) fn applied(&self, assignment: Assignment) {
        // If the membership has ended, that is the next event.
        let _ = self.commands.send(Command::Applied(assignment));
    }

    pub(super) fn subscribe(&self, subscription: Subscription) {
        let _ = self.commands.send(Command::Subscribe(subscription));
    }

    /// Leaves, and waits for the coordinator to know it, until the deadline; then it goes on by itself.
    pub(super) async fn leave(self, deadline: Instant) {
        let Self { commands, events, task } = self;
        let _ = commands.send(Command::Leave);
        drop(events);
        let _ = timeout_at(deadline, task).await;
    }
}

/// The task's side.
struct Member {
    coordinator: Arc<Coordinator>,
    config: Arc<ConsumerConfig>,
    subscription: Subscription,
    identity: Arc<Mutex<Identity>>,
    activity: Arc<Activity>,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<Event>,
    /// Empty: not a member yet.
    member_id: String,
    member_epoch: u32,
    /// What it was given, until it has said that it gave it up.
    holds: Partitions,
    stream: u64,
    leaving: bool,
    backoff: Backoff,
}

/// How a stream ended.
enum Ended {
    /// It can be resumed.
    Broken(ClientError),
    Lost(ClientError),
    Refused(ClientError),
    Left,
    /// The application asks for nothing.
    Silent,
}

impl Member {
    /// Only those that are named: of a pattern nobody knows what they would be called.
    fn create_missing(&self) {
        let topics = &self.subscription.topics;
        if self.config.allow_auto_create_topics && !topics.is_empty() {
            self.coordinator.create_missing(topics.clone());
        }
    }

    async fn run(mut self) {
        self.create_missing();
        let activity = self.activity.clone();
        let interval = self.config.max_poll_interval;
        let silence = activity.silent_for(interval);
        tokio::pin!(silence);
        loop {
            let ended = tokio::select! {
                ended = self.session() => ended,
                () = &mut silence => Ended::Silent,
            };
            let event = match ended {
                Ended::Broken(_) if self.leaving => return,
                Ended::Broken(error) => {
                    tracing::debug!(group = self.coordinator.group_id, %error, "membership");
                    let pause = self.backoff.next();
                    tokio::select! {
                        () = sleep(pause) => {}
                        command = self.commands.recv() => self.on_command(command, None),
                    }
                    continue;
                }
                Ended::Lost(error) => Event::Lost(error),
                Ended::Refused(error) => Event::Refused(error),
                Ended::Left => return,
                Ended::Silent => {
                    self.leaving = true;
                    *self.identity.lock() = Identity::Gone;
                    // Nobody waits for it, so the consumer hears of it at once.
                    let what = format!("no records were asked for in {} ms", interval.as_millis());
                    let _ = self.events.send(Event::Lost(ClientError::IllegalState { what }));
                    let _ = timeout(LEAVE_PATIENCE, self.session()).await;
                    return;
                }
            };
            *self.identity.lock() = Identity::Gone;
            let _ = self.events.send(event);
            return;
        }
    }

    /// One stream, from its beginning to its end.
    async fn session(&mut self) -> Ended {
        if self.leaving && self.goes_silently() {
            return Ended::Left;
        }
        self.stream += 1;
        let (requests, waiting) = mpsc::unbounded_channel();
        let start = RunMemberRequest { start: Some(self.start()), ..Default::default() };
        let _ = requests.send(start);
        if self.leaving {
            let _ = requests.send(RunMemberRequest { leave: true, ..Default::default() });
        }
        let mut requests = Some(requests);
        let mut answers = open(self.coordinator.clone(), waiting);
        let mut leave_by = self.leaving.then(|| Instant::now() + LEAVE_PATIENCE);
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(Ok(answer)) => self.on_answer(answer),
                    Some(Err(_)) | None if self.leaving => return Ended::Left,
                    Some(Err(error)) => return classify(error),
                    None => {
                        let what = "the coordinator ended the membership";
                        return Ended::Broken(ClientError::outcome_unknown(what));
                    }
                },
                command = self.commands.recv(), if !self.leaving => {
                    self.on_command(command, requests.as_ref());
                    if self.leaving {
                        if self.goes_silently() {
                            return Ended::Left;
                        }
                        // Behind what was sent before; then this side is done.
                        requests = None;
                        leave_by = Some(Instant::now() + LEAVE_PATIENCE);
                    }
                }
                () = sleep_until_some(leave_by), if leave_by.is_some() => return Ended::Left,
            }
        }
    }

    /// Static members keep their place; one that was never a member has nothing to leave.
    fn goes_silently(&self) -> bool {
        self.config.group_instance_id.is_some() || (self.member_id.is_empty() && self.stream == 0)
    }

    fn start(&self) -> MemberStart {
        let millis = |duration: Duration| duration.as_millis().try_into().unwrap_or(u32::MAX);
        MemberStart {
            group_id: self.coordinator.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch: self.member_epoch,
            owned: to_wire(&self.holds),
            instance_id: self.config.group_instance_id.clone().unwrap_or_default(),
            client_id: self.config.client_id.clone(),
            subscription: Some(self.subscription.clone()),
            assignor: self.config.assignor.map(|assignor| assignor.to_string()).unwrap_or_default(),
            session_timeout_ms: self.config.session_timeout.map_or(0, millis),
            rebalance_timeout_ms: millis(self.config.max_poll_interval),
        }
    }

    fn on_answer(&mut self, answer: RunMemberResponse) {
        self.backoff.reset();
        self.member_id.clone_from(&answer.member_id);
        self.member_epoch = answer.member_epoch;
        if !self.leaving {
            *self.identity.lock() = Identity::Member {
                id: answer.member_id.as_str().into(),
                epoch: answer.member_epoch,
            };
        }
        if let Some(assignment) = answer.assignment.filter(|_| !self.leaving) {
            let partitions = from_wire(&assignment.partitions);
            self.holds.extend(partitions.iter().map(|(at, id)| (at.clone(), *id)));
            let assignment =
                Assignment { stream: self.stream, number: assignment.number, partitions };
            let _ = self.events.send(Event::Assignment(assignment));
        }
    }

    /// None: the consumer is gone, which is a way of leaving.
    fn on_command(
        &mut self,
        command: Option<Command>,
        requests: Option<&mpsc::UnboundedSender<RunMemberRequest>>,
    ) {
        let mut request = RunMemberRequest::default();
        match command {
            Some(Command::Applied(assignment)) => {
                self.holds = assignment.partitions;
                // By another stream than this the coordinator has said it anew.
                if assignment.stream != self.stream {
                    return;
                }
                request.applied = Some(assignment.number);
            }
            Some(Command::Subscribe(subscription)) => {
                self.subscription = subscription.clone();
                self.create_missing();
                request.subscription = Some(subscription);
            }
            Some(Command::Leave) | None => {
                self.leaving = true;
                request.leave = true;
            }
        }
        if let Some(requests) = requests {
            // If it does not get through, the stream has ended and says so.
            let _ = requests.send(request);
        }
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Finds the coordinator, opens the stream, and reads it to its end.
fn open(
    coordinator: Arc<Coordinator>,
    requests: mpsc::UnboundedReceiver<RunMemberRequest>,
) -> BoxStream<'static, Result<RunMemberResponse, ClientError>> {
    let opening = async move {
        let (endpoint, channel) = coordinator.channel().await?;
        let mut stub = groups(channel);
        match stub.run_member(UnboundedReceiverStream::new(requests)).await {
            Ok(answers) => {
                let answers = answers.into_inner();
                Ok(answers.map_err(move |status| coordinator.failed(&endpoint, status)))
            }
            Err(status) => Err(coordinator.failed(&endpoint, status)),
        }
    };
    once(opening).try_flatten().boxed()
}

fn classify(error: ClientError) -> Ended {
    match error.reason() {
        ErrorCode::UnknownMember | ErrorCode::FencedMemberEpoch => Ended::Lost(error),
        _ if error.is_retriable() => Ended::Broken(error),
        _ => Ended::Refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::error::Error as Refusal;

    /// C6: who waits for records is not silent, however long it takes.
    #[tokio::test(start_paused = true)]
    async fn only_who_does_not_ask_is_silent() {
        let activity = Arc::new(Activity::default());
        let interval = Duration::from_secs(16);
        let waits = activity.waits();
        assert!(timeout(interval * 3, activity.silent_for(interval)).await.is_err());
        drop(waits);
        let began = Instant::now();
        activity.silent_for(interval).await;
        assert!(began.elapsed() <= interval + interval / 8);
        let asks = async {
            for _ in 0..10 {
                sleep(interval / 2).await;
                activity.called();
            }
        };
        tokio::select! {
            () = activity.silent_for(interval) => panic!("it asked all the time"),
            () = asks => {}
        }
    }

    #[test]
    fn what_a_moment_mends_keeps_the_membership() {
        let ended = |code| classify(Refusal::new(code, "as the test wants").into());
        assert!(matches!(ended(ErrorCode::NotCoordinator), Ended::Broken(_)));
        assert!(matches!(ended(ErrorCode::ShuttingDown), Ended::Broken(_)));
        assert!(matches!(ended(ErrorCode::UnknownMember), Ended::Lost(_)));
        assert!(matches!(ended(ErrorCode::FencedMemberEpoch), Ended::Lost(_)));
        assert!(matches!(ended(ErrorCode::FencedInstanceId), Ended::Refused(_)));
        assert!(matches!(ended(ErrorCode::InconsistentAssignor), Ended::Refused(_)));
    }
}
