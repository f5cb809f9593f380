//! What a member wants to read: topics by name, topics by a pattern.

use super::{Catalog, GroupError};
use crate::cluster::check_topic_names;
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use troupe_proto::log::v1 as pb;

/// A pattern that takes more memory than this is refused.
const PATTERN_SIZE_LIMIT: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Subscription {
    pub topics: BTreeSet<Arc<str>>,
    pattern: Option<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    source: Arc<str>,
    /// Of whole names.
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

impl Subscription {
    /// What a member asks for: topics that come later too, and none that nothing can be.
    pub fn asked(asked: &pb::Subscription) -> Result<Subscription, GroupError> {
        check_topic_names(&asked.topics)?;
        Subscription::parse(&asked.topics, &asked.pattern)
    }

    /// An empty pattern is none.
    pub fn parse(topics: &[String], pattern: &str) -> Result<Subscription, GroupError> {
        let topics = topics.iter().map(|topic| topic.as_str().into()).collect();
        if pattern.is_empty() {
            return Ok(Subscription { topics, pattern: None });
        }
        let compile = |source: &str| {
            RegexBuilder::new(source).size_limit(PATTERN_SIZE_LIMIT).build().map_err(|error| {
                let (pattern, reason) = (pattern.to_owned(), error.to_string());
                GroupError::InvalidRegularExpression { pattern, reason }
            })
        };
        // By itself first, so that a stray bracket does not close ours.
        compile(pattern)?;
        let regex = compile(&format!(r"\A(?:{pattern})\z"))?;
        Ok(Subscription { topics, pattern: Some(Pattern { source: pattern.into(), regex }) })
    }

    /// Empty: none.
    pub fn pattern_source(&self) -> &str {
        self.pattern.as_ref().map_or("", |pattern| &pattern.source)
    }

    pub fn includes(&self, topic: &str, internal: bool) -> bool {
        let by_pattern =
            || self.pattern.as_ref().is_some_and(|pattern| pattern.regex.is_match(topic));
        self.topics.contains(topic) || (!internal && by_pattern())
    }
}

/// Which topics there are for which pattern, looked up once for all members that have the same.
pub(super) struct Matches<'a> {
    catalog: &'a Catalog,
    by_pattern: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl<'a> Matches<'a> {
    pub fn new(catalog: &'a Catalog) -> Matches<'a> {
        Matches { catalog, by_pattern: BTreeMap::new() }
    }

    /// The topics that there are, of those that the member wants.
    pub fn topics(&mut self, subscription: &Subscription) -> BTreeSet<Arc<str>> {
        let named = subscription.topics.iter();
        let known = named.filter(|topic| self.catalog.topics.contains_key(*topic));
        let mut topics: BTreeSet<_> = known.cloned().collect();
        if let Some(pattern) = &subscription.pattern {
            let catalog = self.catalog;
            let matched = self.by_pattern.entry(Arc::clone(&pattern.source)).or_insert_with(|| {
                let open = catalog.topics.iter().filter(|(_, topic)| !topic.internal);
                let names = open.map(|(name, _)| name);
                names.filter(|name| pattern.regex.is_match(name)).cloned().collect()
            });
            topics.extend(matched.iter().cloned());
        }
        topics
    }
}
