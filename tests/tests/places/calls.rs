//! Methods of the contract: tried, at hand for who runs nodes, and with an answer to whether they may be done twice.

use crate::{assert_none, between, code, descriptors, quoted};
use prost_types::{FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use troupe_tests::workspace;

/// Single calls that append no records: done twice, by a client's own retry policy, they do no more than once, or say
/// that it was done.
const REPEATABLE: [&str; 57] = [
    "AbortHangingTransaction",
    "AbortTransaction",
    "AddOffsets",
    "AddPartitions",
    "AlterPartitionReassignments",
    "AlterReplicaLogDirs",
    "CommitOffsets",
    "CommitTransactionOffsets",
    "CreatePartitions",
    "CreateTopic",
    "DeleteGroup",
    "DeleteGroupOffsets",
    "DeleteRecords",
    "DeleteTopic",
    "DescribeCluster",
    "DescribeConfigs",
    "DescribeGroup",
    "DescribeLogDirs",
    "DescribeProducers",
    "DescribeTopics",
    "DescribeTransaction",
    "DrainNode",
    "ElectLeaders",
    "EndTransaction",
    "Fetch",
    "FetchOffsets",
    "FindCoordinator",
    "FindHangingTransactions",
    "GetCluster",
    "GetHealth",
    "GetTopic",
    "IncrementalAlterConfigs",
    "InitProducer",
    "InitProducerId",
    "InjectFault",
    "KillActor",
    "ListActors",
    "ListFaults",
    "ListGroups",
    "ListOffsets",
    "ListPartitionReassignments",
    "ListPartitions",
    "ListReplicas",
    "ListTopics",
    "ListTransactions",
    "PlanReassignment",
    "Pull",
    "RecoverPartition",
    "RemoveGroupMembers",
    "RemoveNode",
    "ResetGroupOffsets",
    "ResumeNode",
    "RetireNode",
    "Settle",
    "StartFault",
    "StopFaults",
    "UpdateTopic",
];

/// Services of the packages that clients may call, each with its package.
fn services(set: &FileDescriptorSet) -> Vec<(&str, &ServiceDescriptorProto)> {
    let ours = |package: &str| package.starts_with("troupe.") && package != "troupe.internal.v1";
    let files = set.file.iter().filter(|file| ours(file.package()));
    let services: Vec<_> =
        files.flat_map(|file| file.service.iter().map(move |one| (file.package(), one))).collect();
    assert!(services.len() >= 7, "only {} services", services.len());
    services
}

/// As the stubs name the method `GetTopic`: `.get_topic(`.
fn call(method: &str) -> String {
    let mut call = String::from(".");
    for c in method.chars() {
        if c.is_ascii_uppercase() && call.len() > 1 {
            call.push('_');
        }
        call.push(c.to_ascii_lowercase());
    }
    call + "("
}

#[test]
fn every_method_is_called_by_a_test_from_outside() {
    let mut tests = String::new();
    for dir in ["tests/tests", "broker/tests"] {
        for path in workspace::files(dir, ".rs").unwrap() {
            tests.push_str(&workspace::read(&path).unwrap());
        }
    }
    let set = descriptors();
    let mut uncalled = Vec::new();
    for (package, service) in services(&set) {
        let methods = service.method.iter().map(|method| method.name());
        let missing = methods.filter(|method| !tests.contains(&call(method)));
        uncalled.extend(missing.map(|method| format!("{package}.{}/{method}", service.name())));
    }
    assert_none(&uncalled, "call it, with what it promises, in tests/tests/conformance");
}

#[test]
fn what_operators_may_ask_is_in_the_sdk_and_in_the_command() {
    let set = descriptors();
    let mut missing = Vec::new();
    for (package, service) in services(&set) {
        if !package.starts_with("troupe.admin.") && !package.starts_with("troupe.chaos.") {
            continue;
        }
        for (name, place) in [("client", "client/src/admin.rs"), ("cli", "a command of cli/src")] {
            let code = code(&[name], "nowhere");
            let methods = service.method.iter().map(|method| method.name());
            let absent = methods.filter(|method| !code.contains(&call(method)));
            missing.extend(absent.map(|method| format!("{method}: {place}")));
        }
    }
    assert_none(&missing, "whoever runs nodes has the SDK's `Admin` and `troupe`; add it there");
}

/// Whether a retry policy of a client may do it again unseen.
#[test]
fn of_every_single_call_it_is_said_whether_it_may_be_done_twice() {
    let intake = "broker/src/grpc/intake.rs";
    let not = quoted(&between(intake, "\nconst NOT_IDEMPOTENT: ", ";\n\n"));
    assert!(not.iter().all(|path| path.starts_with("/troupe.")) && not.len() > 1, "{not:?}");
    let set = descriptors();
    let mut undecided = Vec::new();
    for (package, service) in services(&set) {
        let streams =
            |one: &&MethodDescriptorProto| one.client_streaming() || one.server_streaming();
        for method in service.method.iter().filter(|method| !streams(method)) {
            let path = format!("/{package}.{}/{}", service.name(), method.name());
            if not.contains(&path) == REPEATABLE.contains(&method.name()) {
                undecided.push(path);
            }
        }
    }
    let what_to_do = "does it append records? Then name it in NOT_IDEMPOTENT of \
                      broker/src/grpc/intake.rs, else in REPEATABLE of tests/tests/places/calls.rs";
    assert_none(&undecided, what_to_do);
}

/// Who reads its requests itself is looked at by nobody before.
#[test]
fn what_is_read_by_hand_is_known_where_requests_come_in() {
    let known = quoted(&between("broker/src/grpc/intake.rs", "\nconst READ_BY_HAND: ", ";\n"));
    let served =
        between("broker/src/grpc/delivery_service.rs", "    fn of(path: &str)", "_ => None");
    let served =
        quoted(&served).into_iter().filter_map(|path| path.strip_prefix('/').map(str::to_owned));
    assert_eq!(
        known,
        served.collect(),
        "READ_BY_HAND of broker/src/grpc/intake.rs and `Method::of` of broker/src/grpc/delivery_service.rs are the same methods"
    );
}
