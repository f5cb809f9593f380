//! Random histories of transactions with offsets, against a model that remembers every commit: what stands for a partition
//! is the latest of those that are not of a transaction, or of one that is committed (X15).

use super::model::clean;
use super::pending::{producer, request};
use super::*;
use crate::producer::{ClientVersion, Producer};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

const GROUPS: [&str; 2] = ["g", "h"];
const PARTITIONS: i32 = 3;
const PRODUCERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// In the transaction that the producer has open, or in a new one.
    Pend {
        producer: usize,
        group: usize,
        partition: i32,
    },
    End {
        producer: usize,
        commit: bool,
    },
    /// The marker of an earlier end comes again, by a coordinator of so much later an epoch.
    MarkAgain {
        which: prop::sample::Index,
        later: u32,
    },
    /// A commit of a transaction that has ended comes once more.
    CommitLate(prop::sample::Index),
    /// By a coordinator that was replaced.
    MarkByReplaced {
        producer: usize,
    },
    /// Without a transaction.
    Commit {
        group: usize,
        partition: i32,
    },
    DeleteOffset {
        group: usize,
        partition: i32,
    },
    DeleteGroup(usize),
    FailOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (producers, groups) = (0..PRODUCERS, 0..GROUPS.len());
    let partitions = 0..PARTITIONS;
    let place = (groups.clone(), partitions.clone());
    let step = prop_oneof![
        8 => (producers.clone(), groups.clone(), partitions)
            .prop_map(|(producer, group, partition)| Step::Pend { producer, group, partition }),
        6 => (producers.clone(), any::<bool>())
            .prop_map(|(producer, commit)| Step::End { producer, commit }),
        2 => (any::<prop::sample::Index>(), 0..2u32)
            .prop_map(|(which, later)| Step::MarkAgain { which, later }),
        2 => any::<prop::sample::Index>().prop_map(Step::CommitLate),
        1 => producers.prop_map(|producer| Step::MarkByReplaced { producer }),
        2 => place.clone().prop_map(|(group, partition)| Step::Commit { group, partition }),
        1 => place.prop_map(|(group, partition)| Step::DeleteOffset { group, partition }),
        1 => groups.prop_map(Step::DeleteGroup),
        1 => Just(Step::FailOver),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    Committed,
    Aborted,
}

/// One that was acknowledged, in the order of all; 0 deletes.
#[derive(Clone, Debug)]
struct Commit {
    place: (usize, i32),
    offset: i64,
    /// Without one it counts at once.
    transaction: Option<usize>,
}

struct World {
    coordinator: Coordinator,
    commits: Vec<Commit>,
    /// By number: whose, and what became of it.
    transactions: Vec<(Producer, Outcome)>,
    open: [Option<usize>; PRODUCERS],
    epochs: [u32; PRODUCERS],
    /// Those that ended something: the marker's producer.
    markers: Vec<(Producer, bool)>,
    coordinator_epoch: u32,
    version: ClientVersion,
    next_offset: i64,
    wrong: Option<String>,
}

impl World {
    fn new(version: ClientVersion) -> World {
        World {
            coordinator: Coordinator::new(&[("t", 1, PARTITIONS as u32)]),
            commits: Vec::new(),
            transactions: Vec::new(),
            open: [None; PRODUCERS],
            epochs: [0; PRODUCERS],
            markers: Vec::new(),
            coordinator_epoch: 1,
            version,
            next_offset: 1,
            wrong: None,
        }
    }

    fn offset(&mut self) -> i64 {
        self.next_offset += 1;
        self.next_offset
    }

