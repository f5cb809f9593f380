//! What the application calls for records, and everything that has to happen there.

use super::assigned::Position;
use super::cursor::Cursor;
use super::lost::{LossCause, PositionLost};
use super::membership::Event;
use super::records::ConsumerRecords;
use super::resolve::Resolved;
use super::{AutoOffsetReset, Consumer, Mode};
use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::fetcher::{ConsumerRecord, Failure, FetchedBatch};
use futures::FutureExt;
use std::future::pending;
use std::task::Poll;
use tokio::time::{Duration, Instant, sleep_until};
use troupe_proto::error::ErrorCode;

/// Before positions that could not be found are looked for again.
const RESOLVE_PAUSE: Duration = Duration::from_millis(100);

impl Consumer {
    /// Up to `max_poll_records` records, as soon as there are any, or none after `timeout`. Joins the group,
    /// takes up what it assigns, and commits what was returned before if that is automatic and due (C6).
    /// May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    /// What the application has to mend, again at each call until it is: NO_COMMITTED_OFFSET and
    /// OFFSET_OUT_OF_RANGE where `auto_offset_reset` is none (C7), corrupt data (C19), a group that does not
    /// take this member. FENCED_INSTANCE_ID is for good. [`ClientError::Wakeup`].
    pub async fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords, ClientError> {
        let began = Instant::now();
        let deadline = began.checked_add(timeout);
        let enough_by = began + self.config.fetch_max_wait;
        let mut records = Vec::new();
        while self.advance(deadline).await? {
            self.gather(deadline.map_or(enough_by, |deadline| deadline.min(enough_by))).await;
            // From here on nothing is waited for: what is taken gets out. Errors come with the next call.
            loop {
                self.take(&mut records)?;
                if records.len() >= self.config.max_poll_records || !self.at_once() {
                    break;
                }
            }
            if !records.is_empty() {
                break;
            }
        }
        self.pass_over();
        if !self.interceptors.is_empty() {
            records = self.interceptors.on_consume(records);
        }
        self.called();
        Ok(ConsumerRecords::new(records, self.assigned.take_advanced()))
    }

