//! A producer's process: it is initialised, begins transactions, writes, ends them, and asks each question until it is
//! answered. When it is fenced it is over, and whoever supervises it starts another one unless one runs.

use super::calls::{Asked, Call, From};
use super::lanes::Lane;
use super::settings::TxnSettings;
use super::{Number, TxnEvent};
use crate::chance::Chance;
use crate::clients::Outcome as Concluded;
use crate::violation::Checked;
use crate::world::{Event, World};
use std::collections::{BTreeMap, BTreeSet};
use troupe_machines::txn::{ClientVersion, Outcome, Producer};

pub struct Client {
    pub site: usize,
    /// Which transactional id.
    pub id: usize,
    pub version: ClientVersion,
    timeout_ms: u32,
    /// No process, until another one is needed, or is started beside the first.
    pub stopped: bool,
    wake_at: u64,
    /// Does nothing, with whatever is open.
    pub slow_until: u64,
    /// Answers to its calls are lost.
    pub deaf_until: u64,
    // of this life of the process
    pub producer: Option<Producer>,
    pub call: Option<Sent>,
    pub open: Option<Open>,
    pub lanes: BTreeMap<u32, Lane>,
    coordinator: usize,
    idle_until: u64,
    /// After the faults, one more transaction was committed.
    pub probed: bool,
}

/// What is asked, until it is answered.
#[derive(Clone, Debug)]
pub struct Sent {
    pub attempt: u64,
    pub asked: Asked,
    /// To be asked again then; `None`: an answer may come.
    pub again_at: Option<u64>,
}

/// A transaction as its client has it.
#[derive(Clone, Debug)]
pub struct Open {
    pub number: Number,
    pub batches_left: u64,
    aborts: bool,
    /// Known to be part of it.
    pub added: BTreeSet<u32>,
    /// It failed somewhere: nothing but an abort is left.
    pub failed: bool,
    /// What was sent may still arrive.
    pub in_doubt: bool,
    began_healing: bool,
}

impl Client {
    pub fn draw(me: usize, site: usize, settings: &TxnSettings, whim: &mut Chance) -> Client {
        let (soonest, latest) = settings.timeout_ms;
        let first_in = settings.first_version_in;
        let is_first = first_in > 0 && whim.one_in(first_in);
        Client {
            site,
            id: me % settings.ids,
            version: if is_first { ClientVersion::First } else { ClientVersion::Second },
            timeout_ms: whim.between(soonest.into(), latest.into()) as u32,
            stopped: me >= settings.ids,
            wake_at: 0,
            slow_until: 0,
            deaf_until: 0,
            producer: None,
            call: None,
            open: None,
            lanes: BTreeMap::new(),
            coordinator: 0,
            idle_until: 0,
            probed: false,
        }
    }

    /// A new process knows nothing.
    pub fn begin(&mut self) {
        self.producer = None;
        self.call = None;
        self.open = None;
        self.lanes.clear();
        self.probed = false;
    }

    /// From here on this is who writes.
    pub fn is_now(&mut self, producer: Producer) {
        if self.producer != Some(producer) {
            self.lanes.clear();
        }
        self.producer = Some(producer);
    }

    /// Nothing of it is sent any more, and what was may arrive.
    pub fn fail(&mut self) {
        if let Some(open) = &mut self.open {
            open.failed = true;
            open.in_doubt |= self.lanes.values().any(Lane::is_in_doubt);
        }
        self.lanes.values_mut().for_each(Lane::give_up);
    }
}

