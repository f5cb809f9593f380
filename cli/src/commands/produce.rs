//! `troupe produce`: bytes in, records out, exactly as they came.
//!
//! A thread reads blocks, the main thread cuts them into records and hands each to the producer by
//! reference; nothing is allocated for a record. Deliveries are settled in order, so a failure names the
//! first record it hit, and how many others surely were not written or may have been.

mod arguments;
mod deliveries;
mod input;
mod report;
mod template;
mod transactions;

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::pace::Pace;
use crate::producer::send;
use crate::quantity::plural;
use crate::record_format::{HeaderRef, Input};
use crate::signals::Signals;
use crate::timestamp;
use crate::waiting::Pending;
pub use arguments::Produce;
use deliveries::Deliveries;
use input::{Block, Blocks};
use report::Report;
use std::time::Duration;
use template::{Framing, Template};
use tokio::time::sleep_until;
use transactions::Transactions;
use troupe_client::{Client, Producer, Record, TopicProducer};
use troupe_proto::ids::PartitionId;

/// Everything is answered before the producer is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub async fn run(global: &Global, produce: Produce) -> Result<(), Failure> {
    let what = || format!("cannot produce to {}", produce.topic);
    // Everything on the command line is checked before the first byte is read.
    let template = Template::new(&produce)?;
    let mut signals = Signals::new()?;
    let client = global.connect().await?;
    check_partition(&client, &produce).await?;
    let producer = client.producer(produce.config()).await.with_context(what)?;
    let topic = producer.topic(&produce.topic).await.with_context(what)?;
    let blocks = Blocks::read(produce.files).await?;
    let transactions = match produce.transactional_id {
        Some(_) => Some(Transactions::start(&producer, produce.transaction_size.max(1)).await?),
        None => None,
    };

    let mut pump = Pump {
        topic,
        template,
        report: Report::new(global, &produce.topic, &blocks),
        deliveries: Deliveries::default(),
        blocks,
        pending: Vec::new(),
        pace: produce.rate.filter(|rate| *rate > 0).map(Pace::new),
        transactions,
        failure: None,
    };
    let progress = pump.deliveries.progress();
    let _watched = global.waiting().until_progress(move || {
        let [sent, answered] = progress.sent_and_answered();
        let what = format!("{} to be acknowledged", plural(sent - answered, "record"));
        (sent > answered).then(|| Pending { what, progress: sent + answered, may_idle: false })
    });
    let mut interrupted = None;
    let pumped = tokio::select! {
        pumped = pump.run() => pumped,
        signal = signals.next() => {
            interrupted = Some(signal);
            Ok(())
        }
    };
    // What was read is delivered or given up, whatever ended the reading.
    let is_whole = pumped.is_ok() && interrupted.is_none();
    tokio::select! {
        () = pump.finish(&producer, is_whole) => {}
        signal = signals.next() => interrupted = Some(signal),
    }
    let Pump { mut report, deliveries, transactions, failure, .. } = pump;
    report.finish(global, &deliveries, transactions.map(|it| it.committed))?;
    if let Some((number, error)) = deliveries.first_failure() {
        let mut failure = Failure::client(format!("{}: record {number}", what()), error);
        if deliveries.unknown > 0 {
            let topic = &produce.topic;
            failure = failure.with_hint(format!(
                "`troupe consume {topic} --offset -10` shows what was written last"
            ));
        }
        return Err(failure.with_note(&deliveries.show()));
    }
    pumped?;
    if let Some(failure) = failure {
        return Err(failure.with_note(&deliveries.show()));
    }
    if let Some(signal) = interrupted {
        let note = format!("interrupted; {}", deliveries.show());
        return Err(Failure::new(signal.exit(), what(), note));
    }
    Ok(())
}

/// A topic or partition that is not there, and is not created by use, is told at once, not when a timeout has passed.
async fn check_partition(client: &Client, produce: &Produce) -> Result<(), Failure> {
    let what = || format!("cannot produce to {}", produce.topic);
    let metadata = client.topic_or_create(&produce.topic).await.with_context(what)?;
    match produce.partition() {
        Some(partition) if partition as usize >= metadata.partitions.len() => {
            let count = metadata.partitions.len();
            let cause =
                format!("there is no partition {partition}; the topic has 0 to {}", count - 1);
            Err(Failure::new(Exit::NotFound, what(), cause))
        }
        _ => Ok(()),
    }
}

/// Moves records from the input to the producer.
struct Pump {
    topic: TopicProducer,
    template: Template,
    report: Report,
    deliveries: Deliveries,
    blocks: Blocks,
    /// The record that the last block began.
    pending: Vec<u8>,
    pace: Option<Pace>,
    transactions: Option<Transactions>,
    /// Of a transaction.
    failure: Option<Failure>,
}

impl Pump {
    /// Until the input ends or a record fails. Dropping the future between two records is fine: what was
    /// sent is in `deliveries`.
    async fn run(&mut self) -> Result<(), Failure> {
        while !self.failed() {
            let due = self.transactions.as_ref().and_then(Transactions::due);
            tokio::select! {
                biased;
                () = async { sleep_until(due.expect("only with a time").into()).await },
                    if due.is_some() => self.commit().await,
                block = self.blocks.next() => match block {
                    None => return Ok(()),
                    Some(block) => self.block(block.with_context(|| "cannot read the input".to_owned())?).await?,
                },
                // On a slow input, this is how a failure is seen before the next line is typed.
                () = self.deliveries.settle_one() => {}
            }
            self.deliveries.settle_ready();
            self.report.progress(&self.deliveries);
        }
        Ok(())
    }

