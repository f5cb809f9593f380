//! What applications are given of transactions by the thin API (X12, X13).

use crate::fixture::{Fixture, PAUSE, Producer, TOPIC, settled, soon};
use tonic::transport::Channel;
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::log::v1::FetchOffsetsRequest;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::*;

const COMMITTED: IsolationLevel = IsolationLevel::Unspecified;
const UNCOMMITTED: IsolationLevel = IsolationLevel::ReadUncommitted;

fn earliest() -> Option<StartPosition> {
    Some(StartPosition { at: Some(start_position::At::Earliest(true)) })
}

fn options(group: &str, level: IsolationLevel) -> SubscriptionOptions {
    SubscriptionOptions {
        topics: vec![TOPIC.to_owned()],
        group: group.to_owned(),
        start_position: earliest(),
        isolation_level: level.into(),
        ..Default::default()
    }
}

fn offsets(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.offset).collect()
}

impl Fixture {
    fn bus(&self) -> EventBusServiceClient<Channel> {
        EventBusServiceClient::new(self.channel.clone())
    }

    /// A record outside of any transaction.
    async fn publish(&self) {
        let record =
            Record { value: Some((&b"v"[..]).into()), partition: Some(0), ..Default::default() };
        let topic = TOPIC.to_owned();
        let request = PublishRequest { topic, records: vec![record], ..Default::default() };
        soon("a record", self.bus().publish(request)).await.unwrap();
    }

    /// A record of a transaction, as soon as the one before is completed.
    async fn write_next(&self, of: Producer) -> i64 {
        soon("a record", settled(|| self.write("x", of, 0))).await.unwrap()
    }

    /// All that there is now, from the beginning.
    async fn tail(&self, level: IsolationLevel) -> Vec<i64> {
        let request = TailRequest {
            topic: TOPIC.to_owned(),
            partition: Some(0),
            start: earliest(),
            until_end: true,
            isolation_level: level.into(),
            ..Default::default()
        };
        let mut answers = self.bus().tail(request).await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(answer) = soon("records", answers.message()).await.unwrap() {
            found.extend(offsets(&answer.deliveries));
        }
        found
    }

    async fn pull(&self, group: &str, level: IsolationLevel, count: usize) -> Vec<Delivery> {
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let options = Some(options(group, level));
            let request = PullRequest { options, ..Default::default() };
            drawn.extend(
                soon("records", self.bus().pull(request)).await.unwrap().into_inner().deliveries,
            );
        }
        drawn
    }

    async fn until_group_is_at(&self, group: &str, offset: i64) {
        let reached = async {
            loop {
                let request =
                    FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
                let mut client = GroupServiceClient::new(self.channel.clone());
                let answer = client.fetch_offsets(request).await.unwrap().into_inner();
                let found = answer.offsets.into_iter().filter_map(|it| it.offset);
                if found.map(|it| it.offset).max() == Some(offset) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        soon("the group", reached).await;
    }
}

/// A record, one of a transaction that is open, a record.
async fn with_an_open_transaction() -> (Fixture, Producer) {
    let node = Fixture::start().await;
    let producer = node.init("x").await;
    node.publish().await;
    assert_eq!(node.write_next(producer).await, 1);
    node.publish().await;
    (node, producer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_gives_what_is_committed_unless_it_is_asked_for_more() {
    let (node, first) = with_an_open_transaction().await;
    assert_eq!(node.tail(COMMITTED).await, [0]);
    assert_eq!(node.tail(IsolationLevel::ReadCommitted).await, [0]);
    assert_eq!(node.tail(UNCOMMITTED).await, [0, 1, 2]);
    let second = node.abort("x", first).await.unwrap();
    node.until_state("x", TransactionState::CompleteAbort).await;
    assert_eq!(node.tail(COMMITTED).await, [0, 2]);
    assert_eq!(node.tail(UNCOMMITTED).await, [0, 1, 2], "a marker is no record");
    assert_eq!(node.write_next(second).await, 4);
    node.commit("x", second).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.tail(COMMITTED).await, [0, 2, 4]);
    assert_eq!(node.tail(UNCOMMITTED).await, [0, 1, 2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_while_a_tail_waits_comes_at_once() {
    let (node, producer) = with_an_open_transaction().await;
    let request = TailRequest { topic: TOPIC.to_owned(), partition: Some(0), ..Default::default() };
    let mut answers = node.bus().tail(request).await.unwrap().into_inner();
    let first = soon("an answer", answers.message()).await.unwrap().unwrap();
    assert!(first.caught_up && first.deliveries.is_empty(), "{first:?}");
    node.commit("x", producer).await.unwrap();
    let mut found = Vec::new();
    while found.len() < 2 {
        let answer = soon("records", answers.message()).await.unwrap().unwrap();
        found.extend(offsets(&answer.deliveries));
    }
    assert_eq!(found, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_given_what_is_committed_and_goes_on_behind_the_rest() {
    let (node, first) = with_an_open_transaction().await;
    assert_eq!(offsets(&node.pull("all", UNCOMMITTED, 3).await), [0, 1, 2]);
    let mut drawn = node.pull("g", COMMITTED, 1).await;
    assert_eq!(offsets(&drawn), [0]);
    node.abort("x", first).await.unwrap();
    drawn.extend(node.pull("g", COMMITTED, 1).await);
    assert_eq!(offsets(&drawn), [0, 2]);
    let ack_ids = drawn.iter().map(|delivery| delivery.ack_id.clone()).collect();
    let request = SettleRequest { ack_ids, ..Default::default() };
    soon("settled", node.bus().settle(request)).await.unwrap();
    // Behind the marker too.
    node.until_group_is_at("g", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_waits_for_the_transactions_end() {
    let (node, producer) = with_an_open_transaction().await;
    let (requests, up) = tokio::sync::mpsc::channel(4);
    let start = Some(options("g", COMMITTED));
    requests.send(SubscribeRequest { start, ..Default::default() }).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(up);
    let mut answers = soon("a stream", node.bus().subscribe(stream)).await.unwrap().into_inner();
    let mut found = Vec::new();
    while found.is_empty() {
        let answer = soon("a record", answers.message()).await.unwrap().unwrap();
        found.extend(offsets(&answer.deliveries));
    }
    assert_eq!(found, [0]);
    node.commit("x", producer).await.unwrap();
    while found.len() < 3 {
        let answer = soon("records", answers.message()).await.unwrap().unwrap();
        found.extend(offsets(&answer.deliveries));
    }
    assert_eq!(found, [0, 1, 2]);
}
