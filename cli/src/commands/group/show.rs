//! Showing one or several groups in one of their views, once or again and again.

use super::lookup::describe_groups;
use super::members_view::MembersView;
use super::offsets_view::{self, LogBounds, OffsetsView};
use super::state_view::StateView;
use super::view::GroupView;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::Format;
use crate::watch::Watch;
use serde::Serialize;
use troupe_client::Client;

/// What is shown of a group.
#[derive(Clone, Copy, Debug)]
pub enum Section {
    Offsets,
    Members,
    State,
}

/// Shows groups; if none is named, all.
pub async fn show(
    global: &Global,
    section: Section,
    groups: &[String],
    watch: &Watch,
) -> Result<(), Failure> {
    let client = global.connect().await?;
    let client = &client;
    match section {
        Section::Offsets => {
            let ask = async || offsets_of(client, groups).await;
            show_all(global, groups.len(), watch, ask).await
        }
        Section::Members => {
            let ask = async || {
                Ok(describe_groups(client, groups).await?.iter().map(MembersView::new).collect())
            };
            show_all(global, groups.len(), watch, ask).await
        }
        Section::State => {
            let ask = async || {
                Ok(describe_groups(client, groups).await?.iter().map(StateView::new).collect())
            };
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

async fn show_all<V: GroupView>(
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
    let mut ends = LogBounds::default();
    let mut views = Vec::new();
    for group in describe_groups(client, groups).await? {
        views.push(offsets_view::gather(client, &group, &mut ends).await?);
    }
    Ok(views)
}
