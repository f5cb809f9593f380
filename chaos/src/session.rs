//! A run's driver: starts what feels and what is felt, says when it flows, and puts the report together in the end.

use crate::condition::{Condition, Lasting};
use crate::load::{self, LoadConfig, Run};
use crate::measure::{Event, Felt, Figures, Place};
use crate::members::{self, Membership};
use crate::observer::{self, Subject};
use crate::reading::{self, WatchConfig};
use crate::recorder::Recorder;
use crate::report::{Held, Report};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use troupe_client::{Client, ClientError, Producer};
use troupe_proto::admin::v1::{CreateTopicRequest, DeleteTopicRequest};
use troupe_proto::error::ErrorCode;

/// How long a load may take until each partition has had its first record, there and back.
const FLOW_PATIENCE: Duration = Duration::from_secs(60);
/// How long a cluster that is ill when a run begins may take to get well.
const SEEN_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the figures.
const LOOK: Duration = Duration::from_millis(20);
/// How long members may take for what is in the log when the load has ended.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(30);
const CALL: Duration = Duration::from_secs(10);

/// What is felt.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// By a load of the run's own.
    Load(LoadConfig),
    /// By others, as far as it can be seen from beside them.
    Watch(WatchConfig),
}

#[derive(Clone, Debug, Error)]
pub enum SessionError {
    #[error("{what}: {cause}")]
    Client { what: String, cause: ClientError },
    #[error("the load does not flow: not every partition of {topic} had a record there and back within {} s", FLOW_PATIENCE.as_secs())]
    NoFlow { topic: String },
}

/// A run that is being felt.
pub struct Session {
    client: Client,
    recorder: Arc<Recorder>,
    /// The first is the load's.
    topics: Vec<String>,
    group: Option<String>,
    /// Made by this run, to be removed with it.
    made: bool,
    load: Option<Load>,
    /// They go on until the session is dropped.
    watchers: JoinSet<()>,
    faults: AtomicU64,
    was_whole: bool,
}

struct Load {
    run: Run,
    producer: Producer,
    stop_sending: watch::Sender<bool>,
    sending: JoinHandle<()>,
    stop_reading: watch::Sender<bool>,
    members: JoinSet<()>,
    reads: bool,
}

/// How it came out.
pub struct Ending {
    pub report: Report,
    /// Of the whole run.
    pub figures: Figures,
    run: Option<Run>,
    recorder: Arc<Recorder>,
}

impl Ending {
    /// The keys of the load's records that were acknowledged.
    pub fn acknowledged_keys(&self) -> Vec<String> {
        let Some(run) = self.run else { return Vec::new() };
        let acknowledged = self.recorder.acknowledged();
        acknowledged.iter().map(|(place, sequence)| run.key(place.partition, *sequence)).collect()
    }
}

fn client<'a>(what: impl Into<String> + 'a) -> impl FnOnce(ClientError) -> SessionError + 'a {
    move |cause| SessionError::Client { what: what.into(), cause }
}

impl Session {
    /// Returns when it flows: gaps count from then on.
    ///
    /// # Errors
    /// There is no such topic, none can be made, or nothing flows.
    pub async fn start(connected: &Client, source: &Source) -> Result<Session, SessionError> {
        match source {
            Source::Load(config) => Session::load(connected, config).await,
            Source::Watch(config) => Session::watch(connected, config).await,
        }
    }

    async fn load(connected: &Client, config: &LoadConfig) -> Result<Session, SessionError> {
        let run = Run(rand::random());
        let (topic, made) = topic_of(connected, config, run).await?;
        let places = places_of(connected, &topic).await?;
        let reads = config.members > 0;
        let group = reads.then(|| format!("troupe-chaos-{:08x}", run.0));
        let recorder = Arc::new(Recorder::new(Felt::new(&places, true), reads));
        let producer = load::producer(connected).await;
        let producer = producer.map_err(client("cannot produce"))?;
        let (stop_sending, stopped) = watch::channel(false);
        let sender =
            load::send(producer.clone(), config.clone(), run, places, recorder.clone(), stopped);
        let (stop_reading, stopped) = watch::channel(false);
        let mut members = JoinSet::new();
        if let Some(group) = &group {
            for _ in 0..config.members {
                let membership = Membership {
                    client: connected.clone(),
                    group: group.clone(),
                    topic: topic.clone(),
                    run,
                };
                members.spawn(members::read(membership, recorder.clone(), stopped.clone()));
            }
        }
        let sending = tokio::spawn(sender);
        let load = Load { run, producer, stop_sending, sending, stop_reading, members, reads };
        let mut session =
            Session::observed(connected, recorder, vec![topic], group, made, Some(load));
        session.until_it_flows().await?;
        session.recorder.note(Event::Begun);
        Ok(session)
    }

