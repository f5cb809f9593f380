//! The members of the group that transforms, and what happens to them. Each place has a transactional id of its own: who
//! comes to it fences who was there.

use super::IMAGES;
use crate::groups::ledger::Ledger;
use crate::groups::{GROUP, TOPIC};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use troupe_client::{
    AutoOffsetReset, Client, ConsumerConfig, ConsumerGroupMetadata, ConsumerRecords,
    IsolationLevel, OffsetAndMetadata, Producer, ProducerConfig, ProducerRecord, TransactionError,
};
use troupe_proto::error::ErrorCode;

const PLACES: usize = 3;
/// The first is a task of this process, the others are the SDK's example.
const TASKS: usize = 1;
/// How long a transaction may be open.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What was done to the transformers, and what they met.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub killed: usize,
    pub left: usize,
    /// Stood still, while another took its transactional id.
    pub stalled: usize,
    /// Ended because another had.
    pub fenced: usize,
}

/// What the task has met.
struct Notes {
    ledger: Arc<Ledger>,
    fenced: AtomicUsize,
}

enum Transformer {
    Task {
        leave: oneshot::Sender<()>,
        task: JoinHandle<()>,
    },
    /// With what it says.
    Process {
        child: Child,
        said: JoinHandle<String>,
    },
}

/// See the module.
pub struct Transformers {
    client: Client,
    servers: String,
    lines: usize,
    notes: Arc<Notes>,
    chance: StdRng,
    places: Vec<Option<Transformer>>,
    /// Who stands still, and how long; then it goes on as if nothing had been.
    stalled: Vec<(Transformer, Instant)>,
    tally: Tally,
}

impl Transformers {
    /// `servers`: where processes begin to ask; `lines`: of a transaction, at most.
    pub fn new(
        client: Client,
        servers: String,
        lines: usize,
        ledger: Arc<Ledger>,
        chance: StdRng,
    ) -> Self {
        let notes = Arc::new(Notes { ledger, fenced: AtomicUsize::default() });
        let places = (0..PLACES).map(|_| None).collect();
        let (stalled, tally) = (Vec::new(), Tally::default());
        let mut all = Self { client, servers, lines, notes, chance, places, stalled, tally };
        (0..PLACES).for_each(|place| all.start(place));
        all
    }

    fn start(&mut self, place: usize) {
        let id = format!("transformer-{place}");
        self.places[place] = Some(if place < TASKS {
            let (leave, told) = oneshot::channel();
            let chance = StdRng::seed_from_u64(self.chance.random());
            let (client, notes) = (self.client.clone(), Arc::clone(&self.notes));
            let work = Work { client, id, lines: self.lines, notes, chance };
            Transformer::Task { leave, task: tokio::spawn(work.run(told)) }
        } else {
            process(&self.servers, &id, self.lines)
        });
    }

    /// They come and go while there is turmoil, and those that ended are started again, until it is told to end.
    pub async fn run(mut self, turmoil: Arc<AtomicBool>, end: Arc<AtomicBool>) -> Tally {
        const GLANCE: Duration = Duration::from_millis(50);
        let mut due = Instant::now();
        while !end.load(Ordering::SeqCst) {
            // Chance decides when and who.
            sleep(GLANCE).await;
            for place in 0..PLACES {
                self.look_after(place).await;
            }
            let in_turmoil = turmoil.load(Ordering::SeqCst);
            if in_turmoil && Instant::now() >= due {
                self.hurt().await;
                due = Instant::now() + Duration::from_millis(self.chance.random_range(100..2_000));
            }
            self.wake(!in_turmoil).await;
            if !in_turmoil {
                for place in 0..PLACES {
                    if self.places[place].is_none() {
                        self.start(place);
                    }
                }
            }
        }
        for transformer in std::mem::take(&mut self.places).into_iter().flatten() {
            transformer.end(false).await;
        }
        for (transformer, _) in std::mem::take(&mut self.stalled) {
            transformer.end(true).await;
        }
        self.tally.fenced += self.notes.fenced.load(Ordering::SeqCst);
        self.tally
    }

    /// Who ended by itself is started again.
    async fn look_after(&mut self, place: usize) {
        if let Some(transformer) = self.places[place].take() {
            self.places[place] = self.unless_ended(transformer).await;
            if self.places[place].is_none() {
                self.start(place);
            }
        }
    }

    /// None: it has ended by itself. That must have been because it was fenced.
    async fn unless_ended(&mut self, transformer: Transformer) -> Option<Transformer> {
        let Transformer::Process { mut child, said } = transformer else {
            return Some(transformer);
        };
        let Some(status) = child.try_wait().unwrap() else {
            return Some(Transformer::Process { child, said });
        };
        let said = said.await.unwrap();
        if said.contains("PRODUCER_FENCED") || said.contains("ProducerFenced") {
            self.tally.fenced += 1;
        } else {
            self.notes.ledger.wrong(format!("a transformer ended: {status}: {said}"));
        }
        None
    }

    async fn hurt(&mut self) {
        let place = self.chance.random_range(0..PLACES);
        let Some(transformer) = self.places[place].take() else { return self.start(place) };
        match (self.chance.random_range(0..4), transformer) {
            (0, transformer @ Transformer::Task { .. }) => {
                transformer.end(false).await;
                self.tally.left += 1;
            }
            (0 | 1, Transformer::Process { child, said }) => {
                signal(&child, libc::SIGSTOP);
                let held = Duration::from_millis(self.chance.random_range(100..12_000));
                let transformer = Transformer::Process { child, said };
                self.stalled.push((transformer, Instant::now() + held));
                self.tally.stalled += 1;
            }
            (_, transformer) => {
                transformer.end(true).await;
                self.tally.killed += 1;
            }
        }
        if self.chance.random_range(0..2) == 0 {
            self.start(place);
        }
    }