impl World {
    pub fn txn_client_tick(&mut self, me: usize) -> Checked {
        let wait = self.whim.between(5, 40);
        let site = self.txn.clients[me].site;
        self.schedule(site, wait, Event::txn(TxnEvent::ClientTick { client: me }));
        let client = &self.txn.clients[me];
        if client.stopped {
            let others = |other: &&Client| other.id == client.id && !other.stopped;
            let is_needed = !self.txn.clients.iter().any(|other| others(&other));
            if is_needed && self.now >= client.wake_at {
                self.start_client(me);
            }
            return Ok(());
        }
        if self.now < client.slow_until {
            return Ok(());
        }
        if let Some(sent) = &client.call {
            if sent.again_at.is_some_and(|at| at <= self.now) {
                self.ask_coordinator_again(me);
            }
            return Ok(());
        }
        let Some(producer) = client.producer else {
            let timeout_ms = client.timeout_ms;
            self.ask_coordinator(me, Asked::Init { known: None, timeout_ms });
            return Ok(());
        };
        match client.open.clone() {
            None => self.begin_transaction(me, producer),
            Some(open) => self.go_on(me, producer, &open)?,
        }
        Ok(())
    }

    pub fn start_client(&mut self, me: usize) {
        self.txn.clients[me].stopped = false;
        self.txn.clients[me].begin();
        self.txn_counts.clients_started += 1;
    }

    /// It is fenced, and over.
    pub fn stop_client(&mut self, me: usize) {
        let wait = self.whim.between(100, 1_500);
        let now = self.now;
        self.abandon(me);
        let client = &mut self.txn.clients[me];
        client.begin();
        client.stopped = true;
        client.wake_at = now + wait;
        self.txn_counts.fenced_clients += 1;
    }

    /// Its transaction has failed.
    pub fn fail_client(&mut self, me: usize) {
        self.abandon(me);
        self.txn.clients[me].fail();
    }

    /// Nobody will know what became of what it has not heard of.
    pub fn abandon(&mut self, me: usize) {
        let lanes = self.txn.clients[me].lanes.iter();
        let pending = lanes.flat_map(|(partition, lane)| {
            lane.pending.iter().map(move |batch| (*partition, batch.value))
        });
        for (partition, value) in pending.collect::<Vec<_>>() {
            self.txn_batch_concluded(partition, value, Concluded::Unknown);
        }
    }

    fn begin_transaction(&mut self, me: usize, producer: Producer) {
        let client = &self.txn.clients[me];
        if self.now < client.idle_until || (self.healing && client.probed) {
            return;
        }
        let (batches_left, aborts) = (self.whim.between(1, 6), self.whim.one_in(3));
        let open = Open {
            number: self.txn.truth.begin(producer),
            batches_left,
            aborts: aborts && !self.healing,
            added: BTreeSet::new(),
            failed: false,
            in_doubt: false,
            began_healing: self.healing,
        };
        self.txn.clients[me].open = Some(open);
        self.txn_counts.begun += 1;
    }

    fn go_on(&mut self, me: usize, producer: Producer, open: &Open) -> Checked {
        if open.failed {
            return self.give_up_transaction(me, producer, open);
        }
        let client = &self.txn.clients[me];
        let oldest = client.lanes.values().filter_map(Lane::oldest_sent).min();
        let waits_long = oldest.is_some_and(|at| self.now > at + 600);
        if waits_long && !self.healing && self.whim.one_in(40) {
            self.txn_counts.given_up += 1;
            self.fail_client(me);
            return Ok(());
        }
        let is_first = client.version == ClientVersion::First;
        for _ in 0..open.batches_left.min(self.whim.below(3)) {
            let partition = self.whim.below(self.settings.written_partitions().into()) as u32;
            if is_first && !open.added.contains(&partition) {
                let partition = self.key(partition);
                self.ask_coordinator(me, Asked::Add { producer, partition });
                return Ok(());
            }
            if self.has_room(me, partition) {
                self.new_txn_batch(me, partition, producer, open.number);
                if let Some(open) = &mut self.txn.clients[me].open {
                    open.batches_left -= 1;
                }
            }
        }
        self.send_txn_batches(me);
        let client = &self.txn.clients[me];
        let Some(open) = &client.open else { return Ok(()) };
        let all_done = open.batches_left == 0 && client.lanes.values().all(Lane::is_done);
        if all_done {
            let outcome = if open.aborts { Outcome::Abort } else { Outcome::Commit };
            self.ask_coordinator(me, Asked::End { producer, outcome, number: open.number });
        }
        Ok(())
    }

