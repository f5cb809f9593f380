//! How many bytes may wait for one receiver, be it an actor or a stream.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may wait. Counted in units, so that small requests are bounded in number too.
#[derive(Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    units: u32,
}

impl Budget {
    /// Bytes of one unit.
    pub const UNIT: usize = 4 << 10;

    pub fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / Self::UNIT).unwrap_or(u32::MAX).max(1);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// A share for so many bytes, of the whole at most; free again when it is dropped. Waits for its turn. `None`:
    /// never, as nobody closes it.
    pub async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(Self::UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(units.clamp(1, self.units)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn little_takes_a_unit_and_too_much_takes_all() {
        let budget = Budget::new(8 * Budget::UNIT);
        let little = budget.take(0).await;
        assert_eq!(budget.free.available_permits(), 7);
        let more = budget.take(Budget::UNIT + 1).await;
        assert_eq!(budget.free.available_permits(), 5);
        drop((little, more));
        let all = budget.take(usize::MAX).await;
        assert_eq!(budget.free.available_permits(), 0);
        drop(all);
        assert_eq!(budget.free.available_permits(), 8);
    }
}
