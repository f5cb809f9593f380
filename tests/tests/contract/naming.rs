//! buf's rules of the category STANDARD, over descriptors: no tool to install, nothing to forget to run.

use crate::{compile, contract};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileOptions};
use prost_types::{MethodDescriptorProto, ServiceDescriptorProto};
use std::collections::{BTreeMap, BTreeSet};

/// What one does with a bus of records needs no noun.
const BUS_VERBS: [&str; 4] = ["Publish", "Subscribe", "Pull", "Settle"];
/// Verbs that a method may begin with. Names of two words say what is done to what.
const SHORT_NAMES: [&str; 3] = ["Tail", "Produce", "Fetch"];

/// Violations, each as `RULE: what`.
fn violations(files: &[FileDescriptorProto]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        file_rules(file, &mut found);
    }
    package_rules(files, &mut found);
    unique_messages(files, &mut found);
    found
}

fn file_rules(file: &FileDescriptorProto, found: &mut Vec<String>) {
    let name = file.name();
    let mut rule = |rule: &str, holds: bool, what: &str| {
        if !holds {
            found.push(format!("{rule}: {what} in {name}"));
        }
    };
    let (directory, base) = name.rsplit_once('/').unwrap_or(("", name));
    let package = file.package();
    let version = package.rsplit('.').next().unwrap_or_default();
    rule("PACKAGE_DEFINED", !package.is_empty(), "no package");
    rule("PACKAGE_DIRECTORY_MATCH", directory == package.replace('.', "/"), package);
    rule("PACKAGE_VERSION_SUFFIX", is_version(version), package);
    rule("PACKAGE_LOWER_SNAKE_CASE", package.split('.').all(is_lower_snake), package);
    rule("FILE_LOWER_SNAKE_CASE", is_lower_snake(base.trim_end_matches(".proto")), base);
    rule("SYNTAX_SPECIFIED", file.syntax() == "proto3", file.syntax());
    rule("IMPORT_NO_PUBLIC", file.public_dependency.is_empty(), "a public import");
    rule("IMPORT_NO_WEAK", file.weak_dependency.is_empty(), "a weak import");
    for import in &file.dependency {
        rule("IMPORT_USED", imports(file, import), import);
    }
    for item in &file.enum_type {
        enum_rules(name, item, found);
    }
    for item in &file.message_type {
        message_rules(name, item, found);
    }
    for item in &file.service {
        service_rules(name, item, found);
    }
}

/// Whether a type of the imported file's package is named by a field or a method.
fn imports(file: &FileDescriptorProto, import: &str) -> bool {
    let directory = import.rsplit_once('/').map_or("", |(directory, _)| directory);
    let prefix = format!(".{}.", directory.replace('/', "."));
    fn any_field(message: &DescriptorProto, prefix: &str) -> bool {
        message.field.iter().any(|field| field.type_name().starts_with(prefix))
            || message.nested_type.iter().any(|nested| any_field(nested, prefix))
    }
    let mut methods = file.service.iter().flat_map(|service| &service.method);
    file.message_type.iter().any(|message| any_field(message, &prefix))
        || methods.any(|method| {
            method.input_type().starts_with(&prefix) || method.output_type().starts_with(&prefix)
        })
}

fn enum_rules(file: &str, item: &EnumDescriptorProto, found: &mut Vec<String>) {
    let name = item.name();
    let mut rule = |rule: &str, holds: bool, what: &str| {
        if !holds {
            found.push(format!("{rule}: {what} in {file}"));
        }
    };
    rule("ENUM_PASCAL_CASE", is_pascal(name), name);
    let allows_alias = item.options.as_ref().is_some_and(|options| options.allow_alias());
    rule("ENUM_NO_ALLOW_ALIAS", !allows_alias, name);
    let prefix = upper_snake(name) + "_";
    for (index, value) in item.value.iter().enumerate() {
        rule("ENUM_VALUE_PREFIX", value.name().starts_with(&prefix), value.name());
        rule("ENUM_VALUE_UPPER_SNAKE_CASE", is_upper_snake(value.name()), value.name());
        if index == 0 {
            rule("ENUM_FIRST_VALUE_ZERO", value.number() == 0, value.name());
        }
        if value.number() == 0 {
            let suffix = value.name().ends_with("_UNSPECIFIED");
            rule("ENUM_ZERO_VALUE_SUFFIX", suffix, value.name());
        }
    }
}

