//! Topics and partitions in one argument: `orders:0,2,payments` are two partitions of one topic and all of
//! another.

use std::fmt;
use std::str::FromStr;
use troupe_proto::log::v1::TopicPartitions;

/// Topics, each with its partitions; without any, all of them are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSelection(Vec<(String, Vec<i32>)>);

/// Text that names no topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSelectionError(String);

impl fmt::Display for TopicSelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; use topic, topic:0,2 or several of these: orders:0,2,payments", self.0)
    }
}

impl std::error::Error for TopicSelectionError {}

impl FromStr for TopicSelection {
    type Err = TopicSelectionError;

    /// A number behind a topic that has partitions named is one more of them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| match text.parse::<i32>() {
            Ok(number) if number >= 0 => Ok(number),
            _ => Err(TopicSelectionError(format!("`{text}` is no partition"))),
        };
        let mut selection: Vec<(String, Vec<i32>)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            match (part.split_once(':'), selection.last_mut()) {
                (None, Some((_, partitions))) if digits && !partitions.is_empty() => {
                    partitions.push(number(part)?);
                }
                (Some(("", _)), _) | (None, _) if part.is_empty() || part.starts_with(':') => {
                    return Err(TopicSelectionError("a topic has no name".to_owned()));
                }
                (Some((topic, first)), _) => {
                    selection.push((topic.to_owned(), vec![number(first)?]));
                }
                (None, _) => selection.push((part.to_owned(), Vec::new())),
            }
        }
        Ok(TopicSelection(selection))
    }
}

impl TopicSelection {
    /// The topics and their partitions; none: all of them are meant.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &[i32])> {
        self.0.iter().map(|(topic, partitions)| (&**topic, &**partitions))
    }

    /// All of several arguments, as a request wants them.
    pub fn to_wire(arguments: &[TopicSelection]) -> Vec<TopicPartitions> {
        let all = arguments.iter().flat_map(|selection| &selection.0);
        let wire = all.map(|(topic, partitions)| TopicPartitions {
            topic: topic.clone(),
            partitions: partitions.clone(),
            ..TopicPartitions::default()
        });
        wire.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selection(text: &str) -> Vec<(String, Vec<i32>)> {
        text.parse::<TopicSelection>().unwrap().0
    }

    #[test]
    fn topics_and_partitions_stand_in_one_argument() {
        let topic = |name: &str, partitions: &[i32]| (name.to_owned(), partitions.to_vec());
        assert_eq!(selection("orders"), [topic("orders", &[])]);
        assert_eq!(selection("orders:0,2"), [topic("orders", &[0, 2])]);
        assert_eq!(
            selection("orders:0,2,payments, audit:1"),
            [topic("orders", &[0, 2]), topic("payments", &[]), topic("audit", &[1])]
        );
        // A topic whose name is a number, where no partition can stand.
        assert_eq!(selection("orders,42"), [topic("orders", &[]), topic("42", &[])]);
    }

    #[test]
    fn anything_else_is_refused_with_what_would_do() {
        for text in ["", ",", "orders,", ":1", "orders:", "orders:x", "orders:-1", "a:1:2"] {
            let error = text.parse::<TopicSelection>().unwrap_err().to_string();
            assert!(error.contains("orders:0,2,payments"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<TopicSelection>();
        }
    }
}
