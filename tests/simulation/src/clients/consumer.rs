//! A consumer of every partition in turn. Whatever it is given has to be what was committed, in order,
//! without a gap but for what was deleted.

use crate::broker::{Host, state_of};
use crate::compaction::records_in;
use crate::damage::{Finder, Suspicion};
use crate::invariants;
use crate::settings::HostBug;
use crate::streams::checked;
use crate::violation::{Checked, ensure};
use crate::world::{At, Event, World};
use bytes::Bytes;
use troupe_log::{LogError, ReadSlice};
use troupe_machines::replica::{ReadFacts, Reader, Role};
use troupe_proto::ids::{Offset, PartitionKey};

pub struct Consumer {
    pub site: usize,
    positions: Vec<Offset>,
    leaders: Vec<usize>,
    /// Which partition, and the attempt that may be answered.
    turn: usize,
    attempt: u64,
}

#[derive(Clone, Debug)]
pub enum Fetched {
    Batches(Bytes),
    /// Nothing there below this offset any more.
    BelowStart(Offset),
    Failed,
}

impl Consumer {
    pub fn new(site: usize, partitions: u32) -> Consumer {
        let partitions = partitions as usize;
        Consumer {
            site,
            positions: vec![Offset::ZERO; partitions],
            leaders: vec![0; partitions],
            turn: 0,
            attempt: 0,
        }
    }
}

impl World {
    pub fn consumer_tick(&mut self, consumer: usize) {
        let (attempt, wait) = (self.take_id(), self.whim.between(30, 150));
        let site = self.consumers[consumer].site;
        self.schedule(site, wait, Event::ConsumerTick { consumer });
        let state = &mut self.consumers[consumer];
        state.turn = (state.turn + 1) % state.positions.len();
        state.attempt = attempt;
        let (turn, leader, from) =
            (state.turn, state.leaders[state.turn], state.positions[state.turn]);
        let key = self.key(turn as u32);
        self.send(site, leader, Event::Fetch { consumer, attempt, key, from });
    }

    /// What a reader hears of what could not be read.
    pub fn not_read(&mut self, at: At, role: Role, from: Offset, suspicion: Suspicion) -> Fetched {
        match suspicion {
            // A follower's word for that is not the leader's.
            Suspicion::Log(LogError::OffsetOutOfRange { earliest, .. })
                if from < earliest && role == Role::Leader =>
            {
                Fetched::BelowStart(earliest)
            }
            suspicion => {
                self.suspect(at, suspicion, Finder::Reader);
                Fetched::Failed
            }
        }
    }

    /// A fetch arrives at a broker.
    pub fn fetch(&mut self, at: At, consumer: usize, attempt: u64, from: Offset) -> Checked {
        let most = self.whim.between(1, 3_000) as usize;
        // Every other one takes a follower as well.
        let result = match self.serving(at, attempt.is_multiple_of(2), from) {
            Some((host, role)) => {
                let reads_on = self.settings.has_host_bug(match role {
                    Role::Leader => HostBug::ReadAboveHighWatermark,
                    _ => HostBug::FollowerReadsAboveHighWatermark,
                });
                let end = if reads_on { host.log.log_end() } else { host.replica.high_watermark() };
                let read = host.log.read(from, end, most).map_err(Suspicion::Log);
                match read.and_then(|slice| checked(slice, &at.1, from)) {
                    Ok(slice) => {
                        self.check_served(at, from, &slice)?;
                        Fetched::Batches(slice.bytes)
                    }
                    Err(suspicion) => self.not_read(at, role, from, suspicion),
                }
            }
            None => Fetched::Failed,
        };
        let to = self.consumers[consumer].site;
        self.send(at.0, to, Event::Fetched { consumer, attempt, result });
        Ok(())
    }

    /// S19, of who leads now.
    fn check_served(&self, at: At, from: Offset, slice: &ReadSlice) -> Checked {
        let known = self.truth.partition(&at.1).map(|partition| partition.leader_epoch);
        let leads = self.see_host(at).and_then(|host| host.replica.leader_epoch());
        let Some(ledger) = self.ledgers.get(&at.1).filter(|_| self.is_strict(&at.1)) else {
            return Ok(());
        };
        if slice.is_empty() || leads.is_none() || leads != known {
            return Ok(());
        }
        invariants::nothing_deleted_is_served(ledger.answered_start, from)
    }

    /// The replica there, if it serves a reader who takes a follower or not, and what for.
    pub fn serving(&self, at: At, takes_follower: bool, from: Offset) -> Option<(&Host, Role)> {
        let host = self.see_host(at)?;
        let image = &self.sites[at.0].broker.as_ref()?.image;
        let reader = match takes_follower {
            true => Reader::OfAny { nearby: Vec::new() },
            false => Reader::OfLeader,
        };
        let decided = host.replica.decide_read(&ReadFacts {
            from,
            expected_leader_epoch: None,
            reader: &reader,
            partition: &state_of(image, &at.1)?,
            is_damaged: host.log.damage().is_some(),
        });
        decided.is_ok().then(|| (host, host.replica.role()))
    }

    pub fn fetched(&mut self, consumer: usize, attempt: u64, result: Fetched) -> Checked {
        if self.consumers[consumer].attempt != attempt {
            return Ok(());
        }
        let turn = self.consumers[consumer].turn;
        let key = self.key(turn as u32);
        match result {
            Fetched::Batches(bytes) if bytes.is_empty() => self.look_again(consumer, turn),
            Fetched::Batches(bytes) => {
                let from = self.consumers[consumer].positions[turn];
                let end = self.check_read(&key, from, bytes)?;
                self.consumers[consumer].positions[turn] = end;
            }
            Fetched::BelowStart(start) => {
                let deleted = self.ledgers.get(&key).map_or(Offset::ZERO, |it| it.deleted_before);
                ensure(
                    start <= deleted || !self.is_strict(&key),
                    "I1 nothing else is deleted",
                    || format!("{key} starts at {start}, deleted before {deleted}"),
                )?;
                self.consumers[consumer].positions[turn] = start;
            }
            Fetched::Failed => self.look_again(consumer, turn),
        }
        Ok(())
    }

    fn look_again(&mut self, consumer: usize, turn: usize) {
        if self.whim.one_in(2) {
            let (site, key) = (self.consumers[consumer].site, self.key(turn as u32));
            let leader = self.guess_leader(site, &key);
            self.consumers[consumer].leaders[turn] = leader;
        }
    }

    /// I16, I6, I2: intact, committed, what everybody else saw there; and nothing left out.
    fn check_read(&mut self, key: &PartitionKey, from: Offset, bytes: Bytes) -> Checked<Offset> {
        let mut position = from;
        let records = match self.settings.compaction {
            None => None,
            Some(_) => Some(records_in(key, bytes.clone())?),
        };
        for header in invariants::checksums_hold(key, bytes)? {
            if self.is_strict(key) {
                let first = header.base_offset;
                ensure(first <= position || records.is_some(), "no record is skipped", || {
                    format!("{first} where {position} was next")
                })?;
                if let Some(ledger) = self.ledgers.get(key) {
                    invariants::only_committed_is_read(ledger, &header)?;
                }
            }
            position = header.end_offset();
            self.counts.consumed_batches += 1;
        }
        if let (Some(records), Some(ledger)) = (records, self.ledgers.get(key))
            && self.is_strict(key)
        {
            invariants::what_is_missing_is_superseded(ledger, from..position, &records)?;
        }
        Ok(position)
    }
}
