//! `troupe bench clean`: how fast a log is compacted, and what a producer beside it feels of that.
//!
//! A node of its own, in another process, holds a log in which every key was written many times, and does not clean it
//! until it is told to. Then it is in no memory any more, and a producer sends to another topic of the same disk at a
//! steady rate: as long as it is cleaned and its old files are removed, and for as long again alone. What the disk itself
//! can do is measured in the same directory: as many bytes are read and written as the cleaning had to. The whole log is
//! read: each key has its last value, and no offset has changed. All that again, in turns, with another log. At last some
//! keys are deleted, and it is waited until their tombstones have gone.

mod copying;
mod flags;
mod keyed;
mod outcome;
mod producing;
mod report;
mod waiting;

use super::file_system::{forget_files_in, sync_file_system};
use super::server::Server;
use super::temporary::{configs, directory};
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::signals::Stop;
use crate::streams::notice;
use keyed::Keyed;
use outcome::{Deletion, Round};
use producing::produce;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Client, ClientConfig};
use troupe_proto::admin::v1::{CreateTopicRequest, DeleteTopicRequest, UpdateTopicRequest};

pub use flags::BenchClean;

const BESIDE: &str = "beside";
/// Nothing is dirtier than this: the log waits.
const NEVER: &str = "1";
/// Whatever is dirty.
const AT_ONCE: &str = "0";
/// `delete.retention.ms` of the topic.
const TOMBSTONES_STAY: &str = "2000";
const POLL_INTERVAL: Duration = Duration::from_millis(500);
const TOMBSTONES_TIMEOUT: Duration = Duration::from_secs(120);

pub async fn run(global: &Global, bench: BenchClean) -> Result<(), Failure> {
    if !global.server.is_empty() {
        return Err(Failure::usage("it starts a node of its own: leave out --server"));
    }
    if bench.keys == 0 || bench.times == 0 || bench.rate == 0 || bench.rounds == 0 {
        return Err(Failure::usage("--keys, --times, --rate and --rounds have to be more than 0"));
    }
    let keyed = Keyed::new(bench.keys, bench.times, bench.size)?;
    let what = || "cannot prepare the measurement".to_owned();
    // Before there is anything that a signal could leave behind.
    let mut stop = Stop::new()?;
    let made = directory(bench.dir.as_deref(), "clean")?;
    let mut settings: Vec<String> =
        ["listener=127.0.0.1:0", "http.listener=127.0.0.1:0", "log.cleaner.backoff.ms=100"]
            .map(str::to_owned)
            .into();
    settings.extend(bench.set.iter().cloned());
    let server = Server::start_with(&made.path().join("node"), &settings, "warn");
    let server = server.with_context(what)?;
    let client = Client::connect(ClientConfig::new([server.address.clone()])).await;
    let client = client.with_context(what)?;
    let measured = Measured { global, bench: &bench, keyed: &keyed, client: &client };
    match stop.or(measured.all(made.path())).await {
        Ok(outcome) => {
            let (rounds, deletion) = outcome?;
            report::print(global, &bench, &rounds, &deletion)
        }
        Err(signal) => Err(Failure::interrupted(signal)),
    }
}

/// What is measured, and by what.
struct Measured<'a> {
    global: &'a Global,
    bench: &'a BenchClean,
    keyed: &'a Keyed,
    client: &'a Client,
}

impl Measured<'_> {
    fn told(&self, what: &str) {
        if self.global.progress() {
            notice!("{what}");
        }
    }

    async fn all(&self, dir: &Path) -> Result<(Vec<Round>, Deletion), Failure> {
        self.create(BESIDE, &[]).await?;
        let (mut rounds, mut last) = (Vec::new(), None);
        for number in 0..self.bench.rounds {
            if let Some(before) = last.take() {
                self.delete(before).await?;
            }
            let topic = format!("clean-{number}");
            rounds.push(self.round(&topic, dir).await?);
            last = Some(topic);
        }
        let deletion = self.deletion(&last.unwrap_or_default()).await?;
        Ok((rounds, deletion))
    }

    async fn round(&self, topic: &str, dir: &Path) -> Result<Round, Failure> {
        let Measured { bench, keyed, client, .. } = *self;
        let segment = bench.segment.to_string();
        let compacted = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", segment.as_str()),
            ("min.cleanable.dirty.ratio", NEVER),
            ("delete.retention.ms", TOMBSTONES_STAY),
            ("file.delete.delay.ms", "0"),
        ];
        self.create(topic, &compacted).await?;
        self.told("writing every key so many times");
        keyed.write(client, topic).await?;
        let sync = || sync_file_system(dir).with_context(|| "cannot sync the disk".to_owned());
        sync()?;
        let files = dir.join("node").join(format!("{topic}-0"));
        forget_files_in(&files).with_context(|| format!("cannot read {}", files.display()))?;
        self.told("a producer beside the cleaning");
        let waiting = tokio::spawn(waiting::until_cleaned(client.clone(), topic.to_owned(), files));
        self.set(topic, &[("min.cleanable.dirty.ratio", AT_ONCE)]).await?;
        let beside = produce(client, bench, BESIDE, || waiting.is_finished()).await?;
        let cleaned = waiting.await.map_err(|panic| Failure::usage(panic.to_string()))??;
        sync()?;
        self.told("the same producer alone");
        let end = Instant::now() + beside.took;
        let alone = produce(client, bench, BESIDE, || Instant::now() >= end).await?;
        self.told("the disk alone");
        sync()?;
        let raw = copying::measure(dir, cleaned.bytes_before, cleaned.bytes_after);
        let raw = raw.with_context(|| "cannot measure the disk".to_owned())?;
        self.told("reading what is left");
        let left = keyed.check(client, topic).await?;
        Ok(Round { cleaned, raw, alone, beside, left })
    }

    /// Deletes some keys, and waits until nothing is left of them; nothing else is written meanwhile.
    async fn deletion(&self, topic: &str) -> Result<Deletion, Failure> {
        self.told("deleting some of the keys");
        // Also what stands in the segment that takes the appends, which is never cleaned.
        self.set(topic, &[("max.compaction.lag.ms", "1")]).await?;
        let tombstones = self.keyed.delete_some(self.client, topic).await?;
        let started = Instant::now();
        loop {
            let left = self.keyed.read(self.client, topic).await?;
            if left.tombstones == 0 {
                self.keyed.check_deleted(topic, &left)?;
                return Ok(Deletion { tombstones, took: started.elapsed() });
            }
            if started.elapsed() > TOMBSTONES_TIMEOUT {
                let what = format!("tombstones of {topic} do not go");
                let cause = format!("{} are left", left.tombstones);
                return Err(Failure::new(Exit::Failed, what, cause));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn create(&self, name: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
        let request = CreateTopicRequest {
            name: name.to_owned(),
            partitions: Some(1),
            configs: configs(settings),
            ..CreateTopicRequest::default()
        };
        let created = self.client.admin().create_topic(request).await;
        created.map(drop).with_context(|| format!("cannot create topic {name}"))
    }

    async fn delete(&self, name: String) -> Result<(), Failure> {
        let what = format!("cannot delete topic {name}");
        let request = DeleteTopicRequest { name, validate_only: false, internal: false };
        self.client.admin().delete_topic(request).await.map(drop).with_context(|| what)
    }

    async fn set(&self, topic: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
        let request = UpdateTopicRequest {
            name: topic.to_owned(),
            set_configs: configs(settings),
            ..UpdateTopicRequest::default()
        };
        let updated = self.client.admin().update_topic(request).await;
        updated.map(drop).with_context(|| format!("cannot change a setting of {topic}"))
    }
}