    async fn watch(connected: &Client, config: &WatchConfig) -> Result<Session, SessionError> {
        let mut places = Vec::new();
        for topic in &config.topics {
            places.extend(places_of(connected, topic).await?);
        }
        let recorder = Arc::new(Recorder::new(Felt::new(&places, false), config.group.is_some()));
        let (topics, group) = (config.topics.clone(), config.group.clone());
        let mut session =
            Session::observed(connected, recorder.clone(), topics, group.clone(), false, None);
        for topic in &config.topics {
            let (connected, topic) = (connected.clone(), topic.clone());
            session.watchers.spawn(reading::follow(connected, topic, recorder.clone()));
        }
        if let Some(group) = group {
            let connected = connected.clone();
            session.watchers.spawn(reading::follow_commits(connected, group, recorder.clone()));
        }
        session.until_seen().await;
        recorder.note(Event::Begun);
        Ok(session)
    }

    fn observed(
        connected: &Client,
        recorder: Arc<Recorder>,
        topics: Vec<String>,
        group: Option<String>,
        made: bool,
        load: Option<Load>,
    ) -> Session {
        let client = connected.clone();
        let subject =
            Subject { client: client.clone(), topics: topics.clone(), group: group.clone() };
        let mut watchers = JoinSet::new();
        watchers.spawn(observer::observe(subject, recorder.clone()));
        let faults = AtomicU64::new(0);
        Session { client, recorder, topics, group, made, load, watchers, faults, was_whole: false }
    }

    async fn until_it_flows(&mut self) -> Result<(), SessionError> {
        let flows = async {
            while !self.recorder.flows() {
                sleep(LOOK).await;
            }
        };
        let flowed = timeout(FLOW_PATIENCE, flows).await;
        flowed.map_err(|_| SessionError::NoFlow { topic: self.topics[0].clone() })?;
        self.until_seen().await;
        Ok(())
    }

    /// The cluster has been seen, and the positions from which it is read are known: as good as it gets by itself.
    async fn until_seen(&mut self) {
        self.was_whole = self.whole_again(SEEN_PATIENCE).await;
    }

    /// When it began, all nodes were there and all replicas in sync.
    pub fn was_whole(&self) -> bool {
        self.was_whole
    }

    /// The load's topic, or the first that is watched.
    pub fn topic(&self) -> Option<&str> {
        self.topics.first().map(String::as_str)
    }

    /// The group whose members read.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Since the run began.
    pub fn now(&self) -> Duration {
        self.recorder.now()
    }

    /// Before it is injected; what it is known by later. `whom` is an actor's address, `node/1`, or other words.
    pub fn fault_begins(&self, kind: &str, whom: &str) -> u64 {
        let number = self.faults.fetch_add(1, Ordering::Relaxed);
        let (kind, whom) = (kind.to_owned(), whom.to_owned());
        self.recorder.note(Event::FaultBegan { number, kind, whom });
        number
    }

    pub fn fault_ended(&self, number: u64, error: Option<String>) {
        self.recorder.note(Event::FaultEnded { number, error });
    }

    /// Of none that has begun anything is left, as far as whoever has injected them can tell.
    pub fn all_faults_ended(&self) {
        for number in 0..self.faults.load(Ordering::Relaxed) {
            self.fault_ended(number, None);
        }
    }

    /// Something that belongs in the report.
    pub fn say(&self, what: impl Into<String>) {
        self.recorder.note(Event::Said { what: what.into() });
    }

    pub fn figures(&self) -> Figures {
        self.recorder.figures()
    }

    /// Waits until all of it is so, as long as it says.
    ///
    /// # Errors
    /// What was not so at the end of the time.
    pub async fn holds(&self, conditions: &[Condition], within: Duration) -> Result<(), Held> {
        let deadline = Instant::now() + within;
        let mut lasting: Vec<Lasting> = conditions.iter().cloned().map(Lasting::new).collect();
        loop {
            let (now, figures) = (self.now(), self.figures());
            // Each of them, so that none begins to last only when the one before it holds.
            let met: Vec<bool> = lasting.iter_mut().map(|one| one.is_met(now, &figures)).collect();
            match met.iter().position(|met| !met) {
                None => return Ok(()),
                Some(broken) if Instant::now() >= deadline => {
                    let condition = conditions[broken].clone();
                    let actual = condition.actual(&figures);
                    return Err(Held { condition, actual, held: false });
                }
                Some(_) => sleep(LOOK).await,
            }
        }
    }

