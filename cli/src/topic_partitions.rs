//! A topic, or some of its partitions, as an argument.

use troupe_proto::admin::v1::TopicPartitions;

/// `orders`, or `orders:0,3`.
pub fn parse_partitions(text: &str) -> Result<TopicPartitions, String> {
    let Some((topic, numbers)) = text.split_once(':') else {
        return Ok(TopicPartitions { topic: text.to_owned(), partitions: Vec::new() });
    };
    let number = |number: &str| match number.parse::<i32>() {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(format!("`{number}` is no partition")),
    };
    let partitions = numbers.split(',').map(number).collect::<Result<_, _>>()?;
    Ok(TopicPartitions { topic: topic.to_owned(), partitions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_be_followed_by_some_of_its_partitions() {
        let parsed = |text| parse_partitions(text).map(|named| (named.topic, named.partitions));
        assert_eq!(parsed("orders"), Ok(("orders".to_owned(), vec![])));
        assert_eq!(parsed("orders:3"), Ok(("orders".to_owned(), vec![3])));
        assert_eq!(parsed("orders:0,12"), Ok(("orders".to_owned(), vec![0, 12])));
        assert!(parsed("orders:").is_err());
        assert!(parsed("orders:-1").is_err());
        assert!(parsed("orders:one").is_err());
    }
}
