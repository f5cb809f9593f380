//! kafka-consumer-groups (A7 to A9): list, describe, delete, delete-offsets, reset-offsets.
//!
//! As there, what the cluster refuses is told, and the exit code is 0: only wrong options are 1.

mod delete;
mod describe;
mod named;
mod reset;

use super::columns::{row, width};
use super::ended::Ended;
use super::groups::TYPE;
use super::link::{self, connect, print};
use super::options::{Given, Options, flag, maybe, value};
use named::{failed, groups, state_name};
use troupe_client::Client;
use troupe_proto::log::v1::GroupState;

static OPTIONS: Options = Options {
    about: "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, or reset \
            consumer group offsets.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to ask."),
        value("command-config", "file", "Settings of the client."),
        value("timeout", "ms", "Without effect: calls have their own."),
        flag("list", "List the groups."),
        flag("describe", "What groups have committed, and how far behind they are."),
        flag("delete", "Delete groups and what they have committed."),
        flag("delete-offsets", "Delete what groups have committed for topics."),
        flag("reset-offsets", "Move what groups have committed."),
        value("validate-regex", "pattern", "Whether it is a pattern for topics."),
        value("group", "group", "The group; may be repeated."),
        flag("all-groups", "All groups."),
        value("topic", "topic[:0,1]", "The topic, or some of its partitions; may be repeated."),
        flag("all-topics", "All topics that the group has committed for."),
        flag("offsets", "With --describe: offsets and lag [default]."),
        flag("members", "With --describe: members."),
        maybe("state", "states", "With --describe: the state; with --list: only these states."),
        maybe("type", "types", "With --list: only these types."),
        flag("verbose", "With --describe: more columns."),
        flag("to-earliest", "To the first record."),
        flag("to-latest", "To the end."),
        flag("to-current", "To where it is: to print or export it."),
        value("to-offset", "offset", "To this offset."),
        value("shift-by", "n", "By so many records, also backwards."),
        value("to-datetime", "YYYY-MM-DDTHH:mm:SS.sss", "To the first record of that time."),
        value("by-duration", "PnDTnHnMnS", "To the first record since so long ago."),
        value("from-file", "file", "To what stands in a file of CSV."),
        flag("dry-run", "Only show it."),
        flag("execute", "Do it."),
        flag("export", "Print CSV."),
    ],
    lead: "Exception in thread \"main\" joptsimple.UnrecognizedOptionException: ",
};

const ACTIONS: [&str; 6] =
    ["list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex"];
const ONE_ACTION: &str = "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, \
                          --delete-offsets, --validate-regex";

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    given.require(&["bootstrap-server"])?;
    check_describe(&given)?;
    let action = given.action(&ACTIONS, ONE_ACTION)?;
    if ["delete", "delete-offsets", "reset-offsets"].contains(&action)
        && !given.has("group")
        && !given.has("all-groups")
    {
        return Err(given.usage(&format!(
            "Option [{action}] takes one of these options: [all-groups], [group]"
        )));
    }
    given.exclude("group", &["all-groups"])?;
    match action {
        "reset-offsets" => {
            let reset = reset::Reset::new(&given)?;
            link::run(async { tell(reset.run(&connect(&given).await?).await) })
        }
        "validate-regex" => validate(given.value("validate-regex")?.unwrap_or_default()),
        action => link::run(async {
            let client = connect(&given).await?;
            tell(match action {
                "list" => list(&client, &given).await,
                "describe" => describe::run(&client, &given).await,
                "delete" => delete::groups(&client, &groups(&client, &given).await?).await,
                _ => delete::offsets(&client, &given).await,
            })
        }),
    }
}

fn check_describe(given: &Given) -> Result<(), Ended> {
    if !given.has("describe") {
        return Ok(());
    }
    if !given.has("group") && !given.has("all-groups") {
        return Err(
            given.usage("Option [describe] takes one of these options: [all-groups], [group]")
        );
    }
    if ["members", "offsets", "state"].iter().filter(|view| given.has(view)).count() > 1 {
        return Err(given.usage(
            "Option [describe] takes at most one of these options: [members], [offsets], [state]",
        ));
    }
    if given.has("state") && !given.values("state").is_empty() {
        return Err(given.usage("Option [describe] does not take a value for [state]"));
    }
    Ok(())
}

/// A call that has failed: told as there, and no failure of the tool.
fn tell(outcome: Result<(), Ended>) -> Result<(), Ended> {
    match outcome {
        Err(Ended { code: 1, results, notices }) if results.starts_with("\nError: ") => {
            Err(Ended { code: 0, results, notices })
        }
        other => other,
    }
}

