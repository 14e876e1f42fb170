//! Whether a connection has something to do, and until when it may wait for that.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::Limits;

/// How long a connection may still ask for something once it is to end: a request that was on its way then is answered.
const LAST_CALL: Duration = Duration::from_millis(500);

/// Shared by a connection's reading end, its requests, and whoever ends it.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Requests that are being answered; more than one at once in HTTP/2 alone.
    requests: u32,
    is_http2: bool,
    draining: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing came yet.
    New { since: Instant },
    /// A part of a request's head came.
    Head { since: Instant },
    /// Everything was answered.
    Idle { since: Instant },
}

impl Pulse {
    pub(super) fn new() -> Self {
        let phase = Phase::New { since: Instant::now() };
        Self(Mutex::new(State { phase, requests: 0, is_http2: false, draining: None }))
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        // In HTTP/2 they can be anything; while a request is answered they can be its body.
        if matches!(state.phase, Phase::New { .. } | Phase::Idle { .. })
            && state.requests == 0
            && !state.is_http2
        {
            // The first head counts from when the connection was made.
            let since = if let Phase::New { since } = state.phase { since } else { Instant::now() };
            state.phase = Phase::Head { since };
        }
    }

    /// A request came; it is over when the returned guard is dropped.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool) -> Request {
        let mut state = self.state();
        state.requests += 1;
        state.is_http2 = is_http2;
        Request(Arc::clone(self))
    }

    /// The connection is to end, because the service does or because it was idle.
    pub(super) fn drain(&self) {
        self.state().draining.get_or_insert(Instant::now());
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state().draining.is_some()
    }

    pub(super) fn is_http2(&self) -> bool {
        self.state().is_http2
    }

    /// When the connection has waited long enough; `None` while a request is being answered.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = self.state();
        if state.requests > 0 {
            return None;
        }
        let last_call = |since: Instant| state.draining.map(|at| at.max(since) + LAST_CALL);
        Some(match state.phase {
            Phase::New { since } => last_call(since).unwrap_or(since + limits.head_within),
            Phase::Head { since } => since + limits.head_within,
            Phase::Idle { since } => last_call(since).unwrap_or(since + limits.idle),
        })
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state().phase, Phase::Idle { .. })
    }

    /// A panic of another thread between two lines here leaves the state whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Request(Arc<Pulse>);

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests = state.requests.saturating_sub(1);
        state.phase = Phase::Idle { since: Instant::now() };
    }
}

/// A stream whose reads are felt.
#[derive(Debug)]
pub(super) struct Felt {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Felt {
    pub(super) fn new(stream: TcpStream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl AsyncRead for Felt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pulse.bytes_came();
        }
        read
    }
}

impl AsyncWrite for Felt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
