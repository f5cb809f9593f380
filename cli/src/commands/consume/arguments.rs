//! The flags of `troupe consume`, without those of a group's member.

use super::membership::Membership;
use crate::decoder::Decoder;
use crate::offset_range::OffsetRange;
use crate::quantity::{Given, parse_given};
use clap::Args;
use troupe_client::IsolationLevel;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe consume orders                          # what comes from now on\n  \
    troupe consume orders --from-beginning --until-end > orders.txt\n  \
    troupe consume orders --offset -10             # the last 10 of each partition, then what comes\n  \
    troupe consume orders --offset -1h:latest      # the last hour\n  \
    troupe consume orders --isolation read_committed   # nothing of transactions that are open or aborted\n  \
    troupe consume orders -p 3 --offset 42 -n 1 -f '%v'\n  \
    troupe consume orders -f '%p:%o %k=%v\\n'\n  \
    troupe consume orders payments -g billing --from-beginning --show-assignment\n  \
    troupe consume --pattern 'orders-.*' -g audit --commit before\n  \
    troupe consume __consumer_offsets -e --decode offsets | jq .\n  \
    troupe consume orders --until-end -f '%K{big32}%V{big32}%k%v'   # exact bytes, for `produce -f`\n\
    Offsets: earliest, latest, 42, =42, +10 (after the start), -10 (before the end), times @2026-01-31T12:00Z and -1h,\n\
    and ranges of any two of them: 42:50, :latest, -5:latest, -2h:-1h. What is not there is told, and what comes\n\
    nearest is read; --wait waits for it.\n\
    Formats: %v value, %k key, %t topic, %p partition, %o offset, %T timestamp in ms, %T{iso}, %h headers,\n\
    %h{%k=%v;} each header, %e leader epoch, %i count, %s or %V size, %K key size, %H number of headers;\n\
    {hex}, {base64}, {json} behind bytes, {big32}, {hex64}, … behind numbers; \\n \\t \\r \\0 \\xHH %%.")]
pub struct Consume {
    /// Topics
    #[arg(value_name = "TOPIC", required_unless_present = "pattern")]
    pub topics: Vec<String>,
    /// From the first record on [default: from now on]
    #[arg(short = 'b', long, conflicts_with = "offset")]
    pub from_beginning: bool,
    /// Where to begin and, in a range, where to stop
    #[arg(long, value_name = "OFFSET")]
    pub offset: Option<OffsetRange>,
    /// Wait for what --offset asks for and is not there yet
    #[arg(long, requires = "offset", conflicts_with_all = ["until_end", "group"])]
    pub wait: bool,
    /// Only these partitions; -1: all
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = parse_given::<u32>)]
    pub partitions: Vec<Given<u32>>,
    /// Stop after this many records; -1: never
    #[arg(short = 'n', long = "num", value_name = "N", visible_alias = "max-messages")]
    #[arg(value_parser = parse_given::<u64>)]
    pub max: Option<Given<u64>>,
    /// Stop where the partitions end at this moment; from the beginning unless --offset says otherwise. A member of
    /// a group that has no partitions waits until it is given some
    #[arg(short = 'e', long)]
    pub until_end: bool,
    /// What is read of transactions: read_committed, of those that are committed only, up to where the earliest open one
    /// began; or read_uncommitted [default: read_uncommitted]
    #[arg(long, value_name = "LEVEL", visible_alias = "isolation-level")]
    pub isolation: Option<IsolationLevel>,
    /// Read from in-sync followers in this rack, where leaders look at racks (replica.selector.class)
    #[arg(
        long,
        value_name = "RACK",
        visible_alias = "client-rack",
        default_value = "",
        hide_default_value = true
    )]
    pub rack: String,
    /// How a record is printed [default: readable on a terminal, else the value and \n]
    #[arg(short, long)]
    pub format: Option<String>,
    /// What a null key or value is printed as
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub null: String,
    /// Each record as the JSON of what it says: of `__consumer_offsets`
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "format")]
    pub decode: Option<Decoder>,
    #[command(flatten)]
    pub membership: Membership,
}

impl Consume {
    /// None: all of them.
    pub fn partitions(&self) -> Vec<u32> {
        let chosen: Option<Vec<u32>> = self.partitions.iter().map(|given| given.0).collect();
        chosen.unwrap_or_default()
    }

    pub fn isolation(&self) -> IsolationLevel {
        self.isolation.unwrap_or_default()
    }

    /// How many records may be printed.
    pub fn most(&self) -> u64 {
        self.max.and_then(|max| max.0).unwrap_or(u64::MAX)
    }

    /// Nothing on the command line says where it ends.
    pub fn is_endless(&self) -> bool {
        self.most() == u64::MAX && !self.until_end
    }
}