fn message_rules(file: &str, item: &DescriptorProto, found: &mut Vec<String>) {
    let is_map_entry = item.options.as_ref().is_some_and(|options| options.map_entry());
    if is_map_entry {
        return;
    }
    let mut rule = |rule: &str, holds: bool, what: &str| {
        if !holds {
            found.push(format!("{rule}: {}.{what} in {file}", item.name()));
        }
    };
    rule("MESSAGE_PASCAL_CASE", is_pascal(item.name()), "");
    for field in &item.field {
        rule("FIELD_LOWER_SNAKE_CASE", is_lower_snake(field.name()), field.name());
        rule("FIELD_NO_GROUP", field.r#type() != Type::Group, field.name());
        let is_wide = matches!(
            field.r#type(),
            Type::Int64 | Type::Uint64 | Type::Sint64 | Type::Fixed64 | Type::Sfixed64
        );
        // JavaScript's numbers end at 2^53; our own addition to buf's rules, for what clients see.
        let is_string = field.options.as_ref().is_some_and(|options| options.jstype() as i32 == 1);
        let internal = file.starts_with("troupe/internal/");
        rule("WIDE_FIELD_AS_JS_STRING", !is_wide || is_string || internal, field.name());
    }
    for oneof in &item.oneof_decl {
        // Fields that are `optional` have one of their own, with an underscore in front.
        let name = oneof.name().trim_start_matches('_');
        rule("ONEOF_LOWER_SNAKE_CASE", is_lower_snake(name), oneof.name());
    }
    for nested in &item.nested_type {
        message_rules(file, nested, found);
    }
    for nested in &item.enum_type {
        enum_rules(file, nested, found);
    }
}

fn service_rules(file: &str, item: &ServiceDescriptorProto, found: &mut Vec<String>) {
    let mut rule = |rule: &str, holds: bool, what: &str| {
        if !holds {
            found.push(format!("{rule}: {}.{what} in {file}", item.name()));
        }
    };
    rule("SERVICE_PASCAL_CASE", is_pascal(item.name()), "");
    rule("SERVICE_SUFFIX", item.name().ends_with("Service"), "");
    for method in &item.method {
        let name = method.name();
        let (input, output) = (last(method.input_type()), last(method.output_type()));
        rule("RPC_PASCAL_CASE", is_pascal(name), name);
        rule("RPC_REQUEST_STANDARD_NAME", input == format!("{name}Request"), name);
        rule("RPC_RESPONSE_STANDARD_NAME", output == format!("{name}Response"), name);
        let words = name.chars().filter(char::is_ascii_uppercase).count();
        let short = SHORT_NAMES.contains(&name) || BUS_VERBS.contains(&name);
        rule("RPC_VERB_NOUN", words >= 2 || short, name);
    }
}

/// Files of one package lie in one directory and say the same to every generator.
fn package_rules(files: &[FileDescriptorProto], found: &mut Vec<String>) {
    type Answers = BTreeMap<String, BTreeSet<String>>;
    let mut answers: Answers = BTreeMap::new();
    for file in files {
        let default = FileOptions::default();
        let options = file.options.as_ref().unwrap_or(&default);
        let directory = file.name().rsplit_once('/').map_or("", |(directory, _)| directory);
        for (rule, answer) in [
            ("PACKAGE_SAME_DIRECTORY", directory.to_owned()),
            ("PACKAGE_SAME_CSHARP_NAMESPACE", options.csharp_namespace().to_owned()),
            ("PACKAGE_SAME_GO_PACKAGE", options.go_package().to_owned()),
            ("PACKAGE_SAME_JAVA_MULTIPLE_FILES", options.java_multiple_files().to_string()),
            ("PACKAGE_SAME_JAVA_PACKAGE", options.java_package().to_owned()),
            ("PACKAGE_SAME_PHP_NAMESPACE", options.php_namespace().to_owned()),
            ("PACKAGE_SAME_RUBY_PACKAGE", options.ruby_package().to_owned()),
            ("PACKAGE_SAME_SWIFT_PREFIX", options.swift_prefix().to_owned()),
        ] {
            let key = format!("{rule}: {}", file.package());
            answers.entry(key).or_default().insert(answer);
        }
    }
    found.extend(answers.into_iter().filter(|(_, answers)| answers.len() > 1).map(|(key, _)| key));
}

/// RPC_REQUEST_RESPONSE_UNIQUE: no message is the request or response of two methods.
fn unique_messages(files: &[FileDescriptorProto], found: &mut Vec<String>) {
    let mut uses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let services = files.iter().flat_map(|file| &file.service);
    for method in services.flat_map(|service| &service.method) {
        let MethodDescriptorProto { input_type, output_type, .. } = method;
        for message in [input_type, output_type].into_iter().flatten() {
            uses.entry(message).or_default().push(method.name());
        }
    }
    for (message, methods) in uses.into_iter().filter(|(_, methods)| methods.len() > 1) {
        found.push(format!("RPC_REQUEST_RESPONSE_UNIQUE: {message} in {methods:?}"));
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn is_lower_snake(name: &str) -> bool {
    let mut parts = name.split('_');
    parts.all(|part| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    })
}

fn is_upper_snake(name: &str) -> bool {
    is_lower_snake(&name.to_lowercase()) && name == name.to_uppercase()
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn upper_snake(pascal: &str) -> String {
    let mut name = String::new();
    for c in pascal.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// `v1`, `v2beta3`, `v1alpha1`.
fn is_version(part: &str) -> bool {
    let Some(rest) = part.strip_prefix('v') else { return false };
    let number = |text: &str| {
        !text.is_empty() && !text.starts_with('0') && text.chars().all(|c| c.is_ascii_digit())
    };
    let unstable = rest.split_once("alpha").or_else(|| rest.split_once("beta"));
    match unstable {
        Some((major, minor)) => number(major) && (minor.is_empty() || number(minor)),
        None => number(rest),
    }
}

#[test]
fn names_follow_the_standard_rules() {
    let found = violations(&contract());
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
}

#[test]
fn packages_are_those_of_the_design() {
    let files = contract();
    let packages: BTreeSet<&str> = files.iter().map(|file| file.package()).collect();
    let expected = [
        "troupe.admin.v1",
        "troupe.chaos.v1alpha1",
        "troupe.internal.v1",
        "troupe.log.v1",
        "troupe.v1",
    ];
    assert_eq!(packages, BTreeSet::from(expected));
}

#[test]
fn stubs_look_native_in_every_language() {
    let files = contract();
    for file in files.iter().filter(|file| file.package() != "troupe.internal.v1") {
        let options = file.options.as_ref().expect("file options");
        assert!(options.java_multiple_files(), "{}: java_multiple_files", file.name());
        for (option, value) in [
            ("go_package", options.go_package()),
            ("java_package", options.java_package()),
            ("csharp_namespace", options.csharp_namespace()),
        ] {
            assert!(!value.is_empty(), "{}: {option}", file.name());
        }
    }
}

/// A check that cannot fail checks nothing.
#[test]
fn each_naming_rule_finds_its_violation() {
    let head = "syntax = \"proto3\";\npackage troupe.x.v1;\n";
    let cases = [
        ("PACKAGE_DIRECTORY_MATCH", "troupe/y/v1/a.proto", ""),
        ("FILE_LOWER_SNAKE_CASE", "troupe/x/v1/aB.proto", ""),
        ("ENUM_PASCAL_CASE", "troupe/x/v1/a.proto", "enum e_x { E_X_UNSPECIFIED = 0; }"),
        ("ENUM_VALUE_PREFIX", "troupe/x/v1/a.proto", "enum E { UNSPECIFIED = 0; }"),
        ("ENUM_ZERO_VALUE_SUFFIX", "troupe/x/v1/a.proto", "enum E { E_NONE = 0; }"),
        ("ENUM_VALUE_UPPER_SNAKE_CASE", "troupe/x/v1/a.proto", "enum E { E_a_UNSPECIFIED = 0; }"),
        ("MESSAGE_PASCAL_CASE", "troupe/x/v1/a.proto", "message m {}"),
        ("FIELD_LOWER_SNAKE_CASE", "troupe/x/v1/a.proto", "message M { string aB = 1; }"),
        (
            "ONEOF_LOWER_SNAKE_CASE",
            "troupe/x/v1/a.proto",
            "message M { oneof aB { string a = 1; } }",
        ),
        ("WIDE_FIELD_AS_JS_STRING", "troupe/x/v1/a.proto", "message M { int64 a = 1; }"),
        ("SERVICE_SUFFIX", "troupe/x/v1/a.proto", "service S {}"),
        (
            "RPC_REQUEST_STANDARD_NAME",
            "troupe/x/v1/a.proto",
            "message A {} message GetXResponse {} service S { rpc GetX(A) returns (GetXResponse); }",
        ),
        (
            "RPC_RESPONSE_STANDARD_NAME",
            "troupe/x/v1/a.proto",
            "message A {} message GetXRequest {} service S { rpc GetX(GetXRequest) returns (A); }",
        ),
        (
            "RPC_REQUEST_RESPONSE_UNIQUE",
            "troupe/x/v1/a.proto",
            "message A {} service S { rpc GetX(A) returns (A); }",
        ),
        (
            "RPC_VERB_NOUN",
            "troupe/x/v1/a.proto",
            "message GetRequest {} message GetResponse {} \
             service S { rpc Get(GetRequest) returns (GetResponse); }",
        ),
    ];
    for (rule, path, body) in cases {
        let found = violations(&compile(path, &format!("{head}{body}")));
        assert!(found.iter().any(|one| one.starts_with(rule)), "{rule} not in {found:?}");
    }
    let unversioned = compile("troupe/x/a.proto", "syntax = \"proto3\";\npackage troupe.x;\n");
    assert!(violations(&unversioned)[0].starts_with("PACKAGE_VERSION_SUFFIX"));
}

#[test]
fn files_of_a_package_that_disagree_are_found() {
    let mut files = contract();
    files[0].options.get_or_insert_default().go_package = Some("elsewhere".to_owned());
    let found = violations(&files);
    assert!(found.iter().any(|one| one.starts_with("PACKAGE_SAME_GO_PACKAGE")), "{found:?}");
}
