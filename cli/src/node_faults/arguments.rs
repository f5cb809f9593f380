//! The words for a fault of a node: the same ones on the command line and at `troupe dev`.

use crate::quantity::parse_duration;
use clap::{Args, Subcommand};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use troupe_proto::chaos::v1alpha1 as pb;
use troupe_proto::chaos::v1alpha1::node_fault::Kind;
use troupe_proto::chaos::v1alpha1::{Direction, NodeFault};

#[derive(Debug, Subcommand)]
pub enum NodeFaultCommand {
    /// Nothing passes between nodes; clients still reach all of them
    #[command(after_help = "Examples:\n  \
        troupe chaos cut 1 2                   # neither hears the other\n  \
        troupe chaos cut 1 2 --one-way         # node 2 does not hear node 1\n  \
        troupe chaos cut 3 --for 1m            # node 3 is cut off from all others\n\
        What is under way is held until the end, as if its packets were lost and sent again.")]
    Cut(Cut),
    /// What nodes send each other takes longer
    #[command(after_help = "Examples:\n  \
        troupe chaos slow 1 2 50ms             # each way: a round trip takes 100 ms more\n  \
        troupe chaos slow 1 2,3 50ms --jitter 10ms --for 1m\n  \
        troupe chaos slow 1 2 50ms --one-way   # only what node 1 sends")]
    Slow(Slow),
    /// Each flush of a node's disk takes longer
    #[command(after_help = "Examples:\n  \
        troupe chaos slow-disk 1 200ms --for 1m\n  \
        troupe chaos slow-disk 1 200ms --dir /data/one")]
    SlowDisk(SlowDisk),
    /// Nothing can be written to a node's disk: ENOSPC
    #[command(after_help = "Examples:\n  troupe chaos full-disk 1 --for 1m")]
    FullDisk(DiskOf),
    /// Each flush of a node's disk fails: EIO
    #[command(after_help = "Examples:\n  troupe chaos fsync-error 1 --for 5s\n\
        A directory that fails stays offline until its node starts again; a node that has no other stops.")]
    FsyncError(DiskOf),
    /// A node's clock is wrong: timestamps and retention go by it, and nothing that waits
    #[command(
        after_help = "Examples:\n  troupe chaos clock 2 +5s\n  troupe chaos clock 2 -1h --for 10m"
    )]
    Clock(Clock),
}

#[derive(Debug, Args)]
pub struct Lasting {
    /// How long it lasts [default: 10s]
    #[arg(long = "for", value_parser = parse_duration, value_name = "DURATION")]
    pub duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Cut {
    /// The node that is cut off
    #[arg(value_parser = parse_node, value_name = "NODE")]
    node: i32,
    /// From whom, with commas between [default: all others]
    #[arg(value_parser = parse_node, value_delimiter = ',', value_name = "NODE,...")]
    from: Vec<i32>,
    /// Only what the first node sends is lost
    #[arg(long)]
    one_way: bool,
    #[command(flatten)]
    lasting: Lasting,
}

#[derive(Debug, Args)]
pub struct Slow {
    /// One end of the connection
    #[arg(value_parser = parse_node, value_name = "NODE")]
    node: i32,
    /// The other, or several with commas between
    #[arg(value_parser = parse_node, value_delimiter = ',', required = true, value_name = "NODE,...")]
    #[arg(num_args = 1)]
    other: Vec<i32>,
    /// How much longer it takes, each way
    #[arg(value_parser = parse_delay)]
    delay: Duration,
    /// Up to so much more, at random
    #[arg(long, value_parser = parse_delay, value_name = "DURATION")]
    jitter: Option<Duration>,
    /// Only what the first node sends is late
    #[arg(long)]
    one_way: bool,
    #[command(flatten)]
    lasting: Lasting,
}

#[derive(Debug, Args)]
pub struct SlowDisk {
    #[arg(value_parser = parse_node)]
    node: i32,
    /// How much longer a flush takes
    #[arg(value_parser = parse_delay)]
    delay: Duration,
    /// Only in this one of its log.dirs
    #[arg(long, default_value = "", hide_default_value = true)]
    dir: String,
    #[command(flatten)]
    lasting: Lasting,
}

#[derive(Debug, Args)]
pub struct DiskOf {
    #[arg(value_parser = parse_node)]
    node: i32,
    /// Only in this one of its log.dirs
    #[arg(long, default_value = "", hide_default_value = true)]
    dir: String,
    #[command(flatten)]
    lasting: Lasting,
}

#[derive(Debug, Args)]
pub struct Clock {
    #[arg(value_parser = parse_node)]
    node: i32,
    /// By how much it is fast (+5s) or slow (-5s)
    #[arg(value_parser = parse_offset, allow_hyphen_values = true)]
    offset: i64,
    #[command(flatten)]
    lasting: Lasting,
}

/// A node by its number, as elsewhere `node/1` too.
pub fn parse_node(text: &str) -> Result<i32, String> {
    let number = text.strip_prefix("node/").unwrap_or(text);
    match number.parse() {
        Ok(node) if node >= 0 => Ok(node),
        _ => Err("it is no number of a node; `troupe node list` shows them".to_owned()),
    }
}

fn parse_delay(text: &str) -> Result<Duration, String> {
    let delay = parse_duration(text)?;
    if delay < Duration::from_millis(1) || delay > Duration::from_secs(60) {
        return Err("it has to be from 1ms to 60s".to_owned());
    }
    Ok(delay)
}

fn parse_offset(text: &str) -> Result<i64, String> {
    let is_slow = text.starts_with('-');
    let offset = parse_duration(text.trim_start_matches(['+', '-']))?;
    match i64::try_from(offset.as_millis()) {
        Ok(0) => Err("with 0 the clock would be right".to_owned()),
        Ok(offset) => Ok(if is_slow { -offset } else { offset }),
        Err(_) => Err("it is too long".to_owned()),
    }
}

/// What is to be done, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeFaultKind {
    /// Without others: all.
    Cut {
        node: i32,
        others: Vec<i32>,
        one_way: bool,
    },
    Slow {
        node: i32,
        others: Vec<i32>,
        one_way: bool,
        delay: Duration,
        jitter: Duration,
    },
    SlowDisk {
        node: i32,
        delay: Duration,
        dir: String,
    },
    FullDisk {
        node: i32,
        dir: String,
    },
    FsyncError {
        node: i32,
        dir: String,
    },
    Pause {
        node: i32,
    },
    Clock {
        node: i32,
        offset_ms: i64,
    },
}

