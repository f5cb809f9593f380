//! Opening the log: as it is, as an earlier version left it, or anew where it is damaged.
//!
//! Promises: a log is used only if all of it is what was written. One that is damaged is set aside, nothing of it is
//! deleted, and this voter is filled again by the others ([`super::recovery`]); that it is, is written down before the
//! damaged database goes, so that a power cut at any step leaves a voter that knows it. A node that decides alone has
//! nobody to be filled by: it says what is wrong, and changes nothing.

use super::entries::EntryLog;
use super::fault::{Damage, Faults, damage, found_in};
use super::identity::Identity;
use super::image::ImageMachine;
use super::publication::Publication;
use super::quorum_state::{self, Found, QuorumState, QuorumStateFile, Recovering};
use super::storage::{self, Storage};
use super::verification;
use crate::config::{ControllerConfig, ControllerStartError};
use openraft::storage::RaftLogStorage;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a directory may still be held by a predecessor in the same process.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);

/// A log that may be used.
pub(super) struct Opened {
    pub storage: Storage,
    pub entries: EntryLog,
    pub machine: ImageMachine,
    /// What was found to be damaged just now.
    pub damaged: Option<Damage>,
}

impl Opened {
    /// Whether this voter lost its log, now or before, and may not vote yet.
    pub fn recovering(&self) -> Option<Recovering> {
        self.storage.state().wanted().recovering
    }
}

