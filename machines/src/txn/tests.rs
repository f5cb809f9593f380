//! Behaviours by their ids, and random histories with clients, partitions and coordinators that fail.

mod adding;
mod admin;
mod ending;
mod expiry;
mod init;
mod log;
mod markers;
mod model;
mod table;

use super::state::Event;
use super::*;
use crate::group::{CatalogTopic, coordinator_partition};
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{PartitionId, ProducerEpoch, TopicId};
use troupe_proto::log::v1 as pb;

fn topic_id(n: u8) -> TopicId {
    TopicId::from_wire(&[n; 16]).unwrap()
}

/// Topics by name, id and number of partitions.
fn catalog(topics: &[(&str, u8, u32)]) -> Arc<Catalog> {
    let topic = |(name, n, partitions): &(&str, u8, u32)| {
        let internal = name.starts_with("__");
        let (id, partitions) = (topic_id(*n), *partitions);
        (Arc::from(*name), CatalogTopic { id, partitions, internal })
    };
    Arc::new(Catalog { topics: topics.iter().map(topic).collect() })
}

const TOPICS: [(&str, u8, u32); 3] = [("t", 1, 4), ("u", 2, 2), ("__consumer_offsets", 9, 50)];

fn wire(topic: &str, partition: i32) -> pb::TopicPartition {
    pb::TopicPartition { topic: topic.to_owned(), partition, ..Default::default() }
}

fn partition(topic: &str, n: u8, number: u32) -> TxnPartition {
    TxnPartition { topic: topic.into(), topic_id: topic_id(n), partition: PartitionId(number) }
}

fn producer(id: u64, epoch: u32) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

