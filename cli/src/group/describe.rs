//! `troupe group describe`: offsets, members or the state, of some groups or of all.

use super::members::MembersView;
use super::offsets::{self, Ends, OffsetsView};
use super::state::StateView;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Format, Output};
use crate::watch::Watch;
use clap::Args;
use serde::Serialize;
use troupe_client::Client;
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::DescribeGroupResponse;

#[derive(Debug, Args)]
pub struct Describe {
    /// Groups
    #[arg(value_name = "GROUP", required_unless_present = "all", conflicts_with = "all")]
    groups: Vec<String>,
    /// Every group
    #[arg(long, visible_alias = "all-groups")]
    all: bool,
    /// Committed offsets and lag: what is shown if nothing else is asked for
    #[arg(long, group = "face")]
    offsets: bool,
    /// Who is in it, and what each reads
    #[arg(long, group = "face")]
    members: bool,
    /// Its coordinator, assignor, state and epoch
    #[arg(long, group = "face")]
    state: bool,
    #[command(flatten)]
    watch: Watch,
}

/// What is shown of a group.
#[derive(Clone, Copy, Debug)]
pub enum Face {
    Offsets,
    Members,
    State,
}

/// A group as one of its faces.
pub trait Described: Serialize + Sized {
    fn render(output: &Output, groups: &[Self]) -> String;
}

impl Described for OffsetsView {
    fn render(output: &Output, groups: &[Self]) -> String {
        offsets::render(output, groups)
    }
}

pub async fn run(global: &Global, describe: Describe) -> Result<(), Failure> {
    let face = match (describe.members, describe.state) {
        (true, _) => Face::Members,
        (false, true) => Face::State,
        (false, false) => Face::Offsets,
    };
    show(global, face, &describe.groups, &describe.watch).await
}

/// Shows groups; if none is named, all.
pub async fn show(
    global: &Global,
    face: Face,
    groups: &[String],
    watch: &Watch,
) -> Result<(), Failure> {
    let client = global.connect().await?;
    let client = &client;
    match face {
        Face::Offsets => {
            let ask = async || offsets_of(client, groups).await;
            show_all(global, groups.len(), watch, ask).await
        }
        Face::Members => {
            let ask = async || {
                Ok(described(client, groups).await?.iter().map(MembersView::new).collect())
            };
            show_all(global, groups.len(), watch, ask).await
        }
        Face::State => {
            let ask =
                async || Ok(described(client, groups).await?.iter().map(StateView::new).collect());
            show_all(global, groups.len(), watch, ask).await
        }
    }
}

/// What is shown: a group that was named alone is the whole document.
#[derive(Serialize)]
#[serde(untagged)]
enum Document<V> {
    One(V),
    Several { groups: Vec<V> },
}

impl<V> Document<V> {
    fn groups(&self) -> &[V] {
        match self {
            Document::One(group) => std::slice::from_ref(group),
            Document::Several { groups } => groups,
        }
    }
}

async fn show_all<V: Described>(
    global: &Global,
    named: usize,
    watch: &Watch,
    mut ask: impl AsyncFnMut() -> Result<Vec<V>, Failure>,
) -> Result<(), Failure> {
    let output = global.output();
    let ask = async || {
        let mut groups = ask().await?;
        Ok(match (named, groups.pop()) {
            (1, Some(group)) => Document::One(group),
            (_, last) => {
                groups.extend(last);
                Document::Several { groups }
            }
        })
    };
    let text = |document: &Document<V>| V::render(&output, document.groups());
    let once = |document: &Document<V>| match document {
        Document::Several { groups } if output.format == Format::Jsonl => {
            groups.iter().try_for_each(|group| output.one(group, String::new))
        }
        document => output.one(document, || text(document)),
    };
    watch.show(&output, ask, once, text).await
}

async fn offsets_of(client: &Client, groups: &[String]) -> Result<Vec<OffsetsView>, Failure> {
    let mut ends = Ends::default();
    let mut views = Vec::new();
    for group in described(client, groups).await? {
        views.push(offsets::gather(client, &group, &mut ends).await?);
    }
    Ok(views)
}

/// The groups that are named; if none is, all that there are.
pub async fn described(
    client: &Client,
    groups: &[String],
) -> Result<Vec<DescribeGroupResponse>, Failure> {
    let all = groups.is_empty();
    let names: Vec<String> = if all {
        let listed = client.admin().list_groups(&[]).await;
        let listed = listed.with_context(|| "cannot list the groups".to_owned())?;
        listed.into_iter().map(|listing| listing.group_id).collect()
    } else {
        groups.to_vec()
    };
    let mut found = Vec::new();
    for name in names {
        match client.admin().describe_group(&name).await {
            // It went between the two questions.
            Err(error) if all && error.reason() == ErrorCode::GroupNotFound => {}
            answer => found.push(answer.with_context(|| format!("cannot describe group {name}"))?),
        }
    }
    Ok(found)
}
