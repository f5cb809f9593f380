//! What a follower tells its leader.

use super::leader::{Leader, Nobody, followed, write_five};
use super::*;
use std::sync::Weak;
use troupe_machines::replica::LeaderEnds;

/// Both come of one answer of the leader: the flush and the high watermark of then, and the new start.
#[test]
fn who_follows_the_log_start_reports_the_new_one_last() {
    System::new().block_on(async {
        let leader = Arc::new(Leader::default());
        let ends =
            LeaderEnds { high_watermark: Offset(5), log_start: Offset(3), ..LeaderEnds::default() };
        let source: Weak<dyn CreditSource> = Weak::<Nobody>::new();
        let credit = Credit::new(source, 0);
        leader.says.lock().unwrap().push_back(LeaderSays::Batches {
            slices: Vec::new(),
            ends,
            round: 1,
            credit,
        });
        let (shard, _asked) = Shard::with_leaders(1, Arc::clone(&leader) as Arc<dyn LeaderStreams>);
        let key = new_key();
        write_five(shard.directory.path().join("behind-0"), key);
        let handle = shard.open_as("behind", key, followed());
        leader.nth_opened(0, &shard).await;
        while handle.describe().await.unwrap().log_start < Offset(3) {
            shard.settled().await;
        }
        assert_eq!(leader.last_reported().unwrap().log_start, Some(Offset(3)));
    });
}
