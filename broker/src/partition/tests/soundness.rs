//! What comes of looking at a log that may be damaged: each of its ends.

use super::*;
use actix::{Context, Handler, Message};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;
use troupe_log::disk::FileDisk;
use troupe_log::{Log, LogConfig, LogError};

/// What the log was asked for has failed, in the course of any message.
#[derive(Message)]
#[rtype(result = "()")]
struct Fail(LogError);

impl Handler<Fail> for actor::PartitionActor {
    type Result = ();

    fn handle(&mut self, Fail(error): Fail, ctx: &mut Context<Self>) {
        self.go_offline(error, ctx);
    }
}

const RECORDS: u64 = 20;

/// A log of several segments, closed in order; their files. No index is needed to find a batch in one of them.
fn write_log(dir: &Path, key: PartitionKey) -> Vec<PathBuf> {
    let config = LogConfig { segment_bytes: 1000, ..LogConfig::default() };
    let (mut log, _) = Log::open(FileDisk, dir.to_owned(), key, config, 0).unwrap();
    for n in 0..RECORDS {
        let mut records = RecordSetBuilder::new();
        records.push(wall_clock().as_timestamp(), None, Some(&[n as u8; 120]), &[]);
        let built = records.finish(Compression::None, None).unwrap();
        let header = troupe_proto::batch::BatchHeader { base_offset: Offset(n), ..built.header };
        log.append(&header, &Rope::from(built.payload), 0).unwrap();
    }
    // of no producer: nothing has to be read again to know of them
    log.write_producer_snapshot(Offset(RECORDS), &[]).unwrap();
    log.close_clean(Offset(RECORDS)).unwrap();
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> =
        names.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    logs.sort();
    assert!(logs.len() > 2);
    logs
}

