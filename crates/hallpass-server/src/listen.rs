//! The accept loop: connections that are bounded in number, in time and in size, and a stop that drops no request.

mod connection;
mod pulse;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use connection::Connections;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

/// How long the loop rests when the machine gives it no connection: it is short of files or of memory, and a loop
/// that asked again at once would take the processor as well.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// How long connections that are cut off at the end of the drain have to let go.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// How much a client may ask of the connection itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How many connections may be open at once, at least one; further ones wait in the kernel's queue.
    ///
    /// 4,096 if not set: with the buffers of an HTTP/1 connection at their fullest that is 64 MiB. The process needs as
    /// many file descriptors, and some for its store.
    pub connections: u32,
    /// How long the head of a request may take to arrive; for the first, from when the connection was made. 10 s if not
    /// set.
    pub head_within: Duration,
    /// How long a connection may be open without a request. 75 s if not set: longer than proxies keep theirs, so that it
    /// is they who end a connection and none sends a request into one that is just being closed.
    pub idle: Duration,
    /// How many bytes the head of a request may have; 16 KiB if not set, and at least 8 KiB.
    pub head_bytes: usize,
    /// How long requests may take to end once the service was told to stop. 10 s if not set.
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

/// How far the service has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// What has come in is answered, and its connection closed after it.
    Draining,
    /// What is not answered yet never will be.
    Cut,
}

/// Answers with `router` what comes in through `listener`, over HTTP/1 and HTTP/2 without TLS, until `shutdown`; then
/// answers what has come in until then, for as long as the limits say, and returns.
///
/// Handlers find the peer's address as [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo).
///
/// If the future is dropped, its connections are cut off.
///
/// # Errors
/// None at present. A connection that fails ends by itself, and what cannot be accepted is tried again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stage, watched) = watch::channel(Stage::Serving);
    let most = limits.connections.max(1);
    let permits = Arc::new(Semaphore::new(most as usize));
    let connections = Connections::new(router, limits.clone(), watched);
    tokio::select! {
        biased;
        () = shutdown => {}
        () = accept_all(&listener, &permits, &connections) => {}
    }

    stage.send_replace(Stage::Draining);
    if let Err(error) = take_waiting(listener, &permits, &connections) {
        tracing::warn!(%error, "who was waiting for a connection may have been turned away");
    }
    let ended = || permits.acquire_many(most);
    if timeout(limits.drain_within, ended()).await.is_err() {
        stage.send_replace(Stage::Cut);
        let open = (most as usize).saturating_sub(permits.available_permits());
        tracing::warn!(open, "connections were cut off: they did not end in time");
        let _ = timeout(CUT_WITHIN, ended()).await;
    }
    Ok(())
}

/// Never ends.
async fn accept_all(listener: &TcpListener, permits: &Arc<Semaphore>, connections: &Connections) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => begin(connections, stream, peer, permit),
            Err(error) => {
                if let Some(rest) = rest_after(&error) {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(rest).await;
                }
            }
        }
    }
}

fn begin(connections: &Connections, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
    let answered = connections.clone().answer(stream, peer);
    tokio::spawn(async move {
        answered.await;
        drop(permit);
    });
}

/// Whom the kernel let in before the end was promised an answer; then it lets nobody in any more.
fn take_waiting(
    listener: TcpListener,
    permits: &Arc<Semaphore>,
    connections: &Connections,
) -> io::Result<()> {
    // The runtime would look into the kernel's queue only the next time it is told to, which may be too late.
    let listener = listener.into_std()?;
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned()
        && let Ok((stream, peer)) = listener.accept()
    {
        stream.set_nonblocking(true)?;
        begin(connections, TcpStream::from_std(stream)?, peer, permit);
    }
    Ok(())
}

/// `None` if only the one connection failed, and the next can be accepted at once.
fn rest_after(error: &io::Error) -> Option<Duration> {
    let of_the_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    );
    (!of_the_connection).then_some(ACCEPT_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_short_of_files_is_not_asked_again_at_once() {
        // EMFILE and ENFILE.
        for code in [24, 23] {
            assert_eq!(rest_after(&io::Error::from_raw_os_error(code)), Some(ACCEPT_REST));
        }
        assert_eq!(rest_after(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
