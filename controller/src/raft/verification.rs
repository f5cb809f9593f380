//! A slow look at everything that is kept, so that damage is found before what it hit is needed.
//!
//! The database is looked at in a copy: sled answers from memory what it has read before, and what is in memory is
//! whole. The flusher makes the copy, between two flushes, and what the system keeps in memory of the file is dropped
//! before, so that it comes from the disk. It is small.
//! Promises: damage is said and counted. A snapshot, or a copy of `quorum-state`, is written anew from memory at once;
//! with a damaged database this life of the log ends, and the next is filled again by the others. A node that decides
//! alone goes on from memory, and says that it will not start again.

use super::Raft;
use super::entries::EntryLog;
use super::fault::{Fault, found_in};
use super::quorum_state::{self, Found, QuorumStateFile};
use super::snapshot;
use super::storage::{self, Flusher, Storage};
use crate::config::ControllerConfig;
use crate::metadata_log::MetadataLogHealth;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A copy may have been made while sled wrote of itself; damage is there also the next time.
const LOOKS: u32 = 3;

pub(super) struct Verification {
    dir: PathBuf,
    interval: Duration,
    is_alone: bool,
    state: Arc<QuorumStateFile>,
    flusher: Flusher,
    health: watch::Sender<MetadataLogHealth>,
}

impl Verification {
    pub fn new(
        config: &ControllerConfig,
        storage: &Storage,
        health: watch::Sender<MetadataLogHealth>,
    ) -> Verification {
        Verification {
            dir: config.dir.clone(),
            interval: config.verify_interval,
            is_alone: config.is_alone(),
            state: storage.state(),
            flusher: storage.flusher(),
            health,
        }
    }

    /// Looks from time to time. Returns when the log cannot be used any more.
    pub async fn run(self, raft: &Raft) -> Fault {
        loop {
            tokio::time::sleep(self.interval).await;
            if let Err(error) = self.look(raft).await {
                match found_in(&error) {
                    Some(damage) if !self.is_alone => return Fault::Damaged(damage),
                    Some(damage) => {
                        self.count();
                        tracing::error!(
                            %damage,
                            "the metadata log is damaged on disk; this node decides alone and goes on from memory: back \
                             up what can be read before it stops, as it will not start again"
                        );
                    }
                    None => tracing::warn!(%error, "the metadata log could not be looked at"),
                }
            }
        }
    }

    fn count(&self) {
        self.health.send_modify(|health| health.damages += 1);
    }

    async fn look(&self, raft: &Raft) -> io::Result<()> {
        let path = storage::snapshot_path(&self.dir);
        let read = tokio::task::spawn_blocking(move || snapshot::read(&path).map(drop));
        if let Err(error) = read.await.map_err(io::Error::other)? {
            found_in(&error).ok_or(error)?;
            self.count();
            // Whoever asks for it finds the damage too, and writes it anew.
            raft.get_snapshot().await.map_err(io::Error::other)?;
        }
        let state = Arc::clone(&self.state);
        let copies = tokio::task::spawn_blocking(move || match state.verify() {
            Err(error) => state.restore().map(|()| Some(error)),
            Ok(()) => Ok(None),
        });
        if let Some(error) = copies.await.map_err(io::Error::other)?? {
            self.count();
            tracing::error!(%error, "it was damaged, and is written anew from memory");
        }
        let mut looked = Ok(());
        for _ in 0..LOOKS {
            looked = self.look_at_database().await;
            match &looked {
                Err(error) if found_in(error).is_some() => {}
                _ => break,
            }
        }
        looked
    }

    async fn look_at_database(&self) -> io::Result<()> {
        let copy = tempfile::tempdir()?;
        self.flusher.copy(&self.dir, copy.path()).await?;
        let looked = tokio::task::spawn_blocking(move || look_at(copy.path()));
        looked.await.map_err(io::Error::other)?
    }
}

/// Whether all that should be in a copy is there, and as it was written. The copy changes by it. Blocks.
///
/// # Errors
/// Damage, or the disk's.
pub(super) fn look_at(copy: &Path) -> io::Result<()> {
    let durable = match quorum_state::read(copy)? {
        Found::State(state) => state.last,
        Found::Nothing | Found::Damaged => None,
    };
    let storage = Storage::open(copy, || Ok(()))?;
    let looked = EntryLog::open(&storage).and_then(|entries| {
        let snapshot = match snapshot::read(&storage::snapshot_path(copy)) {
            // All that it stood for is in the log.
            Err(error) if found_in(&error).is_some() && entries.purged().is_none() => None,
            read => read?,
        };
        entries.verify(snapshot.and_then(|(meta, _)| meta.last_log_id), durable)
    });
    storage.close()?;
    looked
}
