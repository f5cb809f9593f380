//! Tail: records of one topic, without a group, merged from its partitions as they come, wherever they are led.

use super::delivery::{
    AnswerWriter, At, Choice, Found, Lost, Pace, REST_BYTES, SliceCursor, Space, Step, Takes,
    delivery_len, too_large,
};
use super::event_bus::known_topic;
use crate::context::Context;
use crate::forward::{Failed, Slice, Start, Target, TopicReader, deadline_of, find_offset};
use crate::grpc::{DemandSender, Gone};
use crate::partition::OffsetQuery;
use crate::registry::TopicEntry;
use crate::shutdown::shutting_down;
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};
use troupe_proto::v1 as pb;

/// Where one partition is read from, and where it ends.
struct Position {
    target: Target,
    start: Start,
    end: Option<Offset>,
    /// There was more to read when the call began.
    behind: bool,
}

async fn positions(
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
        let found =
            find_offset(&context.leaders, &find.target, OffsetQuery::Latest, deadline).await?;
        let latest = found.offset.unwrap_or_default();
        let next = find.start(request.start.as_ref(), latest).await?;
        // Nobody has read anything before it; the log ended there in that epoch.
        let after = (next == latest).then_some(found.leader_epoch);
        let end = request.until_end.then_some(latest);
        let start = Start { next, after };
        Ok(Position { target: find.target, start, end, behind: next < latest })
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
        Ok(find_offset(&self.context.leaders, &self.target, at, self.deadline).await?.offset)
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

/// What a call asked for, and where that is.
pub(super) struct Tail {
    positions: Vec<Position>,
    /// Records that may still be sent.
    left: Option<u64>,
    takes: Takes,
}

/// Finds where to begin.
///
/// # Errors
/// What the call is refused with.
pub(super) async fn begin(
    context: &Context,
    request: pb::TailRequest,
    metadata: &MetadataMap,
) -> Result<Tail, Error> {
    let deadline = deadline_of(metadata);
    let takes = Takes::parse(request.max_message_bytes, request.skip_too_large)?;
    let topic = known_topic(context, &request.topic).await?;
    let positions = positions(context, &topic, &request, deadline).await?;
    let left = (request.max_records > 0).then_some(request.max_records.unsigned_abs());
    Ok(Tail { positions, left, takes })
}

impl Tail {
    pub async fn run(self, context: Arc<Context>, out: DemandSender) {
        let _open = context.delivery.open();
        let mut reading = Reading::new(&context, self);
        let ended = tokio::select! {
            ended = reading.run(&out) => ended,
            () = context.shutdown.cancelled() => Err(shutting_down()),
            () = out.closed() => return,
        };
        if let Err(error) = ended {
            out.end(error.into()).await;
        }
    }
}

/// A slice that is being sent.
struct Sending {
    target: Target,
    cursor: SliceCursor,
    /// Behind it there is nothing more for now.
    is_last: bool,
}

struct Reading {
    context: Arc<Context>,
    reader: TopicReader,
    sending: Option<Sending>,
    /// Partitions of which there was more when the call began than has been sent.
    behind: BTreeSet<i32>,
    /// Where each partition is read no further, if it is not read on and on.
    ends: BTreeMap<PartitionKey, Offset>,
    left: Option<u64>,
    takes: Takes,
    /// The first record that the client does not take, of those at which a partition is read no further.
    blocked: Option<pb::Notice>,
}

/// One answer that is being filled.
struct Draft {
    writer: AnswerWriter,
    space: Space,
    rest: pb::TailResponse,
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.writer.deliveries() == 0 && self.rest == pb::TailResponse::default()
    }
}

/// What became of a record.
enum Sent {
    Added,
    /// Not in this answer.
    Full,
    TooLarge(Box<pb::Notice>),
}

/// Whether more can follow.
#[derive(PartialEq, Eq)]
enum More {
    Yes,
    No,
}

impl Reading {
    fn new(context: &Arc<Context>, tail: Tail) -> Reading {
        let mut reader = TopicReader::new(Arc::clone(&context.leaders));
        let (mut behind, mut ends) = (BTreeSet::new(), BTreeMap::new());
        for Position { target, start, end, behind: is_behind } in tail.positions {
            if is_behind {
                behind.insert(target.number());
            }
            ends.extend(end.map(|end| (target.key, end)));
            reader.add(target, start, end);
        }
        Reading {
            context: Arc::clone(context),
            reader,
            sending: None,
            behind,
            ends,
            left: tail.left,
            takes: tail.takes,
            blocked: None,
        }
    }

