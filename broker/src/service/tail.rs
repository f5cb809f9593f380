//! Tail: records of one topic, without a group, merged from its partitions as they come, wherever they are led.

use super::delivery::{self, SliceRecords};
use super::shutting_down;
use crate::context::Context;
use crate::forward::{Slice, Target, TopicReader, find_offset};
use crate::partition::OffsetQuery;
use crate::registry::TopicEntry;
use futures::future::try_join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use troupe_proto::batch::Record;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::v1 as pb;

/// Records of one answer; generated clients refuse answers over 4 MiB.
const ANSWER_BYTES: usize = 1 << 20;

/// Where one partition is read from, and where it ends.
pub(super) struct Position {
    target: Target,
    next: Offset,
    end: Option<Offset>,
    /// There was more to read when the call began.
    behind: bool,
}

pub(super) async fn positions(
    context: &Context,
    topic: &TopicEntry,
    request: &pb::TailRequest,
    deadline: Instant,
) -> Result<Vec<Position>, Error> {
    if request.max_records < 0 {
        let message = format!("max_records {} is negative", request.max_records);
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    let numbers = match request.partition {
        Some(partition) => vec![partition],
        None => (0..).take(topic.partitions.len()).collect(),
    };
    let positions = numbers.into_iter().map(async |number| {
        let (key, _) = topic.partition(number)?;
        let find =
            Find { context, target: Target { topic: Arc::clone(&topic.name), key }, deadline };
        let latest = find.at(OffsetQuery::Latest).await?.unwrap_or_default();
        let next = find.start(request.start.as_ref(), latest).await?;
        let end = request.until_end.then_some(latest);
        Ok(Position { target: find.target, next, end, behind: next < latest })
    });
    try_join_all(positions).await
}

/// Offsets of one partition.
struct Find<'a> {
    context: &'a Context,
    target: Target,
    deadline: Instant,
}

impl Find<'_> {
    async fn at(&self, at: OffsetQuery) -> Result<Option<Offset>, Error> {
        Ok(find_offset(self.context, &self.target, at, self.deadline).await?.offset)
    }

    async fn start(
        &self,
        position: Option<&pb::StartPosition>,
        latest: Offset,
    ) -> Result<Offset, Error> {
        use pb::start_position::At;
        match position.and_then(|position| position.at.as_ref()) {
            None | Some(At::Latest(_)) => Ok(latest),
            Some(At::Earliest(_)) => Ok(self.at(OffsetQuery::Earliest).await?.unwrap_or_default()),
            Some(At::TimestampMs(time)) => {
                Ok(self.at(OffsetQuery::Timestamp(*time)).await?.unwrap_or(latest))
            }
            Some(At::Offset(offset)) => {
                let earliest = self.at(OffsetQuery::Earliest).await?.unwrap_or_default();
                Offset::from_wire(*offset)
                    .filter(|offset| (earliest..=latest).contains(offset))
                    .ok_or_else(|| {
                        let message = format!(
                            "offset {offset} is not in partition {}: it holds {earliest} to {latest}",
                            self.target.number()
                        );
                        Error::new(ErrorCode::OffsetOutOfRange, message)
                            .with("earliest", earliest)
                            .with("latest", latest)
                    })
            }
        }
    }
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
    let mut behind: BTreeSet<i32> = positions
        .iter()
        .filter(|position| position.behind)
        .map(|position| position.target.number())
        .collect();
    if behind.is_empty() && answers.caught_up().await.is_err() {
        return;
    }
    let mut reader = TopicReader::new(Arc::clone(&context));
    for Position { target, next, end, .. } in positions {
        reader.add(target, next, end);
    }
    loop {
        let slice = tokio::select! {
            slice = reader.next() => slice.map_err(|failed| *failed.error),
            () = out.closed() => return,
            () = context.shutdown.cancelled() => Err(shutting_down()),
        };
        let sent = match slice {
            Ok(Some(slice)) => {
                let catches_up =
                    slice.next >= slice.high_watermark && behind.remove(&slice.target.number());
                match answers.add(slice).await {
                    Ok(()) if catches_up && behind.is_empty() => answers.caught_up().await,
                    sent => sent,
                }
            }
            Ok(None) => Err(Done),
            Err(error) => {
                // The stream is over either way.
                let _ = out.send(Err(error.into())).await;
                Err(Done)
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

impl Answers {
    async fn add(&mut self, slice: Slice) -> Result<(), Done> {
        let partition = slice.target.number();
        for record in SliceRecords::new(slice) {
            match record {
                Ok(record) => self.push(partition, record).await?,
                Err(error) => {
                    // The stream is over either way.
                    let _ = self.out.send(Err(error.into())).await;
                    return Err(Done);
                }
            }
        }
        self.flush(false).await
    }

    async fn push(&mut self, partition: i32, record: Record) -> Result<(), Done> {
        let delivery = delivery::delivery(self.topic.clone(), partition, record);
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
}
