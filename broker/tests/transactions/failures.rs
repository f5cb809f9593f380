//! The coordinator's actor dies, a partition does not answer, the node starts anew.

use crate::fixture::{Fixture, TOPIC, settled, soon};
use std::time::Duration;
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::chaos::v1alpha1::KillMode;
use troupe_proto::error::ErrorCode;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_survives_the_death_of_its_coordinators_actor() {
    let node = Fixture::start().await;
    let mut producer = node.init("kept").await;
    for mode in [KillMode::Stop, KillMode::Panic] {
        node.begin("kept", producer, &[0, 1]).await;
        node.kill_coordinators(mode).await;
        assert_eq!(node.state("kept").await, TransactionState::Ongoing);
        node.begin("kept", producer, &[2]).await;
        let next = node.commit("kept", producer).await.unwrap();
        node.kill_coordinators(mode).await;
        let again = soon("the same", settled(|| node.commit("kept", producer))).await;
        assert_eq!(again, Ok(next));
        producer = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_finished_by_the_next_coordinator() {
    let node = Fixture::start().await;
    let producer = node.init("slow").await;
    node.begin("slow", producer, &[0, 1]).await;
    node.pause((TOPIC, 1), 3_000).await;
    node.commit("slow", producer).await.unwrap();
    assert_eq!(node.state("slow").await, TransactionState::PrepareCommit);
    node.kill_coordinators(KillMode::Stop).await;
    assert_eq!(node.state("slow").await, TransactionState::PrepareCommit, "decided for good");
    node.until_state("slow", TransactionState::CompleteCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_survive_a_restart_of_the_node() {
    let node = Fixture::start().await;
    let (open, decided) = (node.init("open").await, node.init("decided").await);
    node.begin("open", open, &[0]).await;
    node.begin("decided", decided, &[1]).await;
    node.pause((TOPIC, 1), 15_000).await;
    let next = node.commit("decided", decided).await.unwrap();
    let node = node.restart().await;
    node.until_state("decided", TransactionState::CompleteCommit).await;
    assert_eq!(node.commit("decided", decided).await, Ok(next));
    node.commit("open", open).await.unwrap();
    assert!(node.init("decided").await.epoch > next.epoch);
}

/// X7: each is told when its patience is over, and the node has done little meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn many_that_wait_for_the_end_of_a_transaction_are_all_answered() {
    let node = Fixture::start().await;
    let first = node.init("waiting").await;
    node.begin("waiting", first, &[1]).await;
    node.pause((TOPIC, 1), 3_000).await;
    let second = node.commit("waiting", first).await.unwrap();
    let all = (0..32).map(|_| node.add("waiting", second, &[0]));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.unwrap_err().code, ErrorCode::ConcurrentTransactions);
    }
    node.begin("waiting", second, &[0]).await;
    assert_eq!(node.state("waiting").await, TransactionState::Ongoing);
}

/// Who coordinated before, and does not know that another does now, has nobody who confirms it: what it would refuse by
/// is past, and its refusal might end a producer for good.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_by_a_coordinator_that_cannot_know_whether_it_still_is_one() {
    let node = Fixture::start().await;
    let first = node.init("refused").await;
    let second = node.init("refused").await;
    assert_eq!(
        node.commit("refused", second).await.unwrap_err().code,
        ErrorCode::InvalidTransactionState
    );
    for partition in 0..4 {
        node.pause(("__transaction_state", partition), 10_000).await;
    }
    let answers = async {
        tokio::select! {
            answer = node.commit("refused", first) => answer.map(drop),
            answer = node.commit("refused", second) => answer.map(drop),
            answer = node.add("refused", first, &[0]) => answer,
            answer = node.abort("refused", second) => answer.map(drop),
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(1), answers).await;
    if let Ok(answer) = answer {
        let error = answer.unwrap_err();
        assert!(error.code.is_retriable(), "{error}");
    }
}
