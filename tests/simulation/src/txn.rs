//! Transactions in the same world: their coordinators run where the last partitions of the topic are led, on those logs and
//! disks, and die with them; producers write to the other partitions, fail at every step, and are followed by others under
//! their names; readers of committed records follow.
//!
//! - `coordinator`, `calls`: a coordinator's actor: it loads, decides, appends, and gives out what is committed.
//! - `gate`, `markers`: what partitions ask of it, and are told.
//! - `client`, `lanes`, `hearing`: a producer's process. `reader`: who reads what is committed.
//! - `storm`: what happens to producers. `healing`: and then.
//! - `truth`: what the logs say of transactions, and what was meant, as nobody in the run can see it.

mod calls;
mod client;
mod coordinator;
mod gate;
mod healing;
mod hearing;
mod lanes;
mod markers;
mod reader;
mod settings;
mod storm;
mod tests;
mod truth;

pub use gate::Verifying;
pub use settings::{TxnHostBug, TxnSettings};
pub use truth::{Number, TxnTruth};

use crate::clients::Produced;
use crate::violation::Checked;
use crate::world::{At, Event, World};
use calls::{Answer, Call};
use client::Client;
use coordinator::Coordinator;
use gate::GateCall;
use markers::{MarkerCall, Way};
use reader::{ReadCommitted, Reader};
use std::collections::{BTreeMap, BTreeSet};
use troupe_machines::txn::Change;
use troupe_proto::ids::{Offset, PartitionKey, ProducerId};

#[derive(Debug)]
pub enum TxnEvent {
    CoordinatorTick,
    ClientTick {
        client: usize,
    },
    /// To any node, which hands it on.
    Via(Box<Call>),
    ToCoordinator(Box<Call>),
    Answered {
        client: usize,
        attempt: u64,
        answer: Answer,
    },
    CallTimeout {
        client: usize,
        attempt: u64,
    },
    Produced {
        client: usize,
        attempt: u64,
        result: Produced,
    },
    ProduceTimeout {
        client: usize,
        attempt: u64,
    },
    GateAnswered {
        call: u64,
        answer: Answer,
    },
    GateRetry {
        call: u64,
    },
    GateTimeout {
        call: u64,
    },
    Marker {
        call: u64,
    },
    MarkerAnswered {
        call: u64,
        result: Produced,
    },
    MarkerTimeout {
        call: u64,
    },
    ReaderTick {
        reader: usize,
    },
    Fetch {
        reader: usize,
        attempt: u64,
        key: PartitionKey,
        from: Offset,
    },
    Fetched {
        reader: usize,
        attempt: u64,
        result: ReadCommitted,
    },
    Storm,
}

/// Everything of transactions that is not a machine of its own.
#[derive(Default)]
pub struct TxnWorld {
    pub coordinators: BTreeMap<At, Coordinator>,
    /// After a coordinator has ended, its successor waits.
    rest_until: BTreeMap<At, u64>,
    pub clients: Vec<Client>,
    pub readers: Vec<Reader>,
    /// By the value that is produced: what a coordinator appended, and which transaction it was asked to end.
    batches: BTreeMap<u64, (Vec<Change>, Option<Number>)>,
    pub truth: TxnTruth,
    gate_calls: BTreeMap<u64, GateCall>,
    marker_calls: BTreeMap<u64, MarkerCall>,
    /// Which markers are under way from a site.
    ways: BTreeMap<(usize, ProducerId, PartitionKey), Way>,
    last_producer_id: u64,
    /// Requests whose batches some leader has taken: what follows on their streams is taken as well.
    pub accepted: BTreeSet<u64>,
}

impl Event {
    pub fn txn(event: TxnEvent) -> Event {
        Event::Txn(Box::new(event))
    }
}

impl World {
    pub fn build_transactions(&mut self) {
        let Some(settings) = self.settings.txn.clone() else { return };
        self.txn.last_producer_id = 1_000_000;
        for me in 0..2 * settings.ids {
            let site = self.add_site(None);
            let client = Client::draw(me, site, &settings, &mut self.whim);
            self.txn.clients.push(client);
        }
        for reader in 0..settings.readers {
            let site = self.add_site(None);
            self.txn.readers.push(Reader::new(site, self.settings.written_partitions()));
            self.schedule(site, 1_100, Event::txn(TxnEvent::ReaderTick { reader }));
        }
        for partition in 0..self.settings.written_partitions() {
            let key = self.key(partition);
            self.txn.truth.add_partition(key);
        }
        self.schedule_free(2_500, Event::txn(TxnEvent::Storm));
    }

    /// Of which partition a transactional id is.
    pub fn coordinator_key(&self, id: usize) -> PartitionKey {
        let coordinators = self.settings.txn.as_ref().map_or(1, |txn| txn.coordinators);
        self.key(self.settings.written_partitions() + id as u32 % coordinators)
    }

    pub fn is_of_coordinator(&self, key: &PartitionKey) -> bool {
        key.partition.0 >= self.settings.written_partitions()
    }

    pub fn txn_event(&mut self, site: usize, event: TxnEvent) -> Checked {
        match event {
            TxnEvent::CoordinatorTick => self.txn_coordinator_tick(site)?,
            TxnEvent::ClientTick { client } => self.txn_client_tick(client)?,
            TxnEvent::Via(call) => self.hand_on(site, *call),
            TxnEvent::ToCoordinator(call) => self.serve_call(site, *call)?,
            TxnEvent::Answered { client, attempt, answer } => {
                self.call_answered(client, attempt, answer)?;
            }
            TxnEvent::CallTimeout { client, attempt } => self.call_timed_out(client, attempt),
            TxnEvent::Produced { client, attempt, result } => {
                self.txn_produced(client, attempt, result);
            }
            TxnEvent::ProduceTimeout { client, attempt } => {
                self.txn_produced(client, attempt, Produced::Unknown);
            }
            TxnEvent::GateAnswered { call, answer } => self.gate_answered(site, call, answer)?,
            TxnEvent::GateRetry { call } => self.ask_for_gate(call),
            TxnEvent::GateTimeout { call } => self.gate_timed_out(site, call)?,
            TxnEvent::Marker { call } => self.write_marker(site, call)?,
            TxnEvent::MarkerAnswered { call, result } => self.marker_heard(site, call, result)?,
            TxnEvent::MarkerTimeout { call } => self.marker_timed_out(call),
            TxnEvent::ReaderTick { reader } => self.reader_tick(reader),
            TxnEvent::Fetch { reader, attempt, key, from } => {
                self.fetch_committed((site, key), reader, attempt, from)?;
            }
            TxnEvent::Fetched { reader, attempt, result } => {
                self.read_committed(reader, attempt, result)?;
            }
            TxnEvent::Storm => self.txn_storm()?,
        }
        Ok(())
    }

    /// What begins with a process on this site.
    pub fn start_txn_processes(&mut self, site: usize) {
        if self.settings.txn.is_none() {
            return;
        }
        if site < self.settings.brokers {
            self.schedule(site, 20, Event::txn(TxnEvent::CoordinatorTick));
        }
        if let Some(client) = self.txn.clients.iter().position(|client| client.site == site) {
            self.abandon(client);
            self.txn.clients[client].begin();
            let wait = self.whim.between(1, 100);
            self.schedule(site, wait, Event::txn(TxnEvent::ClientTick { client }));
        }
    }

    /// What ends with the process on this site.
    pub fn end_txn_processes(&mut self, site: usize) {
        self.txn.coordinators.retain(|at, _| at.0 != site);
        self.txn.ways.retain(|place, _| place.0 != site);
    }
}
