//! What the contract says an `ack_id` is worth, by the table that stands at `Settle`.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use troupe_proto::v1::settlement::Action;
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{
    Nack, PublishRequest, PullRequest, Record, SettleOutcome, SettleRequest, Settlement,
    StartPosition, SubscribeRequest, SubscriptionOptions,
};
use troupe_tests::{Process, Serve, Server, eventually, temporary_directory};

fn options(group: &str, member: &str) -> SubscriptionOptions {
    SubscriptionOptions {
        topics: vec!["orders".to_owned()],
        group: group.to_owned(),
        member_name: member.to_owned(),
        start_position: Some(StartPosition { at: Some(At::Earliest(true)) }),
        ..Default::default()
    }
}

async fn pull(server: &Server, group: &str) -> String {
    // Who was there before the node was killed is waited for no longer than this.
    let reconnect_grace = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let options = SubscriptionOptions { reconnect_grace, ..options(group, "") };
    let request = PullRequest { options: Some(options), max_records: 1, ..Default::default() };
    eventually("a record comes", async || {
        let answer = server.bus().pull(request.clone()).await.ok()?.into_inner();
        answer.deliveries.first().map(|delivery| delivery.ack_id.clone())
    })
    .await
}

async fn settle(server: &Server, request: SettleRequest) -> SettleOutcome {
    server.bus().settle(request).await.unwrap().into_inner().results[0].outcome()
}

async fn acknowledge(server: &Server, ack_id: &str) -> SettleOutcome {
    settle(server, SettleRequest { ack_ids: vec![ack_id.to_owned()], ..Default::default() }).await
}

/// A stream until its first record; it lives as long as the sender.
async fn subscribe(server: &Server, member: &str) -> (mpsc::Sender<SubscribeRequest>, String) {
    let (sender, requests) = mpsc::channel(4);
    let start = SubscribeRequest { start: Some(options("streams", member)), ..Default::default() };
    sender.send(start).await.unwrap();
    let stream = server.bus().subscribe(ReceiverStream::new(requests)).await.unwrap();
    let mut stream = stream.into_inner();
    loop {
        let answer = stream.message().await.unwrap().unwrap();
        if let Some(delivery) = answer.deliveries.first() {
            let ack_id = delivery.ack_id.clone();
            // Read on, so that the stream is one that lives.
            tokio::spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
            return (sender, ack_id);
        }
    }
}

#[tokio::test]
async fn an_ack_id_is_worth_what_the_contract_says_after_a_reconnect_and_a_restart() {
    let directory = temporary_directory();
    let process = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(process.server()).await;
    server.create_topic("orders", 1, &[]).await;
    let records = (0..3).map(|_| Record { value: Some("x".into()), ..Default::default() });
    let request = PublishRequest {
        topic: "orders".to_owned(),
        records: records.collect(),
        ..Default::default()
    };
    server.bus().publish(request).await.unwrap();

    // As long as the session lives, on any connection; and once more.
    let id = pull(&server, "pulled").await;
    let other = Server::at(process.server()).await;
    assert_eq!(acknowledge(&other, &id).await, SettleOutcome::Accepted);
    assert_eq!(acknowledge(&server, &id).await, SettleOutcome::Accepted);

    // A Nack takes it back.
    let id = pull(&server, "pulled").await;
    let nack = Settlement { ack_id: id.clone(), action: Some(Action::Nack(Nack { delay: None })) };
    let request = SettleRequest { settlements: vec![nack], ..Default::default() };
    assert_eq!(settle(&server, request).await, SettleOutcome::Accepted);
    assert_eq!(acknowledge(&server, &id).await, SettleOutcome::LeaseLost);

    // Its stream was opened anew, under the same name; the new one has an id that is good.
    let (stream, id) = subscribe(&server, "one").await;
    let (anew, new_id) = subscribe(&server, "one").await;
    assert_eq!(acknowledge(&server, &id).await, SettleOutcome::LeaseLost);
    assert_eq!(acknowledge(&server, &new_id).await, SettleOutcome::Accepted);
    drop((stream, anew));

    // Nobody gave it out.
    assert_eq!(acknowledge(&server, "1.2.3.4.5").await, SettleOutcome::UnknownId);
    assert_eq!(acknowledge(&server, "nonsense").await, SettleOutcome::UnknownId);

    // The node has started anew: the record comes again.
    let id = pull(&server, "pulled").await;
    process.kill();
    let process = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(process.server()).await;
    assert_eq!(acknowledge(&server, &id).await, SettleOutcome::UnknownId);
    assert_ne!(pull(&server, "pulled").await, id);
}
