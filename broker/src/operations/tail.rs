//! Tail: records of one topic, without a group, merged from its partitions as they come, wherever they are led.

mod positions;

use super::delivery::{
    At, Choice, Deliveries, DeliveryPool, Found, Gone, Lost, Notice, Pace, REST_BYTES, Reader,
    SliceCursor, Space, Step, Takes, too_large,
};
use super::start_position::StartPosition;
use super::topic_lookup::TopicLookup;
use crate::forward::{Failed, Leaders, Slice, Target, TopicReader};
use crate::partition::Isolation;
use crate::shutdown::shutting_down;
use positions::{Asked, Position, positions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};

pub struct Tail {
    leaders: Arc<Leaders>,
    topic_lookup: Arc<TopicLookup>,
    delivery: Arc<DeliveryPool>,
}

pub struct TailRequest {
    pub topic: String,
    /// None: all of them.
    pub partition: Option<i32>,
    /// None: from the latest record on.
    pub start: Option<StartPosition>,
    /// 0: no limit.
    pub max_records: i64,
    pub until_end: bool,
    pub max_message_bytes: Option<u32>,
    pub skip_too_large: bool,
    pub isolation: Isolation,
}

/// What an answer says beside its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailRest {
    pub caught_up: bool,
    pub notice: Option<Notice>,
}

/// What a call asked for, and where that is.
pub struct Tailing {
    leaders: Arc<Leaders>,
    delivery: Arc<DeliveryPool>,
    positions: Vec<Position>,
    /// Records that may still be sent.
    left: Option<u64>,
    takes: Takes,
    isolation: Isolation,
}

impl Tail {
    pub fn new(
        leaders: Arc<Leaders>,
        topic_lookup: Arc<TopicLookup>,
        delivery: Arc<DeliveryPool>,
    ) -> Self {
        Self { leaders, topic_lookup, delivery }
    }

