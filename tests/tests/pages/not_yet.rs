//! What the README says is not there yet is not there. Whoever adds it has to take it from the list.

use prost::Message;
use prost_types::FileDescriptorSet;
use std::process::Command;
use troupe_tests::{binary, workspace};

/// The fields of all messages, as `Message.field`.
fn fields() -> Vec<String> {
    let set = FileDescriptorSet::decode(troupe_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut fields = Vec::new();
    for message in set.file.iter().flat_map(|file| &file.message_type) {
        for field in &message.field {
            fields.push(format!("{}.{}", message.name(), field.name()));
        }
    }
    fields
}

/// Whether a node would start with this setting, and act by it.
fn is_taken(setting: &str) -> bool {
    let mut command = Command::new(binary());
    let output = command.args(["config", "check", "--set", setting]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    output.status.success() && !String::from_utf8_lossy(&said).contains("without effect")
}

#[test]
fn what_is_not_there_yet_is_not_there() {
    let readme = workspace::read("README.md").unwrap();
    let (_, rest) = readme.split_once("## Not there yet").unwrap();
    let list = rest.split_once("\n## ").unwrap().0;
    let fields = fields();
    let has_field = |part: &str| fields.iter().any(|field| field.contains(part));
    let help = Command::new(binary()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let there: [(&str, bool); 9] = [
        ("Encryption", is_taken("ssl.keystore.location=/tmp/keys")),
        ("authentication", is_taken("sasl.enabled.mechanisms=PLAIN")),
        ("ACLs", is_taken("authorizer.class.name=Any") || help.contains("acl ")),
        ("quotas", has_field("Quota") || help.contains("quota ")),
        ("a key that makes `Publish` safe", has_field("PublishRequest.message_id")),
        ("dead letters", has_field("dead_letter") || has_field("max_attempts")),
        ("delayed records", has_field("Record.deliver") || has_field("Record.delay")),
        ("share groups", has_field("ORDERING_KEY") || is_taken("group.share.enable=true")),
        ("`compression.type` is `producer`", is_taken("compression.type=zstd")),
    ];
    for (what, is_there) in there {
        assert!(list.contains(what), "the list no longer says `{what}`: take it from here too");
        assert!(!is_there, "`{what}` is there: take it from the README's list");
    }
}