    fn failed(&self) -> bool {
        self.failure.is_some() || self.deliveries.failed()
    }

    async fn commit(&mut self) {
        if let Some(transactions) = &mut self.transactions
            && let Err(failure) = transactions.commit().await
        {
            self.failure = Some(failure);
        }
    }

    async fn block(&mut self, block: Block) -> Result<(), Failure> {
        let now = timestamp::now_ms();
        let pending = std::mem::take(&mut self.pending);
        match block {
            Block::Bytes(bytes) => match &self.template.framing {
                Framing::Lines => self.lines(pending, &bytes, now).await?,
                Framing::Format(_) => self.records(pending, &bytes, false, now).await?,
            },
            Block::EndOfFile if pending.is_empty() => {}
            Block::EndOfFile => match &self.template.framing {
                Framing::Lines => self.send(&Line::value(&pending), now).await,
                Framing::Format(_) => self.records(pending, &[], true, now).await?,
            },
        }
        Ok(())
    }

    async fn lines(&mut self, mut pending: Vec<u8>, bytes: &[u8], now: i64) -> Result<(), Failure> {
        let mut start = 0;
        if !pending.is_empty() {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                pending.extend_from_slice(bytes);
                self.pending = pending;
                return Ok(());
            };
            pending.extend_from_slice(&bytes[..end]);
            self.report.bytes_sent += pending.len() as u64 + 1;
            self.send(&Line::value(&pending), now).await;
            if self.failed() {
                return Ok(());
            }
            start = end + 1;
        }
        let rest = start;
        for end in memchr::memchr_iter(b'\n', &bytes[rest..]).map(|at| rest + at) {
            let line = &bytes[start..end];
            start = end + 1;
            self.report.bytes_sent += line.len() as u64 + 1;
            self.send(&Line::value(line), now).await;
            if self.failed() {
                return Ok(());
            }
        }
        self.pending = bytes[start..].to_vec();
        Ok(())
    }

    async fn records(
        &mut self,
        mut pending: Vec<u8>,
        bytes: &[u8],
        last: bool,
        now: i64,
    ) -> Result<(), Failure> {
        pending.extend_from_slice(bytes);
        let mut at = 0;
        while at < pending.len() && !self.failed() {
            let Framing::Format(format) = &self.template.framing else {
                unreachable!("only called for a format");
            };
            match format.read(&pending[at..], last) {
                Ok(Input::Record(record, used)) => {
                    at += used;
                    self.report.bytes_sent += used as u64;
                    let line = Line {
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        headers: &record.headers,
                        partition: record.partition.map(PartitionId),
                        timestamp_ms: record.timestamp_ms,
                    };
                    self.send(&line, now).await;
                }
                Ok(Input::More) => break,
                Err(error) => {
                    let number = self.deliveries.sent() + 1;
                    let cause = format!("record {number} cannot be read: {error}");
                    return Err(Failure::new(Exit::Failed, "", cause).with_note(
                        &match number - 1 {
                            0 => "nothing was sent".to_owned(),
                            1 => "the one before it was sent".to_owned(),
                            sent => format!("the {sent} before it were sent"),
                        },
                    ));
                }
            }
        }
        pending.drain(..at);
        self.pending = pending;
        Ok(())
    }

    async fn send(&mut self, line: &Line<'_>, mut now: i64) {
        if let Some(pause) = self.pace.as_mut().and_then(Pace::next) {
            self.deliveries.settle_ready();
            self.report.progress(&self.deliveries);
            tokio::time::sleep(pause).await;
        }
        if self.pace.is_some() {
            now = timestamp::now_ms();
        }
        let template = &self.template;
        let mut headers = Vec::new();
        if !(template.headers.is_empty() && line.headers.is_empty()) {
            headers.extend(template.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())));
            headers.extend_from_slice(line.headers);
        }
        let record = Record {
            key: line.key.or(template.key.as_deref()),
            value: line.value,
            headers: &headers,
            partition: line.partition.or(template.partition),
            timestamp_ms: Some(line.timestamp_ms.unwrap_or(now)),
        };
        self.report.value_bytes += line.value.map_or(0, <[u8]>::len) as u64;
        if let Some(transactions) = &mut self.transactions
            && let Err(failure) = transactions.begin().await
        {
            self.failure = Some(failure);
            return;
        }
        let sent = send(&self.topic, record).await;
        self.deliveries.push(sent);
        if let Some(transactions) = &mut self.transactions
            && let Err(failure) = transactions.commit_if_full().await
        {
            self.failure = Some(failure);
        }
    }

    /// Waits until every record that was sent is answered. `is_whole`: all that was to be sent was.
    async fn finish(&mut self, producer: &Producer, is_whole: bool) {
        let is_whole = is_whole && !self.failed();
        if let Some(transactions) = &mut self.transactions
            && let Err(failure) = transactions.finish(is_whole).await
        {
            self.failure.get_or_insert(failure);
        }
        // The deliveries say how it went.
        let _ = producer.flush().await;
        while self.deliveries.waiting() {
            self.deliveries.settle_one().await;
            self.report.progress(&self.deliveries);
        }
        // Without answers, a record counts as delivered when it is handed to the connection: this waits until
        // the connection has sent it.
        let _ = producer.close(CLOSE_TIMEOUT).await;
    }
}

/// What the input says of one record.
struct Line<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [HeaderRef<'a>],
    partition: Option<PartitionId>,
    timestamp_ms: Option<i64>,
}

impl<'a> Line<'a> {
    fn value(value: &'a [u8]) -> Line<'a> {
        Line { key: None, value: Some(value), headers: &[], partition: None, timestamp_ms: None }
    }
}
