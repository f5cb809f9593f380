//! How a cluster is: what every node knows to be wrong, put together to one verdict.

use crate::as_of::AsOf;
use serde::Serialize;
use std::time::Duration;
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::{
    ClusterNode, GetHealthResponse, HealthReason, HealthReasonKind, HealthVerdict,
};

/// How long one node is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Degraded => "degraded",
            Verdict::Unhealthy => "unhealthy",
        }
    }
}

/// The keys are those of `troupe.admin.v1.HealthReason` in proto JSON; enums without their prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    pub kind: String,
    pub severity: Verdict,
    pub message: String,
    pub node_ids: Vec<i32>,
    count: i32,
    /// The first of the partitions.
    pub examples: Vec<String>,
}

impl From<HealthReason> for Reason {
    fn from(reason: HealthReason) -> Self {
        let name = reason.kind().as_str_name();
        Reason {
            kind: name.strip_prefix("HEALTH_REASON_KIND_").unwrap_or(name).to_owned(),
            severity: match reason.severity() {
                HealthVerdict::Unhealthy => Verdict::Unhealthy,
                HealthVerdict::Degraded | HealthVerdict::Unspecified => Verdict::Degraded,
                HealthVerdict::Healthy => Verdict::Healthy,
            },
            message: reason.message,
            node_ids: reason.node_ids,
            count: reason.count,
            examples: reason.examples,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub verdict: Verdict,
    pub reasons: Vec<Reason>,
    /// Of what is said of the cluster as a whole.
    pub as_of: Option<AsOf>,
}

impl Health {
    pub fn is_unhealthy(&self) -> bool {
        self.verdict == Verdict::Unhealthy
    }
}

/// What all nodes know to be wrong.
///
/// # Errors
/// Nobody tells which nodes there are.
pub async fn gather(client: &Client) -> Result<Health, ClientError> {
    let nodes = client.admin().get_cluster().await?.nodes;
    let asked = nodes.iter().map(|node| async move {
        let answer = tokio::time::timeout(TIMEOUT, async {
            client.admin_at(&node.endpoint).await?.get_health().await
        });
        (node, answer.await.map_err(|_| "it does not answer".to_owned()))
    });
    let told = futures::future::join_all(asked).await.into_iter().map(|(node, answer)| {
        (node, answer.and_then(|answer| answer.map_err(|error| error.to_string())))
    });
    Ok(judge(told.collect()))
}

/// One verdict of what the nodes have told.
fn judge(told: Vec<(&ClusterNode, Result<GetHealthResponse, String>)>) -> Health {
    let mut reasons = Vec::new();
    let answers: Vec<_> = told.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
    // Of the cluster, whoever knows the newest tells.
    let newest = answers.iter().max_by_key(|answer| {
        answer.as_of.as_ref().map(|as_of| (as_of.controller_active, as_of.metadata_offset))
    });
    let of_cluster = |reason: &&HealthReason| !is_of_node(reason.kind());
    let newest_reasons = newest.iter().flat_map(|answer| &answer.reasons).filter(of_cluster);
    let cut_off_alone = answers
        .iter()
        .any(|answer| answer.as_of.as_ref().is_some_and(|as_of| as_of.controller_active));
    for reason in answers.iter().flat_map(|answer| &answer.reasons) {
        if is_of_node(reason.kind()) {
            let mut reason = Reason::from(reason.clone());
            // Others are heard by a controller: the cluster goes on without this node.
            if reason.kind == "NO_ACTIVE_CONTROLLER" && cut_off_alone {
                reason.severity = Verdict::Degraded;
            }
            reasons.push(reason);
        }
    }
    reasons.extend(newest_reasons.cloned().map(Reason::from));
    // Who has no picture at all cannot say that something is served.
    let unheard = if answers.is_empty() { Verdict::Unhealthy } else { Verdict::Degraded };
    if told.is_empty() {
        reasons.push(Reason {
            kind: "NO_NODES".to_owned(),
            severity: unheard,
            message: "no broker is registered: nothing is served".to_owned(),
            node_ids: Vec::new(),
            count: 0,
            examples: Vec::new(),
        });
    }
    for (node, answer) in &told {
        if let Err(why) = answer {
            reasons.push(Reason {
                kind: "NODE_DOES_NOT_ANSWER".to_owned(),
                severity: unheard,
                message: format!("node {} at {} tells nothing: {why}", node.node_id, node.endpoint),
                node_ids: vec![node.node_id],
                count: 1,
                examples: Vec::new(),
            });
        }
    }
    // The worst first; those of one kind together.
    reasons.sort_by(|a, b| {
        (b.severity, &a.kind, &a.node_ids).cmp(&(a.severity, &b.kind, &b.node_ids))
    });
    Health {
        verdict: reasons.iter().map(|reason| reason.severity).max().unwrap_or(Verdict::Healthy),
        reasons,
        as_of: newest.and_then(|answer| answer.as_of).map(AsOf::from),
    }
}

/// Whether it is about the node that told it.
fn is_of_node(kind: HealthReasonKind) -> bool {
    match kind {
        HealthReasonKind::OfflinePartitions
        | HealthReasonKind::UnderMinIsr
        | HealthReasonKind::UnderReplicated
        | HealthReasonKind::FencedNodes
        | HealthReasonKind::DrainingNodes
        | HealthReasonKind::SilentControllers => false,
        HealthReasonKind::NoActiveController
        | HealthReasonKind::OldMetadata
        | HealthReasonKind::OfflineReplicas
        | HealthReasonKind::StalledReplicas
        | HealthReasonKind::WaitingAppends
        | HealthReasonKind::DamagedReplicas
        | HealthReasonKind::DiskFull
        | HealthReasonKind::OfflineLogDirectories
        // Of a newer version: it is told, once for each node that tells it.
        | HealthReasonKind::Unspecified => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::v1::MetadataAsOf;

    fn node(node_id: i32) -> ClusterNode {
        ClusterNode { node_id, ..Default::default() }
    }

    fn answer(active: bool, offset: i64, kinds: &[HealthReasonKind]) -> GetHealthResponse {
        let reason = |kind: &HealthReasonKind| HealthReason {
            kind: (*kind).into(),
            severity: HealthVerdict::Unhealthy.into(),
            ..Default::default()
        };
        GetHealthResponse {
            reasons: kinds.iter().map(reason).collect(),
            as_of: Some(MetadataAsOf {
                controller_active: active,
                metadata_offset: offset,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn kinds(health: &Health) -> Vec<(&str, Verdict)> {
        health.reasons.iter().map(|reason| (reason.kind.as_str(), reason.severity)).collect()
    }

    #[test]
    fn nobody_complains_of_a_cluster_that_is_well() {
        let one = node(1);
        let health = judge(vec![(&one, Ok(answer(true, 7, &[])))]);
        assert_eq!((health.verdict, health.reasons.len()), (Verdict::Healthy, 0));
    }

    #[test]
    fn a_cluster_of_which_nobody_tells_anything_is_unhealthy() {
        let (one, two) = (node(1), node(2));
        let silent = || Err("it does not answer".to_owned());
        let health = judge(vec![(&one, silent()), (&two, silent())]);
        let kind = "NODE_DOES_NOT_ANSWER";
        assert_eq!(kinds(&health), [(kind, Verdict::Unhealthy), (kind, Verdict::Unhealthy)]);
        assert_eq!(health.verdict, Verdict::Unhealthy);
        let health = judge(Vec::new());
        assert_eq!(kinds(&health), [("NO_NODES", Verdict::Unhealthy)], "nobody to ask");
    }

    #[test]
    fn the_newest_picture_tells_of_the_cluster_and_each_node_of_itself() {
        use HealthReasonKind::{DiskFull, NoActiveController, OfflinePartitions, UnderMinIsr};
        let (one, two, three) = (node(1), node(2), node(3));
        let health = judge(vec![
            (&one, Ok(answer(true, 9, &[UnderMinIsr]))),
            (&two, Ok(answer(false, 8, &[NoActiveController, OfflinePartitions, DiskFull]))),
            (&three, Err("it does not answer".to_owned())),
        ]);
        assert_eq!(
            kinds(&health),
            [
                ("DISK_FULL", Verdict::Unhealthy),
                ("UNDER_MIN_ISR", Verdict::Unhealthy),
                ("NODE_DOES_NOT_ANSWER", Verdict::Degraded),
                ("NO_ACTIVE_CONTROLLER", Verdict::Degraded),
            ],
            "one node is cut off, and what it says of the cluster is old"
        );
        let health = judge(vec![(&two, Ok(answer(false, 8, &[NoActiveController])))]);
        assert_eq!(kinds(&health), [("NO_ACTIVE_CONTROLLER", Verdict::Unhealthy)]);
    }
}