    fn producer(&self, at: usize) -> Producer {
        producer(at as u64 + 1, self.epochs[at])
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pend { producer, group, partition } => {
                let of = self.producer(producer);
                let transaction = *self.open[producer].get_or_insert_with(|| {
                    self.transactions.push((of, Outcome::Open));
                    self.transactions.len() - 1
                });
                let offset = self.offset();
                let asked = request(GROUPS[group], &[(partition, offset)]);
                let answer = self.coordinator.pend(of, &asked);
                self.expect(answer == Ok(vec![None]), "a commit of an open transaction");
                let (place, transaction) = ((group, partition), Some(transaction));
                self.commits.push(Commit { place, offset, transaction });
            }
            Step::End { producer: at, commit } => {
                let of = self.producer(at);
                if let Some(transaction) = self.open[at].take() {
                    let outcome = if commit { Outcome::Committed } else { Outcome::Aborted };
                    self.transactions[transaction].1 = outcome;
                }
                let marker = match self.version {
                    ClientVersion::First => of,
                    ClientVersion::Second => {
                        self.epochs[at] += 1;
                        producer(of.id.0, self.epochs[at])
                    }
                };
                self.mark(marker, commit);
                self.markers.push((marker, commit));
            }
            Step::MarkAgain { which, later } => {
                // Of the first version nobody can tell it from the next one's: its coordinator sees to that.
                if self.markers.is_empty() || self.version == ClientVersion::First {
                    return;
                }
                self.coordinator_epoch += later;
                let (marker, commit) = self.markers[which.index(self.markers.len())];
                self.mark(marker, commit);
            }
            Step::CommitLate(which) => {
                let is_over = |it: &&Commit| {
                    let transaction = it.transaction.map(|at| self.transactions[at]);
                    transaction.is_some_and(|(_, outcome)| outcome != Outcome::Open)
                };
                let over: Vec<_> = self.commits.iter().filter(is_over).cloned().collect();
                if over.is_empty() || self.version == ClientVersion::First {
                    return;
                }
                let Commit { place: (group, partition), offset, transaction } =
                    over[which.index(over.len())].clone();
                let (of, _) = self.transactions[transaction.unwrap()];
                let asked = request(GROUPS[group], &[(partition, offset)]);
                let answer = self.coordinator.pend(of, &asked);
                self.expect(answer == Err(ErrorCode::ProducerFenced), "a late commit is refused");
            }
            Step::MarkByReplaced { producer: at } => {
                let of = self.producer(at);
                let heard = self.coordinator.groups.producers.heard(of.id).is_some();
                if self.coordinator_epoch == 0 || !heard {
                    return;
                }
                let next = producer(of.id.0, of.epoch.0 + 1);
                let answer = self.coordinator.mark(next, true, 0, self.version);
                self.expect(answer == Err(ErrorCode::CoordinatorFenced), "it was replaced");
            }
            Step::Commit { group, partition } => {
                let offset = self.offset();
                let plain = pb::CommitOffsetsRequest {
                    group_id: GROUPS[group].into(),
                    commits: request("", &[(partition, offset)]).commits,
                    ..Default::default()
                };
                let decision = self.coordinator.groups.commit(self.coordinator.now, plain);
                self.coordinator.run(decision);
                self.plain((group, partition), offset);
            }
            Step::DeleteOffset { group, partition } => {
                let partitions = vec![pb::TopicPartitions {
                    topic: "t".into(),
                    partitions: vec![partition],
                    ..Default::default()
                }];
                let group_id = GROUPS[group].into();
                let deletion = pb::DeleteGroupOffsetsRequest { group_id, partitions };
                let now = self.coordinator.now;
                if let Ok(decision) = self.coordinator.groups.delete_offsets(now, deletion) {
                    self.coordinator.run(decision);
                    self.plain((group, partition), 0);
                }
            }
            Step::DeleteGroup(group) => {
                let now = self.coordinator.now;
                if let Ok(decision) = self.coordinator.groups.delete_group(now, GROUPS[group]) {
                    self.coordinator.run(decision);
                    (0..PARTITIONS).for_each(|partition| self.plain((group, partition), 0));
                }
            }
            Step::FailOver => self.coordinator.fail_over(),
        }
    }

    fn plain(&mut self, place: (usize, i32), offset: i64) {
        self.commits.push(Commit { place, offset, transaction: None });
    }

    fn mark(&mut self, marker: Producer, commit: bool) {
        let (epoch, version) = (self.coordinator_epoch, self.version);
        let answer = self.coordinator.mark(marker, commit, epoch, version);
        self.expect(answer.is_ok(), "a marker");
    }

    fn expect(&mut self, is_so: bool, what: &str) {
        if !is_so && self.wrong.is_none() {
            self.wrong = Some(format!("expected: {what}"));
        }
    }

    fn check(&mut self) {
        for (group, name) in GROUPS.iter().enumerate() {
            for partition in 0..PARTITIONS {
                let place = (group, partition);
                let outcome = |it: &&Commit| it.transaction.map(|at| self.transactions[at].1);
                let of_place = || self.commits.iter().rev().filter(|it| it.place == place);
                let counts =
                    |it: &&Commit| outcome(it).is_none_or(|outcome| outcome == Outcome::Committed);
                let expected = of_place().find(counts).map_or(0, |it| it.offset);
                let told = self.told(name, partition);
                let open = of_place().take_while(|it| !counts(it));
                let unstable = open.filter(|it| outcome(it) == Some(Outcome::Open)).count() > 0;
                let is_stable = self.coordinator.is_stable(name, &[partition]);
                let seen = format!("{place:?}: {told} instead of {expected}, {is_stable}");
                self.expect(told == expected && is_stable != unstable, &seen);
            }
        }
    }

    /// What is committed; 0: nothing.
    fn told(&self, group: &str, partition: i32) -> i64 {
        let asked = pb::FetchOffsetsRequest {
            group_id: group.into(),
            partitions: vec![pb::TopicPartitions {
                topic: "t".into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let offsets = self.coordinator.groups.fetch_offsets(&asked).unwrap().offsets;
        offsets.first().map_or(0, |it| it.offset.as_ref().unwrap().offset)
    }
}

fn version(second: bool) -> ClientVersion {
    if second { ClientVersion::Second } else { ClientVersion::First }
}

/// The first thing that is wrong.
fn run(steps: &[Step], second: bool, bug: Option<Bug>) -> Option<String> {
    let mut world = World::new(version(second));
    if let Some(bug) = bug {
        world.coordinator.groups.plant(bug);
    }
    for step in steps {
        world.step(step);
        world.check();
        if world.wrong.is_some() {
            break;
        }
    }
    world.wrong
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_stands_is_the_latest_commit_that_counts(steps in steps(), second: bool) {
        prop_assert_eq!(run(&steps, second, None), None);
    }

    /// S20, S23, as for everything else that groups remember.
    #[test]
    fn a_log_of_transactions_cleaned_at_any_point_comes_to_the_same(
        steps in steps(),
        second: bool,
        cleaned in any::<prop::sample::Index>(),
        forgotten in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(version(second));
        steps.iter().for_each(|step| world.step(step));
        let log = &world.coordinator.log;
        let cleaned = cleaned.index(log.len() + 1);
        let forgotten = forgotten.index(cleaned + 1);
        let mut groups = Groups::new(Settings::default());
        for change in clean(&log[..cleaned], forgotten).into_iter().chain(&log[cleaned..]) {
            groups.replay(change).unwrap();
        }
        prop_assert_eq!(&groups.groups, &world.coordinator.groups.groups);
        prop_assert_eq!(&groups.producers, &world.coordinator.groups.producers);
    }
}

/// The histories above are ones that find what they are for.
#[test]
fn random_histories_find_what_is_wrong_about_transactions() {
    for bug in [
        Bug::AbortedOffsetsStand,
        Bug::CommitInEndedTransaction,
        Bug::EndTheNextToo,
        Bug::CallPendingStable,
    ] {
        let config = ProptestConfig {
            max_shrink_iters: 0,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let chance = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let outcome = TestRunner::new_with_rng(config, chance).run(&steps(), |steps| {
            prop_assert_eq!(run(&steps, true, Some(bug)), None);
            Ok(())
        });
        let found = matches!(&outcome, Err(TestError::Fail(..)));
        assert!(found, "{bug:?}: {outcome:?}");
    }
}
