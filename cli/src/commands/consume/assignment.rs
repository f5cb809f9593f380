//! What a group has given to this member, as it is told.

use crate::assignment::assignment;
use serde_json::json;
use std::collections::BTreeMap;
use troupe_client::TopicPartition;

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        let number = i32::try_from(at.partition.0).unwrap_or(i32::MAX);
        topics.entry(at.topic.to_string()).or_default().push(number);
    }
    topics
}

pub fn names(partitions: &[TopicPartition]) -> String {
    assignment(&by_topic(partitions))
}

pub fn assignment_line(
    member_id: &str,
    epoch: Option<u32>,
    partitions: &[TopicPartition],
    as_json: bool,
) -> String {
    if as_json {
        let assignment = json!({
            "memberId": member_id, "memberEpoch": epoch, "partitions": by_topic(partitions),
        });
        return json!({ "assignment": assignment }).to_string();
    }
    let epoch = epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
    let names = names(partitions);
    let names = if names.is_empty() { "nothing" } else { names.as_str() };
    format!("assigned: {names}  epoch {epoch}  member {member_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_one_line() {
        let partitions =
            [("b", 1), ("a", 0), ("a", 2)].map(|(topic, at)| TopicPartition::new(topic, at));
        assert_eq!(
            assignment_line("c-1", Some(3), &partitions, false),
            "assigned: a(0,2),b(1)  epoch 3  member c-1"
        );
        assert_eq!(
            assignment_line("c-1", None, &partitions, true),
            r#"{"assignment":{"memberId":"c-1","memberEpoch":null,"partitions":{"a":[0,2],"b":[1]}}}"#
        );
        assert!(assignment_line("c-1", Some(4), &[], false).starts_with("assigned: nothing"));
    }
}
