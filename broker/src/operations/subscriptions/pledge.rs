//! Deliveries that a transaction acknowledges, as they are held until it has ended.
//!
//! ```text
//!  taken ─► the offsets are part of the transaction ─┬─ end(true)  ─► settled: the group goes on behind them
//!                                                    ├─ end(false) ─► out, as before
//!                                                    └─ dropped    ─► the session asks the group, when that knows
//! ```
//!
//! Promise: what is pledged is not delivered again, and nothing of its partitions is committed otherwise, before the end
//! of the transaction.

use super::coordination::Commit;
use tokio::sync::oneshot;

/// What a transaction commits for it.
pub struct Pledge {
    pub commit: Commit,
    pub(super) committed: oneshot::Sender<bool>,
}

impl Pledge {
    /// The transaction is committed, or surely never will be.
    pub fn end(self, committed: bool) {
        // A session that is gone delivers nothing.
        let _ = self.committed.send(committed);
    }
}
