//! `troupe bench transactions`: what they cost.
//!
//! In turns, on topics of their own: plain idempotent sending; the same, waiting for all answers after as many records as
//! a transaction has; the same records in transactions of each size, waiting for each commit, and not waiting for any;
//! and reading what these wrote with either isolation level. A ratio is the median of the ratios within rounds. Besides,
//! one record in a transaction at a time: from begin to committed. Or, with `--open`, many transactions that are open at
//! once.

mod open;
mod report;

use super::payload::Payload;
use super::temporary::{random_name, with_topic};
use super::throughput::Throughput;
use super::workload::Workload;
use super::{load, reading};
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::latency::Latencies;
use crate::producer::{Settings, send};
use crate::quantity::parse_count;
use crate::timestamp;
use clap::Args;
use futures::FutureExt;
use report::{Figures, Sized};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use troupe_client::{
    Client, ClientError, Committing, IsolationLevel, OffsetSpec, Producer, ProducerConfig, Record,
    TopicProducer,
};
use troupe_proto::ids::PartitionId;

/// Everything is answered before the producer is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Records between two looks at the clock, without transactions.
const PLAIN_RUN: u64 = 256;
/// Makes connections, and the topic of the transactions.
const WARM_UP_TRANSACTIONS: u64 = 20;

#[derive(Debug, Args)]
pub struct BenchTransactions {
    #[command(flatten)]
    workload: Workload,
    /// Records in a transaction; several sizes are measured in turns
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000,100")]
    #[arg(value_parser = parse_count)]
    transaction_size: Vec<u64>,
    /// How often everything is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Producers that share the records, each with transactions of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    producers: u32,
    /// Transactions of one record, one at a time, to measure latencies
    #[arg(long, default_value = "1k", value_parser = parse_count)]
    calls: u64,
    /// Instead: what so many open transactions take, and how soon a node that is killed with them serves again, on a node
    /// of its own
    #[arg(long, value_name = "N", value_parser = parse_count)]
    open: Option<u64>,
    /// Where that node keeps its files, for as long as it takes
    #[arg(long, value_name = "DIR", requires = "open")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub async fn run(global: &Global, bench: BenchTransactions) -> Result<(), Failure> {
    if let Some(count) = bench.open {
        return open::run(global, &bench.workload, count, bench.dir.as_deref()).await;
    }
    let client = global.connect().await?;
    let (partitions, policy) = (bench.workload.partitions, bench.workload.flush_policy);
    let sizes = bench.transaction_size.iter().map(|size| (*size).max(1));
    let mut figures = Figures::new(sizes);
    let bar = load::spinner(global);
    let say = |what: String| {
        if let Some(bar) = &bar {
            bar.set_message(what);
            bar.tick();
        }
    };
    let settings = bench.settings.config();
    let alone = with_topic(&client, partitions, policy, async |topic: &str| {
        say("one transaction at a time".to_owned());
        one_at_a_time(&client, topic, &bench, WARM_UP_TRANSACTIONS).await?;
        one_at_a_time(&client, topic, &bench, bench.calls).await
    });
    figures.alone = alone.await?;
    for round in 1..=bench.rounds {
        let plain = with_topic(&client, partitions, policy, async |topic: &str| {
            say(format!("round {round}: without transactions"));
            write(&client, topic, &bench, How::Plain).await
        });
        figures.plain.push(plain.await?.0);
        for sized in &mut figures.sized {
            let flushed = with_topic(&client, partitions, policy, async |topic: &str| {
                say(format!("round {round}: flushed every {} records", sized.size));
                write(&client, topic, &bench, How::Flushed(sized.size)).await
            });
            sized.flushed.push(flushed.await?.0);
            let measured = with_topic(&client, partitions, policy, async |topic: &str| {
                say(format!("round {round}: {} records in a transaction", sized.size));
                measure(&client, topic, &bench, sized).await
            });
            measured.await?;
            let in_a_row = with_topic(&client, partitions, policy, async |topic: &str| {
                say(format!("round {round}: {} records, commits not waited for", sized.size));
                measure_row(&client, topic, &bench, sized).await
            });
            in_a_row.await?;
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    report::print(global, &bench.workload, bench.producers, &settings, &figures)
}

/// Writes in transactions of this size, and reads it with either isolation level.
async fn measure(
    client: &Client,
    topic: &str,
    bench: &BenchTransactions,
    sized: &mut Sized,
) -> Result<(), Failure> {
    let (written, latencies) = write(client, topic, bench, How::Transactions(sized.size)).await?;
    sized.latencies.add(&latencies);
    sized.written.push(written);
    let records = Some(written.records);
    // Once without a clock, for the page cache and the connections.
    reading::run(client, topic, records).await?;
    let read = async |isolation| reading::run_as(client, topic, records, isolation).await;
    sized.uncommitted.push(read(IsolationLevel::ReadUncommitted).await?);
    sized.committed.push(read(IsolationLevel::ReadCommitted).await?);
    Ok(())
}

/// The same without waiting for commits: in how many transactions the coordinator has decided them is told by the markers.
async fn measure_row(
    client: &Client,
    topic: &str,
    bench: &BenchTransactions,
    sized: &mut Sized,
) -> Result<(), Failure> {
    let (written, latencies) = write(client, topic, bench, How::InARow(sized.size)).await?;
    sized.row_latencies.add(&latencies);
    sized.in_a_row.push(written);
    let partitions = bench.workload.partitions;
    let latest = (0..partitions).map(|it| (PartitionId(it), OffsetSpec::Latest));
    let listed = client.list_offsets(topic, &latest.collect::<Vec<_>>()).await;
    let listed = listed.with_context(|| format!("cannot look at the end of {topic}"))?;
    let ends: u64 = listed.iter().filter_map(|it| Some(it.offset?.0)).sum();
    sized.decided.push(ends.saturating_sub(written.records) / u64::from(partitions));
    Ok(())
}

async fn transactional(client: &Client, settings: &ProducerConfig) -> Result<Producer, Failure> {
    let what = || "cannot begin transactions".to_owned();
    let config = ProducerConfig { transactional_id: Some(random_name()), ..settings.clone() };
    let producer = client.producer(config).await.with_context(what)?;
    producer.init_transactions().await.with_context(what)?;
    Ok(producer)
}

/// All records, shared out among the producers. How long each transaction took.
async fn write(
    client: &Client,
    topic: &str,
    bench: &BenchTransactions,
    how: How,
) -> Result<(Throughput, Latencies), Failure> {
    let what = || format!("cannot produce to {topic}");
    let workload = &bench.workload;
    let size = usize::try_from(workload.size).map_err(Failure::usage)?;
    let payload = Arc::new(Payload::new(size, workload.seed));
    let settings = bench.settings.config();
    let share = workload.records.div_ceil(bench.producers.into());
    let mut shares = Vec::new();
    for _ in 0..bench.producers {
        let producer = match how {
            How::Transactions(_) | How::InARow(_) => transactional(client, &settings).await?,
            How::Plain | How::Flushed(_) => {
                client.producer(settings.clone()).await.with_context(what)?
            }
        };
        let topic = producer.topic(topic).await.with_context(what)?;
        shares.push(Share { producer, topic, payload: payload.clone(), records: share, how });
    }
    let started = Instant::now();
    let writing: Vec<_> = shares.into_iter().map(|share| tokio::spawn(share.write())).collect();
    let mut latencies = Latencies::default();
    for written in writing {
        let written = written.await.map_err(|panic| Failure::new(Exit::Failed, what(), panic))?;
        latencies.add(&written.with_context(what)?);
    }
    let elapsed = started.elapsed();
    let records = share * u64::from(bench.producers);
    Ok((Throughput { records, bytes: records * workload.size, elapsed }, latencies))
}

/// How records are sent.
#[derive(Clone, Copy)]
enum How {
    /// Without a pause.
    Plain,
    /// So many, until all of them are answered; then the next.
    Flushed(u64),
    /// So many in each.
    Transactions(u64),
    /// The same, beginning the next while the ones before are committed.
    InARow(u64),
}

/// What one producer writes.
struct Share {
    producer: Producer,
    topic: TopicProducer,
    payload: Arc<Payload>,
    records: u64,
    how: How,
}

impl Share {
    async fn write(self) -> Result<Latencies, ClientError> {
        let mut latencies = Latencies::default();
        let mut row = VecDeque::new();
        let mut number = 0;
        while number < self.records {
            let begun = Instant::now();
            let run = match self.how {
                How::Plain => PLAIN_RUN,
                How::Flushed(run) => run,
                How::Transactions(run) | How::InARow(run) => {
                    self.producer.begin_transaction().await?;
                    run
                }
            };
            let end = self.records.min(number + run);
            let now_ms = timestamp::now_ms();
            for number in number..end {
                let value = Some(self.payload.value(number));
                let record = Record { value, timestamp_ms: Some(now_ms), ..Record::default() };
                drop(send(&self.topic, record).await?);
            }
            match self.how {
                How::Plain => {}
                How::Flushed(_) => self.producer.flush().await?,
                How::Transactions(_) => {
                    self.producer.commit_transaction().await?;
                    latencies.record(begun.elapsed());
                }
                How::InARow(_) => {
                    row.push_back((begun, self.producer.start_commit().await?));
                    take_answered(&mut row, &mut latencies)?;
                }
            }
            number = end;
        }
        for (begun, committing) in row {
            committing.await?;
            latencies.record(begun.elapsed());
        }
        self.producer.flush().await?;
        let failed = self.producer.metrics().records_failed;
        self.producer.close(CLOSE_TIMEOUT).await?;
        match failed {
            0 => Ok(latencies),
            _ => Err(ClientError::IllegalState { what: format!("{failed} were not delivered") }),
        }
    }
}

/// Of commits that are answered, in order.
fn take_answered(
    row: &mut VecDeque<(Instant, Committing)>,
    latencies: &mut Latencies,
) -> Result<(), ClientError> {
    while let Some((begun, committing)) = row.front_mut() {
        let Some(committed) = committing.now_or_never() else { break };
        committed?;
        latencies.record(begun.elapsed());
        row.pop_front();
    }
    Ok(())
}

/// From begin to committed, of one record.
async fn one_at_a_time(
    client: &Client,
    topic: &str,
    bench: &BenchTransactions,
    transactions: u64,
) -> Result<Latencies, Failure> {
    let what = || format!("cannot produce to {topic}");
    let size = usize::try_from(bench.workload.size).map_err(Failure::usage)?;
    let payload = Payload::new(size, bench.workload.seed);
    // One record has no company to wait for.
    let settings = ProducerConfig { linger: Duration::ZERO, ..bench.settings.config() };
    let producer = transactional(client, &settings).await?;
    let handle = producer.topic(topic).await.with_context(what)?;
    let mut latencies = Latencies::default();
    for number in 0..transactions {
        let begun = Instant::now();
        producer.begin_transaction().await.with_context(what)?;
        drop(send(&handle, Record::value(payload.value(number))).await.with_context(what)?);
        producer.commit_transaction().await.with_context(what)?;
        latencies.record(begun.elapsed());
    }
    producer.close(CLOSE_TIMEOUT).await.with_context(what)?;
    Ok(latencies)
}
