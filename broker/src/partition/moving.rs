//! The log of a partition moves to another directory of the node, while the partition serves.
//!
//! ```text
//! BeginMove ─► ReadForMove … (a copy grows beside the log) ─► FinishMove ─► the copy is the log
//! ```
//!
//! The end, in an order that a crash may interrupt anywhere: the copy is complete and durable under its future's name,
//! then under the partition's; then it is remembered that the partition belongs there, which is what counts; then the
//! original is put out of the way.
//!
//! Promise: nothing is handled while the log is exchanged, which takes as long as a small flush; whatever fails before
//! it is remembered leaves the original in force.

use super::actor::PartitionActor;
use super::messages::{BeginMove, Copied, EndMove, FinishMove, Original, Piece, ReadForMove};
use crate::clock::{now, wall_clock};
use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use prost::Message as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use troupe_log::disk::FileDisk;
use troupe_log::{Log, LogConfig, LogDirectories, LogDirectory, LogError, Placed};
use troupe_machines::replica::Effects;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};

impl Handler<BeginMove> for PartitionActor {
    type Result = ();

    fn handle(&mut self, BeginMove { reply }: BeginMove, ctx: &mut Self::Context) {
        self.take_turn(ctx);
        self.moving.turn = None;
        let begun = self.check_whole().and_then(|()| {
            self.moving.turn = self.board.cleaning.enter(&CancellationToken::new());
            if self.moving.turn.is_none() {
                let message = "the log is being cleaned; it can be moved afterwards";
                return Err(Error::new(ErrorCode::StorageUnavailable, message));
            }
            let directory = Arc::clone(&self.home);
            let log = self.log();
            Ok(Original {
                directory,
                config: *log.config(),
                start: log.log_start(),
                size_bytes: log.size_bytes(),
                truncations: log.truncations(),
            })
        });
        // Whoever asked may be gone: the next one who asks begins again.
        let _ = reply.send(begun);
    }
}

impl Handler<ReadForMove> for PartitionActor {
    type Result = ();

    fn handle(&mut self, read: ReadForMove, ctx: &mut Self::Context) {
        self.take_turn(ctx);
        let ReadForMove { from, max_bytes, truncations, reply } = read;
        let piece = self.check_same(truncations).and_then(|()| {
            let high_watermark = self.replica.high_watermark();
            let log = self.log();
            // What may still be truncated must not be mapped.
            let slice = match from < high_watermark {
                true => log.read(from, high_watermark, max_bytes)?,
                false => log.read_copy(from, log.log_end(), max_bytes)?,
            };
            let is_last = slice.bytes.is_empty() || slice.end >= log.log_end();
            Ok(Piece { bytes: slice.bytes, is_last })
        });
        // Whoever asked may be gone.
        let _ = reply.send(piece);
    }
}

impl Handler<EndMove> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: EndMove, ctx: &mut Self::Context) {
        self.take_turn(ctx);
        self.moving.turn = None;
    }
}

impl Handler<FinishMove> for PartitionActor {
    type Result = ();

    /// A flush that is under way is waited for: the log that it is of must be there when it ends.
    fn handle(&mut self, finish: FinishMove, ctx: &mut Self::Context) {
        self.take_turn(ctx);
        let board = Arc::clone(&self.board);
        let idle = async move { board.flushes.idle().await };
        ctx.wait(idle.into_actor(self).map(move |(), actor, ctx| actor.finish_move(finish, ctx)));
    }
}

impl PartitionActor {
    fn check_whole(&mut self) -> Result<(), Error> {
        if self.log().damage().is_some() || self.log().is_poisoned() {
            let message =
                "the replica's log is not whole; it can be moved when it was filled again";
            return Err(Error::new(ErrorCode::StorageUnavailable, message));
        }
        Ok(())
    }

    /// What is left of a copy is one of the log of now.
    fn check_same(&mut self, truncations: u64) -> Result<(), Error> {
        self.check_whole()?;
        if self.moving.turn.is_none() || self.log().truncations() != truncations {
            let message = "the log was truncated while it was copied; the copy begins anew";
            return Err(Error::new(ErrorCode::StorageUnavailable, message));
        }
        Ok(())
    }

