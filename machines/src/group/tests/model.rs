//! Random histories, with members that do what the contract says: a partition has one reader, every replay
//! agrees, and when everybody applies what it is told, all come to their targets.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    Join {
        client: usize,
        subscription: usize,
        is_static: bool,
    },
    /// Comes back as what it was, if it was somebody.
    ComeBack(usize),
    Leave(usize),
    Break(usize),
    Apply(usize),
    Subscribe(usize, usize),
    Commit(usize, u32),
    Pass(u64),
    Topics(usize),
    FailOver,
}

const CLIENTS: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        3 => (client.clone(), 0..4usize, any::<bool>()).prop_map(|(client, subscription, is_static)| {
            Step::Join { client, subscription, is_static }
        }),
        3 => client.clone().prop_map(Step::ComeBack),
        1 => client.clone().prop_map(Step::Leave),
        2 => client.clone().prop_map(Step::Break),
        8 => client.clone().prop_map(Step::Apply),
        1 => (client.clone(), 0..4usize).prop_map(|(client, to)| Step::Subscribe(client, to)),
        3 => (client, 0..6u32).prop_map(|(client, number)| Step::Commit(client, number)),
        2 => prop_oneof![Just(100), Just(2_500), Just(6_000), Just(700_000)].prop_map(Step::Pass),
        1 => (0..4usize).prop_map(Step::Topics),
        1 => Just(Step::FailOver),
    ];
    prop::collection::vec(step, 1..80)
}

fn wanted(which: usize) -> pb::Subscription {
    match which {
        0 => subscription(&["t"]),
        1 => subscription(&["t", "u"]),
        2 => pattern(".*"),
        _ => subscription(&["u", "unknown"]),
    }
}

fn topics(which: usize) -> &'static [(&'static str, u8, u32)] {
    match which {
        0 => &[("t", 1, 4), ("u", 2, 3)],
        1 => &[("t", 1, 6), ("u", 2, 3), ("v", 3, 1)],
        2 => &[("t", 4, 2)],
        _ => &[("__t", 5, 2), ("u", 2, 4)],
    }
}

type Partition = (String, bytes::Bytes, i32);

/// What a client knows of itself.
#[derive(Clone, Debug, Default)]
struct Client {
    session: Option<SessionId>,
    member_id: String,
    epoch: u32,
    subscription: usize,
    reading: BTreeSet<Partition>,
    /// Told, and not applied yet.
    told: Option<(u64, BTreeSet<Partition>)>,
}

struct World {
    coordinator: Coordinator,
    clients: Vec<Client>,
    names: u32,
}

impl World {
    fn new() -> World {
        let coordinator = Coordinator::new(topics(0));
        World { coordinator, clients: vec![Client::default(); CLIENTS], names: 0 }
    }

    fn hear(&mut self, pushes: Vec<Push>) {
        for push in pushes {
            let mut clients = self.clients.iter_mut();
            let Some(client) = clients.find(|it| it.session == Some(push.session)) else {
                continue;
            };
            client.member_id = push.member_id.to_string();
            client.epoch = push.member_epoch;
            if let Some((number, topics)) = push.assignment {
                assert!(client.told.is_none(), "one is outstanding at a time");
                let one = |topic: pb::TopicPartitions| {
                    let (name, id) = (topic.topic, topic.topic_id);
                    topic
                        .partitions
                        .into_iter()
                        .map(move |number| (name.clone(), id.clone(), number))
                };
                let all: BTreeSet<_> = topics.into_iter().flat_map(one).collect();
                client.reading.extend(all.iter().cloned());
                client.told = Some((number, all));
            }
        }
        for (session, _) in std::mem::take(&mut self.coordinator.ended) {
            for client in &mut self.clients {
                if client.session == Some(session) {
                    *client = Client::default();
                }
            }
        }
    }

