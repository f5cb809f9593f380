//! The runtime of the commands that are clients.

use crate::failure::{Context, Failure};

/// Runs a command of the client: the main thread does the command's work, the runtime's the network's.
pub fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .with_context(|| "cannot start threads".to_owned())?;
    let result = runtime.block_on(command);
    // A thread may still sit in a read of the terminal; nobody waits for it.
    runtime.shutdown_background();
    result
}
