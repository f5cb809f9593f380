//! kafka-groups: all groups of all types. There is one type here.

use super::columns::{row, width};
use super::ended::Ended;
use super::link::{self, connect, print};
use super::options::{Given, Options, flag, value};

static OPTIONS: Options = Options {
    about: "This tool helps to list groups of all types.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to ask."),
        value("command-config", "file", "Settings of the client."),
        flag("list", "List the groups."),
        value("group-type", "type", "Only groups of this type: classic, consumer, share, streams."),
        value("protocol", "protocol", "Only groups of this protocol."),
        flag("consumer", "Only groups of consumers."),
        flag("share", "Only share groups: there are none."),
        flag("streams", "Only streams groups: there are none."),
    ],
    lead: "",
};

/// Members are assigned to by the coordinator, as with KIP-848.
pub const TYPE: &str = "Consumer";
const PROTOCOL: &str = "consumer";

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    given.require(&["bootstrap-server"])?;
    if !given.has("list") {
        return Err(given.usage("Command must include exactly one action: --list."));
    }
    link::run(list(&given))
}

async fn list(given: &Given) -> Result<(), Ended> {
    let client = connect(given).await?;
    let mut groups = client.admin().list_groups(&[]).await?;
    let is_ours =
        |asked: Option<&str>, ours: &str| asked.is_none_or(|it| it.eq_ignore_ascii_case(ours));
    let ours = is_ours(given.value("group-type")?, TYPE)
        && is_ours(given.value("protocol")?, PROTOCOL)
        && !given.has("share")
        && !given.has("streams");
    if !ours {
        groups.clear();
    }
    let names = width(20, groups.iter().map(|group| group.group_id.as_str()));
    let widths = [names, names, names];
    let mut text = row(&widths, &["GROUP", "TYPE", "PROTOCOL"]);
    for group in &groups {
        text += &row(&widths, &[&group.group_id, TYPE, PROTOCOL]);
    }
    print(&text)
}
