//! Carrying a plan out: begun at once, and watched until it is complete. Whoever stops watching stops nothing, and the
//! same again goes on where it is.

use crate::failure::Failure;
use crate::global::Global;
use crate::quantity::{plural, show_duration, show_rate, show_size};
use crate::reassignment::throttle::ThrottleRate;
use crate::reassignment::{self, Plan, Sample, sample, throttle};
use crate::streams::notice;
use std::collections::BTreeSet;
use std::time::Duration;
use troupe_client::Client;
use troupe_proto::admin::v1::{ElectionType, PartitionReassignment, TopicPartitions};

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// How a plan is carried out.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Until it is complete, and those lead that are preferred.
    pub wait: bool,
    /// Bytes a second for new replicas.
    pub throttle: Option<u64>,
    /// Somebody sees the end, and takes the throttle away then.
    pub watched: bool,
}

impl Manner {
    pub fn new(throttle: &ThrottleRate, wait: bool) -> Manner {
        Manner { wait, throttle: throttle.rate(), watched: wait }
    }
}

/// Begins what a plan says, and tells of a throttle that was set.
///
/// # Errors
/// What is refused, each partition with its reason; nothing is begun then.
pub async fn carry_out(
    global: &Global,
    client: &Client,
    what: &str,
    plan: &Plan,
    manner: Manner,
) -> Result<(), Failure> {
    if !plan.partitions.is_empty() {
        let targets = reassignment::targets(plan);
        // First, so that a plan that is refused leaves no throttle behind.
        reassignment::check(client, what, targets.clone()).await?;
        if let Some(rate) = manner.throttle
            && let Some(throttled) = throttle::set(client, what, plan, rate, false).await?
        {
            notice!("{}", throttled.text(manner.watched).trim_end());
        }
        reassignment::begin(client, what, targets).await?;
    }
    let partitions = plan.keys();
    if manner.wait {
        watch(global, client, |one| partitions.contains(&(one.topic.clone(), one.partition))).await;
        take_throttle_away(client, what, manner).await?;
    }
    elect(client, &partitions).await;
    Ok(())
}

/// What was set is taken away, of all topics, if nothing is under way any more.
///
/// # Errors
/// Those of the calls.
pub async fn take_throttle_away(
    client: &Client,
    what: &str,
    manner: Manner,
) -> Result<(), Failure> {
    if manner.throttle.is_some() {
        let cleared = throttle::clear_if_over(client, what, None).await?;
        let text = cleared.text();
        if !text.is_empty() {
            notice!("{}", text.trim_end());
        }
    }
    Ok(())
}

/// Until none of what is asked for is under way. Who does not answer meanwhile is asked again.
pub async fn watch(
    global: &Global,
    client: &Client,
    is_asked_for: impl Fn(&PartitionReassignment) -> bool,
) {
    let mut earlier: Option<Sample> = None;
    loop {
        if let Ok(active) = client.admin().list_partition_reassignments(&[]).await
            && !active.iter().any(&is_asked_for)
        {
            return;
        }
        if global.progress()
            && let Ok(now) = sample(client).await
        {
            notice!("{}", line(&now, earlier.as_ref()));
            earlier = Some(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn line(now: &Sample, earlier: Option<&Sample>) -> String {
    let total = now.total(earlier);
    let (count, left) = (now.reassignments.len(), show_size(total.bytes_left));
    let mut line =
        format!("{} under way, {left} left ({} %)", plural(count, "partition"), total.percent());
    if let Some(rate) = total.bytes_per_second {
        line += &format!(", {}", show_rate(rate));
    }
    if let Some(seconds) = total.seconds_left {
        line += &format!(", {} to go", show_duration(Duration::from_secs(seconds)));
    }
    line
}

/// Whoever is preferred by now leads. What cannot be elected yet is later, by itself.
async fn elect(client: &Client, partitions: &BTreeSet<(String, i32)>) {
    if partitions.is_empty() {
        return;
    }
    let mut named: Vec<TopicPartitions> = Vec::new();
    for (topic, partition) in partitions {
        match named.last_mut().filter(|last| last.topic == *topic) {
            Some(last) => last.partitions.push(*partition),
            None => {
                named.push(TopicPartitions { topic: topic.clone(), partitions: vec![*partition] })
            }
        }
    }
    let _ = client.admin().elect_leaders(ElectionType::Preferred, named).await;
}