impl NodeFaultCommand {
    /// And for how long, if that was said.
    pub fn into_kind(self) -> (NodeFaultKind, Option<Duration>) {
        match self {
            NodeFaultCommand::Cut(Cut { node, from, one_way, lasting }) => {
                (NodeFaultKind::Cut { node, others: from, one_way }, lasting.duration)
            }
            NodeFaultCommand::Slow(Slow { node, other, delay, jitter, one_way, lasting }) => {
                let jitter = jitter.unwrap_or_default();
                let kind = NodeFaultKind::Slow { node, others: other, one_way, delay, jitter };
                (kind, lasting.duration)
            }
            NodeFaultCommand::SlowDisk(SlowDisk { node, delay, dir, lasting }) => {
                (NodeFaultKind::SlowDisk { node, delay, dir }, lasting.duration)
            }
            NodeFaultCommand::FullDisk(DiskOf { node, dir, lasting }) => {
                (NodeFaultKind::FullDisk { node, dir }, lasting.duration)
            }
            NodeFaultCommand::FsyncError(DiskOf { node, dir, lasting }) => {
                (NodeFaultKind::FsyncError { node, dir }, lasting.duration)
            }
            NodeFaultCommand::Clock(Clock { node, offset, lasting }) => {
                (NodeFaultKind::Clock { node, offset_ms: offset }, lasting.duration)
            }
        }
    }
}

