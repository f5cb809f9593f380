//! Tail: records of one topic, without a group, merged from its partitions as they come.

use super::shutting_down;
use crate::context::Context;
use crate::page_cache;
use crate::partition::{OffsetQuery, PartitionHandle, ReadAnswer};
use crate::registry::TopicEntry;
use futures::StreamExt;
use futures::stream::{SelectAll, unfold};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;
use troupe_proto::batch::{Batches, Limits, RecordSet};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::v1 as pb;

/// Records of one answer; generated clients refuse answers over 4 MiB.
const ANSWER_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 1 << 20;

/// Where one partition is read from, and where it ends.
pub(super) struct Position {
    handle: Arc<PartitionHandle>,
    next: Offset,
    end: Option<Offset>,
    /// There was more to read ever since the call began.
    behind: bool,
}

pub(super) async fn positions(
    topic: &TopicEntry,
    request: &pb::TailRequest,
) -> Result<Vec<Position>, Error> {
    if request.max_records < 0 {
        let message = format!("max_records {} is negative", request.max_records);
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    let handles = match request.partition {
        Some(partition) => topic.partition(partition)?.1.into_iter().cloned().collect(),
        None => topic.replicas().cloned().collect::<Vec<_>>(),
    };
    let mut positions = Vec::with_capacity(handles.len());
    for handle in handles {
        let latest = offset_at(&handle, OffsetQuery::Latest).await?.unwrap_or_default();
        let next = start(&handle, request.start.as_ref(), latest).await?;
        let end = request.until_end.then_some(latest);
        positions.push(Position { handle, next, end, behind: next < latest });
    }
    Ok(positions)
}

async fn offset_at(handle: &PartitionHandle, at: OffsetQuery) -> Result<Option<Offset>, Error> {
    Ok(handle.find_offset(at).await?.offset)
}

async fn start(
    handle: &PartitionHandle,
    position: Option<&pb::StartPosition>,
    latest: Offset,
) -> Result<Offset, Error> {
    use pb::start_position::At;
    match position.and_then(|position| position.at.as_ref()) {
        None | Some(At::Latest(_)) => Ok(latest),
        Some(At::Earliest(_)) => {
            Ok(offset_at(handle, OffsetQuery::Earliest).await?.unwrap_or_default())
        }
        Some(At::TimestampMs(time)) => {
            Ok(offset_at(handle, OffsetQuery::Timestamp(*time)).await?.unwrap_or(latest))
        }
        Some(At::Offset(offset)) => {
            let earliest = offset_at(handle, OffsetQuery::Earliest).await?.unwrap_or_default();
            Offset::from_wire(*offset)
                .filter(|offset| (earliest..=latest).contains(offset))
                .ok_or_else(|| {
                    let message = format!(
                        "offset {offset} is not in partition {}: it holds {earliest} to {latest}",
                        handle.key().partition
                    );
                    Error::new(ErrorCode::OffsetOutOfRange, message)
                        .with("earliest", earliest)
                        .with("latest", latest)
                })
        }
    }
}

impl Position {
    fn at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// The next slice, when there is one; nothing after the end or an error.
    async fn advance(mut self) -> Option<(Result<Slice, Error>, Option<Self>)> {
        if self.at_end() {
            return None;
        }
        loop {
            self.handle.readable(self.next).await;
            let read = match self.handle.read(self.next, READ_BYTES, None).await {
                Ok(read) if read.bytes.is_empty() => continue,
                Ok(read) => read,
                Err(error) => return Some((Err(error), None)),
            };
            page_cache::make_resident(&read.bytes).await;
            let catches_up = self.behind && read.next >= read.high_watermark;
            let (handle, from, end) = (Arc::clone(&self.handle), self.next, self.end);
            let slice = Slice { handle, from, end, read, catches_up };
            self.next = slice.read.next;
            self.behind &= !catches_up;
            return Some((Ok(slice), Some(self)));
        }
    }
}

struct Slice {
    handle: Arc<PartitionHandle>,
    from: Offset,
    end: Option<Offset>,
    read: ReadAnswer,
    /// The first after which the partition has nothing more to read.
    catches_up: bool,
}

/// The client went away, or has all it asked for.
struct Done;

type Out = mpsc::Sender<Result<pb::TailResponse, Status>>;

/// Answers under way to one client.
struct Answers {
    topic: String,
    out: Out,
    filling: Vec<pb::Delivery>,
    bytes: usize,
    /// Records that may still be sent.
    left: Option<u64>,
}

pub(super) async fn run(
    context: Arc<Context>,
    topic: Arc<TopicEntry>,
    request: pb::TailRequest,
    positions: Vec<Position>,
    out: Out,
) {
    let left = (request.max_records > 0).then_some(request.max_records.unsigned_abs());
    let mut answers = Answers {
        topic: topic.name.to_string(),
        out: out.clone(),
        filling: Vec::new(),
        bytes: 0,
        left,
    };
    let mut behind = positions.iter().filter(|position| position.behind).count();
    if behind == 0 && answers.caught_up().await.is_err() {
        return;
    }
    let mut slices: SelectAll<_> = positions
        .into_iter()
        .map(|position| {
            Box::pin(unfold(Some(position), |position| async { position?.advance().await }))
        })
        .collect();
    loop {
        let slice = tokio::select! {
            slice = slices.next() => slice,
            () = out.closed() => return,
            () = context.shutdown.cancelled() => Some(Err(shutting_down())),
        };
        let sent = match slice {
            Some(Ok(slice)) => {
                let catches_up = slice.catches_up;
                let sent = answers.add(slice).await;
                if sent.is_ok() && catches_up {
                    behind -= 1;
                    if behind == 0 { answers.caught_up().await } else { sent }
                } else {
                    sent
                }
            }
            Some(Err(error)) => {
                // The stream is over either way.
                let _ = out.send(Err(error.into())).await;
                Err(Done)
            }
            None => Err(Done),
        };
        if sent.is_err() {
            return;
        }
    }
}

impl Answers {
    async fn add(&mut self, slice: Slice) -> Result<(), Done> {
        let partition = i32::try_from(slice.handle.key().partition.0).unwrap_or(i32::MAX);
        for batch in Batches::verified(slice.read.bytes, slice.handle.key()) {
            let records = batch.and_then(|(header, payload)| {
                RecordSet::decode(&header, payload, Limits::default())
            });
            let records = match records {
                Ok(records) => records,
                Err(error) => return self.corrupt(error).await,
            };
            for record in records.records() {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => return self.corrupt(error).await,
                };
                if record.offset < slice.from || slice.end.is_some_and(|end| record.offset >= end) {
                    continue;
                }
                self.push(partition, record).await?;
            }
        }
        self.flush(false).await
    }

    async fn push(
        &mut self,
        partition: i32,
        record: troupe_proto::batch::Record,
    ) -> Result<(), Done> {
        let headers = record.headers.into_iter().map(|(key, value)| pb::Header { key, value });
        let delivery = pb::Delivery {
            topic: self.topic.clone(),
            partition,
            offset: record.offset.to_wire(),
            record: Some(pb::Record {
                key: record.key,
                value: record.value,
                headers: headers.collect(),
                timestamp_ms: Some(record.timestamp_ms),
                partition: None,
            }),
        };
        let len = prost::Message::encoded_len(&delivery);
        if self.bytes > 0 && self.bytes + len > ANSWER_BYTES {
            self.flush(false).await?;
        }
        self.bytes += len;
        self.filling.push(delivery);
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.flush(false).await?;
                return Err(Done);
            }
        }
        Ok(())
    }

    async fn caught_up(&mut self) -> Result<(), Done> {
        self.flush(true).await
    }

    async fn flush(&mut self, caught_up: bool) -> Result<(), Done> {
        if self.filling.is_empty() && !caught_up {
            return Ok(());
        }
        self.bytes = 0;
        let deliveries = std::mem::take(&mut self.filling);
        self.out.send(Ok(pb::TailResponse { deliveries, caught_up })).await.map_err(|_| Done)
    }

    async fn corrupt(&mut self, error: troupe_proto::batch::BatchError) -> Result<(), Done> {
        let error = Error::new(ErrorCode::CorruptLog, format!("stored data is damaged: {error}"));
        // The stream is over either way.
        let _ = self.out.send(Err(error.into())).await;
        Err(Done)
    }
}
