//! Tools for what is not there: why, and what to do instead.

use super::ended::Ended;

pub fn acls(_: &[String]) -> Result<(), Ended> {
    Err(Ended::cannot(
        "An authorizer",
        "anybody who reaches a node may do anything; let only those reach the nodes who may",
    ))
}

pub fn tokens(_: &[String]) -> Result<(), Ended> {
    Err(Ended::cannot("A delegation token", "nobody is asked who they are"))
}

pub fn share(_: &[String]) -> Result<(), Ended> {
    Err(Ended::cannot(
        "A share group",
        "kafka-console-consumer --group shares by partitions, and `troupe.v1.EventBusService` hands out single records \
         with acknowledgements, retries and dead letters: docs/services.md",
    ))
}

pub fn streams(_: &[String]) -> Result<(), Ended> {
    Err(Ended::cannot(
        "A streams group",
        "Kafka Streams is no part of it; kafka-consumer-groups has all groups",
    ))
}

pub fn client_metrics(_: &[String]) -> Result<(), Ended> {
    Err(Ended::cannot(
        "A subscription to clients' metrics",
        "clients keep their own: the SDK hands them to a recorder, docs/sdk.md; nodes have /metrics",
    ))
}

pub fn verification(_: &[String]) -> Result<(), Ended> {
    Err(Ended::cannot(
        "A comparison of replicas",
        "`troupe log scrub` has every node check its own, and mend what is damaged from the others",
    ))
}

pub fn mirror(_: &[String]) -> Result<(), Ended> {
    Err(Ended::cannot(
        "MirrorMaker",
        "`troupe topic copy TOPIC --to-server HOST:PORT --follow` does it",
    ))
}