fn base_of(path: &Path) -> Offset {
    Offset(path.file_stem().unwrap().to_str().unwrap().parse().unwrap())
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// The replica of node 1 of a log with segments, and their files.
struct Written {
    _shard: Shard,
    asked: Asked,
    handle: Arc<PartitionHandle>,
    logs: Vec<PathBuf>,
}

impl Written {
    /// With `isr` [1], it is the only replica that there is.
    async fn start(isr: &[i32]) -> Written {
        let (shard, asked) = Shard::with_controller(1);
        let key = new_key();
        let logs = write_log(&shard.directory.path().join("looked-at-0"), key);
        let alone = isr == [1];
        let state = PartitionState {
            replicas: if alone { vec![NodeId(1)] } else { vec![NodeId(1), NodeId(2)] },
            isr: isr.iter().copied().map(NodeId).collect(),
            leader_epoch: LeaderEpoch(1),
            eligible: isr.iter().map(|node| (NodeId(*node), BrokerEpoch(0))).collect(),
            ..PartitionState::clone(&state())
        };
        let handle = shard.open_as("looked-at", key, Arc::new(state));
        handle.describe().await.unwrap();
        Written { _shard: shard, asked, handle, logs }
    }

    /// Something could not be done for what stands at the beginning of this segment.
    fn fail(&self, segment: usize) {
        let path = self.logs[segment].clone();
        self.fail_by(LogError::CorruptLog { path, position: 0, cause: "a test".to_owned() });
    }

    fn fail_by(&self, error: LogError) {
        self.handle.board.addr().unwrap().do_send(Fail(error));
    }

    async fn rebuilt(&self, restarts: u32) {
        self.handle.rebuilt(restarts, REBUILD_PATIENCE).await.unwrap();
        assert_eq!(self.handle.board.restarts(), restarts);
    }

    async fn goes_offline(&self) -> Error {
        loop {
            if let Err(error) = self.handle.describe().await {
                assert_eq!(self.handle.board.state(), ActorState::Offline, "{error}");
                return error;
            }
        }
    }

    async fn read(&self, from: Offset) -> Result<ReadAnswer, Error> {
        self.handle.read(ReadFrom { from, max_bytes: 1 << 20, ..ReadFrom::default() }).await
    }

    async fn scrub(&self) -> Result<ScrubResult, Error> {
        scrub(&self.handle, 0, CancellationToken::new()).await
    }

    /// A directory stands where this segment's file was, which nobody has opened yet; and back again.
    fn take_away(&self, segment: usize) -> impl Fn() + use<> {
        let (path, away) = (self.logs[segment].clone(), self.logs[segment].with_extension("away"));
        std::fs::rename(&path, &away).unwrap();
        std::fs::create_dir(&path).unwrap();
        move || {
            std::fs::remove_dir(&path).unwrap();
            std::fs::rename(&away, &path).unwrap();
        }
    }
}

#[test]
fn a_failure_behind_which_is_new_damage_leaves_that_to_the_next_actor() {
    System::new().block_on(async {
        let it = Written::start(&[1]).await;
        flip(&it.logs[1], 20);
        it.fail(1);
        it.rebuilt(1).await;
        assert!(it.handle.board.is_damaged());
        let damaged = it.handle.describe().await.unwrap().damaged.unwrap();
        assert_eq!(damaged.start, base_of(&it.logs[1]));
    });
}

/// It neither stays as it is, half done, nor is it built anew without end.
#[test]
fn a_failure_of_which_the_cause_is_known_or_gone_opens_the_log_anew_and_not_for_ever() {
    for known in [true, false] {
        System::new().block_on(async {
            let mut it = Written::start(&[1, 2]).await;
            let mut restarts = 0;
            if known {
                flip(&it.logs[1], 20);
                it.fail(1);
                restarts += 1;
                it.rebuilt(restarts).await;
            }
            for _ in 0..2 {
                it.fail(1);
                restarts += 1;
                it.rebuilt(restarts).await;
                assert_eq!(it.handle.board.is_damaged(), known);
            }
            while it.asked.0.try_recv().is_ok() {}
            it.fail(1);
            let error = it.goes_offline().await;
            assert_eq!(error.code, ErrorCode::CorruptLog, "{error}");
            let told = std::iter::from_fn(|| it.asked.0.try_recv().ok());
            let told = told.filter(|it| matches!(it, ControllerRequest::OfflineReplica(_)));
            assert_eq!(told.count(), 1, "others lead");
            it.handle.kill(Die::Stop, REBUILD_PATIENCE).await.unwrap();
        });
    }
}

/// Whether there is damage, nobody knows.
#[test]
fn a_failure_that_cannot_be_looked_into_takes_the_replica_offline_and_is_no_damage() {
    System::new().block_on(async {
        let it = Written::start(&[1]).await;
        let put_back = it.take_away(1);
        it.fail(1);
        let error = it.goes_offline().await;
        assert_eq!(error.code, ErrorCode::StorageFailure, "{error}");
        put_back();
        it.handle.kill(Die::Stop, REBUILD_PATIENCE).await.unwrap();
        assert!(!it.handle.board.is_damaged());
        assert_eq!(it.read(base_of(&it.logs[1])).await.unwrap().next, base_of(&it.logs[2]));
    });
}

#[test]
fn a_failure_of_the_disk_takes_the_replica_offline_whatever_is_damaged() {
    System::new().block_on(async {
        let it = Written::start(&[1]).await;
        flip(&it.logs[1], 20);
        let path = it.logs[1].clone();
        let source = Arc::new(std::io::Error::other("the disk"));
        it.fail_by(LogError::Io { action: "write", path, source });
        let error = it.goes_offline().await;
        assert_eq!(error.code, ErrorCode::StorageFailure, "{error}");
        assert!(!it.handle.board.is_damaged());
    });
}

/// With others in sync it is better led there; alone, the rest is served.
#[test]
fn what_cannot_be_read_is_no_damage_and_is_left_to_others_if_there_are_any() {
    for isr in [&[1, 2][..], &[1][..]] {
        System::new().block_on(async {
            let it = Written::start(isr).await;
            let put_back = it.take_away(1);
            let at = base_of(&it.logs[1]);
            let error = it.handle.suspect(at).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::StorageFailure, "{error}");
            if isr.len() > 1 {
                it.goes_offline().await;
                return;
            }
            let error = it.read(at).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::StorageFailure, "{error}");
            let error = it.scrub().await.unwrap_err();
            assert_eq!(error.code, ErrorCode::StorageFailure, "a scrub finds no damage: {error}");
            assert_eq!(it.read(Offset(0)).await.unwrap().next, at);
            put_back();
            assert_eq!(it.read(at).await.unwrap().next, base_of(&it.logs[2]));
            assert_eq!((it.handle.board.restarts(), it.handle.board.is_damaged()), (0, false));
        });
    }
}

