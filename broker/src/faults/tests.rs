//! Faults begin, are seen, and end.

use super::*;
use crate::network::Directions;
use std::collections::BTreeSet;

const LONG: Duration = Duration::from_secs(600);
const BOTH: Directions = Directions { to: true, from: true };

fn faults(dir: &Path) -> Arc<NodeFaults> {
    let set = [format!("log.dir={}", dir.display()), "chaos.enable=true".to_owned()];
    NodeFaults::new(&NodeConfig::load(None, [], &set).unwrap(), Arc::default())
}

fn cut() -> NodeFault {
    NodeFault::Cut { nodes: BTreeSet::new(), directions: BOTH }
}

fn ids(faults: &NodeFaults) -> Vec<String> {
    faults.list().into_iter().map(|it| it.id).collect()
}

#[test]
fn a_fault_has_its_id_and_lasts_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let faults = faults(dir.path());
    assert_eq!(faults.start("mine", cut(), LONG).unwrap(), "mine");
    let again = faults.start("mine", NodeFault::FullDisk { log_dir: None }, LONG).unwrap_err();
    assert!(again.code == ErrorCode::InvalidRequest && again.message.contains("`mine`"));
    let full = faults.start("", NodeFault::FullDisk { log_dir: None }, LONG).unwrap();
    assert_eq!(full, "full-disk-1");
    assert_eq!(ids(&faults), ["full-disk-1", "mine"]);
    assert!(faults.list().iter().all(|it| it.left > LONG / 2));
    assert_eq!(faults.stop("mine"), ["mine"]);
    assert!(faults.stop("mine").is_empty());
    assert_eq!(faults.stop(""), ["full-disk-1"]);
    assert!(ids(&faults).is_empty());
}

#[test]
fn a_fault_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let faults = faults(dir.path());
    faults.start("short", cut(), Duration::from_millis(20)).unwrap();
    faults.start("long", NodeFault::ClockOffset { offset_ms: 1 }, LONG).unwrap();
    while ids(&faults) != ["long"] {
        thread::yield_now();
    }
    // Another of the same name is not ended by the first one's time.
    faults.start("short", cut(), Duration::from_millis(50)).unwrap();
    faults.stop("short");
    faults.start("short", cut(), LONG).unwrap();
    thread::sleep(Duration::from_millis(80));
    assert_eq!(ids(&faults), ["long", "short"]);
}

#[test]
fn a_pause_opens_when_it_is_stopped_however_soon() {
    let dir = tempfile::tempdir().unwrap();
    let faults = faults(dir.path());
    faults.start("p", NodeFault::Pause, LONG).unwrap();
    assert!(faults.start("q", NodeFault::Pause, LONG).unwrap_err().message.contains("already"));
    assert!(faults.paused_for().is_some());
    faults.stop("p");
    thread::sleep(LAST_WORDS * 2);
    assert!(!faults.pause.is_closed(), "stopped before it had begun");
    faults.start("p", NodeFault::Pause, LONG).unwrap();
    while !faults.pause.is_closed() {
        thread::yield_now();
    }
    faults.stop("");
    assert!(!faults.pause.is_closed() && faults.paused_for().is_none());
}

#[test]
fn a_directory_that_is_not_the_nodes_is_refused_with_those_that_are() {
    let dir = tempfile::tempdir().unwrap();
    let faults = faults(dir.path());
    let elsewhere = NodeFault::FsyncError { log_dir: Some(PathBuf::from("/elsewhere")) };
    let refused = faults.start("", elsewhere, LONG).unwrap_err();
    let own = dir.path().display().to_string();
    assert!(refused.message.contains(&own) && refused.message.contains("/elsewhere"), "{refused}");
}

#[test]
fn each_fault_says_what_is_wrong() {
    let nodes = BTreeSet::from([troupe_proto::ids::NodeId(2), troupe_proto::ids::NodeId(3)]);
    let directions = Directions { to: true, from: false };
    let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(5));
    for (fault, says) in [
        (cut(), "nothing passes to and from all other nodes"),
        (
            NodeFault::Slow { nodes, directions, delay, jitter },
            "50 ms and up to 5 more to nodes 2, 3",
        ),
        (NodeFault::SlowDisk { delay, log_dir: None }, "flushes take 50 ms longer"),
        (NodeFault::ClockOffset { offset_ms: -5_000 }, "its clock is 5000 ms slow"),
    ] {
        assert_eq!(fault.to_string(), says);
        assert!(NodeFault::NAMES.contains(&fault.name()));
    }
}
