//! Which topics a command is for, and what this tool says where they are not there.

use crate::compat::ended::Ended;
use crate::compat::errors::message;
use crate::compat::options::Given;
use regex::Regex;
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::Topic;

/// What this tool says of all that has failed.
pub fn failed(told: &str) -> Ended {
    Ended::out(format_args!("Error while executing topic command : {told}"))
}

pub fn refused(error: &ClientError) -> Ended {
    failed(&message(error))
}

/// The topics that are meant, by name: a regular expression that has to match all of it.
pub async fn meant(client: &Client, given: &Given) -> Result<Vec<Topic>, Ended> {
    let all = client.admin().list_topics(!given.has("exclude-internal")).await;
    let mut all = all.map_err(|error| refused(&error))?;
    let Some(pattern) = given.value("topic")? else { return Ok(all) };
    // A list of names, as there.
    let pattern = pattern.trim().replace(',', "|").replace(' ', "");
    let whole = Regex::new(&format!("^(?:{})$", pattern.trim_matches(['"', '\''])));
    let whole = whole.map_err(|_| failed(&format!("{pattern} is an invalid regex.")))?;
    all.retain(|topic| whole.is_match(&topic.name));
    Ok(all)
}

/// The same, where none is an error unless that was said not to be one.
pub async fn found(client: &Client, given: &Given) -> Result<Vec<Topic>, Ended> {
    let topics = meant(client, given).await?;
    match given.value("topic")? {
        Some(name) if topics.is_empty() && !given.has("if-exists") => {
            Err(failed(&format!("Topic '{name}' does not exist as expected")))
        }
        _ => Ok(topics),
    }
}
