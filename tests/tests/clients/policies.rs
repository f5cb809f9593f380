//! What a client does by itself that is set up by a service config alone: it watches health, and tries again.

use super::{prepared, said};
use std::collections::BTreeSet;
use std::process::Command;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{Fault, InjectFaultRequest, ListActorsRequest};
use troupe_proto::log::v1::offset_query::At;
use troupe_proto::log::v1::{ListOffsetsRequest, OffsetQuery};
use troupe_tests::{Process, Serve, Server, clients_directory, eventually, partition_of};

/// While three answers of ten are lost: the client is told UNAVAILABLE, which its retry policy is for, of records that
/// are stored. And it is ready at all only because its health check knows the service.
#[tokio::test]
async fn a_stock_retry_policy_with_health_checks_publishes_nothing_twice() {
    const TEST: &str = "a_stock_retry_policy_with_health_checks_publishes_nothing_twice";
    if !prepared(TEST, "go") {
        return;
    }
    let settings = vec!["chaos.enable=true".to_owned()];
    let (_directory, process) = Process::start_new(&Serve { settings, ..Default::default() });
    let server = Server::at(process.server()).await;
    let topic = server.create_topic("policies", 1, &[]).await.name;
    let mut chaos = ChaosServiceClient::new(server.channel());
    let actors = chaos.list_actors(ListActorsRequest::default()).await.unwrap().into_inner().actors;
    let suffix = format!("/partition/{topic}/0");
    let actor = actors.into_iter().find(|one| one.address.ends_with(&suffix)).unwrap();
    let fault = InjectFaultRequest {
        address: actor.address,
        fault: Fault::DropReplies.into(),
        duration_ms: 10_000,
        probability: 0.3,
        seed: 1,
    };
    let ends = tokio::spawn(async move { chaos.inject_fault(fault).await.map(drop) });
    let at = Some(At::Latest(true));
    let query = OffsetQuery {
        isolation_level: Default::default(),
        partition: Some(partition_of(&topic, 0)),
        at,
    };
    eventually("the fault has begun", async || {
        let request = ListOffsetsRequest { queries: vec![query.clone()] };
        let answer = server.log().list_offsets(request).await.unwrap().into_inner();
        answer.results[0].error.as_ref().map(drop)
    })
    .await;
    let client = clients_directory().join("go-client");
    let address = process.server().to_owned();
    let arguments = [address, topic.clone(), "200".to_owned()];
    let run = move || Command::new(client).args(arguments).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    ends.await.unwrap().unwrap();
    let acknowledged: BTreeSet<String> =
        String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect();
    assert!(acknowledged.len() < 200, "no answer was lost: {}", said(&output));
    let mut stored = BTreeSet::new();
    for (offset, record) in server.read_all(&topic, 0).await {
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        assert!(stored.insert(value.clone()), "{value} is stored again at {offset}");
    }
    assert!(acknowledged.is_subset(&stored), "{}", said(&output));
}
