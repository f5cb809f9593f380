//! One coordinator at a time with its log, partitions, clients, and a network between them.

use super::clients::{Answer, Ask, Client};
use super::partitions::{Batch, Partition, Verdict};
use super::truth::Truth;
use super::*;
use std::collections::{BTreeMap, VecDeque};
use troupe_proto::ids::PartitionKey;

const IDS: [&str; 2] = ["x", "y"];
const TIMEOUT_MS: u32 = 10_000;
/// Each is there at times.
const CATALOGS: [&[(&str, u8, u32)]; 4] = [
    &[("t", 1, 2), ("u", 2, 1)],
    &[("t", 1, 2), ("u", 2, 1)],
    &[("t", 1, 2)],
    &[("t", 1, 2), ("u", 3, 1)],
];

#[derive(Clone, Debug)]
enum Message {
    Ask {
        client: usize,
        call: u64,
        began: Time,
        ask: Ask,
    },
    Answer {
        client: usize,
        call: u64,
        answer: Answer,
    },
    /// To the first of its partitions.
    Marker {
        life: u64,
        marker: Marker,
    },
    Marked {
        life: u64,
        id: Arc<str>,
        ticket: Ticket,
        partition: PartitionKey,
    },
}

pub struct World {
    pub truth: Truth,
    chance: Chance,
    now: Time,
    txns: Transactions,
    /// How many coordinators there have been.
    life: u64,
    log: Vec<Change>,
    /// Of the log: what no failure takes away.
    committed: usize,
    /// What is told when that much of the log is committed.
    held: VecDeque<(usize, Message)>,
    /// Who was initialised last, by transactional id, and how long the log was then.
    owners: Vec<(usize, &'static str, usize)>,
    clients: Vec<Client>,
    /// Instances that are there at the same time.
    most: usize,
    partitions: BTreeMap<PartitionKey, Partition>,
    topics: usize,
    network: Vec<Message>,
    next_id: u64,
    bug: Option<Bug>,
    /// Print what happens.
    traced: bool,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut world = World {
            truth: Truth::default(),
            chance: Chance(seed),
            now: Time(1_000_000),
            txns: Transactions::new(Settings::default()),
            life: 0,
            log: Vec::new(),
            committed: 0,
            held: VecDeque::new(),
            owners: Vec::new(),
            clients: Vec::new(),
            most: 0,
            partitions: BTreeMap::new(),
            topics: 0,
            network: Vec::new(),
            next_id: 1,
            bug,
            traced: std::env::var_os("TROUPE_TXN_TRACE").is_some(),
        };
        world.most = [1, 2, 4, 20][world.chance.below(4)];
        if world.chance.one_in(4) {
            // Somebody has been here for long.
            let epoch = 32_755 + world.chance.below(12) as u32;
            let settled = (TIMEOUT_MS, ClientVersion::Second);
            let known = Transaction::empty(world.now, producer(100_000, epoch), None, settled);
            world.log.push(Change::put("x", &known));
        }
        world.fail_over();
        world
    }

    pub fn log(&self) -> &[Change] {
        &self.log
    }

    pub fn step(&mut self) {
        // Nothing happens at the same time as something else.
        self.pass(1);
        match self.chance.below(100) {
            0..3 => self.arrive(),
            3..30 => {
                let at = self.chance.below(self.clients.len());
                self.act(at);
            }
            30..78 => self.deliver(true),
            78..90 => self.commit(),
            90..96 => {
                let ms = [50, 700, 3_000, 11_000][self.chance.below(4)];
                self.pass(ms);
            }
            96..98 => self.fail_over(),
            _ => {
                let which = self.chance.below(CATALOGS.len());
                self.set_topics(which);
            }
        }
        self.check_log();
    }

    /// Nothing is lost any more, and all the time passes that anything may take.
    pub fn settle(&mut self) {
        self.set_topics(0);
        for _ in 0..30 {
            self.commit();
            while !self.network.is_empty() {
                self.deliver(false);
                self.commit();
            }
            self.pass(1_000);
        }
        self.check_log();
        for (id, known) in &self.txns.by_id {
            if known.state == State::Ongoing || known.state.prepared().is_some() {
                self.truth.fail(|| format!("{id} is not over: {known:?}"));
            }
        }
        for (key, partition) in &self.partitions {
            if partition.is_open() {
                self.truth.fail(|| format!("a transaction is not over at {key}"));
            }
        }
        self.check_replay();
    }

