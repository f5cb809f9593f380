//! Faults of a whole node, as the contract has them. What each of them does is tried on clusters of their own.

use troupe_proto::chaos::v1alpha1 as pb;
use troupe_proto::error::ErrorCode;
use troupe_tests::{Server, reason_of};

fn slow(node_ids: &[i32]) -> pb::NodeFault {
    let slow = pb::Slow {
        node_ids: node_ids.to_vec(),
        delay_ms: 1,
        direction: pb::Direction::Both.into(),
        ..Default::default()
    };
    pb::NodeFault { kind: Some(pb::node_fault::Kind::Slow(slow)) }
}

#[tokio::test]
async fn a_fault_of_a_node_is_listed_until_it_is_stopped() {
    let server = Server::get().await;
    let (mut chaos, id) = (server.chaos(), server.new_name("fault"));
    // Nobody else is there whose words could be late.
    let request =
        pb::StartFaultRequest { fault_id: id.clone(), fault: Some(slow(&[])), duration_ms: 60_000 };
    let started = chaos.start_fault(request.clone()).await.unwrap().into_inner();
    assert_eq!(started.fault_id, id);
    let listed = async || {
        let mut chaos = server.chaos();
        let answer = chaos.list_faults(pb::ListFaultsRequest::default()).await.unwrap();
        answer.into_inner().faults.into_iter().find(|fault| fault.fault_id == id)
    };
    let found = listed().await.unwrap();
    assert_eq!(found.fault, request.fault);
    assert!(found.left_ms > 0 && found.left_ms <= 60_000, "{found:?}");
    let stop = pb::StopFaultsRequest { fault_id: id.clone() };
    let stopped = chaos.stop_faults(stop.clone()).await.unwrap().into_inner();
    assert_eq!(stopped.stopped_fault_ids, std::slice::from_ref(&id));
    assert_eq!(listed().await, None);
    // Again is no error.
    assert!(chaos.stop_faults(stop).await.unwrap().into_inner().stopped_fault_ids.is_empty());
}

#[tokio::test]
async fn a_fault_that_cannot_be_is_refused() {
    let server = Server::get().await;
    let requests = [
        pb::StartFaultRequest::default(),
        pb::StartFaultRequest { fault: Some(slow(&[4_711])), ..Default::default() },
        pb::StartFaultRequest {
            fault: Some(slow(&[])),
            duration_ms: 3_600_001,
            ..Default::default()
        },
        pb::StartFaultRequest {
            fault: Some(slow(&[])),
            fault_id: "no such / id".into(),
            ..Default::default()
        },
    ];
    for request in requests {
        let refused = server.chaos().start_fault(request.clone()).await.unwrap_err();
        assert_eq!(reason_of(&refused), ErrorCode::InvalidRequest, "{request:?}");
    }
}