    /// The next record, however long it takes. Counts as a poll. May be dropped while it waits.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub async fn next(&mut self) -> Result<ConsumerRecord, ClientError> {
        loop {
            if self.is_disturbed() || self.cursor.is_none() {
                self.advance(None).await?;
            }
            let Some(cursor) = &mut self.cursor else { continue };
            match cursor.record() {
                Some(Ok(record)) => {
                    self.metrics.records += 1;
                    self.called();
                    if self.interceptors.is_empty() {
                        return Ok(record);
                    }
                    if let Some(record) = self.interceptors.on_consume(vec![record]).pop() {
                        return Ok(record);
                    }
                }
                Some(Err(error)) => {
                    self.fail_cursor();
                    return Err(error);
                }
                None => self.finish_cursor(),
            }
        }
    }

    /// The next batch, or what is left of it, however long it takes. Counts as a poll; its records count as
    /// returned. Interceptors do not see it. May be dropped while it waits.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub async fn next_batch(&mut self) -> Result<FetchedBatch, ClientError> {
        loop {
            self.advance(None).await?;
            let Some(cursor) = self.cursor.take() else { continue };
            let (at, header) = (cursor.at.clone(), *cursor.header());
            self.assigned.advance(&at, header.end_offset(), Some(header.leader_epoch));
            if header.record_count == 0 {
                // compaction has left nothing of it but its place
                continue;
            }
            self.metrics.records += u64::from(header.record_count);
            self.called();
            return Ok(cursor.into_batch());
        }
    }

    /// The application has asked, and has its answer.
    #[inline]
    fn called(&self) {
        if let Some(group) = &self.group {
            group.activity.called();
        }
    }

    /// Something has to happen before the next record.
    #[inline]
    fn is_disturbed(&self) -> bool {
        let membership = self.group.as_ref().and_then(|group| group.membership.as_ref());
        membership.is_some_and(|membership| !membership.events.is_empty())
            || self.assignment.is_some()
            || self.lost.is_some()
            || self.wakeup.is_woken()
            || self.commit_is_due()
    }

    #[inline]
    fn commit_is_due(&self) -> bool {
        self.config.auto_commits() && Instant::now() >= self.next_auto_commit
    }

    /// Waits for `fetch_min_bytes`, and not for long. Takes nothing: a call that is dropped here has lost
    /// nothing, and nothing is committed that was not returned (C14).
    async fn gather(&mut self, until: Instant) {
        let got = self.cursor.as_ref().map_or(0, |cursor| cursor.header().encoded_len());
        let missing = self.config.fetch_min_bytes.saturating_sub(got);
        if missing == 0 {
            return;
        }
        tokio::select! {
            biased;
            // For the next call to find.
            () = self.wakeup.woken() => self.wakeup.wakeup(),
            () = self.fetcher.gather(missing) => {}
            () = sleep_until(until) => {}
        }
    }

    /// Takes records from the cursor.
    fn take(&mut self, records: &mut Vec<ConsumerRecord>) -> Result<(), ClientError> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let before = records.len();
        let mut end = None;
        while records.len() < self.config.max_poll_records {
            match cursor.record() {
                Some(Ok(record)) => records.push(record),
                other => {
                    end = Some(other);
                    break;
                }
            }
        }
        self.metrics.records += (records.len() - before) as u64;
        match end {
            None => {}
            Some(Some(Err(error))) => {
                self.fail_cursor();
                // If something was taken, the error comes again with the next call.
                if records.is_empty() {
                    return Err(error);
                }
            }
            Some(_) => self.finish_cursor(),
        }
        Ok(())
    }

    fn finish_cursor(&mut self) {
        self.settle();
        self.cursor = None;
    }

    /// The position stays at the bad record (C19).
    fn fail_cursor(&mut self) {
        self.settle();
        if let Some(cursor) = self.cursor.take()
            && let Some(held) = self.assigned.partitions.get_mut(&cursor.at)
        {
            held.failed = true;
        }
    }

    /// Whether there is a cursor without waiting for anything.
    fn at_once(&mut self) -> bool {
        if self.is_disturbed() {
            return false;
        }
        while self.cursor.is_none() {
            match self.fetcher.next().now_or_never().flatten() {
                Some(Ok(batch)) => self.open_cursor(batch),
                Some(Err(failure)) => {
                    // What it brings about comes with the next call.
                    let _ = self.on_failure(failure);
                    return false;
                }
                None => return false,
            }
        }
        true
    }

    /// What follows and is for no application is read as well, where it is at hand: behind the last record of a
    /// transaction stands a marker, and an offset that is committed before it would leave a lag of one.
    fn pass_over(&mut self) {
        if self.cursor.as_ref().is_some_and(Cursor::is_at_end) {
            self.finish_cursor();
        }
        self.at_once();
        self.settle();
    }

    /// Everything that is due; then waits until there is a cursor. False: not until the deadline.
    async fn advance(&mut self, deadline: Option<Instant>) -> Result<bool, ClientError> {
        let _waits = self.group.as_ref().map(|group| group.activity.waits());
        self.retry_failed();
        loop {
            self.keep_house().await?;
            if self.cursor.is_some() {
                return Ok(true);
            }
            let commit_at = self.config.auto_commits().then_some(self.next_auto_commit);
            let resolve_at = self.resolve_after.filter(|_| self.unresolved);
            let membership = self.group.as_mut().and_then(|group| group.membership.as_mut());
            let event = async {
                match membership {
                    Some(membership) => membership.events.recv().await,
                    None => pending().await,
                }
            };
            let fetched = async {
                match self.fetcher.next().await {
                    Some(fetched) => fetched,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.wakeup.woken() => return Err(ClientError::Wakeup),
                event = event => self.on_event(event.unwrap_or_else(ended))?,
                resolved = async { self.resolving.as_mut().expect("only if there is one").await },
                    if self.resolving.is_some() => {
                        self.resolving = None;
                        self.on_resolved(resolved)?;
                    }
                fetched = fetched => match fetched {
                    Ok(batch) => self.open_cursor(batch),
                    Err(failure) => self.on_failure(failure)?,
                },
                () = until(commit_at) => {}
                () = until(resolve_at) => {}
                () = until(deadline) => return Ok(false),
            }
        }
    }

    /// What has to be done before records are handed out.
    async fn keep_house(&mut self) -> Result<(), ClientError> {
        self.tell_recorders();
        if self.wakeup.take() {
            return Err(ClientError::Wakeup);
        }
        if self.mode == Mode::Nobody {
            let what = "nothing is read: subscribe or assign first".to_owned();
            return Err(ClientError::IllegalState { what });
        }
        while let Some(event) = self.next_event() {
            if let Err(error) = self.on_event(event) {
                self.take_up().await;
                return Err(error);
            }
        }
        self.take_up().await;
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        self.join();
        if self.commit_is_due() {
            self.settle();
            self.auto_commit_now();
        }
        self.look_for_positions();
        // Also while there is always something to hand out.
        while let Some(resolving) = &mut self.resolving
            && let Poll::Ready(resolved) = futures::poll!(resolving)
        {
            self.resolving = None;
            self.on_resolved(resolved)?;
            self.look_for_positions();
        }
        Ok(())
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        let membership = self.group.as_mut()?.membership.as_mut()?;
        membership.events.try_recv().ok()
    }

    fn open_cursor(&mut self, batch: FetchedBatch) {
        self.metrics.bytes += batch.encoded_len() as u64;
        let cursor = Cursor::new(batch);
        self.cursor = self.assigned.partitions.contains_key(&cursor.at).then_some(cursor);
    }

    /// Partitions whose errors the application has been told are tried again from where they are.
    fn retry_failed(&mut self) {
        for (at, held) in &mut self.assigned.partitions {
            if held.failed {
                held.failed = false;
                if let Some(offset) = held.position.offset() {
                    self.fetcher.seek(at, offset);
                }
            }
        }
    }

    /// C7, C19.
    fn on_failure(&mut self, failure: Failure) -> Result<(), ClientError> {
        let Failure { at, error } = failure;
        let Some(held) = self.assigned.partitions.get_mut(&at) else { return Ok(()) };
        match error.reason() {
            ErrorCode::OffsetOutOfRange if let Some(lost) = PositionLost::cut(&at, &error) => {
                tracing::warn!(partition = %at, %error, "the log was cut, goes on there");
                let position = held.position.offset().unwrap_or(lost.position);
                let lost = PositionLost { position, ..lost };
                // What was received and not handed out is not there any more either.
                let next = position.min(lost.log_end);
                (held.position, held.leader_epoch) = (Position::At(next), None);
                self.fetcher.seek(&at, next);
                if next < position {
                    self.tell_position_lost(&lost);
                }
            }
            ErrorCode::OffsetOutOfRange
                if self.config.auto_offset_reset != AutoOffsetReset::None =>
            {
                tracing::warn!(partition = %at, %error, "the position is gone, begins anew");
                let position = held.position.offset();
                held.position = Position::Reset;
                self.unresolved = true;
                self.fetcher.remove(&at);
                if let Some(lost) = PositionLost::read(&at, position, &error) {
                    self.tell_position_lost(&lost);
                }
            }
            // The group takes away what is gone; until then a node may only lag behind.
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::StaleTopicId
                if matches!(self.mode, Mode::Group(_)) =>
            {
                tracing::warn!(partition = %at, %error, "nothing more is read of it for now");
                self.fetcher.remove(&at);
                self.unresolved = true;
                self.resolve_after = Some(Instant::now() + RESOLVE_PAUSE);
            }
            _ => {
                held.failed = true;
                return Err(match error {
                    ClientError::Refused(refusal) => ClientError::Refused(
                        refusal.with("topic", &at.topic).with("partition", at.partition),
                    ),
                    other => other,
                });
            }
        }
        Ok(())
    }

    /// Begins to find out where to begin.
    pub(super) fn look_for_positions(&mut self) {
        let paused = self.resolve_after.is_some_and(|after| after > Instant::now());
        if !self.unresolved || self.resolving.is_some() || paused {
            return;
        }
        self.resolve_after = None;
        let held = self.assigned.partitions.iter();
        let open = held.filter(|(at, _)| self.fetcher.get(at).is_none());
        let asked: Vec<_> =
            open.map(|(at, held)| (at.clone(), held.position, held.topic_id)).collect();
        self.unresolved = !asked.is_empty();
        if self.unresolved {
            self.resolving = Some(Exclusive::new(self.resolver().resolve(asked).boxed()));
        }
    }

    /// Begins with the partitions whose positions were found.
    pub(super) fn on_resolved(&mut self, resolved: Vec<Resolved>) -> Result<(), ClientError> {
        let (mut nowhere, mut failed, mut told) = (Vec::new(), None, Vec::new());
        let given = matches!(self.mode, Mode::Group(_));
        for Resolved { at, asked, outcome } in resolved {
            let Some(held) = self.assigned.partitions.get_mut(&at) else { continue };
            // Moved meanwhile: asked anew.
            if held.position != asked {
                continue;
            }
            match outcome {
                Ok(found) => match found.offset {
                    Some(offset) => {
                        let lost = found.cut.map(|end| PositionLost {
                            partition: at.clone(),
                            position: found.committed.as_ref().map_or(offset, |it| it.offset),
                            log_start: None,
                            log_end: end,
                            cause: LossCause::Cut,
                        });
                        held.position = Position::At(offset);
                        held.topic_id = Some(found.topic_id);
                        if asked == Position::Committed && found.committed.is_none() {
                            held.began.get_or_insert(offset);
                        }
                        if let Some(committed) = found.committed {
                            held.committed = Some(committed.offset);
                            held.leader_epoch = committed.leader_epoch;
                        }
                        let (paused, epoch) = (held.paused, held.leader_epoch);
                        let is_at_committed = held.committed == Some(offset);
                        self.fetcher.add(&at, found.topic_id, offset, None);
                        if let Some(epoch) = epoch.filter(|_| is_at_committed) {
                            self.fetcher.was_read_in(&at, epoch);
                        }
                        if paused {
                            self.fetcher.pause(&at);
                        }
                        told.extend(lost);
                    }
                    None => nowhere.push(at),
                },
                // What the group gives is there, if not yet for every node; or it is taken away again.
                Err(error)
                    if error.is_retriable()
                        || (given && error.reason() == ErrorCode::UnknownTopic) =>
                {
                    tracing::debug!(partition = %at, %error, "looking for a place to begin");
                    self.resolve_after = Some(Instant::now() + RESOLVE_PAUSE);
                }
                Err(error) => {
                    self.resolve_after = Some(Instant::now() + RESOLVE_PAUSE);
                    failed = Some(error);
                }
            }
        }
        for lost in &told {
            self.tell_position_lost(lost);
        }
        match failed {
            Some(error) => Err(error),
            None if nowhere.is_empty() => Ok(()),
            None => Err(ClientError::NoOffset { partitions: nowhere }),
        }
    }
}

fn ended() -> Event {
    Event::Lost(ClientError::outcome_unknown("the membership has ended"))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