    /// An epoch in which something is under way, or in which nothing may have begun, is left behind.
    fn give_up_transaction(&mut self, me: usize, producer: Producer, open: &Open) -> Checked {
        let client = &self.txn.clients[me];
        let stays = client.version == ClientVersion::First;
        let timeout_ms = client.timeout_ms;
        let asked = if open.added.is_empty() || (stays && open.in_doubt) {
            Asked::Init { known: Some(producer), timeout_ms }
        } else {
            Asked::End { producer, outcome: Outcome::Abort, number: open.number }
        };
        self.ask_coordinator(me, asked);
        Ok(())
    }

    /// The transaction is over, as the client was told.
    pub fn txn_is_over(&mut self, me: usize, outcome: Outcome) -> Checked {
        let Some(open) = self.txn.clients[me].open.take() else { return Ok(()) };
        self.txn.truth.told(open.number, outcome)?;
        let wait = if self.whim.one_in(3) { self.whim.between(10, 400) } else { 0 };
        let client = &mut self.txn.clients[me];
        client.idle_until = self.now + wait;
        client.probed |= open.began_healing && outcome == Outcome::Commit;
        match outcome {
            Outcome::Commit => self.txn_counts.told_committed += 1,
            Outcome::Abort => self.txn_counts.told_aborted += 1,
        }
        Ok(())
    }

    fn ask_coordinator(&mut self, me: usize, asked: Asked) {
        let sent = Sent { attempt: 0, asked, again_at: None };
        self.txn.clients[me].call = Some(sent);
        self.ask_coordinator_again(me);
    }

    fn ask_coordinator_again(&mut self, me: usize) {
        let (attempt, patience) = (self.take_id(), self.whim.between(300, 1_500));
        let client = &mut self.txn.clients[me];
        let (site, id, version) = (client.site, client.id, client.version);
        let Some(sent) = &mut client.call else { return };
        (sent.attempt, sent.again_at) = (attempt, None);
        let call = Call {
            from: From::Client(me),
            attempt,
            id,
            version,
            // in an epoch that stays nothing else tells what is late
            came: (version == ClientVersion::First).then_some(self.now),
            until: self.now + 5_000,
            waits_until: None,
            asked: sent.asked.clone(),
        };
        let coordinator = client.coordinator;
        self.schedule(site, patience, Event::txn(TxnEvent::CallTimeout { client: me, attempt }));
        let repeats = version == ClientVersion::Second && !matches!(call.asked, Asked::Init { .. });
        if repeats && self.net.one_in(20) {
            // an older connection still has it
            let wait = self.net.between(1, 4_000);
            let event = TxnEvent::ToCoordinator(Box::new(call.clone()));
            self.schedule(coordinator, wait, Event::txn(event));
            self.txn_counts.repeated_calls += 1;
        }
        if self.whim.one_in(3) {
            let via = self.whim.index(self.settings.brokers);
            self.send(site, via, Event::txn(TxnEvent::Via(Box::new(call))));
        } else {
            self.send(site, coordinator, Event::txn(TxnEvent::ToCoordinator(Box::new(call))));
        }
    }

    /// In a while, perhaps of somebody else.
    pub fn ask_later(&mut self, me: usize) {
        let wait = self.whim.between(10, 200);
        let (now, key) = (self.now, self.coordinator_key(self.txn.clients[me].id));
        let site = self.txn.clients[me].site;
        let guess = self.guess_leader(site, &key);
        let client = &mut self.txn.clients[me];
        client.coordinator = guess;
        if let Some(sent) = &mut client.call {
            sent.again_at = Some(now + wait);
        }
    }
}
