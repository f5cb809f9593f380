//! Topics and partitions as `kafka-get-offsets --topic-partitions` takes them.
//!
//! ```text
//! orders  orders:2  orders:0-3  orders:5-  orders:-3  :0     all; one; from and until; from; until; of every topic
//! 'orders.*:0'                                               the whole name of the topic is matched
//! ```
//! The end of a range is exclusive. What could be a topic's name is one, and has to be there.

use regex::Regex;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Which partitions of which topics.
#[derive(Clone, Debug)]
pub struct PartitionPattern {
    pub topic: TopicPattern,
    partitions: Range<u32>,
}

#[derive(Clone, Debug)]
pub enum TopicPattern {
    Any,
    Name(String),
    Matching(Regex),
}

/// Text that names no partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; use orders, orders:2, orders:0-3, orders:5-, orders:-3 or 'orders.*:0'",
            self.0
        )
    }
}

impl std::error::Error for PatternError {}

impl FromStr for PartitionPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (topic, partitions) = match text.rsplit_once(':') {
            Some((topic, partitions)) => (topic, range(partitions)),
            None => (text, Some(0..u32::MAX)),
        };
        if text.is_empty() {
            return Err(PatternError("a topic has no name".to_owned()));
        }
        let partitions =
            partitions.ok_or_else(|| PatternError(format!("`{text}` names no partitions")))?;
        Ok(PartitionPattern { topic: topic_pattern(topic)?, partitions })
    }
}

fn topic_pattern(text: &str) -> Result<TopicPattern, PatternError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() {
        return Ok(TopicPattern::Any);
    }
    if text.chars().all(is_name) {
        return Ok(TopicPattern::Name(text.to_owned()));
    }
    match Regex::new(&format!("^(?:{text})$")) {
        Ok(regex) => Ok(TopicPattern::Matching(regex)),
        Err(error) => Err(PatternError(format!("`{text}` is no regular expression: {error}"))),
    }
}

fn range(text: &str) -> Option<Range<u32>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u32>().ok() } else { None }
    };
    match text.split_once('-') {
        None if text.is_empty() => Some(0..u32::MAX),
        None => number(text).and_then(|one| Some(one..one.checked_add(1)?)),
        Some(("", "")) => None,
        Some((from, "")) => Some(number(from)?..u32::MAX),
        Some(("", until)) => Some(0..number(until)?),
        Some((from, until)) => {
            Some(number(from)?..number(until)?).filter(|range| !range.is_empty())
        }
    }
}

impl PartitionPattern {
    pub fn matches_topic(&self, name: &str) -> bool {
        match &self.topic {
            TopicPattern::Any => true,
            TopicPattern::Name(wanted) => wanted == name,
            TopicPattern::Matching(regex) => regex.is_match(name),
        }
    }

    pub fn has(&self, partition: u32) -> bool {
        self.partitions.contains(&partition)
    }

    /// The partition that is named by its number.
    pub fn single(&self) -> Option<u32> {
        (self.partitions.len() == 1).then_some(self.partitions.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matched(pattern: &str, topic: &str) -> Vec<u32> {
        let pattern: PartitionPattern = pattern.parse().unwrap();
        (0..6).filter(|p| pattern.matches_topic(topic) && pattern.has(*p)).collect()
    }

    /// A20.
    #[test]
    fn every_form_of_kafka_s_tool_is_understood() {
        assert_eq!(matched("orders", "orders"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(matched("orders:", "orders"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(matched("orders:2", "orders"), [2]);
        assert_eq!(matched("orders:0-3", "orders"), [0, 1, 2]);
        assert_eq!(matched("orders:4-", "orders"), [4, 5]);
        assert_eq!(matched("orders:-2", "orders"), [0, 1]);
        assert_eq!(matched(":1", "anything"), [1]);
        assert_eq!(matched("ord.*:0", "orders"), [0]);
        assert_eq!(matched("ord.*", "reorders"), [] as [u32; 0]);
        assert_eq!(matched("a.b", "axb"), [] as [u32; 0]);
        assert_eq!(matched("(a|b)", "b").len(), 6);
    }

    #[test]
    fn anything_else_is_refused_with_what_would_do() {
        for text in ["", "orders:x", "orders:-", "orders:3-1", "orders:3-3", "orders:1-2-3", "(:1"]
        {
            let error = text.parse::<PartitionPattern>().unwrap_err().to_string();
            assert!(error.contains("orders:0-3"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<PartitionPattern>();
        }
    }
}
