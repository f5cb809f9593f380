//! A log that cannot be filled on from where it ends.

use super::leader::{Leader, Nobody, followed, write_five};
use super::*;
use std::sync::Weak;
use troupe_machines::replica::LeaderEnds;

#[test]
fn a_replica_that_needs_tombstones_begins_anew_and_says_from_then_on_what_its_leader_has_said() {
    System::new().block_on(async {
        let leader = Arc::new(Leader::default());
        let ends = LeaderEnds { tombstones_gone_below: Offset(9), ..LeaderEnds::default() };
        let source: Weak<dyn CreditSource> = Weak::<Nobody>::new();
        let accepted = Slice { read_from: None, batches: bytes::Bytes::new() };
        leader.says.lock().unwrap().extend([
            LeaderSays::BeginAnew { log_start: Offset(0) },
            LeaderSays::Batches {
                slices: vec![accepted],
                ends,
                round: 0,
                credit: Credit::new(source, 0),
            },
        ]);
        let (shard, _asked) = Shard::with_leaders(1, Arc::clone(&leader) as Arc<dyn LeaderStreams>);
        let (key, dir) = (new_key(), shard.directory.path().join("half-0"));
        write_five(dir, key);
        let handle = shard.open_as("half", key, followed());
        assert_eq!(leader.nth_opened(0, &shard).await, (Offset(5), Some(Offset(0))));
        assert_eq!(leader.nth_opened(1, &shard).await, (Offset(0), Some(Offset(0))));
        handle.describe().await.unwrap();
        handle.tell(Die::Stop);
        handle.rebuilt(1, REBUILD_PATIENCE).await.unwrap();
        assert_eq!(leader.nth_opened(2, &shard).await, (Offset(0), Some(Offset(9))));
    });
}