    /// Those that have stood still for long enough go on.
    async fn wake(&mut self, all: bool) {
        for (transformer, until) in &mut self.stalled {
            if let Transformer::Process { child, .. } = transformer
                && (all || Instant::now() >= *until)
            {
                signal(child, libc::SIGCONT);
                // Once.
                *until += Duration::from_secs(3_600);
            }
        }
        // Who has met who took its place has ended.
        for (transformer, until) in std::mem::take(&mut self.stalled) {
            if let Some(transformer) = self.unless_ended(transformer).await {
                self.stalled.push((transformer, until));
            }
        }
    }
}

impl Transformer {
    async fn end(self, kill: bool) {
        match self {
            Self::Task { task, .. } if kill => task.abort(),
            Self::Task { leave, task } => {
                // It may have ended by itself.
                let _ = leave.send(());
                task.await.unwrap();
            }
            Self::Process { mut child, .. } => child.kill().await.unwrap(),
        }
    }
}

fn process(servers: &str, id: &str, lines: usize) -> Transformer {
    let mut child = Command::new(troupe_tests::example("exactly_once"))
        .args([servers, TOPIC, IMAGES, GROUP, id, &lines.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let said = tokio::spawn(async move {
        let mut said = Vec::new();
        // What came before it failed is of use too.
        let _ = stderr.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    });
    Transformer::Process { child, said }
}

fn signal(child: &Child, signal: i32) {
    // It has ended already.
    let Some(pid) = child.id() else { return };
    // SAFETY: sends a signal to a child that was not waited for.
    unsafe { libc::kill(pid as i32, signal) };
}

/// What a task does.
struct Work {
    client: Client,
    id: String,
    lines: usize,
    notes: Arc<Notes>,
    chance: StdRng,
}

impl Work {
    async fn run(mut self, mut told: oneshot::Receiver<()>) {
        const POLL: Duration = Duration::from_millis(200);
        let mut consumer = self.client.consumer(self.consumer_config()).unwrap();
        consumer.subscribe([TOPIC]).unwrap();
        let mut producer = self.producer().await;
        while told.try_recv().is_err() {
            let records = match consumer.poll(POLL).await {
                Ok(records) if records.is_empty() => continue,
                Ok(records) => records,
                Err(error) => {
                    // It mends what can be mended by itself.
                    self.wrong(format!("a transformer's poll failed: {error}"));
                    continue;
                }
            };
            // Of the poll; a consumer that is a member no more has nothing to commit.
            let transformed = match consumer.group_metadata() {
                Ok(group) => self.transform(&producer, &group, &records).await,
                Err(error) => Err(TransactionError::Abortable(error)),
            };
            match transformed {
                Ok(true) => continue,
                Ok(false)
                | Err(TransactionError::Abortable(_) | TransactionError::Retriable(_)) => {}
                Err(TransactionError::Fatal(error)) => {
                    match error.reason() {
                        ErrorCode::ProducerFenced => {
                            self.notes.fenced.fetch_add(1, Ordering::SeqCst);
                        }
                        _ => self.wrong(format!("a producer is of no use: {error}")),
                    }
                    producer = self.producer().await;
                }
                Err(TransactionError::IllegalState { what }) => self.wrong(what),
            }
            // In the midst of a fault nobody may answer; what was read must not be forgotten.
            while consumer.seek_to_committed(&[]).await.is_err() {
                sleep(POLL).await;
            }
        }
        if let Err(error) = consumer.close(Duration::from_secs(10)).await {
            println!("a transformer could not close: {error}");
        }
    }

    fn wrong(&self, what: String) {
        self.notes.ledger.wrong(what);
    }

    fn consumer_config(&self) -> ConsumerConfig {
        ConsumerConfig {
            auto_offset_reset: AutoOffsetReset::Earliest,
            isolation_level: IsolationLevel::ReadCommitted,
            enable_auto_commit: false,
            max_poll_records: self.lines,
            ..ConsumerConfig::new(GROUP)
        }
    }

    async fn producer(&self) -> Producer {
        let config = ProducerConfig {
            transactional_id: Some(self.id.clone()),
            transaction_timeout: TIMEOUT,
            request_timeout: Duration::from_secs(5),
            ..ProducerConfig::default()
        };
        self.client.producer(config).await.unwrap()
    }

    /// False: it is aborted, because it was to be.
    async fn transform(
        &mut self,
        producer: &Producer,
        group: &ConsumerGroupMetadata,
        records: &ConsumerRecords,
    ) -> Result<bool, TransactionError> {
        let transaction = producer.transaction().await?;
        let mut offsets = BTreeMap::new();
        for record in records {
            let value = record.value.as_deref().unwrap_or_default();
            let image = ProducerRecord {
                key: record.key.clone(),
                ..ProducerRecord::new(IMAGES).value(value.to_ascii_uppercase())
            };
            drop(transaction.send(image).await?);
            let next = OffsetAndMetadata::new(record.offset.plus(1));
            offsets.insert(record.topic_partition(), next);
        }
        transaction.send_offsets(offsets, group).await?;
        if self.chance.random_range(0..10) == 0 {
            // What has left by now must not be seen.
            producer.flush().await.map_err(TransactionError::Abortable)?;
            transaction.abort().await?;
            return Ok(false);
        }
        let mut committed = transaction.commit().await;
        // It may be committed already: the same is asked until it is known.
        while let Err(TransactionError::Retriable(_)) = committed {
            committed = producer.commit_transaction().await;
        }
        committed.map(|()| true)
    }
}