    /// Another instance of an application.
    fn arrive(&mut self) {
        if self.clients.iter().filter(|client| !client.closed).count() >= self.most {
            return;
        }
        let id = IDS[self.chance.below(3) % 2];
        let version = [ClientVersion::First, ClientVersion::Second][self.chance.below(2)];
        self.clients.push(Client::new(id, version));
    }

    fn act(&mut self, client: usize) {
        let existing = self.existing();
        let Some(known) = self.clients.get_mut(client) else { return };
        if let Some((call, ask)) = known.act(&mut self.chance, &mut self.truth, &existing) {
            self.network.push(Message::Ask { client, call, began: self.now, ask });
        }
    }

    fn existing(&self) -> Vec<TxnPartition> {
        let of = |(name, n, partitions): &(&str, u8, u32)| {
            let (name, n) = ((*name).to_owned(), *n);
            (0..*partitions).map(move |number| partition(&name, n, number))
        };
        CATALOGS[self.topics].iter().flat_map(of).collect()
    }

    /// Something arrives; with faults it may be lost, or arrive once more later.
    fn deliver(&mut self, faults: bool) {
        if self.network.is_empty() {
            return;
        }
        // What is old may be left for long.
        let newest = self.network.len();
        let at = match self.chance.below(3) {
            0 => self.chance.below(newest),
            _ => newest - 1 - self.chance.below(newest.min(3)),
        };
        let is_word = matches!(self.network[at], Message::Marked { .. });
        let doubled = faults && self.chance.one_in(if is_word { 2 } else { 5 });
        let message = match doubled {
            true => self.network[at].clone(),
            false => self.network.remove(at),
        };
        if faults && !doubled && self.chance.one_in(12) {
            return;
        }
        match message {
            Message::Ask { client, call, began, ask } => self.ask(client, call, began, ask),
            Message::Answer { client, call, answer } => {
                self.clients[client].hear(client, call, answer, &mut self.truth);
            }
            Message::Marker { life, marker } => self.mark(life, marker),
            Message::Marked { life, id, ticket, partition } => {
                // Who asked is gone, and nobody else hears it.
                if life == self.life {
                    let decision = self.txns.marked(self.now, &id, ticket, partition);
                    self.decide(decision);
                }
            }
        }
    }

    fn ask(&mut self, client: usize, call: u64, began: Time, ask: Ask) {
        let asked = self.traced.then(|| format!("{began:?} {client} asks {ask:?}"));
        let answer = match ask {
            Ask::Write { batch, partition, adds } => {
                self.write(client, began, &batch, &partition, adds)
            }
            Ask::Init { known } => self.init(client, began, known),
            Ask::Add { producer, partition } => self.add(client, began, producer, &partition),
            Ask::End { producer, outcome, .. } => self.end(client, began, producer, outcome),
        };
        if answer == Err(ErrorCode::Overtaken) {
            self.truth.seen.note("a late request refused");
        }
        if let Some(asked) = asked {
            println!("{:?}, log {}: {asked}: {answer:?}", self.now, self.log.len());
        }
        self.tell(Message::Answer { client, call, answer });
    }

    fn init(&mut self, client: usize, began: Time, known: Option<Producer>) -> Answer {
        let Client { id, version, .. } = self.clients[client];
        let (timeout_ms, once) = (TIMEOUT_MS, false);
        let request = InitRequest { transactional_id: id, timeout_ms, version, known, once };
        let decision = self.txns.init(self.now, began, request).map_err(|error| error.code())?;
        let unchanged = decision.changes.is_empty();
        let producer = self.decide(decision).map_err(|error| error.code())?;
        if known.is_some() {
            self.check_owner(client, "asks again");
        }
        if unchanged {
            self.truth.seen.note("an init asked twice");
        }
        self.owners.push((self.log.len(), id, client));
        Ok(Some(producer))
    }

