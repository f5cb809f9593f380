//! Behaviours by their ids, and random histories that every replay must agree on.

mod expiry;
mod members;
mod model;
mod offsets;
mod pending;
mod pending_model;
mod pending_records;
mod rebalance;

use super::planted::Bug;
use super::*;
use prost::Message;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::log::v1::group_record_key::Of as Key;
use troupe_proto::v1::ErrorDetail;

fn id(n: u8) -> TopicId {
    TopicId::from_wire(&[n; 16]).unwrap()
}

/// Topics by name, id and number of partitions. Internal ones begin with two underscores.
fn catalog(topics: &[(&str, u8, u32)]) -> Arc<Catalog> {
    let topic = |(name, n, partitions): &(&str, u8, u32)| {
        let internal = name.starts_with("__");
        (Arc::from(*name), CatalogTopic { id: id(*n), partitions: *partitions, internal })
    };
    Arc::new(Catalog { topics: topics.iter().map(topic).collect() })
}

fn subscription(topics: &[&str]) -> pb::Subscription {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    pb::Subscription { topics, pattern: String::new() }
}

fn pattern(pattern: &str) -> pb::Subscription {
    pb::Subscription { topics: Vec::new(), pattern: pattern.to_owned() }
}

/// A dynamic member of group `g` that reads topic `t`.
fn start() -> pb::MemberStart {
    pb::MemberStart {
        group_id: "g".to_owned(),
        subscription: Some(subscription(&["t"])),
        ..pb::MemberStart::default()
    }
}

fn static_start(instance: &str) -> pb::MemberStart {
    pb::MemberStart { instance_id: instance.to_owned(), ..start() }
}

/// What a member was told, in short: its epoch, and topic partitions as `t0`.
fn told(push: &Push) -> (u32, Option<Vec<String>>) {
    let assignment = push.assignment.as_ref().map(|(_, topics)| {
        let one = |topic: &pb::TopicPartitions| {
            let name = topic.topic.clone();
            topic.partitions.iter().map(move |number| format!("{name}{number}")).collect::<Vec<_>>()
        };
        topics.iter().flat_map(one).collect()
    });
    (push.member_epoch, assignment)
}

fn all(partitions: &[&str]) -> Option<Vec<String>> {
    Some(partitions.iter().map(|partition| (*partition).to_owned()).collect())
}

/// A coordinator with its log: replays every decision at once.
struct Coordinator {
    groups: Groups,
    log: Vec<Change>,
    now: Time,
    sessions: u64,
    /// Newest number by session.
    numbers: BTreeMap<SessionId, u64>,
    ended: Vec<(SessionId, ErrorCode)>,
}

impl Coordinator {
    fn new(topics: &[(&str, u8, u32)]) -> Coordinator {
        Coordinator::with(Settings::default(), topics)
    }

