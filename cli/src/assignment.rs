//! Which partitions of which topics somebody reads, as text.

use std::collections::BTreeMap;

/// `orders(0,2),payments(1)`, as Kafka's tool writes it.
pub fn assignment(topics: &BTreeMap<String, Vec<i32>>) -> String {
    let one = |(topic, partitions): (&String, &Vec<i32>)| {
        let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
        format!("{topic}({})", numbers.join(","))
    };
    topics.iter().map(one).collect::<Vec<_>>().join(",")
}