/// What markers tell: outcome, epoch, and partitions as `t0`.
fn told(markers: &[Marker]) -> Vec<(Outcome, u32, Vec<String>)> {
    let one = |marker: &Marker| {
        let names = marker.partitions.iter().map(|it| format!("{}{}", it.topic, it.partition));
        (marker.outcome, marker.producer.epoch.0, names.collect())
    };
    markers.iter().map(one).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A coordinator with its log, for the transactional id `x`: replays every decision at once.
struct Coordinator {
    txns: Transactions,
    log: Vec<Change>,
    now: Time,
    /// What clients speak.
    version: ClientVersion,
}

impl Coordinator {
    fn new(version: ClientVersion) -> Coordinator {
        let mut txns = Transactions::new(Settings::default());
        let now = Time(1_000_000);
        txns.supply((1..=64).map(ProducerId));
        txns.loaded(now);
        txns.set_catalog(catalog(&TOPICS));
        Coordinator { txns, log: Vec::new(), now, version }
    }

    /// Of clients of the second version.
    fn second() -> Coordinator {
        Coordinator::new(ClientVersion::Second)
    }

    /// As if that had been decided long ago.
    fn at(version: ClientVersion, transaction: &Transaction) -> Coordinator {
        let mut coordinator = Coordinator::new(version);
        coordinator.log.push(Change::put("x", transaction));
        coordinator.fail_over();
        coordinator
    }

    fn run<T>(&mut self, decision: Decision<T>) -> (T, Vec<Marker>) {
        for change in &decision.changes {
            self.txns.replay(change).unwrap();
        }
        self.txns.note_decided(self.now, &decision.changes);
        self.log.extend(decision.changes);
        (decision.answer, decision.markers)
    }

    fn init_as(
        &mut self,
        request: InitRequest<'_>,
        began: Time,
    ) -> Result<(Producer, Vec<Marker>), (ErrorCode, Vec<Marker>)> {
        let decision = self.txns.init(self.now, began, request);
        let decision = decision.map_err(|error| (error.code(), Vec::new()))?;
        match self.run(decision) {
            (Ok(producer), markers) => Ok((producer, markers)),
            (Err(error), markers) => Err((error.code(), markers)),
        }
    }

    fn request(&self, known: Option<Producer>) -> InitRequest<'static> {
        let version = self.version;
        InitRequest { transactional_id: "x", timeout_ms: 60_000, version, known, once: false }
    }

    fn init(&mut self, known: Option<Producer>) -> Result<Producer, ErrorCode> {
        let (request, now) = (self.request(known), self.now);
        self.init_as(request, now).map(|(producer, _)| producer).map_err(|(code, _)| code)
    }

    fn add_at(
        &mut self,
        began: Time,
        producer: Producer,
        topic: &str,
        number: i32,
    ) -> Result<(), ErrorCode> {
        let partitions = [wire(topic, number)];
        let request = AddRequest {
            transactional_id: "x",
            producer,
            version: self.version,
            partitions: &partitions,
            groups: &[],
        };
        let decision = self.txns.add(self.now, began, request).map_err(|error| error.code())?;
        self.run(decision);
        Ok(())
    }

    fn add(&mut self, producer: Producer, topic: &str, number: i32) -> Result<(), ErrorCode> {
        self.add_at(self.now, producer, topic, number)
    }

    fn end_at(
        &mut self,
        began: Time,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<(Producer, Vec<Marker>), ErrorCode> {
        let request = EndRequest { transactional_id: "x", producer, outcome };
        let decision = self.txns.end(self.now, began, request).map_err(|error| error.code())?;
        Ok(self.run(decision))
    }

    fn end(
        &mut self,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<(Producer, Vec<Marker>), ErrorCode> {
        self.end_at(self.now, producer, outcome)
    }

    /// Every partition has what it was told.
    fn write(&mut self, markers: &[Marker]) {
        for marker in markers {
            for partition in &marker.partitions {
                let (id, ticket) = (&marker.transactional_id, marker.ticket);
                let decision = self.txns.marked(self.now, id, ticket, partition.key());
                self.run(decision);
            }
        }
    }

    /// A transaction that wrote to `t0`, from its beginning to its end.
    fn transact(&mut self, producer: Producer, outcome: Outcome) -> Producer {
        self.add(producer, "t", 0).unwrap();
        let (next, markers) = self.end(producer, outcome).unwrap();
        self.write(&markers);
        next
    }

    fn pass(&mut self, ms: u64) -> Vec<Marker> {
        self.now = self.now.plus(ms);
        let decision = self.txns.on_time(self.now);
        self.run(decision).1
    }

    fn topics(&mut self, topics: &[(&str, u8, u32)]) -> Vec<Marker> {
        self.txns.set_catalog(catalog(topics));
        let decision = self.txns.catalog_changed(self.now);
        self.run(decision).1
    }

    /// The coordinator fails, and another takes over from the log.
    fn fail_over(&mut self) {
        let mut txns = replayed(&self.log);
        if !self.txns.by_id.is_empty() {
            assert_eq!(txns.by_id, self.txns.by_id, "a replay comes to the same");
        }
        txns.supply(self.txns.spare.iter().copied());
        txns.loaded(self.now);
        txns.bugs = self.txns.bugs.clone();
        let catalog = self.txns.catalog.clone().unwrap();
        self.txns = txns;
        self.txns.set_catalog(catalog);
        let decision = self.txns.catalog_changed(self.now);
        self.run(decision);
    }

    fn state(&self) -> Option<State> {
        self.txns.describe("x").ok().map(|description| description.state)
    }
}

/// What a coordinator knows that begins with this log.
fn replayed<'a>(log: impl IntoIterator<Item = &'a Change>) -> Transactions {
    let mut txns = Transactions::new(Settings::default());
    for change in log {
        let (key, value) = change.encode();
        let decoded = Change::decode(&key, value.as_deref()).unwrap();
        assert_eq!(decoded, *change);
        txns.replay(&decoded).unwrap();
    }
    txns
}

/// X1.
#[test]
fn a_transactional_id_has_its_coordinator_by_its_name() {
    assert_eq!(coordinator_partition("transaction_id_0", 50), PartitionId(9));
}

#[test]
fn transactional_ids_are_checked() {
    let mut coordinator = Coordinator::second();
    let request = coordinator.request(None);
    let longest = "ä".repeat(255);
    let now = coordinator.now;
    for bad in ["", "a\nb", &"x".repeat(256)] {
        let request = InitRequest { transactional_id: bad, ..request };
        let (refused, _) = coordinator.init_as(request, now).unwrap_err();
        assert_eq!(refused, ErrorCode::InvalidTransactionalId, "{bad:?}");
        assert_eq!(
            coordinator.txns.describe(bad).unwrap_err().code(),
            ErrorCode::InvalidTransactionalId
        );
    }
    let request = InitRequest { transactional_id: &longest, ..request };
    assert!(coordinator.init_as(request, now).is_ok());
}

/// All that can be refused says so in terms of the wire.
#[test]
fn refusals_carry_their_facts() {
    let error = TxnError::fenced("x", producer(7, 3));
    let wire = WireError::from(error);
    assert_eq!(wire.code, ErrorCode::ProducerFenced);
    assert_eq!((&*wire.facts["producer_id"], &*wire.facts["actual_epoch"]), ("7", "3"));
    let error = TxnError::cannot_end(Outcome::Commit, State::Empty, "why");
    assert_eq!(WireError::from(error).facts["state"], "Empty");
}
