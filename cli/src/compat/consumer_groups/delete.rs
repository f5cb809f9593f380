//! `--delete` and `--delete-offsets`.

use super::named::{self, failed, is_missing};
use crate::compat::columns::row;
use crate::compat::ended::Ended;
use crate::compat::errors::{exception, named_client};
use crate::compat::link::print;
use crate::compat::options::Given;
use crate::topic_selection::TopicSelection;
use troupe_client::Client;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::TopicPartitions;

/// One after the other; one that is refused does not keep the others.
pub async fn groups(client: &Client, names: &[String]) -> Result<(), Ended> {
    let mut deleted = Vec::new();
    let mut refused = String::new();
    for name in names {
        match client.admin().delete_group(name).await {
            Ok(()) => deleted.push(name.clone()),
            Err(error) => {
                let told = match is_missing(&error) {
                    true => format!(
                        "{}: The group id does not exist.",
                        exception(ErrorCode::GroupNotFound)
                    ),
                    false => named_client(&error),
                };
                refused += &format!("* Group '{name}' could not be deleted due to: {told}\n");
            }
        }
    }
    let names = deleted.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if refused.is_empty() {
        return print(&format!(
            "Deletion of requested consumer groups ({names}) was successful.\n"
        ));
    }
    let mut text = format!("\nError: Deletion of some consumer groups failed:\n{refused}");
    if !deleted.is_empty() {
        text += &format!("\nThese consumer groups were deleted successfully: {names}\n");
    }
    Err(Ended::out(text))
}

pub async fn offsets(client: &Client, given: &Given) -> Result<(), Ended> {
    if !given.has("topic") {
        return Err(given.usage("Option [delete-offsets] takes the following option: [topic]"));
    }
    let mut wanted = Vec::new();
    for text in given.values("topic") {
        wanted.push(text.parse::<TopicSelection>().map_err(Ended::err)?);
    }
    for group in named::groups(client, given).await? {
        offsets_of(client, &group, TopicSelection::to_wire(&wanted)).await?;
    }
    Ok(())
}

/// A line for each partition, and one for each topic that is not there.
async fn offsets_of(
    client: &Client,
    group: &str,
    wanted: Vec<TopicPartitions>,
) -> Result<(), Ended> {
    let mut asked = Vec::new();
    let mut rows: Vec<[String; 3]> = Vec::new();
    let status = |error: &Error| format!("Error: {}", crate::compat::errors::named(error));
    for mut topic in wanted {
        if topic.partitions.is_empty() {
            match client.admin().get_topic(&topic.topic).await {
                Ok(found) => topic.partitions = (0..found.partitions.len() as i32).collect(),
                Err(error) if error.reason() == ErrorCode::UnknownTopic => {
                    let missing = Error::new(
                        ErrorCode::UnknownTopic,
                        "This server does not host this topic-partition.",
                    );
                    rows.push([topic.topic, "-".to_owned(), status(&missing)]);
                    continue;
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        asked.push(topic);
    }
    let partitions: Vec<(String, i32)> = asked
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|number| (topic.topic.clone(), *number)))
        .collect();
    let results = match asked.is_empty() {
        true => Ok(Vec::new()),
        false => client.admin().delete_group_offsets(group, asked).await,
    };
    let mut head = format!("Request succeeded for deleting offsets from group {group}.\n");
    match results {
        Ok(results) => {
            for result in results {
                let at = result.partition.unwrap_or_default();
                let told = match result.error.map(Error::from) {
                    // Nothing was committed: as it was wanted.
                    None => "Successful".to_owned(),
                    Some(error) if error.code == ErrorCode::NoCommittedOffset => {
                        "Successful".to_owned()
                    }
                    Some(error) => status(&error),
                };
                rows.push([at.topic, at.partition.to_string(), told]);
            }
            if rows.iter().any(|row| row[1] != "-" && row[2] != "Successful") {
                head =
                    "\nError: Encountered some partition-level error, see the follow-up details.\n"
                        .to_owned();
            }
        }
        Err(error) => {
            let why = match is_missing(&error) {
                true => Error::new(ErrorCode::GroupNotFound, "The group id does not exist."),
                false => Error::new(error.reason(), crate::compat::errors::message(&error)),
            };
            head = match is_missing(&error) {
                true => format!("\nError: {}\n", why.message),
                false => {
                    "\nError: Encountered some partition-level error, see the follow-up details.\n"
                        .to_owned()
                }
            };
            for (topic, number) in partitions {
                rows.push([topic, number.to_string(), status(&why)]);
            }
        }
    }
    let widths = [15, 10, 15];
    let mut text = head + "\n" + &row(&widths, &["TOPIC", "PARTITION", "STATUS"]);
    for cells in &rows {
        text += &row(&widths, &cells.each_ref().map(String::as_str));
    }
    match text.starts_with("\nError: ") {
        true => Err(Ended::out(text)),
        false => print(&text),
    }
}
