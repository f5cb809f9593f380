//! The flags of `troupe produce`.

use crate::producer::Settings;
use crate::quantity::{Given, parse_count, parse_duration, parse_given};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use troupe_client::ProducerConfig;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe produce greetings                              # each line that is typed; Ctrl-D ends\n  \
    echo 'hello, world' | troupe produce greetings\n  \
    troupe produce logs access.log error.log --compression zstd\n  \
    troupe produce logs access.log --rate 1000\n  \
    troupe produce orders --transactional-id loader --transaction-size 10k < orders.txt\n  \
    troupe produce users -K : < users.txt                 # key:value lines\n  \
    troupe produce users -f '%k\\t%v\\n' < users.tsv        # the same with a format\n  \
    troupe produce frames -f '%V{big32}%v' < frames.bin   # records with their length in front\n  \
    troupe produce page -f %v -H 'type: html' < page.html # the whole input as one record\n\
    Formats: %v value, %k key, %p partition, %T timestamp in ms, %h headers (a=1,b=2), %V and %K lengths;\n\
    {hex}, {base64}, {json} or {LENGTH} behind a field, {big32}, {little32}, … behind a length;\n\
    \\n \\t \\r \\0 \\xHH and %% stand for themselves.")]
pub struct Produce {
    pub topic: String,
    /// Read these instead of standard input; `-` is standard input
    pub files: Vec<PathBuf>,
    /// The key of every record
    #[arg(short, long)]
    pub key: Option<String>,
    /// What stands between key and value in a line
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with_all = ["key", "format"])]
    pub key_separator: Option<String>,
    /// A header of every record, `name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The partition of every record [default, as -1: by key, or evenly]
    #[arg(short, long, value_name = "N", value_parser = parse_given::<u32>)]
    pub partition: Option<Given<u32>>,
    /// How input is cut into records [default: lines, without their \n]
    #[arg(short, long)]
    pub format: Option<String>,
    /// A key or value that reads so is null
    #[arg(long, value_name = "TEXT")]
    pub null_marker: Option<String>,
    /// Records per second [default: as many as go]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub rate: Option<u64>,
    /// Send in transactions, as the producer of this name: whoever else has it is fenced
    #[arg(long, value_name = "ID")]
    pub transactional_id: Option<String>,
    /// Records in a transaction; one that is not full after a second is committed too
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1000")]
    #[arg(requires = "transactional_id")]
    pub transaction_size: u64,
    /// How long a transaction may last before the cluster aborts it [default: 60 s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "transactional_id")]
    pub transaction_timeout: Option<Duration>,
    #[command(flatten)]
    pub settings: Settings,
}

impl Produce {
    pub fn config(&self) -> ProducerConfig {
        let mut config = self.settings.config();
        config.transactional_id.clone_from(&self.transactional_id);
        if let Some(timeout) = self.transaction_timeout {
            config.transaction_timeout = timeout;
        }
        config
    }

    pub fn partition(&self) -> Option<u32> {
        self.partition.and_then(|given| given.0)
    }
}
