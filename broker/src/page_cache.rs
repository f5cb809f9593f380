//! Slices of mapped files: a page that is not in memory would block the thread that touches it, and with
//! it a whole shard. So they are probed, and misses are brought in on a blocking thread.
//!
//! What is to leave the node is checked on the same way: every batch, both checksums.

use bytes::Bytes;
use troupe_log::{BadBatch, check_batches};
use troupe_proto::ids::{Offset, PartitionKey};

/// So much is checked on the spot: a fraction of a millisecond.
const ON_THE_SPOT_BYTES: usize = 1 << 20;

/// Whether these batches, the first of which holds `from`, are what was written. Afterwards they can be read without
/// waiting for the disk, as far as can be told.
pub async fn check(slice: &Bytes, key: PartitionKey, from: Offset) -> Result<(), BadBatch> {
    if slice.len() <= ON_THE_SPOT_BYTES && is_resident(slice) {
        return check_batches(slice, &key, from);
    }
    let bytes = slice.clone();
    match tokio::task::spawn_blocking(move || check_batches(&bytes, &key, from)).await {
        Ok(checked) => checked,
        // The runtime is stopping.
        Err(_) => check_batches(slice, &key, from),
    }
}

/// Returns when the slice can be read without waiting for the disk, as far as can be told.
pub async fn make_resident(slice: &Bytes) {
    if is_resident(slice) {
        return;
    }
    let slice = slice.clone();
    // Fails only if the runtime is stopping.
    let _ = tokio::task::spawn_blocking(move || touch(&slice)).await;
}

fn page_size() -> usize {
    // SAFETY: sysconf reads a constant.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Whether every page of the slice is in memory. Memory that is no file's is.
fn is_resident(slice: &[u8]) -> bool {
    if slice.is_empty() {
        return true;
    }
    let page = page_size();
    let start = slice.as_ptr() as usize & !(page - 1);
    let len = slice.as_ptr() as usize + slice.len() - start;
    let mut pages = vec![0u8; len.div_ceil(page)];
    // SAFETY: the range covers live memory (the borrowed slice, rounded out to its pages), and `pages` has
    // one byte for each page of it.
    let status = unsafe { libc::mincore(start as *mut libc::c_void, len, pages.as_mut_ptr()) };
    status == 0 && pages.iter().all(|page| page & 1 == 1)
}

/// Reads one byte of every page.
fn touch(slice: &[u8]) {
    for byte in slice.iter().step_by(page_size()) {
        std::hint::black_box(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mapped_file_becomes_resident() {
        let slice = Bytes::from(vec![1u8; 1 << 20]);
        make_resident(&slice).await;
        assert!(is_resident(&slice));
        make_resident(&Bytes::new()).await;
    }
}