    /// Until the client has all it asked for, or is gone.
    async fn run(&mut self, out: &DemandSender) -> Result<(), Error> {
        let mut pace = Pace::new();
        let mut caught_up = self.behind.is_empty();
        loop {
            let Ok(()): Result<(), Gone> = out.wanted().await else { return Ok(()) };
            let wanted = pace.allowed(Instant::now(), self.context.delivery.streams());
            let space = self.takes.space(wanted, REST_BYTES);
            let rest = pb::TailResponse { caught_up, ..Default::default() };
            let mut draft = Draft { writer: AnswerWriter::new(), space, rest };
            let filled = match caught_up {
                true => Ok(More::Yes),
                false => self.fill(&mut draft).await,
            };
            caught_up = false;
            if let Some(sending) = &mut self.sending {
                sending.cursor.release();
            }
            let more = filled?;
            if !draft.is_empty() {
                pace.sent(Instant::now(), draft.writer.len());
                out.send(draft.writer.finish(&draft.rest));
            }
            if more == More::No {
                return self.blocked.as_ref().map_or(Ok(()), |notice| Err(too_large(notice)));
            }
        }
    }

    /// Adds what there is to one answer; waits for it, if that is nothing.
    async fn fill(&mut self, draft: &mut Draft) -> Result<More, Error> {
        loop {
            let Some(sending) = &mut self.sending else {
                if !draft.is_empty() {
                    return Ok(More::Yes);
                }
                match self.reader.next().await {
                    Ok(Some(slice)) => self.sending = Some(Sending::new(slice)),
                    Ok(None) => return Ok(More::No),
                    Err(failed) => draft.rest.notice = Some(self.go_back(failed)?),
                }
                continue;
            };
            let (target, takes) = (&sending.target, self.takes);
            match sending.cursor.visit(&mut |found| draft.add(target, takes, found)) {
                Step::Seen(Sent::Added) => {
                    if let Some(left) = &mut self.left {
                        *left -= 1;
                        if *left == 0 {
                            return Ok(More::No);
                        }
                    }
                }
                Step::Seen(Sent::Full) => return Ok(More::Yes),
                Step::Seen(Sent::TooLarge(notice)) => {
                    self.on_too_large(&notice);
                    draft.rest.notice = Some(*notice);
                    return Ok(More::Yes);
                }
                Step::Packed => {
                    let Some(packed) = sending.cursor.packed() else { continue };
                    let unpacker = &self.context.leaders.unpacker;
                    let records = match unpacker.now(&packed) {
                        Some(records) => records,
                        // It takes a while: what there is goes first.
                        None if !draft.is_empty() => return Ok(More::Yes),
                        None => unpacker.get(packed).await,
                    };
                    sending.cursor.unpacked(records);
                }
                Step::End => {
                    let number = sending.target.number();
                    if sending.is_last && self.behind.remove(&number) {
                        draft.rest.caught_up = self.behind.is_empty();
                    }
                    self.sending = None;
                }
                Step::Damaged => match sending.cursor.damage().filter(|_| draft.is_empty()) {
                    Some(error) => return Err(error.clone()),
                    None => return Ok(More::Yes),
                },
            }
        }
    }

    /// If the log was cut below where a partition was read, it is read on from there; that is to be told.
    ///
    /// # Errors
    /// Why else it cannot be read any more.
    fn go_back(&mut self, failed: Failed) -> Result<pb::Notice, Error> {
        let lost = Lost::read(&failed.error).and_then(|lost| Some((lost, lost.cut_at?)));
        let (Some((lost, cut)), Some(target)) = (lost, failed.target) else {
            return Err(*failed.error);
        };
        let notice = lost.notice(&target, "this call's");
        let end = self.ends.get(&target.key).copied();
        self.reader.add(target, cut.into(), end);
        Ok(notice)
    }

    /// The partition is read no further, unless such records are passed over.
    fn on_too_large(&mut self, notice: &pb::Notice) {
        if self.takes.skips {
            return;
        }
        if let Some(sending) = self.sending.take() {
            self.reader.remove(&sending.target.key);
        }
        self.blocked.get_or_insert_with(|| notice.clone());
    }
}

impl Sending {
    fn new(slice: Slice) -> Sending {
        let is_last = slice.next >= slice.high_watermark;
        Sending { target: slice.target.clone(), cursor: SliceCursor::new(slice), is_last }
    }
}

impl Draft {
    fn add(&mut self, target: &Target, takes: Takes, found: &Found<'_>) -> (Choice, Sent) {
        let at = At { topic: &target.topic, partition: target.number() };
        let len = delivery_len(at, &found.record);
        if !takes.fits(len) {
            let notice = takes.notice(at, found.record.offset.to_wire(), len);
            let choice = if takes.skips { Choice::Take } else { Choice::Leave };
            return (choice, Sent::TooLarge(Box::new(notice)));
        }
        if !self.space.takes(&self.writer, len) {
            return (Choice::Leave, Sent::Full);
        }
        self.writer.push(at, found, None, 0);
        (Choice::Take, Sent::Added)
    }
}
