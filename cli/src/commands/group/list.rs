//! `troupe group list`.

use super::view::state_name;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::watch::Watch;
use clap::{Args, ValueEnum};
use serde::Serialize;
use troupe_proto::log::v1::{GroupListing, GroupState};

#[derive(Debug, Args)]
pub struct List {
    /// Only groups in one of these states
    #[arg(long = "state", value_enum, value_delimiter = ',', ignore_case = true)]
    states: Vec<StateArgument>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateArgument {
    /// No members
    Empty,
    /// Who shall read what is being computed
    Assigning,
    /// Some member has not got all that it shall have, or has not given up all that it shall
    Reconciling,
    /// Everybody has what they shall have
    Stable,
    /// About to be forgotten
    Dead,
}

impl From<StateArgument> for GroupState {
    fn from(argument: StateArgument) -> Self {
        match argument {
            StateArgument::Empty => GroupState::Empty,
            StateArgument::Assigning => GroupState::Assigning,
            StateArgument::Reconciling => GroupState::Reconciling,
            StateArgument::Stable => GroupState::Stable,
            StateArgument::Dead => GroupState::Dead,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListingView {
    group_id: String,
    state: &'static str,
    member_count: i32,
    coordinator_id: i32,
    /// Empty: it never had a member.
    assignor: String,
}

impl From<GroupListing> for ListingView {
    fn from(listing: GroupListing) -> Self {
        ListingView {
            state: state_name(listing.state()),
            group_id: listing.group_id,
            member_count: listing.member_count,
            coordinator_id: listing.coordinator_id,
            assignor: listing.assignor,
        }
    }
}

#[derive(Debug, Serialize)]
struct ListView {
    groups: Vec<ListingView>,
}

pub async fn run(global: &Global, list: List) -> Result<(), Failure> {
    let client = global.connect().await?;
    let states: Vec<GroupState> = list.states.iter().copied().map(GroupState::from).collect();
    let output = global.output();
    let ask = async || {
        let listed = client.admin().list_groups(&states).await;
        let listed = listed.with_context(|| "cannot list the groups".to_owned())?;
        Ok(ListView { groups: listed.into_iter().map(ListingView::from).collect() })
    };
    let once = |view: &ListView| output.many("groups", &view.groups, || table(&view.groups));
    list.watch.show(&output, ask, once, |view| output.table(&table(&view.groups))).await
}

fn table(groups: &[ListingView]) -> Table {
    let mut table = Table::new(&[
        text("GROUP"),
        text("STATE"),
        number("#MEMBERS"),
        text("ASSIGNOR"),
        number("COORDINATOR"),
    ]);
    for group in groups {
        table.row(vec![
            group.group_id.clone(),
            group.state.to_owned(),
            group.member_count.to_string(),
            group.assignor.clone(),
            group.coordinator_id.to_string(),
        ]);
    }
    table
}
