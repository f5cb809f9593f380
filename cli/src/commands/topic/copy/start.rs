//! Where a copy begins: at the source's first records, or where one before it stopped.

use super::alignment::{Behind, Fingerprint};
use super::positions::{Position, Positions};
use super::route::Route;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::streams::notice;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use troupe_client::{Client, IsolationLevel, OffsetSpec, Partitions, ReaderConfig, Start};
use troupe_proto::batch::RecordRef;
use troupe_proto::ids::{Offset, PartitionId};

/// A request that a copy sent just before it was killed may still be on its way: so long the target must not have
/// grown before it is believed to stand still.
const SETTLED: Duration = Duration::from_millis(500);

/// The first and the end offsets of a topic's partitions.
struct Bounds {
    earliest: Vec<Offset>,
    latest: Vec<Offset>,
}

/// Where each partition begins, written down before anything is copied.
///
/// # Errors
/// The target holds what is not of this copy, unless `append` is content with that.
pub async fn start(
    route: &Route,
    positions: &Positions,
    append: bool,
) -> Result<BTreeMap<PartitionId, Position>, Failure> {
    let mut known = positions.read(route.partitions).await?;
    let source = bounds(&route.source, &route.from, route).await?;
    let target = settled(route, !known.is_empty()).await?;
    let mut starts = BTreeMap::new();
    for number in 0..route.partitions {
        let (partition, at) = (PartitionId(number), number as usize);
        let end = target.latest[at];
        let start = match known.remove(&partition) {
            None if end > target.earliest[at] && !append => {
                let (to, earliest) = (&route.to, target.earliest[at]);
                let cause = format!(
                    "partition {number} of {to} has records already, {earliest} to {end}, and nothing is known of a copy"
                );
                return Err(Failure::new(Exit::Refused, route.what(), cause)
                    .with_hint("--append copies behind them; or name another topic"));
            }
            None => Position { source: source.earliest[at], target: end },
            Some(known) => {
                let earliest = target.earliest[at];
                let resumed = resume(route, positions, partition, known, earliest..end, &source);
                Position {
                    source: resumed.await.or_else(|failure| accept(failure, append, known))?,
                    target: end,
                }
            }
        };
        starts.insert(partition, start);
    }
    skip_deleted(route, &mut starts, &source);
    positions.write(starts.iter().map(|(partition, start)| (*partition, *start))).await?;
    Ok(starts)
}

/// Whoever appends to records of somebody else has them again rather than not at all.
fn accept(failure: Failure, append: bool, known: Position) -> Result<Offset, Failure> {
    if append && failure.exit() == Exit::Refused { Ok(known.source) } else { Err(failure) }
}

/// What the source has deleted since cannot be copied any more.
fn skip_deleted(route: &Route, starts: &mut BTreeMap<PartitionId, Position>, source: &Bounds) {
    for (partition, start) in starts {
        let earliest = source.earliest[partition.0 as usize];
        if start.source < earliest {
            let (from, next) = (&route.from, start.source);
            notice!(
                "warning: {from} partition {partition}: offsets {next} to {earliest} were deleted before they were copied"
            );
            start.source = earliest;
        }
    }
}

/// Where the source is read on from, by what stands in the target behind the known position.
async fn resume(
    route: &Route,
    positions: &Positions,
    partition: PartitionId,
    known: Position,
    target: std::ops::Range<Offset>,
    source: &Bounds,
) -> Result<Offset, Failure> {
    let to = &route.to;
    if target.end < known.target {
        let cause = format!(
            "partition {partition} of {to} ends at {}, and the copy had come to {}: it was made anew, or has lost records",
            target.end, known.target
        );
        return Err(Failure::new(Exit::Refused, route.what(), cause).with_hint(positions.forget()));
    }
    if target.end == known.target {
        return Ok(known.source);
    }
    let from = known.target.max(target.start);
    let copied = read(route, &route.target, to, partition, from..target.end, usize::MAX).await?;
    let (earliest, latest) =
        (source.earliest[partition.0 as usize], source.latest[partition.0 as usize]);
    let appended = target.end.0 - known.target.0;
    let first = known.source.max(earliest);
    let wanted = usize::try_from(appended).unwrap_or(usize::MAX);
    let found = read(route, &route.source, &route.from, partition, first..latest, wanted).await?;
    let behind = Behind {
        appended,
        copied: copied.iter().map(|(_, fingerprint)| *fingerprint).collect(),
        available: latest.0.saturating_sub(known.source.0),
        source: found,
    };
    behind.resume(known.source).map_err(|foreign| {
        let offset = copied.get(foreign.index).map_or(known.target, |(offset, _)| *offset);
        let cause = format!(
            "the record at offset {offset} of partition {partition} of {to} is none of {}'s: somebody else writes there",
            route.from
        );
        Failure::new(Exit::Refused, route.what(), cause).with_hint(
            "--append goes on behind it, and copies again what came after the last position; or name another topic",
        )
    })
}

/// The records of a range of offsets, at the most so many.
async fn read(
    route: &Route,
    client: &Client,
    topic: &str,
    partition: PartitionId,
    offsets: std::ops::Range<Offset>,
    limit: usize,
) -> Result<Vec<(Offset, Fingerprint)>, Failure> {
    let mut found = Vec::new();
    if offsets.is_empty() || limit == 0 {
        return Ok(found);
    }
    let config = ReaderConfig {
        partitions: Partitions::Only(vec![partition]),
        start: Start::Offset(offsets.start),
        until_end: true,
        isolation_level: IsolationLevel::ReadCommitted,
        ..ReaderConfig::default()
    };
    let mut reader = client.reader(topic, config).await.with_context(|| route.what())?;
    while let Some(batch) = reader.next_batch().await {
        let batch = batch.with_context(|| route.what())?;
        for record in batch.iter() {
            let record = record.with_context(|| route.what())?;
            if record.offset >= offsets.end || found.len() >= limit {
                return Ok(found);
            }
            found.push((record.offset, fingerprint(&record, route.keeps_timestamps)));
        }
        if batch.header.end_offset() >= offsets.end {
            break;
        }
    }
    Ok(found)
}

/// Of all that is copied.
fn fingerprint(record: &RecordRef<'_>, with_timestamp: bool) -> Fingerprint {
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        (seed, record.key, record.value).hash(&mut hasher);
        with_timestamp.then_some(record.timestamp_ms).hash(&mut hasher);
        record.headers().for_each(|header| header.hash(&mut hasher));
        hasher.finish()
    };
    [half(0), half(1)]
}

async fn settled(route: &Route, resumes: bool) -> Result<Bounds, Failure> {
    let mut seen = bounds(&route.target, &route.to, route).await?;
    if !resumes {
        return Ok(seen);
    }
    loop {
        tokio::time::sleep(SETTLED).await;
        let now = bounds(&route.target, &route.to, route).await?;
        let stands = now.latest == seen.latest;
        seen = now;
        if stands {
            return Ok(seen);
        }
    }
}

async fn bounds(client: &Client, topic: &str, route: &Route) -> Result<Bounds, Failure> {
    let ask = async |spec| {
        let queries: Vec<_> =
            (0..route.partitions).map(|number| (PartitionId(number), spec)).collect();
        let listed = client.list_offsets(topic, &queries).await.with_context(|| route.what())?;
        Ok(listed.into_iter().map(|listed| listed.offset.unwrap_or_default()).collect())
    };
    Ok(Bounds {
        earliest: ask(OffsetSpec::Earliest).await?,
        latest: ask(OffsetSpec::Latest).await?,
    })
}
