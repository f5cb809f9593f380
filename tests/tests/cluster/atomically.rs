//! Publishing atomically over nodes that die: what was delivered, and what was made of it.

use crate::{refused, topic_on};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use troupe_proto::error::Error;
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{
    Delivery, PublishAtomicallyRequest, PublishRequest, PullRequest, Record, StartPosition,
    SubscriptionOptions, TailRequest, TopicRecords, start_position::At,
};
use troupe_tests::{Cluster, eventually, eventually_or_why};

type Bus = EventBusServiceClient<Channel>;

const SOURCE: &str = "taken";
const TARGETS: [&str; 2] = ["made", "counted"];

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn earliest() -> Option<StartPosition> {
    Some(StartPosition { at: Some(At::Earliest(true)) })
}

fn record(value: &str) -> Record {
    Record { value: Some(value.to_owned().into()), ..Default::default() }
}

fn value(record: Option<Record>) -> String {
    String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()
}

/// How long a worker waits for an answer.
const CALL: Duration = Duration::from_secs(20);

/// [`SOURCE`], led by node 1, and [`TARGETS`] by the others.
async fn topics(cluster: &Cluster) {
    topic_on(cluster, SOURCE, &[1, 2, 3], &[]).await;
    topic_on(cluster, TARGETS[0], &[2, 3, 1], &[]).await;
    topic_on(cluster, TARGETS[1], &[3, 1, 2], &[]).await;
    cluster.healed().await;
}

async fn publish(bus: &Bus, values: impl Iterator<Item = String>) {
    let records = values.map(|value| record(&value)).collect();
    let request = PublishRequest { topic: SOURCE.to_owned(), records, ..Default::default() };
    bus.clone().publish(request).await.unwrap();
}

async fn pull(bus: &Bus, most: i32) -> Result<Vec<Delivery>, tonic::Status> {
    let options = SubscriptionOptions {
        topics: vec![SOURCE.to_owned()],
        group: "workers".to_owned(),
        start_position: earliest(),
        max_processing_time: seconds(3),
        reconnect_grace: seconds(3),
        ..Default::default()
    };
    let request = PullRequest { options: Some(options), max_records: most, max_wait: seconds(2) };
    Ok(bus.clone().pull(request).await?.into_inner().deliveries)
}

/// What was taken, once more in each of the targets, and acknowledged.
fn made_of(taken: &[Delivery]) -> PublishAtomicallyRequest {
    let records: Vec<_> = taken.iter().map(|it| record(&value(it.record.clone()))).collect();
    let to = |topic: &&str| TopicRecords { topic: (*topic).to_owned(), records: records.clone() };
    PublishAtomicallyRequest {
        topics: TARGETS.iter().map(to).collect(),
        ack_ids: taken.iter().map(|it| it.ack_id.clone()).collect(),
        ..Default::default()
    }
}

/// How often readers of committed records are given each value.
async fn seen(bus: &Bus, topic: &str) -> Result<BTreeMap<String, usize>, tonic::Status> {
    let request = TailRequest {
        topic: topic.to_owned(),
        start: earliest(),
        until_end: true,
        ..Default::default()
    };
    let mut answers = bus.clone().tail(request).await?.into_inner();
    let mut seen = BTreeMap::new();
    while let Some(answer) = answers.message().await? {
        for it in answer.deliveries {
            *seen.entry(value(it.record)).or_default() += 1;
        }
    }
    Ok(seen)
}

