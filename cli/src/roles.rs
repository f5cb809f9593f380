//! Actors by what they do at the moment: the leader of a partition, the coordinator of a group.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use troupe_client::Client;
use troupe_proto::ids::NodeId;

/// Groups are kept in its partitions, each by an actor where that is led.
const GROUPS: &str = "__consumer_offsets";

/// `orders:3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub topic: String,
    pub number: u32,
}

pub fn parse_partition(text: &str) -> Result<Partition, String> {
    let parsed = text.rsplit_once(':').and_then(|(topic, number)| {
        let number = number.parse().ok()?;
        (!topic.is_empty()).then(|| Partition { topic: topic.to_owned(), number })
    });
    parsed.ok_or_else(|| "it is not of the form TOPIC:PARTITION".to_owned())
}

/// The address of the actor of a partition, on a node.
///
/// # Errors
/// It has none, or does not answer.
pub async fn actor_of(
    client: &Client,
    node: NodeId,
    partition: &Partition,
    what: impl Fn() -> String,
) -> Result<String, Failure> {
    let Partition { topic, number } = partition;
    actor_at(client, node, &format!("/partition/{topic}/{number}"), what).await
}

/// The address of the actor that leads a partition.
///
/// # Errors
/// There is no such partition, nobody leads it, or who does does not answer.
pub async fn leader_of(client: &Client, partition: &Partition) -> Result<String, Failure> {
    let Partition { topic, number } = partition;
    let what = || format!("cannot find the leader of {topic}:{number}");
    let node = leader(client, partition, what).await?;
    actor_of(client, node, partition, what).await
}

/// The address of the actor that coordinates a group, whether there is such a group or not.
///
/// # Errors
/// There are no groups yet, or the node where it would be does not answer.
pub async fn coordinator_of(client: &Client, group: &str) -> Result<String, Failure> {
    let what = || format!("cannot find the coordinator of group {group}");
    let count = client.topic(GROUPS).await.with_context(what)?.partitions.len();
    let number = coordinator_partition(group, u32::try_from(count).unwrap_or(u32::MAX));
    let partition = Partition { topic: GROUPS.to_owned(), number };
    let node = leader(client, &partition, what).await?;
    actor_at(client, node, &format!("/group-coordinator/{GROUPS}/{number}"), what).await
}

async fn leader(
    client: &Client,
    partition: &Partition,
    what: impl Fn() -> String,
) -> Result<NodeId, Failure> {
    let Partition { topic, number } = partition;
    let described = client.admin().get_topic(topic).await.with_context(&what)?;
    let found = described
        .partitions
        .iter()
        .find(|found| i64::from(found.partition) == i64::from(*number))
        .ok_or_else(|| {
            let last = described.partitions.len().saturating_sub(1);
            let cause = format!("there is no partition {number}; the topic has 0 to {last}");
            Failure::new(Exit::NotFound, what(), cause)
        })?;
    match found.leader_id {
        node if node >= 0 => Ok(NodeId(node)),
        _ => Err(Failure::new(Exit::Failed, what(), "nobody leads it")
            .with_hint(format!("`troupe partition list {topic}` shows who is in sync"))),
    }
}

async fn actor_at(
    client: &Client,
    node: NodeId,
    end: &str,
    what: impl Fn() -> String,
) -> Result<String, Failure> {
    let admin = client.admin_of(node).await.with_context(&what)?;
    let actors = admin.list_actors(&format!("node/{node}/")).await.with_context(&what)?;
    let found = actors.into_iter().find(|actor| actor.address.ends_with(end));
    found.map(|actor| actor.address).ok_or_else(|| {
        Failure::new(Exit::NotFound, what(), format!("node {node} has no actor for it"))
            .with_hint("`troupe actor tree` shows them")
    })
}

/// As Kafka and the nodes reckon it: Java's hash of the name, without its sign.
fn coordinator_partition(group: &str, partitions: u32) -> u32 {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = group.encode_utf16().fold(0, add);
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    positive % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        let partition = |topic: &str, number| Partition { topic: topic.to_owned(), number };
        assert_eq!(parse_partition("orders:3"), Ok(partition("orders", 3)));
        assert!(parse_partition("orders").is_err());
        assert!(parse_partition(":3").is_err());
        assert!(parse_partition("orders:-3").is_err());
    }

    /// Java: `Math.abs("billing".hashCode()) % 50`, and the one whose absolute value is itself.
    #[test]
    fn a_group_is_coordinated_where_kafka_coordinates_it() {
        assert_eq!(coordinator_partition("", 50), 0);
        assert_eq!(coordinator_partition("a", 50), 97 % 50);
        assert_eq!(coordinator_partition("ab", 50), (97 * 31 + 98) % 50);
        assert_eq!(coordinator_partition("polygenelubricants", 50), 0);
    }
}
