//! A reader of committed records of every partition in turn: of each transaction it is given all or nothing, and nothing of
//! which nobody knows yet what becomes of it.

use super::TxnEvent;
use crate::broker::Host;
use crate::clients::Fetched;
use crate::compaction::records_in;
use crate::damage::Suspicion;
use crate::invariants;
use crate::settings::HostBug;
use crate::streams::checked;
use crate::violation::{Checked, Violation, ensure};
use crate::world::{At, Event, World};
use troupe_log::{Aborted, LogError};
use troupe_proto::batch::CommittedFilter;
use troupe_proto::ids::{Offset, PartitionKey, ProducerId};

pub struct Reader {
    site: usize,
    pub positions: Vec<Offset>,
    leaders: Vec<usize>,
    /// Which partition, and the attempt that may be answered.
    turn: usize,
    attempt: u64,
}

/// What it is given, and which of it is of an aborted transaction.
#[derive(Clone, Debug)]
pub struct ReadCommitted {
    pub fetched: Fetched,
    pub aborted: Vec<(ProducerId, Offset)>,
}

impl Reader {
    pub fn new(site: usize, partitions: u32) -> Reader {
        let partitions = partitions as usize;
        Reader {
            site,
            positions: vec![Offset::ZERO; partitions],
            leaders: vec![0; partitions],
            turn: 0,
            attempt: 0,
        }
    }

    /// As one that comes only now: nothing that was asked before is answered.
    pub fn start_over(&mut self) {
        self.attempt = 0;
        self.positions.iter_mut().for_each(|position| *position = Offset::ZERO);
    }
}

/// What a replica knows of aborted transactions there.
fn known_aborted(host: &Host, from: Offset, to: Offset) -> Result<Vec<Aborted>, LogError> {
    let mut known = host.log.aborted(from, to)?;
    known.retain(|aborted| aborted.last_offset >= host.aborted_from);
    Ok(known)
}

impl World {
    /// X13, of a replica that has all that is committed.
    pub fn check_aborted(&self, at: At) -> Checked {
        let (Some(host), Some(written)) = (self.see_host(at), self.txn.truth.partitions.get(&at.1))
        else {
            return Ok(());
        };
        if self.settings.compaction.is_some() || !self.is_strict(&at.1) {
            return Ok(());
        }
        // who has just begun to lead may have raised it, and nobody has looked yet
        let committed = self.ledgers.get(&at.1).map_or(Offset::ZERO, |ledger| ledger.end());
        let end = host.replica.high_watermark().min(committed);
        let start = host.log.log_start();
        let known = known_aborted(host, start, end);
        let mut known =
            known.map_err(|error| Violation::new("I16 a log can be read", error.to_string()))?;
        known.retain(|aborted| aborted.last_offset < end);
        let aborted: Vec<Aborted> = written.aborted(end).collect();
        invariants::aborted_are_known(start, &aborted, &known)
    }

    pub fn reader_tick(&mut self, reader: usize) {
        let (attempt, wait) = (self.take_id(), self.whim.between(20, 80));
        let site = self.txn.readers[reader].site;
        self.schedule(site, wait, Event::txn(TxnEvent::ReaderTick { reader }));
        let starts_over = reader > 0 && !self.healing && self.whim.one_in(40);
        let state = &mut self.txn.readers[reader];
        if starts_over {
            state.start_over();
        }
        state.turn = (state.turn + 1) % state.positions.len();
        state.attempt = attempt;
        let (turn, leader) = (state.turn, state.leaders[state.turn]);
        let (from, key) = (state.positions[turn], self.key(turn as u32));
        self.send(site, leader, Event::txn(TxnEvent::Fetch { reader, attempt, key, from }));
    }