    fn join(&mut self, at: usize, start: pb::MemberStart, mut client: Client) {
        self.names += 1;
        client.session = Some(SessionId(self.coordinator.sessions + 1));
        let before = std::mem::replace(&mut self.clients[at], client);
        match self.coordinator.join_as(&format!("m{:03}", self.names), start) {
            Ok((_, pushes)) => self.hear(pushes),
            // It knows now that nothing is its own.
            Err(_) if before.session.is_none() => self.clients[at] = Client::default(),
            Err(_) => self.clients[at] = before,
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.coordinator.now;
        match *step {
            Step::Join { client, subscription, is_static } => {
                if let Some(session) = self.clients[client].session {
                    self.coordinator.groups.disconnected(now, session);
                }
                let instance_id = if is_static { format!("i{client}") } else { String::new() };
                let start = pb::MemberStart {
                    instance_id,
                    subscription: Some(wanted(subscription)),
                    ..start()
                };
                let new = Client { subscription, ..Client::default() };
                self.join(client, start, new);
            }
            Step::ComeBack(client) => {
                let before = self.clients[client].clone();
                if before.member_id.is_empty() || before.session.is_some() {
                    return;
                }
                let mut owned: BTreeMap<_, pb::TopicPartitions> = BTreeMap::new();
                for (topic, topic_id, number) in &before.reading {
                    let entry = owned.entry((topic, topic_id)).or_insert_with(|| {
                        let (topic, topic_id) = (topic.clone(), topic_id.clone());
                        pb::TopicPartitions { topic, topic_id, partitions: Vec::new() }
                    });
                    entry.partitions.push(*number);
                }
                let start = pb::MemberStart {
                    member_id: before.member_id.clone(),
                    member_epoch: before.epoch,
                    owned: owned.into_values().collect(),
                    subscription: Some(wanted(before.subscription)),
                    ..start()
                };
                self.join(client, start, Client { told: None, ..before });
            }
            Step::Leave(client) => {
                if let Some(session) = self.clients[client].session {
                    self.clients[client] = Client::default();
                    let pushes = self.coordinator.leave(session);
                    self.hear(pushes);
                }
            }
            Step::Break(client) => {
                if let Some(session) = self.clients[client].session.take() {
                    self.coordinator.groups.disconnected(now, session);
                }
            }
            Step::Apply(client) => self.apply(client),
            Step::Subscribe(client, to) => {
                if let Some(session) = self.clients[client].session {
                    self.clients[client].subscription = to;
                    let decision = self.coordinator.groups.subscribe(now, session, wanted(to));
                    let (_, pushes) = self.coordinator.run(decision.unwrap());
                    self.hear(pushes);
                }
            }
            Step::Commit(client, number) => self.commit(client, number),
            Step::Pass(ms) => {
                let pushes = self.coordinator.pass(ms);
                self.hear(pushes);
            }
            Step::Topics(which) => {
                let pushes = self.coordinator.topics(topics(which));
                self.hear(pushes);
            }
            Step::FailOver => {
                self.coordinator.fail_over();
                self.clients.iter_mut().for_each(|client| client.session = None);
            }
        }
    }

    fn apply(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(session) = client.session else { return };
        let Some((number, told)) = client.told.take() else { return };
        client.reading = told;
        let decision = self.coordinator.groups.applied(self.coordinator.now, session, number);
        let (_, pushes) = self.coordinator.run(decision);
        self.hear(pushes);
    }

    /// A member may commit whatever it reads; nobody else may.
    fn commit(&mut self, at: usize, number: u32) {
        let client = self.clients[at].clone();
        let is_member = self.is_member(&client);
        for (topic, topic_id, of) in &client.reading {
            if *of != number as i32 {
                continue;
            }
            let exists = self.coordinator.groups.catalog.as_ref().is_some_and(|catalog| {
                let topic = catalog.topics.get(topic.as_str());
                topic.is_some_and(|it| it.id.to_wire() == *topic_id && number < it.partitions)
            });
            let refused = self.coordinator.commit(&client.member_id, client.epoch, topic, *of, 1);
            assert_eq!(refused.is_none(), exists && is_member, "{refused:?} {client:?}");
        }
    }

    fn is_member(&self, client: &Client) -> bool {
        let group = self.coordinator.groups.groups.get("g");
        let members = group.map(|group| &group.membership.members);
        members.is_some_and(|members| members.contains_key(client.member_id.as_str()))
    }

    fn check(&self) {
        assert_eq!(self.read_twice(), None);
    }

    /// A partition with two readers that are members.
    fn read_twice(&self) -> Option<String> {
        let mut read = BTreeSet::new();
        for client in self.clients.iter().filter(|client| self.is_member(client)) {
            for (topic, _, number) in &client.reading {
                if !read.insert((topic, number)) {
                    return Some(format!("{topic}{number}"));
                }
            }
        }
        None
    }

    /// All who are there apply what they are told, until nothing is left to be told.
    fn settle(&mut self) {
        for _ in 0..4 {
            for at in 0..CLIENTS {
                self.step(&Step::ComeBack(at));
            }
            let pushes = self.coordinator.pass(4_900);
            self.hear(pushes);
            for _ in 0..4 {
                (0..CLIENTS).for_each(|at| self.apply(at));
            }
            self.check();
        }
        // Whoever is away for good is out by now.
        let pushes = self.coordinator.pass(60_000);
        self.hear(pushes);
        for _ in 0..4 {
            (0..CLIENTS).for_each(|at| self.apply(at));
        }
    }

    fn check_settled(&self) {
        let Some((_, group)) = self.coordinator.groups.group("g") else { return };
        let members = &group.membership.members;
        let state = self.coordinator.state();
        let expected =
            if members.is_empty() { pb::GroupState::Empty } else { pb::GroupState::Stable };
        assert_eq!(state, expected);
        let catalog = self.coordinator.groups.catalog.as_ref().unwrap();
        for (name, topic) in &catalog.topics {
            let wants =
                members.values().any(|it| it.info.subscription.includes(name, topic.internal));
            for number in 0..topic.partitions {
                let partition =
                    GroupPartition { topic: Arc::clone(name), partition: PartitionId(number) };
                assert_eq!(group.membership.holders.contains_key(&partition), wants, "{partition}");
            }
        }
        for client in self.clients.iter().filter(|client| self.is_member(client)) {
            let member = &members[client.member_id.as_str()];
            assert_eq!(client.reading.len(), member.target.partitions.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// I13, G16, and that decide and replay are one.
    #[test]
    fn random_histories_keep_the_promises(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.coordinator.fail_over();
        world.clients.iter_mut().for_each(|client| client.session = None);
        world.settle();
        world.check();
        world.check_settled();
        world.coordinator.fail_over();
    }

    /// S20, S23: whatever of a coordinator's log has been cleaned, and whichever tombstones have gone with that, the
    /// next coordinator knows the same: members, epochs, who holds what, offsets, and what expires when.
    #[test]
    fn a_log_cleaned_at_any_point_comes_to_the_same(
        steps in steps(),
        cleaned in any::<prop::sample::Index>(),
        forgotten in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        let log = &world.coordinator.log;
        let cleaned = cleaned.index(log.len() + 1);
        let forgotten = forgotten.index(cleaned + 1);
        let of_cleaned = clean(&log[..cleaned], forgotten);
        let now = world.coordinator.now;
        let replayed = |log: &mut dyn Iterator<Item = &Change>| {
            let mut groups = Groups::new(Settings::default());
            log.for_each(|change| groups.replay(change).unwrap());
            groups.loaded(now);
            groups
        };
        let whole = replayed(&mut log.iter());
        let short = replayed(&mut of_cleaned.into_iter().chain(&log[cleaned..]));
        prop_assert_eq!(&short.groups, &whole.groups);
        prop_assert_eq!(&whole.groups, &world.coordinator.groups.groups);
        let mut end = now;
        let mut both = [whole, short];
        for groups in &mut both {
            groups.set_catalog(catalog(topics(0)));
        }
        while let Some(next) = both[0].next_deadline().filter(|_| end < now.plus(8 * 86_400_000)) {
            end = next.max(end.plus(1));
            let [whole, short] = both.each_mut().map(|groups| {
                let decision = groups.on_time(end);
                decision.changes.iter().for_each(|change| groups.replay(change).unwrap());
                decision.changes
            });
            prop_assert_eq!(whole, short);
            prop_assert_eq!(both[0].next_deadline(), both[1].next_deadline());
        }
    }
}

/// What cleaning leaves of a log: the last record of each key, without the tombstones before `forgotten`.
pub(super) fn clean(log: &[Change], forgotten: usize) -> Vec<&Change> {
    let keys: Vec<_> = log.iter().map(|change| change.key.encode_to_vec()).collect();
    let is_last = |at: usize| !keys[at + 1..].contains(&keys[at]);
    let is_kept = |at: &usize| is_last(*at) && (log[*at].value.is_some() || *at >= forgotten);
    (0..log.len()).filter(is_kept).map(|at| &log[at]).collect()
}

/// The check of the histories above is one that finds what it is for.
#[test]
fn random_histories_find_a_grant_before_release() {
    let config = ProptestConfig {
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let chance = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let outcome = TestRunner::new_with_rng(config, chance).run(&steps(), |steps| {
        let mut world = World::new();
        world.coordinator.groups.plant(Bug::GrantBeforeRelease);
        for step in &steps {
            world.step(step);
            prop_assert_eq!(world.read_twice(), None);
        }
        Ok(())
    });
    let found = matches!(&outcome, Err(TestError::Fail(why, _)) if why.message().contains("Some("));
    assert!(found, "{outcome:?}");
}
