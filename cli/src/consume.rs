//! `troupe consume`: records out, as bytes, by a format, as JSON, or readable on a terminal.
//!
//! Records are printed from where the batch stands in memory, into one large buffer that is written when
//! it is full or when nothing more is there at the moment.

mod ahead;
mod group;
mod plan;
mod printing;
mod sink;

use crate::failure::{Context, Exit, Failure};
use crate::format::{Printed, RecordFormat};
use crate::global::Global;
use crate::log_files::Decoder;
use crate::notice;
use crate::offsets::OffsetRange;
use crate::output::Format;
use crate::quantity::{Given, parse_given};
use crate::signals::Stop;
use crate::waiting::{Pending, Progress};
use clap::Args;
use futures::stream::{SelectAll, StreamExt};
use futures::{FutureExt, Stream};
use group::Membership;
use plan::Plan;
use sink::{Look, Sink};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use troupe_client::{ClientError, FetchedBatch, Partitions, ReaderConfig, Start};
use troupe_proto::ids::PartitionId;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe consume orders                          # what comes from now on\n  \
    troupe consume orders --from-beginning --until-end > orders.txt\n  \
    troupe consume orders --offset -10             # the last 10 of each partition, then what comes\n  \
    troupe consume orders --offset @-1h:end        # the last hour\n  \
    troupe consume orders -p 3 --offset 42 -n 1 -f '%v'\n  \
    troupe consume orders -f '%p:%o %k=%v\\n'\n  \
    troupe consume orders payments -g billing --from-beginning --show-assignment\n  \
    troupe consume --pattern 'orders-.*' -g audit --commit before\n  \
    troupe consume __consumer_offsets -e --decode offsets | jq .\n  \
    troupe consume orders --until-end -f '%K{big32}%V{big32}%k%v'   # exact bytes, for `produce -f`\n\
    Offsets: start, end, 42, +10, -10, ranges 42:50 :end -5:end, times @2026-01-31T12:00Z @-1h @-2h:-1h.\n\
    Formats: %v value, %k key, %t topic, %p partition, %o offset, %T timestamp in ms, %T{iso}, %h headers,\n\
    %h{%k=%v;} each header, %e leader epoch, %i count, %s or %V size, %K key size, %H number of headers;\n\
    {hex}, {base64}, {json} behind bytes, {big32}, {hex64}, … behind numbers; \\n \\t \\r \\0 \\xHH %%.")]
pub struct Consume {
    /// Topics
    #[arg(value_name = "TOPIC", required_unless_present = "pattern")]
    topics: Vec<String>,
    /// From the first record on [default: from now on]
    #[arg(short = 'b', long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Where to begin and, in a range, where to stop
    #[arg(long, value_name = "OFFSET")]
    offset: Option<OffsetRange>,
    /// Only these partitions; -1: all
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = parse_given::<u32>)]
    partitions: Vec<Given<u32>>,
    /// Stop after this many records; -1: never
    #[arg(short = 'n', long = "num", value_name = "N", visible_alias = "max-messages")]
    #[arg(value_parser = parse_given::<u64>)]
    max: Option<Given<u64>>,
    /// Stop where the partitions end at this moment; from the beginning unless --offset says otherwise. A member of
    /// a group that has no partitions waits until it is given some
    #[arg(short = 'e', long)]
    until_end: bool,
    /// How a record is printed [default: readable on a terminal, else the value and \n]
    #[arg(short, long)]
    format: Option<String>,
    /// What a null key or value is printed as
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    null: String,
    /// Each record as the JSON of what it says: of `__consumer_offsets`
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "format")]
    decode: Option<Decoder>,
    #[command(flatten)]
    membership: Membership,
}

pub async fn run(global: &Global, consume: Consume) -> Result<(), Failure> {
    let look = look(global, &consume)?;
    let mut stop = Stop::new()?;
    let client = global.connect().await?;
    if let Some(group) = &consume.membership.group {
        return group::run(global, &client, &consume, group, Sink::new(look), stop).await;
    }
    let range = match (consume.offset, consume.from_beginning || consume.until_end) {
        (Some(range), _) => range,
        (None, true) => OffsetRange::FROM_START,
        (None, false) => OffsetRange::FROM_END,
    };
    let partitions = consume.partitions();
    let mut plans = BTreeMap::new();
    for topic in &consume.topics {
        let plan = Plan::make(&client, topic, &partitions, range, consume.until_end);
        plans.insert(topic.clone(), plan.await?);
    }
    let sink = Sink::new(look);
    let progress = Progress::default();
    let mut run = Run { sink, plans, left: consume.most(), printed: 0, progress };
    if run.finished() {
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
        Err(signal) => Err(signal.failure()),
    };
    let flushed = run.sink.flush();
    if global.progress() && std::io::stdout().is_terminal() {
        notice!("{} records", run.printed);
    }
    outcome.and(flushed)
}

impl Consume {
    /// None: all of them.
    fn partitions(&self) -> Vec<u32> {
        let chosen: Option<Vec<u32>> = self.partitions.iter().map(|given| given.0).collect();
        chosen.unwrap_or_default()
    }

    /// How many records may be printed.
    fn most(&self) -> u64 {
        self.max.and_then(|max| max.0).unwrap_or(u64::MAX)
    }

    /// Nothing on the command line says where it ends.
    fn is_endless(&self) -> bool {
        self.most() == u64::MAX && !self.until_end
    }
}

fn reader_config(consume: &Consume, plan: &Plan) -> ReaderConfig {
    let follows_all = consume.partitions().is_empty() && plan.endless();
    ReaderConfig {
        partitions: match follows_all {
            true => Partitions::All,
            false => Partitions::Only(plan.starts.keys().copied().collect()),
        },
        start: Start::Each(plan.starts.clone()),
        ..ReaderConfig::default()
    }
}

fn look(global: &Global, consume: &Consume) -> Result<Look, Failure> {
    let null = consume.null.as_bytes();
    let format = |format: &str| match RecordFormat::parse(format, null) {
        Ok(compiled) => Ok(Look::Format(compiled)),
        Err(error) => Err(Failure::usage(format!("-f '{format}': {error}"))),
    };
    if let Some(decoder) = consume.decode {
        return Ok(Look::Decoded(decoder));
    }
    let terminal = std::io::stdout().is_terminal();
    match (&consume.format, global.chosen_format()) {
        (Some(_), Some(Format::Json | Format::Jsonl)) => {
            Err(Failure::usage("-f and -o json exclude each other"))
        }
        (Some(text), _) => format(text),
        (None, Some(Format::Json | Format::Jsonl)) => Ok(Look::Json),
        (None, Some(Format::Wide)) => Ok(Look::Readable { wide: true }),
        (None, Some(Format::Table)) => Ok(Look::Readable { wide: false }),
        (None, None) if terminal => Ok(Look::Readable { wide: false }),
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
        let until = self.plans.get(topic).and_then(|plan| plan.until(batch.partition));
        let PartitionId(partition) = batch.partition;
        for record in batch.iter() {
            let record = record.with_context(|| format!("cannot consume {topic}"))?;
            if self.left == 0 || until.is_some_and(|until| record.offset >= until) {
                break;
            }
            self.left -= 1;
            self.printed += 1;
            let header = &batch.header;
            self.sink.write(&Printed { topic, partition, header, record, count: self.printed })?;
        }
        Ok(())
    }
}