#[test]
fn nobody_is_told_of_damage_where_all_is_sound() {
    System::new().block_on(async {
        let it = Written::start(&[1, 2]).await;
        for at in 0..RECORDS {
            assert_eq!(it.handle.suspect(Offset(at)).await, Ok(None));
        }
        let scrubbed = it.scrub().await.unwrap();
        assert_eq!((scrubbed.damages, scrubbed.batches), (0, RECORDS));
        assert_eq!((it.handle.board.restarts(), it.handle.board.is_damaged()), (0, false));
    });
}

/// The records were deleted, and the node was killed before the files went. Nobody needs them.
#[test]
fn damage_of_what_was_deleted_neither_ends_a_replica_nor_counts_as_loss() {
    System::new().block_on(async {
        let (shard, mut asked) = Shard::with_controller(1);
        let (key, dir) = (new_key(), shard.directory.path().join("deleted-0"));
        let logs = write_log(&dir, key);
        let start = base_of(&logs[2]).plus(1);
        {
            let aside = shard.directory.path().join("aside");
            write_log(&aside, key);
            let config = LogConfig { segment_bytes: 1000, ..LogConfig::default() };
            let (mut log, _) = Log::open(FileDisk, aside.clone(), key, config, 0).unwrap();
            drop(log.set_log_start(start).unwrap());
            let name = "log-start-checkpoint";
            std::fs::copy(aside.join(name), dir.join(name)).unwrap();
            std::fs::remove_dir_all(aside).unwrap();
        }
        let shorter = std::fs::File::options().write(true).open(&logs[0]).unwrap();
        shorter.set_len(300).unwrap();
        flip(&logs[1], 20);
        // of the segment that is still in use the batch that was deleted
        flip(&logs[2], 30);
        let state = PartitionState {
            replicas: vec![NodeId(1), NodeId(2)],
            isr: vec![NodeId(1), NodeId(2)],
            leader_epoch: LeaderEpoch(1),
            eligible: [1, 2].map(|node| (NodeId(node), BrokerEpoch(0))).into(),
            ..PartitionState::clone(&state())
        };
        let handle = shard.open_as("deleted", key, Arc::new(state));
        for restarts in [0, 1] {
            let found = handle.describe().await.unwrap();
            assert_eq!((found.role, found.log_start, found.damaged), (Role::Leader, start, None));
            for at in 0..RECORDS {
                assert_eq!(handle.suspect(Offset(at)).await, Ok(None), "{at}");
            }
            let scrubbed = scrub(&handle, 0, CancellationToken::new()).await.unwrap();
            assert_eq!((scrubbed.damages, scrubbed.batches), (0, RECORDS - start.0));
            assert!(handle.tell(messages::EnforceRetention));
            shard.settled().await;
            assert!(!handle.board.is_damaged());
            assert_eq!(handle.board.restarts(), restarts);
            if restarts == 0 {
                handle.kill(Die::Stop, REBUILD_PATIENCE).await.unwrap();
                // its leadership went with it
                shard.lead(&handle, 2, &[1, 2]);
                shard.settled().await;
            }
        }
        let mut told = std::iter::from_fn(|| asked.0.try_recv().ok());
        assert!(!told.any(|it| matches!(it, ControllerRequest::LostData(_))));
    });
}
