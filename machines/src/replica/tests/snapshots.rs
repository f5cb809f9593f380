//! What snapshots of producers are, in the bytes that disks hold.

use super::transactions::{ABORT, COMMIT, completed, mark, transactional};
use super::*;
use crate::on_record::on_record;
use crate::txn::ClientVersion;
use prost::Message;
use troupe_proto::log::v1::ProducerSnapshot;

/// The same replica from what is on record.
fn restored(name: &str, replica: &Replica, version: u32) -> Replica {
    let snapshot = on_record(name, &[replica.snapshot().encode_to_vec()]).remove(0);
    let snapshot = ProducerSnapshot::decode(&snapshot[..]).unwrap();
    assert_eq!(snapshot.version, version);
    let end = replica.log_end();
    let ends = LogEnds {
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        flushed_end: end,
        log_end: end,
    };
    let mut restored = Replica::new(key(), SELF, config());
    restored.restore(ends, Some(&snapshot));
    restored.become_leader(NOW, state(4, &[1]), &mut Effects::new());
    restored
}

/// S2: as every version has written it, where there are no transactions.
#[test]
fn a_snapshot_without_transactions_is_as_the_first_version_wrote_it() {
    let mut replica = leader();
    for n in 0..7 {
        append(&mut replica, &stamped(9, 2, n * 3, 3), n.into()).unwrap();
    }
    append(&mut replica, &stamped(8, 0, 5, 1), 9).unwrap();
    let mut restored = restored("producers-0", &replica, 0);
    let known = restored.decide_append(NOW, &stamped(9, 2, 12, 3)).unwrap();
    assert!(matches!(known, AppendDecision::Duplicate(_)), "{known:?}");
    append(&mut restored, &stamped(8, 0, 6, 1), 2).unwrap();
}

/// X12: one that is open, one whose end may be lost, a producer that is known by its marker alone.
#[test]
fn a_snapshot_with_transactions_is_as_the_first_version_of_them_wrote_it() {
    let mut replica = leader();
    append(&mut replica, &transactional(8, 0, 0, 2), 1).unwrap();
    append(&mut replica, &transactional(9, 4, 0, 1), 2).unwrap();
    mark(&mut replica, (8, 1), ABORT, ClientVersion::Second, 3).unwrap();
    append(&mut replica, &stamped(7, 0, 0, 1), 4).unwrap();
    mark(&mut replica, (6, 3), COMMIT, ClientVersion::First, 5).unwrap();
    let mut restored = restored("producers-1", &replica, 1);
    assert_eq!(restored.producers().collect::<Vec<_>>(), replica.producers().collect::<Vec<_>>());
    flush(&mut restored);
    assert_eq!(restored.last_stable_offset(), Offset(2), "what is open holds readers");
    let out = mark(&mut restored, (9, 5), COMMIT, ClientVersion::Second, 6).unwrap();
    let [ended] = &completed(&out)[..] else { panic!("{out:?}") };
    assert_eq!((ended.producer_id, ended.first_offset), (ProducerId(9), Offset(2)));
    append(&mut restored, &transactional(8, 1, 0, 1), 7).unwrap();
}
