//! `troupe group remove-member`: members that are away and do not come back leave at once.

use crate::confirm::confirm;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::nearest::nearest;
use clap::Args;
use serde_json::json;
use troupe_proto::log::v1::{MemberDescription, RemoveGroupMembersRequest};

#[derive(Debug, Args)]
pub struct RemoveMember {
    group: String,
    /// By the name that it was given (`--member-name`), or by its id
    #[arg(required = true, value_name = "MEMBER")]
    members: Vec<String>,
    /// Do not ask about one that is connected
    #[arg(short, long)]
    yes: bool,
    /// Check everything, do nothing
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(global: &Global, remove: RemoveMember) -> Result<(), Failure> {
    let client = global.connect().await?;
    let group = &remove.group;
    let what = || format!("cannot remove members of group {group}");
    let described = client.admin().describe_group(group).await.with_context(what)?;
    let mut found = Vec::new();
    for name in &remove.members {
        found.push(
            find(&described.members, name)
                .ok_or_else(|| missing(&described.members, name, &what()))?,
        );
    }
    let connected: Vec<&str> =
        found.iter().filter(|member| member.connected).map(|member| name_of(member)).collect();
    if !connected.is_empty() && !remove.yes && !remove.dry_run {
        confirm(
            &what(),
            &format!(
                "{} of {group} is connected, and may join again. Remove it?",
                connected.join(", ")
            ),
            "stop it first; --yes removes it without a question",
        )?;
    }
    let member_ids: Vec<String> = found.iter().map(|member| member.member_id.clone()).collect();
    if !remove.dry_run {
        let request = RemoveGroupMembersRequest {
            group_id: group.clone(),
            member_ids: member_ids.clone(),
            instance_ids: Vec::new(),
        };
        client.admin().remove_group_members(request).await.with_context(what)?;
    }
    let view = json!({ "groupId": group, "memberIds": member_ids, "dryRun": remove.dry_run });
    let verb = if remove.dry_run { "would remove" } else { "removed" };
    global.output().one(&view, || {
        let lines =
            found.iter().map(|member| format!("{verb} {} from group {group}\n", name_of(member)));
        lines.collect()
    })
}

fn name_of(member: &MemberDescription) -> &str {
    match member.instance_id.as_str() {
        "" => &member.member_id,
        instance => instance,
    }
}

fn find<'a>(members: &'a [MemberDescription], name: &str) -> Option<&'a MemberDescription> {
    members.iter().find(|member| member.instance_id == name || member.member_id == name)
}

fn missing(members: &[MemberDescription], name: &str, what: &str) -> Failure {
    let failure = Failure::new(Exit::NotFound, what, format!("it has no member '{name}'"));
    match nearest(name, members.iter().map(name_of)) {
        Some(near) => failure.with_hint(format!("did you mean '{near}'?")),
        None => failure.with_hint("`troupe group members NAME` shows them"),
    }
}
