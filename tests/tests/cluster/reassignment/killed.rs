//! A12, A13, R34: whoever dies in the midst of a throttled reassignment, nothing is lost, and what is said is true.

use super::{Load, TOPIC, complete, fill, listed};
use crate::throttle::{FOLLOWER_RATE, FOLLOWERS, LEADER_RATE, LEADERS, own, run, text};
use crate::topic_on;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_tests::{Cluster, eventually_or_why};

/// It is under way, `verify` says so and takes nothing away, and the rates hold.
async fn is_under_way(cluster: &Cluster, plan: &str, when: &str) {
    let through = cluster.live()[0];
    eventually_or_why("the node knows that it is under way", async || {
        match listed(cluster, through).await.first() {
            Some(one) if one.adding_replicas == [4] && one.removing_replicas == [1] => Ok(()),
            other => Err(format!("{when}: {other:?}")),
        }
    })
    .await;
    let verified = eventually_or_why("verify is answered", async || {
        let verified = run(cluster, &["reassign", "verify", plan]).await;
        let said = text(&verified);
        // No controller may be active yet.
        if said.contains("Status of partition reassignment") {
            Ok((verified, said))
        } else {
            Err(said)
        }
    });
    let (verified, said) = verified.await;
    assert!(!verified.status.success(), "{when}: {said}");
    assert!(said.contains("partition moved-0 is still in progress."), "{when}: {said}");
    assert!(!said.contains("Clearing") && !said.contains("completed"), "{when}: {said}");
    for (whose, key) in [
        (Resource::Topic(TOPIC.to_owned()), LEADERS),
        (Resource::Topic(TOPIC.to_owned()), FOLLOWERS),
        (Resource::BrokerId(1), LEADER_RATE),
        (Resource::BrokerId(4), FOLLOWER_RATE),
    ] {
        assert!(own(cluster, whose, key).await.is_some(), "{when}: {key}");
    }
}

#[tokio::test]
async fn a_throttled_reassignment_survives_its_source_its_target_and_the_controller() {
    let mut cluster = Cluster::of(4, &[]).await;
    // Who comes back is not in sync, and so is held back, too: one has to do.
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[("min.insync.replicas", "1")]).await;
    fill(&cluster).await;
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = directory.path().join("plan.json");
    let text_of_plan = format!(
        r#"{{"version":1,"partitions":[{{"topic":"{TOPIC}","partition":0,"replicas":[4,2,3]}}]}}"#
    );
    std::fs::write(&plan, text_of_plan).unwrap();
    let plan = plan.to_str().unwrap();
    // At this rate nothing is ever complete.
    let began = run(&cluster, &["reassign", "execute", plan, "--throttle", "1B/s"]).await;
    assert!(began.status.success(), "{}", text(&began));
    is_under_way(&cluster, plan, "begun").await;
    for (node, what) in [(Some(1), "the source"), (Some(4), "the target"), (None, "the controller")]
    {
        let controller = eventually_or_why("there is a controller", async || {
            let picture = cluster.describe().await?;
            (picture.controller > 0).then_some(picture.controller).ok_or(picture.to_string())
        });
        let node = node.unwrap_or(controller.await);
        cluster.kill(node);
        load.goes_on().await;
        is_under_way(&cluster, plan, &format!("{what} is dead")).await;
        cluster.restart(&[node]).await;
        load.goes_on().await;
        is_under_way(&cluster, plan, &format!("{what} is back")).await;
    }
    let faster = eventually_or_why("the throttle is changed", async || {
        let arguments = ["reassign", "execute", plan, "--additional", "--throttle", "400MiB/s"];
        let faster = run(&cluster, &arguments).await;
        if faster.status.success() { Ok(text(&faster)) } else { Err(text(&faster)) }
    });
    assert!(faster.await.contains(&format!("set to {} B/s\n", 400 << 20)));
    complete(&cluster, &[4, 2, 3]).await;
    eventually_or_why("verify says that it is over", async || {
        let verified = run(&cluster, &["reassign", "verify", plan]).await;
        let said = text(&verified);
        let over = "Reassignment of partition moved-0 is completed.";
        if verified.status.success() && said.contains(over) { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(own(&cluster, Resource::Topic(TOPIC.to_owned()), LEADERS).await, None);
    assert_eq!(own(&cluster, Resource::BrokerId(4), FOLLOWER_RATE).await, None);
    cluster.healed().await;
    load.nothing_is_lost(&cluster).await;
}
