//! What clients rely on does not change under them: the descriptors of today against those on record.

use crate::{contract, files_of};
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn record() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/contract/descriptor_set.bin")
}

/// What is promised: not what is marked as unfinished, not what nodes say among themselves.
fn promised(mut files: Vec<FileDescriptorProto>) -> Vec<FileDescriptorProto> {
    files.retain(|file| {
        !file.package().contains("alpha") && !file.package().starts_with("troupe.internal")
    });
    files
}

/// Every fact that a client can depend on, as `what it is about` → `what is so`.
fn facts(files: &[FileDescriptorProto]) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for file in files {
        let package = file.package();
        let options = file.options.clone().unwrap_or_default();
        facts.insert(
            format!("package {package}"),
            format!(
                "go {} java {} {} csharp {}",
                options.go_package(),
                options.java_package(),
                options.java_multiple_files(),
                options.csharp_namespace()
            ),
        );
        for message in &file.message_type {
            message_facts(
                &format!("{package}.{}", message.name()),
                file.name(),
                message,
                &mut facts,
            );
        }
        for item in &file.enum_type {
            enum_facts(&format!("{package}.{}", item.name()), file.name(), item, &mut facts);
        }
        for service in &file.service {
            let name = format!("{package}.{}", service.name());
            facts.insert(format!("service {name}"), format!("in {}", file.name()));
            for method in &service.method {
                let streams = |streaming| if streaming { "stream " } else { "" };
                let shape = format!(
                    "{}{} -> {}{}",
                    streams(method.client_streaming()),
                    method.input_type(),
                    streams(method.server_streaming()),
                    method.output_type()
                );
                facts.insert(format!("rpc {name}.{}", method.name()), shape);
            }
        }
    }
    facts
}

fn message_facts(
    name: &str,
    file: &str,
    message: &DescriptorProto,
    facts: &mut BTreeMap<String, String>,
) {
    facts.insert(format!("message {name}"), format!("in {file}"));
    for field in &message.field {
        let oneof = field
            .oneof_index
            .and_then(|index| message.oneof_decl.get(index as usize))
            .map_or("", |oneof| oneof.name());
        let options = field.options.as_ref();
        let shape = format!(
            "{} {:?} {:?} {} json {} oneof {oneof:?} optional {} jstype {:?}",
            field.name(),
            field.label(),
            field.r#type(),
            field.type_name(),
            field.json_name(),
            field.proto3_optional(),
            options.map(|options| options.jstype()),
        );
        facts.insert(format!("field {name} = {}", field.number()), shape);
    }
    for range in &message.reserved_range {
        facts.insert(format!("reserved {name} {}..{}", range.start(), range.end()), String::new());
    }
    for reserved in &message.reserved_name {
        facts.insert(format!("reserved {name} {reserved}"), String::new());
    }
    for nested in &message.nested_type {
        message_facts(&format!("{name}.{}", nested.name()), file, nested, facts);
    }
    for nested in &message.enum_type {
        enum_facts(&format!("{name}.{}", nested.name()), file, nested, facts);
    }
}

fn enum_facts(
    name: &str,
    file: &str,
    item: &EnumDescriptorProto,
    facts: &mut BTreeMap<String, String>,
) {
    facts.insert(format!("enum {name}"), format!("in {file}"));
    for value in &item.value {
        facts.insert(format!("value {name} = {}", value.number()), value.name().to_owned());
    }
}

/// What was promised and is no longer so.
fn broken(before: &[FileDescriptorProto], now: &[FileDescriptorProto]) -> Vec<String> {
    let now = facts(now);
    let mut broken = Vec::new();
    for (what, was) in facts(before) {
        match now.get(&what) {
            Some(is) if *is == was => {}
            Some(is) => broken.push(format!("{what} was `{was}` and is `{is}`")),
            None => broken.push(format!("{what} is gone (was `{was}`)")),
        }
    }
    broken
}

#[test]
fn nothing_that_was_promised_is_taken_back() {
    let today = promised(contract());
    if std::env::var_os("TROUPE_BLESS").is_some_and(|value| value == "1") {
        let set = FileDescriptorSet { file: today };
        std::fs::write(record(), set.encode_to_vec()).unwrap();
        return;
    }
    let recorded = files_of(&std::fs::read(record()).unwrap());
    let broken = broken(&recorded, &today);
    assert!(
        broken.is_empty(),
        "clients that exist would break; give what is new a new number or a new name:\n  {}",
        broken.join("\n  ")
    );
    // What is new is promised from now on: unless it is on record, a later change of it goes unseen.
    let (recorded, today) = (facts(&recorded), facts(&today));
    let new: Vec<_> = today.keys().filter(|what| !recorded.contains_key(*what)).cloned().collect();
    assert!(
        new.is_empty(),
        "new in the contract; put it on record with \
         `TROUPE_BLESS=1 cargo test -p troupe-tests --test contract`:\n  {}",
        new.join("\n  ")
    );
}

fn find<'a>(files: &'a mut [FileDescriptorProto], message: &str) -> &'a mut DescriptorProto {
    let mut messages = files.iter_mut().flat_map(|file| &mut file.message_type);
    messages.find(|found| found.name() == message).unwrap()
}

/// A check that cannot fail checks nothing.
#[test]
fn each_kind_of_breaking_change_is_found() {
    type Change = fn(&mut [FileDescriptorProto]);
    let cases: [(&str, Change); 9] = [
        ("field troupe.v1.Delivery = 3", |files| {
            find(files, "Delivery").field.retain(|field| field.number() != 3);
        }),
        ("field troupe.v1.Delivery = 3", |files| {
            find(files, "Delivery").field[2].name = Some("position".to_owned());
        }),
        ("field troupe.v1.Delivery = 3", |files| {
            find(files, "Delivery").field[2]
                .set_type(prost_types::field_descriptor_proto::Type::Sint64);
        }),
        ("field troupe.v1.Delivery = 2", |files| {
            let label = prost_types::field_descriptor_proto::Label::Repeated;
            find(files, "Delivery").field[1].set_label(label);
        }),
        ("field troupe.v1.Delivery = 2", |files| {
            find(files, "Delivery").field[1].number = Some(22);
        }),
        ("message troupe.v1.Delivery", |files| {
            find(files, "Delivery").name = Some("Delivered".to_owned());
        }),
        ("value troupe.v1.Acks = 2", |files| {
            let mut enums = files.iter_mut().flat_map(|file| &mut file.enum_type);
            enums.find(|item| item.name() == "Acks").unwrap().value.remove(2);
        }),
        ("rpc troupe.v1.EventBusService.Tail", |files| {
            let mut services = files.iter_mut().flat_map(|file| &mut file.service);
            let service = services.find(|service| service.name() == "EventBusService").unwrap();
            service.method.retain(|method| method.name() != "Tail");
        }),
        ("rpc troupe.v1.EventBusService.Publish", |files| {
            let mut services = files.iter_mut().flat_map(|file| &mut file.service);
            let service = services.find(|service| service.name() == "EventBusService").unwrap();
            service.method[0].server_streaming = Some(true);
        }),
    ];
    let before = promised(contract());
    assert_eq!(broken(&before, &before), Vec::<String>::new());
    for (what, change) in cases {
        let mut after = before.clone();
        change(&mut after);
        let found = broken(&before, &after);
        assert!(found.iter().any(|one| one.starts_with(what)), "{what} not in {found:?}");
    }
}