    fn add(
        &mut self,
        client: usize,
        began: Time,
        producer: Producer,
        partition: &TxnPartition,
    ) -> Answer {
        let Client { id, version, .. } = self.clients[client];
        let number = i32::try_from(partition.partition.0).unwrap();
        let topic_id = partition.topic_id.to_wire();
        let partitions = [pb::TopicPartition { topic_id, ..wire(&partition.topic, number) }];
        let request = AddRequest {
            transactional_id: id,
            producer,
            version,
            partitions: &partitions,
            groups: &[],
        };
        let decision = self.txns.add(self.now, began, request).map_err(|error| error.code())?;
        self.check_owner(client, "writes");
        self.decide(decision);
        Ok(None)
    }

    fn end(&mut self, client: usize, began: Time, producer: Producer, outcome: Outcome) -> Answer {
        let request = EndRequest { transactional_id: self.clients[client].id, producer, outcome };
        let decision = self.txns.end(self.now, began, request).map_err(|error| error.code())?;
        self.check_owner(client, "ends");
        if decision.changes.is_empty() {
            self.truth.seen.note("an end asked twice");
        }
        let next = self.decide(decision);
        if next.id != producer.id {
            self.truth.seen.note("a new producer id");
        }
        Ok(Some(next))
    }

    /// X19: the leader asks the coordinator before it takes what opens a transaction.
    fn write(
        &mut self,
        client: usize,
        began: Time,
        batch: &Batch,
        partition: &TxnPartition,
        adds: bool,
    ) -> Answer {
        if !self.existing().contains(partition) {
            return Err(ErrorCode::UnknownTopic);
        }
        let key = partition.key();
        let verdict = self.partitions.entry(key).or_default().judge(batch)?;
        if verdict == Verdict::Duplicate {
            return Ok(None);
        }
        if verdict == Verdict::Opens {
            if adds {
                self.add(client, began, batch.producer, partition)?;
                self.commit_all();
            } else if self.committed < self.log.len() {
                return Err(ErrorCode::CoordinatorNotAvailable);
            } else {
                let id = self.clients[client].id;
                let verified = self.txns.verify(id, batch.producer, partition);
                if verified.is_err() {
                    self.truth.seen.note("a record refused by verification");
                }
                verified.map_err(|error| error.code())?;
                self.check_owner(client, "is verified");
            }
        }
        self.partitions.entry(key).or_default().write(batch);
        Ok(None)
    }

