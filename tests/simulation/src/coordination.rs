//! What coordinators of groups and of transactions have in common: whose they are, what they find in their log, how they
//! append to it, and what they hold back until it is committed.

use crate::broker::{Asker, Who};
use crate::clients::append_facts;
use crate::violation::{Checked, Violation};
use crate::world::{At, World};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Display;
use troupe_machines::replica::{
    Acks, AppendDecision, AppendFacts, Effects, Origin, Replica, Role, Token,
};
use troupe_proto::batch::{Batches, Compression, Limits, RecordSet, RecordSetBuilder};
use troupe_proto::ids::LeaderEpoch;

/// What is to leave a coordinator, in order, each when all is committed that it rests on.
pub struct Parked<O>(VecDeque<(BTreeSet<u64>, Vec<O>)>);

impl<O> Parked<O> {
    pub fn new() -> Parked<O> {
        Parked(VecDeque::new())
    }

    /// Until these appends are committed.
    pub fn park(&mut self, waits_for: BTreeSet<u64>, outputs: Vec<O>) {
        self.0.push_back((waits_for, outputs));
    }

    /// An append is answered. Whether something waited for it.
    pub fn answered(&mut self, attempt: u64) -> bool {
        self.0.iter_mut().any(|(waits_for, _)| waits_for.remove(&attempt))
    }

    /// What waits for nothing any more and is the next.
    pub fn next(&mut self) -> Option<Vec<O>> {
        self.0.pop_front_if(|(waits_for, _)| waits_for.is_empty()).map(|(_, outputs)| outputs)
    }

    pub fn into_outputs(self) -> impl Iterator<Item = O> {
        self.0.into_iter().flat_map(|(_, outputs)| outputs)
    }
}

impl World {
    /// Which life of the replica leads here, and in which epoch.
    pub fn leadership(&self, at: At) -> Option<(u64, LeaderEpoch)> {
        let host = self.see_host(at).filter(|host| !host.offline)?;
        let leads = host.replica.role() == Role::Leader;
        leads.then_some(host.id).zip(host.replica.leader_epoch())
    }

    /// What stands in the log up to the high watermark.
    pub fn read_changes<C, E: Display>(
        &self,
        at: At,
        decode: impl Fn(&[u8], Option<&[u8]>) -> Result<C, E>,
    ) -> Checked<Vec<C>> {
        let broken = |error: String| Violation::new("I16 a log can be read", error);
        let Some(host) = self.see_host(at) else { return Ok(Vec::new()) };
        let end = host.replica.high_watermark();
        let (mut next, mut changes) = (host.log.log_start(), Vec::new());
        while next < end {
            let slice =
                host.log.read(next, end, 1 << 20).map_err(|error| broken(error.to_string()))?;
            for batch in Batches::verified(slice.bytes, at.1) {
                let (header, payload) = batch.map_err(|error| broken(error.to_string()))?;
                let set = RecordSet::decode(&header, payload, Limits::default());
                for record in set.map_err(|error| broken(error.to_string()))?.iter() {
                    let record = record.map_err(|error| broken(error.to_string()))?;
                    let change = decode(record.key.unwrap_or_default(), record.value);
                    changes.push(change.map_err(|error| broken(error.to_string()))?);
                }
            }
            next = slice.end;
        }
        Ok(changes)
    }

    /// What is decided together may be appended in parts, and a crash may come between them.
    pub fn split<C>(&mut self, mut changes: Vec<C>) -> Vec<Vec<C>> {
        if changes.is_empty() {
            return Vec::new();
        }
        if changes.len() == 1 || !self.net.one_in(4) {
            return vec![changes];
        }
        let rest = changes.split_off(1 + self.net.index(changes.len() - 1));
        vec![changes, rest]
    }

    /// Records of a coordinator of this epoch, as the batch `value`. False: it was refused.
    pub fn append_changes(
        &mut self,
        at: At,
        epoch: LeaderEpoch,
        (who, attempt, value): (Who, u64, u64),
        records: &[(Bytes, Option<Bytes>)],
    ) -> Checked<bool> {
        let (steady, wall) = (self.steady(at.0), self.wall(at.0));
        let mut builder = RecordSetBuilder::new();
        let mark = value.to_string();
        for (key, value) in records {
            // so that no two batches are alike
            let headers = [("batch", Some(mark.as_bytes()))];
            builder.push(wall.as_timestamp(), Some(key), value.as_deref(), &headers);
        }
        let built = builder.finish(Compression::None, None).expect("there are changes");
        if let Some(ledger) = self.ledgers.get_mut(&at.1) {
            ledger.produced(value, &built.header);
        }
        let facts = AppendFacts {
            keyless: false,
            expected_leader_epoch: Some(epoch),
            origin: Origin::Internal,
            ..append_facts(&built.header, Acks::All)
        };
        let deadline = steady.plus(self.whim.between(500, 5_000));
        let Some(host) = self.host(at) else { return Ok(false) };
        let Ok(AppendDecision::Append(header)) = host.replica.decide_append(wall, &facts) else {
            return Ok(false);
        };
        let token = Token(value);
        let asker = Asker { who, attempt, value, acks_all: true };
        self.trace.note(self.now, "decision", [at.0 as u64, value, facts.record_count.into(), 0]);
        let tell = |replica: &mut Replica, now, out: &mut Effects| {
            replica.on_appended(now, &header, Acks::All, token, deadline, out);
        };
        match self.append_decided(at, (token, asker), &header, built.payload, tell)? {
            Ok(()) => Ok(true),
            Err(error) => self.append_failed(at, &error).map(|()| false),
        }
    }
}
