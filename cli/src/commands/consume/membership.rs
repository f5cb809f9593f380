//! The flags of a group's member, and the consumer that they mean.

use clap::{Args, ValueEnum};
use troupe_client::{Assignor, AutoOffsetReset, ConsumerConfig};

#[derive(Debug, Args)]
#[command(next_help_heading = "As a member of a group")]
pub struct Membership {
    /// The group that shares the topics' partitions among its members
    #[arg(short, long, conflicts_with_all = ["offset", "partitions"])]
    pub group: Option<String>,
    /// Every topic whose whole name matches, also those that come later
    #[arg(long, value_name = "REGEX", requires = "group", conflicts_with = "topics")]
    pub pattern: Option<String>,
    /// When the group's position is committed. A commit is a write on every in-sync replica, so they are paced: once a
    /// second while records come, 200 ms after the last when none do, and at once before partitions are given up and
    /// at the end; with `before` every 200 ms or 8 MiB, and what comes meanwhile waits for it [default: after]
    #[arg(long, value_enum, requires = "group")]
    pub commit: Option<Commit>,
    /// range, roundrobin, sticky or cooperative-sticky [default: the group's]
    #[arg(long, requires = "group")]
    pub assignor: Option<Assignor>,
    /// A name under which this member comes back and keeps what it had (static membership)
    #[arg(long, value_name = "NAME", requires = "group")]
    pub member_name: Option<String>,
    /// The beginning of the member's id
    #[arg(long, requires = "group", default_value = "troupe-consume", value_name = "ID")]
    pub client_id: String,
    /// Where to begin if nothing is committed [default: latest]
    #[arg(long, value_enum, requires = "group", conflicts_with = "from_beginning")]
    pub offset_reset: Option<OffsetReset>,
    /// Tell on standard error what the group assigns, whenever that changes
    #[arg(long, requires = "group")]
    pub show_assignment: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Commit {
    /// What was printed: a crash may repeat records, and loses none
    #[default]
    After,
    /// What is about to be printed: a crash may lose records, and repeats none
    Before,
    /// Never
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OffsetReset {
    /// With the first record that is still kept
    Earliest,
    /// Behind what is there now
    Latest,
    /// Nowhere: it is an error
    None,
}

impl Membership {
    /// `earliest`: where to begin if nothing is committed, unless that is said.
    pub fn consumer_config(&self, group: &str, earliest: bool) -> ConsumerConfig {
        let auto_offset_reset = match self.offset_reset {
            Some(OffsetReset::Earliest) => AutoOffsetReset::Earliest,
            Some(OffsetReset::Latest) => AutoOffsetReset::Latest,
            Some(OffsetReset::None) => AutoOffsetReset::None,
            None if earliest => AutoOffsetReset::Earliest,
            None => AutoOffsetReset::Latest,
        };
        ConsumerConfig {
            client_id: self.client_id.clone(),
            group_instance_id: self.member_name.clone(),
            assignor: self.assignor,
            auto_offset_reset,
            enable_auto_commit: false,
            ..ConsumerConfig::new(group)
        }
    }
}