    /// In an epoch that stays, a marker is told from a later one by time: it carries until when it counts, and its round
    /// is not over before.
    fn mark(&mut self, life: u64, marker: Marker) {
        let owed = self.txns.get(&marker.transactional_id);
        let is_of_now = life == self.life
            && owed.and_then(|(id, known)| self.txns.owed(id, known)).is_some_and(|owed| {
                owed.ticket == marker.ticket && owed.partitions.contains(&marker.partitions[0])
            });
        if marker.version == ClientVersion::First && !is_of_now {
            return;
        }
        let key = marker.partitions[0].key();
        let Some(partition) = self.partitions.get_mut(&key) else {
            // Nothing was written there.
            if self.existing().contains(&marker.partitions[0]) {
                self.partitions.insert(key, Partition::default());
                self.mark(life, marker);
            }
            return;
        };
        if partition.mark(life, &marker, &mut self.truth) {
            let Marker { ticket, transactional_id: id, .. } = marker;
            self.network.push(Message::Marked { life, id, ticket, partition: key });
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        if self.txns.next_deadline().is_some_and(|at| at <= self.now) {
            let decision = self.txns.on_time(self.now);
            if !decision.changes.is_empty() {
                self.truth.seen.note("aborted by time");
            } else if !decision.markers.is_empty() {
                self.truth.seen.note("a marker told again");
            }
            self.decide(decision);
        }
    }

    fn set_topics(&mut self, which: usize) {
        self.topics = which;
        let existing: Vec<_> = self.existing().iter().map(TxnPartition::key).collect();
        let before = self.partitions.len();
        self.partitions.retain(|key, _| existing.contains(key));
        if self.partitions.len() < before {
            self.truth.seen.note("a deleted partition");
        }
        self.txns.set_catalog(catalog(CATALOGS[self.topics]));
        let decision = self.txns.catalog_changed(self.now);
        self.decide(decision);
    }

    /// Replays a decision and appends it; what it says is told when it is committed.
    fn decide<T>(&mut self, decision: Decision<T>) -> T {
        for change in &decision.changes {
            if let Err(error) = self.txns.replay(change) {
                self.truth.fail(|| format!("a decision cannot be replayed: {error}"));
            }
        }
        self.txns.note_decided(self.now, &decision.changes);
        if self.traced {
            let states = decision.changes.iter().map(|it| it.value.as_ref().map(|it| it.state));
            println!("{:?}: decides {:?}", self.now, states.collect::<Vec<_>>());
        }
        self.log.extend(decision.changes);
        for marker in decision.markers {
            for partition in marker.partitions.clone() {
                let marker = Marker { partitions: vec![partition], ..marker.clone() };
                self.tell(Message::Marker { life: self.life, marker });
            }
        }
        let wanted = self.txns.wanted_ids().min(2);
        for _ in 0..wanted {
            self.txns.supply([ProducerId(self.next_id)]);
            self.next_id += 1;
        }
        decision.answer
    }

    fn tell(&mut self, message: Message) {
        self.held.push_back((self.log.len(), message));
        self.release();
    }

    /// Some of what was appended is on enough replicas.
    fn commit(&mut self) {
        let behind = self.log.len() - self.committed;
        self.committed += match self.chance.one_in(3) {
            true => self.chance.below(behind + 1),
            false => behind,
        };
        self.release();
    }

    fn commit_all(&mut self) {
        self.committed = self.log.len();
        self.release();
    }

    fn release(&mut self) {
        while let Some((_, message)) = self.held.pop_front_if(|(at, _)| *at <= self.committed) {
            self.network.push(message);
        }
    }

    /// Another coordinator takes over, with what is committed, and maybe with some of what is not.
    fn fail_over(&mut self) {
        if self.life > 0 {
            self.check_replay();
        }
        let kept = self.committed + self.chance.below(self.log.len() - self.committed + 1);
        if kept < self.log.len() {
            self.truth.seen.note("records lost with a coordinator");
        }
        if self.traced {
            println!("{:?}: fails, {kept} of {} records stay", self.now, self.log.len());
        }
        self.log.truncate(kept);
        self.committed = kept;
        self.held.clear();
        self.owners.retain(|(at, ..)| *at <= kept);
        self.life += 1;
        self.txns = replayed(&self.log);
        if let Some(bug) = self.bug {
            self.txns.plant(bug);
        }
        self.txns.loaded(self.now);
        self.txns.set_catalog(catalog(CATALOGS[self.topics]));
        let decision = self.txns.catalog_changed(self.now);
        self.decide(decision);
    }

    fn check_replay(&mut self) {
        let again = replayed(&self.log).by_id;
        if again != self.txns.by_id {
            self.truth.fail(|| format!("a replay comes to {again:?}, not {:?}", self.txns.by_id));
        }
    }

    /// I10: whoever was initialised last, and nobody before it.
    fn check_owner(&mut self, client: usize, what: &str) {
        let id = self.clients[client].id;
        let owner = self.owners.iter().rev().find(|(_, of, _)| *of == id);
        let owner = owner.map(|(_, _, owner)| *owner);
        if owner != Some(client) {
            self.truth.fail(|| format!("{client} {what}, and {owner:?} has fenced it"));
        }
    }

    /// X6: what was decided stays.
    fn check_log(&mut self) {
        for id in IDS {
            let of_id = self.log.iter().filter(|change| change.transactional_id() == Ok(id));
            let states: Vec<_> =
                of_id.map(|change| change.value.as_ref().map(|value| value.state)).collect();
            for pair in states.windows(2) {
                let stays = match pair[0] {
                    Some(2) => pair[1] == Some(4),
                    Some(3) => pair[1] == Some(5),
                    _ => true,
                };
                if !stays {
                    self.truth.fail(|| format!("{id} was decided otherwise: {pair:?}"));
                }
            }
        }
    }
}