    fn finish_move(&mut self, finish: FinishMove, ctx: &mut Context<Self>) {
        let FinishMove { copy, truncations, reply } = finish;
        if let Err(error) = self.check_same(truncations) {
            // Whoever asked may be gone.
            let _ = reply.send(Err(error));
            return;
        }
        let Some(turn) = self.board.flushes.enter() else { return };
        let exchange = Exchange {
            topic: Arc::clone(&self.board.topic),
            key: self.board.key,
            config: *self.log().config(),
            original_directory: Arc::clone(&self.home),
            directories: Arc::clone(&self.shared.directories),
            high_watermark: self.replica.high_watermark(),
            producers: self.replica.snapshot().encode_to_vec(),
            now_ms: wall_clock().as_timestamp(),
        };
        let home = Arc::clone(&copy.directory);
        let Some(original) = self.log.take() else { return };
        let exchanged = tokio::task::spawn_blocking(move || {
            let exchanged = exchange.run(original, copy);
            // Another actor may be waiting to open the log.
            drop(turn);
            exchanged
        });
        ctx.wait(exchanged.into_actor(self).map(move |exchanged, actor, ctx| {
            actor.moved(exchanged.ok(), home, reply, ctx);
        }));
    }

    fn moved(
        &mut self,
        exchanged: Option<Exchanged>,
        home: Arc<LogDirectory>,
        reply: oneshot::Sender<Result<Option<PathBuf>, Error>>,
        ctx: &mut Context<Self>,
    ) {
        self.moving.turn = None;
        let (log, result) = match exchanged {
            Some(Exchanged { log: Some(log), result }) => (log, result),
            // It is on disk, here or there: another actor finds it.
            Some(Exchanged { log: None, .. }) | None => {
                let message = "the log was moved and has to be opened anew";
                let _ = reply.send(Err(Error::new(ErrorCode::LeaderNotAvailable, message)));
                return ctx.stop();
            }
        };
        self.log = Some(log);
        if result.is_ok() {
            self.home = home;
            self.moving.count += 1;
            self.board.set_dirty();
            let (mut effects, flushed_end) = (Effects::new(), self.log().flushed_end());
            self.replica.on_flushed(now(), flushed_end, &mut effects);
            self.perform(effects, ctx);
            self.resign_if_disk_failed(ctx);
        }
        // Whoever asked may be gone.
        let _ = reply.send(result.map_err(Error::from));
    }
}

/// What the end of a move takes, off the actor's thread.
struct Exchange {
    topic: Arc<str>,
    key: PartitionKey,
    config: LogConfig,
    original_directory: Arc<LogDirectory>,
    directories: Arc<LogDirectories>,
    high_watermark: Offset,
    producers: Vec<u8>,
    now_ms: i64,
}

struct Exchanged {
    /// The one in force; `None`: it has to be opened.
    log: Option<Log<FileDisk>>,
    /// What is left of the original.
    result: Result<Option<PathBuf>, LogError>,
}

impl Exchange {
    fn run(self, original: Log<FileDisk>, copy: Copied) -> Exchanged {
        let directory = Arc::clone(&copy.directory);
        let path = match self.commit(&original, copy) {
            Ok(path) => path,
            Err(error) => return Exchanged { log: Some(original), result: Err(error) },
        };
        let opened = Log::open(FileDisk::new(), path, self.key, self.config, self.now_ms);
        let log = match opened {
            Ok((mut log, _)) if log.log_end() == original.log_end() => {
                log.take_place_of(&original);
                Some(log)
            }
            Ok(_) => None,
            Err(error) => {
                directory.suspect();
                return Exchanged { log: None, result: Err(error) };
            }
        };
        let data = self.original_directory.data();
        let retired = data.map(|data| {
            data.retire(&self.topic, self.key.partition, self.key.topic_id).unwrap_or_else(
                |error| {
                    tracing::warn!(%error, "what is left of a move is put away at the next start");
                    None
                },
            )
        });
        Exchanged { log, result: Ok(retired.flatten()) }
    }

    /// Returns where the log is from now on.
    fn commit(&self, original: &Log<FileDisk>, copy: Copied) -> Result<PathBuf, LogError> {
        let Copied { log, path, directory } = copy;
        directory.check()?;
        let (high_watermark, producers) = (self.high_watermark, &self.producers);
        original.complete_copy(log, high_watermark, producers, self.now_ms)?;
        let Some((data, id)) = directory.data().zip(directory.id()) else {
            return Err(directory.check().err().unwrap_or(LogError::Poisoned { path }));
        };
        let io = |error: std::io::Error| LogError::Io {
            action: "move",
            path: path.clone(),
            source: Arc::new(error),
        };
        let partition = self.key.partition;
        let installed = data.install(&path, &self.topic, partition);
        let installed = installed.map_err(|error| io(std::io::Error::other(error)))?;
        let name = format!("{}-{partition}", self.topic);
        let placed = Placed { name, topic_id: self.key.topic_id, directory: id };
        if let Err(error) = self.directories.inventory.place(&[placed]) {
            // The original counts: the copy is a leftover, as the next start would find it.
            if let Err(error) = data.retire(&self.topic, partition, self.key.topic_id) {
                tracing::warn!(%error, "what is left of a move is put away at the next start");
            }
            return Err(io(error));
        }
        Ok(installed)
    }
}
