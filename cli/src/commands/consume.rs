//! `troupe consume`: records out, as bytes, by a format, as JSON, or readable on a terminal.
//!
//! Records are printed from where the batch stands in memory, into one large buffer that is written when
//! it is full or when nothing more is there at the moment.

mod arguments;
mod assignment;
mod group;
mod membership;
mod plan;
mod printing;
mod sink;
mod uncommitted;

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::offset_range::OffsetRange;
use crate::output::Format;
use crate::quantity::plural;
use crate::record_format::{Printed, RecordFormat};
use crate::signals::Stop;
use crate::streams::notice;
use crate::waiting::{Pending, Progress};
pub use arguments::Consume;
use futures::stream::{SelectAll, StreamExt};
use futures::{FutureExt, Stream};
use plan::{Plan, Wanted};
use sink::{RecordStyle, Sink};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use troupe_client::{ClientError, FetchedBatch, Partitions, ReaderConfig, Start};
use troupe_proto::ids::{Offset, PartitionId};

pub async fn run(global: &Global, consume: Consume) -> Result<(), Failure> {
    let style = record_style(global, &consume)?;
    let mut stop = Stop::new()?;
    let client = global.connect().await?;
    if let Some(group) = &consume.membership.group {
        return group::run(global, &client, &consume, group, Sink::new(style), stop).await;
    }
    let range = match (consume.offset, consume.from_beginning || consume.until_end) {
        (Some(range), _) => range,
        (None, true) => OffsetRange::FROM_START,
        (None, false) => OffsetRange::FROM_END,
    };
    let partitions = consume.partitions();
    let mut plans = BTreeMap::new();
    for topic in &consume.topics {
        let wanted = Wanted {
            partitions: &partitions,
            range,
            until_end: consume.until_end,
            wait: consume.wait,
            isolation: consume.isolation(),
        };
        let plan = Plan::make(&client, topic, wanted).await?;
        plan.notes.iter().for_each(|note| notice!("note: {note}"));
        plans.insert(topic.clone(), plan);
    }
    let sink = Sink::new(style);
    let progress = Progress::default();
    let mut run = Run { sink, plans, left: consume.most(), printed: 0, progress };
    if run.finished() {
        let is_told = run.plans.values().any(|plan| !plan.notes.is_empty());
        if consume.offset.is_some() && consume.most() > 0 && !is_told {
            notice!("note: there is no record in this range");
        }
        return run.sink.flush();
    }
    let mut batches = SelectAll::new();
    for (topic, plan) in run.plans.iter().filter(|(_, plan)| !plan.finished()) {
        let reader = client.reader(topic, reader_config(&consume, plan)).await;
        batches.push(reader.with_context(|| format!("cannot consume {topic}"))?.batches());
    }
    let named = consume.topics.join(", ");
    let (progress, of) = (run.progress.clone(), named.clone());
    let _watched = global.waiting().until_progress(move || {
        let what = format!("records of {of}");
        Some(Pending { what, progress: progress.get(), may_idle: true })
    });
    let outcome = match stop.or(run.read(&mut batches, &named)).await {
        Ok(outcome) => outcome,
        // A signal is how it ends that has no end; what has one is not done.
        Err(_) if consume.is_endless() && run.plans.values().all(Plan::endless) => Ok(()),
        Err(signal) => Err(Failure::interrupted(signal)),
    };
    let flushed = run.sink.flush();
    if global.progress() && std::io::stdout().is_terminal() {
        notice!("{}", plural(run.printed, "record"));
    }
    outcome.and(flushed)
}

fn reader_config(consume: &Consume, plan: &Plan) -> ReaderConfig {
    let follows_all = consume.partitions().is_empty() && plan.endless();
    ReaderConfig {
        partitions: match follows_all {
            true => Partitions::All,
            false => Partitions::Only(plan.starts.keys().copied().collect()),
        },
        start: Start::Each(plan.starts.clone()),
        // Not only for its plan to say: behind the last record there may be what is for nobody.
        ends: plan.ends.clone(),
        isolation_level: consume.isolation(),
        client_rack: consume.rack.clone(),
        ..ReaderConfig::default()
    }
}

fn record_style(global: &Global, consume: &Consume) -> Result<RecordStyle, Failure> {
    let null = consume.null.as_bytes();
    let format = |format: &str| match RecordFormat::parse(format, null) {
        Ok(compiled) => Ok(RecordStyle::Format(compiled)),
        Err(error) => Err(Failure::usage(format!("-f '{format}': {error}"))),
    };
    if let Some(decoder) = consume.decode {
        return Ok(RecordStyle::Decoded(decoder));
    }
    let terminal = std::io::stdout().is_terminal();
    match (&consume.format, global.chosen_format()) {
        (Some(_), Some(Format::Json | Format::Jsonl)) => {
            Err(Failure::usage("-f and -o json exclude each other"))
        }
        (Some(text), _) => format(text),
        (None, Some(Format::Json | Format::Jsonl)) => Ok(RecordStyle::Json),
        (None, Some(Format::Wide)) => Ok(RecordStyle::Readable { wide: true }),
        (None, Some(Format::Table)) => Ok(RecordStyle::Readable { wide: false }),
        (None, None) if terminal => Ok(RecordStyle::Readable { wide: false }),
        (None, None) => format("%v\\n"),
    }
}

struct Run {
    sink: Sink,
    /// By topic.
    plans: BTreeMap<String, Plan>,
    /// How many records may still be printed.
    left: u64,
    printed: u64,
    progress: Progress,
}

impl Run {
    fn finished(&self) -> bool {
        self.left == 0 || self.plans.values().all(Plan::finished)
    }

    /// Until everything that was asked for is printed.
    async fn read<B>(&mut self, batches: &mut B, topics: &str) -> Result<(), Failure>
    where
        B: Stream<Item = Result<FetchedBatch, ClientError>> + Unpin,
    {
        while !self.finished() {
            let next = match batches.next().now_or_never() {
                Some(next) => next,
                None => {
                    // Nothing is there at the moment: whoever reads our output shall see what was.
                    self.sink.flush()?;
                    batches.next().await
                }
            };
            let Some(batch) = next else {
                if self.plans.values().all(|plan| !plan.endless()) {
                    return Ok(());
                }
                return Err(Failure::new(Exit::Failed, "", "the stream ended before its time"));
            };
            let batch = batch.with_context(|| format!("cannot consume {topics}"))?;
            self.print(&batch)?;
            self.progress.set(self.printed);
            if let Some(plan) = self.plans.get_mut(batch.topic()) {
                plan.read(batch.partition, batch.header.end_offset());
            }
        }
        Ok(())
    }

    fn print(&mut self, batch: &FetchedBatch) -> Result<(), Failure> {
        let topic = batch.topic();
        let plan = self.plans.get(topic);
        let until = plan.and_then(|plan| plan.until(batch.partition));
        let from = plan.map_or(Offset::ZERO, |plan| plan.wanted_from(batch.partition));
        let PartitionId(partition) = batch.partition;
        for record in batch.iter() {
            let record = record.with_context(|| format!("cannot consume {topic}"))?;
            if self.left == 0 || until.is_some_and(|until| record.offset >= until) {
                break;
            }
            if record.offset < from {
                continue;
            }
            self.left -= 1;
            self.printed += 1;
            let header = &batch.header;
            self.sink.write(&Printed { topic, partition, header, record, count: self.printed })?;
        }
        Ok(())
    }
}