    /// Returns when one of them is met.
    pub async fn met(&self, conditions: &[Condition]) -> Held {
        let mut lasting: Vec<Lasting> = conditions.iter().cloned().map(Lasting::new).collect();
        loop {
            let (now, figures) = (self.now(), self.figures());
            if let Some(one) = lasting
                .iter_mut()
                .find_map(|one| one.is_met(now, &figures).then(|| one.condition().clone()))
            {
                let actual = one.actual(&figures);
                return Held { condition: one, actual, held: true };
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until all nodes are there and all replicas in sync, with the load going on.
    pub async fn whole_again(&self, patience: Duration) -> bool {
        let asked = self.now();
        let whole = async {
            // What is seen now may have been asked before.
            while !(self.recorder.is_whole() && self.now() > asked + 10 * LOOK) {
                sleep(LOOK).await;
            }
        };
        timeout(patience, whole).await.is_ok()
    }

    /// Ends the load, looks for what it has sent, and removes what the run has made.
    pub async fn end(mut self) -> Ending {
        self.recorder.note(Event::Ended);
        let run = self.load.as_ref().map(|load| load.run);
        let mut read_back = false;
        if let Some(load) = self.load.take() {
            read_back = self.end_load(load).await;
        }
        let (report, figures) = (self.recorder.report(read_back), self.figures());
        self.watchers.shutdown().await;
        Ending { report, figures, run, recorder: self.recorder.clone() }
    }

    async fn end_load(&self, mut load: Load) -> bool {
        load.stop_sending.send_replace(true);
        // A panic in it has been printed.
        let _ = (&mut load.sending).await;
        // What is given up is unknown, and looked for in the log.
        let _ = load.producer.close(DELIVERY_PATIENCE).await;
        let topic = &self.topics[0];
        let read = reading::read_back(&self.client, topic, load.run, &self.recorder);
        let read_back = match timeout(DELIVERY_PATIENCE, read).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                self.say(format!("{topic} cannot be read back: {error}"));
                false
            }
            Err(_) => {
                self.say(format!("{topic} cannot be read back in time"));
                false
            }
        };
        if load.reads && read_back {
            let delivered = async {
                while self.figures().verdict.undelivered > 0 {
                    sleep(LOOK).await;
                }
            };
            // What is missing then is in the report.
            let _ = timeout(DELIVERY_PATIENCE, delivered).await;
        }
        load.stop_reading.send_replace(true);
        while load.members.join_next().await.is_some() {}
        self.remove_what_was_made().await;
        read_back
    }

    /// What cannot be removed stays, and is told.
    async fn remove_what_was_made(&self) {
        let admin = self.client.admin();
        if let Some(group) = &self.group
            && !matches!(timeout(CALL, admin.delete_group(group)).await, Ok(Ok(())))
        {
            self.say(format!("group {group} is left behind"));
        }
        let Some(topic) = self.topics.first().filter(|_| self.made) else { return };
        let request = DeleteTopicRequest { name: topic.clone(), ..DeleteTopicRequest::default() };
        if !matches!(timeout(CALL, admin.delete_topic(request)).await, Ok(Ok(_))) {
            self.say(format!("topic {topic} is left behind"));
        }
    }
}

/// Its name, and whether it was made here.
async fn topic_of(
    connected: &Client,
    config: &LoadConfig,
    run: Run,
) -> Result<(String, bool), SessionError> {
    let name = config.topic.clone().unwrap_or_else(|| format!("troupe-chaos-{:08x}", run.0));
    let request = CreateTopicRequest {
        name: name.clone(),
        partitions: Some(i32::try_from(config.partitions).unwrap_or(i32::MAX)),
        ..CreateTopicRequest::default()
    };
    match connected.admin().create_topic(request).await {
        Ok(_) => Ok((name, true)),
        Err(error) if error.reason() == ErrorCode::TopicExists => Ok((name, false)),
        Err(error) => Err(client(format!("cannot make topic {name}"))(error)),
    }
}

async fn places_of(connected: &Client, topic: &str) -> Result<Vec<Place>, SessionError> {
    let described = connected.topic(topic).await;
    let described = described.map_err(client(format!("cannot use topic {topic}")))?;
    let name: Arc<str> = Arc::from(topic);
    let partitions = described.partitions.iter();
    Ok(partitions.map(|one| Place::new(name.clone(), one.partition.0)).collect())
}
