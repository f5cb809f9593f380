//! How the replicas of this node are, all together: for health and metrics.

use crate::context::Context;
use crate::partition::{How, PartitionHandle, now};
use std::sync::Arc;

/// Refusals for want of space count for so long: whoever appends tries again sooner.
const DISK_FULL_MS: u64 = 60_000;
/// With less than this the next segment does not fit.
const DISK_LOW_BYTES: u64 = 64 << 20;

#[derive(Default)]
pub struct Census {
    pub offline: Vec<Arc<PartitionHandle>>,
    /// Paused or stalled.
    pub still: Vec<Arc<PartitionHandle>>,
    /// An append has waited for long.
    pub waiting: Vec<Arc<PartitionHandle>>,
    pub oldest_wait_ms: u64,
    pub queued_bytes: u64,
}

impl Census {
    pub fn take(context: &Context) -> Census {
        let mut census = Census::default();
        let topics = context.registry.topics();
        for handle in topics.values().flat_map(|topic| topic.replicas()) {
            let condition = handle.condition();
            census.oldest_wait_ms = census.oldest_wait_ms.max(condition.oldest_wait_ms);
            census.queued_bytes += condition.queued_bytes;
            let those = match condition.how {
                How::Offline => &mut census.offline,
                How::Paused | How::Stalled => &mut census.still,
                How::Waiting => &mut census.waiting,
                How::Running | How::Restarting => continue,
            };
            those.push(Arc::clone(handle));
        }
        census
    }
}

/// What a node without space says of it, if it has none.
pub fn disk_full(context: &Context) -> Option<String> {
    let refused = context.metrics.disk_full.last();
    if refused.is_some_and(|at| now().0.saturating_sub(at.0) < DISK_FULL_MS) {
        return Some("appends were refused in the last minute because its disk is full".to_owned());
    }
    let free = free_bytes(context)?;
    (free < DISK_LOW_BYTES).then(|| format!("its disk has {} MiB left", free >> 20))
}

/// Of the file system that the data directory is on, what this process may use. `None`: it does not say.
pub fn free_bytes(context: &Context) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(context.config.log_dir.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a path that ends with a zero, and room for the answer, which is read only if the call says that it
    // was written.
    let found = unsafe {
        if libc::statvfs(path.as_ptr(), found.as_mut_ptr()) != 0 {
            return None;
        }
        found.assume_init()
    };
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
