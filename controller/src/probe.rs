//! Whether a process is still there, as far as a connection can tell.

use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};

/// Whether everything at `host:port` refuses connections: nobody listens there any more. Silence, a name that
/// is not known, or any other fault proves nothing.
pub(crate) async fn is_refused(endpoint: &str, patience: Duration) -> bool {
    let all_refuse = async {
        let Ok(addresses) = lookup_host(endpoint).await else { return false };
        let mut refused = false;
        for address in addresses {
            match TcpStream::connect(address).await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused = true,
                Ok(_) | Err(_) => return false,
            }
        }
        refused
    };
    tokio::time::timeout(patience, all_refuse).await.unwrap_or(false)
}