async fn list(client: &Client, given: &Given) -> Result<(), Ended> {
    let states = states(given)?;
    let types: Vec<String> = given
        .values("type")
        .iter()
        .flat_map(|text| text.split(','))
        .map(str::to_lowercase)
        .collect();
    for asked in &types {
        if !["consumer", "classic"].contains(&asked.trim()) {
            return Err(given.usage(&format!(
                "Invalid types list '{}'. Valid types are: Consumer, Classic",
                types.join(",")
            )));
        }
    }
    let listed = client.admin().list_groups(&states).await.map_err(|error| failed(&error))?;
    let is_ours = types.is_empty() || types.iter().any(|asked| asked.trim() == "consumer");
    let groups: Vec<_> = listed.into_iter().filter(|_| is_ours).collect();
    let (with_state, with_type) = (given.has("state"), given.has("type"));
    let mut headings = vec!["GROUP"];
    headings.extend(with_type.then_some("TYPE"));
    headings.extend(with_state.then_some("STATE"));
    let names = width(15, groups.iter().map(|group| group.group_id.as_str())) + 10;
    let widths = [names, 20, 20];
    let mut text = match headings.len() {
        1 => String::new(),
        _ => row(&widths, &headings),
    };
    for group in &groups {
        let mut cells = vec![group.group_id.as_str()];
        cells.extend(with_type.then_some(TYPE));
        cells.extend(with_state.then(|| state_name(group.state())));
        text += &row(&widths, &cells);
    }
    print(&text)
}

const STATES: [GroupState; 5] = [
    GroupState::Dead,
    GroupState::Stable,
    GroupState::Empty,
    GroupState::Assigning,
    GroupState::Reconciling,
];
/// Of groups whose members assign: none here is ever in them.
const OTHER_STATES: [&str; 2] = ["CompletingRebalance", "PreparingRebalance"];

fn states(given: &Given) -> Result<Vec<GroupState>, Ended> {
    let mut found = Vec::new();
    for text in given.values("state") {
        for word in text.split(',').map(str::trim) {
            let is_it = |name: &str| name.eq_ignore_ascii_case(word);
            match STATES.into_iter().find(|state| is_it(state_name(*state))) {
                Some(state) => found.push(state),
                None if OTHER_STATES.into_iter().any(is_it) => {}
                None => {
                    return Err(given.usage(&format!(
                        "Invalid state list '{text}'. Valid states are: Dead, Stable, Empty, CompletingRebalance, \
                         PreparingRebalance, Assigning, Reconciling"
                    )));
                }
            }
        }
    }
    // Asked for, and none of ours: none is the answer, not all.
    if found.is_empty() && !given.values("state").is_empty() {
        found.push(GroupState::Dead);
    }
    Ok(found)
}

/// By the syntax that coordinators have, which is RE2's.
fn validate(pattern: &str) -> Result<(), Ended> {
    match regex::Regex::new(pattern) {
        Ok(_) => print(&format!("The regular expression `{pattern}` is valid.\n")),
        Err(error) => print(&format!("The regular expression `{pattern}` is invalid: {error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_go_together_are_told_in_kafka_s_words() {
        for (line, told) in [
            ("--list", "Missing required argument \"[bootstrap-server]\""),
            ("--bootstrap-server h", ONE_ACTION),
            (
                "--bootstrap-server h --describe",
                "Option [describe] takes one of these options: [all-groups], [group]",
            ),
            (
                "--bootstrap-server h --describe --group g --members --offsets",
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            ),
            (
                "--bootstrap-server h --delete",
                "Option [delete] takes one of these options: [all-groups], [group]",
            ),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let ended = run(&words).unwrap_err();
            assert!(ended.notices.starts_with(told), "{line}: {}", ended.notices);
        }
    }

    #[test]
    fn states_are_those_of_kafka_and_others_are_told() {
        let read = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            states(&OPTIONS.read(&words).unwrap())
        };
        assert_eq!(read("--list --state").unwrap(), []);
        let both = [GroupState::Empty, GroupState::Stable];
        assert_eq!(read("--list --state empty,Stable").unwrap(), both);
        assert_eq!(read("--list --state PreparingRebalance").unwrap(), [GroupState::Dead]);
        let told = read("--list --state x").unwrap_err().notices;
        assert!(told.starts_with("Invalid state list 'x'. Valid states are: Dead, "), "{told}");
    }
}