    fn with(settings: Settings, topics: &[(&str, u8, u32)]) -> Coordinator {
        let mut groups = Groups::new(settings);
        groups.set_catalog(catalog(topics));
        let now = Time(1_000_000);
        groups.loaded(now);
        Coordinator {
            groups,
            log: Vec::new(),
            now,
            sessions: 0,
            numbers: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    fn run<T>(&mut self, decision: Decision<T>) -> (T, Vec<Push>) {
        for change in decision.changes {
            self.groups.replay(&change).unwrap();
            self.log.push(change);
        }
        for push in &decision.pushes {
            if let Some((number, _)) = &push.assignment {
                self.numbers.insert(push.session, *number);
            }
        }
        let ended = decision.ended.into_iter();
        self.ended.extend(ended.map(|(session, error)| (session, error.code())));
        (decision.answer, decision.pushes)
    }

    /// Joins as `member`; gives the session and what everybody is told.
    fn join_as(
        &mut self,
        member: &str,
        start: pb::MemberStart,
    ) -> Result<(SessionId, Vec<Push>), ErrorCode> {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let decision = self.groups.join(self.now, session, member.to_owned(), "host", start);
        let decision = decision.map_err(|error| error.code())?;
        Ok((session, self.run(decision).1))
    }

    fn join(&mut self, member: &str) -> (SessionId, Vec<Push>) {
        self.join_as(member, start()).unwrap()
    }

    /// Acknowledges the newest assignment.
    fn apply(&mut self, session: SessionId) -> Vec<Push> {
        let number = self.numbers[&session];
        let decision = self.groups.applied(self.now, session, number);
        self.run(decision).1
    }

    /// Joins, and everybody applies whatever comes of it.
    fn settle(&mut self, member: &str, start: pb::MemberStart) -> SessionId {
        let (session, pushes) = self.join_as(member, start).unwrap();
        self.apply_all(pushes);
        session
    }

    fn apply_all(&mut self, mut pushes: Vec<Push>) {
        while let Some(push) = pushes.pop() {
            if push.assignment.is_some() {
                pushes.extend(self.apply(push.session));
            }
        }
    }

    fn pass(&mut self, ms: u64) -> Vec<Push> {
        self.now = self.now.plus(ms);
        let decision = self.groups.on_time(self.now);
        self.run(decision).1
    }

    fn leave(&mut self, session: SessionId) -> Vec<Push> {
        let decision = self.groups.leave(self.now, session);
        self.run(decision).1
    }

    fn topics(&mut self, topics: &[(&str, u8, u32)]) -> Vec<Push> {
        self.groups.set_catalog(catalog(topics));
        let decision = self.groups.catalog_changed(self.now);
        self.run(decision).1
    }

    /// The coordinator fails, and another takes over from the log.
    fn fail_over(&mut self) {
        let catalog = self.groups.catalog.clone().unwrap();
        let mut groups = Groups::new(self.groups.settings.clone());
        for change in &self.log {
            let (key, value) = change.encode();
            let decoded = Change::decode(&key, value.as_deref()).unwrap();
            assert_eq!(decoded, *change);
            groups.replay(&decoded).unwrap();
        }
        assert_eq!(groups.groups, self.groups.groups, "a replay comes to the same");
        assert_eq!(groups.producers, self.groups.producers, "also of producers");
        groups.set_catalog(catalog);
        groups.loaded(self.now);
        groups.bugs = self.groups.bugs.clone();
        self.groups = groups;
        let decision = self.groups.catalog_changed(self.now);
        assert_eq!(decision, Decision::default(), "nothing was left undone");
    }

    fn member(&self, member: &str) -> pb::MemberDescription {
        let group = self.groups.describe("g").unwrap();
        group.members.into_iter().find(|it| it.member_id == member).unwrap()
    }

    fn state(&self) -> pb::GroupState {
        self.groups.describe("g").unwrap().state()
    }

    /// What each member holds, in short.
    fn held(&self) -> Vec<(String, Vec<String>)> {
        let members = self.groups.describe("g").unwrap().members;
        let one = |member: pb::MemberDescription| {
            let names = member.assigned.iter().flat_map(|topic| {
                topic.partitions.iter().map(|number| format!("{}{number}", topic.topic))
            });
            (member.member_id.clone(), names.collect())
        };
        members.into_iter().map(one).collect()
    }

    fn commit(
        &mut self,
        member: &str,
        epoch: u32,
        topic: &str,
        number: i32,
        offset: i64,
    ) -> Option<ErrorCode> {
        let commit = pb::PartitionCommit {
            partition: Some(pb::TopicPartition {
                topic: topic.to_owned(),
                partition: number,
                ..pb::TopicPartition::default()
            }),
            offset: Some(pb::OffsetAndMetadata { offset, ..pb::OffsetAndMetadata::default() }),
        };
        let request = pb::CommitOffsetsRequest {
            group_id: "g".to_owned(),
            member_id: member.to_owned(),
            member_epoch: epoch,
            commits: vec![commit],
            ..Default::default()
        };
        let decision = self.groups.commit(self.now, request);
        let (answer, _) = self.run(decision);
        assert_eq!(answer.results.len(), 1);
        answer.results[0].error.as_ref().map(ErrorDetail::reason)
    }

    /// Everything that is committed, in short: `t0@5`.
    fn committed(&self) -> Vec<String> {
        let request = pb::FetchOffsetsRequest {
            group_id: "g".to_owned(),
            ..pb::FetchOffsetsRequest::default()
        };
        let one = |it: pb::CommittedOffset| {
            let partition = it.partition.unwrap();
            format!("{}{}@{}", partition.topic, partition.partition, it.offset.unwrap().offset)
        };
        self.groups.fetch_offsets(&request).unwrap().offsets.into_iter().map(one).collect()
    }
}

/// G1.
#[test]
fn a_group_has_its_coordinator_by_its_name() {
    assert_eq!(coordinator_partition("test", 50), PartitionId(48));
    assert_eq!(coordinator_partition("my-group", 50), PartitionId(12));
    // "polygenelubricants" has the smallest of all hashes, whose absolute value Kafka takes to be 0.
    assert_eq!(coordinator_partition("polygenelubricants", 50), PartitionId(0));
    assert_eq!(coordinator_partition("", 50), PartitionId(0));
    // UTF-16: one character outside of the first plane counts as two.
    let (high, low) = (0xd83d_i32, 0xde00_i32);
    let hash = high.wrapping_mul(31).wrapping_add(low);
    assert_eq!(coordinator_partition("\u{1f600}", 50).0, hash.unsigned_abs() % 50);
}

#[test]
fn group_ids_are_checked() {
    let mut coordinator = Coordinator::new(&[]);
    for bad in ["", "a\nb", &"x".repeat(256)] {
        let start = pb::MemberStart { group_id: bad.to_owned(), ..start() };
        let refused = coordinator.join_as("a", start).unwrap_err();
        assert_eq!(refused, ErrorCode::InvalidGroupId, "{bad:?}");
        let request = pb::FetchOffsetsRequest {
            group_id: bad.to_owned(),
            ..pb::FetchOffsetsRequest::default()
        };
        let refused = coordinator.groups.fetch_offsets(&request).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidGroupId);
    }
    let start = pb::MemberStart { group_id: "ä".repeat(255), ..start() };
    assert!(coordinator.join_as("a", start).is_ok());
}

/// G3: what cannot be is refused, because going on would mean to forget something.
#[test]
fn records_that_cannot_be_are_refused() {
    assert!(Change::decode(&[0xff], None).is_err());
    let mut groups = Groups::new(Settings::default());
    let key = pb::GroupRecordKey { group_id: "g".to_owned(), of: None };
    let unknown = Change { key, value: Some(pb::GroupRecordValue { of: None }) };
    assert_eq!(groups.replay(&unknown), Err(ReplayError::UnknownKind));
    let mut mixed = Change::put(
        "g",
        Key::Group(pb::GroupKey {}),
        pb::group_record_value::Of::Target(pb::TargetValue::default()),
    );
    assert!(matches!(groups.replay(&mixed), Err(ReplayError::Malformed(_))));
    mixed.value = Some(pb::GroupRecordValue {
        of: Some(pb::group_record_value::Of::Group(pb::GroupValue::default())),
    });
    assert_eq!(groups.replay(&mixed), Ok(()));
}

/// I13, whatever the machine decides: the log of a live coordinator has nobody read a partition twice, and nobody
/// hold one who is not there.
#[test]
fn a_partition_is_held_by_one_member() {
    let mut coordinator = Coordinator::new(&[("t", 1, 1)]);
    coordinator.settle("a", start());
    coordinator.settle("b", start());
    let current = pb::CurrentValue {
        epoch: 1,
        assigned: vec![pb::AssignedPartitions {
            topic: "t".to_owned(),
            topic_id: id(1).to_wire(),
            partitions: vec![pb::AssignedPartition { partition: 0, epoch: 1 }],
        }],
        ..pb::CurrentValue::default()
    };
    let mut hold = |member: &str| {
        let key = Key::Current(records::member_key(member));
        let value = pb::group_record_value::Of::Current(current.clone());
        coordinator.groups.replay(&Change::put("g", key, value))
    };
    assert_eq!(hold("nobody"), Err(ReplayError::NotAMember("nobody".to_owned())));
    let refused = hold("b");
    assert!(matches!(refused, Err(ReplayError::HeldTwice { .. })), "{refused:?}");
}

/// A coordinator's log may have any order of a member's records once compaction has gone through it.
#[test]
fn a_compacted_log_comes_to_the_same() {
    let mut coordinator = Coordinator::new(&[("t", 1, 4), ("u", 2, 4)]);
    let a = coordinator.settle("a", start());
    coordinator.settle("b", start());
    let decision = coordinator.groups.subscribe(coordinator.now, a, subscription(&["t", "u"]));
    let (_, pushes) = coordinator.run(decision.unwrap());
    coordinator.apply_all(pushes);
    let c = coordinator.settle("c", start());
    coordinator.leave(c);
    let keys: Vec<_> = coordinator.log.iter().map(|change| change.key.encode_to_vec()).collect();
    let newest = |at: usize| !keys[at + 1..].contains(&keys[at]);
    let compacted = (0..keys.len()).filter(|at| newest(*at));
    let mut groups = Groups::new(Settings::default());
    for at in compacted {
        groups.replay(&coordinator.log[at]).unwrap();
    }
    assert_eq!(groups.groups, coordinator.groups.groups);
}

/// All that can be refused says so in terms of the wire.
#[test]
fn refusals_carry_their_facts() {
    let error = GroupError::StaleMemberEpoch { member_id: "a".to_owned(), asked: 3, current: 5 };
    let wire = WireError::from(error);
    assert_eq!(wire.code, ErrorCode::StaleMemberEpoch);
    assert_eq!(wire.facts["current_epoch"], "5");
}