#[tokio::test]
async fn any_node_takes_the_call_and_one_that_died_has_lost_what_it_delivered() {
    let mut cluster = Cluster::start(&[]).await;
    topics(&cluster).await;
    let (first, other) = (cluster.server(1).await.bus(), cluster.server(2).await.bus());
    publish(&first, (0..4).map(|number| number.to_string())).await;
    let taken = eventually("deliveries", async || {
        pull(&first, 4).await.ok().filter(|taken| taken.len() == 4)
    })
    .await;
    let key = "the first two".to_owned();
    let two = PublishAtomicallyRequest { transaction_key: key, ..made_of(&taken[..2]) };
    let answer = other.clone().publish_atomically(two.clone()).await.unwrap().into_inner();
    assert!(!answer.already_done);
    assert_eq!(answer.topics.iter().map(|it| it.results.len()).collect::<Vec<_>>(), [2, 2]);
    cluster.kill(1);
    // Whether it was done any node knows; the rest somebody else gets.
    eventually_or_why("the answer of before", async || {
        match other.clone().publish_atomically(two.clone()).await {
            Ok(answer) if answer.get_ref().already_done => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    let error = refused(other.clone().publish_atomically(made_of(&taken[2..]))).await;
    assert_eq!(error.code, LeaseLost, "{error}");
    assert!(error.surely_not_done());
    let rest = eventually("the rest", async || {
        pull(&other, 4).await.ok().filter(|taken| !taken.is_empty())
    })
    .await;
    assert_eq!(rest.into_iter().map(|it| value(it.record)).collect::<Vec<_>>(), ["2", "3"]);
}

/// Takes and makes, at one node after the other, until all is made that was to be. Whatever fails: what was not done is
/// delivered again. Returns how long the longest call took.
async fn work(addresses: Vec<String>, total: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for address in addresses.iter().cycle() {
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let bus = EventBusServiceClient::new(channel.connect_lazy());
        while let Ok(Ok(taken)) = timeout(CALL, pull(&bus, 7)).await {
            if taken.is_empty() {
                let made = timeout(CALL, seen(&bus, TARGETS[1])).await;
                match made {
                    Ok(Ok(made)) if made.len() == total => return longest,
                    _ => break,
                }
            }
            let asked = Instant::now();
            let mut request = Request::new(made_of(&taken));
            request.set_timeout(CALL);
            let answer = timeout(2 * CALL, bus.clone().publish_atomically(request)).await;
            longest = longest.max(asked.elapsed());
            match answer.map_err(|_| "it was not answered".to_owned()) {
                Ok(Ok(_)) => {}
                Ok(Err(status)) if status.code() != Code::Unknown => {
                    let error = Error::from(status);
                    eprintln!("after {:?}: {error}", asked.elapsed());
                    break;
                }
                failed => {
                    eprintln!("after {:?}: {failed:?}", asked.elapsed());
                    break;
                }
            }
        }
    }
    longest
}

/// X12, X15, I9: whatever dies or stands still between taking a record and settling it, there is one image of it in each
/// topic.
#[tokio::test]
async fn every_record_has_one_image_while_nodes_are_killed() {
    const ROUNDS: [(i32, bool); 6] =
        [(2, true), (3, true), (1, true), (2, false), (3, false), (1, false)];
    const RECORDS: usize = 100;
    let mut cluster = Cluster::start(&[]).await;
    topics(&cluster).await;
    let total = ROUNDS.len() * RECORDS;
    let worker = tokio::spawn(work(cluster.addresses(), total));
    for (round, (id, dies)) in ROUNDS.into_iter().enumerate() {
        let bus = cluster.server(id % 3 + 1).await.bus();
        let numbers = round * RECORDS..(round + 1) * RECORDS;
        publish(&bus, numbers.map(|number| number.to_string())).await;
        // In the midst of it.
        eventually("some of it", async || {
            seen(&bus, TARGETS[0]).await.ok().filter(|seen| seen.len() > round * RECORDS + 20)
        })
        .await;
        match dies {
            true => drop(cluster.kill(id)),
            false => cluster.pause(id).await,
        }
        eventually("it goes on", async || {
            let seen = timeout(CALL, seen(&bus, TARGETS[0])).await.ok()?.ok()?;
            (seen.len() > round * RECORDS + 50).then_some(())
        })
        .await;
        match dies {
            true => cluster.restart(&[id]).await,
            false => cluster.resume(id),
        }
        cluster.healed().await;
    }
    let longest = worker.await.unwrap();
    // A node that stands still answers nobody.
    eprintln!("the longest call took {longest:?}");
    let bus = cluster.server(2).await.bus();
    for topic in TARGETS {
        let seen = eventually("all images", async || {
            seen(&bus, topic).await.ok().filter(|seen| seen.len() == total)
        })
        .await;
        let repeated: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        assert!(repeated.is_empty(), "{topic}: {repeated:?}");
    }
}