impl NodeFaultKind {
    pub fn name(&self) -> &'static str {
        match self {
            NodeFaultKind::Cut { .. } => "cut",
            NodeFaultKind::Slow { .. } => "slow",
            NodeFaultKind::SlowDisk { .. } => "slow-disk",
            NodeFaultKind::FullDisk { .. } => "full-disk",
            NodeFaultKind::FsyncError { .. } => "fsync-error",
            NodeFaultKind::Pause { .. } => "pause",
            NodeFaultKind::Clock { .. } => "clock",
        }
    }

    /// The node that was named first: the one that is ill, where it is one.
    pub fn victim(&self) -> i32 {
        match self {
            NodeFaultKind::Cut { node, .. }
            | NodeFaultKind::Slow { node, .. }
            | NodeFaultKind::SlowDisk { node, .. }
            | NodeFaultKind::FullDisk { node, .. }
            | NodeFaultKind::FsyncError { node, .. }
            | NodeFaultKind::Pause { node }
            | NodeFaultKind::Clock { node, .. } => *node,
        }
    }

    /// All that were.
    pub fn named(&self) -> BTreeSet<i32> {
        let others = match self {
            NodeFaultKind::Cut { others, .. } | NodeFaultKind::Slow { others, .. } => &**others,
            _ => &[],
        };
        others.iter().copied().chain([self.victim()]).collect()
    }

    /// What each node suffers, of these that there are. A connection has two ends, and each node makes its own.
    pub fn on_nodes(&self, all: &BTreeSet<i32>) -> BTreeMap<i32, NodeFault> {
        let ends =
            |node: i32, others: &[i32], one_way, part: &dyn Fn(Vec<i32>, Direction) -> Kind| {
                let others: Vec<i32> = match others {
                    [] => all.iter().copied().filter(|other| *other != node).collect(),
                    others => others.to_vec(),
                };
                let (to, from) = match one_way {
                    true => (Direction::To, Direction::From),
                    false => (Direction::Both, Direction::Both),
                };
                let mut on_nodes = BTreeMap::new();
                for other in &others {
                    on_nodes.insert(*other, part(vec![node], from));
                }
                on_nodes.insert(node, part(others, to));
                on_nodes
            };
        let ms = |duration: &Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let one = |node: &i32, kind| BTreeMap::from([(*node, kind)]);
        let kinds = match self {
            NodeFaultKind::Cut { node, others, one_way } => {
                ends(*node, others, *one_way, &|node_ids, direction| {
                    Kind::Cut(pb::Cut { node_ids, direction: direction.into() })
                })
            }
            NodeFaultKind::Slow { node, others, one_way, delay, jitter } => {
                ends(*node, others, *one_way, &|node_ids, direction| {
                    let (delay_ms, jitter_ms) = (ms(delay), ms(jitter));
                    let direction = direction.into();
                    Kind::Slow(pb::Slow { node_ids, direction, delay_ms, jitter_ms })
                })
            }
            NodeFaultKind::SlowDisk { node, delay, dir } => {
                let (delay_ms, log_dir) = (ms(delay), dir.clone());
                one(node, Kind::SlowDisk(pb::SlowDisk { delay_ms, log_dir }))
            }
            NodeFaultKind::FullDisk { node, dir } => {
                one(node, Kind::FullDisk(pb::FullDisk { log_dir: dir.clone() }))
            }
            NodeFaultKind::FsyncError { node, dir } => {
                one(node, Kind::FsyncError(pb::FsyncError { log_dir: dir.clone() }))
            }
            NodeFaultKind::Pause { node } => one(node, Kind::Pause(pb::Pause {})),
            NodeFaultKind::Clock { node, offset_ms } => {
                one(node, Kind::ClockOffset(pb::ClockOffset { offset_ms: *offset_ms }))
            }
        };
        let fault = |(node, kind)| (node, NodeFault { kind: Some(kind) });
        kinds.into_iter().map(fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(others: &[i32], one_way: bool) -> BTreeMap<i32, (Vec<i32>, Direction)> {
        let kind = NodeFaultKind::Cut { node: 1, others: others.to_vec(), one_way };
        let all = BTreeSet::from([1, 2, 3]);
        let on_nodes = kind.on_nodes(&all).into_iter().map(|(node, fault)| match fault.kind {
            Some(Kind::Cut(cut)) => (node, (cut.node_ids.clone(), cut.direction())),
            other => panic!("{other:?}"),
        });
        on_nodes.collect()
    }

    #[test]
    fn a_cut_is_at_both_ends_and_of_one_direction_if_so_wanted() {
        use Direction::{Both, From, To};
        assert_eq!(cut(&[2], false), BTreeMap::from([(1, (vec![2], Both)), (2, (vec![1], Both))]));
        assert_eq!(cut(&[2], true), BTreeMap::from([(1, (vec![2], To)), (2, (vec![1], From))]));
        let isolated = cut(&[], false);
        assert_eq!(isolated[&1], (vec![2, 3], Both));
        assert_eq!((&isolated[&2], &isolated[&3]), (&(vec![1], Both), &(vec![1], Both)));
    }

    #[test]
    fn a_clock_goes_forward_or_back() {
        assert_eq!(parse_offset("+5s"), Ok(5_000));
        assert_eq!(parse_offset("5s"), Ok(5_000));
        assert_eq!(parse_offset("-1h"), Ok(-3_600_000));
        assert!(parse_offset("0").is_err() && parse_offset("+soon").is_err());
    }

    #[test]
    fn a_node_is_a_number() {
        assert_eq!((parse_node("2"), parse_node("node/2")), (Ok(2), Ok(2)));
        assert!(parse_node("-1").is_err() && parse_node("two").unwrap_err().contains("node list"));
        assert!(parse_delay("0").is_err() && parse_delay("2m").is_err());
    }
}