    /// Finds where to begin.
    ///
    /// # Errors
    /// What the call is refused with.
    pub async fn begin(&self, request: TailRequest, deadline: Instant) -> Result<Tailing, Error> {
        let takes = Takes::parse(request.max_message_bytes, request.skip_too_large)?;
        let topic = self.topic_lookup.find(&request.topic).await?;
        if request.max_records < 0 {
            let message = format!("max_records {} is negative", request.max_records);
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        let TailRequest { partition, start, until_end, isolation, .. } = request;
        let asked = Asked { partition, start, until_end, isolation };
        let positions = positions(&self.leaders, &topic, asked, deadline).await?;
        let left = (request.max_records > 0).then_some(request.max_records.unsigned_abs());
        let (leaders, delivery) = (Arc::clone(&self.leaders), Arc::clone(&self.delivery));
        Ok(Tailing { leaders, delivery, positions, left, takes, isolation })
    }
}

impl Tailing {
    /// Until the client has all it asked for, or is gone.
    ///
    /// # Errors
    /// Why there is no more.
    pub async fn run(self, out: &impl Reader<TailRest>) -> Result<(), Error> {
        let shutdown = self.leaders.metadata.shutdown.clone();
        let _open = self.delivery.open();
        let mut reading = Reading::new(self);
        tokio::select! {
            ended = reading.run(out) => ended,
            () = shutdown.cancelled() => Err(shutting_down()),
            () = out.closed() => Ok(()),
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
    leaders: Arc<Leaders>,
    delivery: Arc<DeliveryPool>,
    reader: TopicReader,
    sending: Option<Sending>,
    /// Partitions of which there was more when the call began than has been sent.
    behind: BTreeSet<i32>,
    /// Where each partition is read no further, if it is not read on and on.
    ends: BTreeMap<PartitionKey, Offset>,
    left: Option<u64>,
    takes: Takes,
    /// The first record that the client does not take, of those at which a partition is read no further.
    blocked: Option<Notice>,
}

/// One answer that is being filled.
struct Draft<D> {
    deliveries: D,
    space: Space,
    rest: TailRest,
}

impl<D: Deliveries> Draft<D> {
    fn is_empty(&self) -> bool {
        self.deliveries.count() == 0 && self.rest == TailRest::default()
    }
}

/// What became of a record.
enum Sent {
    Added,
    /// Not in this answer.
    Full,
    TooLarge(Box<Notice>),
}

/// Whether more can follow.
#[derive(PartialEq, Eq)]
enum More {
    Yes,
    No,
}

impl Reading {
    fn new(tail: Tailing) -> Reading {
        let mut reader = TopicReader::new(Arc::clone(&tail.leaders), tail.isolation);
        let (mut behind, mut ends) = (BTreeSet::new(), BTreeMap::new());
        for Position { target, start, end, behind: is_behind } in tail.positions {
            if is_behind {
                behind.insert(target.number());
            }
            ends.extend(end.map(|end| (target.key, end)));
            reader.add(target, start, end);
        }
        Reading {
            leaders: tail.leaders,
            delivery: tail.delivery,
            reader,
            sending: None,
            behind,
            ends,
            left: tail.left,
            takes: tail.takes,
            blocked: None,
        }
    }

    async fn run<R: Reader<TailRest>>(&mut self, out: &R) -> Result<(), Error> {
        let mut pace = Pace::new();
        let mut caught_up = self.behind.is_empty();
        loop {
            let Ok(()): Result<(), Gone> = out.wanted().await else { return Ok(()) };
            let wanted = pace.allowed(Instant::now(), self.delivery.streams());
            let space = self.takes.space(wanted, REST_BYTES);
            let rest = TailRest { caught_up, notice: None };
            let mut draft = Draft { deliveries: R::Deliveries::default(), space, rest };
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
                pace.sent(Instant::now(), draft.deliveries.bytes());
                out.send(draft.deliveries, draft.rest);
            }
            if more == More::No {
                return self.blocked.as_ref().map_or(Ok(()), |notice| Err(too_large(notice)));
            }
        }
    }

    /// Adds what there is to one answer; waits for it, if that is nothing.
    async fn fill<D: Deliveries>(&mut self, draft: &mut Draft<D>) -> Result<More, Error> {
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
                    let unpacker = &self.leaders.unpacker;
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

    /// If the log was truncated below where a partition was read, it is read on from there; that is to be told.
    ///
    /// # Errors
    /// Why else it cannot be read any more.
    fn go_back(&mut self, failed: Failed) -> Result<Notice, Error> {
        let lost = Lost::read(&failed.error).and_then(|lost| Some((lost, lost.cut_at?)));
        let (Some((lost, divergence)), Some(target)) = (lost, failed.target) else {
            return Err(*failed.error);
        };
        let notice = lost.notice(&target, "this call's");
        let end = self.ends.get(&target.key).copied();
        self.reader.add(target, divergence.into(), end);
        Ok(notice)
    }

    /// The partition is read no further, unless such records are passed over.
    fn on_too_large(&mut self, notice: &Notice) {
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
        let is_last = slice.next >= slice.readable_end;
        Sending { target: slice.target.clone(), cursor: SliceCursor::new(slice), is_last }
    }
}

impl<D: Deliveries> Draft<D> {
    fn add(&mut self, target: &Target, takes: Takes, found: &Found<'_>) -> (Choice, Sent) {
        let at = At { topic: &target.topic, partition: target.number() };
        let len = D::bytes_of(at, &found.record);
        if !takes.fits(len) {
            let notice = takes.notice(at, found.record.offset, len);
            let choice = if takes.skips { Choice::Take } else { Choice::Leave };
            return (choice, Sent::TooLarge(Box::new(notice)));
        }
        if !self.space.takes(&self.deliveries, len) {
            return (Choice::Leave, Sent::Full);
        }
        self.deliveries.push(at, found, None, 0);
        (Choice::Take, Sent::Added)
    }
}
