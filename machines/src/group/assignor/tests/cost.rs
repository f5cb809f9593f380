//! What an assignment costs: to be looked at, not asserted.

use super::super::*;
use super::after;
use std::time::Instant;

/// 100 members; every one subscribes to the topics that `reads` says.
fn members(topics: u32, reads: impl Fn(u32, u32) -> bool) -> Vec<AssignorMember> {
    let member = |number: u32| AssignorMember {
        member_id: format!("member-{number:03}").into(),
        instance_id: None,
        topics: (0..topics).filter(|topic| reads(number, *topic)).map(name).collect(),
        owned: BTreeSet::new(),
        epoch: 0,
    };
    (0..100).map(member).collect()
}

fn name(topic: u32) -> Arc<str> {
    format!("topic-{topic:04}").into()
}

fn timed(
    what: &str,
    assignor: Assignor,
    members: &[AssignorMember],
    counts: &Counts,
) -> Assignment {
    let start = Instant::now();
    let given = assign(assignor, members, counts);
    println!("{assignor:>18} {what:<32} {:>9.3?}", start.elapsed());
    given
}

type Counts = BTreeMap<Arc<str>, u32>;

/// Fresh; without the first ten members; and with as many newcomers; and all at one member before.
fn run(what: &str, members: &[AssignorMember], counts: &Counts) {
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
        let given = timed(&format!("{what}, fresh"), assignor, members, counts);
        let left = &after(members, &given)[10..];
        let given = timed(&format!("{what}, ten leave"), assignor, left, counts);
        timed(&format!("{what}, ten join"), assignor, &after(members, &given), counts);
        let mut alone = members.to_vec();
        alone[0].topics = counts.keys().cloned().collect();
        let given = assign(assignor, &alone[..1], counts);
        timed(&format!("{what}, from one"), assignor, &after(&alone, &given), counts);
    }
}

#[test]
#[ignore = "prints times; use a release build"]
fn a_hundred_members_and_a_thousand_partitions() {
    for (topics, each) in [(1, 1000), (100, 10), (1000, 1)] {
        let counts: Counts = (0..topics).map(|topic| (name(topic), each)).collect();
        run(&format!("{topics} topics"), &members(topics, |_, _| true), &counts);
        let scattered = members(topics, |member, topic| (member * 31 + topic * 17) % 3 == 0);
        run(&format!("{topics} topics, a third each"), &scattered, &counts);
    }
    // A chain: each topic is shared with the next member only, and the first topics are the largest.
    let counts: Counts = (0..100).map(|topic| (name(topic), (100 - topic) / 5)).collect();
    let chain = members(100, |member, topic| topic == member || topic == member + 1);
    run("a chain", &chain, &counts);
}