/// Opens the log of this node. A predecessor in this process may need a moment to let go of the directory.
/// `distrusted`: damage that was found while it was used.
pub(super) async fn open(
    config: &ControllerConfig,
    publication: &Arc<Publication>,
    distrusted: Option<Damage>,
) -> Result<Opened, ControllerStartError> {
    let identity = Identity::of(config)?;
    let give_up = tokio::time::Instant::now() + OPEN_PATIENCE;
    let fault = |source| ControllerStartError::Open { dir: config.dir.clone(), source };
    loop {
        let (config, publication) = (config.clone(), Arc::clone(publication));
        let (identity, distrusted) = (identity.clone(), distrusted.clone());
        let opened = tokio::task::spawn_blocking(move || {
            open_now(&config, identity.as_ref(), &publication, distrusted)
        });
        let error = match opened.await.map_err(|error| fault(io::Error::other(error))).flatten() {
            Err(ControllerStartError::Open { source, .. }) if storage::is_locked(&source) => source,
            opened => return opened,
        };
        if tokio::time::Instant::now() >= give_up {
            return Err(fault(error));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn open_now(
    config: &ControllerConfig,
    identity: Option<&Identity>,
    publication: &Arc<Publication>,
    distrusted: Option<Damage>,
) -> Result<Opened, ControllerStartError> {
    let dir = &config.dir;
    let fault = |source| ControllerStartError::Open { dir: dir.clone(), source };
    let opened = match distrusted {
        Some(found) => Err(damage(found)),
        None => open_whole(config, publication),
    };
    let damaged = match opened {
        Ok((storage, entries, machine)) => {
            return Ok(Opened { storage, entries, machine, damaged: None });
        }
        Err(error) => found_in(&error).ok_or_else(|| fault(error))?,
    };
    let Some(identity) = identity else {
        let what = damaged.to_string();
        return Err(ControllerStartError::Damaged { dir: dir.clone(), what });
    };
    tracing::error!(
        dir = %dir.display(),
        damage = %damaged,
        "the metadata log is damaged: it is set aside, and this voter votes for nobody until another has filled it again"
    );
    replace(config, identity).map_err(fault)?;
    let (storage, entries, machine) = open_whole(config, publication).map_err(fault)?;
    Ok(Opened { storage, entries, machine, damaged: Some(damaged) })
}

fn hook(config: &ControllerConfig) -> impl Fn() -> io::Result<()> + Send + 'static {
    let before_flush = config.before_flush.clone();
    #[cfg(test)]
    let disk = config.disk.clone();
    move || {
        before_flush.run().map_err(super::quorum_state::unsynced)?;
        #[cfg(test)]
        disk.flush().map_err(|error| match error.kind() {
            io::ErrorKind::Other => super::quorum_state::unsynced(error),
            _ => error,
        })?;
        Ok(())
    }
}

/// # Errors
/// Damage, or the disk's.
fn open_whole(
    config: &ControllerConfig,
    publication: &Arc<Publication>,
) -> io::Result<(Storage, EntryLog, ImageMachine)> {
    let dir = &config.dir;
    if let Found::State(QuorumState { recovering: Some(Recovering { begun: false, .. }), .. }) =
        quorum_state::read(dir)?
    {
        return Err(damage("it was being set aside when the process ended"));
    }
    if config.is_alone() && storage::database_path(dir).exists() {
        look_before(dir)?;
    }
    let storage = Storage::open(dir, hook(config))?;
    let checked = check(&storage, publication);
    match checked {
        Ok((entries, machine)) => Ok((storage, entries, machine)),
        Err(error) => {
            // What is wrong is said; whether it could be closed as well says nothing more.
            let _ = storage.close();
            Err(error)
        }
    }
}

/// sled clears what it takes for a torn end when it opens. What nobody else has is looked at in a copy first, so that
/// one that is damaged stays as it is.
fn look_before(dir: &Path) -> io::Result<()> {
    let held = File::open(storage::database_path(dir).join("db"));
    if let Ok(file) = &held
        && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let copied = tempfile::tempdir().and_then(|copy| {
        storage::copy(dir, copy.path())?;
        Ok(copy)
    });
    drop(held);
    match copied.map(|copy| verification::look_at(copy.path())) {
        Ok(Err(error)) if found_in(&error).is_some() => Err(error),
        Ok(Ok(())) => Ok(()),
        // There is no room for a copy, or nowhere to put it: it is looked at where it is.
        Ok(Err(error)) | Err(error) => {
            tracing::warn!(%error, "the metadata log is opened without a look at a copy of it");
            Ok(())
        }
    }
}

fn check(
    storage: &Storage,
    publication: &Arc<Publication>,
) -> io::Result<(EntryLog, ImageMachine)> {
    let entries = EntryLog::open(storage)?;
    match storage.state().wanted().recovering {
        Some(_) => publication.hold(),
        None => publication.release(),
    }
    let machine = match ImageMachine::restore(storage, publication) {
        // All that it stood for is in the log.
        Err(error) if found_in(&error).is_some() && entries.purged().is_none() => {
            let kept = storage::set_aside(&storage.snapshot_path())?;
            tracing::error!(?kept, %error, "the log has all that was in it, and is read instead");
            ImageMachine::restore(storage, publication)?
        }
        restored => restored?,
    };
    let durable = match storage.found() {
        Found::State(state) => state.last,
        Found::Nothing => None,
        Found::Damaged => {
            tracing::error!("quorum-state is damaged: what stands in the metadata log counts");
            None
        }
    };
    entries.verify(machine.last_applied(), durable)?;
    let (vote, identity) = (entries.vote()?, entries.identity()?);
    storage.state().change(|state| {
        state.vote = vote;
        state.identity = identity;
    });
    storage.flusher().flush_now()?;
    Ok((entries, machine))
}

/// Sets aside what is there, and begins anew as a voter that recovers. May be cut off at any step and done again.
fn replace(config: &ControllerConfig, identity: &Identity) -> io::Result<()> {
    let dir = &config.dir;
    std::fs::create_dir_all(dir)?;
    let found = quorum_state::read(dir)?;
    let before = match &found {
        Found::State(state) => state.clone(),
        Found::Nothing | Found::Damaged => QuorumState::default(),
    };
    let vote_known = match (&found, before.recovering) {
        (Found::State(_), None) => true,
        (Found::State(_), Some(recovering)) => recovering.vote_known,
        (Found::Nothing | Found::Damaged, _) => false,
    };
    check_quorum(&before, identity)?;
    let state = QuorumState {
        identity: Some(identity.clone()),
        vote: before.vote,
        last: None,
        recovering: Some(Recovering { begun: false, vote_known }),
    };
    let file = QuorumStateFile::new(dir, state.clone(), Faults::default());
    file.write(&state)?;
    // What was being filled again when it was damaged holds nothing but copies; others would fill the disk with it.
    let is_copy = before.recovering.is_some_and(|recovering| recovering.begun);
    for path in [storage::database_path(dir), storage::snapshot_path(dir)] {
        match is_copy {
            true => remove(&path)?,
            false => {
                if let Some(kept) = storage::set_aside(&path)? {
                    tracing::warn!(kept = %kept.display(), "set aside");
                }
            }
        }
    }
    let storage = Storage::create(dir, hook(config))?;
    let mut entries = EntryLog::open(&storage)?;
    futures::executor::block_on(entries.set_identity(identity))?;
    if let Some(vote) = before.vote {
        futures::executor::block_on(entries.save_vote(&vote))?;
    }
    storage.state().change(|state| {
        state.recovering = Some(Recovering { begun: true, vote_known });
    });
    storage.flusher().flush_now()?;
    drop(entries);
    storage.close()
}

/// The configuration may have become another quorum's while nobody looked: nothing is set aside for that.
fn check_quorum(before: &QuorumState, identity: &Identity) -> io::Result<()> {
    let used = before.vote.is_some() || before.last.is_some();
    match &before.identity {
        Some(known) if known != identity => Err(io::Error::other(format!(
            "it is damaged, and was made for node {} of cluster '{}' with the voters {:?}: nothing is changed until \
             the configuration says so again",
            known.node_id, known.cluster_id, known.voters
        ))),
        None if used => Err(io::Error::other(
            "it is damaged, and was made by a node that votes alone: restore it from a backup",
        )),
        Some(_) | None => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false if path.exists() => std::fs::remove_file(path),
        false => Ok(()),
    }
}