    /// A fetch arrives at a broker.
    pub fn fetch_committed(
        &mut self,
        at: At,
        reader: usize,
        attempt: u64,
        from: Offset,
    ) -> Checked {
        let most = self.whim.between(1, 3_000) as usize;
        let reads_on = self.settings.has_host_bug(HostBug::ReadAboveLastStable);
        let mut aborted = Vec::new();
        let fetched = match self.serving(at, attempt.is_multiple_of(2), from) {
            Some((host, role)) => {
                let end = match reads_on {
                    true => host.replica.high_watermark(),
                    false => host.replica.last_stable_offset(),
                };
                let read = host.log.read(from, end, most).map_err(Suspicion::Log);
                let read = read.and_then(|slice| checked(slice, &at.1, from));
                let read = read.and_then(|slice| {
                    let known = known_aborted(host, from, slice.end).map_err(Suspicion::Log)?;
                    aborted = known.iter().map(|it| (it.producer_id, it.first_offset)).collect();
                    Ok(slice)
                });
                match read {
                    Ok(slice) => Fetched::Batches(slice.bytes),
                    Err(suspicion) => self.not_read(at, role, from, suspicion),
                }
            }
            None => Fetched::Failed,
        };
        let to = self.txn.readers[reader].site;
        let result = ReadCommitted { fetched, aborted };
        self.send(at.0, to, Event::txn(TxnEvent::Fetched { reader, attempt, result }));
        Ok(())
    }

    pub fn read_committed(
        &mut self,
        reader: usize,
        attempt: u64,
        result: ReadCommitted,
    ) -> Checked {
        if self.txn.readers[reader].attempt != attempt {
            return Ok(());
        }
        let turn = self.txn.readers[reader].turn;
        let key = self.key(turn as u32);
        match &result.fetched {
            Fetched::Batches(bytes) if !bytes.is_empty() => {
                let from = self.txn.readers[reader].positions[turn];
                let end = self.check_committed_read(&key, from, &result)?;
                self.txn.readers[reader].positions[turn] = end;
            }
            Fetched::BelowStart(start) => {
                let deleted = self.ledgers.get(&key).map_or(Offset::ZERO, |it| it.deleted_before);
                ensure(*start <= deleted, "I1 nothing else is deleted", || {
                    format!("{key} starts at {start}, deleted before {deleted}")
                })?;
                self.txn.readers[reader].positions[turn] = *start;
            }
            Fetched::Batches(_) | Fetched::Failed => {
                if self.whim.one_in(2) {
                    let site = self.txn.readers[reader].site;
                    let leader = self.guess_leader(site, &key);
                    self.txn.readers[reader].leaders[turn] = leader;
                }
            }
        }
        Ok(())
    }

    /// I9, I11: exactly what is committed, in order.
    fn check_committed_read(
        &mut self,
        key: &PartitionKey,
        from: Offset,
        result: &ReadCommitted,
    ) -> Checked<Offset> {
        let Fetched::Batches(bytes) = &result.fetched else { return Ok(from) };
        let compacts = self.settings.compaction.is_some();
        let mut filter = CommittedFilter::new(result.aborted.iter().copied());
        let (mut position, mut kept) = (from, Vec::new());
        for header in invariants::checksums_hold(key, bytes.clone())? {
            let first = header.base_offset;
            ensure(first <= position || compacts, "no record is skipped", || {
                format!("{first} where {position} was next")
            })?;
            if let Some(ledger) = self.ledgers.get(key) {
                invariants::only_committed_is_read(ledger, &header)?;
            }
            let is_kept = filter.keep(&header);
            if header.attributes.is_transactional() && header.marker().is_none() {
                let outcome = self.txn.truth.is_committed(key, first);
                let has_records = header.record_count > 0;
                invariants::only_what_is_committed_is_given(&header, outcome, is_kept)
                    .or_else(|violation| if has_records { Err(violation) } else { Ok(()) })?;
                self.txn_counts.batches_kept += u64::from(is_kept);
                self.txn_counts.batches_left_out += u64::from(!is_kept);
            }
            if is_kept {
                kept.push(header.base_offset..header.end_offset());
            }
            position = header.end_offset();
        }
        if compacts && let Some(ledger) = self.ledgers.get(key) {
            let mut records = records_in(key, bytes.clone())?;
            records.retain(|record| kept.iter().any(|range| range.contains(&record.offset)));
            invariants::what_is_missing_is_superseded(ledger, from..position, &records)?;
        }
        Ok(position)
    }
}
